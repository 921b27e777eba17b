//! An online copy that is verified before it is called one; and what the store knows of itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};
use tokio::task::spawn_blocking;

use super::SqliteStore;
use super::codec::corrupt;
use super::error::{self, store};
use super::open::sync_directory;
use super::options::SqliteOptions;
use super::statement::Db;
use crate::ports::{StoreError, StoreStats};

/// What only grows: numbers of postings and of audit entries. A copy lies between two readings of it.
#[derive(Debug, Clone, Copy)]
struct Marks {
    posting: i64,
    audit: i64,
}

fn marks(db: &Db<'_>) -> Result<Marks, StoreError> {
    db.statement(
        "counting",
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'posting'), 0), \
         coalesce((SELECT max(seq) FROM audit), 0)",
    )?
    .row("the last numbers", |columns| {
        Ok(Marks {
            posting: columns.int()?,
            audit: columns.int()?,
        })
    })?
    .ok_or_else(|| corrupt("the last numbers", "there are none"))
}

fn failed(context: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
            context: format!("{context}: {source}"),
        },
        _ => StoreError::Other {
            context,
            source: Box::new(source),
        },
    }
}

/// On a thread of its own, and on a connection of its own: a copy takes as long as the store is large.
pub(super) async fn backup(store: &SqliteStore, to: &Path) -> Result<StoreStats, StoreError> {
    let (options, to) = (store.options.clone(), to.to_owned());
    let copied = spawn_blocking(move || make(&options, &to)).await;
    copied.unwrap_or_else(|source| {
        Err(StoreError::Other {
            context: "a backup",
            source: Box::new(source),
        })
    })
}

fn make(options: &SqliteOptions, to: &Path) -> Result<StoreStats, StoreError> {
    // Made by us, so that nobody else can read the copy at any moment; never an existing file.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Conflict {
                what: "the backup's file: it exists already, and",
            },
            _ => failed("making the backup's file")(error),
        })?;
    let copied = copy(options, to);
    if copied.is_err() {
        // Half a copy must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied
}

fn copy(options: &SqliteOptions, to: &Path) -> Result<StoreStats, StoreError> {
    let name = to.to_str().ok_or(StoreError::NotFound {
        what: "a backup's path that is text",
    })?;
    let source = options.connect().map_err(store("opening the store for a backup"))?;
    let db = Db::new(&source);
    let before = marks(&db)?;
    db.statement("copying the store", "VACUUM INTO ?1")?.text(name).run()?;
    let after = marks(&db)?;
    source
        .close()
        .map_err(|(_, failed)| error::of_statement("closing after a backup", failed))?;

    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(failed("syncing the backup"))?;
    let directory = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_directory(directory).map_err(failed("syncing the backup's directory"))?;
    verify(to, before, after)
}

/// Reads a file that nobody writes: it makes no log beside it. Only a URI can say so.
fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let name = percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)
}

fn verify(copy: &Path, before: Marks, after: Marks) -> Result<StoreStats, StoreError> {
    let connection = open_immutable(copy).map_err(store("opening the backup"))?;
    let db = Db::new(&connection);
    let verdict = db
        .statement("checking the backup", "PRAGMA integrity_check(1)")?
        .row("a verdict", |columns| columns.text().map(str::to_owned))?;
    if verdict.as_deref() != Some("ok") {
        return Err(corrupt("the backup", verdict.unwrap_or_default()));
    }
    let dangling = db
        .statement("checking the backup", "PRAGMA foreign_key_check")?
        .row("a dangling row", |_| Ok(()))?;
    if dangling.is_some() {
        return Err(corrupt("the backup", "a row names another that is not there"));
    }
    let copied = marks(&db)?;
    let within = |low: i64, at: i64, high: i64| low <= at && at <= high;
    if !within(before.posting, copied.posting, after.posting) || !within(before.audit, copied.audit, after.audit) {
        return Err(corrupt("the backup", "it lacks rows that the store has"));
    }
    check_sums(&db)?;
    let mut stats = count(&db)?;
    stats.bytes = std::fs::metadata(copy).map_or(0, |meta| meta.len());
    Ok(stats)
}

/// L1 on the copy, by SQL and so by other means than the rules: every line that is not rolling has
/// posted what its entries add up to.
fn check_sums(db: &Db<'_>) -> Result<(), StoreError> {
    let wrong = db
        .statement(
            "checking the backup's sums",
            "SELECT count(*) FROM line l LEFT JOIN (SELECT line, total(amount) AS sum FROM (SELECT line, amount \
             FROM entry UNION ALL SELECT line, amount FROM entry_hour) GROUP BY line) e ON e.line = l.id \
             WHERE (l.rule ->> '$.rolling') IS NULL \
             AND abs(l.posted - coalesce(e.sum, 0)) > abs(l.posted) * 1e-9 + 0.5",
        )?
        .row("a count", |columns| columns.int())?;
    match wrong {
        Some(0) => Ok(()),
        wrong => Err(corrupt(
            "the backup",
            format!("{} lines are not the sum of their entries", wrong.unwrap_or_default()),
        )),
    }
}

fn count(db: &Db<'_>) -> Result<StoreStats, StoreError> {
    db.statement(
        "counting",
        "SELECT (SELECT count(*) FROM posting), (SELECT count(*) FROM hold WHERE state = 0), \
         (SELECT count(*) FROM line), (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM \
         pragma_page_size)",
    )?
    .row("the counts", |columns| {
        Ok(StoreStats {
            postings: columns.int()?,
            open_holds: columns.int()?,
            lines: columns.int()?,
            bytes: columns.small(|bytes| u64::try_from(bytes).ok())?,
            free_bytes: None,
        })
    })?
    .ok_or_else(|| corrupt("the counts", "there are none"))
}

pub(super) async fn stats(store: &SqliteStore) -> Result<StoreStats, StoreError> {
    let mut stats = store.read("counting", count).await?;
    stats.free_bytes = store.free_bytes().ok();
    Ok(stats)
}
