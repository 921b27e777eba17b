//! Times as people write them on a command line.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// `2026-11-20T10:00:00Z`, `2026-11-20` (its start in UTC), or a duration: so long ago where the past
/// is meant, so long from now where the future is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    Apart(Duration),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        if let Ok(date) = text.parse::<jiff::civil::Date>()
            && let Ok(start) = date.to_zoned(jiff::tz::TimeZone::UTC)
        {
            return Ok(Self::At(start.timestamp()));
        }
        crate::config::parse_duration(text)
            .map(Self::Apart)
            .ok_or_else(|| "a time such as 2026-11-20T10:00:00Z, a date, or a duration such as 2h or 7d".to_owned())
    }
}

impl When {
    /// As RFC 3339, where a duration reaches back from now.
    pub fn past(self) -> String {
        self.resolve(|now, span| now.checked_sub(span))
    }

    /// As RFC 3339, where a duration reaches forward from now.
    pub fn future(self) -> String {
        self.resolve(|now, span| now.checked_add(span))
    }

    /// The day, in UTC, as `2026-11-20`.
    pub fn today() -> String {
        now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
    }

    fn resolve(self, shift: fn(Timestamp, SignedDuration) -> Result<Timestamp, jiff::Error>) -> String {
        let at = match self {
            Self::At(at) => at,
            Self::Apart(duration) => {
                let span = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
                shift(now(), span).unwrap_or(Timestamp::UNIX_EPOCH)
            }
        };
        at.to_string()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an operator's own clock says what \"2h\" means on a command line"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_durations() {
        assert_eq!(
            "2026-11-20T10:00:00+01:00".parse::<When>().map(When::past),
            Ok("2026-11-20T09:00:00Z".to_owned())
        );
        assert_eq!(
            "2026-11-20".parse::<When>().map(When::future),
            Ok("2026-11-20T00:00:00Z".to_owned())
        );
        assert_eq!(
            "7d".parse::<When>(),
            Ok(When::Apart(Duration::from_secs(7 * 24 * 3600)))
        );
        assert!("yesterday".parse::<When>().is_err());
        let (past, future) = (
            When::Apart(Duration::from_secs(60)).past(),
            When::Apart(Duration::from_secs(60)).future(),
        );
        assert!(past < future, "{past} {future}");
    }
}
