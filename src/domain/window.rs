//! Windows: the stretch of time that a budget's limit is for.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A window as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    Hour {
        timezone: String,
    },
    Day {
        timezone: String,
    },
    /// `week_start`: 1 = Monday … 7 = Sunday (ISO 8601).
    Week {
        timezone: String,
        week_start: i8,
    },
    Month {
        timezone: String,
    },
    /// All time.
    Total,
    /// The last `length_s` seconds, in whole buckets of `bucket_s`; a bucket is dropped at its *end*
    /// plus the length, so that a posting counts for at least the whole length.
    Rolling {
        length_s: u32,
        bucket_s: u32,
    },
}

/// One instance of a window. Half open: `start <= t < end`.
/// `Total` and `Rolling` have one instance without ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowInstance {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
}

impl WindowInstance {
    pub const UNBOUNDED: Self = Self { start: None, end: None };

    /// Whether the window is over at `now`. An unbounded one never is.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        self.end.is_some_and(|end| now >= end)
    }
}
