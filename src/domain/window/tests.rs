use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn instance(start: &str, end: &str) -> WindowInstance {
    WindowInstance {
        start: Some(at(start)),
        end: Some(at(end)),
    }
}

fn hour(zone: &str) -> Window {
    Window::Hour { timezone: zone.into() }
}

fn day(zone: &str) -> Window {
    Window::Day { timezone: zone.into() }
}

fn week(zone: &str, week_start: i8) -> Window {
    Window::Week {
        timezone: zone.into(),
        week_start,
    }
}

fn month(zone: &str) -> Window {
    Window::Month { timezone: zone.into() }
}

#[test]
fn windows_follow_the_wall_clock_of_their_zone() {
    let cases = [
        // 23 and 25 hours.
        (
            day("Europe/Vienna"),
            "2026-03-29T10:00Z",
            "2026-03-28T23:00Z",
            "2026-03-29T22:00Z",
        ),
        (
            day("Europe/Vienna"),
            "2026-10-25T10:00Z",
            "2026-10-24T22:00Z",
            "2026-10-25T23:00Z",
        ),
        // Midnight is in a gap: the day starts when it ends.
        (
            day("America/Sao_Paulo"),
            "2018-11-04T12:00Z",
            "2018-11-04T03:00Z",
            "2018-11-05T02:00Z",
        ),
        // A gap from 23:30 to 00:30 (Toronto, 1919).
        (
            day("America/Toronto"),
            "1919-03-31T12:00Z",
            "1919-03-31T04:30Z",
            "1919-04-01T04:00Z",
        ),
        // Back from 00:01 to 23:01: the minute stays with the day that had begun.
        (
            day("America/St_Johns"),
            "2010-11-07T02:45Z",
            "2010-11-07T02:30Z",
            "2010-11-08T03:30Z",
        ),
        // Samoa left out the 30th of December 2011.
        (
            day("Pacific/Apia"),
            "2011-12-30T09:59Z",
            "2011-12-29T10:00Z",
            "2011-12-30T10:00Z",
        ),
        (
            day("Pacific/Apia"),
            "2011-12-30T10:00Z",
            "2011-12-30T10:00Z",
            "2011-12-31T10:00Z",
        ),
        // Half and quarter hours.
        (
            hour("Asia/Kolkata"),
            "2026-05-01T10:10Z",
            "2026-05-01T09:30Z",
            "2026-05-01T10:30Z",
        ),
        (
            hour("Asia/Kathmandu"),
            "2026-05-01T10:10Z",
            "2026-05-01T09:15Z",
            "2026-05-01T10:15Z",
        ),
        // Lord Howe goes back by half an hour from 02:00 to 01:30: the second 01:30 is cut off.
        (
            hour("Australia/Lord_Howe"),
            "2026-04-04T15:10Z",
            "2026-04-04T15:00Z",
            "2026-04-04T15:30Z",
        ),
        // One o'clock comes twice, and is two hours.
        (
            hour("America/New_York"),
            "2026-11-01T05:59:59Z",
            "2026-11-01T05:00Z",
            "2026-11-01T06:00Z",
        ),
        (
            hour("America/New_York"),
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:00Z",
            "2026-11-01T07:00Z",
        ),
        // The boundary itself belongs to what follows.
        (
            day("UTC"),
            "2026-11-20T00:00Z",
            "2026-11-20T00:00Z",
            "2026-11-21T00:00Z",
        ),
        (
            hour("UTC"),
            "1969-12-31T23:59:59.5Z",
            "1969-12-31T23:00Z",
            "1970-01-01T00:00Z",
        ),
        // Weeks by their first day.
        (
            week("UTC", 1),
            "2026-11-20T06:00Z",
            "2026-11-16T00:00Z",
            "2026-11-23T00:00Z",
        ),
        (
            week("UTC", 7),
            "2026-11-20T06:00Z",
            "2026-11-15T00:00Z",
            "2026-11-22T00:00Z",
        ),
        (
            week("Europe/Vienna", 7),
            "2026-03-29T10:00Z",
            "2026-03-28T23:00Z",
            "2026-04-04T22:00Z",
        ),
        (
            month("America/New_York"),
            "2026-03-01T04:00Z",
            "2026-02-01T05:00Z",
            "2026-03-01T05:00Z",
        ),
        (
            month("America/New_York"),
            "2026-03-01T05:00Z",
            "2026-03-01T05:00Z",
            "2026-04-01T04:00Z",
        ),
    ];
    for (window, t, start, end) in cases {
        assert_eq!(window.instance_at(at(t)), Ok(instance(start, end)), "{window:?} at {t}");
    }
}

#[test]
fn unbounded_windows_never_close() {
    let rolling = Window::Rolling {
        length_s: 18_000,
        bucket_s: 300,
    };
    for (window, only) in [
        (Window::Total, WindowInstance::UNBOUNDED),
        (rolling, WindowInstance::ROLLING),
    ] {
        let instance = window.instance_at(at("2026-11-20T00:00Z")).unwrap();
        assert_eq!(instance, only);
        assert_eq!(instance.shown_start(), None);
        assert!(!instance.is_closed(Timestamp::MAX));
        assert!(instance.contains(Timestamp::MIN) && instance.contains(Timestamp::MAX));
    }
}

#[test]
fn wrong_windows_are_named() {
    for name in ["Europe/Wien", "", "Etc/Unknown", "../UTC"] {
        assert_eq!(day(name).validate(), Err(WindowError::UnknownZone(name.to_owned())));
        assert_eq!(
            day(name).instance_at(at("2026-11-20T00:00Z")),
            Err(WindowError::UnknownZone(name.to_owned()))
        );
    }
    for week_start in [0, 8, -1] {
        assert_eq!(
            week("UTC", week_start).validate(),
            Err(WindowError::WeekStart(week_start))
        );
    }
    for (length_s, bucket_s) in [(10, 0), (10, 11), (0, 0)] {
        assert_eq!(
            Window::Rolling { length_s, bucket_s }.validate(),
            Err(WindowError::Bucket)
        );
    }
    assert_eq!(
        Window::Rolling {
            length_s: 10,
            bucket_s: 10
        }
        .validate(),
        Ok(())
    );
    for window in [hour("UTC"), day("Asia/Tokyo"), week("UTC", 1), month("UTC")] {
        for t in [Timestamp::MIN, Timestamp::MAX] {
            assert!(window.validate().is_ok());
            if let Ok(instance) = window.instance_at(t) {
                assert!(instance.contains(t), "{window:?}");
            }
        }
    }
}

#[test]
fn a_bucket_counts_for_at_least_the_whole_length() {
    let buckets = Buckets::new((18_000, 300));
    let t = at("2026-11-20T00:04:59Z");
    let start = buckets.start_of(t);
    assert_eq!(start, at("2026-11-20T00:00Z"));
    assert_eq!(buckets.expiry(start), at("2026-11-20T05:05Z"));
    assert!(!buckets.is_over(start, at("2026-11-20T05:04:59.999Z")));
    assert!(buckets.is_over(start, at("2026-11-20T05:05Z")));
    assert_eq!(buckets.start_of(at("1969-12-31T23:59:59.9Z")), at("1969-12-31T23:55Z"));
}

/// Every zone of the database, so that no odd one is left out.
fn zones() -> Vec<String> {
    TimeZoneDatabase::bundled()
        .available()
        .map(|name| name.to_string())
        .collect()
}

fn any_window() -> impl Strategy<Value = Window> {
    let zone = proptest::sample::select(zones());
    (zone, 0_usize..4, 1_i8..=7).prop_map(|(timezone, kind, week_start)| match kind {
        0 => Window::Hour { timezone },
        1 => Window::Day { timezone },
        2 => Window::Week { timezone, week_start },
        _ => Window::Month { timezone },
    })
}

/// Moments at random, and moments within hours of a change of the offset.
fn moment(window: &Window, seconds: i64, nanos: i32, near: bool) -> Timestamp {
    let t = Timestamp::new(seconds, nanos).unwrap();
    let (Window::Hour { timezone }
    | Window::Day { timezone }
    | Window::Month { timezone }
    | Window::Week { timezone, .. }) = window
    else {
        return t;
    };
    let zone = zone(timezone).unwrap();
    match zone.following(t).next() {
        Some(change) if near => {
            Timestamp::from_second(change.timestamp().as_second() + seconds.rem_euclid(4 * 86_400) - 2 * 86_400)
                .unwrap()
        }
        _ => t,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn instances_tile_time(
        window in any_window(),
        // 1880 to 2100.
        seconds in -2_840_000_000_i64..4_102_000_000,
        nanos in 0_i32..1_000_000_000,
        near in any::<bool>(),
    ) {
        let t = moment(&window, seconds, nanos, near);
        let here = window.instance_at(t).unwrap();
        prop_assert!(here.contains(t), "{window:?}: {t} is not in {here:?}");
        let (start, end) = (here.start.unwrap(), here.end.unwrap());
        prop_assert_eq!(window.instance_at(start).unwrap(), here, "its start is in it");
        let last = end.checked_sub(1.nanosecond()).unwrap();
        prop_assert_eq!(window.instance_at(last).unwrap(), here, "its last moment is in it");
        let next = window.instance_at(end).unwrap();
        prop_assert_eq!(next.start, Some(end), "no gap and no overlap after it");
        let before = window.instance_at(start.checked_sub(1.nanosecond()).unwrap()).unwrap();
        prop_assert_eq!(before.end, Some(start), "no gap and no overlap before it");
    }

    #[test]
    fn a_bucket_has_its_time_in_it(
        second in -10_000_000_000_i64..10_000_000_000,
        nanos in 0_i32..1_000_000_000,
        length_s in 1_u32..10_000_000,
        bucket_s in 1_u32..100_000,
    ) {
        let t = Timestamp::new(second, nanos).unwrap();
        let buckets = Buckets::new((length_s, bucket_s));
        let start = buckets.start_of(t);
        prop_assert!(start <= t);
        prop_assert!(t < start.checked_add(i64::from(bucket_s).seconds()).unwrap());
        let whole = t.checked_add(i64::from(length_s).seconds()).unwrap();
        prop_assert!(!buckets.is_over(start, whole), "it counts for the whole length");
    }
}
