//! Work on large bodies: done beside the workers of the runtime, bounded in all, and shared among agents.

use std::sync::Arc;
use std::time::Duration;

use super::failure::CallFailure;
use super::shares::{Room, Share, Shares};
use crate::domain::id::AgentId;
use crate::domain::rejection::Rejection;
use crate::ports::Clock;

/// A body that is worked on elsewhere than on a worker of the runtime, in bytes: it takes milliseconds.
const LARGE: usize = 128 * 1024;
/// Bodies that are worked on at once, in all, in kilobytes: parsed JSON takes many times its text.
const AT_WORK_KB: u64 = 64 * 1024;
/// One counts as so many at most: the largest must not wait until there is no other work at all.
const MOST_KB: u64 = AT_WORK_KB / 2;
/// How long a request waits for its turn. What is paid already waits for as long as its call may.
const TURN: Duration = Duration::from_secs(10);

pub(super) struct Work {
    room: Shares,
    clock: Arc<dyn Clock>,
}

/// Whose work it is, and whether there are others.
pub(super) type Whose<'a> = (&'a AgentId, bool);

impl Work {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            room: Shares::default(),
            clock,
        }
    }

    /// Works on a body of this size.
    pub(super) async fn on<T: Send + 'static>(
        &self,
        whose: Whose<'_>,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
    ) -> Result<T, CallFailure> {
        let turn = tokio::select! {
            biased;
            turn = self.turn(whose, bytes) => turn,
            () = self.clock.sleep(TURN) => return Err(CallFailure::Overloaded),
        };
        match beside(turn, work).await {
            Some(done) => Ok(done?),
            None => Err(CallFailure::Internal),
        }
    }

    /// Waits for the turn of a body of this size; a small one needs none. Whoever has a turn only works, so
    /// the next one comes.
    pub(super) async fn turn(&self, (agent, shared): Whose<'_>, bytes: usize) -> Option<Share> {
        if bytes <= LARGE {
            return None;
        }
        let kilobytes = u64::try_from(bytes / 1024 + 1).unwrap_or(MOST_KB).min(MOST_KB);
        let room = Room {
            most: AT_WORK_KB,
            shared,
        };
        Some(self.room.wait(agent, kilobytes, room).await)
    }
}

/// Does the work of a turn. The turn lasts until it is done, and not only for as long as somebody waits for
/// it: a client that goes away stops nothing that has begun. `None`: it panicked.
pub(super) async fn beside<T: Send + 'static>(
    turn: Option<Share>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let Some(turn) = turn else {
        return Some(work());
    };
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    match working.await {
        Ok(done) => Some(done),
        Err(panicked) => {
            tracing::error!(%panicked, "the work on a body failed");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::system::SystemClock;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_room() {
        let work = Work::new(Arc::new(SystemClock));
        let a = AgentId::new("a").expect("a name");
        let (go_on, waits) = mpsc::channel::<()>();
        let mut left = Box::pin(work.on((&a, false), 8 << 20, move || Ok(waits.recv().is_ok())));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        assert!(work.room.taken() > 0, "it is worked on");
        go_on.send(()).expect("it still works");
        let all = Room { most: 1, shared: false };
        drop(work.room.wait(&a, 1, all).await);
    }

    #[tokio::test]
    async fn no_agent_takes_every_turn() {
        let work = Work::new(Arc::new(SystemClock));
        let (a, b) = (AgentId::new("a").expect("a name"), AgentId::new("b").expect("a name"));
        let turn = |agent| work.turn((agent, true), 8 << 20).now_or_never().flatten();
        let greedy: Vec<Share> = std::iter::from_fn(|| turn(&a)).collect();
        assert!(!greedy.is_empty() && turn(&b).is_some());
    }
}
