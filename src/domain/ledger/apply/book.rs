//! The open book: the rows of a batch while it is decided.
//!
//! Lines stand in slots and are worked on in place, so that a hot line costs a lookup and an addition for
//! each operation and is written once. Only what is marked dirty leaves in the delta: a line that was
//! opened for a hold which then waits is never created.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use jiff::Timestamp;

use crate::domain::id::{BudgetId, EpochId, HoldId, PostingId};
use crate::domain::ledger::batch::{Batch, Delta, LedgerRejection, LedgerRules, Snapshot};
use crate::domain::ledger::hold::{Hold, HoldState};
use crate::domain::ledger::line::{Bucket, Line, LineKey, LineSpec};
use crate::domain::ledger::posting::{Basis, Entry, Posting, PostingKind, Trust};
use crate::domain::money::{MAX_POSTING, Usd};
use crate::domain::window::Buckets;

pub(super) type Decided<T> = Result<T, LedgerRejection>;

/// The place of a line in the book.
pub(super) type At = usize;

pub(super) struct Slot {
    pub(super) line: Line,
    /// Its short room belongs to a waiter that was overtaken too often.
    pub(super) blocked: bool,
    dirty: bool,
}

pub(super) struct Book<'a> {
    pub(super) now: Timestamp,
    pub(super) epoch: EpochId,
    pub(super) rules: &'a LedgerRules,
    pub(super) snapshot: &'a mut Snapshot,
    pub(super) delta: Delta,
    slots: Vec<Slot>,
    index: BTreeMap<LineKey, At>,
    /// The posting that ended a hold, with its amount, for holds that ended before.
    endings: HashMap<HoldId, (PostingId, Usd)>,
}

impl<'a> Book<'a> {
    pub(super) fn open(snapshot: &'a mut Snapshot, batch: &Batch, rules: &'a LedgerRules) -> Self {
        let lines = std::mem::take(&mut snapshot.lines);
        let mut index = BTreeMap::new();
        let mut slots = Vec::with_capacity(lines.len());
        for (key, line) in lines {
            index.insert(key, slots.len());
            slots.push(Slot {
                line,
                blocked: false,
                dirty: false,
            });
        }
        let ended = |posting: &Posting| {
            let ends = matches!(posting.kind, PostingKind::Capture | PostingKind::Unresolved);
            let hold = posting.hold.filter(|_| ends)?;
            Some((hold, (posting.id, posting.amount)))
        };
        let mut book = Self {
            now: batch.now,
            epoch: batch.epoch,
            rules,
            endings: snapshot.postings.values().filter_map(ended).collect(),
            snapshot,
            delta: Delta::default(),
            slots,
            index,
        };
        for at in 0..book.slots.len() {
            book.drop_buckets(at);
        }
        book
    }

    pub(super) fn close(mut self) -> Delta {
        let mut lines: Vec<Option<Line>> = self.slots.into_iter().map(|s| s.dirty.then_some(s.line)).collect();
        let written = |(key, at): (LineKey, At)| Some((key, lines.get_mut(at)?.take()?));
        self.delta.lines = self.index.into_iter().filter_map(written).collect();
        self.delta
    }

    // --- lines ----------------------------------------------------------------------------------

    pub(super) fn line(&self, at: At) -> &Line {
        &self.slots[at].line
    }

    pub(super) fn slot(&mut self, at: At) -> &mut Slot {
        &mut self.slots[at]
    }

    pub(super) fn find(&self, key: &LineKey) -> Option<At> {
        self.index.get(key).copied()
    }

    /// The lines of a budget whose window is not over, behind `after`, in the order of their keys.
    pub(super) fn live_lines(&self, budget: &BudgetId, after: Option<&LineKey>) -> Vec<At> {
        let first = LineKey::first_of(budget);
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let lines = self.index.range((from, Bound::Unbounded));
        let lines = lines.take_while(|(key, _)| key.budget == *budget);
        lines
            .filter(|(key, _)| !key.window.is_closed(self.now))
            .map(|(_, &at)| at)
            .collect()
    }

    /// The lines that an operation of this trust class counts on, each once; new ones are opened. A
    /// weak claim never reaches a fleet line, whatever its caller named (C7).
    pub(super) fn targets(&mut self, specs: &[LineSpec], trust: Trust) -> Vec<At> {
        let mut places = Vec::with_capacity(specs.len());
        for spec in specs {
            if spec.key.agent.is_none() && !trust.counts_on_fleet() {
                continue;
            }
            let at = self.find_or_open(spec);
            if !places.contains(&at) {
                places.push(at);
            }
        }
        places
    }

    fn find_or_open(&mut self, spec: &LineSpec) -> At {
        if let Some(at) = self.find(&spec.key) {
            return at;
        }
        let at = self.slots.len();
        self.slots.push(Slot {
            line: Line::new(spec),
            blocked: false,
            dirty: false,
        });
        self.index.insert(spec.key.clone(), at);
        at
    }

    /// The lines of a hold. One that the store did not load is its fault: nothing is changed then.
    pub(super) fn lines_of(&self, hold: HoldId) -> Decided<Vec<At>> {
        let hold = self.hold(hold).ok_or(LedgerRejection::UnknownHold)?;
        let find = |key| self.find(key).ok_or(LedgerRejection::UnknownLine);
        hold.lines.iter().map(find).collect()
    }

    /// Adds to what is held, and to nothing else.
    pub(super) fn hold_on(&mut self, at: At, bound: Usd) {
        let slot = &mut self.slots[at];
        slot.line.held = slot.line.held.saturating_add(bound);
        slot.dirty = true;
    }

    /// Changes a line by something that may go past its limit, and moves its overage along.
    /// `past_bound` is how much more it posts than was held for it.
    pub(super) fn change(&mut self, at: At, past_bound: Usd, change: impl FnOnce(&mut Line)) {
        let slot = &mut self.slots[at];
        slot.dirty = true;
        let before = slot.line.past_limit();
        change(&mut slot.line);
        let rise = slot.line.past_limit().saturating_sub(before);
        let within = past_bound.saturating_sub(rise.max(Usd::ZERO)).max(Usd::ZERO);
        slot.line.overage = slot.line.overage.saturating_add(rise).saturating_add(within);
        if slot.line.rule.rolling.is_some() {
            // What was posted past a bound leaves the window too, at the latest when nothing else is left
            // in it: with the last bucket, or when a correction takes away what was.
            let most = slot.line.past_limit().saturating_add(slot.line.posted.max(Usd::ZERO));
            slot.line.overage = slot.line.overage.min(most);
        }
    }

    /// Drops the buckets that are over from a rolling line.
    pub(super) fn drop_buckets(&mut self, at: At) {
        let (line, now) = (&self.slots[at].line, self.now);
        let Some(rolling) = line.rule.rolling.map(Buckets::new) else {
            return;
        };
        if !line.buckets.iter().any(|bucket| rolling.is_over(bucket.start, now)) {
            return;
        }
        self.change(at, Usd::ZERO, |line| {
            let (mut posted, mut unresolved) = (line.posted, line.unresolved);
            line.buckets.retain(|bucket| {
                let over = rolling.is_over(bucket.start, now);
                if over {
                    posted = posted.saturating_sub(bucket.posted);
                    unresolved = unresolved.saturating_sub(bucket.unresolved);
                }
                !over
            });
            (line.posted, line.unresolved) = (posted, unresolved);
        });
    }

    // --- holds ----------------------------------------------------------------------------------

    pub(super) fn hold(&self, id: HoldId) -> Option<&Hold> {
        self.delta.holds.get(&id).or_else(|| self.snapshot.holds.get(&id))
    }

    /// Ends an open hold (L3): nothing else sets its state.
    pub(super) fn end_hold(&mut self, mut hold: Hold, state: HoldState) {
        hold.state = state;
        hold.ended_at = Some(self.now);
        self.delta.holds.insert(hold.id, hold);
    }

    /// The posting that ended the hold, with its amount, as far as it was loaded.
    pub(super) fn ending_of(&self, hold: HoldId) -> Option<(PostingId, Usd)> {
        self.endings.get(&hold).copied()
    }

    // --- postings -------------------------------------------------------------------------------

    /// Whether every line's sums take this much more, so that no sum leaves its range.
    pub(super) fn takes(&self, places: &[At], amount: Usd) -> bool {
        let fits = |line: &Line| line.posted.checked_add(amount)?.checked_add(line.held);
        places.iter().all(|&at| fits(self.line(at)).is_some())
    }

    /// The bucket that an entry of this time belongs into: `Some(None)` on a line that has none, and
    /// `None` when the entry has left the window already. Such an entry is not made, since the
    /// line would have to drop it in the same breath.
    ///
    /// Where the rule was changed, what lies before the oldest bucket may have been dropped under a
    /// shorter window. An entry from there goes into the oldest bucket, so that it counts at least as
    /// long as it must and no bucket comes back with a part of its entries (L1).
    pub(super) fn bucket_for(&self, at: At, occurred_at: Timestamp) -> Option<Option<Timestamp>> {
        let line = self.line(at);
        let Some(rolling) = line.rule.rolling.map(Buckets::new) else {
            return Some(None);
        };
        let start = rolling.start_of(occurred_at);
        if rolling.is_over(start, self.now) {
            return None;
        }
        let oldest = line.buckets.first().filter(|_| line.revision > 1);
        Some(Some(oldest.map_or(start, |oldest| start.max(oldest.start))))
    }

    pub(super) fn enter(&mut self, at: At, entry: Amounts) {
        self.delta.entries.push(Entry {
            posting: entry.posting,
            line: self.slots[at].line.key.clone(),
            amount: entry.amount,
            unresolved: entry.unresolved,
            bucket: entry.bucket,
        });
    }

    /// Keeps a posting, and what later operations of the batch must find of it.
    pub(super) fn keep(&mut self, posting: Posting) {
        if let (Some(hold), PostingKind::Capture | PostingKind::Unresolved) = (posting.hold, posting.kind) {
            self.endings.insert(hold, (posting.id, posting.amount));
        }
        if let (Basis::Metered, Some(request)) = (posting.basis, &posting.upstream_request) {
            let key = (posting.attribution.agent.clone(), request.clone());
            self.snapshot.metered.entry(key).or_insert(posting.id);
        }
        if posting.kind == PostingKind::Unresolved {
            let entries = self.delta.entries.iter().rev();
            let entries = entries
                .take_while(|entry| entry.posting == posting.id)
                .cloned()
                .collect();
            self.snapshot.entries.insert(posting.id, entries);
            self.snapshot.postings.insert(posting.id, posting.clone());
        }
        self.delta.postings.push(posting);
    }
}

/// An entry's amounts.
#[derive(Clone, Copy)]
pub(super) struct Amounts {
    pub(super) posting: PostingId,
    pub(super) amount: Usd,
    pub(super) unresolved: Usd,
    pub(super) bucket: Option<Timestamp>,
}

impl Amounts {
    /// Adds them to a line and its bucket.
    pub(super) fn add_to(self, line: &mut Line) {
        line.posted = line.posted.saturating_add(self.amount);
        line.unresolved = line.unresolved.saturating_add(self.unresolved);
        if let Some(start) = self.bucket {
            let bucket = bucket_of(line, start);
            bucket.posted = bucket.posted.saturating_add(self.amount);
            bucket.unresolved = bucket.unresolved.saturating_add(self.unresolved);
        }
    }
}

/// A line's bucket of this start; an empty one is put in its place if there is none.
pub(super) fn bucket_of(line: &mut Line, start: Timestamp) -> &mut Bucket {
    let place = line.buckets.binary_search_by_key(&start, |bucket| bucket.start);
    let place = place.unwrap_or_else(|place| {
        let bucket = Bucket {
            start,
            posted: Usd::ZERO,
            unresolved: Usd::ZERO,
        };
        line.buckets.insert(place, bucket);
        place
    });
    &mut line.buckets[place]
}

/// Whether an amount may be posted or held at all.
pub(super) fn check_amount(amount: Usd) -> Decided<()> {
    if amount > MAX_POSTING {
        Err(LedgerRejection::Absurd)
    } else if amount.is_negative() {
        Err(LedgerRejection::Negative)
    } else {
        Ok(())
    }
}
