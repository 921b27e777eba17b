//! What SQLite's result codes mean to a caller.

use crate::ports::StoreError;

/// Primary result codes of SQLite, as in `sqlite3.h`.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOTADB: i32 = 26;
/// Extended codes of writes that found no room: SQLite reports only ENOSPC as `FULL`, so a quota
/// (EDQUOT) arrives as a failed write, and a full disk under the shared memory as a failed resize.
const IOERR_WRITE: i32 = 778;
const IOERR_SHMSIZE: i32 = 4874;

fn code(error: &sqlx::Error) -> Option<i32> {
    match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse().ok()),
        _ => None,
    }
}

/// Whether a statement failed because a unique index already holds the value.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

/// The error of a statement that has certainly not been committed.
pub(super) fn of_statement(context: &'static str, error: sqlx::Error) -> StoreError {
    let extended = code(&error).unwrap_or_default();
    match (extended & 0xff, extended) {
        (BUSY | LOCKED, _) => StoreError::Busy { context },
        (FULL, _) | (_, IOERR_WRITE | IOERR_SHMSIZE) => StoreError::Full {
            context: format!("{context}: {error}"),
        },
        (CORRUPT | NOTADB, _) => StoreError::Corrupt {
            context: context.to_owned(),
            source: Some(Box::new(error)),
        },
        _ => match error {
            sqlx::Error::PoolTimedOut => StoreError::Busy { context },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt {
                context: context.to_owned(),
                source: Some(Box::new(error)),
            },
            error => StoreError::Other {
                context,
                source: Box::new(error),
            },
        },
    }
}

/// The error of a COMMIT.
///
/// A full disk is no doubt: the frames of this transaction lie past the end that every reader knows
/// and are overwritten by the next one. A failed write or sync is: what reached the disk may be found
/// whole by a recovery, so the caller must send the same batch again.
pub(super) fn of_commit(context: &'static str, error: sqlx::Error) -> StoreError {
    let primary = code(&error).unwrap_or(IOERR) & 0xff;
    match primary {
        BUSY | LOCKED | FULL => of_statement(context, error),
        _ => StoreError::UnknownCommit {
            context,
            source: Some(Box::new(error)),
        },
    }
}

/// `result.map_err(store("…"))`.
pub(super) fn store(context: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| of_statement(context, error)
}
