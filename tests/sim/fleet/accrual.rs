//! What is posted is what the fleet cost.

use std::collections::BTreeMap;

use backstop::cloud::rehearsal::actors::Credential;
use backstop::cloud::rehearsal::{Rehearsal, Verb};
use backstop::domain::containment::target::Principal;
use backstop::domain::id::AgentId;
use backstop::domain::money::Usd;
use backstop::fleet::FleetSettings;
use backstop::ports::{Clock as _, NoticeKind, PostingQuery, Store as _};

use super::lab::*;
use crate::kill::CrashPoint;

fn stop(cloud: &Rehearsal, id: &str) {
    cloud.someone(Verb::Stop, id).unwrap();
}

/// A machine's stop costs one look more at most, and a moment for the answer.
const LATE: u64 = 16;

#[test]
fn accrual_is_the_fleets_own_spend() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            let one = lab.cloud.add(machine(HERE, Some("a")));
            lab.wait(1_007).await;
            let two = lab.cloud.add(machine(THERE, Some("a")).profile(&profile("a")));
            let three = lab.cloud.add(machine(HERE, Some("b")));
            lab.wait(3_600).await;
            stop(&lab.cloud, &one);
            lab.wait(100).await;
            stop(&lab.cloud, &three);
            lab.wait(500).await;
            lab.cloud.someone(Verb::Start, &one).unwrap();
            lab.wait(77).await;
            stop(&lab.cloud, &two);
            lab.wait(200).await;
        };
        let spent = lab.live(play).await;
        assert_charged(lab.posted(None).await, spent, 3 * LATE);
        assert!(lab.posted(Some("b")).await > usd("9"));
        // Every hour has its own rows, and each report id is there once.
        let query = PostingQuery {
            limit: 10_000,
            ..PostingQuery::default()
        };
        let postings = lab.store.postings(&query).await.unwrap();
        let mut ids: BTreeMap<(AgentId, String), Usd> = BTreeMap::new();
        for posting in &postings {
            let report = posting.report.clone().unwrap();
            assert!(report.as_str().starts_with("fleet/123456789012/"), "{report}");
            let hour = posting.occurred_at.strftime("%Y-%m-%dT%H").to_string();
            assert!(
                report.as_str().ends_with(&format!("AmazonEC2/{hour}")),
                "{report} at {}",
                posting.occurred_at
            );
            let before = ids.insert((posting.attribution.agent.clone(), report.to_string()), posting.amount);
            assert_eq!(before, None);
        }
        assert!(postings.len() > 60, "{}", postings.len());
    });
}

#[test]
fn what_ran_before_the_first_look_of_all_is_the_bills() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        lab.cloud.add(machine(HERE, Some("a")));
        lab.wait(3_600).await;
        let before = lab.cloud.spent();
        let since = lab.live(lab.wait(600)).await.saturating_sub(before);
        let posted = lab.posted(None).await;
        // But for the moment until the first look.
        assert_charged(posted.saturating_add(usd("0.01")), since, 20);
    });
}

/// L7: what cannot be seen goes on costing, and the other region is not held back.
#[test]
fn a_region_that_is_down_goes_on_being_charged() {
    for hangs in [false, true] {
        let lab = Lab::new(vec![cap("1000000")]);
        lab.run(async {
            let play = async {
                lab.wait(20).await;
                lab.cloud.add(machine(THERE, Some("a")));
                lab.wait(60).await;
                lab.cloud.with_faults(|faults| {
                    let there = backstop::domain::containment::target::Region(THERE.to_owned());
                    if hangs {
                        faults.hangs.insert(there);
                    } else {
                        faults.outages.insert(there);
                    }
                });
                lab.wait(1_000).await;
                let b = lab.cloud.add(machine(HERE, Some("b")));
                lab.wait(90).await;
                assert!(
                    lab.posted(Some("b")).await > Usd::ZERO,
                    "the other region is seen as ever"
                );
                stop(&lab.cloud, &b);
                lab.wait(30).await;
            };
            let spent = lab.live(play).await;
            assert_charged(lab.posted(None).await, spent, LATE);
        });
    }
}

/// The first look after it charges what ran meanwhile.
#[test]
fn the_time_that_the_daemon_was_down_is_charged() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, Some("a")));
            lab.wait(100).await;
        };
        lab.live(play).await;
        lab.wait(5_000).await;
        // This one came while nobody looked.
        lab.cloud.add(machine(HERE, Some("b")));
        lab.wait(2_000).await;
        let spent = lab.live(lab.wait(60)).await;
        assert_charged(lab.posted(None).await, spent, 2);
    });
}

#[test]
fn nobodys_machines_are_told_once_and_charged_to_nobody() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, None));
            lab.wait(200).await;
        };
        lab.live(play).await;
        lab.live(lab.wait(60)).await;
        assert_eq!(lab.posted(None).await, Usd::ZERO);
        let heard = lab.heard.0.lock().unwrap();
        let told: Vec<_> = heard.iter().filter(|notice| notice.kind == NoticeKind::Alert).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].text.contains("$9.6768 an hour"), "{}", told[0].text);
    });
}

/// C6: one of two daemons on a store charges, and when it dies the other one goes on.
#[test]
fn two_daemons_charge_once() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let other = Lab {
            store: std::sync::Arc::new((*lab.store).clone()),
            ..lab.twin()
        };
        let stops = CrashPoint::never();
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, Some("a")));
            lab.wait(300).await;
        };
        let first = lab.live_that(&stops, play);
        let second = async {
            other.wait(1).await;
            other.live(other.wait(1_000)).await
        };
        let (ended, spent) = futures_util::join!(first, second);
        assert!(ended);
        assert_charged(lab.posted(None).await, spent, 2);
    });
}

/// A runaway agent launches without the tag. Once the record tells of it, all that it cost is the agent's.
#[test]
fn an_untagged_launch_is_charged_to_its_maker_from_its_start() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            let by = Credential::Role(role("a"));
            let one = lab.cloud.launch(&by, machine(HERE, None)).unwrap();
            lab.wait(200).await;
            assert_eq!(lab.posted(None).await, Usd::ZERO, "nobody's, as far as is known");
            lab.wait(300).await;
            assert!(lab.posted(Some("a")).await > usd("1"));
            assert_eq!(
                lab.created.lock().unwrap()[&agent("a")].len(),
                1,
                "and the kill switch is told"
            );
            stop(&lab.cloud, &one);
            lab.wait(60).await;
        };
        let spent = lab.live(play).await;
        assert_charged(lab.posted(Some("a")).await, spent, LATE);
        assert_eq!(lab.posted(Some("b")).await, Usd::ZERO);
        // It is known after a restart, too, whatever the record still has.
        let play = async {
            lab.cloud.add(machine(HERE, None));
            lab.wait(60).await;
        };
        lab.created.lock().unwrap().clear();
        lab.live(play).await;
        assert_eq!(lab.created.lock().unwrap()[&agent("a")].len(), 1);
    });
}

/// C3: how far the record was read is told with what it said; it does not grow while it cannot be read, and
/// neither a restart nor another daemon makes more of it.
#[test]
fn c3_how_far_the_record_was_read_is_what_was_read() {
    use backstop::domain::containment::target::Region;

    let lab = Lab::new(vec![cap("1000000")]);
    let told = |lab: &Lab| lab.readings.lock().unwrap().get(&Region(HERE.to_owned())).cloned();
    lab.run(async {
        let begun = lab.clock.now();
        let play = async {
            assert_eq!(told(&lab), None);
            lab.wait(200).await;
            let read = told(&lab).unwrap().until.unwrap();
            assert!(
                lab.clock.now().duration_since(read).as_secs() <= 61,
                "read every minute"
            );
            lab.cloud.with_faults(|faults| faults.record_down = true);
            lab.wait(600).await;
            let failing = told(&lab).unwrap();
            assert!(failing.until.unwrap().duration_since(begun).as_secs() <= 200);
            let (since, why) = failing.failing.unwrap();
            assert!(since.duration_since(begun).as_secs() <= 300, "{since}");
            assert!(why.contains("not authorized"), "{why}");
        };
        lab.live(play).await;
        let read = told(&lab).unwrap().until;
        // Another run, which cannot read it either, knows what the first one read, and no more.
        lab.readings.lock().unwrap().clear();
        lab.live(lab.wait(300)).await;
        let again = told(&lab).unwrap();
        assert_eq!(again.until, read);
        assert!(again.failing.is_some());
        // And so does a daemon beside it, which reads nothing itself.
        let other = Lab {
            readings: std::sync::Arc::default(),
            ..lab.twin()
        };
        lab.cloud.with_faults(|faults| faults.record_down = false);
        let second = async {
            other.wait(5).await;
            let play = async {
                other.wait(200).await;
                let theirs = told(&other).unwrap().until.unwrap();
                let ours = told(&lab).unwrap().until.unwrap();
                assert!(
                    theirs <= ours && ours.duration_since(theirs).as_secs() <= 130,
                    "{theirs} {ours}"
                );
            };
            other.live(play).await
        };
        futures_util::join!(lab.live(lab.wait(300)), second);
    });
}

/// It may have ended before the record tells of it.
#[test]
fn an_untagged_machine_that_ended_is_charged_to_its_maker() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            let by = Credential::Role(role("a"));
            let one = lab.cloud.launch(&by, machine(HERE, None)).unwrap();
            lab.wait(120).await;
            stop(&lab.cloud, &one);
            lab.wait(100).await;
        };
        lab.live(play).await;
        assert_eq!(lab.posted(None).await, Usd::ZERO, "nobody's, as far as is known");
        // Also when the daemon was started again meanwhile.
        let spent = lab.live(lab.wait(300)).await;
        assert_charged(lab.posted(Some("a")).await, spent, LATE);
    });
}

/// After a restart nothing is known of an agent's instance profiles before its role could be asked about.
#[test]
fn a_restart_without_iam_makes_no_orphans() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            lab.cloud.add(machine(HERE, None).profile(&profile("a")));
            lab.wait(100).await;
        };
        lab.live(play).await;
        lab.heard.0.lock().unwrap().clear();
        // The cloud says nothing of a role that it does not know, as while it cannot be asked.
        let mut settings = FleetSettings::clone(&lab.settings.load());
        let targets = settings.targets.get_mut(&agent("a")).unwrap();
        targets.principals = vec![Principal::Role(role("unheard-of"))];
        lab.settings.store(settings.into());
        let spent = lab.live(lab.wait(300)).await;
        assert_charged(lab.posted(Some("a")).await, spent, 1);
        assert!(lab.heard.0.lock().unwrap().is_empty());
    });
}
