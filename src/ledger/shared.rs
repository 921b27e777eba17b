//! What the handle, the committer and the housekeeper share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::agents::Agents;
use super::budgets::Budgets;
use super::open_holds::OpenHolds;
use super::places::{Place, Places};
use super::requests::{AdmitRejection, AdmitRequest, AdmittedHold, Unavailable};
use super::settings::LedgerSettings;
use super::suspects::Tries;
use crate::domain::clock::{ClockGuard, Reading};
use crate::domain::id::{EpochId, HoldId};
use crate::domain::ledger::batch::{Op, Outcome};
use crate::domain::ledger::line::LineSpec;
use crate::ports::{Clock, Entropy, Notice, NoticeKind, Notifier, Store};

/// How many commands may lie between the callers and the committer.
pub(super) const CHANNEL: usize = 1_024;

pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) notifier: Arc<dyn Notifier>,
    pub(super) settings: LedgerSettings,
    pub(super) epoch: EpochId,
    pub(super) budgets: Budgets,
    pub(super) guard: Mutex<ClockGuard>,
    pub(super) open: Mutex<OpenHolds>,
    pub(super) places: Arc<Places>,
    pub(super) triggers: Arc<Notify>,
    pub(super) later: Arc<Later>,
    pub(super) agents: Agents,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) gauges: Gauges,
}

#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) store_down: AtomicBool,
    /// People were told of it, and no commit has succeeded since.
    pub(super) told_down: AtomicBool,
    pub(super) draining: AtomicBool,
    pub(super) waiters: AtomicUsize,
    pub(super) queued: AtomicUsize,
    pub(super) commits: AtomicU64,
}

impl Shared {
    /// What the clocks say now.
    pub(super) fn read_clock(&self) -> Reading {
        lock(&self.guard).observe(self.clock.now(), self.clock.monotonic())
    }

    pub(super) fn stopping(&self) -> Unavailable {
        Unavailable::Stopping {
            retry_after: self.settings.retry_after(),
        }
    }

    pub(super) fn store_down(&self) -> Unavailable {
        Unavailable::StoreDown {
            retry_after: self.settings.retry_after(),
        }
    }

    pub(super) fn clock_jumped(&self) -> Unavailable {
        Unavailable::ClockJumped {
            retry_after: self.settings.retry_after(),
        }
    }

    pub(super) fn overloaded(&self) -> Unavailable {
        Unavailable::Overloaded {
            retry_after: self.settings.retry_after(),
        }
    }

    /// A budget's window has no instance at that time: nobody may take it for *no budget* (L7).
    pub(super) fn calendar(&self) -> Unavailable {
        Unavailable::Calendar {
            retry_after: self.settings.retry_after(),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.gauges.store_down.load(Ordering::Relaxed)
    }

    /// Tells people, as of the ledger's time.
    pub(super) fn tell(&self, kind: NoticeKind, text: impl Into<String>) {
        self.notifier.notify(Notice {
            kind,
            agent: None,
            text: text.into(),
            at: self.read_clock().ledger_now,
        });
    }

    /// Hands operations over and waits for their outcomes.
    pub(super) async fn job(&self, ops: Vec<Op>, kept: bool) -> Result<Vec<Outcome>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Job(Job {
            ops,
            kept,
            since: self.clock.monotonic(),
            tries: Tries::default(),
            before: Vec::new(),
            reply: Some(reply),
        }))
        .await?;
        answer.await.map_err(|_| self.stopping())?
    }

    /// Hands a command to the committer; waits a bounded time when it has too much to do.
    pub(super) async fn send(&self, command: Command) -> Result<(), Unavailable> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.stopping()),
            Err(mpsc::error::TrySendError::Full(command)) => tokio::select! {
                biased;
                sent = self.commands.send(command) => sent.map_err(|_| self.stopping()),
                () = self.clock.sleep(self.settings.commit_wait) => Err(self.overloaded()),
            },
        }
    }
}

/// A lock that outlives a panic of its holder: what it guards is changed in one step each.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) enum Command {
    Admit(Box<Waiting>),
    Job(Job),
}

/// A hold on its way in, and who waits for it.
pub(super) struct Waiting {
    pub(super) hold: HoldId,
    pub(super) request: AdmitRequest,
    pub(super) specs: Vec<LineSpec>,
    /// Under which budgets, and until when, `specs` are right.
    pub(super) generation: u64,
    pub(super) lines_until: Option<jiff::Timestamp>,
    pub(super) since: Duration,
    pub(super) expires_at: jiff::Timestamp,
    /// Gone when the caller was answered while the store still had the batch.
    pub(super) reply: Option<oneshot::Sender<Result<Grant, AdmitRejection>>>,
    /// Its agent's place, while it waits.
    pub(super) place: Option<Place>,
}

impl Waiting {
    /// Puts other lines in, and until when they are right: the first end of a window among them.
    pub(super) fn set_lines(&mut self, specs: Vec<LineSpec>, generation: u64) {
        self.lines_until = specs.iter().filter_map(|spec| spec.key.window.end).min();
        self.generation = generation;
        self.specs = specs;
    }

    /// Whether nobody waits for the answer any more.
    pub(super) fn is_gone(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    pub(super) fn reject(mut self, rejection: AdmitRejection) {
        self.answer(Err(rejection));
    }

    /// Answers the caller once. A grant that finds nobody becomes an orphan by being dropped.
    pub(super) fn answer(&mut self, answer: Result<Grant, AdmitRejection>) {
        if let Some(reply) = self.reply.take() {
            drop(reply.send(answer));
        }
    }
}

/// Operations that go into one batch together, and who waits for their outcomes.
pub(super) struct Job {
    pub(super) ops: Vec<Op>,
    /// Must not be lost: it is tried again after a failure, though its caller was told.
    pub(super) kept: bool,
    pub(super) since: Duration,
    pub(super) tries: Tries,
    /// Outcomes of earlier parts of it, which come first in the answer.
    pub(super) before: Vec<Outcome>,
    pub(super) reply: Option<oneshot::Sender<Result<Vec<Outcome>, Unavailable>>>,
}

impl Job {
    /// One that must not be lost, and that nobody waits for.
    pub(super) fn kept(ops: Vec<Op>, since: Duration) -> Self {
        Self {
            ops,
            kept: true,
            since,
            tries: Tries::default(),
            before: Vec::new(),
            reply: None,
        }
    }

    pub(super) fn answer(&mut self, answer: Result<Vec<Outcome>, Unavailable>) {
        if let Some(reply) = self.reply.take() {
            let mut before = std::mem::take(&mut self.before);
            drop(reply.send(answer.map(|outcomes| {
                if before.is_empty() {
                    return outcomes;
                }
                before.extend(outcomes);
                before
            })));
        }
    }

    /// For how many operations it counts in a batch.
    pub(super) fn weight(&self) -> usize {
        self.ops.iter().map(Op::weight).sum()
    }

    /// Whether the end of a hold is among its operations.
    pub(super) fn ends_hold(&self) -> bool {
        let ends = |op: &Op| matches!(op, Op::Capture(_) | Op::Void { .. } | Op::Expire { .. });
        self.ops.iter().any(ends)
    }

    /// Whether it writes rules into lines: up to a page of them for each.
    pub(super) fn writes_rules(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::SetRule { .. }))
    }
}

/// Ends of holds that nobody waits for, handed over without waiting either. Each of them is written like
/// one that somebody waits for. There is at most one for an open hold, so the number of those bounds it.
#[derive(Debug, Default)]
pub(super) struct Later {
    ops: Mutex<Vec<Op>>,
    pub(super) arrived: Notify,
}

impl Later {
    pub(super) fn push(&self, op: Op) {
        lock(&self.ops).push(op);
        self.arrived.notify_one();
    }

    /// A hold that was admitted for a caller who went away. No byte went upstream for it, since its caller
    /// never learned of it; so it cost nothing, and is voided (L3).
    pub(super) fn orphan(&self, hold: HoldId) {
        metrics::counter!("backstop_ledger_orphans_total").increment(1);
        self.push(Op::Void { hold });
    }

    pub(super) fn take(&self) -> Vec<Op> {
        std::mem::take(&mut *lock(&self.ops))
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.ops).is_empty()
    }
}

/// An admitted hold on its way to its caller. Dropped on the way, it is an orphan: so a caller that
/// goes away between the commit and the answer leaves nothing behind.
pub(super) struct Grant {
    hold: Option<AdmittedHold>,
    later: Arc<Later>,
}

impl Grant {
    pub(super) fn new(hold: AdmittedHold, later: &Arc<Later>) -> Self {
        Self {
            hold: Some(hold),
            later: Arc::clone(later),
        }
    }

    /// The caller has it.
    pub(super) fn take(mut self) -> Option<AdmittedHold> {
        self.hold.take()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(hold) = &self.hold {
            self.later.orphan(hold.id);
        }
    }
}
