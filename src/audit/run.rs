//! The audit log's own task: writes what waits, signs what is written, until the daemon ends.
//!
//! A store or a disk that fails is tried again at the next turn and said once, not every second. A log
//! that is broken is not repaired and never signed again; the daemon goes on, since stopping agents
//! matters more, and says so in its log, in its health and in the audit log itself.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{AuditError, Refusals, Signer};
use crate::domain::audit::NewAudit;
use crate::ports::{Clock, Retry, Store, StoreError};

/// Between two turns.
const TURN: Duration = Duration::from_secs(1);

/// How long the last writes of an ending daemon may take.
const FINISH_LIMIT: Duration = Duration::from_secs(5);

/// What the rest of the daemon may know about the log.
#[derive(Debug, Default)]
pub struct AuditHealth {
    broken: OnceLock<String>,
    unsigned: AtomicI64,
}

impl AuditHealth {
    /// Why the log is not signed any more, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// How many entries nobody has signed yet, as of the last turn.
    pub fn unsigned(&self) -> i64 {
        self.unsigned.load(Ordering::Relaxed)
    }
}

/// The task with all that it works on.
pub struct AuditTask {
    pub signer: Signer,
    pub refusals: Arc<Refusals>,
    pub health: Arc<AuditHealth>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
}

impl AuditTask {
    /// Runs until `stop`, then writes and signs what is left, for a bounded time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_failing = false;
        while stop.run_until_cancelled(self.clock.sleep(TURN)).await.is_some() {
            let now = self.clock.now();
            let done = self.turn(now).await;
            is_failing = self.judge(done, is_failing, now).await;
        }
        let now = self.clock.now();
        match tokio::time::timeout(FINISH_LIMIT, self.finish(now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %chain_of(&error), "the audit log was not finished"),
            Err(_) => tracing::error!("the audit log was not finished in time"),
        }
    }

    async fn turn(&mut self, now: Timestamp) -> Result<(), AuditError> {
        self.refusals.write(&*self.store, now).await?;
        if self.health.broken().is_none() {
            self.signer.advance(&*self.store, now).await?;
            self.health.unsigned.store(self.signer.unsigned(), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn finish(&mut self, now: Timestamp) -> Result<(), AuditError> {
        self.refusals.finish(&*self.store, now).await?;
        if self.health.broken().is_none() {
            self.signer.finish(&*self.store, now).await?;
        }
        Ok(())
    }

    /// Says a failure when it begins and when it ends; returns whether it goes on.
    async fn judge(&self, done: Result<(), AuditError>, was_failing: bool, now: Timestamp) -> bool {
        let Err(error) = done else {
            if was_failing {
                tracing::info!("the audit log is written and signed again");
            }
            return false;
        };
        let why = chain_of(&error);
        // A store that ends or forgets is the store's affair; an entry that it cannot read is a break.
        let is_the_stores = matches!(&error, AuditError::Store(error) if !matches!(error, StoreError::Corrupt { .. }));
        let is_about_the_log = !is_the_stores && error.retry() == Retry::Never;
        if is_about_the_log && self.health.broken.set(why.clone()).is_ok() {
            tracing::error!(error = %why, "the audit log is broken and is not signed any more");
            let entry = NewAudit {
                at: now,
                actor: "backstop".to_owned(),
                action: "audit_broken".to_owned(),
                agent: None,
                reason: why,
                evidence: "{}".to_owned(),
            };
            if let Err(error) = self.store.append_audit(&[entry]).await {
                tracing::error!(error = %chain_of(&error), "that the audit log is broken was not recorded");
            }
        } else if !was_failing {
            tracing::warn!(error = %why, "the audit log is not up to date; trying again");
        }
        true
    }
}

/// An error with its causes in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
