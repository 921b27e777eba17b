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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// An error of SQLite's, by its extended code.
    #[derive(Debug)]
    struct Coded(i32);

    impl std::fmt::Display for Coded {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "code {}", self.0)
        }
    }

    impl Error for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            "coded"
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.to_string().into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn coded(code: i32) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Coded(code)))
    }

    #[test]
    fn a_statement_that_failed_has_certainly_done_nothing() {
        for (code, expected) in [
            (5, "Busy"),
            (261, "Busy"),
            (6, "Busy"),
            (13, "Full"),
            (778, "Full"),
            (4874, "Full"),
            (11, "Corrupt"),
            (267, "Corrupt"),
            (26, "Corrupt"),
            (1, "Other"),
            (1034, "Other"),
        ] {
            let error = format!("{:?}", of_statement("x", coded(code)));
            assert!(error.starts_with(expected), "{code}: {error}");
        }
    }

    #[test]
    fn a_commit_whose_sync_failed_is_unknown() {
        for (code, expected) in [
            (1034, "UnknownCommit"),
            (778, "UnknownCommit"),
            (1, "UnknownCommit"),
            (13, "Full"),
            (5, "Busy"),
        ] {
            let error = format!("{:?}", of_commit("x", coded(code)));
            assert!(error.starts_with(expected), "{code}: {error}");
        }
        let crashed = format!("{:?}", of_commit("x", sqlx::Error::WorkerCrashed));
        assert!(crashed.starts_with("UnknownCommit"), "{crashed}");
    }
}
