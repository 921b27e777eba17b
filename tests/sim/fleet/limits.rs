//! What burns is acted on before its limit.

use std::time::Duration;

use backstop::domain::containment::target::Region;
use backstop::domain::ledger::batch::TriggerCause;
use backstop::domain::ledger::posting::Trust;
use backstop::domain::money::Usd;
use backstop::ports::Clock as _;

use super::lab::*;
use crate::kill::CrashPoint;

/// One poll, and two seconds more.
const BOUND: Duration = Duration::from_secs(17);

fn is_projected(cause: &TriggerCause) -> bool {
    matches!(cause, TriggerCause::Projected { .. })
}

/// From the first machine that is too many to the trigger.
#[test]
fn the_first_look_that_shows_too_much_trips_the_line() {
    for (region, dead) in [(HERE, None), (THERE, None), (HERE, Some(THERE))] {
        let lab = Lab::new(vec![cap("5")]);
        lab.run(async {
            let play = async {
                lab.wait(33).await;
                // The dead region holds back nobody.
                lab.cloud.with_faults(|faults| {
                    faults.hangs.extend(dead.map(|name: &str| Region(name.to_owned())));
                });
                lab.wait(60).await;
                // $9.68 an hour: 31 of them burn five dollars a minute.
                for _ in 0..40 {
                    lab.cloud.add(machine(region, Some("a")));
                }
                let launched = lab.clock.now();
                let triggered = lab.until_triggered(60).await;
                assert!(
                    triggered.duration_since(launched).unsigned_abs() <= BOUND,
                    "{launched} {triggered}"
                );
                let triggers = lab.triggers().await;
                assert_eq!(triggers.len(), 1);
                let trigger = &triggers[0].trigger;
                assert!(is_projected(&trigger.cause), "{trigger:?}");
                assert_eq!((trigger.agent.clone(), trigger.trust), (Some(agent("a")), Trust::Cloud));
                assert!(lab.cloud.spent() < usd("5"));
            };
            lab.live(play).await;
        });
    }
}

/// A burn that stays the same reaches its limit, too: sixty seconds before it does.
#[test]
fn a_steady_burn_trips_a_reaction_time_before_its_limit() {
    let lab = Lab::new(vec![cap("2")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            // $0.16 a minute, so two dollars are spent after 744 seconds.
            lab.cloud.add(machine(HERE, Some("a")));
            lab.cloud.add(machine(HERE, Some("b")));
            let launched = lab.clock.now();
            let triggered = lab.until_triggered(1_000).await;
            let after = triggered.duration_since(launched).as_secs();
            assert!((684 - 17..=684 + 17).contains(&after), "{after} s");
            lab.wait(60).await;
            let triggers = lab.triggers().await;
            assert_eq!(triggers.len(), 2, "each agent's own line, once: {triggers:#?}");
            assert!(triggers.iter().all(|one| is_projected(&one.trigger.cause)));
            assert!(triggers.iter().all(|one| one.trigger.posted < usd("2")));
            // It goes on burning, and what was foreseen is no second breach when it comes.
            lab.wait(300).await;
            assert_eq!(lab.triggers().await.len(), 2);
            assert!(lab.posted(Some("a")).await > usd("2"));
        };
        lab.live(play).await;
    });
}

/// What is on its way to the ledger, or was written and not answered yet, is in no forecast twice.
#[test]
fn what_is_on_its_way_is_counted_once() {
    let lab = Lab::new(vec![cap("2")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, Some("a")));
            let launched = lab.clock.now();
            let triggered = lab.until_triggered(1_000).await;
            let after = triggered.duration_since(launched).as_secs();
            // A minute's burn is counted ahead; counted twice, it would trip at 624 s.
            assert!((684 - 17..=684 + 30).contains(&after), "{after} s");
        };
        // Longer than the ledger lets anybody wait for a commit.
        let stalls = CrashPoint::stalling(lab.clock.clone(), Duration::from_secs(7));
        assert!(lab.live_that(&stalls, play).await);
    });
}

/// What several burn adds up on the fleet's line, and it says whose it is.
#[test]
fn a_fleet_line_adds_up_what_all_burn() {
    let mut fleet = cap("10");
    fleet.scope = backstop::domain::ledger::line::Scope::Fleet;
    let lab = Lab::new(vec![fleet]);
    lab.run(async {
        let play = async {
            lab.wait(33).await;
            for _ in 0..40 {
                lab.cloud.add(machine(HERE, Some("a")));
            }
            for _ in 0..30 {
                lab.cloud.add(machine(THERE, Some("b")));
            }
            lab.until_triggered(17).await;
            let triggers = lab.triggers().await;
            let TriggerCause::Projected { ahead, burners, .. } = &triggers[0].trigger.cause else {
                panic!("{triggers:#?}");
            };
            let sum: Usd = burners.iter().map(|(_, usd)| *usd).sum();
            assert!(*ahead >= usd("10") && *ahead == sum, "{ahead} {burners:?}");
            assert_eq!(burners[0].0, agent("a"));
        };
        lab.live(play).await;
    });
}

#[test]
fn a_small_burn_below_its_limit_trips_nothing() {
    let lab = Lab::new(vec![cap("50")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, Some("a")));
            lab.wait(3_600).await;
            assert_eq!(lab.triggers().await.len(), 0);
        };
        lab.live(play).await;
    });
}
