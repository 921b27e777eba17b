//! The connections that read.
//!
//! A few, opened when they are first needed: WAL lets them read beside the writer, and each caller gets
//! one for a closure that is run in one go on a thread for what blocks. What a closure reads is one moment
//! of the file, however many statements it takes: it runs in a transaction, which on these connections
//! cannot write (`query_only`).
//!
//! A read whose caller is gone goes on to its end, which every statement has by a limit of rows, and gives
//! its connection back. One that panics loses it, and another is opened.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::desk::{roll_back, run};
use super::error;
use super::options::SqliteOptions;
use super::statement::Db;
use crate::ports::StoreError;

/// How long a reader waits for a free connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Readers {
    /// One permit a connection, open or not.
    places: Arc<Semaphore>,
    count: u32,
    shelf: Arc<Shelf>,
}

struct Shelf {
    options: SqliteOptions,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(options: SqliteOptions) -> Self {
        let count = options.readers.clamp(1, 1000);
        Self {
            places: Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(1))),
            count,
            shelf: Arc::new(Shelf {
                options,
                idle: Mutex::default(),
            }),
        }
    }

    pub(super) async fn read<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let place = match timeout(ACQUIRE_LIMIT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => place,
            _ => return Err(StoreError::Busy { context }),
        };
        let shelf = Arc::clone(&self.shelf);
        let read = spawn_blocking(move || {
            // Given back after the connection, so that there is never one connection too many.
            let _place = place;
            shelf.read(context, work)
        });
        read.await.unwrap_or_else(|source| {
            Err(StoreError::Other {
                context,
                source: Box::new(source),
            })
        })
    }

    /// Waits for those who read and closes their connections.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let context = "closing what reads";
        let all = timeout(ACQUIRE_LIMIT, self.places.acquire_many(self.count)).await;
        all.map_err(|_| StoreError::Busy { context })?
            .map_err(|_| StoreError::Busy { context })?
            .forget();
        self.shelf.idle().clear();
        Ok(())
    }
}

impl Shelf {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list is whole after every push and pop.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        context: &'static str,
        work: impl FnOnce(&Db<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect_reader().map_err(error::store(context))?,
        };
        let done = run(&connection, "BEGIN")
            .map_err(error::store(context))
            .and_then(|()| work(&Db::new(&connection)));
        // Nothing was written, so the end of a read is a rollback.
        if roll_back(&connection) {
            self.idle().push(connection);
        }
        done
    }
}
