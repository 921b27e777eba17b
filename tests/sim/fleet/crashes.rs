//! A crash at any call posts nothing twice and loses nothing.

use std::cell::Cell;

use backstop::cloud::rehearsal::Verb;

use super::lab::*;
use crate::kill::{CrashPoint, When};

/// Whatever the daemon does, the fleet lives its own life: three machines that are stopped, one after the other.
async fn life(lab: &Lab, ends: &Cell<bool>) {
    lab.wait(20).await;
    let one = lab.cloud.add(machine(HERE, Some("a")));
    lab.wait(31).await;
    let two = lab.cloud.add(machine(THERE, Some("b")));
    lab.wait(100).await;
    let three = lab.cloud.add(machine(HERE, Some("a")));
    lab.wait(40).await;
    lab.cloud.someone(Verb::Stop, &one).unwrap();
    lab.wait(45).await;
    lab.cloud.someone(Verb::Stop, &two).unwrap();
    lab.wait(45).await;
    lab.cloud.someone(Verb::Stop, &three).unwrap();
    lab.wait(60).await;
    ends.set(true);
}

/// Runs the life with a daemon that dies at the given call, is there again after `pause`, and ends cleanly.
/// Says whether it died.
fn crash_at(call: usize, when: When, pause: u64) -> bool {
    let mut lab = Lab::new(vec![cap("1000000")]);
    let clock = lab.clock.clone();
    let ended = Cell::new(false);
    let crash = CrashPoint::at(call, when);
    let died = crate::kill::run(&clock, async {
        let twin = lab.twin();
        let life = life(&twin, &ended);
        let daemons = async {
            // A first look of all is behind it: what ran before that one would be the bill's.
            lab.live(lab.wait(5)).await;
            // The last part of the life is long enough for every daemon to see the end of the machines.
            let until_end = async {
                while !ended.get() {
                    lab.wait(1).await;
                }
            };
            let died = !lab.live_that(&crash, until_end).await;
            if died {
                // What was not synced is gone, and so are the process's locks.
                lab.store = std::sync::Arc::new(lab.store.crash());
                lab.wait(pause).await;
                let until_end = async {
                    while !ended.get() {
                        lab.wait(1).await;
                    }
                    lab.wait(60).await;
                };
                lab.live(until_end).await;
            }
            died
        };
        let ((), died) = futures_util::join!(life, daemons);
        died
    });
    let (posted, spent) = (lab.run(lab.posted(None)), lab.cloud.spent());
    // Each stop may be seen a poll late, and by the pause.
    assert_charged(posted, spent, 3 * (16 + pause));
    died
}

#[test]
fn a_crash_at_any_call_charges_what_was_spent_once() {
    let mut calls = 0;
    for when in [When::BeforeCall, When::AfterCall] {
        // Every call of the beginning, and then some: the calls of a run repeat themselves.
        let mut call = 0;
        while crash_at(call, when, 3) {
            call += if call < 60 { 1 } else { 7 };
            calls += 1;
        }
    }
    assert!(calls > 100, "{calls}");
}

/// A daemon that is away for longer charges what ran meanwhile, until the first look that does not show it.
#[test]
fn a_crash_and_a_pause_lose_nothing() {
    for call in (10..120).step_by(13) {
        crash_at(call, When::AfterCall, 50);
    }
}
