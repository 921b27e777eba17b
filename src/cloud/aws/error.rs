//! What a failed AWS call means: one place, so that every service answers alike.
//!
//! The one question that matters is whether a change may have happened. A refusal by name (a validation,
//! a denial, a throttle) did not happen; a timeout, a reset connection or a server error may have, and is
//! `UnknownOutcome` for a change and merely `Transient` for a read. That a change is attempted once is
//! what makes this answer true: of several attempts the SDK shows only the last.
//!
//! A message is bounded and stripped of control characters before it can reach a log, and the answers
//! that quote the signed request (with the session's token in it) are replaced by a sentence.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use crate::domain::containment::target::Region;
use crate::ports::{CloudError, Retry};

/// How much of AWS's own words is kept.
const MESSAGE_LIMIT: usize = 500;

/// How long to wait after a throttle that does not say.
const THROTTLE_PAUSE: Duration = Duration::from_secs(2);

/// The shortest wait after a throttle, whatever the answer says: to come back at once would be to be throttled anew.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait that an answer can impose on us.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(60);

/// Refused because there were too many requests; not done.
const THROTTLED: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "ProvisionedThroughputExceededException",
    "TooManyRequestsException",
];

/// Refused because of how an instance, an entity or a service is now; not done, and time alone can change it.
const REFUSED_FOR_NOW: &[&str] = &[
    "ConcurrentModification",
    "ConflictException",
    "EntityTemporarilyUnmodifiable",
    "IncorrectInstanceState",
    "IncorrectSpotRequestState",
    "IncorrectState",
    "InsufficientCapacity",
    "InsufficientHostCapacity",
    "InsufficientInstanceCapacity",
    "InsufficientReservedInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "ResourceConflictException",
    "ResourceContention",
    "ResourceContentionFault",
    "ResourceInUseException",
    "ResourceNotReadyException",
    "ScalingActivityInProgress",
    "ScalingActivityInProgressFault",
    "ServiceNotActiveException",
    "UpdateInProgressException",
    "VcpuLimitExceeded",
];

/// Refused because of who asks or when; not done. Credentials that rotate and clocks that are corrected
/// make the next attempt a different one.
const STALE_CALLER: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Refused because of who asks, whatever is asked for: splitting a batch cannot help.
const WRONG_CALLER: &[&str] = &[
    "AuthFailure",
    "Blocked",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "OptInRequired",
    "PendingVerification",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Whether a code says that the signature was too old or from the future.
pub(super) fn is_stale_caller(code: &str) -> bool {
    STALE_CALLER.contains(&code)
}

/// Answers that may quote the request's headers back.
const QUOTES_THE_REQUEST: &[&str] = &[
    "IncompleteSignature",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
];

/// A call as its failure will be told.
#[derive(Debug, Clone)]
pub(super) struct Call {
    operation: &'static str,
    region: Option<Region>,
    changes: bool,
}

impl Call {
    /// Looks and changes nothing.
    pub(super) fn read(operation: &'static str) -> Self {
        Self {
            operation,
            region: None,
            changes: false,
        }
    }

    /// Changes something.
    pub(super) fn change(operation: &'static str) -> Self {
        Self {
            changes: true,
            ..Self::read(operation)
        }
    }

    pub(super) fn within(mut self, region: &Region) -> Self {
        self.region = Some(region.clone());
        self
    }

    /// A failure that AWS did not name: an answer that cannot be right.
    pub(super) fn nonsense(&self, message: impl Into<String>) -> CloudError {
        CloudError {
            operation: self.operation,
            region: self.region.clone(),
            code: None,
            message: message.into(),
            retry: self.unanswered(),
            source: None,
        }
    }

    /// A refusal of our own, under a code of our own.
    pub(super) fn refusal(&self, code: &'static str, message: impl Into<String>) -> CloudError {
        CloudError {
            operation: self.operation,
            region: self.region.clone(),
            code: Some(code.to_owned()),
            message: message.into(),
            retry: Retry::Never,
            source: None,
        }
    }

    /// The failure of the SDK's call.
    pub(super) fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> CloudError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let code = error.code().map(|code| tidy(code, 100));
        let retry = self.retry(&error, code.as_deref());
        let message = message(&error, code.as_deref());
        let is_answer = matches!(error, SdkError::ServiceError(_));
        CloudError {
            operation: self.operation,
            region: self.region.clone(),
            code,
            message,
            retry,
            // Of an answer, code and message say everything; the rest of it is not ours to pass on.
            source: if is_answer { None } else { error.into_source().ok() },
        }
    }

    fn retry<E>(&self, error: &SdkError<E, HttpResponse>, code: Option<&str>) -> Retry {
        match error {
            SdkError::ConstructionFailure(_) => return Retry::Never,
            SdkError::DispatchFailure(failure) if failure.is_user() => return Retry::Never,
            _ => {}
        }
        let Some(response) = error.raw_response() else {
            return self.unanswered();
        };
        let status = response.status().as_u16();
        match code {
            Some(code) if THROTTLED.contains(&code) => Retry::After(retry_after(response)),
            _ if status == 429 => Retry::After(retry_after(response)),
            Some(code) if REFUSED_FOR_NOW.contains(&code) || STALE_CALLER.contains(&code) => Retry::Transient,
            // A gateway's 408 and every 5xx leave open what became of the request.
            _ if status >= 500 || status == 408 => self.unanswered(),
            // A success or a redirect whose body is not AWS's.
            None if status < 400 => self.unanswered(),
            _ => Retry::Never,
        }
    }

    fn unanswered(&self) -> Retry {
        if self.changes {
            Retry::UnknownOutcome
        } else {
            Retry::Transient
        }
    }
}

/// What a failed batch says about its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// At least one member was refused for what it is: ask for each half.
    Member { transient: bool },
    /// Every call would fare the same now: do not go on asking.
    Caller,
    /// Nothing is known about this batch; others may still do.
    Unknown,
}

pub(super) fn scope(error: &CloudError) -> Scope {
    let code = error.code.as_deref().unwrap_or_default();
    if matches!(error.retry, Retry::After(_)) || WRONG_CALLER.contains(&code) || STALE_CALLER.contains(&code) {
        return Scope::Caller;
    }
    match error.retry {
        Retry::Never if error.code.is_none() => Scope::Caller,
        Retry::Never => Scope::Member { transient: false },
        Retry::Transient if REFUSED_FOR_NOW.contains(&code) => Scope::Member { transient: true },
        Retry::Transient | Retry::UnknownOutcome | Retry::After(_) => Scope::Unknown,
    }
}

fn retry_after(response: &HttpResponse) -> Duration {
    response
        .headers()
        .get("retry-after")
        .and_then(|value| value.trim().parse().ok())
        .map_or(THROTTLE_PAUSE, Duration::from_secs)
        .clamp(LEAST_PAUSE, RETRY_AFTER_LIMIT)
}

fn message<E>(error: &SdkError<E, HttpResponse>, code: Option<&str>) -> String
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if code.is_some_and(|code| QUOTES_THE_REQUEST.contains(&code)) {
        return "the request's signature was refused: check the secret key and the clock".to_owned();
    }
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            match (answer.err().message(), code) {
                // What follows is a blob that only `sts:DecodeAuthorizationMessage` can read.
                (Some(text), _) => tidy(
                    text.split("Encoded authorization failure message")
                        .next()
                        .unwrap_or(text),
                    MESSAGE_LIMIT,
                ),
                (None, Some(code)) => format!("{code} (HTTP {status})"),
                (None, None) => format!("HTTP {status} without an AWS error in it"),
            }
        }
        other => tidy(&chain(other), MESSAGE_LIMIT),
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // A chain of causes is short; the bound is against one that is not.
    for _ in 0..16 {
        let Some(inner) = cause else { break };
        let said = inner.to_string();
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = inner.source();
    }
    text
}

/// One line of at most `limit` characters.
fn tidy(text: &str, limit: usize) -> String {
    let line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit + 1)
        .collect();
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::error::{ConnectorError, ErrorMetadata};
    use aws_sdk_ec2::operation::stop_instances::StopInstancesError;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    type StopError = SdkError<StopInstancesError, HttpResponse>;

    fn answer(status: u16, code: Option<&str>, message: Option<&str>, retry_after: Option<&str>) -> StopError {
        let mut response = HttpResponse::new(status.try_into().expect("a status"), SdkBody::empty());
        if let Some(seconds) = retry_after {
            response.headers_mut().insert("retry-after", seconds.to_owned());
        }
        let mut meta = ErrorMetadata::builder();
        if let Some(code) = code {
            meta = meta.code(code);
        }
        if let Some(message) = message {
            meta = meta.message(message);
        }
        SdkError::service_error(StopInstancesError::generic(meta.build()), response)
    }

    fn unanswered() -> StopError {
        SdkError::dispatch_failure(ConnectorError::io("connection reset by peer".into()))
    }

    fn change() -> Call {
        Call::change("ec2:StopInstances").within(&Region("eu-west-1".to_owned()))
    }

    #[test]
    fn an_outcome_is_unknown_only_where_a_change_may_have_happened() {
        let read = Call::read("ec2:DescribeInstances");
        let cases: Vec<(StopError, Retry, Retry)> = vec![
            (unanswered(), Retry::UnknownOutcome, Retry::Transient),
            (
                SdkError::timeout_error("too slow"),
                Retry::UnknownOutcome,
                Retry::Transient,
            ),
            (
                answer(500, Some("InternalError"), None, None),
                Retry::UnknownOutcome,
                Retry::Transient,
            ),
            (answer(502, None, None, None), Retry::UnknownOutcome, Retry::Transient),
            (answer(200, None, None, None), Retry::UnknownOutcome, Retry::Transient),
            (
                answer(503, Some("RequestLimitExceeded"), None, None),
                Retry::After(THROTTLE_PAUSE),
                Retry::After(THROTTLE_PAUSE),
            ),
            (
                answer(400, Some("Throttling"), None, Some("7")),
                Retry::After(Duration::from_secs(7)),
                Retry::After(Duration::from_secs(7)),
            ),
            (
                answer(429, None, None, Some("0")),
                Retry::After(LEAST_PAUSE),
                Retry::After(LEAST_PAUSE),
            ),
            (
                answer(429, None, None, Some("99999")),
                Retry::After(RETRY_AFTER_LIMIT),
                Retry::After(RETRY_AFTER_LIMIT),
            ),
            (
                answer(500, Some("InsufficientInstanceCapacity"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            (
                answer(400, Some("IncorrectInstanceState"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            (
                answer(400, Some("ExpiredToken"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            // Auto Scaling, ECS and Lambda: what else goes on there ends by itself.
            (
                answer(500, Some("ResourceContention"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            (
                answer(400, Some("ScalingActivityInProgress"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            (
                answer(400, Some("ServiceNotActiveException"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            (
                answer(409, Some("ResourceConflictException"), None, None),
                Retry::Transient,
                Retry::Transient,
            ),
            (
                answer(429, Some("TooManyRequestsException"), None, Some("3")),
                Retry::After(Duration::from_secs(3)),
                Retry::After(Duration::from_secs(3)),
            ),
            (
                answer(403, Some("UnauthorizedOperation"), None, None),
                Retry::Never,
                Retry::Never,
            ),
            (
                answer(400, Some("OperationNotPermitted"), None, None),
                Retry::Never,
                Retry::Never,
            ),
            (answer(404, None, None, None), Retry::Never, Retry::Never),
            (SdkError::construction_failure("no region"), Retry::Never, Retry::Never),
        ];
        for (error, changing, reading) in cases {
            let what = format!("{error:?}");
            assert_eq!(change().retry(&error, error.code()), changing, "{what}");
            assert_eq!(read.retry(&error, error.code()), reading, "{what}");
        }
    }

    #[test]
    fn a_batch_is_split_only_for_what_a_member_is() {
        let scope_of = |error: StopError| scope(&change().failed(error));
        assert_eq!(
            scope_of(answer(400, Some("InvalidInstanceID.NotFound"), None, None)),
            Scope::Member { transient: false }
        );
        assert_eq!(
            scope_of(answer(403, Some("UnauthorizedOperation"), None, None)),
            Scope::Member { transient: false }
        );
        assert_eq!(
            scope_of(answer(400, Some("IncorrectInstanceState"), None, None)),
            Scope::Member { transient: true }
        );
        assert_eq!(
            scope_of(answer(500, Some("InsufficientInstanceCapacity"), None, None)),
            Scope::Member { transient: true }
        );
        assert_eq!(scope_of(answer(401, Some("AuthFailure"), None, None)), Scope::Caller);
        assert_eq!(scope_of(answer(400, Some("ExpiredToken"), None, None)), Scope::Caller);
        assert_eq!(
            scope_of(answer(503, Some("RequestLimitExceeded"), None, None)),
            Scope::Caller
        );
        assert_eq!(scope_of(answer(403, None, None, None)), Scope::Caller);
        assert_eq!(scope_of(answer(500, None, None, None)), Scope::Unknown);
        assert_eq!(scope_of(unanswered()), Scope::Unknown);
    }

    #[test]
    fn no_message_carries_a_credential_a_blob_or_a_second_line() {
        let quoted = "The Canonical String should have been\nx-amz-security-token:SECRET";
        let told = change().failed(answer(403, Some("SignatureDoesNotMatch"), Some(quoted), None));
        assert!(!format!("{told} {told:?}").contains("SECRET"), "{told:?}");

        let denied = "You are not authorized. Encoded authorization failure message: AAAA";
        let told = change().failed(answer(403, Some("UnauthorizedOperation"), Some(denied), None));
        assert_eq!(told.message, "You are not authorized.");
        assert_eq!(
            told.to_string(),
            "ec2:StopInstances failed in eu-west-1: You are not authorized."
        );

        let long = format!("one\ntwo {}", "ä".repeat(2_000));
        let told = change().failed(answer(400, Some("Odd"), Some(&long), None));
        assert_eq!(told.message.chars().count(), MESSAGE_LIMIT + 3);
        assert!(told.message.starts_with("one two"));

        let told = change().failed(answer(500, None, None, None));
        assert_eq!(told.message, "HTTP 500 without an AWS error in it");
        let told = change().failed(unanswered());
        assert!(told.message.contains("connection reset by peer"), "{}", told.message);
        assert!(told.source.is_some());
    }
}
