//! The thread that writes: its connection, and a transaction on it.
//!
//! A connection is fit for the next transaction when nothing is open on it, and SQLite itself says so
//! (`is_autocommit`): some errors, such as a full disk's, roll back by themselves, and a ROLLBACK then
//! would be one too many. A connection that is not fit is dropped, which rolls back whatever it had open,
//! and the next transaction opens a new one. So is one whose COMMIT failed in an unknown way, and one in
//! whose hands the work panicked: it is out of the desk while the work runs, and is dropped as the panic
//! unwinds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::error;
use super::options::SqliteOptions;
use super::statement::Db;
use super::writer::Stage;
use crate::ports::StoreError;

/// What the thread does next.
pub(super) type Job = Box<dyn FnOnce(&mut Desk) + Send>;

pub(super) struct Desk {
    options: SqliteOptions,
    connection: Option<Connection>,
}

/// The thread: works off what comes until nobody can send any more.
pub(super) fn work_off(mut desk: Desk, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        // A desk is whole between any two jobs: during one it has no connection.
        if catch_unwind(AssertUnwindSafe(|| job(&mut desk))).is_err() {
            tracing::error!("a transaction panicked: it is rolled back, and the store goes on");
        }
    }
}

impl Desk {
    pub(super) fn new(options: SqliteOptions, connection: Connection) -> Self {
        Self {
            options,
            connection: Some(connection),
        }
    }

    pub(super) fn transact<T>(
        &mut self,
        context: &'static str,
        stage: &Stage,
        work: impl FnOnce(&Db<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect_writer().map_err(error::store(context))?,
        };
        let done = transaction(&connection, context, stage, work);
        if !matches!(done, Err(StoreError::UnknownCommit { .. })) && roll_back(&connection) {
            self.connection = Some(connection);
        }
        done
    }

    /// Moves the log into the file. If another process reads it, the log stays, which loses nothing.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let checkpoint = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        let closed = connection.close().map_err(|(_, error)| error);
        checkpoint.map_err(error::store("checkpoint on close"))?;
        closed.map_err(error::store("closing"))
    }
}

/// From BEGIN to COMMIT. Where it fails the transaction may still be open.
fn transaction<T>(
    connection: &Connection,
    context: &'static str,
    stage: &Stage,
    work: impl FnOnce(&Db<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    run(connection, "BEGIN IMMEDIATE").map_err(error::store(context))?;
    let db = Db::new(connection);
    let value = work(&db)?;
    if db.is_discarded() {
        return Ok(value);
    }
    if connection.is_autocommit() {
        // The work passed over an error that had ended the transaction. What it wrote before is gone.
        return Err(StoreError::Other {
            context,
            source: "the transaction ended in the middle of its work".into(),
        });
    }
    if !stage.may_commit() {
        return Err(StoreError::Busy { context });
    }
    run(connection, "COMMIT").map_err(|failed| error::of_commit(context, failed))?;
    Ok(value)
}

/// Whether nothing is open on the connection now.
pub(super) fn roll_back(connection: &Connection) -> bool {
    connection.is_autocommit() || (run(connection, "ROLLBACK").is_ok() && connection.is_autocommit())
}

pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.raw_execute().map(|_| ())
}
