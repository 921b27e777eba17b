//! Way 11. A window resets when its calendar says so, in its own zone, by months that have their days.
//!
//! The daemon runs by the machine's clock, so the moment of a reset is not awaited here: what is asserted is
//! where each window ends, reckoned a second time, and that money of one instant before its start is no
//! longer on it. What happens to a line at its end, at any time and in any zone, is the simulation's to show.

use backstop::ports::Clock as _;
use backstop::system::SystemClock;
use jiff::civil::Weekday;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde_json::{Value, json};

use super::super::agent::chat;
use super::super::place::{Place, cents, usd};
use super::super::upstream::manner::Much;
use super::super::upstream::prices::TWO_CENTS;

const ZONES: [&str; 3] = ["UTC", "Pacific/Kiritimati", "America/St_Johns"];

/// Start and end of the window around this moment, by the calendar.
fn around(now: Timestamp, window: &str, zone: &str) -> (Timestamp, Timestamp) {
    let now = now.in_tz(zone).expect("a zone");
    let day = now.start_of_day().expect("days begin");
    let next = |from: &Zoned, span: jiff::Span| {
        let date = from.date().checked_add(span).expect("a near date");
        date.to_zoned(from.time_zone().clone()).expect("a date begins")
    };
    let (start, end) = match window {
        "day" => (day.clone(), next(&day, 1.day())),
        "week" => {
            let since = i64::from(day.weekday().since(Weekday::Monday));
            let monday = next(&day, (-since).days());
            (monday.clone(), next(&monday, 7.days()))
        }
        "month" => {
            let first = next(&day, (1 - i64::from(day.day())).days());
            (first.clone(), next(&first, 1.month()))
        }
        _ => panic!("{window}"),
    };
    (start.timestamp(), end.timestamp())
}

fn time(value: &Value) -> Timestamp {
    value
        .as_str()
        .unwrap_or_default()
        .parse()
        .unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[tokio::test]
async fn way_11_window_resets_late_in_the_wrong_zone_or_not_monthly() {
    let mut budgets = String::new();
    for zone in ZONES {
        for window in ["day", "week", "month"] {
            let name = format!("{window}.{}", zone.replace('/', "-"));
            budgets.push_str(&format!(
                "[[budget]]\nname = \"{name}\"\nscope = \"agent\"\nwindow = \"{window}\"\n\
                 timezone = \"{zone}\"\nlimit_usd = \"0.10\"\nresponse = \"alert\"\n"
            ));
        }
    }
    let place = Place::with(budgets).await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    worker.chat(&chat(&TWO_CENTS, 100)).await.ok();
    let before = SystemClock.now();
    let lines = worker.lines().await;
    let after = SystemClock.now();
    assert_eq!(lines.len(), 9, "{lines:#?}");
    for line in &lines {
        let (window, zone) = line["budget"]
            .as_str()
            .expect("a name")
            .split_once('.')
            .expect("two parts");
        let zone = zone.replace('-', "/");
        let shown = (time(&line["window_start"]), time(&line["window_end"]));
        // Midnight may have passed while we asked.
        let expected = [before, after].map(|now| around(now, window, &zone));
        assert!(expected.contains(&shown), "{expected:?}: {line:#}");
    }

    // A dollar of the last instant of the window before fills nothing of this one; one of its first does.
    let starts: Vec<Timestamp> = lines.iter().map(|line| time(&line["window_start"])).collect();
    let earliest = starts.iter().min().expect("there are lines");
    let late = |id: &str, at: Timestamp, amount: &str| json!({ "id": id, "amount_usd": amount, "occurred_at": at });
    let last_instant = *earliest - 1.millisecond();
    let reply = worker.post("/v1/usage", &late("before", last_instant, "0.09")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    worker.chat(&chat(&TWO_CENTS, 100)).await.ok();
    let reply = worker.post("/v1/usage", &late("at", *earliest, "0.05")).await;
    assert_eq!(reply.status, 200, "{reply:#?}");
    let lines = worker.lines().await;
    for line in &lines {
        let counts = time(&line["window_start"]) <= *earliest;
        let expected = if counts { cents(9) } else { cents(4) };
        // Unless its window has just turned.
        let has_turned = !starts.contains(&time(&line["window_start"]));
        assert!(has_turned || usd(&line["posted_usd"]) == expected, "{line:#}");
    }
    // The longest window is used up but for a cent; the shorter ones have room.
    worker
        .chat(&chat(&TWO_CENTS, 100))
        .await
        .refused(402, "budget_exceeded");
    assert_eq!(place.upstream.count().billed(), cents(4));
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), cents(4 + 9 + 5));
}
