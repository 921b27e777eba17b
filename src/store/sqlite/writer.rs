//! The one connection that writes.
//!
//! SQLite has one writer at a time, so the store has one connection for it and a mutex before it;
//! `BEGIN IMMEDIATE` then takes the file's write lock, which serialises this process with any other
//! on the same file. BEGIN, COMMIT and ROLLBACK are plain statements here, not sqlx transactions: when
//! SQLite itself rolls back (a full disk does that), sqlx goes on counting the transaction as open,
//! and the connection would refuse every later one.
//!
//! A transaction that was left in the middle (an error nobody could clean up, a future that was
//! dropped while a statement ran) taints the connection, and the next user gets a new one. Closing
//! the old one rolls back whatever it had open.

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::error;
use crate::ports::StoreError;

/// How long a writer waits for those before it in this process. Longer than the file's busy timeout,
/// so that the first of a queue behind another process gets its answer first.
const QUEUE_LIMIT: Duration = Duration::from_secs(10);
/// How long a sync may take before its outcome counts as unknown.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);
/// How long opening a connection may take.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    options: SqliteConnectOptions,
    slot: Mutex<Slot>,
}

struct Slot {
    connection: Option<SqliteConnection>,
    in_transaction: bool,
}

/// A write transaction. It ends by [`Tx::end`]; one that is dropped is rolled back.
pub(super) struct Tx<'a> {
    slot: MutexGuard<'a, Slot>,
    context: &'static str,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self {
            options,
            slot: Mutex::new(Slot {
                connection: Some(connection),
                in_transaction: false,
            }),
        }
    }

    pub(super) async fn begin(&self, context: &'static str) -> Result<Tx<'_>, StoreError> {
        let mut slot = timeout(QUEUE_LIMIT, self.slot.lock())
            .await
            .map_err(|_| StoreError::Busy { context })?;
        if slot.in_transaction {
            slot.connection = None;
            slot.in_transaction = false;
        }
        let connection = match slot.connection.take() {
            Some(connection) => connection,
            None => timeout(OPEN_LIMIT, self.options.connect())
                .await
                .map_err(|_| StoreError::Busy { context })?
                .map_err(error::store(context))?,
        };
        // Tainted before BEGIN is sent: a future that is dropped while it runs leaves it open.
        slot.in_transaction = true;
        let connection = slot.connection.insert(connection);
        // BEGIN itself takes only as long as the busy timeout.
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await;
        match begun.map_err(error::store(context)) {
            Ok(_) => Ok(Tx { slot, context }),
            Err(error) => {
                // Busy has begun nothing; after anything else the next one gets a new connection.
                slot.in_transaction = !matches!(error, StoreError::Busy { .. });
                Err(error)
            }
        }
    }

    /// Moves the log into the file and closes the connection: the last act of a clean shutdown.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let mut slot = timeout(QUEUE_LIMIT, self.slot.lock())
            .await
            .map_err(|_| StoreError::Busy { context: "closing" })?;
        let Some(mut connection) = slot.connection.take() else {
            return Ok(());
        };
        if slot.in_transaction {
            slot.in_transaction = false;
            return Ok(());
        }
        // Another process may be reading: then the log stays, which loses nothing.
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut connection)
            .await;
        let closed = connection.close().await;
        checkpoint.map_err(error::store("checkpoint on close"))?;
        closed.map_err(error::store("closing"))
    }
}

impl Tx<'_> {
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.slot
            .connection
            .as_mut()
            .ok_or(StoreError::Busy { context: self.context })
    }

    /// Commits if the work went well, rolls back if it did not.
    pub(super) async fn end<T>(self, work: Result<T, StoreError>) -> Result<T, StoreError> {
        match work {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        let context = self.context;
        let committed = {
            let connection = self.connection()?;
            timeout(COMMIT_LIMIT, sqlx::query("COMMIT").execute(connection)).await
        };
        match committed {
            Ok(Ok(_)) => {
                self.slot.in_transaction = false;
                Ok(())
            }
            Ok(Err(error)) => {
                let error = error::of_commit(context, error);
                self.roll_back().await;
                Err(error)
            }
            // The slot stays tainted, and the next transaction opens a new connection.
            Err(_) => Err(StoreError::UnknownCommit { context, source: None }),
        }
    }

    async fn roll_back(mut self) {
        let Ok(connection) = self.connection() else { return };
        // SQLite has rolled back by itself after some errors; then this fails, the slot stays
        // tainted, and the next transaction opens a new connection.
        if sqlx::query("ROLLBACK").execute(connection).await.is_ok() {
            self.slot.in_transaction = false;
        }
    }
}
