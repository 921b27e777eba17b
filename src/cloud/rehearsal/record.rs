//! The cloud's own record of calls, which is behind them, and its price list.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::world::{World, after};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::fleet::asset::AssetRef;
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;
use crate::ports::{LookUp, Recorded};

/// Events in one page, as CloudTrail has them.
const PAGE: usize = 50;

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

    /// A page of what is in the record by now, the newest first.
    pub(super) fn recorded(&self, region: &Region, wanted: &LookUp<'_>, now: Timestamp) -> Recorded {
        let delay = self.timing.record;
        let own = self.record.iter().rev().filter(|one| {
            let is_told = after(one.at, delay) <= now;
            let until = wanted.until.is_none_or(|until| one.at <= until);
            one.region == *region && one.call == wanted.call && one.at >= wanted.since && until && is_told
        });
        let skip: usize = wanted.page.as_ref().and_then(|page| page.parse().ok()).unwrap_or(0);
        let mut creations: Vec<Creation> = own.skip(skip).take(PAGE + 1).cloned().collect();
        let next = (creations.len() > PAGE).then(|| (skip + PAGE).to_string());
        creations.truncate(PAGE);
        Recorded {
            oldest: creations.iter().map(|one| one.at).min(),
            creations,
            unread: None,
            next,
        }
    }

    /// Prices of machines go by their types, everything else's by its rate.
    pub(super) fn list(&self, rates: &[RateKey]) -> BTreeMap<RateKey, Option<Usd>> {
        let price = |rate: &RateKey| {
            let machine = rate.0.strip_prefix("ec2/").or_else(|| rate.0.strip_prefix("ec2-spot/"));
            self.prices.get(machine.unwrap_or(&rate.0)).copied()
        };
        rates.iter().map(|rate| (rate.clone(), price(rate))).collect()
    }
}
