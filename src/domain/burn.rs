//! Burn: what the fleet costs now, and what it has cost, as time passes.
//!
//! A [`Book`] holds what runs, whose it is and its price. A look at one kind of asset in one region charges
//! what was there until the look, at the price that it had, and takes in what is there now. So a machine is
//! charged from its start to the first look that does not show it: at most one look too long, never too
//! short, and for a minute at least, because AWS bills no less of a start (EC2 API Reference, StartInstances,
//! and "Announcing Amazon EC2 per second billing" of 2017-10-02, for volumes too; read 2026-11-20). A look that
//! fails changes nothing, and what it would have shown goes on being charged for, because unknown is never
//! zero (L7).
//!
//! Charges gather in *cells* (agent, service, UTC hour), exactly, in nano-dollars times milliseconds; they are
//! rounded up once, when a cell is taken out to be posted. What nobody owns gathers too, apart, also when it
//! has ended meanwhile: when a creation later says whose it was, all that it has cost since its start goes to
//! that agent.
//!
//! An owner is replaced by another one that is named, and never by none: evidence that is missing for a
//! moment (a principal that cannot be asked about, a tag that was taken off) is no evidence that a machine
//! is nobody's. Only an agent that is not declared any more is charged for nothing more.
//!
//! The book is durable, with what was taken out of it and is not posted yet, and is written before anything
//! is posted: so a crash posts nothing twice and loses nothing, and the time that the daemon was down is
//! charged by the first look after it.

mod ended;
mod rows;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::containment::hourly::{Hourly, PriceBasis};
use super::containment::target::Region;
use super::fleet::asset::{AssetRef, Kind};
use super::id::AgentId;
use super::money::Usd;
use ended::Ended;

/// Milliseconds of an hour: a price by the hour times milliseconds, over this, is money.
const HOUR_MS: i128 = 3_600_000;

/// What each start is charged for at least.
const LEAST_MS: i64 = 60_000;

/// A look that is further ahead than this was made before the ledger's time was set back.
const SET_BACK: SignedDuration = SignedDuration::from_hours(1);

/// Hours that are kept of what nobody owns; a creation is told of within minutes, or never.
const ORPHAN_HOURS: usize = 48;

/// One asset of a look, priced and attributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub what: AssetRef,
    /// What started it: by that its owner may be known once it has ended.
    pub parent: Option<AssetRef>,
    pub agent: Option<AgentId>,
    /// Another agent whose tag it carries, against the cloud's own word.
    pub tagged: Option<AgentId>,
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
    /// What ended before anybody was known to own it.
    #[serde(with = "rows", default)]
    ended: BTreeMap<AssetRef, Ended>,
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
    #[serde(default)]
    parent: Option<AssetRef>,
    agent: Option<AgentId>,
    #[serde(default)]
    tagged: Option<AgentId>,
    service: String,
    hourly: Hourly,
    /// When it began to cost, if that is known.
    #[serde(default)]
    began: Option<Timestamp>,
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
                self.charge_least(&mut running, at);
                self.end(what, running);
                continue;
            };
            if let Some(agent) = now.agent {
                self.settle(&agent, &running.service, &mut running.unowned);
                running.agent = Some(agent);
            }
            running.parent = now.parent;
            running.tagged = now.tagged;
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
            // It may have run before, and been stopped: what that cost is its owner's, too.
            let ended = self.ended.remove(&what);
            let mut running = Running {
                parent: new.parent,
                agent: new.agent,
                tagged: new.tagged,
                service: new.service,
                hourly: new.hourly,
                began: new.since.or(before),
                charged_until: from,
                unowned: ended.map(|ended| ended.unowned).unwrap_or_default(),
            };
            if let Some(agent) = &running.agent {
                self.settle(agent, &running.service, &mut running.unowned);
            }
            self.charge(&mut running, at);
            self.running.insert(what, running);
        }
        self.looked.insert(place, at);
    }

    /// Charges everything until now: what could not be looked at lately goes on costing what it cost.
    pub fn advance(&mut self, now: Timestamp) {
        // An operator may have set the ledger's time back: nothing waits for the old one to come again.
        let far = now.checked_add(SET_BACK).unwrap_or(Timestamp::MAX);
        let back = |at: &mut Timestamp| {
            if *at > far {
                *at = now;
            }
        };
        self.looked.values_mut().for_each(back);
        let mut running = std::mem::take(&mut self.running);
        for one in running.values_mut() {
            back(&mut one.charged_until);
            self.charge(one, now);
        }
        self.running = running;
    }

    /// A kind in a region that is not looked at any more (the config changed): charged until now, and gone.
    pub fn forget(&mut self, region: &Region, kind: &Kind, now: Timestamp) {
        self.look(region, kind, [], now);
        self.looked.remove(&(region.clone(), kind.clone()));
    }

    /// Frees what is charged to agents that are not declared any more: whose it is, evidence is to say anew.
    pub fn release(&mut self, is_declared: impl Fn(&AgentId) -> bool) {
        for one in self.running.values_mut() {
            if one.agent.as_ref().is_some_and(|agent| !is_declared(agent)) {
                one.agent = None;
            }
        }
    }

    /// Whose tag something carried against the cloud's own word, when it was seen last.
    pub fn tagged(&self, what: &AssetRef) -> Option<&AgentId> {
        self.running.get(what)?.tagged.as_ref()
    }

    /// What runs in a region, with its owner.
    pub fn owners(&self, region: &Region) -> impl Iterator<Item = (&AssetRef, &AgentId)> {
        let here = self.running.iter().filter(move |(what, _)| what.region == *region);
        here.filter_map(|(what, one)| Some((what, one.agent.as_ref()?)))
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

    /// What has gathered and is not taken out yet, by agent and hour.
    pub fn cells(&self) -> impl Iterator<Item = (&Cell, Usd)> {
        self.cells.iter().map(|(cell, exact)| (cell, exact.up()))
    }

    /// Whether hours that are over wait to be taken out: they are judged when they are posted, and not before.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        let hour = hour_of(now);
        self.cells.keys().any(|cell| cell.hour < hour)
    }

    /// Whether nothing is charged for and nothing waits to be taken out.
    pub fn is_settled(&self) -> bool {
        self.looked.is_empty() && self.running.is_empty() && self.cells.is_empty()
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
            self.put(running, hour, exact);
            from = end;
        }
        running.charged_until = running.charged_until.max(until);
    }

    /// What has ended is charged for the least that its start is billed for.
    fn charge_least(&mut self, running: &mut Running, ended: Timestamp) {
        let Some(began) = running.began else { return };
        let ran = ended.as_millisecond().saturating_sub(began.as_millisecond()).max(0);
        if ran < LEAST_MS {
            let exact = Exact(i128::from(running.hourly.usd.nanos()) * i128::from(LEAST_MS - ran));
            self.put(running, hour_of(ended), exact);
        }
    }

    fn put(&mut self, running: &mut Running, hour: Timestamp, exact: Exact) {
        if let Some(agent) = &running.agent {
            return self.gather(agent, &running.service, hour, exact);
        }
        running.unowned.entry(hour).or_default().0 += exact.0;
        while running.unowned.len() > ORPHAN_HOURS {
            running.unowned.pop_first();
        }
    }

    /// What gathered while nobody was known to own it is this agent's.
    fn settle(&mut self, agent: &AgentId, service: &str, unowned: &mut BTreeMap<Timestamp, Exact>) {
        for (hour, exact) in std::mem::take(unowned) {
            self.gather(agent, service, hour, exact);
        }
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
    let ms = reaction.as_millis().clamp(0, i128::from(i64::MAX));
    Exact(i128::from(usd_per_hour.nanos()).saturating_mul(ms)).up()
}

#[cfg(test)]
mod tests;
