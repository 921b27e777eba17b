//! How values are written into columns and read back.
//!
//! Times become microseconds, money nano-dollars, enumerations small integers, and the key of a line
//! has no NULL in it, so that it can be unique. Nothing here trusts a row: what cannot be read is
//! `StoreError::Corrupt` with the column's place, never a panic.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSqlResult, ValueRef};
use uuid::Uuid;

use crate::domain::agent::AgentStatus;
use crate::domain::id::AgentId;
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::line::LineKey;
use crate::domain::ledger::posting::{Basis, PostingKind, Trust};
use crate::domain::money::{NANOS_PER_USD, Usd};
use crate::domain::window::WindowInstance;
use crate::ports::StoreError;

/// Ends of an unbounded window: past every time that a `Timestamp` can be, and exact in JSON.
const WINDOW_START: i64 = -1_000_000_000_000_000_000;
const WINDOW_END: i64 = 1_000_000_000_000_000_000;

pub(super) const MICROS_PER_HOUR: i64 = 3_600_000_000;

pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// Hours since 1970, rounded down.
pub(super) fn hour(time: Timestamp) -> i64 {
    micros(time).div_euclid(MICROS_PER_HOUR)
}

pub(super) fn corrupt(what: &'static str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        context: format!("{what}: {why}"),
        source: None,
    }
}

/// JSON of our own types, which cannot fail for want of a key or a number that JSON lacks.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| StoreError::Other {
        context: "writing a record as JSON",
        source: Box::new(source),
    })
}

/// A row of one column of JSON.
pub(super) fn body<T: serde::de::DeserializeOwned>(columns: &mut Columns<'_>) -> Result<T, StoreError> {
    from_json(columns.what, columns.text()?)
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt {
        context: format!("{what}: its JSON cannot be read"),
        source: Some(Box::new(source)),
    })
}

/// Reads a row's columns from left to right.
pub(super) struct Columns<'r> {
    row: &'r Row<'r>,
    what: &'static str,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r Row<'r>, what: &'static str) -> Self {
        Self { row, what, next: 0 }
    }

    fn read<T>(&mut self, read: impl FnOnce(ValueRef<'r>) -> FromSqlResult<T>) -> Result<T, StoreError> {
        let at = self.next;
        self.next += 1;
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Corrupt {
            context: format!("{}: column {}", self.what, at + 1),
            source: Some(source),
        };
        let value = self.row.get_ref(at).map_err(|error| unreadable(Box::new(error)))?;
        read(value).map_err(|error| unreadable(Box::new(error)))
    }

    pub(super) fn int(&mut self) -> Result<i64, StoreError> {
        self.read(|value| value.as_i64())
    }

    pub(super) fn opt_int(&mut self) -> Result<Option<i64>, StoreError> {
        self.read(|value| value.as_i64_or_null())
    }

    pub(super) fn flag(&mut self) -> Result<bool, StoreError> {
        self.int().map(|flag| flag != 0)
    }

    pub(super) fn text(&mut self) -> Result<&'r str, StoreError> {
        self.read(|value| value.as_str())
    }

    pub(super) fn opt_text(&mut self) -> Result<Option<&'r str>, StoreError> {
        self.read(|value| value.as_str_or_null())
    }

    fn bytes(&mut self) -> Result<&'r [u8], StoreError> {
        self.read(|value| value.as_blob())
    }

    pub(super) fn usd(&mut self) -> Result<Usd, StoreError> {
        self.int().map(Usd::from_nanos)
    }

    /// Dollars in one column and nano-dollars in the next, put together; past the range it is the
    /// range's end. Sums are taken so, since SQLite's `sum` fails on an overflow.
    pub(super) fn split_usd(&mut self) -> Result<Usd, StoreError> {
        let sum = i128::from(self.int()?) * i128::from(NANOS_PER_USD) + i128::from(self.int()?);
        let end = if sum < 0 { Usd::from_nanos(i64::MIN) } else { Usd::MAX };
        Ok(Usd::from_i128(sum).unwrap_or(end))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        let at = self.int()?;
        self.as_time(at)
    }

    pub(super) fn opt_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let at = self.opt_int()?;
        at.map(|at| self.as_time(at)).transpose()
    }

    pub(super) fn as_time(&self, at: i64) -> Result<Timestamp, StoreError> {
        Timestamp::from_microsecond(at).map_err(|e| corrupt(self.what, e))
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, StoreError> {
        Uuid::from_slice(self.bytes()?).map_err(|e| corrupt(self.what, e))
    }

    pub(super) fn opt_uuid(&mut self) -> Result<Option<Uuid>, StoreError> {
        let bytes = self.read(|value| value.as_blob_or_null())?;
        bytes
            .map(|b| Uuid::from_slice(b).map_err(|e| corrupt(self.what, e)))
            .transpose()
    }

    pub(super) fn digest(&mut self) -> Result<[u8; 32], StoreError> {
        self.bytes()?.try_into().map_err(|e| corrupt(self.what, e))
    }

    /// A name that parses, such as an agent's id.
    pub(super) fn name<T>(&mut self) -> Result<T, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text()?;
        text.parse().map_err(|e| corrupt(self.what, e))
    }

    pub(super) fn opt_name<T>(&mut self) -> Result<Option<T>, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.opt_text()?;
        text.map(|t| t.parse().map_err(|e| corrupt(self.what, e))).transpose()
    }

    pub(super) fn small<T>(&mut self, read: impl FnOnce(i64) -> Option<T>) -> Result<T, StoreError> {
        let number = self.int()?;
        read(number).ok_or_else(|| corrupt(self.what, format!("{number} has no meaning in column {}", self.next)))
    }

    /// The five columns of a line's key.
    pub(super) fn line_key(&mut self) -> Result<LineKey, StoreError> {
        let budget = self.name()?;
        let agent = match self.text()? {
            "" => None,
            agent => Some(AgentId::new(agent).map_err(|e| corrupt(self.what, e))?),
        };
        let value = self.text()?.to_owned();
        let start = self.int()?;
        let end = self.int()?;
        Ok(LineKey {
            budget,
            agent,
            value,
            window: WindowInstance {
                start: (start != WINDOW_START).then(|| self.as_time(start)).transpose()?,
                end: (end != WINDOW_END).then(|| self.as_time(end)).transpose()?,
            },
        })
    }
}

/// A line's key as its five columns.
pub(super) fn line_key(key: &LineKey) -> (&str, &str, &str, i64, i64) {
    (
        key.budget.as_str(),
        key.agent.as_ref().map_or("", AgentId::as_str),
        &key.value,
        key.window.start.map_or(WINDOW_START, micros),
        key.window.end.map_or(WINDOW_END, micros),
    )
}

/// Pairs of a value and its number in the database; a number is never given a second meaning.
macro_rules! numbered {
    ($to:ident, $from:ident, $type:ty, $($value:path = $number:literal),+ $(,)?) => {
        pub(super) fn $to(value: $type) -> i64 {
            match value {
                $($value => $number,)+
            }
        }

        pub(super) fn $from(number: i64) -> Option<$type> {
            match number {
                $($number => Some($value),)+
                _ => None,
            }
        }
    };
}

numbered!(
    hold_state,
    as_hold_state,
    HoldState,
    HoldState::Open = 0,
    HoldState::Captured = 1,
    HoldState::Voided = 2,
    HoldState::Unresolved = 3,
);

numbered!(
    posting_kind,
    as_posting_kind,
    PostingKind,
    PostingKind::Report = 0,
    PostingKind::Capture = 1,
    PostingKind::Unresolved = 2,
    PostingKind::Correction = 3,
);

numbered!(
    basis,
    as_basis,
    Basis,
    Basis::Metered = 0,
    Basis::Reported = 1,
    Basis::Estimated = 2,
    Basis::Billed = 3,
);

numbered!(
    trust,
    as_trust,
    Trust,
    Trust::Agent = 0,
    Trust::Unconfirmed = 1,
    Trust::Gateway = 2,
    Trust::Provider = 3,
    Trust::Cloud = 4,
    Trust::Operator = 5,
);

numbered!(
    agent_status,
    as_agent_status,
    AgentStatus,
    AgentStatus::Active = 0,
    AgentStatus::Paused = 1,
    AgentStatus::Contained = 2,
    AgentStatus::Restoring = 3,
);
