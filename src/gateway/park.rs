//! Where calls of paused agents wait (**D2**): a bounded number of them, each for a bounded time, holding
//! nothing of the ledger meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::shares::{Room, Share, Shares};
use crate::domain::agent::AgentStatus;
use crate::domain::id::AgentId;
use crate::ledger::Ledger;
use crate::ports::Clock;

/// Bytes of bodies that wait with their calls, at most: a call that is larger than what is left is
/// answered at once.
const MAX_BYTES: u64 = 256 << 20;

/// The places.
#[derive(Debug, Default)]
pub(super) struct Lot {
    calls: Shares,
    bytes: Shares,
}

/// A place, until it is dropped.
struct Place<'a> {
    lot: &'a Lot,
    shares: Option<(Share, Share)>,
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
        let calls = u32::try_from(self.calls.taken()).unwrap_or(u32::MAX);
        metrics::gauge!("backstop_calls_parked").set(calls);
    }

    fn take(&self, agent: &AgentId, bytes: usize, room: Room) -> Option<Place<'_>> {
        let of_bytes = Room {
            most: MAX_BYTES,
            ..room
        };
        let call = self.calls.take(agent, 1, room)?;
        let bytes = self
            .bytes
            .take(agent, u64::try_from(bytes).unwrap_or(u64::MAX), of_bytes)?;
        self.show();
        Some(Place {
            lot: self,
            shares: Some((call, bytes)),
        })
    }

    /// Waits until the agent is not paused, at most until `deadline` on the monotonic clock.
    pub(super) async fn park(
        &self,
        (ledger, clock): (&Ledger, &Arc<dyn Clock>),
        agent: &AgentId,
        bytes: usize,
        room: Room,
        deadline: Duration,
    ) -> Parked {
        let Some(_place) = self.take(agent, bytes, room) else {
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
        self.shares = None;
        self.lot.show();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_number_and_by_bytes_and_given_back() {
        let lot = Lot::default();
        let a = AgentId::new("a").expect("a name");
        let room = |most| Room { most, shared: false };
        let all = usize::try_from(MAX_BYTES).expect("it is addressed");
        let first = lot.take(&a, 10, room(1)).expect("a place");
        assert!(lot.take(&a, 10, room(1)).is_none());
        assert_eq!(lot.calls.taken(), 1, "who found none takes none");
        drop(first);
        assert!(lot.take(&a, all + 1, room(1)).is_none());
        assert_eq!(lot.calls.taken(), 0);
        let all = lot.take(&a, all, room(2)).expect("a place");
        assert!(lot.take(&a, 1, room(2)).is_none());
        drop(all);
        assert!(lot.take(&a, 1, room(1)).is_some());
        assert_eq!((lot.calls.taken(), lot.bytes.taken()), (0, 0));
    }
}
