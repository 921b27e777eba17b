//! An online copy that is verified before it is called one; and what the store knows of itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::SqliteStore;
use super::codec::{Columns, corrupt};
use super::error::store;
use super::open::sync_directory;
use crate::ports::{StoreError, StoreStats};

/// What only grows: numbers of postings and of audit entries. A copy lies between two readings of it.
#[derive(Debug, Clone, Copy)]
struct Marks {
    posting: i64,
    audit: i64,
}

async fn marks(db: &mut SqliteConnection) -> Result<Marks, StoreError> {
    let (posting, audit) = sqlx::query_as(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'posting'), 0), \
         coalesce((SELECT max(seq) FROM audit), 0)",
    )
    .fetch_one(db)
    .await
    .map_err(store("counting"))?;
    Ok(Marks { posting, audit })
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

pub(super) async fn backup(store: &SqliteStore, to: &Path) -> Result<StoreStats, StoreError> {
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
    let copied = copy(store, to).await;
    if copied.is_err() {
        // Half a copy must not be taken for one.
        let _ = std::fs::remove_file(to);
    }
    copied
}

async fn copy(store: &SqliteStore, to: &Path) -> Result<StoreStats, StoreError> {
    let name = to.to_str().ok_or(StoreError::NotFound {
        what: "a backup's path that is text",
    })?;
    let mut source = store
        .options
        .connect()
        .connect()
        .await
        .map_err(self::store("opening the store for a backup"))?;
    let before = marks(&mut source).await?;
    sqlx::query("VACUUM INTO ?1")
        .bind(name)
        .execute(&mut source)
        .await
        .map_err(self::store("copying the store"))?;
    let after = marks(&mut source).await?;
    source.close().await.map_err(self::store("closing after a backup"))?;

    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(failed("syncing the backup"))?;
    let directory = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_directory(directory).map_err(failed("syncing the backup's directory"))?;
    verify(to, before, after).await
}

async fn verify(copy: &Path, before: Marks, after: Marks) -> Result<StoreStats, StoreError> {
    // Immutable: reading it makes no log beside it.
    let mut db = SqliteConnectOptions::new()
        .filename(copy)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(store("opening the backup"))?;
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut db)
        .await
        .map_err(store("checking the backup"))?;
    if verdict != "ok" {
        return Err(corrupt("the backup", verdict));
    }
    let dangling = sqlx::query("PRAGMA foreign_key_check")
        .fetch_optional(&mut db)
        .await
        .map_err(store("checking the backup"))?;
    if dangling.is_some() {
        return Err(corrupt("the backup", "a row names another that is not there"));
    }
    let copied = marks(&mut db).await?;
    let within = |low: i64, at: i64, high: i64| low <= at && at <= high;
    if !within(before.posting, copied.posting, after.posting) || !within(before.audit, copied.audit, after.audit) {
        return Err(corrupt("the backup", "it lacks rows that the store has"));
    }
    check_sums(&mut db).await?;
    let mut stats = count(&mut db).await?;
    stats.bytes = std::fs::metadata(copy).map_or(0, |meta| meta.len());
    db.close().await.map_err(store("closing the backup"))?;
    Ok(stats)
}

/// L1 on the copy, by SQL and so by other means than the rules: every line that is not rolling has
/// posted what its entries add up to.
async fn check_sums(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let wrong: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM line l LEFT JOIN (SELECT line, total(amount) AS sum FROM (SELECT line, amount FROM entry \
         UNION ALL SELECT line, amount FROM entry_hour) GROUP BY line) e ON e.line = l.id \
         WHERE (l.rule ->> '$.rolling') IS NULL AND abs(l.posted - coalesce(e.sum, 0)) > abs(l.posted) * 1e-9 + 0.5",
    )
    .fetch_one(db)
    .await
    .map_err(store("checking the backup's sums"))?;
    if wrong > 0 {
        return Err(corrupt(
            "the backup",
            format!("{wrong} lines are not the sum of their entries"),
        ));
    }
    Ok(())
}

async fn count(db: &mut SqliteConnection) -> Result<StoreStats, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM posting), (SELECT count(*) FROM hold WHERE state = 0), \
         (SELECT count(*) FROM line), (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM \
         pragma_page_size)",
    )
    .fetch_one(db)
    .await
    .map_err(store("counting"))?;
    let mut columns = Columns::of(&row, "the counts");
    Ok(StoreStats {
        postings: columns.int()?,
        open_holds: columns.int()?,
        lines: columns.int()?,
        bytes: columns.small(|bytes| u64::try_from(bytes).ok())?,
        free_bytes: None,
    })
}

pub(super) async fn stats(store: &SqliteStore) -> Result<StoreStats, StoreError> {
    let mut db = store.readers.acquire().await.map_err(self::store("counting"))?;
    let mut stats = count(&mut db).await?;
    stats.free_bytes = store.free_bytes().ok();
    Ok(stats)
}
