//! Where calls of paused agents wait (**D2**): a bounded number of them, each for a bounded time, holding
//! nothing of the ledger meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::domain::agent::AgentStatus;
use crate::domain::id::AgentId;
use crate::ledger::Ledger;
use crate::ports::Clock;

/// Bytes of bodies that wait with their calls, at most: a call that is larger than what is left is
/// answered at once.
const MAX_BYTES: usize = 256 << 20;

/// The places.
#[derive(Debug, Default)]
pub(super) struct Lot {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place, until it is dropped.
struct Place<'a> {
    lot: &'a Lot,
    bytes: usize,
}

/// What became of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parked {
    /// The agent is not paused any more.
    GoOn,
    /// There was no place, or it was over.
    Over,
}

impl Lot {
    fn show(&self) {
        // A gauge is a float; no number of calls is too large for one.
        let calls = u32::try_from(self.calls.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        metrics::gauge!("backstop_calls_parked").set(calls);
    }

    fn take(&self, bytes: usize, max_calls: usize) -> Option<Place<'_>> {
        let calls = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        let all = self.bytes.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let place = Place { lot: self, bytes };
        self.show();
        (calls <= max_calls && all <= MAX_BYTES).then_some(place)
    }

    /// Waits until the agent is not paused, at most until `deadline` on the monotonic clock.
    pub(super) async fn park(
        &self,
        (ledger, clock): (&Ledger, &Arc<dyn Clock>),
        agent: &AgentId,
        bytes: usize,
        max_calls: usize,
        deadline: Duration,
    ) -> Parked {
        let Some(_place) = self.take(bytes, max_calls) else {
            return Parked::Over;
        };
        let mut statuses = ledger.agents();
        let left = deadline.saturating_sub(clock.monotonic());
        tokio::select! {
            biased;
            seen = statuses.wait_for(|statuses| statuses.of(agent) != AgentStatus::Paused) => match seen {
                Ok(_) => Parked::GoOn,
                Err(_the_ledger_has_ended) => Parked::Over,
            },
            () = clock.sleep(left) => Parked::Over,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lot.calls.fetch_sub(1, Ordering::AcqRel);
        self.lot.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.lot.show();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_number_and_by_bytes_and_given_back() {
        let lot = Lot::default();
        let first = lot.take(10, 1).expect("a place");
        assert!(lot.take(10, 1).is_none());
        assert_eq!(lot.calls.load(Ordering::Relaxed), 1, "who found none takes none");
        drop(first);
        assert!(lot.take(MAX_BYTES + 1, 1).is_none());
        let all = lot.take(MAX_BYTES, 2).expect("a place");
        assert!(lot.take(1, 2).is_none());
        drop(all);
        assert!(lot.take(1, 1).is_some());
        assert_eq!(lot.bytes.load(Ordering::Relaxed), 0);
    }
}
