//! What SQLite's result codes mean to a caller.

use rusqlite::Error;

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

const CONSTRAINT_PRIMARYKEY: i32 = 1555;
const CONSTRAINT_UNIQUE: i32 = 2067;

/// The extended code of what SQLite itself refused.
fn code(error: &Error) -> Option<i32> {
    match error {
        Error::SqlInputError { error, .. } => Some(error.extended_code),
        error => error.sqlite_extended_error_code(),
    }
}

/// Whether a statement failed because a unique index already holds the value.
pub(super) fn is_unique_violation(error: &Error) -> bool {
    matches!(code(error), Some(CONSTRAINT_PRIMARYKEY | CONSTRAINT_UNIQUE))
}

/// The error of a statement that has certainly not been committed.
pub(super) fn of_statement(context: &'static str, error: Error) -> StoreError {
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
        _ => StoreError::Other {
            context,
            source: Box::new(error),
        },
    }
}

/// The error of a COMMIT.
///
/// A full disk is no doubt: the frames of this transaction lie past the end that every reader knows
/// and are overwritten by the next one. A failed write or sync is: what reached the disk may be found
/// whole by a recovery, so the caller must send the same batch again.
pub(super) fn of_commit(context: &'static str, error: Error) -> StoreError {
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
pub(super) fn store(context: &'static str) -> impl Fn(Error) -> StoreError {
    move |error| of_statement(context, error)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    /// An error of SQLite's, by its extended code.
    fn coded(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), Some(format!("code {code}")))
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
        let uncoded = format!("{:?}", of_commit("x", Error::InvalidQuery));
        assert!(uncoded.starts_with("UnknownCommit"), "{uncoded}");
    }

    #[test]
    fn a_value_that_is_taken_is_told_from_other_constraints() {
        for (code, taken) in [
            (1555, true),
            (2067, true),
            (19, false),
            (787, false),
            (275, false),
            (1, false),
        ] {
            assert_eq!(is_unique_violation(&coded(code)), taken, "{code}");
        }
    }
}
