//! Where refusals are handed in: counted in memory at once, written by one task in its own time.
//!
//! Handing in never waits and never fails, since a refusal must not be held up by the log of it. What has
//! to be written waits in a bounded queue; while the store is down the queue fills, and past its end the
//! refusals that were not written are counted and the count is written first when the store returns.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::AuditError;
use crate::domain::audit::NewAudit;
use crate::domain::audit::fold::Folds;
use crate::ports::Store;

/// Entries that wait for the store at most.
const MAX_WAITING: usize = 10_000;

/// Entries that are written at a time.
const BATCH: usize = 256;

/// The refusals that are not in the log yet.
#[derive(Debug, Default)]
pub struct Refusals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    folds: Folds,
    waiting: VecDeque<NewAudit>,
    dropped: u64,
}

impl State {
    fn wait(&mut self, entries: impl IntoIterator<Item = NewAudit>) {
        for entry in entries {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push_back(entry);
            } else {
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }

    /// The next entries to write, with the count of those that found no room.
    fn batch(&mut self, now: Timestamp) -> Vec<NewAudit> {
        let mut batch = Vec::new();
        if self.dropped > 0 {
            batch.push(NewAudit {
                at: now,
                actor: "backstop".to_owned(),
                action: "audit_overflow".to_owned(),
                agent: None,
                reason: format!(
                    "{} entries about refusals found no room while the store could not be written",
                    self.dropped
                ),
                evidence: serde_json::json!({ "count": self.dropped }).to_string(),
            });
            self.dropped = 0;
        }
        let take = self.waiting.len().min(BATCH);
        batch.extend(self.waiting.drain(..take));
        batch
    }

    /// Puts back what could not be written, in front. An overflow that came back stays an entry.
    fn put_back(&mut self, batch: Vec<NewAudit>) {
        for entry in batch.into_iter().rev() {
            self.waiting.push_front(entry);
        }
    }
}

impl Refusals {
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands in a refusal; `code` is its rejection's stable code.
    pub fn note(&self, code: &str, refusal: NewAudit) {
        let mut state = self.lock();
        let record = state.folds.note(code, refusal);
        state.wait(record);
    }

    /// Writes what is due; to be called every second or so.
    pub async fn write(&self, store: &dyn Store, now: Timestamp) -> Result<(), AuditError> {
        {
            let mut state = self.lock();
            let due = state.folds.due(now);
            state.wait(due);
        }
        self.empty(store, now).await
    }

    /// Writes everything, also of the minute that has not ended; the last act of a daemon that ends.
    pub async fn finish(&self, store: &dyn Store, now: Timestamp) -> Result<(), AuditError> {
        {
            let mut state = self.lock();
            let rest = state.folds.drain();
            state.wait(rest);
        }
        self.empty(store, now).await
    }

    async fn empty(&self, store: &dyn Store, now: Timestamp) -> Result<(), AuditError> {
        loop {
            let batch = self.lock().batch(now);
            if batch.is_empty() {
                return Ok(());
            }
            // When the outcome is unknown it is written again: an entry that stands twice says
            // nothing false, one that is missing would.
            if let Err(error) = store.append_audit(&batch).await {
                self.lock().put_back(batch);
                return Err(error.into());
            }
        }
    }

    /// A thread that panicked while it held the lock left a queue that is still a queue.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::tests::entry;

    #[test]
    fn what_finds_no_room_is_counted_and_said_first() {
        let mut state = State::default();
        state.wait((0..10_003).map(|at| entry(at, "refused")));
        assert_eq!(state.waiting.len(), MAX_WAITING);
        let now = entry(20_000, "").at;
        let batch = state.batch(now);
        assert_eq!((batch.len(), batch[0].action.as_str()), (BATCH + 1, "audit_overflow"));
        assert!(batch[0].reason.starts_with("3 entries"), "{}", batch[0].reason);
        // The store was still down: nothing is lost and the order stays.
        let first = batch[0].clone();
        state.put_back(batch);
        let again = state.batch(now);
        assert_eq!(
            (again.len(), &again[0], &again[1]),
            (BATCH, &first, &entry(0, "refused"))
        );
    }

    #[test]
    fn a_flood_waits_as_one_entry() {
        let refusals = Refusals::new();
        for second in 0..60 {
            refusals.note("no_budget", entry(second, "refused"));
        }
        assert_eq!(refusals.lock().waiting.len(), 1);
        refusals.note("no_budget", entry(61, "refused"));
        assert_eq!(refusals.lock().waiting.len(), 2);
    }
}
