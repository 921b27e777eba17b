//! A budget's window: calendar, total or rolling.

use std::time::Duration;

use super::reader::{Item, Table};
use super::values;
use crate::domain::window::Window;

/// Live buckets of a rolling line at most: they travel with the line in every commit.
const MAX_BUCKETS: u64 = 500;
const DAY_S: u64 = 24 * 3600;

pub(super) fn window(table: &Table<'_>) -> Option<Window> {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Hour,
        Day,
        Week,
        Month,
        Total,
    }
    const WORDS: [(&str, Word); 5] = [
        ("hour", Word::Hour),
        ("day", Word::Day),
        ("week", Word::Week),
        ("month", Word::Month),
        ("total", Word::Total),
    ];
    let named = table.get("window");
    let rolling_item = table.get("rolling");
    let bucket_item = table.get("bucket");
    let timezone_item = table.get("timezone");
    let week_start_item = table.get("week_start");

    let timezone = match &timezone_item {
        Some(item) => timezone(item),
        None => Some("UTC".to_owned()),
    };
    let week_start = match &week_start_item {
        Some(item) => item.word(&WEEKDAYS),
        None => Some(1),
    };
    let unused = |item: &Option<Item<'_>>, why: &str| {
        if let Some(item) = item {
            item.warning(&format!("has no effect {why}"), None);
        }
    };
    match (named, rolling_item) {
        (None, None) => {
            table.missing(
                "window",
                "\"hour\", \"day\", \"week\", \"month\" or \"total\"; or rolling = \"5h\"",
            );
            None
        }
        (Some(_), Some(rolling)) => {
            rolling.error("window is set as well", "set one of the two");
            None
        }
        (None, Some(item)) => {
            unused(&timezone_item, "on a rolling window");
            unused(&week_start_item, "on a rolling window");
            rolling(&item, bucket_item.as_ref())
        }
        (Some(item), None) => {
            let word = item.word(&WORDS);
            if let Some(item) = &bucket_item {
                item.error(
                    "is only for rolling windows",
                    "leave it out, or write rolling instead of window",
                );
                return None;
            }
            let word = word?;
            if word != Word::Week {
                unused(&week_start_item, "but on window = \"week\"");
            }
            if word == Word::Total {
                unused(&timezone_item, "on window = \"total\"");
            }
            let timezone = timezone?;
            Some(match word {
                Word::Hour => Window::Hour { timezone },
                Word::Day => Window::Day { timezone },
                Word::Week => Window::Week {
                    timezone,
                    week_start: week_start?,
                },
                Word::Month => Window::Month { timezone },
                Word::Total => Window::Total,
            })
        }
    }
}

/// ISO 8601: Monday is 1.
const WEEKDAYS: [(&str, i8); 7] = [
    ("monday", 1),
    ("tuesday", 2),
    ("wednesday", 3),
    ("thursday", 4),
    ("friday", 5),
    ("saturday", 6),
    ("sunday", 7),
];

fn timezone(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    // The domain reckons with the zones that are compiled in, whatever this machine knows besides.
    let day = Window::Day {
        timezone: text.to_owned(),
    };
    if text.len() > 64 || day.validate().is_err() {
        let near = super::suggest::nearest_of(text, jiff::tz::db().available().map(|name| name.to_string()));
        let hint = near.map_or_else(
            || "an IANA name, such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
            |near| format!("did you mean \"{near}\"?"),
        );
        item.error_hint(&format!("{} is not a time zone", values::shown(text)), hint);
        return None;
    }
    Some(text.to_owned())
}

fn rolling(item: &Item<'_>, bucket_item: Option<&Item<'_>>) -> Option<Window> {
    let length = item.duration(Duration::from_secs(60)..=Duration::from_secs(366 * DAY_S))?;
    let length_s = whole_seconds(item, length)?;
    let bucket_s = match bucket_item {
        None => default_bucket(length_s),
        Some(bucket_item) => {
            let bucket = bucket_item.duration(Duration::from_secs(1)..=length)?;
            let bucket_s = whole_seconds(bucket_item, bucket)?;
            if !length_s.is_multiple_of(bucket_s) {
                bucket_item.error(
                    "does not divide the rolling window into whole buckets",
                    "such as \"5m\" of \"5h\"",
                );
                return None;
            }
            if length_s / bucket_s > MAX_BUCKETS {
                let message = format!(
                    "makes {} buckets, and a line keeps at most {MAX_BUCKETS}",
                    length_s / bucket_s
                );
                bucket_item.error(&message, "take a longer bucket");
                return None;
            }
            bucket_s
        }
    };
    Some(Window::Rolling {
        length_s: u32::try_from(length_s).ok()?,
        bucket_s: u32::try_from(bucket_s).ok()?,
    })
}

fn whole_seconds(item: &Item<'_>, duration: Duration) -> Option<u64> {
    if duration.subsec_nanos() != 0 {
        item.error("must be whole seconds", None);
        return None;
    }
    Some(duration.as_secs())
}

/// The longest of the usual lengths that cuts the window into at least 60 whole buckets; a window too
/// odd for all of them is cut into as many as it divides into.
fn default_bucket(length_s: u64) -> u64 {
    let fits =
        |bucket: &u64| length_s.is_multiple_of(*bucket) && length_s / bucket >= 60 && length_s / bucket <= MAX_BUCKETS;
    [6 * 3600, 3600, 1800, 900, 600, 300, 60, 30, 10, 5, 1]
        .into_iter()
        .find(fits)
        .unwrap_or_else(|| {
            let buckets = (1..=MAX_BUCKETS)
                .rev()
                .find(|buckets| length_s.is_multiple_of(*buckets))
                .unwrap_or(1);
            length_s / buckets
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_rolling_windows_get_usual_buckets() {
        assert_eq!(default_bucket(5 * 3600), 300);
        assert_eq!(default_bucket(3600), 60);
        assert_eq!(default_bucket(24 * 3600), 900);
        assert_eq!(default_bucket(60), 1);
    }

    proptest! {
        #[test]
        fn every_rolling_window_gets_whole_and_bounded_buckets(length_s in 60_u64..=366 * DAY_S) {
            let bucket = default_bucket(length_s);
            prop_assert_eq!(length_s % bucket, 0);
            prop_assert!(length_s / bucket <= MAX_BUCKETS && length_s / bucket >= 1);
        }
    }
}
