//! The wait list: the one place where holds wait for room (section 6.3 of the design).
//!
//! *Momentarily held* is not *spent*: a call that would fit once open holds settle waits here instead
//! of being refused. Every hold that wants in passes through the list, so a new one is simply the last
//! waiter, and there is one order.
//!
//! Why it cannot deadlock: a waiter holds nothing. Room is only taken by a commit, on all lines or on
//! none, and the first waiter in order is never blocked by anything but open holds, which all end
//! (L3: they expire).
//!
//! Why nobody waits for ever while others pass: whoever fits goes, so small calls may overtake a large
//! one. Each time that happens on a line on which the large one is short, it is counted; after
//! `max_overtakes` it is *starved*, and its short lines admit nothing behind it until it goes. The
//! short lines of a starved waiter add up: if only those of the moment counted, two lines could be
//! kept short in turns by the calls behind it.
//!
//! What it knows of the lines is a hint ([`Rooms`], the mirror), and only the store's commit decides.
//! A hint that is too hopeful costs a place in a batch. One that is too gloomy would cost a waiter its
//! turn, so every waiter is also tried without regard to the hint once every `probe_every`.
//!
//! A bound that follows what is left is reckoned anew at every look, so a waiter that was short of a
//! large one may fit with a smaller one a moment later.
//!
//! Time is an argument: a monotonic `now`. A scan visits each waiter once and each of its lines once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::bound::Bound;
use crate::domain::money::Usd;

/// A line's number in the mirror; small, so that a scan compares integers and not names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineIx(pub u32);

/// What is thought to be left on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// limit - posted - held.
    pub free: Usd,
    /// limit - posted: what would be free if nothing were held; [`Usd::MAX`] where nothing limits it.
    pub ever: Usd,
}

impl Room {
    /// What the line has left if everything held comes back; `None` where it sets no limit.
    fn left(self) -> Option<Usd> {
        (self.ever < Usd::MAX).then_some(self.ever)
    }
}

/// The hint: what is thought to be left; `None` when nothing is known, and the store must say.
pub trait Rooms {
    fn room(&self, line: LineIx) -> Option<Room>;
}

/// Settings of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitRules {
    pub max_overtakes: u32,
    /// Waiters at most; whoever comes then is held at once.
    pub capacity: usize,
    /// How often a waiter is tried without regard to the hint.
    pub probe_every: Duration,
}

/// A waiter's place; smaller is earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A waiter that a scan chose for the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub ticket: Ticket,
    /// For `Admit::blocks`: it was overtaken too often.
    pub blocks: bool,
}

#[derive(Debug)]
struct Waiter<T> {
    bound: Bound,
    lines: Vec<LineIx>,
    /// Lines without room for it, as last seen; for a starved one, all that were seen since.
    short: Vec<LineIx>,
    overtaken: u32,
    deadline: Duration,
    tried_at: Option<Duration>,
    /// A scan has looked at it, so its wait may be over.
    seen: bool,
    /// In a batch that the store has.
    with_store: bool,
    item: T,
}

enum Chance {
    /// With the bound that it is likely to be granted.
    Fits(Usd),
    /// More than the line will ever have: the store says so for good.
    Hopeless,
    Short(Vec<LineIx>),
}

impl<T> Waiter<T> {
    fn chance(&self, rooms: &impl Rooms, taken: &HashMap<LineIx, Usd>) -> Chance {
        let known = || self.lines.iter().filter_map(|&line| Some((line, rooms.room(line)?)));
        let left = known().filter_map(|(_, room)| room.left()).min();
        if left.is_some_and(|left| self.bound.least() > left) {
            return Chance::Hopeless;
        }
        // As the store will reckon it, if the hint is right and knows every line.
        let bound = self.bound.within(left);
        let mut short = Vec::new();
        for (line, room) in known() {
            let taken = taken.get(&line).copied().unwrap_or(Usd::ZERO);
            if bound > room.free.saturating_sub(taken) {
                short.push(line);
            }
        }
        if short.is_empty() {
            Chance::Fits(bound)
        } else {
            Chance::Short(short)
        }
    }

    fn note_short(&mut self, short: &[LineIx], starved: bool) {
        if !starved {
            self.short.clear();
        }
        for &line in short {
            if !self.short.contains(&line) {
                self.short.push(line);
            }
        }
    }
}

/// The list, over whatever a waiter carries with it.
#[derive(Debug)]
pub struct WaitList<T> {
    rules: WaitRules,
    next: u64,
    waiters: BTreeMap<Ticket, Waiter<T>>,
    deadlines: BTreeSet<(Duration, Ticket)>,
    /// Who was admitted since the last `end_round`.
    admitted: Vec<(Ticket, Vec<LineIx>)>,
}

impl<T> WaitList<T> {
    pub fn new(rules: WaitRules) -> Self {
        Self {
            rules,
            next: 0,
            waiters: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            admitted: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Takes the last place. A full list gives the item back.
    pub fn push(&mut self, bound: Bound, lines: Vec<LineIx>, deadline: Duration, item: T) -> Result<Ticket, T> {
        if self.waiters.len() >= self.rules.capacity {
            return Err(item);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.deadlines.insert((deadline, ticket));
        self.waiters.insert(
            ticket,
            Waiter {
                bound,
                lines,
                short: Vec::new(),
                overtaken: 0,
                deadline,
                tried_at: None,
                seen: false,
                with_store: false,
                item,
            },
        );
        Ok(ticket)
    }

    /// Chooses, in order, who goes into the next batch: `limit` at most. Call it after a release, an
    /// arrival, a refreshed hint, and once a second.
    pub fn scan(&mut self, now: Duration, rooms: &impl Rooms, limit: usize) -> Vec<Pick> {
        let mut picks = Vec::new();
        let mut taken: HashMap<LineIx, Usd> = HashMap::new();
        let mut blocked: HashSet<LineIx> = HashSet::new();
        for (&ticket, waiter) in &mut self.waiters {
            if picks.len() >= limit {
                break;
            }
            if waiter.with_store {
                continue;
            }
            waiter.seen = true;
            let starved = waiter.overtaken >= self.rules.max_overtakes;
            let behind_block = waiter.lines.iter().any(|line| blocked.contains(line));
            let probe = waiter
                .tried_at
                .is_some_and(|at| now.saturating_sub(at) >= self.rules.probe_every);
            let goes = match waiter.chance(rooms, &taken) {
                // The answer takes no room, so no block is passed by asking for it.
                Chance::Hopeless => true,
                Chance::Fits(bound) => {
                    if !behind_block {
                        for &line in &waiter.lines {
                            let sum = taken.entry(line).or_insert(Usd::ZERO);
                            *sum = sum.saturating_add(bound);
                        }
                    }
                    !behind_block
                }
                Chance::Short(short) => {
                    waiter.note_short(&short, starved);
                    if starved {
                        blocked.extend(waiter.short.iter().copied());
                    }
                    // Nothing is known against the first try of a new waiter but the hint.
                    if waiter.tried_at.is_none() {
                        waiter.tried_at = Some(now);
                    }
                    probe && !behind_block
                }
            };
            if goes {
                waiter.with_store = true;
                waiter.tried_at = Some(now);
                picks.push(Pick {
                    ticket,
                    blocks: starved,
                });
            }
        }
        picks
    }

    /// What a waiter carries.
    pub fn get(&self, ticket: Ticket) -> Option<&T> {
        self.waiters.get(&ticket).map(|w| &w.item)
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.waiters.get_mut(&ticket).map(|w| &mut w.item)
    }

    /// The lines of a waiter.
    pub fn lines(&self, ticket: Ticket) -> &[LineIx] {
        self.waiters.get(&ticket).map_or(&[], |w| &w.lines)
    }

    /// Every line that somebody waits for, each once.
    pub fn lines_wanted(&self) -> BTreeSet<LineIx> {
        self.waiters.values().flat_map(|w| w.lines.iter().copied()).collect()
    }

    /// It was admitted: it leaves, and whoever it overtook is counted by the next `end_round`.
    pub fn admitted(&mut self, ticket: Ticket) -> Option<T> {
        let waiter = self.leave(ticket)?;
        self.admitted.push((ticket, waiter.lines));
        Some(waiter.item)
    }

    /// It leaves without having been admitted: refused, failed, given up.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.leave(ticket).map(|w| w.item)
    }

    /// The store found no room on `short`: it waits on, in its old place.
    pub fn put_back(&mut self, ticket: Ticket, short: &[LineIx]) {
        if let Some(waiter) = self.waiters.get_mut(&ticket) {
            waiter.with_store = false;
            waiter.note_short(short, waiter.overtaken >= self.rules.max_overtakes);
        }
    }

    /// Counts the overtakings of one commit: one for each hold that was admitted behind a waiter on a
    /// line on which that waiter is short.
    pub fn end_round(&mut self) {
        if self.admitted.is_empty() {
            return;
        }
        let mut admitted = std::mem::take(&mut self.admitted);
        admitted.sort_unstable_by_key(|(ticket, _)| *ticket);
        let mut behind: HashMap<LineIx, u32> = HashMap::new();
        for (&ticket, waiter) in self.waiters.iter_mut().rev() {
            while admitted.last().is_some_and(|(later, _)| *later > ticket) {
                for line in admitted.pop().map(|(_, lines)| lines).unwrap_or_default() {
                    *behind.entry(line).or_insert(0) += 1;
                }
            }
            // A hold on two of its short lines is one overtaking: the largest count stands for all.
            let passed = waiter.short.iter().filter_map(|line| behind.get(line)).max();
            waiter.overtaken = waiter.overtaken.saturating_add(passed.copied().unwrap_or(0));
        }
    }

    /// Takes out those whose wait is over. One that the store has is left until the store answers, and
    /// one that no scan has looked at yet is left until one has: whoever will not wait is still tried.
    pub fn overdue(&mut self, now: Duration) -> Vec<T> {
        let mut out = Vec::new();
        let due: Vec<Ticket> = self
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .map(|(_, ticket)| *ticket)
            .collect();
        for ticket in due {
            if self.waiters.get(&ticket).is_some_and(|w| w.seen && !w.with_store) {
                out.extend(self.remove(ticket));
            }
        }
        out
    }

    /// The earliest deadline of those that the store does not have.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines
            .iter()
            .find(|(_, ticket)| self.waiters.get(ticket).is_some_and(|w| !w.with_store))
            .map(|(deadline, _)| *deadline)
    }

    /// Takes out those that match and that the store does not have.
    pub fn take_where(&mut self, mut matches: impl FnMut(&T) -> bool) -> Vec<T> {
        let tickets: Vec<Ticket> = self
            .waiters
            .iter()
            .filter(|(_, w)| !w.with_store && matches(&w.item))
            .map(|(&ticket, _)| ticket)
            .collect();
        tickets.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }

    /// Reckons waiters again: `f` gives the new lines of one whose lines have changed (a window rolled
    /// over, the config was loaded again). The place and the overtakings stay.
    pub fn revise(&mut self, mut f: impl FnMut(&mut T) -> Option<Vec<LineIx>>) {
        for waiter in self.waiters.values_mut().filter(|w| !w.with_store) {
            if let Some(lines) = f(&mut waiter.item) {
                waiter.short.retain(|line| lines.contains(line));
                waiter.lines = lines;
            }
        }
    }

    fn leave(&mut self, ticket: Ticket) -> Option<Waiter<T>> {
        let waiter = self.waiters.remove(&ticket)?;
        self.deadlines.remove(&(waiter.deadline, ticket));
        Some(waiter)
    }
}

#[cfg(test)]
mod tests;
