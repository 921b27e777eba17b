//! A batch on its way: how it is put together, and what follows from its outcomes.
//!
//! Order within a batch: ends of holds and reports first, because they decide what fits, then the
//! holds that the wait list chose, in its order. A part of every batch is kept for holds, so that a
//! flood of reports cannot shut them out.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::committer::Committer;
use super::open_holds::OpenHold;
use super::requests::{AdmitRejection, AdmittedHold, Unavailable};
use super::shared::{Grant, Job, Waiting, lock};
use super::suspects::Tries;
use crate::domain::agent::AgentStatus;
use crate::domain::id::HoldId;
use crate::domain::ledger::batch::{Admit, Batch, LedgerRejection, Op, Outcome, Refusal, Report};
use crate::domain::ledger::posting::Trust;
use crate::domain::ledger::waitlist::{Pick, Ticket};
use crate::domain::money::Usd;
use crate::ports::StoreError;

/// Places in a batch that are kept for holds while any wait: a quarter, and this many at most.
const KEPT_FOR_HOLDS: usize = 128;
pub(super) struct InFlight {
    pub(super) batch: Arc<Batch>,
    jobs: Vec<(Job, Range<usize>)>,
    /// The waiters, whose operations follow those of the jobs.
    tickets: Vec<Ticket>,
    of_suspects: bool,
}

impl InFlight {
    pub(super) fn is_of_suspects(&self) -> bool {
        self.of_suspects
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn has_holds(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Whether it may have been the holds alone that the store has no room for.
    pub(super) fn is_refused_for_holds(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::Full { .. }) && self.has_holds()
    }
}

impl Committer {
    /// Puts the next batch together; `None` when there is nothing to do now.
    pub(super) fn compose(&mut self, now: Timestamp) -> Option<InFlight> {
        let time = self.shared.clock.monotonic();
        if self.suspects.are_first(time) {
            return Some(self.compose_suspects(now));
        }
        let others = self.compose_others(now);
        if others.is_some() {
            self.suspects.let_pass();
            return others;
        }
        self.suspects.are_due(time).then(|| self.compose_suspects(now))
    }

    fn compose_suspects(&mut self, now: Timestamp) -> InFlight {
        let mut ops = Vec::new();
        let mut jobs = Vec::new();
        for mut job in self.suspects.take(self.shared.settings.batch()) {
            self.renew_rules(&mut job);
            let start = ops.len();
            ops.append(&mut job.ops);
            jobs.push((job, start..ops.len()));
        }
        InFlight {
            of_suspects: true,
            ..self.numbered(now, ops, jobs, Vec::new())
        }
    }

    fn numbered(
        &mut self,
        now: Timestamp,
        ops: Vec<Op>,
        jobs: Vec<(Job, Range<usize>)>,
        tickets: Vec<Ticket>,
    ) -> InFlight {
        self.seq += 1;
        let batch = Arc::new(Batch {
            epoch: self.shared.epoch,
            seq: self.seq,
            now,
            ops,
        });
        InFlight {
            batch,
            jobs,
            tickets,
            of_suspects: false,
        }
    }

    fn compose_others(&mut self, now: Timestamp) -> Option<InFlight> {
        let most = self.shared.settings.batch();
        let holds_now = self.takes_holds();
        let kept = if self.waits.is_empty() {
            0
        } else {
            KEPT_FOR_HOLDS.min(most / 4)
        };
        let mut ops = Vec::new();
        let mut weight = 0;
        let mut jobs = Vec::new();
        let mut rules = false;
        while let Some(next) = self.queue.front().filter(|_| holds_now != Some(true)) {
            let fits = weight + next.weight() <= most - kept;
            let more_rules = rules && next.writes_rules();
            if more_rules || !(fits || ops.is_empty()) {
                break;
            }
            let Some(mut job) = self.queue.pop_front() else { break };
            rules |= job.writes_rules();
            self.renew_rules(&mut job);
            let start = ops.len();
            weight += job.weight();
            self.queued = self.queued.saturating_sub(job.weight());
            ops.append(&mut job.ops);
            jobs.push((job, start..ops.len()));
        }
        let mut tickets = Vec::new();
        if holds_now != Some(false) {
            let left = most.saturating_sub(weight);
            let picks = self.waits.scan(self.shared.clock.monotonic(), &self.mirror, left);
            for Pick { ticket, blocks } in picks {
                let ttl = self.shared.settings.hold_ttl;
                if let Some(waiting) = self.waits.get_mut(ticket) {
                    ops.push(Op::Admit(waiting.write_op(now, ttl, blocks)));
                    tickets.push(ticket);
                }
            }
        }
        if ops.is_empty() {
            // Nobody could use the holds' turn: it is the others'.
            let passes = holds_now == Some(true) && !self.queue.is_empty();
            return passes.then(|| self.compose_others(now)).flatten();
        }
        Some(self.numbered(now, ops, jobs, tickets))
    }

    /// While holds go apart: whether this batch is theirs. Both sides take turns.
    fn takes_holds(&mut self) -> Option<bool> {
        let turn = self.apart?;
        let holds = match (self.waits.is_empty(), self.queue.is_empty()) {
            (true, _) => false,
            (_, true) => true,
            _ => turn,
        };
        self.apart = Some(!holds);
        Some(holds)
    }

    /// The batch is durable: what follows from it, in order.
    pub(super) fn settle(&mut self, flight: InFlight, outcomes: &[Outcome]) {
        let mut may_trigger = false;
        for (op, outcome) in flight.batch.ops.iter().zip(outcomes) {
            self.follow(op, outcome);
            may_trigger |= matches!(
                outcome,
                Outcome::Posted { .. }
                    | Outcome::Ended { posting: Some(_), .. }
                    | Outcome::Refused(Refusal::Budget { .. })
                    | Outcome::Applied { .. }
                    | Outcome::Together(_)
            );
        }
        let admits = outcomes.len() - flight.tickets.len();
        for (job, range) in flight.jobs {
            self.answered(job, &flight.batch.ops[range.clone()], &outcomes[range]);
        }
        for (ticket, outcome) in flight.tickets.into_iter().zip(&outcomes[admits..]) {
            self.settle_admit(ticket, outcome);
        }
        self.waits.end_round();
        if may_trigger {
            self.shared.triggers.notify_one();
        }
    }

    /// Answers a job, or sends the rest of it on its way: rules that have more lines to be written into.
    /// The rest is kept like the first part, whether or not anybody waits; lost in a crash, it is made good
    /// at the start, which writes every rule.
    fn answered(&mut self, mut job: Job, ops: &[Op], outcomes: &[Outcome]) {
        let rest: Vec<Op> = ops.iter().zip(outcomes).filter_map(rest_of).collect();
        if rest.is_empty() {
            return job.answer(Ok(outcomes.to_vec()));
        }
        job.before.extend(outcomes.iter().cloned());
        job.ops = rest;
        job.tries = Tries::default();
        job.since = self.shared.clock.monotonic();
        self.enqueue(job);
    }

    /// What is written is the rule that is in force when it is written: an older one that was tried again,
    /// or whose lines were not all reached yet, must not come after a newer one.
    fn renew_rules(&self, job: &mut Job) {
        for op in &mut job.ops {
            if let Op::SetRule { budget, rule, .. } = op
                && let Some(current) = self.shared.budgets.rule(budget)
            {
                *rule = current;
            }
        }
    }

    /// What an operation changed on the lines and among the open holds.
    fn follow(&mut self, op: &Op, outcome: &Outcome) {
        match (op, outcome) {
            (Op::Capture(capture), outcome) => self.hold_ended(capture.hold, Some(capture.cost), outcome),
            (Op::Void { hold }, outcome) => self.hold_ended(*hold, Some(Usd::ZERO), outcome),
            (Op::Expire { hold, .. }, outcome) => self.hold_ended(*hold, None, outcome),
            (Op::Report(report), outcome) => self.reported(report, outcome),
            (Op::ReportAll { reports, .. }, Outcome::Together(outcomes)) => {
                for (report, outcome) in reports.iter().zip(outcomes) {
                    self.reported(report, outcome);
                }
            }
            (Op::Resolve(_), Outcome::Ended { .. }) => self.mirror.forget_refusals(),
            (Op::SetRule { budget, .. }, _) => self.mirror.forget_budget(budget),
            (Op::Override { line, .. } | Op::Rearm { line }, _) => self.mirror.forget(line),
            _ => {}
        }
    }

    fn reported(&mut self, report: &Report, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Posted { .. }) {
            return;
        }
        for spec in &report.lines {
            if let Some(line) = self.mirror.find(&spec.key) {
                self.mirror.posted(line, report.amount);
            }
        }
        if report.trust > Trust::Agent {
            // It may have taken a claim back, and made room on whatever lines that stood.
            self.mirror.forget_refusals();
        }
    }

    /// `cost`: `None` for the bound.
    fn hold_ended(&mut self, hold: HoldId, cost: Option<Usd>, outcome: &Outcome) {
        let is_over = match outcome {
            Outcome::Ended { .. } | Outcome::Unchanged { .. } => true,
            Outcome::Rejected(rejection) => {
                matches!(
                    rejection,
                    LedgerRejection::AlreadyEnded(_) | LedgerRejection::UnknownHold
                )
            }
            _ => false,
        };
        if !is_over {
            return;
        }
        let ended = lock(&self.shared.open).remove(hold);
        match (ended, outcome) {
            (Some(open), Outcome::Ended { .. }) => {
                self.mirror.ended(&open.lines, open.bound, cost.unwrap_or(open.bound));
            }
            // It ended in a way that this process did not see.
            (Some(open), _) => {
                for line in open.lines {
                    if let Some(key) = self.mirror.key(line).cloned() {
                        self.mirror.forget(&key);
                    }
                }
            }
            // A correction of a hold that was no longer open.
            (None, _) => self.mirror.forget_refusals(),
        }
    }

    fn settle_admit(&mut self, ticket: Ticket, outcome: &Outcome) {
        match outcome {
            // Also of a batch that was repeated, with what was granted the first time.
            Outcome::Admitted { bound, remaining } => self.admitted(ticket, *bound, *remaining),
            Outcome::Wait { bound, short } => {
                let mut lines = Vec::with_capacity(short.len());
                for read in short {
                    let line = self.mirror.number(&read.line);
                    self.mirror.short(line, *bound, read.limit, read.posted, read.held);
                    lines.push(line);
                }
                if lines.is_empty() {
                    // It must be one of them: else it would be sent again at once, for ever.
                    lines = self.waits.lines(ticket).to_vec();
                    for &line in &lines {
                        self.mirror.choke(line, *bound);
                    }
                }
                self.waits.put_back(ticket, &lines);
            }
            Outcome::Refused(refusal) => {
                metrics::counter!("backstop_ledger_refused_total", "kind" => kind(refusal)).increment(1);
                if let Refusal::Budget {
                    line,
                    limit,
                    posted,
                    held,
                } = refusal
                    && !self.waits.get(ticket).is_some_and(|waiting| waiting.request.tentative)
                {
                    // A tentative one has breached nothing, so it answers for no other: whoever means it is
                    // to be judged by the store.
                    let now = self.shared.clock.monotonic();
                    self.mirror.refused(line, *limit, *posted, *held, now);
                }
                self.hear(ticket, refusal);
                self.reject(ticket, AdmitRejection::Refused(refusal.clone()));
            }
            Outcome::Rejected(rejection) => self.reject(ticket, AdmitRejection::Invalid(rejection.clone())),
            Outcome::Unchanged { .. }
            | Outcome::Ended { .. }
            | Outcome::Posted { .. }
            | Outcome::Together(_)
            | Outcome::Checked { .. }
            | Outcome::Applied { .. } => {
                tracing::error!(?outcome, "the store gave a hold an outcome that is none");
                // Should it be there all the same, its caller never learns of it.
                if let Some(waiting) = self.waits.get(ticket) {
                    self.shared.later.orphan(waiting.hold);
                }
                self.reject(ticket, self.shared.store_down().into());
            }
        }
    }

    /// What a refusal says of its agent is known before the caller has it: else whoever waits for the agent
    /// to be resumed could find it active still, and ask again at once.
    fn hear(&self, ticket: Ticket, refusal: &Refusal) {
        let status = match refusal {
            Refusal::AgentPaused => AgentStatus::Paused,
            Refusal::AgentContained => AgentStatus::Contained,
            Refusal::NoBudget | Refusal::Budget { .. } => return,
        };
        if let Some(waiting) = self.waits.get(ticket) {
            self.shared.agents.hear(&waiting.request.attribution.agent, status);
        }
    }

    fn admitted(&mut self, ticket: Ticket, bound: Usd, remaining: Usd) {
        let lines = self.waits.lines(ticket).to_vec();
        let Some(mut waiting) = self.waits.admitted(ticket) else {
            return;
        };
        self.mirror.held(&lines, bound);
        let hold = AdmittedHold {
            id: waiting.hold,
            bound,
            remaining,
            expires_at: waiting.expires_at,
            lines: waiting.specs.iter().map(|spec| spec.key.clone()).collect(),
        };
        lock(&self.shared.open).insert(
            waiting.hold,
            OpenHold {
                agent: waiting.request.attribution.agent.clone(),
                bound,
                lines,
                expires_at: waiting.expires_at,
            },
        );
        let grant = Grant::new(hold, &self.shared.later);
        // Whoever was told meanwhile that the store is down is gone: the grant drops into the orphans.
        waiting.answer(Ok(grant));
    }

    fn reject(&mut self, ticket: Ticket, why: AdmitRejection) {
        if let Some(waiting) = self.waits.remove(ticket) {
            waiting.reject(why);
        }
    }

    /// The batch was not written. Holds and reports are answered; what must not be lost goes back.
    /// `may_land`: an earlier try of it may be written yet, though its callers are told *no*.
    pub(super) fn failed(&mut self, flight: InFlight, error: &StoreError, may_land: bool) {
        let retry_after = self.shared.settings.retry_after();
        let why = match error {
            StoreError::Full { .. } => Unavailable::StoreFull { retry_after },
            _ => Unavailable::StoreDown { retry_after },
        };
        // A store below its reserve takes everything but holds: the rest gets another chance without.
        let blames_holds = flight.is_refused_for_holds(error);
        if blames_holds {
            self.apart = Some(false);
        }
        for ticket in flight.tickets {
            if let Some(waiting) = self.waits.get(ticket).filter(|_| may_land) {
                // A void of a hold that never came to be changes nothing.
                self.shared.later.orphan(waiting.hold);
            }
            self.reject(ticket, why.into());
        }
        let alone = flight.of_suspects && flight.jobs.len() == 1;
        let mut suspects = Vec::new();
        for (mut job, range) in flight.jobs.into_iter().rev() {
            job.ops = flight.batch.ops[range].to_vec();
            let is_hopeless = job.tries.failed(error, alone, self.written, job.ends_hold());
            if is_hopeless || !(job.kept || blames_holds) {
                if job.kept {
                    tracing::error!(
                        operations = job.ops.len(),
                        "operations were given up: the store takes others, and not these"
                    );
                }
                job.answer(Err(why));
                continue;
            }
            if flight.of_suspects || (job.kept && job.tries.is_suspect()) {
                suspects.push(job);
            } else {
                self.queued += job.weight();
                self.queue.push_front(job);
            }
        }
        for mut job in suspects.into_iter().rev() {
            if job.ops.len() > 1 {
                job.answer(Err(why));
            }
            self.suspects.push(job);
        }
    }

    /// The store took too long: the callers are told, the batch goes on without them.
    pub(super) fn give_up_answers(&mut self, flight: &mut InFlight) {
        let why = self.shared.store_down();
        for (job, _) in &mut flight.jobs {
            job.answer(Err(why));
        }
        for &ticket in &flight.tickets {
            if let Some(waiting) = self.waits.get_mut(ticket) {
                waiting.answer(Err(why.into()));
            }
        }
    }
}

/// A rule that has more lines.
fn rest_of((op, outcome): (&Op, &Outcome)) -> Option<Op> {
    match (op, outcome) {
        (
            Op::SetRule { budget, rule, .. },
            Outcome::Applied {
                more_after: Some(after),
                ..
            },
        ) => Some(Op::SetRule {
            budget: budget.clone(),
            rule: rule.clone(),
            after: Some(after.clone()),
        }),
        _ => None,
    }
}

impl Waiting {
    fn write_op(&mut self, now: Timestamp, default_ttl: Duration, blocks: bool) -> Admit {
        let ttl = SignedDuration::try_from(self.request.ttl.unwrap_or(default_ttl)).unwrap_or(SignedDuration::MAX);
        self.expires_at = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        Admit {
            hold: self.hold,
            attribution: self.request.attribution.clone(),
            trust: self.request.trust,
            bound: self.request.bound,
            lines: self.specs.clone(),
            expires_at: self.expires_at,
            blocks,
            tentative: self.request.tentative,
        }
    }
}

fn kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::AgentContained => "contained",
        Refusal::AgentPaused => "paused",
        Refusal::NoBudget => "no_budget",
        Refusal::Budget { .. } => "budget",
    }
}
