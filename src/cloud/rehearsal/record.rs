//! The cloud's own record of calls, which is behind them, and its price list.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::world::{World, after};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::fleet::asset::AssetRef;
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;

impl World {
    /// A principal has made something.
    pub(super) fn record_made(&mut self, by: &Principal, call: &str, what: AssetRef, now: Timestamp) {
        let creation = Creation {
            event: format!("event-{}", self.record.len() + 1),
            call: call.to_owned(),
            at: now,
            account: self.account.clone(),
            region: what.region.clone(),
            by: by.arn().to_owned(),
            made: vec![what],
        };
        self.record.push(creation);
    }

    /// What is in the record by now.
    pub(super) fn recorded(&self, region: &Region, since: Timestamp, now: Timestamp) -> Vec<Creation> {
        let delay = self.timing.record;
        let own = self
            .record
            .iter()
            .filter(|one| one.region == *region && one.at >= since);
        own.filter(|one| after(one.at, delay) <= now).cloned().collect()
    }

    /// Prices of machines go by their types, everything else's by its rate.
    pub(super) fn list(&self, rates: &[RateKey]) -> BTreeMap<RateKey, Usd> {
        let price = |rate: &RateKey| {
            let machine = rate.0.strip_prefix("ec2/").or_else(|| rate.0.strip_prefix("ec2-spot/"));
            self.prices.get(machine.unwrap_or(&rate.0)).copied()
        };
        rates
            .iter()
            .filter_map(|rate| Some((rate.clone(), price(rate)?)))
            .collect()
    }
}
