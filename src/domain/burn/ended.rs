//! What ended before anybody was known to own it.
//!
//! The cloud's record is minutes behind, and machines may live for less. So what an orphan has cost is kept
//! when it has gone, for as long as an orphan's cost is kept at all, and goes to whoever turns out to have
//! made it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Book, Exact, ORPHAN_HOURS, Running, rows};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::AssetRef;
use crate::domain::id::AgentId;

/// Ended orphans that are kept; of more the cheapest go.
pub(super) const MAX_ENDED: usize = 10_000;

/// What is left of an orphan: its cost, for whoever turns out to have made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    parent: Option<AssetRef>,
    service: String,
    #[serde(with = "rows")]
    pub(super) unowned: BTreeMap<Timestamp, Exact>,
}

impl Book {
    /// Asks again whose the orphans were that have ended in a region: `owner` is told which, and what had
    /// started it.
    pub fn attribute_ended(
        &mut self,
        region: &Region,
        now: Timestamp,
        owner: impl Fn(&AssetRef, Option<&AssetRef>) -> Option<AgentId>,
    ) {
        let oldest = i64::try_from(ORPHAN_HOURS).unwrap_or(i64::MAX);
        let oldest = now.checked_sub(SignedDuration::from_hours(oldest));
        let oldest = oldest.unwrap_or(Timestamp::MIN);
        let here = self.ended.keys().filter(|what| what.region == *region).cloned();
        for what in here.collect::<Vec<_>>() {
            let Some(mut ended) = self.ended.remove(&what) else {
                continue;
            };
            if let Some(agent) = owner(&what, ended.parent.as_ref()) {
                self.settle(&agent, &ended.service, &mut ended.unowned);
                continue;
            }
            ended.unowned.retain(|hour, _| *hour >= oldest);
            if !ended.unowned.is_empty() {
                self.ended.insert(what, ended);
            }
        }
    }

    pub(super) fn end(&mut self, what: AssetRef, running: Running) {
        if running.unowned.is_empty() {
            return;
        }
        let ended = Ended {
            parent: running.parent,
            service: running.service,
            unowned: running.unowned,
        };
        self.ended.insert(what, ended);
        if self.ended.len() > MAX_ENDED {
            let cost = |ended: &Ended| {
                ended
                    .unowned
                    .values()
                    .fold(0_i128, |sum, exact| sum.saturating_add(exact.0))
            };
            let cheapest = self.ended.iter().min_by_key(|(_, ended)| cost(ended));
            if let Some(what) = cheapest.map(|(what, _)| what.clone()) {
                self.ended.remove(&what);
            }
        }
    }
}
