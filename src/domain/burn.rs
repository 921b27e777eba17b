//! Burn: what the fleet costs now, and what it has cost, as time passes.
//!
//! A [`Book`] holds what runs, whose it is and its price. A look at one kind of asset in one region charges
//! what was there until the look, at the price that it had, and takes in what is there now. So a machine is
//! charged from its start to the first look that does not show it: at most one look too long, never too
//! short. A look that fails changes nothing, and what it would have shown goes on being charged for, because
//! unknown is never zero (L7).
//!
//! Charges gather in *cells* (agent, service, UTC hour), exactly, in nano-dollars times milliseconds; they are
//! rounded up once, when a cell is taken out to be posted. What nobody owns gathers too, apart: when a
//! creation later says whose it is, all that it has cost since its start goes to that agent.
//!
//! The book is durable, with what was taken out of it and is not posted yet, and is written before anything
//! is posted: so a crash posts nothing twice and loses nothing, and the time that the daemon was down is
//! charged by the first look after it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::containment::hourly::{Hourly, PriceBasis};
use super::containment::target::Region;
use super::fleet::asset::{AssetRef, Kind};
use super::id::AgentId;
use super::money::Usd;

/// Milliseconds of an hour: a price by the hour times milliseconds, over this, is money.
const HOUR_MS: i128 = 3_600_000;

/// Hours that are kept of what nobody owns; a creation is told of within minutes, or never.
const ORPHAN_HOURS: usize = 48;

/// One asset of a look, priced and attributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub what: AssetRef,
    pub agent: Option<AgentId>,
    pub service: String,
    /// When it began to cost, if the cloud says so.
    pub since: Option<Timestamp>,
    pub hourly: Hourly,
}

/// What runs, and what it has cost that is not posted yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    #[serde(with = "rows")]
    running: BTreeMap<AssetRef, Running>,
    /// When each kind in each region was last seen.
    #[serde(with = "rows")]
    looked: BTreeMap<(Region, Kind), Timestamp>,
    #[serde(with = "rows")]
    cells: BTreeMap<Cell, Exact>,
    /// How many batches were taken out: part of the ids of what is posted.
    taken: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    agent: Option<AgentId>,
    service: String,
    hourly: Hourly,
    charged_until: Timestamp,
    /// What it cost while nobody was known to own it, by hour.
    #[serde(with = "rows", default)]
    unowned: BTreeMap<Timestamp, Exact>,
}

/// Where money is gathered: what a bill will be matched with later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    pub agent: AgentId,
    pub service: String,
    /// The beginning of the hour, in UTC.
    pub hour: Timestamp,
}

/// Nano-dollars by the hour times milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
struct Exact(i128);

/// Money to post, rounded up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub cell: Cell,
    pub amount: Usd,
    /// Unique for the book: the same charge, taken out again after a crash, has the same one.
    pub batch: u64,
}

/// One row of what burns now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurnRow {
    /// `None`: orphans.
    pub agent: Option<AgentId>,
    pub service: String,
    pub region: Region,
    pub assets: u64,
    pub usd_per_hour: Usd,
    /// How well the least known of the prices is known.
    pub basis: PriceBasis,
}

impl Book {
    /// Takes in a look at one kind in one region: everything of that kind that is charged for there.
    pub fn look(&mut self, region: &Region, kind: &Kind, seen: impl IntoIterator<Item = Seen>, at: Timestamp) {
        let place = (region.clone(), kind.clone());
        let before = self.looked.get(&place).copied();
        let at = before.map_or(at, |before| before.max(at));
        let mut seen: BTreeMap<AssetRef, Seen> = seen.into_iter().map(|one| (one.what.clone(), one)).collect();
        let known: Vec<AssetRef> = self
            .running
            .keys()
            .filter(|what| what.kind == *kind && what.region == *region)
            .cloned()
            .collect();
        for what in known {
            let Some(mut running) = self.running.remove(&what) else {
                continue;
            };
            self.charge(&mut running, at);
            let Some(now) = seen.remove(&what) else {
                continue;
            };
            if running.agent.is_none()
                && let Some(agent) = &now.agent
            {
                for (hour, exact) in std::mem::take(&mut running.unowned) {
                    self.gather(agent, &running.service, hour, exact);
                }
            }
            running.agent = now.agent;
            running.service = now.service;
            running.hourly = now.hourly;
            self.running.insert(what, running);
        }
        for (what, new) in seen {
            // What ran before the first look of all is charged from that look on: the past is the bill's.
            let from = match (before, new.since) {
                (None, _) => at,
                (Some(before), Some(since)) => since.max(before).min(at),
                (Some(before), None) => before,
            };
            let mut running = Running {
                agent: new.agent,
                service: new.service,
                hourly: new.hourly,
                charged_until: from,
                unowned: BTreeMap::new(),
            };
            self.charge(&mut running, at);
            self.running.insert(what, running);
        }
        self.looked.insert(place, at);
    }

    /// Charges everything until now: what could not be looked at lately goes on costing what it cost.
    pub fn advance(&mut self, now: Timestamp) {
        let mut running = std::mem::take(&mut self.running);
        for one in running.values_mut() {
            self.charge(one, now);
        }
        self.running = running;
    }

    /// A kind in a region that is not looked at any more (the config changed): charged until now, and gone.
    pub fn forget(&mut self, region: &Region, kind: &Kind, now: Timestamp) {
        self.look(region, kind, [], now);
        self.looked.remove(&(region.clone(), kind.clone()));
    }

    /// The places that were looked at.
    pub fn places(&self) -> impl Iterator<Item = (&Region, &Kind, Timestamp)> {
        self.looked.iter().map(|((region, kind), at)| (region, kind, *at))
    }

    /// Takes out what has gathered, each cell rounded up. The book must be durable, with these, before they
    /// are posted.
    pub fn take(&mut self) -> Vec<Charge> {
        let cells = std::mem::take(&mut self.cells);
        if cells.is_empty() {
            return Vec::new();
        }
        self.taken += 1;
        let batch = self.taken;
        let charge = |(cell, exact): (Cell, Exact)| Charge {
            cell,
            amount: exact.up(),
            batch,
        };
        cells
            .into_iter()
            .map(charge)
            .filter(|charge| charge.amount > Usd::ZERO)
            .collect()
    }

    /// What an agent's cells hold that is not taken out yet.
    pub fn unposted(&self, agent: &AgentId) -> Usd {
        let cells = self.cells.iter().filter(|(cell, _)| cell.agent == *agent);
        cells.fold(Usd::ZERO, |sum, (_, exact)| sum.saturating_add(exact.up()))
    }

    /// What burns now, by agent, service and region.
    pub fn burn(&self) -> Vec<BurnRow> {
        let mut rows: BTreeMap<(Option<&AgentId>, &str, &Region), BurnRow> = BTreeMap::new();
        for (what, one) in &self.running {
            let key = (one.agent.as_ref(), one.service.as_str(), &what.region);
            let row = rows.entry(key).or_insert_with(|| BurnRow {
                agent: one.agent.clone(),
                service: one.service.clone(),
                region: what.region.clone(),
                assets: 0,
                usd_per_hour: Usd::ZERO,
                basis: PriceBasis::Listed,
            });
            row.assets += 1;
            row.usd_per_hour = row.usd_per_hour.saturating_add(one.hourly.usd);
            row.basis = row.basis.max(one.hourly.basis);
        }
        rows.into_values().collect()
    }

    /// An agent's dollars per hour, now.
    pub fn burn_of(&self, agent: &AgentId) -> Usd {
        let own = self.running.values().filter(|one| one.agent.as_ref() == Some(agent));
        own.fold(Usd::ZERO, |sum, one| sum.saturating_add(one.hourly.usd))
    }

    /// The orphans with what each costs an hour, the dearest first.
    pub fn orphans(&self) -> Vec<(&AssetRef, Hourly)> {
        let mut orphans: Vec<_> = self
            .running
            .iter()
            .filter(|(_, one)| one.agent.is_none())
            .map(|(what, one)| (what, one.hourly))
            .collect();
        orphans.sort_by(|a, b| b.1.usd.cmp(&a.1.usd).then_with(|| a.0.cmp(b.0)));
        orphans
    }

    fn charge(&mut self, running: &mut Running, until: Timestamp) {
        let mut from = running.charged_until;
        while from < until {
            let hour = hour_of(from);
            let end = hour
                .checked_add(SignedDuration::from_hours(1))
                .map_or(until, |end| end.min(until));
            let ms = i128::from(end.as_millisecond()) - i128::from(from.as_millisecond());
            let exact = Exact(i128::from(running.hourly.usd.nanos()) * ms);
            match &running.agent {
                Some(agent) => {
                    let (agent, service) = (agent.clone(), running.service.clone());
                    self.gather(&agent, &service, hour, exact);
                }
                None => {
                    running.unowned.entry(hour).or_default().0 += exact.0;
                    while running.unowned.len() > ORPHAN_HOURS {
                        running.unowned.pop_first();
                    }
                }
            }
            from = end;
        }
        running.charged_until = running.charged_until.max(until);
    }

    fn gather(&mut self, agent: &AgentId, service: &str, hour: Timestamp, exact: Exact) {
        let cell = Cell {
            agent: agent.clone(),
            service: service.to_owned(),
            hour,
        };
        self.cells.entry(cell).or_default().0 += exact.0;
    }
}

impl Exact {
    fn up(self) -> Usd {
        let nanos = self.0.saturating_add(HOUR_MS - 1) / HOUR_MS;
        Usd::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

fn hour_of(at: Timestamp) -> Timestamp {
    let hour = at.as_second().div_euclid(3_600) * 3_600;
    // The beginning of an hour that a valid time lies in is valid, but for the very first one.
    Timestamp::from_second(hour).unwrap_or(at)
}

/// What is burnt until a reaction binds: a machine goes on costing while it is found, denied and stopped.
pub fn ahead(usd_per_hour: Usd, reaction: SignedDuration) -> Usd {
    let ms = i128::from(reaction.as_millis().clamp(0, i128::from(i64::MAX)));
    Exact(i128::from(usd_per_hour.nanos()).saturating_mul(ms)).up()
}

/// Maps whose keys are not text, as lists of pairs.
mod rows {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
