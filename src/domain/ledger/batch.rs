//! A group commit in and out: operations, the rows they need, what becomes of them, what to write.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bound::Bound;
use super::hold::Hold;
use super::line::{Line, LineKey, LineRule, LineSpec};
use super::posting::{Attribution, Basis, Entry, Posting, Trust};
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, BudgetId, EpochId, HoldId, PostingId, ReportId};
use crate::domain::money::Usd;

/// Operations in one commit at most (section 6.2 of the design).
pub const MAX_BATCH: usize = 512;

/// Lines of a budget that one [`Op::SetRule`] looks at.
pub const RULE_PAGE: usize = 256;

/// One commit's worth of work. `seq` rises by one per batch of an epoch; a batch that is sent again
/// after an unknown outcome keeps its number, and every operation is idempotent by its ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Batch {
    pub epoch: EpochId,
    pub seq: i64,
    /// The ledger's clock, which never goes back (section 6.8).
    pub now: Timestamp,
    pub ops: Vec<Op>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Op {
    Admit(Admit),
    Capture(Capture),
    /// Ends a hold at nothing: only for a call that provably cost nothing. An agent's own key cannot.
    Void {
        hold: HoldId,
    },
    /// Ends a hold at its bound because its time is over (L3: expiry charges).
    /// So does a caller that gives a call up whose cost it cannot know; `detail` says why.
    Expire {
        hold: HoldId,
        posting: PostingId,
        detail: Option<String>,
    },
    Report(Report),
    /// Reports that are posted together or not at all. `check_only`: not at all, only what is wrong is said.
    ReportAll {
        reports: Vec<Report>,
        check_only: bool,
    },
    /// Replaces an unresolved posting by evidence of what it cost.
    Resolve(Resolve),
    /// A budget's rule as configured now, for the next [`RULE_PAGE`] of its live lines: raises the revision
    /// of those whose limit changes, and breaches at once where the new limit is below what is posted. A
    /// budget has as many lines as its agents name tasks, so no commit takes them all: its outcome says
    /// after which one the next goes on, in the order of their keys.
    SetRule {
        budget: BudgetId,
        rule: LineRule,
        after: Option<LineKey>,
    },
    /// An operator's override on one line: its raise and the end of a lift from now on. Both are set, not
    /// added, so that a repetition changes nothing.
    Override {
        line: LineKey,
        raise: Usd,
        lifted_until: Option<Timestamp>,
    },
    /// Arms a line's breach again and judges it afresh (after a reset, or when an `--until` ends).
    Rearm {
        line: LineKey,
    },
    /// Trips the lines that what burns now will bring to their limits before a reaction binds.
    Foresee(Foresee),
}

impl Op {
    /// For how many operations it counts in a batch.
    pub fn weight(&self) -> usize {
        match self {
            Self::ReportAll { reports, .. } => reports.len().max(1),
            _ => 1,
        }
    }
}

/// A hold that wants to be admitted on all of its lines, or on none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admit {
    pub hold: HoldId,
    pub attribution: Attribution,
    pub trust: Trust,
    /// Reckoned inside the commit, by what the lines have left then.
    pub bound: Bound,
    pub lines: Vec<LineSpec>,
    pub expires_at: Timestamp,
    /// A waiter that was overtaken too often: if it still does not fit, its short lines admit nothing
    /// behind it in this batch.
    pub blocks: bool,
    /// The bound is a rough one and a finer one is asked for next, should it not fit: a refusal of this
    /// one is no sign that the line is as good as spent, and breaches nothing.
    #[serde(default)]
    pub tentative: bool,
}

/// The end of a hold at its cost. A hold that had expired is corrected (section 6.4).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Capture {
    pub hold: HoldId,
    /// The id that the posting gets.
    pub posting: PostingId,
    pub cost: Usd,
    /// Who says so; an agent's own capture below the bound is its claim alone.
    pub trust: Trust,
    pub occurred_at: Timestamp,
    pub upstream_request: Option<String>,
    pub detail: Option<String>,
}

/// A usage report or bill row: posted after the fact, past the limit if it must be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub posting: PostingId,
    /// Idempotence: one posting for one (agent, report id) (L6).
    pub report: ReportId,
    /// SHA-256 of the canonical body; the same id with another digest is a conflict.
    pub digest: [u8; 32],
    pub attribution: Attribution,
    pub amount: Usd,
    pub basis: Basis,
    pub trust: Trust,
    pub occurred_at: Timestamp,
    pub lines: Vec<LineSpec>,
    pub upstream_request: Option<String>,
    pub detail: Option<String>,
}

/// A forecast of spend that is not posted. It posts nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Foresee {
    pub attribution: Attribution,
    /// Whose forecast it is: a weak claim reaches no fleet line, as ever (C7).
    pub trust: Trust,
    pub lines: Vec<LineSpec>,
    /// What comes on each of these lines before anything can be done about it.
    pub ahead: Usd,
    /// For fleet lines: whose it is, the largest first.
    pub burners: Vec<(AgentId, Usd)>,
    /// What of that was spent already, and was not posted yet.
    #[serde(default)]
    pub unposted: Vec<(AgentId, Usd)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Resolve {
    /// The unresolved posting, or the hold behind it.
    pub target: ResolveTarget,
    pub posting: PostingId,
    pub cost: Usd,
    pub trust: Trust,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResolveTarget {
    Posting(PostingId),
    Hold(HoldId),
}

/// What became of one operation, in the order of the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Admitted {
        /// What was granted, and is held.
        bound: Usd,
        remaining: Usd,
    },
    /// Fits once open holds settle; `short` are the lines without room now for the bound as it was reckoned.
    Wait {
        bound: Usd,
        short: Vec<ShortLine>,
    },
    Refused(Refusal),
    /// Captured, voided, expired or resolved; `overage` is what went past the bound.
    Ended {
        posting: Option<PostingId>,
        overage: Usd,
    },
    /// Already so, by an earlier or repeated operation: the answer to a resent batch.
    Unchanged {
        posting: Option<PostingId>,
    },
    Posted {
        posting: PostingId,
    },
    /// Reports that were posted together, in their order; each is `Posted` or `Unchanged`.
    Together(Vec<Outcome>),
    /// None of the reports was posted: which of them cannot be, and why. Nothing is wrong with any where they
    /// were only to be checked.
    Checked {
        rejected: Vec<(usize, LedgerRejection)>,
    },
    /// The operation is not possible in this state.
    Rejected(LedgerRejection),
    /// A rule, override or rearm was written; the number of lines it touched, and for a rule whether there
    /// are more, which come after this one.
    Applied {
        lines: u64,
        more_after: Option<LineKey>,
    },
}

/// A line without room for a hold now, as the commit read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLine {
    pub line: LineKey,
    pub limit: Usd,
    pub posted: Usd,
    pub held: Usd,
}

/// Why a hold was refused for good. Closed, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    AgentContained,
    AgentPaused,
    /// No line covers the call (L4).
    NoBudget,
    /// posted + bound > limit: no release can make room.
    Budget {
        line: LineKey,
        limit: Usd,
        posted: Usd,
        held: Usd,
    },
}

/// Why another operation was rejected. Closed, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LedgerRejection {
    #[error("no such hold")]
    UnknownHold,
    #[error("no such posting")]
    UnknownPosting,
    #[error("no such line")]
    UnknownLine,
    /// Another agent's, or one that the gateway placed and an agent's own key wants to end (C7).
    #[error("the hold belongs to somebody else")]
    ForeignHold,
    #[error("the hold was already ended as {0}")]
    AlreadyEnded(String),
    #[error("that posting is not unresolved, or was resolved before")]
    NotUnresolved,
    #[error("report id {0} was used before with another body")]
    ReportConflict(ReportId),
    #[error("an amount above one billion dollars is kept as a claim and never posted")]
    Absurd,
    #[error("an amount cannot be negative")]
    Negative,
}

/// The rows that a batch names, as read inside the commit: the lines of its specs, of its holds and of
/// the entries below, and for `SetRule` the budget's next live ones in the order of their keys: a page and one.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub lines: BTreeMap<LineKey, Line>,
    pub holds: HashMap<HoldId, Hold>,
    /// Report ids seen before: the digest, and the posting if one was made.
    pub reports: HashMap<ReportKey, ([u8; 32], Option<PostingId>)>,
    /// Postings that operations name: targets of `Resolve`, those of the report ids below that are the
    /// other side's, and the postings that ended named holds (captured or unresolved; without those of
    /// captured ones, a repeated capture is not checked against the first).
    pub postings: HashMap<PostingId, Posting>,
    /// The entries of those postings.
    pub entries: HashMap<PostingId, Vec<Entry>>,
    /// Postings that already correct one of those.
    pub corrected: HashMap<PostingId, PostingId>,
    /// Upstream request ids of postings whose basis is `Metered`, with the posting, by agent.
    pub metered: HashMap<(AgentId, String), PostingId>,
    /// The status of every agent that an `Admit` names; one that is missing is active.
    pub agents: HashMap<AgentId, AgentStatus>,
}

/// What to write: whole rows, last value wins. `Posting` rows are new by construction.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// Lines that are new or changed, with their new values.
    pub lines: BTreeMap<LineKey, Line>,
    /// Holds that are new or changed.
    pub holds: HashMap<HoldId, Hold>,
    pub postings: Vec<Posting>,
    pub entries: Vec<Entry>,
    pub reports: Vec<ReportSeen>,
    pub triggers: Vec<NewTrigger>,
}

/// What a report is known by (L6): its id, apart for each agent, and apart for the agent's own word and
/// for evidence (C7). Else an agent could take the ids of evidence that is still to come, for an amount
/// of its own choosing, and the evidence would be refused as a conflict. Where both tell of one expense
/// the evidence counts and the claim does not, whichever came first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportKey {
    pub agent: AgentId,
    /// Whether it comes from anyone but the agent itself.
    pub evidence: bool,
    pub report: ReportId,
}

impl ReportKey {
    pub fn of(report: &Report) -> Self {
        Self {
            agent: report.attribution.agent.clone(),
            evidence: report.trust > Trust::Agent,
            report: report.report.clone(),
        }
    }

    /// The key that the other side's word about the same expense has: the agent's claim, or evidence.
    #[must_use]
    pub fn other_side(&self) -> Self {
        Self {
            evidence: !self.evidence,
            ..self.clone()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSeen {
    pub key: ReportKey,
    pub digest: [u8; 32],
    /// `None` when the report was recognised as metered before, and so not posted again (L6).
    pub posting: Option<PostingId>,
}

/// What a commit found that judgement must look at. Written in the same commit, handled at least
/// once, settled when its response is durable: so a crash between loses no breach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTrigger {
    pub line: LineKey,
    pub revision: i64,
    pub at: Timestamp,
    pub cause: TriggerCause,
    pub limit: Usd,
    pub posted: Usd,
    pub held: Usd,
    pub unresolved: Usd,
    /// The agent whose operation tripped it; for a fleet line the last straw, not the culprit.
    pub agent: Option<AgentId>,
    /// The strongest trust class of that operation.
    pub trust: Trust,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TriggerCause {
    /// An alert percentage was reached.
    Alert { percent: u16 },
    /// posted - unresolved >= limit.
    Breach,
    /// A call was refused for good whose bound is at most `breach_bound_percent` of the limit.
    RefusedForGood { bound: Usd },
    /// posted - unresolved + `ahead` >= limit: what burns now brings it there before a reaction binds.
    Projected {
        ahead: Usd,
        /// On a fleet line, what each agent adds to it, the largest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        burners: Vec<(AgentId, Usd)>,
        /// What of that was spent already and was not posted yet: it is when the trigger is judged, perhaps.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unposted: Vec<(AgentId, Usd)>,
    },
    /// What would have been a breach, on a closed line, by an entry after `late_grace` or by a
    /// correction: alert only.
    Late,
}

/// Settings of the rules, from the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRules {
    /// A refused call breaches when its bound is at most this percentage of the limit.
    pub breach_bound_percent: u32,
    /// A report that occurred in a closed window still breaches if it arrives within this time.
    pub late_grace_s: i64,
}

impl Default for LedgerRules {
    fn default() -> Self {
        Self {
            breach_bound_percent: 10,
            late_grace_s: 24 * 3600,
        }
    }
}
