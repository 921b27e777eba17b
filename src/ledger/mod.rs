//! The ledger as a running thing: around the pure rules, the group commit, the wait list, the mirror,
//! expiry and epochs.
//!
//! [`Ledger`] is the handle: cheap to clone, and all that the edges see. [`LedgerTask`] is the work
//! behind it, one future that the application spawns and supervises; nothing in here spawns. When it
//! ends, every caller that still waits is told, and nothing new is taken: a daemon whose ledger has
//! stopped admits nothing (D4).
//!
//! What a caller may rely on:
//! - `admit` returns only after the hold is durable on every line (L4). Dropping the future before it
//!   returns leaves no hold behind: one that was admitted meanwhile is voided, because its caller never
//!   learned of it and so no byte went upstream. After it has returned, the hold is the caller's: it
//!   must be captured or voided, or it expires at its bound (L3).
//! - `report` returns only after every row is durable (L5). An error acknowledges none of them; some
//!   may be on disk, and sending them again is harmless (L6).
//! - `capture`, `void` and `unresolve` that were handed over are written even if their caller is told
//!   that the store is down, or goes away. Their `_later` forms hand over and return at once: the hold
//!   stands until the end of it is durable (L2, L3), and it is written as long as the process lives.
//!   After a crash the hold is unresolved at its bound.
//!
//! What it must never do: admit out of its own memory. The store's commit decides, and everything in
//! memory is a hint that costs time at worst ([`mirror`]).

mod agents;
mod budgets;
mod committer;
mod foresee;
mod housekeeper;
mod in_flight;
mod mirror;
mod open_holds;
mod places;
mod requests;
mod settings;
mod shared;
mod suspects;
mod task;
mod tend;
mod view;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, oneshot, watch};

pub use agents::AgentStatuses;
pub use committer::Fatal;
use committer::RULES_AT_ONCE;
pub use foresee::Forecast;
pub use requests::{
    AdmitRejection, AdmitRequest, AdmittedHold, CaptureRequest, LedgerFailure, ReportRequest, Reported, ReportedAll,
    ResolveRequest, Settled, Status, Unavailable,
};
pub use settings::{LedgerSettings, MAX_RETRY_AFTER};
pub use task::{Deps, LedgerTask, open};
pub use view::LineView;

use crate::domain::agent::AgentStatus;
use crate::domain::budget::Budget;
use crate::domain::id::{AgentId, EpochId, HoldId, PostingId};
use crate::domain::ledger::batch::{Capture, LedgerRejection, Op, Outcome, Report, Resolve};
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::line::{Line, LineKey, Scope};
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::money::Usd;
use crate::ports::{LineQuery, StoreError};
use shared::{Command, Shared, Waiting, lock};

/// Bytes of the reason that is kept with a call that was given up.
pub const MAX_REASON: usize = 256;

/// Rows of a report in one piece, and pieces on their way at once: two batches' worth, so that one
/// gathers while the other syncs, and holds find room between them.
const REPORT_PIECE: usize = 128;
const REPORT_PIECES: usize = 8;

/// The handle of the ledger.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

impl Ledger {
    /// Places a hold on every line that applies, or on none; waits for room as long as it may.
    pub async fn admit(&self, request: AdmitRequest) -> Result<AdmittedHold, AdmitRejection> {
        let shared = &self.shared;
        request.bound.check().map_err(AdmitRejection::Invalid)?;
        let reading = shared.read_clock();
        if !reading.verdict.admits() {
            return Err(shared.clock_jumped().into());
        }
        let now = reading.ledger_now;
        let (specs, generation) = shared
            .budgets
            .specs(&request.attribution, request.trust, now)
            .map_err(|_| shared.calendar())?;
        let (reply, answer) = oneshot::channel();
        let mut waiting = Box::new(Waiting {
            hold: HoldId(shared.entropy.id(now)),
            request,
            specs: Vec::new(),
            generation,
            lines_until: None,
            since: shared.clock.monotonic(),
            expires_at: now,
            reply: Some(reply),
            place: None,
        });
        waiting.set_lines(specs, generation);
        shared.send(Command::Admit(waiting)).await?;
        let grant = answer.await.map_err(|_| shared.stopping())??;
        grant.take().ok_or_else(|| shared.stopping().into())
    }

    /// Ends a hold at what it cost. A hold that had expired is corrected.
    pub async fn capture(&self, request: CaptureRequest) -> Result<Settled, LedgerFailure> {
        if let Some(agent) = &request.by {
            self.check_owner(request.hold, agent).await?;
        }
        self.end(self.capture_op(request)).await
    }

    /// Ends a hold at nothing: only for a call that provably cost nothing (L3).
    pub async fn void(&self, hold: HoldId) -> Result<Settled, LedgerFailure> {
        self.end(Op::Void { hold }).await
    }

    /// Gives a hold up whose cost nobody can know: it is unresolved at its bound from now on (L3, L7), until
    /// evidence replaces that. `reason` is for the person who looks into it, and is cut to
    /// [`MAX_REASON`] bytes.
    pub async fn unresolve(&self, hold: HoldId, reason: &str) -> Result<Settled, LedgerFailure> {
        self.end(self.unresolve_op(hold, reason)).await
    }

    /// [`capture`](Self::capture) without waiting for the commit. Only for whoever holds every hold in its
    /// own hands, such as the gateway: `by` must not be said, since whose hold it is is not looked up.
    ///
    /// # Errors
    /// Nothing was handed over: the cost is no amount that can be posted, or the ledger has stopped.
    pub fn capture_later(&self, request: CaptureRequest) -> Result<(), LedgerFailure> {
        if request.by.is_some() {
            return Err(LedgerFailure::Rejected(LedgerRejection::ForeignHold));
        }
        Bound::Fixed(request.cost).check().map_err(LedgerFailure::Rejected)?;
        Ok(self.later(self.capture_op(request))?)
    }

    /// [`void`](Self::void) without waiting for the commit.
    ///
    /// # Errors
    /// Nothing was handed over: the ledger has stopped.
    pub fn void_later(&self, hold: HoldId) -> Result<(), Unavailable> {
        self.later(Op::Void { hold })
    }

    /// [`unresolve`](Self::unresolve) without waiting for the commit.
    ///
    /// # Errors
    /// Nothing was handed over: the ledger has stopped. The next start does the same to what is open.
    pub fn unresolve_later(&self, hold: HoldId, reason: &str) -> Result<(), Unavailable> {
        self.later(self.unresolve_op(hold, reason))
    }

    fn capture_op(&self, request: CaptureRequest) -> Op {
        let now = self.now();
        Op::Capture(Capture {
            hold: request.hold,
            posting: self.posting_id(now),
            cost: request.cost,
            trust: request.trust,
            occurred_at: request.occurred_at.unwrap_or(now),
            upstream_request: request.upstream_request,
            detail: request.detail,
        })
    }

    fn unresolve_op(&self, hold: HoldId, reason: &str) -> Op {
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
        Op::Expire {
            hold,
            posting: self.posting_id(self.now()),
            detail: Some(json!({ "unresolved": reason }).to_string()),
        }
    }

    fn later(&self, op: Op) -> Result<(), Unavailable> {
        if self.shared.commands.is_closed() {
            return Err(self.shared.stopping());
        }
        self.shared.later.push(op);
        Ok(())
    }

    /// What an agent may do now, as far as this process has heard: a hint, a moment old at worst. What
    /// counts is read by the commit that admits.
    pub fn agent_status(&self, agent: &AgentId) -> AgentStatus {
        self.shared.agents.of(agent)
    }

    /// The same of all agents, to wait for a change: one that this process or another one wrote is seen
    /// within [`LedgerSettings::agents_every`], one that refused a hold before its caller has the refusal.
    pub fn agents(&self) -> watch::Receiver<Arc<AgentStatuses>> {
        self.shared.agents.follow()
    }

    /// Somebody in this process has changed an agent's state: it is read at once.
    pub fn look_at_agents(&self) {
        self.shared.agents.look();
    }

    /// Whether any budget in force counts this spend.
    pub fn covers(&self, spend: &Attribution, trust: Trust, at: Timestamp) -> Result<bool, Unavailable> {
        let specs = self.shared.budgets.specs(spend, trust, at);
        specs
            .map(|(lines, _)| !lines.is_empty())
            .map_err(|_| self.shared.calendar())
    }

    /// The names that budgets in force add this spend up by, where whoever spends chooses them.
    pub fn chosen_names(&self, spend: &Attribution) -> BTreeSet<(Scope, String)> {
        self.shared.budgets.chosen_names(spend)
    }

    /// Posts rows of usage; answers row by row, in their order.
    pub async fn report(
        &self,
        rows: Vec<ReportRequest>,
    ) -> Result<Vec<Result<Reported, LedgerRejection>>, Unavailable> {
        let now = self.shared.read_clock().ledger_now;
        let mut pieces = Vec::with_capacity(rows.len().div_ceil(REPORT_PIECE));
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let piece = rows.by_ref().take(self.piece()).map(|row| self.report_op(row, now));
            pieces.push(piece.collect::<Result<Vec<Op>, Unavailable>>()?);
        }
        let outcomes: Vec<Vec<Outcome>> = stream::iter(pieces)
            .map(|ops| self.shared.job(ops, false))
            .buffered(REPORT_PIECES)
            .try_collect()
            .await?;
        outcomes
            .into_iter()
            .flatten()
            .map(|outcome| self.reported(outcome))
            .collect()
    }

    /// Posts all rows, or none if one of them cannot be posted.
    ///
    /// Rows that fit into one commit stand or fall in it. More rows are all looked at first, and then posted
    /// as [`report`](Self::report) does; so if somebody else takes the id of one of them for another body
    /// between the two, that row alone is not kept, and its answer says so. An error acknowledges nothing,
    /// as ever, and sending them again is harmless (L6).
    pub async fn report_all(&self, rows: Vec<ReportRequest>) -> Result<ReportedAll, Unavailable> {
        let most = self.shared.settings.batch();
        let refused = conflicts_among(&rows);
        if !refused.is_empty() {
            return Ok(ReportedAll::Refused(refused));
        }
        let now = self.shared.read_clock().ledger_now;
        let check_only = rows.len() > most;
        let mut refused = Vec::new();
        for (part, some) in rows.chunks(most).enumerate() {
            let reports = some.iter().map(|row| self.report_row(row.clone(), now));
            let reports = reports.collect::<Result<Vec<Report>, Unavailable>>()?;
            let op = Op::ReportAll { reports, check_only };
            match self.one(op, false).await? {
                Outcome::Together(outcomes) if !check_only => {
                    let reported = outcomes.into_iter().map(|outcome| self.reported(outcome));
                    return Ok(ReportedAll::Kept(reported.collect::<Result<_, Unavailable>>()?));
                }
                Outcome::Checked { rejected } => {
                    refused.extend(rejected.into_iter().map(|(row, why)| (part * most + row, why)));
                }
                outcome => return Err(self.nonsense(&outcome)),
            }
        }
        if refused.is_empty() {
            self.report(rows).await.map(ReportedAll::Kept)
        } else {
            Ok(ReportedAll::Refused(refused))
        }
    }

    fn piece(&self) -> usize {
        REPORT_PIECE.min(self.shared.settings.batch())
    }

    fn report_op(&self, row: ReportRequest, now: Timestamp) -> Result<Op, Unavailable> {
        self.report_row(row, now).map(Op::Report)
    }

    fn report_row(&self, row: ReportRequest, now: Timestamp) -> Result<Report, Unavailable> {
        let specs = self.shared.budgets.specs(&row.attribution, row.trust, row.occurred_at);
        let (lines, _) = specs.map_err(|_| self.shared.calendar())?;
        Ok(Report {
            posting: self.posting_id(now),
            report: row.report,
            digest: row.digest,
            attribution: row.attribution,
            amount: row.amount,
            basis: row.basis,
            trust: row.trust,
            occurred_at: row.occurred_at,
            lines,
            upstream_request: row.upstream_request,
            detail: row.detail,
        })
    }

    fn reported(&self, outcome: Outcome) -> Result<Result<Reported, LedgerRejection>, Unavailable> {
        match outcome {
            Outcome::Posted { posting } => Ok(Ok(Reported::Posted(posting))),
            Outcome::Unchanged { posting } => Ok(Ok(Reported::Known(posting))),
            Outcome::Rejected(rejection) => Ok(Err(rejection)),
            outcome => Err(self.nonsense(&outcome)),
        }
    }

    /// Replaces an unresolved posting by evidence of what it cost.
    pub async fn resolve(&self, request: ResolveRequest) -> Result<Settled, LedgerFailure> {
        let now = self.shared.read_clock().ledger_now;
        let op = Op::Resolve(Resolve {
            target: request.target,
            posting: self.posting_id(now),
            cost: request.cost,
            trust: request.trust,
            detail: request.detail,
        });
        let outcome = self.one(op, false).await?;
        self.settled(outcome)
    }

    /// Puts other budgets in force, and writes their rules into the live lines. Returns how many lines
    /// they touched. New calls see the new budgets at once; the operations are not lost when the store
    /// is down, only their number is. Lines of budgets that vanished are left as they are.
    pub async fn set_rules(&self, budgets: Vec<Budget>) -> Result<u64, Unavailable> {
        self.shared.budgets.replace(budgets);
        let mut lines = 0;
        for ops in self.shared.budgets.rule_ops().chunks(RULES_AT_ONCE) {
            for outcome in self.shared.job(ops.to_vec(), true).await? {
                if let Outcome::Applied { lines: touched, .. } = outcome {
                    lines += touched;
                }
            }
        }
        Ok(lines)
    }

    /// An operator's override on one line. The audit of it is the caller's.
    pub async fn override_line(
        &self,
        line: LineKey,
        raise: Usd,
        lifted_until: Option<Timestamp>,
    ) -> Result<(), LedgerFailure> {
        let op = Op::Override {
            line,
            raise,
            lifted_until,
        };
        let outcome = self.one(op, false).await?;
        self.applied(outcome)
    }

    /// Arms a line's breach again, and judges it afresh.
    pub async fn rearm(&self, line: LineKey) -> Result<(), LedgerFailure> {
        let outcome = self.one(Op::Rearm { line }, false).await?;
        self.applied(outcome)
    }

    /// Lines as the store has them.
    pub async fn lines(&self, query: &LineQuery) -> Result<Vec<Line>, StoreError> {
        self.shared.store.lines(query).await
    }

    /// An operator says that the wall clock is right: the ledger's time is set to it, even back.
    pub async fn accept_clock(&self) -> Result<Timestamp, StoreError> {
        let wall = self.shared.clock.now();
        self.shared.store.set_clock(wall).await?;
        lock(&self.shared.guard).accept(wall, self.shared.clock.monotonic());
        Ok(wall)
    }

    /// The ledger's time.
    pub fn now(&self) -> Timestamp {
        self.shared.read_clock().ledger_now
    }

    pub fn epoch(&self) -> EpochId {
        self.shared.epoch
    }

    /// Told after every commit that may have tripped a trigger. One listener: whoever judges. A permit
    /// is kept while it is busy, and several become one.
    pub fn triggers(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.triggers)
    }

    pub fn status(&self) -> Status {
        let reading = self.shared.read_clock();
        let gauges = &self.shared.gauges;
        Status {
            epoch: self.shared.epoch,
            store_down: gauges.store_down.load(Ordering::Relaxed),
            draining: gauges.draining.load(Ordering::Relaxed),
            clock: reading.verdict,
            ledger_now: reading.ledger_now,
            waiters: gauges.waiters.load(Ordering::Relaxed),
            queued: gauges.queued.load(Ordering::Relaxed),
            open_holds: lock(&self.shared.open).len(),
        }
    }

    async fn check_owner(&self, hold: HoldId, agent: &AgentId) -> Result<(), LedgerFailure> {
        let known = lock(&self.shared.open).agent(hold).cloned();
        let owner = match known {
            Some(owner) => owner,
            None => match self.shared.store.hold(hold).await {
                Ok(Some(hold)) => hold.attribution.agent,
                Ok(None) => return Err(LedgerFailure::Rejected(LedgerRejection::UnknownHold)),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "a hold cannot be read");
                    return Err(self.shared.store_down().into());
                }
            },
        };
        if owner == *agent {
            Ok(())
        } else {
            Err(LedgerFailure::Rejected(LedgerRejection::ForeignHold))
        }
    }

    async fn end(&self, op: Op) -> Result<Settled, LedgerFailure> {
        let outcome = self.one(op, true).await?;
        self.settled(outcome)
    }

    async fn one(&self, op: Op, kept: bool) -> Result<Outcome, Unavailable> {
        let outcomes = self.shared.job(vec![op], kept).await?;
        outcomes.into_iter().next().ok_or_else(|| self.shared.store_down())
    }

    fn settled(&self, outcome: Outcome) -> Result<Settled, LedgerFailure> {
        match outcome {
            Outcome::Ended { posting, overage } => Ok(Settled {
                posting,
                overage,
                repeated: false,
            }),
            Outcome::Unchanged { posting } => Ok(Settled {
                posting,
                overage: Usd::ZERO,
                repeated: true,
            }),
            Outcome::Rejected(rejection) => Err(LedgerFailure::Rejected(rejection)),
            outcome => Err(self.nonsense(&outcome).into()),
        }
    }

    fn applied(&self, outcome: Outcome) -> Result<(), LedgerFailure> {
        match outcome {
            Outcome::Applied { .. } | Outcome::Unchanged { .. } => Ok(()),
            Outcome::Rejected(rejection) => Err(LedgerFailure::Rejected(rejection)),
            outcome => Err(self.nonsense(&outcome).into()),
        }
    }

    fn nonsense(&self, outcome: &Outcome) -> Unavailable {
        tracing::error!(?outcome, "the store gave an operation an outcome that is none");
        self.shared.store_down()
    }

    fn posting_id(&self, now: Timestamp) -> PostingId {
        PostingId(self.shared.entropy.id(now))
    }
}

/// Rows that say something else under the id of an earlier row, by their place.
fn conflicts_among(rows: &[ReportRequest]) -> Vec<(usize, LedgerRejection)> {
    let mut first = HashMap::with_capacity(rows.len());
    let mut conflicts = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let key = (&row.attribution.agent, row.trust > Trust::Agent, &row.report);
        if *first.entry(key).or_insert(row.digest) != row.digest {
            conflicts.push((place, LedgerRejection::ReportConflict(row.report.clone())));
        }
    }
    conflicts
}
