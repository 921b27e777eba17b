//! Why a call has no answer of its provider's to give.

use std::time::Duration;

use crate::domain::call::CallRejection;
use crate::domain::rejection::Rejection;
use crate::ledger::Unavailable;
use crate::ports::{StoreError, UpstreamFault};

use super::reply::Told;

/// What the agent is answered instead.
#[derive(Debug, thiserror::Error)]
pub enum CallFailure {
    #[error(transparent)]
    Rejected(#[from] Rejection),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cause is in the log: it may say how the provider is reached.
    #[error("the upstream {upstream} {fault}")]
    Upstream { upstream: String, fault: UpstreamFault },
    /// A redirect would take the agent's own key to a place that nobody named.
    #[error("the upstream {upstream} answered with a redirect, which is not followed")]
    Redirected { upstream: String },
    /// What it sent cannot be read in one way only, so it is not passed on.
    #[error("the upstream {upstream} sent an answer that cannot be read")]
    Unreadable { upstream: String },
    /// What it sent was paid for, so it is not asked for again unasked.
    #[error("the upstream {upstream} answered, but there was no memory for it: other answers wait for their agents")]
    Crowded { upstream: String },
    /// Its own sentence may quote our credential, in part or masked, so it stays here.
    #[error("the upstream {upstream} refused the credential that Backstop has for it; its operator can mend that")]
    RefusedCredential { upstream: String },
    #[error("the daemon is stopping: nothing was forwarded")]
    Stopping { retry_after: Duration },
    /// Nothing was forwarded, and it may be tried again.
    #[error("too many calls are under way: nothing was forwarded")]
    Overloaded,
    #[error("an internal error; the log of the daemon has it")]
    Internal,
}

impl From<CallRejection> for CallFailure {
    fn from(rejection: CallRejection) -> Self {
        Self::Rejected(rejection.into())
    }
}

/// A failure, with what is told of the call's money.
#[derive(Debug)]
pub struct Failed {
    pub failure: CallFailure,
    pub told: Told,
}

impl<F: Into<CallFailure>> From<F> for Failed {
    fn from(failure: F) -> Self {
        Self {
            failure: failure.into(),
            told: Told::default(),
        }
    }
}
