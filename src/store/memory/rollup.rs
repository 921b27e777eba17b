//! Retention: old postings become hourly sums.
//!
//! A posting goes when nothing that is still judged needs it: it was recorded before the retention
//! time, no entry of it lies in an open window or a live bucket, and it is not an unresolved one that
//! waits for evidence. An unresolved posting and its correction go together. Lines of all time never
//! close, so their entries may go at any age. Report ids, metered requests and the sums of the spend
//! report stay; a hold goes with the last posting that names it.

use jiff::{Timestamp, ToSpan};

use super::disk::{Disk, hour_of};
use crate::domain::id::PostingId;
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::posting::{Entry, Posting, PostingKind};
use crate::domain::money::Usd;
use crate::domain::window::Buckets;

impl Disk {
    pub(super) fn roll_up(&mut self, before: Timestamp, now: Timestamp, limit: usize) -> u64 {
        let postings = self.candidates(before, now, limit);
        for id in &postings {
            self.roll(*id);
        }
        let voided = self.holds.values().filter(|hold| {
            hold.state == HoldState::Voided
                && hold.ended_at.is_some_and(|ended| ended < before)
                && !self.by_hold.contains_key(&hold.id)
        });
        let voided: Vec<_> = voided.take(limit).map(|hold| hold.id).collect();
        for hold in voided {
            self.holds.remove(&hold);
        }
        u64::try_from(postings.len()).unwrap_or(u64::MAX)
    }

    /// The oldest postings that may go, each with what corrects it; `limit` of them, or one more when a
    /// correction comes with the last.
    fn candidates(&self, before: Timestamp, now: Timestamp, limit: usize) -> Vec<PostingId> {
        let mut found: Vec<PostingId> = Vec::new();
        for posting in self.postings.values() {
            if found.len() >= limit {
                break;
            }
            let correction = self.corrected.get(&posting.id);
            let waits = posting.kind == PostingKind::Unresolved && correction.is_none();
            let comes_along = posting.corrects.is_some_and(|target| self.posting(target).is_some());
            let correction = correction.and_then(|id| self.posting(*id));
            let settled = self.is_settled(posting, before, now)
                && correction.is_none_or(|correction| self.is_settled(correction, before, now));
            if waits || comes_along || !settled {
                continue;
            }
            if !found.is_empty() && found.len() + 1 + usize::from(correction.is_some()) > limit {
                break;
            }
            found.push(posting.id);
            found.extend(correction.map(|correction| correction.id));
        }
        found
    }

    fn is_settled(&self, posting: &Posting, before: Timestamp, now: Timestamp) -> bool {
        let entries = self.entries.get(&posting.id);
        posting.recorded_at < before && !entries.into_iter().flatten().any(|entry| self.is_live(entry, now))
    }

    /// Whether an entry still counts on a window that may be judged.
    fn is_live(&self, entry: &Entry, now: Timestamp) -> bool {
        if entry.line.window.end.is_some() {
            return !entry.line.window.is_closed(now);
        }
        let rolling = self.lines.get(&entry.line).and_then(|line| line.rule.rolling);
        match (entry.bucket, rolling) {
            (Some(start), Some(rolling)) => !Buckets::new(rolling).is_over(start, now),
            _ => false,
        }
    }

    fn roll(&mut self, id: PostingId) {
        let Some(posting) = self.posting_seq.remove(&id).and_then(|seq| self.postings.remove(&seq)) else {
            return;
        };
        let hour = Timestamp::UNIX_EPOCH
            .checked_add(hour_of(posting.occurred_at).hours())
            .unwrap_or(Timestamp::MIN);
        for entry in self.entries.remove(&id).into_iter().flatten() {
            let sums = self.rolled.entry((entry.line, hour)).or_insert((Usd::ZERO, Usd::ZERO));
            sums.0 = sums.0.saturating_add(entry.amount);
            sums.1 = sums.1.saturating_add(entry.unresolved);
        }
        self.corrected.remove(&id);
        if let Some(hold) = posting.hold
            && let Some(others) = self.by_hold.get_mut(&hold)
        {
            others.retain(|other| *other != id);
            if others.is_empty() {
                self.by_hold.remove(&hold);
                self.holds.remove(&hold);
            }
        }
    }
}
