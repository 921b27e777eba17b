//! The expected answers that are not what the caller wanted: one closed enum, in order of precedence.
//!
//! Where several apply, the first one in this list is the answer, so that a client sees the same
//! refusal for the same mistake. A rejection says what happened and what to do; what it maps to over
//! HTTP is decided in one place, `http::error`. What failed *on our side* is not here: that is an
//! error, with a cause and a retry class.

use jiff::Timestamp;

use super::call::CallRejection;
use super::id::{AgentId, HoldId};
use super::ledger::batch::{LedgerRejection, Refusal};
use super::ledger::line::LineKey;
use super::money::Usd;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    // Who is asking.
    #[error("this address does not answer to the host name in the request")]
    HostNotAllowed,
    #[error("no credential: send the agent's key as `Authorization: Bearer …`, `x-api-key` or `api-key`")]
    NoCredential,
    #[error("more than one credential: send exactly one of Authorization, x-api-key and api-key")]
    TwoCredentials,
    #[error("the credential is not known here, or was revoked")]
    BadCredential,
    #[error(
        "this is no operator: the admin API takes its own token, as `Authorization: Bearer …`, or a user whom its \
         socket admits"
    )]
    NoOperator { sent_credential: bool },
    #[error("there is no agent {0}")]
    UnknownAgent(AgentId),

    // What was sent.
    #[error("nothing is at this path")]
    NoSuchPath,
    #[error("this path does not take that method")]
    MethodNotAllowed,
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the body did not arrive within the time limit")]
    BodyTooSlow,
    #[error("the content type {found:?} is not one of {expected}")]
    ContentType { found: String, expected: &'static str },
    #[error("the body cannot be read: {0}")]
    Malformed(String),
    #[error("a request has at most {limit} rows, this one has {found}")]
    TooManyRows { limit: usize, found: usize },
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
    #[error("{rejected} of {rows} rows cannot be kept, and all_or_nothing was asked for: nothing was kept")]
    BatchRefused { rejected: usize, rows: usize },

    // A call through the gateway.
    #[error(transparent)]
    Call(#[from] CallRejection),

    // What it is about.
    #[error("there is no {what} {id}")]
    NotFound { what: &'static str, id: String },
    #[error("an agent's own key cannot do this; an operator can, with `{instead}`")]
    OperatorOnly { instead: &'static str },
    #[error("the agent has been contained since {since:.0}: {reason}")]
    Contained { since: Timestamp, reason: String },
    #[error("the agent has been paused since {since:.0}: {reason}")]
    Paused { since: Timestamp, reason: String },
    #[error("no budget covers this call, so it is refused")]
    NoBudget,
    #[error("the budget {} is used up: ${posted} spent of ${limit}, and this call may cost ${bound}", line.budget)]
    Budget {
        line: LineKey,
        limit: Usd,
        posted: Usd,
        bound: Usd,
    },
    #[error("the budget is held by calls that are still open")]
    Held { retry_after_s: u64 },
    #[error("the agent used more than {limit} new names for its tasks, models, tools or labels within an hour")]
    TooManyTasks { limit: u32 },
    #[error("the price of {what} is not known, so its cost cannot be bounded")]
    PriceUnknown { what: String },
    #[error("{0}")]
    Ledger(LedgerRejection),
    #[error("{0}")]
    State(String),
}

impl Rejection {
    /// The stable code that clients may match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HostNotAllowed => "host_not_allowed",
            Self::NoCredential | Self::NoOperator { sent_credential: false } => "no_credential",
            Self::TwoCredentials => "two_credentials",
            Self::BadCredential | Self::NoOperator { sent_credential: true } => "bad_credential",
            Self::UnknownAgent(_) => "unknown_agent",
            Self::NoSuchPath => "no_such_path",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::ContentType { .. } => "content_type",
            Self::Malformed(_) => "malformed_body",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::Field { .. } => "invalid_field",
            Self::BatchRefused { .. } => "batch_refused",
            Self::Call(rejection) => rejection.code(),
            Self::NotFound { .. } => "not_found",
            Self::OperatorOnly { .. } => "operator_only",
            Self::Contained { .. } => "agent_contained",
            Self::Paused { .. } => "agent_paused",
            Self::NoBudget => "no_budget",
            Self::Budget { .. } => "budget_exceeded",
            Self::Held { .. } => "budget_held",
            Self::TooManyTasks { .. } => "too_many_tasks",
            Self::PriceUnknown { .. } => "price_unknown",
            Self::Ledger(rejection) => ledger_code(rejection),
            Self::State(_) => "wrong_state",
        }
    }

    /// What the caller can do about it, when the message does not say so already.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::HostNotAllowed => "add the name to server.allowed_hosts if it is yours".to_owned(),
            Self::BadCredential => "an operator makes a new key with `backstop agent key AGENT`".to_owned(),
            Self::NoOperator { .. } => {
                "the config says which: [admin] token_file or token_env, and peer_uids".to_owned()
            }
            Self::UnknownAgent(id) => format!("add it with `backstop agent add {id}`"),
            Self::Call(rejection) => return rejection.hint(),
            Self::Contained { .. } => {
                "a person looks at `backstop status` and puts it back with `backstop reset AGENT`".to_owned()
            }
            Self::Paused { .. } => "a person resumes it with `backstop resume AGENT`".to_owned(),
            Self::NoBudget => "add a [[budget]] that selects this agent".to_owned(),
            Self::Budget { .. } => {
                "wait for the next window, or ask an operator to raise the limit; `GET /v1/budget` shows what is left"
                    .to_owned()
            }
            Self::Held { retry_after_s } => format!("try again in {retry_after_s} s"),
            Self::PriceUnknown { .. } => {
                "import a price with `backstop prices import FILE`, set [prices] unknown_model to a ceiling, or report amount_usd"
                    .to_owned()
            }
            Self::BatchRefused { .. } => "mend the rows that are listed, or send without all_or_nothing".to_owned(),
            _ => return None,
        })
    }

    /// A refused hold, with the agent's state for the sentence.
    pub fn from_refusal(refusal: Refusal, bound: Usd, since: Timestamp, reason: &str) -> Self {
        match refusal {
            Refusal::AgentContained => Self::Contained {
                since,
                reason: reason.to_owned(),
            },
            Refusal::AgentPaused => Self::Paused {
                since,
                reason: reason.to_owned(),
            },
            Refusal::NoBudget => Self::NoBudget,
            Refusal::Budget {
                line, limit, posted, ..
            } => Self::Budget {
                line,
                limit,
                posted,
                bound,
            },
        }
    }

    pub fn no_hold(id: HoldId) -> Self {
        Self::NotFound {
            what: "hold",
            id: id.to_string(),
        }
    }
}

fn ledger_code(rejection: &LedgerRejection) -> &'static str {
    match rejection {
        // Whether somebody else's hold exists is not this caller's business.
        LedgerRejection::UnknownHold | LedgerRejection::ForeignHold => "unknown_hold",
        LedgerRejection::UnknownPosting => "unknown_posting",
        LedgerRejection::UnknownLine => "unknown_line",
        LedgerRejection::AlreadyEnded(_) => "already_ended",
        LedgerRejection::NotUnresolved => "not_unresolved",
        LedgerRejection::ReportConflict(_) => "report_conflict",
        LedgerRejection::Absurd => "absurd_amount",
        LedgerRejection::Negative => "negative_amount",
    }
}
