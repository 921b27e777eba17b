//! IAM: what a principal may do, and taking it away and giving it back.
//!
//! IAM finds principals by name, within our own account; so a principal that is found under the name but
//! with another ARN is refused before anything is written to it.
//!
//! - `look` is what a sweep reads of a principal; `roles` finds those that trust it.
//! - `revoke` puts and deletes the inline deny and sets keys and credentials; `managed` is the deny's
//!   fallback, a policy of its own that is attached.
//! - `inline` adds up what inline policies take, `simulate` asks what IAM thinks of the outcome, and `own` of our
//!   own permissions.

use aws_config::SdkConfig;
use aws_sdk_iam::Client;
use aws_sdk_iam::config::Builder;
use aws_sdk_iam::config::http::HttpResponse;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use percent_encoding::percent_decode_str;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Call;
use super::once;
use crate::ports::CloudError;

mod inline;
mod look;
mod managed;
mod own;
mod revoke;
mod roles;
mod simulate;
mod trust;

/// No list of IAM's that we read is longer than a few pages; this bounds one that never ends.
const MAX_PAGES: usize = 100;

#[derive(Debug)]
pub(in crate::cloud::aws) struct Iam {
    looks: Client,
    changes: Client,
    permits: Semaphore,
    /// The one place for the list of roles: the largest read of all takes no place of the denies.
    roles: Semaphore,
    /// Places for the doctor's questions, which take none of the denies' either.
    questions: Semaphore,
}

impl Iam {
    pub(in crate::cloud::aws) fn new(sdk: &SdkConfig, parallel: usize) -> Self {
        Self {
            looks: Client::new(sdk),
            changes: Client::from_conf(Builder::from(sdk).retry_config(once()).build()),
            permits: Semaphore::new(parallel.max(1)),
            roles: Semaphore::new(1),
            questions: Semaphore::new(2),
        }
    }

    /// A place among the calls in flight; it is waited for no longer than those calls take.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes this semaphore; if somebody did, the bound would be gone, not the kill switch.
        self.permits.acquire().await.ok()
    }
}

/// The answer, or `None` if the entity is not there.
fn found<T, E>(call: &Call, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<Option<T>, CloudError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some("NoSuchEntity") => Ok(None),
        Err(error) => Err(call.failed(error)),
    }
}

/// Names are unique in an account whatever their path, so an ARN that differs is another principal's: the
/// config names one that does not exist, or one of another account.
fn same(call: &Call, asked: &str, answered: &str) -> Result<(), CloudError> {
    if asked == answered {
        return Ok(());
    }
    Err(call.refusal(
        "PrincipalMismatch",
        format!("asked for {asked}, but the account has {answered} under that name; correct the agent's ARN"),
    ))
}

/// IAM returns policies percent-encoded (RFC 3986: a plus is a plus).
fn decode(document: &str) -> String {
    percent_decode_str(document).decode_utf8_lossy().into_owned()
}
