//! The wait list and the mirror at work.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use backstop::domain::ledger::batch::{Refusal, TriggerCause};
use backstop::domain::money::Usd;
use backstop::ledger::{AdmitRejection, AdmitRequest};
use backstop::ports::Trigger;

use crate::ledger::lab::{Bench, Lab, budget, capture, report, usd, wants};

/// Calls that hold 20 and cost 1: all of them come at once, and all are served though only five fit.
#[test]
fn five_hundred_calls_at_once_are_all_served() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(600)]);
    let served = Rc::new(RefCell::new(0));
    for _ in 0..500 {
        let (ledger, time, served) = (bench.ledger.clone(), lab.exec.time.clone(), Rc::clone(&served));
        lab.exec.spawner.spawn(0, async move {
            let hold = ledger.admit(wants(100)).await.expect("admitted");
            time.sleep(Duration::from_millis(40)).await;
            ledger.capture(capture(hold.id, 1)).await.expect("captured");
            *served.borrow_mut() += 1;
        });
    }
    lab.seconds(30);
    assert_eq!(*served.borrow(), 500);
    assert_eq!(lab.view().lines[0].posted, usd(500));
    lab.audit();
}

#[test]
fn a_wait_ends_after_its_time_with_held() {
    let mut lab = Lab::new();
    lab.settings.hold_wait = Duration::from_secs(20);
    let bench = lab.open(vec![budget(100)]);
    lab.hold(&bench, 90);
    let (full, ledger) = (lab.admit(&bench, 50), bench.ledger.clone());
    let short = lab.start(async move {
        let request = AdmitRequest {
            wait: Some(Duration::from_secs(3)),
            ..wants(50)
        };
        ledger.admit(request).await
    });
    lab.seconds(2);
    assert!(short.borrow().is_none());
    lab.seconds(2);
    assert!(
        matches!(Lab::rejection(&short), Some(AdmitRejection::Held { retry_after }) if retry_after.as_secs() <= 60)
    );
    lab.seconds(14);
    assert!(full.borrow().is_none());
    lab.seconds(4);
    assert!(matches!(Lab::rejection(&full), Some(AdmitRejection::Held { .. })));
    assert_eq!(bench.ledger.status().waiters, 0);
}

/// Not to wait is not to be refused: what fits is admitted, what does not is held at once.
#[test]
fn who_does_not_wait_is_still_asked() {
    let mut lab = Lab::new();
    lab.settings.hold_wait = Duration::ZERO;
    let bench = lab.open(vec![budget(100)]);
    let first = lab.admit(&bench, 60);
    lab.seconds(1);
    assert!(matches!(&*first.borrow(), Some(Ok(_))));
    let second = lab.admit(&bench, 60);
    lab.seconds(1);
    assert!(matches!(Lab::rejection(&second), Some(AdmitRejection::Held { .. })));
    assert_eq!(bench.ledger.status().waiters, 0);
}

/// **D4** for the others: one agent cannot take every place there is.
#[test]
fn one_agent_leaves_room_for_the_others() {
    let mut lab = Lab::new();
    lab.settings.max_open_holds = 600;
    let bench = lab.open(vec![budget(1_000_000)]);
    for _ in 0..512 {
        lab.hold(&bench, 1);
    }
    let one_more = lab.admit(&bench, 1);
    lab.millis(50);
    assert!(matches!(Lab::rejection(&one_more), Some(AdmitRejection::Held { .. })));
    let ledger = bench.ledger.clone();
    let mut request = wants(1);
    request.attribution.agent = "other".parse().unwrap();
    lab.exec
        .block_on(async move { ledger.admit(request).await })
        .expect("another agent has room");
}

/// The same for those that wait.
#[test]
fn one_agent_leaves_waiting_room_for_the_others() {
    let mut lab = Lab::new();
    lab.settings.max_waiters = 600;
    let bench = lab.open(vec![budget(100)]);
    lab.hold(&bench, 90);
    let waiting: Vec<_> = (0..513).map(|_| lab.admit(&bench, 50)).collect();
    lab.millis(50);
    let held = waiting.iter().filter(|answer| answer.borrow().is_some()).count();
    assert_eq!((held, bench.ledger.status().waiters), (1, 512));
}

#[test]
fn a_full_wait_list_holds_at_once() {
    let mut lab = Lab::new();
    lab.settings.max_waiters = 3;
    let bench = lab.open(vec![budget(100)]);
    lab.hold(&bench, 90);
    let answers: Vec<_> = (0..5).map(|_| lab.admit(&bench, 50)).collect();
    lab.seconds(2);
    let held = answers
        .iter()
        .filter(|answer| matches!(Lab::rejection(answer), Some(AdmitRejection::Held { .. })));
    assert_eq!(held.count(), 2);
    assert_eq!(bench.ledger.status().waiters, 3);
}

#[test]
fn a_release_in_one_process_lets_a_waiter_of_another_in() {
    let mut lab = Lab::new();
    let (one, two) = (lab.open(vec![budget(100)]), lab.open(vec![budget(100)]));
    let hold = lab.hold(&one, 90);
    let waiting = lab.admit(&two, 50);
    lab.seconds(3);
    assert!(waiting.borrow().is_none());
    let ledger = one.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 10)).await })
        .expect("captured");
    lab.seconds(2);
    assert!(matches!(&*waiting.borrow(), Some(Ok(_))));
    lab.audit();
}

/// An end that another process wrote must not leave a ghost in the memory of the one that admitted.
#[test]
fn a_hold_that_another_process_ends_is_forgotten() {
    let mut lab = Lab::new();
    let (one, two) = (lab.open(vec![budget(100)]), lab.open(vec![budget(100)]));
    let ledger = one.ledger.clone();
    let request = AdmitRequest {
        ttl: Some(Duration::from_secs(5)),
        ..wants(90)
    };
    let hold = lab
        .exec
        .block_on(async move { ledger.admit(request).await })
        .expect("admitted");
    let ledger = two.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 10)).await })
        .expect("captured");
    lab.hold(&one, 90);
    lab.seconds(20);
    assert_eq!(one.ledger.status().open_holds, 1, "only the second hold is open");
}

fn refused(lab: &mut Lab, bench: &Bench, bound: i64) -> bool {
    let ledger = bench.ledger.clone();
    let answer = lab.exec.block_on(async move { ledger.admit(wants(bound)).await });
    match answer {
        Err(AdmitRejection::Refused(Refusal::Budget { limit, posted, .. })) => {
            assert!(posted.saturating_add(usd(bound)) > limit);
            true
        }
        Ok(_) => false,
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn an_agent_that_hammers_a_spent_line_costs_a_commit_a_second() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    lab.exec
        .block_on(async move { ledger.report(vec![report("a", 95, now)]).await })
        .expect("reported");
    let before = bench.commits();
    for _ in 0..2_000 {
        assert!(refused(&mut lab, &bench, 10));
        lab.millis(1);
    }
    assert!(bench.commits() - before <= 5, "{} commits", bench.commits() - before);
    // What still fits is not turned away by it.
    assert!(!refused(&mut lab, &bench, 5));
}

#[test]
fn room_that_this_process_makes_ends_the_remembered_refusal_at_once() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 40);
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    lab.exec
        .block_on(async move { ledger.report(vec![report("a", 95, now)]).await })
        .expect("reported");
    assert!(refused(&mut lab, &bench, 10));
    let line = hold.lines[0].clone();
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.override_line(line, usd(200), None).await })
        .expect("raised");
    assert!(!refused(&mut lab, &bench, 10));
    assert!(refused(&mut lab, &bench, 250));
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.set_rules(vec![budget(1_000)]).await })
        .expect("written");
    assert!(!refused(&mut lab, &bench, 250));
    assert_eq!(lab.view().lines[0].raise, usd(200));
    assert_ne!(lab.view().lines[0].held, Usd::ZERO);
}

/// A large call on a line that small ones keep busy gets its turn, through the service.
#[test]
fn a_large_call_is_not_starved_by_small_ones() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000_000)]);
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    lab.exec
        .block_on(async move { ledger.report(vec![report("a", 999_900, now)]).await })
        .expect("reported");
    for _ in 0..12 {
        let (ledger, time) = (bench.ledger.clone(), lab.exec.time.clone());
        lab.exec.spawner.spawn(0, async move {
            while let Ok(hold) = ledger.admit(wants(10)).await {
                time.sleep(Duration::from_millis(30)).await;
                if ledger.void(hold.id).await.is_err() {
                    return;
                }
            }
        });
    }
    lab.seconds(1);
    let large = lab.admit(&bench, 95);
    lab.seconds(10);
    assert!(matches!(&*large.borrow(), Some(Ok(_))), "{:?}", large.borrow());
}

#[test]
fn a_refused_rough_bound_breaches_nothing_and_answers_for_no_finer_one() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    lab.exec
        .block_on(async move { ledger.report(vec![report("a", 95, now)]).await })
        .expect("reported");
    let breaches = |lab: &mut Lab| {
        let store = lab.disk.world();
        let pending = lab.exec.block_on(async move { store.pending_triggers(100).await });
        let refused = |trigger: &Trigger| matches!(trigger.trigger.cause, TriggerCause::RefusedForGood { .. });
        pending.expect("read").iter().filter(|trigger| refused(trigger)).count()
    };
    let ledger = bench.ledger.clone();
    let rough = AdmitRequest {
        tentative: true,
        ..wants(8)
    };
    let answer = lab.exec.block_on(async move { ledger.admit(rough).await });
    assert!(
        matches!(answer, Err(AdmitRejection::Refused(Refusal::Budget { .. }))),
        "{answer:?}"
    );
    assert_eq!(breaches(&mut lab), 0);
    // Within the same moment: what the store said of the rough one must not stand for this one.
    assert!(refused(&mut lab, &bench, 7));
    assert_eq!(breaches(&mut lab), 1);
}
