//! What can go wrong with the audit log, and whether trying again can help.

use std::path::PathBuf;

use crate::domain::audit::Break;
use crate::domain::audit::head::HeadError;
use crate::ports::{Retry, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("{path} is not a key that Backstop can sign with: {why}")]
    Key { path: PathBuf, why: String },
    #[error("cannot {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} of {path} is not a signed head: the file was damaged or changed")]
    Line {
        path: PathBuf,
        line: u64,
        #[source]
        source: serde_json::Error,
    },
    #[error("a head in {path} proves nothing")]
    Head {
        path: PathBuf,
        #[source]
        source: HeadError,
    },
    #[error("the audit log is broken")]
    Broken(#[from] Break),
    #[error("the audit log cannot be read or written")]
    Store(#[from] StoreError),
    #[error("{what} took longer than {seconds} s")]
    Slow { what: &'static str, seconds: u64 },
}

impl AuditError {
    pub fn retry(&self) -> Retry {
        match self {
            // A disk that is full or slow may recover, and the chain waits for its signature meanwhile.
            Self::File { .. } | Self::Slow { .. } => Retry::Transient,
            Self::Store(error) => error.retry(),
            Self::Key { .. } | Self::Line { .. } | Self::Head { .. } | Self::Broken(_) => Retry::Never,
        }
    }
}
