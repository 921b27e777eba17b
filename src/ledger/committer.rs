//! The group commit: one actor that takes what has gathered while the last commit was syncing.
//!
//! There is one commit in flight, with one number. What becomes of it decides what happens next:
//! - done: every caller gets its outcome;
//! - *unknown*: the same batch is sent again under the same number until it is known, with a bounded
//!   back-off. Nothing else is committed before, since what it did decides what fits. Callers are told
//!   after `commit_wait` that the store is down; the batch goes on, because what it carries (captures,
//!   reports) must not be lost, and a hold that it admits for a caller who was told *no* is voided;
//! - *failed*: nothing of it was written by that try. Holds and reports are answered (L5: not acknowledged,
//!   D4: no new spend), ends of holds are tried again, for as long as it takes. An earlier try whose outcome
//!   was unknown may land after it, until the next batch is written; so its holds, which have no caller
//!   now, are voided by that one. A store that is below its reserve refuses holds only, so for a while
//!   holds go in batches of their own, and what is in flight stays accounted. A job that fails again and
//!   again goes for itself ([`suspects`](super::suspects));
//! - *closed*: somebody declared this epoch dead. Its writes are dropped, so the process must end.
//!
//! A number is used for one content only: after a failure the next batch has the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::in_flight::InFlight;
use super::mirror::Mirror;
use super::shared::{Command, Job, Shared, Waiting, lock};
use super::suspects::Suspects;
use crate::domain::ledger::batch::{Op, Outcome};
use crate::domain::ledger::waitlist::WaitList;
use crate::ports::{NoticeKind, StoreError};

/// Rules in one batch at most: each may load and write a page of lines.
pub(super) const RULES_AT_ONCE: usize = 16;
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MOST: Duration = Duration::from_secs(2);
/// How long a failure is held against the store.
const RECOVERS_AFTER: Duration = Duration::from_secs(10);
/// Failures in a row after which a daemon whose drain is over gives up what is left.
const LAST_TRIES: u32 = 5;
/// How long the end of a hold that nobody waits for waits for company. A commit costs the same for one as for
/// many, and one that begins for an end alone keeps the next hold waiting until it is over: at a few thousand
/// calls a second that is most of what a hold waits for. Somebody who waits for room is company.
const LINGER: Duration = Duration::from_millis(5);
/// How often the actor looks around when nothing wakes it.
const BEAT: Duration = Duration::from_secs(1);

/// Why the ledger cannot go on. The process must end.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error("the ledger cannot go on")]
    Store(#[source] StoreError),
    #[error("the store answered {answered} outcomes for {sent} operations")]
    Outcomes { sent: usize, answered: usize },
    #[error("the daemon stopped while the outcome of a commit was unknown")]
    Unknown,
    #[error("the daemon stopped while the store took nothing; {operations} operations were not written")]
    Unwritten { operations: usize },
}

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    pub(super) queue: VecDeque<Job>,
    /// Operations in `queue`.
    pub(super) queued: usize,
    pub(super) suspects: Suspects,
    /// Since when ends of holds wait for company.
    lingering: Option<Duration>,
    /// Batches that were written.
    pub(super) written: u64,
    pub(super) waits: WaitList<Box<Waiting>>,
    pub(super) mirror: Mirror,
    /// The number of the last batch.
    pub(super) seq: i64,
    /// Under which budgets the waiters were reckoned last.
    pub(super) generation: u64,
    /// When the mirror was refreshed last.
    pub(super) refreshed: Duration,
    pub(super) draining_since: Option<Duration>,
    /// Failed batches in a row, and when the last one was.
    failures: u32,
    failed_at: Option<Duration>,
    /// Holds and the rest go in batches of their own; whether it is the holds' turn.
    pub(super) apart: Option<bool>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Self {
        let rules = shared.budgets.rule_ops();
        let mut this = Self {
            commands,
            queue: VecDeque::new(),
            queued: 0,
            suspects: Suspects::default(),
            lingering: None,
            written: 0,
            waits: WaitList::new(shared.settings.wait_rules()),
            mirror: Mirror::default(),
            seq: 0,
            generation: shared.budgets.generation(),
            refreshed: shared.clock.monotonic(),
            draining_since: None,
            failures: 0,
            failed_at: None,
            apart: None,
            shared,
        };
        // The rules in force are the first thing that is written.
        for rules in rules.chunks(RULES_AT_ONCE) {
            this.enqueue_kept(rules.to_vec());
        }
        this
    }

    /// Runs until the daemon has drained or cannot go on. Whoever still waits then is told.
    pub(super) async fn run(mut self, drain: &CancellationToken) -> Result<(), Fatal> {
        loop {
            self.note_drain(drain);
            self.receive();
            self.recover();
            let reading = self.tend();
            if self.is_refresh_due() {
                self.refresh(reading.ledger_now).await;
            }
            match self.compose(reading.ledger_now) {
                Some(flight) => self.commit(flight, drain).await?,
                None if self.is_drained() => return Ok(()),
                None => self.idle(drain).await,
            }
        }
    }

    /// Waits for something to do.
    async fn idle(&mut self, drain: &CancellationToken) {
        let now = self.shared.clock.monotonic();
        let lingered = self.lingering.map(|since| since.saturating_add(LINGER));
        let wakes = [self.waits.next_deadline(), self.suspects.due(), lingered];
        let next = wakes.into_iter().flatten().min();
        let next = next.map_or(BEAT, |at| at.saturating_sub(now).min(BEAT));
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            command = self.commands.recv() => {
                if let Some(command) = command {
                    self.accept(command);
                }
            }
            () = shared.later.arrived.notified() => {}
            () = drain.cancelled(), if self.draining_since.is_none() => {}
            () = shared.clock.sleep(next) => {}
        }
    }

    /// Takes what has gathered.
    fn receive(&mut self) {
        while self.queued + self.suspects.weight() < self.shared.settings.max_queue {
            let Ok(command) = self.commands.try_recv() else { break };
            self.accept(command);
        }
        if self.takes_later() {
            // Each for itself: one that cannot be written harms no other, and holds keep their part of a batch.
            for op in self.shared.later.take() {
                self.enqueue_kept(vec![op]);
            }
        }
    }

    /// Whether ends of holds go with the next batch.
    fn takes_later(&mut self) -> bool {
        if self.shared.later.is_empty() {
            self.lingering = None;
            return false;
        }
        let now = self.shared.clock.monotonic();
        let since = *self.lingering.get_or_insert(now);
        let are_alone = self.queue.is_empty() && self.waits.is_empty() && self.draining_since.is_none();
        let go = !are_alone || now.saturating_sub(since) >= LINGER;
        if go {
            self.lingering = None;
        }
        go
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::Job(job) => self.take_job(job),
            Command::Admit(waiting) => self.arrive(waiting),
        }
    }

    /// What a suspect is to do already is not done a second time: whoever asks again is told what its first
    /// caller was.
    fn take_job(&mut self, mut job: Job) {
        if job.kept && job.ops.iter().any(|op| self.suspects.has(op)) {
            job.answer(Err(self.shared.store_down()));
            job.ops.retain(|op| !self.suspects.has(op));
            if job.ops.is_empty() {
                return;
            }
        }
        self.enqueue(job);
    }

    pub(super) fn enqueue(&mut self, job: Job) {
        self.queued += job.weight();
        self.queue.push_back(job);
    }

    /// Puts operations of the ledger's own into the queue.
    fn enqueue_kept(&mut self, ops: Vec<Op>) {
        for chunk in ops.chunks(self.shared.settings.batch()) {
            self.enqueue(Job::kept(chunk.to_vec(), self.shared.clock.monotonic()));
        }
    }

    /// Sends one batch until it is known what became of it.
    async fn commit(&mut self, mut flight: InFlight, drain: &CancellationToken) -> Result<(), Fatal> {
        let started = self.shared.clock.monotonic();
        let sent = flight.batch.ops.len();
        let mut unknown = 0;
        loop {
            match self.attempt(&mut flight, started, drain).await {
                Ok(outcomes) if outcomes.len() == sent => {
                    let took = self.shared.clock.monotonic().saturating_sub(started);
                    metrics::histogram!("backstop_ledger_commit_seconds").record(took.as_secs_f64());
                    metrics::histogram!("backstop_ledger_batch_operations").record(as_f64(sent));
                    self.shared.gauges.commits.fetch_add(1, Ordering::Relaxed);
                    self.written += 1;
                    if flight.is_of_suspects() {
                        self.suspects.written(flight.jobs());
                    }
                    if self.apart.is_none() || flight.has_holds() {
                        self.failures = 0;
                        self.failed_at = None;
                        self.apart = None;
                        self.set_down(false);
                        self.shared.gauges.told_down.store(false, Ordering::Relaxed);
                    }
                    self.settle(flight, &outcomes);
                    return Ok(());
                }
                Ok(outcomes) => {
                    return Err(Fatal::Outcomes {
                        sent,
                        answered: outcomes.len(),
                    });
                }
                Err(error @ (StoreError::EpochClosed(_) | StoreError::StaleBatch { .. })) => {
                    return Err(Fatal::Store(error));
                }
                Err(error @ StoreError::UnknownCommit { .. }) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        seq = flight.batch.seq,
                        "the outcome of a commit is unknown; it is sent again"
                    );
                    unknown += 1;
                    self.pause(back_off(unknown), Some((&mut flight, started)), drain).await;
                    if self.is_drain_over() {
                        return Err(Fatal::Unknown);
                    }
                }
                Err(error) => return self.give_back(flight, &error, unknown > 0, drain).await,
            }
        }
    }

    /// The last try of a batch failed. `may_land`: an earlier one may be written yet.
    async fn give_back(
        &mut self,
        flight: InFlight,
        error: &StoreError,
        may_land: bool,
        drain: &CancellationToken,
    ) -> Result<(), Fatal> {
        let now = self.shared.clock.monotonic();
        if flight.is_of_suspects() {
            tracing::error!(
                error = error as &dyn std::error::Error,
                seq = flight.batch.seq,
                "operations that failed before failed again; they are tried for themselves"
            );
            // It says nothing of the store, which is judged by what else it takes.
            if self.shared.is_down() && self.failed_at.is_none() {
                self.failed_at = Some(now);
            }
            self.failed(flight, error, may_land);
            self.suspects.failed(now);
        } else {
            tracing::error!(
                error = error as &dyn std::error::Error,
                seq = flight.batch.seq,
                "a commit failed; new holds are refused until one succeeds"
            );
            self.set_down(true);
            self.failed_at = Some(now);
            let may_take_others = flight.is_refused_for_holds(error);
            self.failed(flight, error, may_land);
            if !may_take_others {
                self.failures = self.failures.saturating_add(1);
                self.pause(back_off(self.failures), None, drain).await;
            }
        }
        let operations = self.queued + self.suspects.weight();
        let is_hopeless = self.failures.saturating_add(self.suspects.failures()) >= LAST_TRIES;
        if operations > 0 && is_hopeless && self.is_drain_over() {
            return Err(Fatal::Unwritten { operations });
        }
        Ok(())
    }

    /// One try, within its time limit. A try that takes longer has an unknown outcome.
    async fn attempt(
        &mut self,
        flight: &mut InFlight,
        started: Duration,
        drain: &CancellationToken,
    ) -> Result<Vec<Outcome>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let batch = Arc::clone(&flight.batch);
        let mut commit = shared.store.commit(&batch, &shared.settings.rules);
        let mut limit = shared.clock.sleep(shared.settings.commit_limit);
        loop {
            tokio::select! {
                biased;
                result = &mut commit => return result,
                () = &mut limit => {
                    return Err(StoreError::UnknownCommit { context: "no answer within the time limit", source: None });
                }
                () = shared.clock.sleep(BEAT) => self.look_around(Some((&mut *flight, started)), drain),
            }
        }
    }

    /// Waits before the next try, and answers meanwhile whoever waits too long.
    async fn pause(
        &mut self,
        time: Duration,
        mut flight: Option<(&mut InFlight, Duration)>,
        drain: &CancellationToken,
    ) {
        let shared = Arc::clone(&self.shared);
        let until = shared.clock.monotonic().saturating_add(time);
        loop {
            let left = until.saturating_sub(shared.clock.monotonic());
            if left.is_zero() {
                return;
            }
            shared.clock.sleep(left.min(BEAT)).await;
            self.look_around(
                flight.as_mut().map(|(flight, started)| (&mut **flight, *started)),
                drain,
            );
        }
    }

    fn look_around(&mut self, flight: Option<(&mut InFlight, Duration)>, drain: &CancellationToken) {
        self.note_drain(drain);
        if let Some((flight, started)) = flight {
            let waited = self.shared.clock.monotonic().saturating_sub(started);
            if waited >= self.shared.settings.commit_wait {
                self.set_down(true);
                self.give_up_answers(flight);
            }
        }
        self.receive();
        self.tend();
    }

    /// A store that failed and was not asked since may be well again: a daemon that says it is down gets
    /// no calls, and would never find out.
    fn recover(&mut self) {
        let now = self.shared.clock.monotonic();
        if self
            .failed_at
            .is_some_and(|at| now.saturating_sub(at) >= RECOVERS_AFTER)
        {
            self.failed_at = None;
            self.apart = None;
            self.set_down(false);
        }
    }

    /// One outage is told once: a store that is thought well again only because it was not asked for a
    /// while has not come back.
    pub(super) fn set_down(&self, down: bool) {
        if down && !self.shared.gauges.told_down.swap(true, Ordering::Relaxed) {
            self.shared.tell(
                NoticeKind::StoreDown,
                "the ledger cannot be written: no new spend is admitted until it can, and what is in flight waits",
            );
        }
        if self.shared.gauges.store_down.swap(down, Ordering::Relaxed) != down {
            tracing::warn!(down, "the store changed its state");
        }
        metrics::gauge!("backstop_ledger_store_down").set(f64::from(u8::from(down)));
    }

    fn note_drain(&mut self, drain: &CancellationToken) {
        if drain.is_cancelled() && self.draining_since.is_none() {
            self.draining_since = Some(self.shared.clock.monotonic());
            self.shared.gauges.draining.store(true, Ordering::Relaxed);
        }
    }

    fn is_drain_over(&self) -> bool {
        let now = self.shared.clock.monotonic();
        let patience = self.shared.settings.drain_wait;
        self.draining_since
            .is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// Nothing is left to write, and every open hold has ended or was waited for long enough.
    fn is_drained(&self) -> bool {
        self.draining_since.is_some()
            && self.queue.is_empty()
            && self.suspects.is_empty()
            && (lock(&self.shared.open).is_empty() || self.is_drain_over())
    }
}

pub(super) fn back_off(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    BACK_OFF_FIRST.saturating_mul(factor).min(BACK_OFF_MOST)
}

/// For metrics, which know floats only.
pub(super) fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_and_is_bounded() {
        let waits: Vec<Duration> = (1..=8).map(back_off).collect();
        assert!(waits.is_sorted() && waits[0] == BACK_OFF_FIRST && waits[7] == BACK_OFF_MOST);
        assert_eq!(back_off(u32::MAX), BACK_OFF_MOST);
    }
}
