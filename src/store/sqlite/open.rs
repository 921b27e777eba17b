//! Opening: the file with its rights, the schema, the connections.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{ConnectOptions, SqlSafeStr, SqliteConnection, SqlitePool};

use super::lock::FileLock;
use super::options::{OpenError, SqliteOptions};

/// How long to wait for another process that opens the same file.
const OPEN_TRIES: u32 = 300;
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// How long a reader waits for a free connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

/// Every migration, oldest first. One that was released is never edited: its checksum is in every
/// database that ran it.
fn migrator() -> Migrator {
    let list = [
        (1, "ledger", include_str!("../../../migrations/sqlite/0001_ledger.sql")),
        (
            2,
            "control",
            include_str!("../../../migrations/sqlite/0002_control.sql"),
        ),
        (
            3,
            "cloud_memory",
            include_str!("../../../migrations/sqlite/0003_cloud_memory.sql"),
        ),
    ];
    let migrations = list
        .into_iter()
        .map(|(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}

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

/// Opens the file and brings its schema up to date. A lock file serialises processes that start at
/// once, since SQLite's own lock does not span several migrations.
pub(super) async fn open(options: &SqliteOptions) -> Result<(SqliteConnection, SqlitePool), OpenError> {
    options.check()?;
    make_file(options)?;
    let path = options.path.clone();
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
            None => return Err(OpenError::Locked { path }),
        }
    };
    let connect = |source| OpenError::Connect {
        path: path.clone(),
        source,
    };
    let mut writer = options.connect_writer().connect().await.map_err(connect)?;
    migrate(&mut writer, &path).await?;
    drop(lock);
    let readers = SqlitePoolOptions::new()
        .min_connections(0)
        .max_connections(options.readers.max(1))
        .acquire_timeout(ACQUIRE_LIMIT)
        .test_before_acquire(false)
        .connect_lazy_with(options.connect_reader());
    Ok((writer, readers))
}

async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let migrator = migrator();
    let known = migrator.iter().map(|m| m.version).max().unwrap_or(0);
    let connect = |source| OpenError::Connect {
        path: path.to_owned(),
        source,
    };
    // Looked at before anything is changed: an older binary must not touch a newer ledger.
    let ran: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_optional(&mut *writer)
        .await
        .map_err(connect)?;
    if ran.is_some() {
        let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut *writer)
            .await
            .map_err(connect)?;
        if let Some(found) = found.filter(|found| *found > known) {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found,
                known,
            });
        }
    }
    migrator
        .run_direct(None, writer, false)
        .await
        .map_err(|source| OpenError::Migrate {
            path: path.to_owned(),
            source,
        })
}
