//! The one place where a rejection or an operational error becomes an HTTP answer.
//!
//! The body is `{"error": {"code", "message", "hint"}}`: the code is stable, the message is a
//! sentence, the hint says what to do. `x-should-retry: false` tells the SDKs that retry 408, 409, 429
//! and 5xx by themselves when a repetition cannot help. A `Retry-After` never exceeds 60 s, because
//! one SDK sleeps for as long as it is told.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::domain::call::CallRejection;
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::rejection::Rejection;
use crate::killswitch::PassError;
use crate::killswitch::drill::DrillError;
use crate::killswitch::report::ReportError;
use crate::ledger::{LedgerFailure, Unavailable};
use crate::ports::{Retry, StoreError};
use crate::watch::lifecycle::{LifecycleError, ResetError};
use crate::watch::reviews::ReviewError;

/// The longest `Retry-After` that is ever sent, in seconds.
pub const MAX_RETRY_AFTER_S: u64 = 60;

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An answer that is not what the caller wanted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Something of ours is down; new spend fails closed (D4). The cause is in the log, not in here:
    /// a client learns that it may try again, not how the inside looks.
    #[error("{message}")]
    Unavailable {
        code: &'static str,
        message: &'static str,
        retry_after_s: u64,
    },
    /// A provider behind the gateway gave no answer that could be passed on.
    #[error("{message}")]
    Upstream {
        status: StatusCode,
        code: &'static str,
        message: String,
        /// Whether a repetition may end otherwise.
        may_repeat: bool,
    },
    #[error("an internal error; the log of the daemon has it")]
    Internal,
}

impl Failure {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Rejected(rejection) => status(rejection),
            Self::Upstream { status, .. } => *status,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::Unavailable { code, .. } | Self::Upstream { code, .. } => code,
            Self::Internal => "internal",
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Rejected(rejection) => rejection.hint(),
            Self::Unavailable { .. } | Self::Upstream { .. } | Self::Internal => None,
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        let seconds = match self {
            Self::Rejected(
                Rejection::Held { retry_after_s } | Rejection::Call(CallRejection::ToolRate { retry_after_s, .. }),
            )
            | Self::Unavailable { retry_after_s, .. } => *retry_after_s,
            Self::Rejected(Rejection::Paused { .. } | Rejection::TooManyTasks { .. }) => MAX_RETRY_AFTER_S,
            Self::Rejected(_) | Self::Upstream { .. } | Self::Internal => return None,
        };
        Some(seconds.clamp(1, MAX_RETRY_AFTER_S))
    }

    /// The answer's `error` object; also used for one row of a batch.
    pub fn to_json(&self) -> serde_json::Value {
        json!({ "code": self.code(), "message": self.to_string(), "hint": self.hint() })
    }
}

fn status(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::HostNotAllowed => StatusCode::MISDIRECTED_REQUEST,
        Rejection::NoCredential | Rejection::BadCredential | Rejection::NoOperator { .. } => StatusCode::UNAUTHORIZED,
        Rejection::TwoCredentials | Rejection::Malformed(_) => StatusCode::BAD_REQUEST,
        Rejection::UnknownAgent(_) | Rejection::NotFound { .. } | Rejection::NoSuchPath => StatusCode::NOT_FOUND,
        Rejection::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Rejection::BodyTooLarge { .. } | Rejection::TooManyRows { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Rejection::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
        Rejection::ContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Rejection::Field { .. } | Rejection::BatchRefused { .. } | Rejection::PriceUnknown { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Rejection::Call(rejection) => call_status(rejection),
        Rejection::OperatorOnly { .. } | Rejection::Contained { .. } => StatusCode::FORBIDDEN,
        Rejection::Paused { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Rejection::NoBudget | Rejection::Budget { .. } => StatusCode::PAYMENT_REQUIRED,
        Rejection::Held { .. } | Rejection::TooManyTasks { .. } => StatusCode::TOO_MANY_REQUESTS,
        Rejection::State(_) => StatusCode::CONFLICT,
        Rejection::Ledger(rejection) => match rejection {
            LedgerRejection::UnknownHold
            | LedgerRejection::ForeignHold
            | LedgerRejection::UnknownPosting
            | LedgerRejection::UnknownLine => StatusCode::NOT_FOUND,
            LedgerRejection::AlreadyEnded(_) | LedgerRejection::NotUnresolved | LedgerRejection::ReportConflict(_) => {
                StatusCode::CONFLICT
            }
            LedgerRejection::Absurd | LedgerRejection::Negative => StatusCode::UNPROCESSABLE_ENTITY,
        },
    }
}

fn call_status(rejection: &CallRejection) -> StatusCode {
    match rejection {
        CallRejection::UnknownUpstream(_) => StatusCode::NOT_FOUND,
        CallRejection::AmbiguousPath
        | CallRejection::QueryNotKnown(_)
        | CallRejection::Header { .. }
        | CallRejection::FieldUnknown { .. }
        | CallRejection::Field { .. }
        | CallRejection::ContextUnknown(_)
        | CallRejection::Absurd => StatusCode::BAD_REQUEST,
        CallRejection::Encoded(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        CallRejection::RouteNotMetered { .. }
        | CallRejection::ServerTool { .. }
        | CallRejection::RouteNotGated(_)
        | CallRejection::ModelNotInManifest(_)
        | CallRejection::ToolNotInManifest(_)
        | CallRejection::ToolBlacklisted(_)
        | CallRejection::NoManifest => StatusCode::FORBIDDEN,
        CallRejection::ToolRate { .. } => StatusCode::TOO_MANY_REQUESTS,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what } => Rejection::NotFound {
                what,
                id: String::new(),
            }
            .into(),
            StoreError::Conflict { what } => {
                Rejection::State(format!("{what} was changed meanwhile: look again, then repeat")).into()
            }
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed a request");
                let retry_after_s = match error.retry() {
                    Retry::After(after) => after.as_secs(),
                    Retry::Never | Retry::Transient | Retry::UnknownOutcome => 1,
                };
                let (code, message) = match error {
                    StoreError::Full { .. } => {
                        ("store_full", "the ledger's disk is below its reserve: nothing was kept")
                    }
                    _ => (
                        "store_down",
                        "the ledger cannot be written now: nothing was acknowledged",
                    ),
                };
                Self::Unavailable {
                    code,
                    message,
                    retry_after_s,
                }
            }
        }
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        let (code, message) = match unavailable {
            Unavailable::StoreDown { .. } => (
                "store_down",
                "the ledger cannot be written now: nothing was acknowledged",
            ),
            Unavailable::StoreFull { .. } => ("store_full", "the ledger's disk is below its reserve: nothing was kept"),
            Unavailable::ClockJumped { .. } => (
                "clock_jumped",
                "the machine's clock jumped ahead: no new spend until an operator accepts it",
            ),
            Unavailable::Calendar { .. } => (
                "calendar",
                "a budget's window cannot be reckoned at this time, so nothing can be counted on it",
            ),
            Unavailable::Overloaded { .. } => ("overloaded", "too much waits for the ledger: nothing was acknowledged"),
            Unavailable::Stopping { .. } => ("stopping", "the daemon is stopping: nothing was acknowledged"),
        };
        Self::Unavailable {
            code,
            message,
            retry_after_s: unavailable.retry_after().as_secs(),
        }
    }
}

impl From<PassError> for Failure {
    fn from(error: PassError) -> Self {
        match error {
            PassError::Store(error) => error.into(),
            error => Rejection::State(error.to_string()).into(),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::NotContained => Rejection::State(error.to_string()).into(),
            ReportError::Pass(error) => error.into(),
        }
    }
}

impl From<DrillError> for Failure {
    fn from(error: DrillError) -> Self {
        match error {
            DrillError::Pass(error) => error.into(),
            error => Rejection::State(error.to_string()).into(),
        }
    }
}

impl From<LifecycleError> for Failure {
    fn from(error: LifecycleError) -> Self {
        match error {
            LifecycleError::Rejected(rejection) => Rejection::State(rejection.to_string()).into(),
            LifecycleError::Store(error) => error.into(),
        }
    }
}

impl From<ResetError> for Failure {
    fn from(error: ResetError) -> Self {
        match error {
            ResetError::Store(error) => error.into(),
            error => Rejection::State(error.to_string()).into(),
        }
    }
}

impl From<ReviewError> for Failure {
    fn from(error: ReviewError) -> Self {
        match error {
            ReviewError::Rejected(rejection) => Rejection::State(rejection.to_string()).into(),
            ReviewError::Store(error) => error.into(),
        }
    }
}

impl From<LedgerFailure> for Failure {
    fn from(failure: LedgerFailure) -> Self {
        match failure {
            LedgerFailure::Rejected(rejection) => Rejection::Ledger(rejection).into(),
            LedgerFailure::Unavailable(unavailable) => unavailable.into(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = self.to_json();
        self.with_error(error)
    }
}

impl Failure {
    /// The answer, with this `error` object instead of the plain one.
    pub fn with_error(&self, error: serde_json::Value) -> Response {
        self.with_body(json!({ "error": error }))
    }

    /// The answer, with this body.
    pub(super) fn with_body(&self, body: serde_json::Value) -> Response {
        let mut response = (self.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        match (self.retry_after_s(), self) {
            (Some(seconds), _) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            // Whether that helps is for the client's own rules, as it would be without us.
            (None, Self::Upstream { may_repeat: true, .. }) => {}
            (None, _) => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_ask_again_is_said_exactly_and_never_beyond_a_minute() {
        let header = |retry_after_s: u64| {
            let rejection = CallRejection::ToolRate {
                tool: "search".to_owned(),
                requests: 1,
                per_seconds: 3_600,
                retry_after_s,
            };
            let response = Failure::from(Rejection::Call(rejection)).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert!(!response.headers().contains_key(SHOULD_RETRY), "a repetition can help");
            response.headers().get(header::RETRY_AFTER).cloned()
        };
        for (wait, told) in [(1, 1), (7, 7), (60, 60), (61, 60), (3_600, 60), (0, 1)] {
            assert_eq!(header(wait), Some(HeaderValue::from(told)), "{wait} s");
        }
        let unlisted = CallRejection::ToolNotInManifest("shell".to_owned());
        let response = Failure::from(Rejection::Call(unlisted)).into_response();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(
            response.headers().get(SHOULD_RETRY),
            Some(&HeaderValue::from_static("false"))
        );
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
