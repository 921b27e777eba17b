//! Supervision: every long-running part is a task of a set, and none of them may end unasked.
//!
//! A part that ends, fails or panics while the daemon runs takes the daemon down with it, in order: a
//! watcher that is silently dead is worse than a daemon that systemd starts again.
//!
//! There are two sets, because there is an order. In front is what takes work in; behind is what keeps
//! it. At the end the front closes first, so that what it still hands back (a capture, an audit entry)
//! finds the ledger open; only then is the back told to drain.

use std::future::Future;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The daemon's parts.
pub(super) struct Supervisor {
    front: Parts,
    back: Parts,
}

/// Parts that end together.
pub(super) struct Parts {
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    /// Tells them to end.
    pub(super) stop: CancellationToken,
}

impl Parts {
    fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Adds a part. It may end only after `stop` was cancelled.
    pub(super) fn add<F>(&mut self, name: &'static str, part: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.tasks.spawn(async move { (name, part.await) });
    }

    /// Tells all of them to end and waits for it; cuts off who does not within `patience`.
    async fn end(&mut self, patience: Duration) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok((name, Ok(()))) => tracing::debug!(part = name, "ended"),
                    Ok((name, Err(error))) => tracing::error!(part = name, error = format!("{error:#}"), "ended badly"),
                    Err(error) => tracing::error!(%error, "a part panicked while stopping"),
                }
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::error!("some parts did not end in time; they are cut off");
            self.tasks.shutdown().await;
        }
    }
}

impl Supervisor {
    pub(super) fn new() -> Self {
        Self {
            front: Parts::new(),
            back: Parts::new(),
        }
    }

    pub(super) fn front(&mut self) -> &mut Parts {
        &mut self.front
    }

    pub(super) fn back(&mut self) -> &mut Parts {
        &mut self.back
    }

    /// Waits until `stop` completes or a part ends unasked, then ends all in order. `patience` is for
    /// each of the two sets.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()>, patience: Duration) -> anyhow::Result<()> {
        let cause = tokio::select! {
            biased;
            Some(ended) = self.front.tasks.join_next() => Some(unasked(ended)),
            Some(ended) = self.back.tasks.join_next() => Some(unasked(ended)),
            () = stop => None,
        };
        if let Some(error) = &cause {
            tracing::error!(error = format!("{error:#}"), "a part of the daemon ended; stopping");
        }
        self.front.end(patience).await;
        self.back.end(patience).await;
        cause.map_or(Ok(()), Err)
    }
}

fn unasked(ended: Result<(&'static str, anyhow::Result<()>), JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("{name} ended although nobody asked it to"),
        Ok((name, Err(error))) => error.context(name),
        Err(error) => anyhow!(error).context("a part of the daemon panicked"),
    }
}
