//! The one thread that writes, seen from its callers. (What it does is [`desk`](super::desk)'s.)
//!
//! # Why one thread
//! SQLite has one writer at a time, so there is one connection for it, and calls that wait for the disk,
//! so that connection must not be a worker of the runtime's. The thread is the queue: whoever writes sends
//! it a closure and gets an answer, in order.
//!
//! # Why one crossing
//! A closure is a whole transaction, from BEGIN IMMEDIATE to COMMIT, and is run in one go. Waking a thread
//! and a task costs several times what SQLite takes for a statement; with a message for each statement a
//! commit was mostly that.
//!
//! # What a caller can count on
//! An error tells what became of the transaction. Each one has a [`Stage`], which its caller and the thread
//! move by compare-and-swap, so that they always agree: a caller who has waited too long withdraws it, and
//! one that was not begun will never run, one that was begun will be rolled back (`Busy`, both). Only once
//! the thread has decided to COMMIT nobody can tell (`UnknownCommit`); the thread goes on and finishes.
//! A caller who is dropped withdraws what was not begun; what was begun is finished without it, never left
//! half.
//!
//! # What must never happen
//! A closure waits for anything but the disk (a lock, another task: all writes would wait with it); a panic
//! in a closure ends the thread; a transaction that nobody will hear of holds up the queue before it ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::desk::{Desk, Job, work_off};
use super::options::SqliteOptions;
use super::statement::Db;
use crate::ports::StoreError;

/// How many transactions wait in the thread's queue; more wait before it.
const QUEUE_LENGTH: usize = 64;

/// How long callers wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For those before it. Longer than the file's busy timeout, so that the first of a queue behind
    /// another process gets its answer first.
    pub(super) queue: Duration,
    /// For a transaction that was begun, and so for its sync, before its outcome counts as unknown.
    pub(super) commit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(10),
            commit: Duration::from_secs(30),
        }
    }
}

pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
    limits: Limits,
}

impl Writer {
    /// Starts the thread. It ends when this value does, after what it has begun; nobody need wait for it.
    pub(super) fn start(options: SqliteOptions, connection: Connection, limits: Limits) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE_LENGTH);
        let desk = Desk::new(options, connection);
        let thread = Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || work_off(desk, queue))
            .map_err(|source| StoreError::Other {
                context: "starting the thread that writes",
                source: Box::new(source),
            })?;
        Ok(Self { jobs, thread, limits })
    }

    /// Runs a transaction: what `work` wrote is on the disk when this returns well, and is not there when it
    /// fails, unless it fails with `UnknownCommit`.
    pub(super) async fn write<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.ask(context, move |desk, stage| desk.transact(context, stage, work))
            .await
    }

    /// Moves the log into the file and closes the connection: the last act of a clean shutdown.
    pub(super) async fn close(self) -> Result<(), StoreError> {
        let closed = self.ask("closing", |desk, _| desk.close()).await;
        let Self { jobs, thread, .. } = self;
        drop(jobs);
        // It has answered and its queue has ended, so it ends. A thread that panicked has ended too.
        if closed.is_ok() {
            let _ = spawn_blocking(move || thread.join()).await;
        }
        closed
    }

    async fn ask<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Desk, &Stage) -> Result<T, StoreError> + Send + 'static,
    {
        let asked = Asked(Arc::new(Stage::default()));
        let stage = Arc::clone(&asked.0);
        let (answer, mut answered) = oneshot::channel();
        let job: Job = Box::new(move |desk| {
            if stage.go(Stage::QUEUED, Stage::BEGUN) {
                // Whoever asked may have gone; what was committed stays.
                let _ = answer.send(work(desk, &stage));
            }
        });
        let in_time = timeout(self.limits.queue, async {
            match self.jobs.reserve().await {
                Ok(place) => place.send(job),
                // The thread is gone; with the job goes its answer.
                Err(_) => drop(job),
            }
            (&mut answered).await
        });
        if let Ok(answer) = in_time.await {
            return answer.unwrap_or_else(|_| Err(asked.unanswered(context)));
        }
        if asked.0.go(Stage::QUEUED, Stage::WITHDRAWN) {
            return Err(StoreError::Busy { context });
        }
        if let Ok(answer) = timeout(self.limits.commit, answered).await {
            return answer.unwrap_or_else(|_| Err(asked.unanswered(context)));
        }
        if asked.0.go(Stage::BEGUN, Stage::WITHDRAWN) {
            return Err(StoreError::Busy { context });
        }
        Err(StoreError::UnknownCommit { context, source: None })
    }
}

/// How far a transaction is.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

impl Stage {
    const QUEUED: u8 = 0;
    const BEGUN: u8 = 1;
    const COMMITTING: u8 = 2;
    const WITHDRAWN: u8 = 3;

    /// Whether COMMIT may be sent: from then on, nobody withdraws it.
    pub(super) fn may_commit(&self) -> bool {
        self.go(Self::BEGUN, Self::COMMITTING)
    }

    fn go(&self, from: u8, to: u8) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A caller's side of a transaction.
struct Asked(Arc<Stage>);

impl Asked {
    /// The thread dropped the answer: the work panicked, or the thread is gone.
    fn unanswered(&self, context: &'static str) -> StoreError {
        let source: Box<dyn std::error::Error + Send + Sync> = "the thread that writes broke off".into();
        match self.0.0.load(Ordering::Acquire) {
            Stage::COMMITTING => StoreError::UnknownCommit {
                context,
                source: Some(source),
            },
            _ => StoreError::Other { context, source },
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.go(Stage::QUEUED, Stage::WITHDRAWN);
    }
}

#[cfg(test)]
mod tests;
