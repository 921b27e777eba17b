//! What the ledger is asked, and what it answers.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::clock::Verdict;
use crate::domain::id::{AgentId, EpochId, HoldId, PostingId, ReportId};
use crate::domain::ledger::batch::{LedgerRejection, Refusal, ResolveTarget};
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::line::LineKey;
use crate::domain::ledger::posting::{Attribution, Basis, Trust};
use crate::domain::money::Usd;

/// A hold that is wanted.
#[derive(Debug, Clone)]
pub struct AdmitRequest {
    pub attribution: Attribution,
    pub trust: Trust,
    /// The call's worst case; one that follows what is left is reckoned again whenever it is considered.
    pub bound: Bound,
    /// The bound is a rough one, and its caller comes back with a finer one should it be refused for good:
    /// that refusal breaches nothing.
    pub tentative: bool,
    /// How long it may be open; the setting if it is not said.
    pub ttl: Option<Duration>,
    /// How long to wait for room; the setting if it is not said, and never longer than the setting.
    pub wait: Option<Duration>,
}

/// A hold that is durable on every line that applies (L4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedHold {
    pub id: HoldId,
    /// What was granted, and is held on every line.
    pub bound: Usd,
    /// What the shortest of its lines had left after it.
    pub remaining: Usd,
    pub expires_at: Timestamp,
    pub lines: Vec<LineKey>,
}

/// Why a hold was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitRejection {
    /// For good, by the store itself.
    #[error("the hold was refused: {0:?}")]
    Refused(Refusal),
    #[error("what is left is held by calls that are still open")]
    Held { retry_after: Duration },
    #[error(transparent)]
    Invalid(LedgerRejection),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Nothing was acknowledged, and it may be tried again (D4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the ledger cannot be written now")]
    StoreDown { retry_after: Duration },
    #[error("the ledger's disk is below its reserve")]
    StoreFull { retry_after: Duration },
    #[error("the wall clock jumped ahead; an operator has to accept it before there is new spend")]
    ClockJumped { retry_after: Duration },
    #[error("too much waits for the ledger already")]
    Overloaded { retry_after: Duration },
    #[error("a budget's window cannot be reckoned for that time")]
    Calendar { retry_after: Duration },
    #[error("the daemon is stopping")]
    Stopping { retry_after: Duration },
}

impl Unavailable {
    pub fn retry_after(self) -> Duration {
        match self {
            Self::StoreDown { retry_after }
            | Self::StoreFull { retry_after }
            | Self::ClockJumped { retry_after }
            | Self::Overloaded { retry_after }
            | Self::Calendar { retry_after }
            | Self::Stopping { retry_after } => retry_after,
        }
    }
}

/// Why something other than a hold was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFailure {
    #[error(transparent)]
    Rejected(LedgerRejection),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The end of a hold at what it cost.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    pub hold: HoldId,
    /// With an agent's own key: only a hold of that agent may be captured.
    pub by: Option<AgentId>,
    pub cost: Usd,
    pub trust: Trust,
    /// Now, if it is not said.
    pub occurred_at: Option<Timestamp>,
    pub upstream_request: Option<String>,
    pub detail: Option<String>,
}

/// How a hold or an unresolved posting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub posting: Option<PostingId>,
    /// What went past the bound.
    pub overage: Usd,
    /// It had been so before: the same request was sent twice.
    pub repeated: bool,
}

/// One row of usage that was spent already. The ledger finds its lines and gives the posting its id.
#[derive(Debug, Clone)]
pub struct ReportRequest {
    pub report: ReportId,
    pub digest: [u8; 32],
    pub attribution: Attribution,
    pub amount: Usd,
    pub basis: Basis,
    pub trust: Trust,
    pub occurred_at: Timestamp,
    pub upstream_request: Option<String>,
    pub detail: Option<String>,
}

/// A report that is on disk (L5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    Posted(PostingId),
    /// Known before: the same report, or a call that was metered here (L6).
    Known(Option<PostingId>),
}

/// Reports of which none was to be kept unless all could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedAll {
    /// They are on disk, row by row.
    Kept(Vec<Result<Reported, LedgerRejection>>),
    /// None is: these rows cannot be, by their place.
    Refused(Vec<(usize, LedgerRejection)>),
}

/// Evidence of what an unresolved posting or its hold cost.
#[derive(Debug, Clone)]
pub struct ResolveRequest {
    pub target: ResolveTarget,
    pub cost: Usd,
    pub trust: Trust,
    pub detail: Option<String>,
}

/// How the ledger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub epoch: EpochId,
    pub store_down: bool,
    pub draining: bool,
    pub clock: Verdict,
    pub ledger_now: Timestamp,
    pub waiters: usize,
    pub open_holds: usize,
    pub queued: usize,
}
