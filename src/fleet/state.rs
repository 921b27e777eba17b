//! What the watcher knows: the book, what was seen last, and whose it was.
//!
//! All of it stands behind one lock that is never held while anything is waited for. What matters of it is
//! in the book, which is saved; the rest is seen again within a poll.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::outbox::{Owed, occurs};
use crate::domain::burn::{Book, Seen};
use crate::domain::containment::attribution::{Reading, Readings};
use crate::domain::containment::hourly::PriceBasis;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Kind};
use crate::domain::fleet::creation::Makers;
use crate::domain::fleet::owner::{Owner, Owners};
use crate::domain::fleet::price::FleetPrices;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;

#[derive(Default)]
pub(super) struct State {
    /// Whose fleet it is; none before the cloud said who we are.
    pub account: Option<String>,
    pub standing: Standing,
    pub book: Book,
    pub outbox: Vec<Owed>,
    /// The outbox was handed to the ledger, in this run or before it, and what became of it is not known.
    pub handed: bool,
    pub regions: BTreeMap<Region, Seeing>,
    /// Regions that are to be watched.
    pub wanted: BTreeSet<Region>,
    /// They are what the cloud itself listed.
    pub listed: bool,
    /// Who made what, and when.
    pub makers: Makers,
    pub prices: FleetPrices,
    /// Instance profiles of each agent's roles.
    pub profiles: BTreeMap<AgentId, BTreeSet<String>>,
    /// Orphans that people know of.
    pub told: BTreeSet<AssetRef>,
    /// What is wrong besides the looks, for a person, by what it is about.
    pub troubles: BTreeMap<&'static str, Trouble>,
    /// How far the record of who made what was read, by region.
    pub read: Readings,
    pub saved_at: Option<Timestamp>,
    /// When what has gathered was last taken out (monotonic).
    pub posted_since: Duration,
}

/// Whether this process is the one that watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Switched off, or there is no cloud.
    #[default]
    Off,
    /// It is not known yet who we are in the cloud.
    Unknown,
    /// Another daemon on this store does.
    Elsewhere,
    Watching,
}

/// What is saved besides the outbox.
#[derive(serde::Deserialize)]
pub(super) struct SavedBook {
    pub book: Book,
    read: BTreeMap<Region, Timestamp>,
}

/// The same, to be written.
#[derive(serde::Serialize)]
pub(super) struct SavedBookRef<'a> {
    book: &'a Book,
    read: BTreeMap<&'a Region, Timestamp>,
}

impl SavedBook {
    /// That it could not be read is the watcher's own trouble, and passes with it.
    pub fn readings(&self) -> Readings {
        let read = |(region, until): (&Region, &Timestamp)| {
            let reading = Reading {
                until: Some(*until),
                failing: None,
            };
            (region.clone(), reading)
        };
        self.read.iter().map(read).collect()
    }
}

impl<'a> SavedBookRef<'a> {
    pub fn of(state: &'a State) -> Self {
        let read = state.read.iter();
        Self {
            book: &state.book,
            read: read
                .filter_map(|(region, reading)| Some((region, reading.until?)))
                .collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub since: Timestamp,
    pub why: String,
}

/// One region.
#[derive(Default)]
pub(super) struct Seeing {
    pub kinds: BTreeMap<Kind, Looked>,
    pub owners: BTreeMap<AssetRef, Owner>,
}

/// One kind in a region as it was seen last.
#[derive(Default)]
pub(super) struct Looked {
    pub assets: Vec<Asset>,
    pub at: Option<Timestamp>,
    pub trouble: Option<Trouble>,
    /// Looks that failed since the last one that did not.
    pub failed: u32,
}

/// Looks at a kind that fail one after the other before people are told.
pub(super) const BLIND_AFTER: u32 = 4;

/// An answer of the cloud.
pub(super) struct Look {
    pub kind: Kind,
    pub at: Timestamp,
    pub listed: Result<Vec<Asset>, String>,
}

/// What a look changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Some agent burns more than before.
    pub rose: bool,
    /// What runs, or whose it is, is not what it was; or a place was seen for the first time.
    pub changed: bool,
    /// Orphans that nobody was told of, with what they cost an hour.
    pub orphans: Vec<(AssetRef, Usd)>,
    /// What newly carries the tag of another agent than the one that is charged for it.
    pub mistagged: Vec<Mistagged>,
    /// Kinds that cannot be looked at any more, and why; people are to be told.
    pub blind: Vec<(Kind, String)>,
    /// Those of which people were told that are seen again.
    pub seeing: Vec<Kind>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistagged {
    pub what: AssetRef,
    pub charged: AgentId,
    pub tagged: AgentId,
}

impl State {
    /// Takes looks at one region in. A look that failed changes nothing: what it would have shown goes on
    /// being charged for (L7). What nothing names now is whose it was.
    pub fn take_in(&mut self, region: &Region, looks: Vec<Look>, owners: &Owners, notice: Usd) -> Taken {
        let account = self.account.clone().unwrap_or_default();
        let seeing = self.regions.entry(region.clone()).or_default();
        let mut fresh = Vec::new();
        let (mut blind, mut again) = (Vec::new(), Vec::new());
        for look in looks {
            let looked = seeing.kinds.entry(look.kind.clone()).or_default();
            match look.listed {
                Ok(mut assets) => {
                    // The book goes by kind and region; what says that it is of another would never leave it.
                    assets.retain(|asset| asset.what.kind == look.kind && asset.what.region == *region);
                    looked.assets = assets;
                    looked.at = Some(look.at);
                    looked.trouble = None;
                    if looked.failed >= BLIND_AFTER {
                        again.push(look.kind.clone());
                    }
                    looked.failed = 0;
                    fresh.push((look.kind, look.at));
                }
                Err(why) => {
                    looked.failed = looked.failed.saturating_add(1);
                    if looked.failed == BLIND_AFTER {
                        blind.push((look.kind, why.clone()));
                    }
                    trouble(&mut looked.trouble, why, look.at);
                }
            }
        }
        let everything = seeing.kinds.values().flat_map(|looked| &looked.assets);
        let seen = seeing
            .kinds
            .values()
            .flat_map(|looked| &looked.assets)
            .flat_map(|asset| std::iter::once(&asset.what).chain(&asset.parent));
        let maker = |what: &AssetRef| Some((what.clone(), self.makers.maker(what)?.to_owned()));
        let makers = seen.filter_map(maker).collect();
        self.book.release(|agent| owners.declares(agent));
        let seen_before = seeing.owners.iter();
        let seen_before = seen_before.filter_map(|(what, owner)| Some((what, owner.agent()?)));
        let known = seen_before.chain(self.book.owners(region));
        let known = known.map(|(what, agent)| (what.clone(), agent.clone())).collect();
        seeing.owners = owners.attribute(everything, &makers, &known, &account);
        let before = self.book.burn();
        // Until a place is known to the saved book, what begins there is taken for what was there before.
        let places = self.book.places().count();
        let mut mistagged = Vec::new();
        let newest = fresh.iter().map(|(_, at)| *at).max();
        for (kind, at) in fresh {
            let assets = seeing
                .kinds
                .get(&kind)
                .map_or(&[][..], |looked| looked.assets.as_slice());
            let priced = assets.iter().filter_map(|asset| {
                let hourly = self.prices.asset(asset)?;
                let (agent, tagged) = match seeing.owners.get(&asset.what) {
                    Some(Owner::Agent { agent, tagged, .. }) => (Some(agent.clone()), tagged.clone()),
                    _ => (None, None),
                };
                Some(Seen {
                    what: asset.what.clone(),
                    parent: asset.parent.clone(),
                    agent,
                    tagged,
                    service: asset.service.clone().into_owned(),
                    since: asset.created_at,
                    hourly,
                })
            });
            let priced: Vec<Seen> = priced.collect();
            mistagged.extend(priced.iter().filter_map(|seen| {
                let (charged, tagged) = (seen.agent.clone()?, seen.tagged.clone()?);
                let is_known = self.book.tagged(&seen.what) == Some(&tagged);
                let what = seen.what.clone();
                (!is_known).then_some(Mistagged { what, charged, tagged })
            }));
            self.book.look(region, &kind, priced, at);
        }
        if let Some(now) = newest {
            let named = |what: &AssetRef| {
                let seen = seeing.owners.get(what).and_then(Owner::agent);
                let made = || owners.principal(self.makers.maker(what)?);
                seen.or_else(made).cloned()
            };
            let owner = |what: &AssetRef, parent: Option<&AssetRef>| named(what).or_else(|| named(parent?));
            self.book.attribute_ended(region, now, owner);
        }
        let after = self.book.burn();
        let by_agent = |rows: &[crate::domain::burn::BurnRow]| {
            let mut burns: BTreeMap<AgentId, Usd> = BTreeMap::new();
            for row in rows {
                if let Some(agent) = &row.agent {
                    let burn = burns.entry(agent.clone()).or_insert(Usd::ZERO);
                    *burn = burn.saturating_add(row.usd_per_hour);
                }
            }
            burns
        };
        let (burnt, burns) = (by_agent(&before), by_agent(&after));
        let rose = burns
            .iter()
            .any(|(agent, now)| burnt.get(agent).is_none_or(|before| now > before));
        Taken {
            rose,
            changed: before != after || places != self.book.places().count(),
            orphans: self.new_orphans(region, notice),
            mistagged,
            blind,
            seeing: again,
        }
    }

    fn new_orphans(&mut self, region: &Region, notice: Usd) -> Vec<(AssetRef, Usd)> {
        let orphans = self.book.orphans();
        let all: BTreeSet<AssetRef> = orphans.iter().map(|(what, _)| (*what).clone()).collect();
        let new = orphans
            .into_iter()
            .filter(|(what, hourly)| what.region == *region && hourly.usd >= notice && !self.told.contains(*what));
        let new: Vec<(AssetRef, Usd)> = new.map(|(what, hourly)| (what.clone(), hourly.usd)).collect();
        self.told.retain(|what| all.contains(what));
        self.told.extend(new.iter().map(|(what, _)| what.clone()));
        new
    }

    /// A region that is not looked at any more.
    pub fn forget(&mut self, region: &Region, now: Timestamp) {
        let kinds: Vec<Kind> = self
            .book
            .places()
            .filter(|(at, _, _)| *at == region)
            .map(|(_, kind, _)| kind.clone())
            .collect();
        for kind in kinds {
            self.book.forget(region, &kind, now);
        }
        self.regions.remove(region);
        self.read.remove(region);
    }

    /// Nothing is watched any more: what ran is charged until then, or until it was seen last, and forgotten.
    pub fn forget_all(&mut self, until: Option<Timestamp>) {
        let places = self.book.places();
        let places: Vec<_> = places
            .map(|(region, kind, at)| (region.clone(), kind.clone(), at))
            .collect();
        for (region, kind, seen) in places {
            self.book.forget(&region, &kind, until.unwrap_or(seen));
        }
        self.regions.clear();
        self.read.clear();
    }

    /// Forgets what is in a saved book and is not watched any more, once it is certain what is.
    pub fn forget_unwatched(&mut self, kinds: &[Kind], now: Timestamp) {
        if !self.listed {
            return;
        }
        let places: Vec<(Region, Kind)> = self
            .book
            .places()
            .filter(|(region, kind, _)| !self.wanted.contains(*region) || !kinds.contains(kind))
            .map(|(region, kind, _)| (region.clone(), kind.clone()))
            .collect();
        for (region, kind) in places {
            self.book.forget(&region, &kind, now);
        }
    }

    /// Takes out what has gathered, unless something is still on its way.
    pub fn take_out(&mut self, now: Timestamp) {
        self.book.advance(now);
        if !self.outbox.is_empty() {
            return;
        }
        let burn = self.book.burn();
        let worst = |agent: &AgentId, service: &str| {
            let rows = burn
                .iter()
                .filter(|row| row.agent.as_ref() == Some(agent) && row.service == service);
            rows.map(|row| row.basis).max().unwrap_or(PriceBasis::Listed)
        };
        let owed = |charge: crate::domain::burn::Charge| {
            let prices = worst(&charge.cell.agent, &charge.cell.service);
            Owed::new(charge, prices, now)
        };
        self.outbox = self.book.take().into_iter().map(owed).collect();
    }

    /// What an agent has spent that is not posted.
    pub fn unposted(&self, agent: &AgentId) -> Usd {
        let owed = self.outbox.iter().filter(|owed| owed.agent() == agent);
        owed.fold(self.book.unposted(agent), |sum, owed| sum.saturating_add(owed.amount()))
    }

    /// What each agent has spent that the ledger does not have, with the times at which it will be said to
    /// have occurred. What the ledger may have already is left out, since it is counted there.
    pub fn owing(&self, now: Timestamp) -> BTreeMap<AgentId, Vec<(Timestamp, Usd)>> {
        let mut owing: BTreeMap<AgentId, Vec<(Timestamp, Usd)>> = BTreeMap::new();
        let outbox = self.outbox.iter().filter(|_| !self.handed);
        let outbox = outbox.map(|owed| (owed.agent(), owed.occurred_at, owed.amount()));
        let cells = self.book.cells();
        let cells = cells.map(|(cell, usd)| (&cell.agent, occurs(cell.hour, now), usd));
        for (agent, at, usd) in outbox.chain(cells) {
            owing.entry(agent.clone()).or_default().push((at, usd));
        }
        owing
    }

    /// The agents that burn, with their dollars an hour.
    pub fn burning(&self) -> BTreeMap<AgentId, Usd> {
        let mut burning = BTreeMap::new();
        for row in self.book.burn() {
            if let Some(agent) = row.agent {
                let burn = burning.entry(agent).or_insert(Usd::ZERO);
                *burn = burn.saturating_add(row.usd_per_hour);
            }
        }
        burning
    }

    /// How far the record of a region is read by now, and what went wrong with it last.
    pub fn note_reading(
        &mut self,
        region: &Region,
        until: Option<Timestamp>,
        why: Option<String>,
        asked_at: Timestamp,
    ) {
        let reading = self.read.entry(region.clone()).or_default();
        reading.until = reading.until.max(until);
        let since = reading.failing.take().map_or(asked_at, |(since, _)| since);
        reading.failing = why.map(|why| (since, why));
    }

    pub fn note_trouble(&mut self, about: &'static str, why: Option<String>, now: Timestamp) {
        match why {
            Some(why) => {
                let mut known = self.troubles.remove(about);
                trouble(&mut known, why, now);
                self.troubles.extend(known.map(|trouble| (about, trouble)));
            }
            None => {
                self.troubles.remove(about);
            }
        }
    }
}

/// Since when it is wrong stays, what is said of it is the last word.
fn trouble(slot: &mut Option<Trouble>, why: String, at: Timestamp) {
    let since = slot.as_ref().map_or(at, |trouble| trouble.since);
    *slot = Some(Trouble { since, why });
}

#[cfg(test)]
mod tests;
