//! Windows: the stretch of time that a budget's limit is for.
//!
//! A calendar window (hour, day, week, month) is cut where a clock on the wall in its named time zone
//! says so, and its instances tile time: every moment is in exactly one, across every change of the
//! offset. So a day has 23 or 25 hours twice a year, an hour that a change of half an hour cuts is cut,
//! a day that starts with a gap starts when the gap ends, and a stretch of the evening that is lived
//! twice stays with the day that had begun.
//!
//! Zones come from the database that is compiled in, not from the host's: two processes on one ledger
//! must cut the same windows, and a package upgrade must not move a line under its own holds.
//!
//! A rolling window has one instance that never ends; its time is in its [`Buckets`]. That instance is
//! not the one of all time: a budget that is changed from one into the other gets new lines, since what
//! a line keeps, and for how long, depends on the shape of its window.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
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

/// Why a window has no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("{0:?} is not a time zone of the IANA database, such as Europe/Vienna or UTC")]
    UnknownZone(String),
    #[error("a week starts on 1 (Monday) to 7 (Sunday), not {0}")]
    WeekStart(i8),
    #[error("a rolling window needs a bucket of at least a second that is no longer than the window")]
    Bucket,
    #[error("{0} is too near the end of time for a window")]
    OutOfRange(Timestamp),
}

/// One instance of a window. Half open: `start <= t < end`.
/// `Total` and `Rolling` have one instance each, which never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowInstance {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
}

impl WindowInstance {
    /// All time.
    pub const UNBOUNDED: Self = Self { start: None, end: None };
    /// The one instance of every rolling window. Its start tells it from [`Self::UNBOUNDED`] and nothing
    /// more: it is before every time that spend can have.
    pub const ROLLING: Self = Self {
        start: Some(Timestamp::MIN),
        end: None,
    };

    /// Its start as a person is told it: the instance of a rolling window has none.
    pub fn shown_start(&self) -> Option<Timestamp> {
        self.start.filter(|&start| start != Timestamp::MIN)
    }

    /// Whether the window is over at `now`. An unbounded one never is.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    pub fn contains(&self, t: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= t) && self.end.is_none_or(|end| t < end)
    }
}

impl Window {
    /// Checks what the config says of it: the zone's name, the start of the week, the bucket. A window
    /// that passes has an instance at every time that is not within weeks of the ends of the calendar.
    pub fn validate(&self) -> Result<(), WindowError> {
        match self {
            Self::Hour { timezone } | Self::Day { timezone } | Self::Month { timezone } => zone(timezone).map(drop),
            Self::Week { timezone, week_start } => {
                weekday(*week_start)?;
                zone(timezone).map(drop)
            }
            Self::Total => Ok(()),
            Self::Rolling { length_s, bucket_s } => match *bucket_s {
                0 => Err(WindowError::Bucket),
                bucket_s if bucket_s > *length_s => Err(WindowError::Bucket),
                _ => Ok(()),
            },
        }
    }

    /// The one instance that contains `t`.
    pub fn instance_at(&self, t: Timestamp) -> Result<WindowInstance, WindowError> {
        match self {
            Self::Hour { timezone } => hour_at(&zone(timezone)?, t),
            Self::Day { timezone } => Period::Day.at(&zone(timezone)?, t),
            Self::Week { timezone, week_start } => Period::Week(weekday(*week_start)?).at(&zone(timezone)?, t),
            Self::Month { timezone } => Period::Month.at(&zone(timezone)?, t),
            Self::Total => Ok(WindowInstance::UNBOUNDED),
            Self::Rolling { .. } => Ok(WindowInstance::ROLLING),
        }
    }

    /// What a line of this window keeps of it: (length, bucket) in seconds, if it is rolling.
    pub fn rolling(&self) -> Option<(u32, u32)> {
        match *self {
            Self::Rolling { length_s, bucket_s } => Some((length_s, bucket_s)),
            _ => None,
        }
    }
}

fn zone(name: &str) -> Result<TimeZone, WindowError> {
    let unknown = || WindowError::UnknownZone(name.to_owned());
    let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| unknown())?;
    // jiff answers this name with a zone that behaves like UTC: it is a placeholder, not a place.
    if zone.is_unknown() { Err(unknown()) } else { Ok(zone) }
}

fn weekday(week_start: i8) -> Result<Weekday, WindowError> {
    Weekday::from_monday_one_offset(week_start).map_err(|_| WindowError::WeekStart(week_start))
}

/// The clock hour of `t`, cut at every change of the offset within it.
fn hour_at(zone: &TimeZone, t: Timestamp) -> Result<WindowInstance, WindowError> {
    const HOUR: i64 = 3600;
    let error = || WindowError::OutOfRange(t);
    let offset = i64::from(zone.to_offset(t).seconds());
    let local = floor_second(t) + offset;
    let begin = local - local.rem_euclid(HOUR) - offset;
    let mut start = Timestamp::from_second(begin).map_err(|_| error())?;
    let mut end = Timestamp::from_second(begin + HOUR).map_err(|_| error())?;
    // `preceding` leaves out a change at the very moment it is asked for.
    let after = t.checked_add(1.nanosecond()).map_err(|_| error())?;
    if let Some(change) = zone.preceding(after).next() {
        start = start.max(change.timestamp());
    }
    if let Some(change) = zone.following(t).next() {
        end = end.min(change.timestamp());
    }
    Ok(WindowInstance {
        start: Some(start),
        end: Some(end),
    })
}

/// A window of whole civil days.
#[derive(Clone, Copy)]
enum Period {
    Day,
    Week(Weekday),
    Month,
}

impl Period {
    /// The instance of `t`. The period of the civil date is nearly always the answer; where the clock
    /// goes back over midnight the date runs backwards, and the start of the period decides instead.
    fn at(self, zone: &TimeZone, t: Timestamp) -> Result<WindowInstance, WindowError> {
        let find = || {
            let mut first = self.first(zone.to_datetime(t).date())?;
            let mut start = first_moment(zone, first)?;
            while t < start {
                first = self.first(first.yesterday()?)?;
                start = first_moment(zone, first)?;
            }
            let mut next = self.next(first)?;
            let mut end = first_moment(zone, next)?;
            while t >= end {
                next = self.next(next)?;
                (start, end) = (end, first_moment(zone, next)?);
            }
            Ok(WindowInstance {
                start: Some(start),
                end: Some(end),
            })
        };
        find().map_err(|_: jiff::Error| WindowError::OutOfRange(t))
    }

    /// The first day of the period that has this day.
    fn first(self, day: Date) -> Result<Date, jiff::Error> {
        match self {
            Self::Day => Ok(day),
            Self::Week(start) => day.checked_sub(i64::from(day.weekday().since(start)).days()),
            Self::Month => Ok(day.first_of_month()),
        }
    }

    /// The first day of the period after the one that starts on this day.
    fn next(self, first: Date) -> Result<Date, jiff::Error> {
        match self {
            Self::Day => first.tomorrow(),
            Self::Week(_) => first.checked_add(7.days()),
            Self::Month => first.checked_add(1.month()),
        }
    }
}

/// The first moment of a day: its midnight, the earlier one of two, or the end of the gap that has it.
fn first_moment(zone: &TimeZone, day: Date) -> Result<Timestamp, jiff::Error> {
    let midnight: DateTime = day.to_datetime(jiff::civil::Time::midnight());
    let ambiguous = zone.to_ambiguous_timestamp(midnight);
    let gap = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
    let moment = ambiguous.compatible()?;
    if !gap {
        return Ok(moment);
    }
    // Read with the offset before it, a time in a gap lies at or after the change.
    let change = zone.preceding(moment.checked_add(1.nanosecond())?).next();
    Ok(change.map_or(moment, |change| change.timestamp()))
}

/// Whole seconds since 1970, rounded down on both sides of it.
fn floor_second(t: Timestamp) -> i64 {
    t.as_second() - i64::from(t.subsec_nanosecond() < 0)
}

/// The buckets of a rolling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    length_s: u32,
    bucket_s: u32,
}

impl Buckets {
    pub fn new((length_s, bucket_s): (u32, u32)) -> Self {
        Self {
            length_s,
            bucket_s: bucket_s.max(1),
        }
    }

    /// The start of the bucket that `t` falls into.
    pub fn start_of(self, t: Timestamp) -> Timestamp {
        let second = floor_second(t);
        let start = second - second.rem_euclid(i64::from(self.bucket_s));
        // Only below the first bucket of the calendar, which then is a short one.
        Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
    }

    /// When a bucket stops counting: its end plus the length.
    pub fn expiry(self, start: Timestamp) -> Timestamp {
        let seconds = i64::from(self.bucket_s) + i64::from(self.length_s);
        start.checked_add(seconds.seconds()).unwrap_or(Timestamp::MAX)
    }

    pub fn is_over(self, start: Timestamp, now: Timestamp) -> bool {
        now >= self.expiry(start)
    }
}

#[cfg(test)]
mod tests;
