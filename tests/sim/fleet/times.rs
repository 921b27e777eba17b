//! Time that nobody watched, and time that did not pass.

use backstop::domain::ledger::line::Response;
use backstop::domain::money::Usd;
use backstop::domain::window::Window;
use jiff::SignedDuration;

use super::lab::*;

/// What the fleet costs while `play` runs.
async fn costs(lab: &Lab, play: impl Future<Output = ()>) -> Usd {
    let before = lab.cloud.spent();
    play.await;
    lab.cloud.spent().saturating_sub(before)
}

/// D4: somebody sets the clock, and nobody is charged for time that did not pass.
#[test]
fn d4_a_clock_that_is_set_charges_what_elapsed() {
    for off_by in [SignedDuration::from_hours(30 * 24), SignedDuration::from_hours(-10)] {
        let lab = Lab::new(vec![cap("1000000")]);
        lab.run(async {
            let play = async {
                lab.wait(20).await;
                lab.cloud.add(machine(HERE, Some("a")));
                lab.wait(100).await;
                lab.set_clock(off_by);
                lab.wait(300).await;
                let posted = lab.posted(None).await;
                assert!(posted <= lab.cloud.spent(), "{posted}");
                lab.set_clock(SignedDuration::ZERO);
                lab.wait(300).await;
            };
            let spent = lab.live(play).await;
            assert_charged(lab.posted(None).await, spent, 2);
        });
    }
}

/// Whoever switches the watching off takes the bill as it comes; it is not charged later as one piece.
#[test]
fn the_time_for_which_watching_was_off_is_the_bills() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, Some("a")));
            lab.wait(100).await;
        };
        let mut watched = lab.live(play).await;
        // Off at the start, with a book of the run before.
        lab.set_watch(false);
        lab.wait(60).await;
        let play = async {
            lab.wait(1_800).await;
            lab.set_watch(true);
            watched = watched.saturating_add(costs(&lab, lab.wait(100)).await);
            // And while it runs: that is noticed when the lease is renewed.
            lab.set_watch(false);
            lab.wait(1_800).await;
            lab.set_watch(true);
            watched = watched.saturating_add(costs(&lab, lab.wait(100)).await);
        };
        lab.live(play).await;
        // Each time that it is switched on is noticed within five seconds.
        let posted = lab.posted(Some("a")).await.saturating_add(usd("0.03"));
        assert_charged(posted, watched, 2 * 20);
    });
}

fn hourly(limit: &str) -> backstop::domain::budget::Budget {
    backstop::domain::budget::Budget {
        window: Window::Hour {
            timezone: "UTC".to_owned(),
        },
        response: Response::Contain,
        ..cap(limit)
    }
}

/// What was spent in hours that are over is judged on their lines and not on this hour's.
#[test]
fn a_day_that_the_daemon_was_down_trips_no_line_of_today() {
    let lab = Lab::new(vec![hourly("20")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, Some("a")));
            lab.wait(100).await;
        };
        lab.live(play).await;
        lab.wait(36_000).await;
        lab.live(lab.wait(300)).await;
        assert!(lab.posted(Some("a")).await > usd("90"));
        assert_eq!(lab.triggers().await.len(), 0);
    });
}

#[test]
fn an_orphan_of_many_hours_trips_no_line_of_today() {
    let lab = Lab::new(vec![hourly("25")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            // Both cost $19.35 an hour.
            let two = [(); 2].map(|()| lab.cloud.add(machine(HERE, None)));
            lab.wait(2 * 3_600).await;
            for id in two {
                lab.cloud.set_tag(&id, TAG, Some("a"));
            }
            lab.wait(100).await;
            assert!(lab.posted(Some("a")).await > usd("35"));
        };
        lab.live(play).await;
        assert_eq!(lab.triggers().await.len(), 0);
    });
}
