//! Opening: the file with its rights, the schema, the connections.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::task::spawn_blocking;

use super::lock::FileLock;
use super::migrate::{MigrateError, migrate};
use super::options::{OpenError, SqliteOptions};
use crate::ports::StoreError;

/// How long to wait for another process that opens the same file.
const OPEN_TRIES: u32 = 300;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

/// Makes the directory (0700) and the file (0600) if they are not there. SQLite gives its log and
/// shared memory the rights of the database.
fn make_file(options: &SqliteOptions) -> Result<(), OpenError> {
    let create = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Create { path, source }
    };
    let directory = options.directory();
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(create(directory))?;
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&options.path);
    match made {
        // The name must be as durable as what is written under it.
        Ok(file) => file
            .sync_all()
            .and_then(|()| sync_directory(directory))
            .map_err(create(&options.path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(create(&options.path)(error)),
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Opens the file and brings its schema up to date; returns the connection that will write. A lock file
/// serialises processes that start at once: the change to WAL does not wait for SQLite's own lock.
pub(super) async fn open(options: &SqliteOptions) -> Result<Connection, OpenError> {
    options.check()?;
    make_file(options)?;
    let lock_path = options.beside("open.lock");
    let mut tries = 0;
    let lock = loop {
        let taken = FileLock::try_take(&lock_path).map_err(|source| OpenError::Create {
            path: lock_path.clone(),
            source,
        })?;
        match taken {
            Some(lock) => break lock,
            None if tries < OPEN_TRIES => {
                tries += 1;
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            None => {
                return Err(OpenError::Locked {
                    path: options.path.clone(),
                });
            }
        }
    };
    let options = options.clone();
    let opened = spawn_blocking(move || {
        let opened = connect(&options);
        drop(lock);
        opened
    });
    opened.await.map_err(|source| StoreError::Other {
        context: "opening the store",
        source: Box::new(source),
    })?
}

fn connect(options: &SqliteOptions) -> Result<Connection, OpenError> {
    let path = || options.path.clone();
    let mut writer = options
        .connect_writer()
        .map_err(|source| OpenError::Connect { path: path(), source })?;
    match migrate(&mut writer) {
        Ok(()) => Ok(writer),
        Err(MigrateError::Newer { found, known }) => Err(OpenError::Newer {
            path: path(),
            found,
            known,
        }),
        Err(source) => Err(OpenError::Migrate { path: path(), source }),
    }
}
