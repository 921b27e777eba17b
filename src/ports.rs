//! The only traits of the house: what the rules need of the world. Each has a production side and a
//! simulated side, and nothing else is abstracted.

mod cloud;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::agent::AgentState;
use crate::domain::audit::{AuditEntry, NewAudit};
use crate::domain::containment::folding::Folded;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::memory::Note;
use crate::domain::containment::state::{Containment, Step};
use crate::domain::drill::{Drill, DrillHead};
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::price::ListedRate;
use crate::domain::id::{
    AgentId, BudgetId, ContainmentId, DrillId, EpochId, HoldId, KeyId, PostingId, ReviewId, TaskId,
};
use crate::domain::ledger::auditor::AuditParts;
use crate::domain::ledger::batch::{Batch, LedgerRules, NewTrigger, Outcome};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::{Entry, Posting};
use crate::domain::money::Usd;
use crate::domain::review::{Decision, Review};

pub use cloud::{Answered, Asking, Cloud, CloudError, Health, InstanceFilter, LookUp, Permission, Probe, Recorded};

/// Whether an operation may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Never,
    Transient,
    After(Duration),
    /// It may or may not have happened: observe again, never repeat blindly.
    UnknownOutcome,
}

/// Time. `now` may jump; `monotonic` never does and goes on during a suspend (boot-time clock).
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn monotonic(&self) -> Duration;
    async fn sleep(&self, duration: Duration);
}

/// Randomness: ids and secrets.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);

    /// A version 7 UUID: its time part keeps index pages together.
    fn id(&self, now: Timestamp) -> uuid::Uuid {
        let mut random = [0_u8; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

/// An operational failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store is busy: {context}")]
    Busy { context: &'static str },
    #[error("the store is full or its disk is below the reserve: {context}")]
    Full { context: String },
    /// The commit may or may not be on disk. Send the same batch again, with the same number.
    #[error("the outcome of a commit is unknown: {context}")]
    UnknownCommit {
        context: &'static str,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// This epoch was closed by somebody else: its writes are dropped, and the process must end.
    #[error("epoch {0} is closed; its writes are dropped")]
    EpochClosed(EpochId),
    /// A batch older than the last one of its epoch: it is dropped.
    #[error("batch {seq} of epoch {epoch} came after batch {last}")]
    StaleBatch { epoch: EpochId, seq: i64, last: i64 },
    /// A conditional write lost against another one: read again.
    #[error("{what} was changed meanwhile")]
    Conflict { what: &'static str },
    #[error("{what} is not there")]
    NotFound { what: &'static str },
    #[error("the store holds something it cannot read: {context}")]
    Corrupt {
        context: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("the store failed: {context}")]
    Other {
        context: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. } | Self::Conflict { .. } => Retry::Transient,
            Self::Full { .. } => Retry::After(Duration::from_secs(5)),
            Self::UnknownCommit { .. } => Retry::UnknownOutcome,
            Self::EpochClosed(_) | Self::StaleBatch { .. } | Self::NotFound { .. } | Self::Corrupt { .. } => {
                Retry::Never
            }
            Self::Other { .. } => Retry::Transient,
        }
    }
}

/// A trigger that waits for judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    pub id: i64,
    pub trigger: NewTrigger,
    /// The budget's response, as the line had it when it was tripped.
    pub response: crate::domain::ledger::line::Response,
}

/// The response to one trigger, written in one transaction, so that it happens once.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Triggers that are settled by this.
    pub settle: Vec<i64>,
    /// Agents' new states; each conditional on its version (the stored version must be one less).
    pub agents: Vec<AgentState>,
    /// Containments to open. One live containment an agent: an `AgentState` above names it.
    pub open: Vec<Containment>,
    /// Containments to write; each conditional on its version (the stored version must be one less).
    pub update: Vec<Containment>,
    pub reviews: Vec<Review>,
    /// Decisions on reviews that are still undecided.
    pub decide: Vec<(ReviewId, Decision)>,
    /// Before-images of what was ended for good and is gone, and the steps that ended it: nothing is left to
    /// put back, and they go. Those that are not there are no matter.
    pub fold: Vec<Folded>,
    /// Drills that are over; of an agent's the newest [`KEPT`](crate::domain::drill::KEPT) stay.
    pub drills: Vec<Drill>,
    pub audit: Vec<NewAudit>,
}

impl Judgement {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.settle.is_empty()
            && self.agents.is_empty()
            && self.open.is_empty()
            && self.update.is_empty()
            && self.reviews.is_empty()
            && self.decide.is_empty()
            && self.fold.is_empty()
            && self.drills.is_empty()
            && self.audit.is_empty()
    }
}

/// A right to drive something, with a fencing token that rises at every change of hands (C6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub holder: String,
    pub token: i64,
    pub expires_at: Timestamp,
}

impl Lease {
    /// The name of a holder that lives in an epoch. What it holds is free when its epoch is closed,
    /// which proves it dead, so nobody waits for the lease of a daemon that crashed to run out.
    pub fn holder_in(epoch: EpochId) -> String {
        format!("epoch:{epoch}")
    }

    /// The epoch that a holder lives in, if it is named by one.
    pub fn epoch_of(holder: &str) -> Option<EpochId> {
        let epoch = EpochId(holder.strip_prefix("epoch:")?.parse().ok()?);
        (Self::holder_in(epoch) == holder).then_some(epoch)
    }
}

/// A credential of an agent, as stored: the hash of a random secret, never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentKey {
    pub id: KeyId,
    pub agent: AgentId,
    pub hash: [u8; 32],
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpendBy {
    Agent,
    Task,
    Model,
    Service,
    Tool,
    /// A day in UTC.
    Day,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendQuery {
    pub agent: Option<AgentId>,
    pub task: Option<TaskId>,
    pub by: SpendBy,
    /// Whole hours in UTC: rounded down.
    pub since: Option<Timestamp>,
    /// Whole hours in UTC: rounded up.
    pub until: Option<Timestamp>,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendRow {
    /// The agent, task (`agent/task`), model, service, tool or day (`YYYY-MM-DD`); `-` where none.
    pub key: String,
    pub amount: Usd,
    /// The part that is unresolved.
    pub unresolved: Usd,
    pub postings: i64,
}

#[derive(Debug, Clone, Default)]
pub struct LineQuery {
    pub agent: Option<AgentId>,
    pub budget: Option<BudgetId>,
    /// Of one task, model, tool or label value.
    pub value: Option<String>,
    /// Only lines whose window is not over at this time.
    pub open_at: Option<Timestamp>,
    /// Only lines that an operator lifted until this time or an earlier one.
    pub lift_over: Option<Timestamp>,
    pub limit: Option<u32>,
}

/// A page of postings for auditors and exports, in the order in which they were recorded.
#[derive(Debug, Clone, Default)]
pub struct PostingQuery {
    pub after: Option<PostingId>,
    pub agent: Option<AgentId>,
    /// Only what was posted for this hold.
    pub hold: Option<HoldId>,
    /// Only unresolved postings that nothing has replaced.
    pub unresolved: bool,
    pub limit: u32,
}

/// What was open when an epoch died, and is unresolved now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadEpochs {
    pub epochs: Vec<EpochId>,
    pub holds: u64,
    pub amount: Usd,
}

/// Everything that an independent auditor needs, read in one transaction.
#[derive(Debug, Clone, Default)]
pub struct AuditView {
    pub lines: Vec<Line>,
    pub holds: Vec<Hold>,
    pub postings: Vec<Posting>,
    pub entries: Vec<Entry>,
    /// (line, hour, sum, unresolved) of entries that were rolled up.
    pub rolled: Vec<(LineKey, Timestamp, Usd, Usd)>,
}

impl AuditView {
    /// The rows as the auditor takes them.
    pub fn parts(&self, now: Timestamp) -> AuditParts<'_> {
        AuditParts {
            lines: &self.lines,
            holds: &self.holds,
            postings: &self.postings,
            entries: &self.entries,
            rolled: &self.rolled,
            now,
        }
    }
}

/// What maintenance did or found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStats {
    pub postings: i64,
    pub open_holds: i64,
    pub lines: i64,
    pub bytes: u64,
    /// Free bytes where the store lives, if it knows.
    pub free_bytes: Option<u64>,
}

/// The durable side of everything. Writes are synced before they return (L5).
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // --- epochs ---------------------------------------------------------------------------------
    /// Opens an epoch and takes its lock, which lasts until this process ends or `close_epoch`.
    async fn open_epoch(&self, now: Timestamp, host: &str) -> Result<EpochId, StoreError>;
    /// Closes an epoch whose holds have all ended; the last act of a clean shutdown.
    async fn close_epoch(&self, epoch: EpochId, now: Timestamp) -> Result<(), StoreError>;
    /// Closes every epoch whose lock proves it dead, and turns its open holds into unresolved
    /// postings at their bounds, call by call; its leases are free. A live epoch of another process is left
    /// alone.
    async fn bury_dead_epochs(&self, now: Timestamp, rules: &LedgerRules) -> Result<DeadEpochs, StoreError>;

    // --- the ledger -----------------------------------------------------------------------------
    /// One group commit: reads what the batch names inside a write transaction, lets
    /// `domain::ledger::apply` decide, writes, syncs. Outcomes are in the order of the operations.
    ///
    /// Once a batch has changed something, or has voided a hold that is not there, no batch with a smaller
    /// number of its epoch is written any more.
    async fn commit(&self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError>;
    async fn lines(&self, query: &LineQuery) -> Result<Vec<Line>, StoreError>;
    async fn hold(&self, id: HoldId) -> Result<Option<Hold>, StoreError>;
    /// Open holds of an epoch that expire at or before `until`, oldest first.
    async fn expiring_holds(&self, epoch: EpochId, until: Timestamp, limit: u32) -> Result<Vec<HoldId>, StoreError>;
    async fn postings(&self, query: &PostingQuery) -> Result<Vec<Posting>, StoreError>;
    async fn spend(&self, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError>;
    /// All that a query is about, with the part that is unresolved, whatever its limit: a cut list of
    /// rows must not make the sum smaller. Reckoned from the days, of which there are few.
    async fn spend_total(&self, query: &SpendQuery) -> Result<(Usd, Usd), StoreError> {
        let days = SpendQuery {
            by: SpendBy::Day,
            limit: u32::MAX,
            ..query.clone()
        };
        let rows = self.spend(&days).await?;
        let add = |(amount, unresolved): (Usd, Usd), row: &SpendRow| {
            let amount = amount.saturating_add(row.amount);
            (amount, unresolved.saturating_add(row.unresolved))
        };
        Ok(rows.iter().fold((Usd::ZERO, Usd::ZERO), add))
    }
    /// The ledger's clock: raises the durable high-water mark to `now` if it is later; returns it.
    async fn advance_clock(&self, now: Timestamp) -> Result<Timestamp, StoreError>;
    /// An operator's acceptance of a clock jump: sets the mark, even back.
    async fn set_clock(&self, mark: Timestamp) -> Result<(), StoreError>;

    // --- judgement ------------------------------------------------------------------------------
    async fn pending_triggers(&self, limit: u32) -> Result<Vec<Trigger>, StoreError>;
    /// All of it or none of it. `Conflict` when an agent or containment changed meanwhile.
    async fn judge(&self, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError>;
    async fn agent(&self, id: &AgentId) -> Result<AgentState, StoreError>;
    /// Every agent about which something was written.
    async fn agents(&self) -> Result<Vec<AgentState>, StoreError>;
    async fn reviews(&self, open_only: bool, limit: u32) -> Result<Vec<Review>, StoreError>;
    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError>;
    /// An agent's reviews that are open, or were opened then or later, the newest first: what a
    /// containment has to know, without all that people ever answered.
    async fn reviews_of(&self, agent: &AgentId, since: Timestamp, limit: u32) -> Result<Vec<Review>, StoreError>;

    /// What each agent spent on a line, without what is unresolved, the largest first: whose doing a
    /// fleet line's breach is. A store that keeps entries by agent should answer from those of the line;
    /// this answers from the spend of the window's hours, which counts claims that the line does not.
    async fn spenders(&self, line: &LineKey, limit: u32) -> Result<Vec<(AgentId, Usd)>, StoreError> {
        let query = SpendQuery {
            agent: None,
            task: None,
            by: SpendBy::Agent,
            since: line.window.start,
            until: line.window.end,
            limit,
        };
        let rows = self.spend(&query).await?;
        let mut spenders: Vec<(AgentId, Usd)> = rows
            .into_iter()
            .filter_map(|row| {
                let settled = row.amount.saturating_sub(row.unresolved);
                AgentId::new(row.key).ok().map(|agent| (agent, settled))
            })
            .collect();
        spenders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(spenders)
    }

    // --- containment ----------------------------------------------------------------------------
    async fn containment(&self, id: ContainmentId) -> Result<Option<Containment>, StoreError>;
    /// Those that are not closed, oldest first.
    async fn live_containments(&self) -> Result<Vec<Containment>, StoreError>;
    /// Newest first.
    async fn containments_of(&self, agent: &AgentId, limit: u32) -> Result<Vec<Containment>, StoreError>;
    /// Takes or renews a lease: `None` while somebody else's has not expired and the epoch that they
    /// live in, if they are [named by one](Lease::holder_in), is not closed. A renewal by the same holder
    /// keeps the token; a change of hands raises it.
    async fn lease(&self, name: &str, holder: &str, now: Timestamp, ttl: Duration)
    -> Result<Option<Lease>, StoreError>;
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;
    /// Inserts those that have no unrestored before-image of the same agent and resource, and reads
    /// all of them back (C1). Fenced: `Conflict` if the lease has passed on. Like all writes below.
    async fn record_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, StoreError>;
    /// Writes what became of some as [`Self::update_images`] does, and records others as
    /// [`Self::record_images`] does, in one write: between the end of a before-image and the record of the one
    /// in its place there is no moment in which nobody knows what was there (C1).
    async fn supersede_images(
        &self,
        lease: &Lease,
        ended: &[BeforeImage],
        images: &[BeforeImage],
    ) -> Result<Vec<BeforeImage>, StoreError>;
    /// Those of the agent that were not restored, of every generation.
    async fn images(&self, agent: &AgentId) -> Result<Vec<BeforeImage>, StoreError>;
    /// Those of the agent that were settled at that time or later, oldest first: what a restore came to.
    async fn restored_images(&self, agent: &AgentId, since: Timestamp) -> Result<Vec<BeforeImage>, StoreError>;
    /// Sets `changed_at`, `restored_at` and `outcome` of existing unrestored images.
    async fn update_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError>;
    /// Inserts or replaces steps by (containment, id).
    async fn record_steps(&self, lease: &Lease, steps: &[Step]) -> Result<(), StoreError>;
    async fn steps(&self, containment: ContainmentId) -> Result<Vec<Step>, StoreError>;
    /// `judge`, fenced by a lease.
    async fn judge_fenced(&self, lease: &Lease, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError>;

    // --- drills ---------------------------------------------------------------------------------
    /// What is kept of an agent's drills, newest first.
    async fn drills(&self, agent: &AgentId, limit: u32) -> Result<Vec<DrillHead>, StoreError>;
    async fn drill(&self, id: DrillId) -> Result<Option<Drill>, StoreError>;
    /// The newest of each agent and kind.
    async fn last_drills(&self) -> Result<Vec<DrillHead>, StoreError>;

    // --- what was learnt of the cloud -----------------------------------------------------------
    /// Keeps notes, a later one in place of an earlier one of the same key; of more than
    /// [`MAX_NOTES`](crate::domain::containment::memory::MAX_NOTES) the oldest go.
    async fn remember(&self, notes: &[Note]) -> Result<(), StoreError>;
    /// The newest first.
    async fn remembered(&self) -> Result<Vec<Note>, StoreError>;

    // --- the fleet ------------------------------------------------------------------------------
    /// The book of an account's fleet as it was saved last.
    async fn fleet_book(&self, account: &str) -> Result<Option<FleetBook>, StoreError>;
    /// Saves the book with what was taken out of it, in one write. Fenced like the writes of a containment:
    /// one watcher for each store.
    async fn save_fleet_book(&self, lease: &Lease, account: &str, book: &FleetBook) -> Result<(), StoreError>;
    /// Keeps creations; an event that is known stays as it is. Those from before
    /// [`KEEP_DAYS`](crate::domain::fleet::creation::KEEP_DAYS) go, and of more than
    /// [`MAX_CREATIONS`](crate::domain::fleet::creation::MAX_CREATIONS) the oldest.
    async fn note_creations(&self, creations: &[Creation], now: Timestamp) -> Result<(), StoreError>;
    /// Those of an account at that time or later, oldest first.
    async fn creations(&self, account: &str, since: Timestamp) -> Result<Vec<Creation>, StoreError>;
    /// Keeps list prices, a later one in place of an earlier one of the same region and rate.
    async fn save_fleet_prices(&self, prices: &[ListedRate]) -> Result<(), StoreError>;
    async fn fleet_prices(&self) -> Result<Vec<ListedRate>, StoreError>;

    // --- credentials and audit ------------------------------------------------------------------
    async fn add_key(&self, key: &AgentKey) -> Result<(), StoreError>;
    async fn keys(&self) -> Result<Vec<AgentKey>, StoreError>;
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError>;
    /// Chains the entries inside the transaction (`domain::audit::chain`).
    async fn append_audit(&self, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError>;
    async fn audit(&self, from_seq: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;

    // --- maintenance ----------------------------------------------------------------------------
    /// Rolls postings of closed windows that were recorded before `before` up into hourly entries;
    /// unresolved ones and report ids stay. At most `limit` postings a call; returns how many.
    async fn roll_up(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<u64, StoreError>;
    async fn audit_view(&self) -> Result<AuditView, StoreError>;
    async fn stats(&self) -> Result<StoreStats, StoreError>;
    /// Copies the store online to a new file and verifies the copy.
    async fn backup(&self, to: &Path) -> Result<StoreStats, StoreError>;
}

/// What the watcher of a fleet keeps: texts that it alone reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetBook {
    /// What runs, and what it has cost that is not taken out.
    pub book: String,
    /// What was taken out, and may not be posted yet.
    pub outbox: String,
}

/// What a person or an outside system is told. The hooks arrive with a later issue; until then the
/// production side is the log and the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub kind: NoticeKind,
    pub agent: Option<AgentId>,
    /// One sentence.
    pub text: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    Alert,
    Breach,
    Paused,
    Resumed,
    Containing,
    Contained,
    StillBurning,
    Restoring,
    Reset,
    Review,
    StoreDown,
    ClockJump,
}

/// Tells people. It never blocks and never fails: enforcement does not wait for a message.
pub trait Notifier: Send + Sync + 'static {
    fn notify(&self, notice: Notice);
}

/// A request to a provider, complete: nothing is added to it but what HTTP itself needs.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    pub method: http::Method,
    /// Below the upstream's base, with its query.
    pub path_and_query: String,
    /// Without `host`, `content-length` and what concerns one connection alone. The credential is in it.
    pub headers: http::HeaderMap,
    pub body: bytes::Bytes,
}

/// A provider's answer; its body arrives while it is read.
pub struct UpstreamResponse {
    pub status: http::StatusCode,
    pub headers: http::HeaderMap,
    pub body: futures_util::stream::BoxStream<'static, Result<bytes::Bytes, UpstreamError>>,
}

/// An operational failure on the way to a provider or back.
#[derive(Debug, thiserror::Error)]
#[error("the upstream {upstream} {what}")]
pub struct UpstreamError {
    pub upstream: String,
    pub what: UpstreamFault,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What went wrong, and with it whether the call may have cost something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// No connection was made, so no byte was sent: the one fault that provably cost nothing.
    #[error("cannot be reached")]
    Unreachable,
    #[error("broke the connection after the request was on its way")]
    Broken,
    #[error("did not answer in time")]
    TimedOut,
    #[error("sent an answer larger than its limit")]
    TooLarge,
}

impl UpstreamFault {
    /// Whether a byte of the request may have reached the provider.
    pub const fn may_have_cost(self) -> bool {
        !matches!(self, Self::Unreachable)
    }
}

/// A provider. It never repeats a request: each attempt needs a hold of its own (L4).
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    async fn call(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError>;
}
