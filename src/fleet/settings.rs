//! The watcher's settings. `app` fills them from the config and replaces them at a reload.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::containment::target::CloudTargets;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;

#[derive(Debug, Clone, PartialEq)]
pub struct FleetSettings {
    /// Off: nothing is looked at, and nothing is posted.
    pub watch: bool,
    /// The cloud side of each agent that has one; empty regions mean every enabled region.
    pub targets: BTreeMap<AgentId, CloudTargets>,
    /// Between two looks at a region.
    pub poll_every: Duration,
    /// Between two postings.
    pub accrue_every: Duration,
    /// What burns for this long is counted as spent already: it takes as long until machines are stopped.
    pub reaction_time: Duration,
    /// Dollars an hour above which an orphan is told.
    pub orphan_notice: Usd,
    /// One call; of a region's machines, all pages.
    pub call_limit: Duration,
    /// One listing of one kind besides machines, all pages: each of its calls has a limit of its own, and there may
    /// be thousands.
    pub listing_limit: Duration,
    /// How long the listings of a region wait for each other, so that parents are known with their children.
    pub patience: Duration,
    /// Listings at once in one region.
    pub concurrent: usize,
    /// Between two looks at who made what.
    pub creations_every: Duration,
    /// A call may come into the cloud's record this much after a later one.
    pub creations_overlap: Duration,
    /// How far back the record is read where nothing is known of it.
    pub creations_first: Duration,
    /// How far back at most, after the daemon was away.
    pub creations_most: Duration,
    /// Between two looks at regions, principals and the store's creations.
    pub learn_every: Duration,
    /// After a failure to learn them.
    pub learn_again: Duration,
    /// How old a list price may grow.
    pub prices_fresh: Duration,
    /// After the price list could not be asked.
    pub prices_again: Duration,
    pub lease_ttl: Duration,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            watch: true,
            targets: BTreeMap::new(),
            poll_every: Duration::from_secs(15),
            accrue_every: Duration::from_secs(60),
            reaction_time: Duration::from_secs(60),
            orphan_notice: Usd::from_dollars(1),
            call_limit: Duration::from_secs(30),
            listing_limit: Duration::from_mins(5),
            patience: Duration::from_secs(1),
            concurrent: 4,
            creations_every: Duration::from_secs(60),
            creations_overlap: Duration::from_mins(15),
            creations_first: Duration::from_hours(24),
            creations_most: Duration::from_hours(7 * 24),
            learn_every: Duration::from_mins(5),
            learn_again: Duration::from_secs(30),
            prices_fresh: Duration::from_hours(7 * 24),
            prices_again: Duration::from_mins(10),
            lease_ttl: Duration::from_secs(45),
        }
    }
}
