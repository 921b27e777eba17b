//! Where the database is and how it is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::migrate::MigrateError;
use crate::ports::StoreError;

/// Statements that a connection keeps prepared: more than the store has.
const KEPT_STATEMENTS: usize = 256;

/// What every connection is set to. WAL with a sync at every commit: an answer is given only for what is
/// on the disk (L5). A checkpoint costs two syncs: at 16 MB it is rare, and the log still small.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
     PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; \
     PRAGMA trusted_schema = OFF;";

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{url:?} is no file: write sqlite: and a path, such as sqlite:data/backstop.db")]
    Url { url: String },
    #[error("a ledger in memory would be lost with the process: give a file, such as sqlite:data/backstop.db")]
    InMemory,
    #[error("cannot make {path}")]
    Create {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("another process has been opening {path} for too long")]
    Locked { path: PathBuf },
    #[error("{path} has schema {found}, and this binary knows up to {known}: run the newer backstop that wrote it")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot bring {path} up to date")]
    Migrate {
        path: PathBuf,
        #[source]
        source: MigrateError,
    },
    #[error("cannot open {path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How to open the store.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    pub path: PathBuf,
    /// New spend stops while less than this is free where the database lies (D4); 0 watches nothing.
    pub reserve_bytes: u64,
    /// The database never grows past this; `None` leaves it to the disk.
    pub max_bytes: Option<u64>,
    /// How long a statement waits for another process's write lock.
    pub busy_timeout: Duration,
    /// Connections that only read.
    pub readers: u32,
}

impl SqliteOptions {
    pub const DEFAULT_RESERVE: u64 = 64 * 1024 * 1024;
    pub(super) const PAGE_BYTES: u64 = 4096;

    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            reserve_bytes: Self::DEFAULT_RESERVE,
            max_bytes: None,
            busy_timeout: Duration::from_secs(5),
            readers: 3,
        }
    }

    /// From `[storage] url`: `sqlite:` and a path, relative or absolute.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        let refused = || OpenError::Url { url: url.to_owned() };
        let path = url.strip_prefix("sqlite:").ok_or_else(refused)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.contains('?') || path.contains('#') || path.contains('\0') {
            return Err(refused());
        }
        let options = Self::new(path);
        options.check()?;
        Ok(options)
    }

    /// A path that SQLite would take for something else than a file is refused.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let text = self.path.to_string_lossy();
        if text.is_empty() || text.contains(":memory:") {
            return Err(OpenError::InMemory);
        }
        if text.ends_with('/') || text.starts_with("file:") || self.path.file_name().is_none() {
            return Err(OpenError::Url { url: text.into_owned() });
        }
        Ok(())
    }

    /// A file beside the database: `<database>.<suffix>`.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        PathBuf::from(name)
    }

    pub(super) fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Opens the file, which must be there. Waits for the disk: never on a worker of the runtime.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        // One thread at a time has a connection, so it needs no mutex of its own.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(KEPT_STATEMENTS);
        connection.execute_batch(SETTINGS)?;
        if let Some(bytes) = self.max_bytes {
            let pages = i64::try_from((bytes / Self::PAGE_BYTES).max(1)).unwrap_or(i64::MAX);
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        Ok(connection)
    }

    /// The writer keeps the pages of hot lines and index ends; nothing else needs a large cache.
    pub(super) fn connect_writer(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA cache_size = -16000")?;
        Ok(connection)
    }

    pub(super) fn connect_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA cache_size = -4000; PRAGMA query_only = ON")?;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file() {
        for (url, path) in [
            ("sqlite:data/backstop.db", "data/backstop.db"),
            ("sqlite:///var/lib/backstop/b.db", "/var/lib/backstop/b.db"),
            ("sqlite:/srv/b.db", "/srv/b.db"),
        ] {
            let options = SqliteOptions::from_url(url).expect(url);
            assert_eq!(options.path, Path::new(path), "{url}");
        }
        for url in [
            "",
            "postgres://x",
            "sqlite:data/",
            "sqlite:a.db?mode=memory",
            "sqlite:..",
        ] {
            assert!(
                matches!(SqliteOptions::from_url(url), Err(OpenError::Url { .. })),
                "{url}"
            );
        }
        for url in ["sqlite:", "sqlite::memory:", "sqlite://:memory:"] {
            assert!(
                matches!(SqliteOptions::from_url(url), Err(OpenError::InMemory)),
                "{url}"
            );
        }
    }

    fn pragma(connection: &Connection, name: &str) -> String {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        match value.unwrap() {
            rusqlite::types::Value::Integer(n) => n.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn every_connection_is_set_as_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = SqliteOptions::new(dir.path().join("b.db"));
        assert!(options.connect().is_err(), "a file is never made by the way");
        std::fs::write(&options.path, "").unwrap();
        options.max_bytes = Some(4096 * 1000);
        options.busy_timeout = Duration::from_millis(1234);
        let writer = options.connect_writer().unwrap();
        let reader = options.connect_reader().unwrap();
        let backup = options.connect().unwrap();
        for connection in [&writer, &reader, &backup] {
            for (name, value) in [
                ("journal_mode", "wal"),
                ("synchronous", "2"),
                ("foreign_keys", "1"),
                ("temp_store", "2"),
                ("wal_autocheckpoint", "4000"),
                ("journal_size_limit", "67108864"),
                ("trusted_schema", "0"),
                ("busy_timeout", "1234"),
                ("max_page_count", "1000"),
            ] {
                assert_eq!(pragma(connection, name), value, "{name}");
            }
        }
        assert_eq!(
            [pragma(&writer, "cache_size"), pragma(&reader, "cache_size")],
            ["-16000", "-4000"]
        );
        assert_eq!(
            [pragma(&writer, "query_only"), pragma(&reader, "query_only")],
            ["0", "1"]
        );
    }
}
