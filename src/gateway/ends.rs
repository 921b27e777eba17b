//! What may end a call before its answer does: its client goes away, its agent is contained, the daemon
//! stops, a time limit passes. One thing to wait for, beside the answer itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::agent::AgentStatus;
use crate::domain::id::AgentId;
use crate::ledger::AgentStatuses;
use crate::ports::Clock;

/// Why a call ends early. Each of the first three is said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The agent was contained: nothing more may reach it.
    Contained,
    /// The daemon has drained for as long as it may.
    Stopped,
    /// The client went away.
    Gone,
    TimedOut,
}

pub(super) struct Ends {
    clock: Arc<dyn Clock>,
    contained: Option<BoxFuture<'static, ()>>,
    stopped: Option<BoxFuture<'static, ()>>,
    gone: Option<BoxFuture<'static, ()>>,
    /// On the clock's monotonic scale: when something last happened, and the longest silence since.
    last: Duration,
    silence: Duration,
    /// The end, whatever happens.
    deadline: Duration,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Ends {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        agent: AgentId,
        statuses: watch::Receiver<Arc<AgentStatuses>>,
        stop: CancellationToken,
        gone: CancellationToken,
    ) -> Self {
        let now = clock.monotonic();
        Self {
            clock,
            contained: Some(contained(statuses, agent).boxed()),
            stopped: Some(stop.cancelled_owned().boxed()),
            gone: Some(gone.cancelled_owned().boxed()),
            last: now,
            silence: Duration::MAX,
            deadline: Duration::MAX,
            timer: None,
        }
    }

    /// From now on this much silence is too much.
    pub(super) fn allow_silence(&mut self, silence: Duration) {
        self.silence = silence;
        self.timer = None;
        self.touch();
    }

    /// Something happened.
    pub(super) fn touch(&mut self) {
        self.last = self.clock.monotonic();
    }

    /// It ends within this time, or earlier.
    pub(super) fn end_within(&mut self, limit: Duration) {
        let deadline = self.clock.monotonic().saturating_add(limit);
        self.deadline = self.deadline.min(deadline);
        self.timer = None;
    }

    /// Whether its time is over, and not just the silence too long.
    pub(super) fn is_over(&self) -> bool {
        self.deadline <= self.clock.monotonic()
    }

    /// Waits for the next of them. May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> End {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for (slot, end) in [
            (&mut self.stopped, End::Stopped),
            (&mut self.contained, End::Contained),
            (&mut self.gone, End::Gone),
        ] {
            if happened(slot, cx) {
                return Poll::Ready(end);
            }
        }
        loop {
            if self.timer.is_none() {
                let now = self.clock.monotonic();
                let due = self.deadline.min(self.last.saturating_add(self.silence));
                if due <= now {
                    return Poll::Ready(End::TimedOut);
                }
                let (clock, wait) = (Arc::clone(&self.clock), due - now);
                self.timer = Some(async move { clock.sleep(wait).await }.boxed());
            }
            // When it rings, something may have happened since it was set: then it is set again.
            if !happened(&mut self.timer, cx) {
                return Poll::Pending;
            }
        }
    }
}

/// Whether it has happened, which is said once.
fn happened(slot: &mut Option<BoxFuture<'static, ()>>, cx: &mut Context<'_>) -> bool {
    let ready = slot.as_mut().is_some_and(|future| Pin::new(future).poll(cx).is_ready());
    if ready {
        *slot = None;
    }
    ready
}

async fn contained(mut statuses: watch::Receiver<Arc<AgentStatuses>>, agent: AgentId) {
    let is_contained = |status| matches!(status, AgentStatus::Contained | AgentStatus::Restoring);
    let ended = statuses
        .wait_for(|statuses| is_contained(statuses.of(&agent)))
        .await
        .is_err();
    if ended {
        // Nobody tells any more: the ledger has ended, and the daemon with it.
        std::future::pending::<()>().await;
    }
}
