//! Time, epochs, the drain, the config: what happens around the calls.

use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop::domain::budget::Budget;
use backstop::domain::clock::Verdict;
use backstop::domain::id::TaskId;
use backstop::domain::ledger::batch::TriggerCause;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::ledger::line::{Line, Scope};
use backstop::domain::money::Usd;
use backstop::ledger::{AdmitRejection, AdmitRequest, Unavailable};
use backstop::ports::{LineQuery, NoticeKind};
use jiff::SignedDuration;

use crate::ledger::lab::{Lab, budget, capture, hourly, report, spend, usd, wants};

#[test]
fn an_expired_hold_is_charged_at_its_bound_and_a_late_answer_corrects_it() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let ledger = bench.ledger.clone();
    let request = AdmitRequest {
        ttl: Some(Duration::from_secs(5)),
        ..wants(60)
    };
    let hold = lab
        .exec
        .block_on(async move { ledger.admit(request).await })
        .expect("admitted");
    lab.seconds(4);
    assert_eq!(lab.state(hold.id), Some(HoldState::Open));
    lab.seconds(3);
    assert_eq!(lab.state(hold.id), Some(HoldState::Unresolved));
    let line = lab.view().lines[0].clone();
    assert_eq!((line.posted, line.unresolved, line.held), (usd(60), usd(60), Usd::ZERO));
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 20)).await })
        .expect("corrected");
    let line = lab.view().lines[0].clone();
    assert_eq!((line.posted, line.unresolved), (usd(20), Usd::ZERO));
    // And the mirror does not keep the bound in mind.
    lab.hold(&bench, 80);
    lab.audit();
}

#[test]
fn a_drain_waits_for_open_holds_and_closes_the_epoch() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 10);
    bench.drain.cancel();
    lab.seconds(2);
    assert!(bench.end().is_none(), "it did not wait for the open hold");
    let refused = lab.admit(&bench, 1);
    lab.millis(50);
    assert!(matches!(
        Lab::rejection(&refused),
        Some(AdmitRejection::Unavailable(Unavailable::Stopping { .. }))
    ));
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 3)).await })
        .expect("still captured");
    lab.seconds(2);
    assert!(matches!(bench.end(), Some(Ok(()))));
    drop(bench);
    let next = lab.open(vec![budget(100)]);
    assert!(
        next.dead.epochs.is_empty(),
        "a closed epoch was buried: {:?}",
        next.dead
    );
}

#[test]
fn a_drain_is_bounded_and_the_next_start_charges_what_was_left() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 10);
    bench.drain.cancel();
    lab.seconds(25);
    assert!(matches!(bench.end(), Some(Ok(()))));
    assert_eq!(lab.state(hold.id), Some(HoldState::Open));
    bench.handle.kill();
    let next = lab.open(vec![budget(100)]);
    assert_eq!((next.dead.holds, next.dead.amount), (1, usd(10)));
    assert_eq!(lab.state(hold.id), Some(HoldState::Unresolved));
    lab.audit();
}

#[test]
fn a_process_buries_another_that_died_and_leaves_one_that_lives() {
    let mut lab = Lab::new();
    let (bench, other, third) = (
        lab.open(vec![budget(100)]),
        lab.open(vec![budget(100)]),
        lab.open(vec![budget(100)]),
    );
    let (dead, alive) = (lab.hold(&other, 10), lab.hold(&third, 20));
    lab.exec.kill(other.group);
    other.handle.kill();
    lab.seconds(35);
    assert_eq!(lab.state(dead.id), Some(HoldState::Unresolved));
    assert_eq!(lab.state(alive.id), Some(HoldState::Open));
    assert!(bench.end().is_none() && third.end().is_none());
    lab.audit();
}

#[test]
fn a_jumping_clock_stops_new_spend_until_an_operator_accepts_it() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 10);
    let before = bench.ledger.now();
    bench.clock.set_skew(SignedDuration::from_hours(3));
    let refused = lab.admit(&bench, 1);
    lab.millis(50);
    assert!(matches!(
        Lab::rejection(&refused),
        Some(AdmitRejection::Unavailable(Unavailable::ClockJumped { .. }))
    ));
    assert!(matches!(bench.ledger.status().clock, Verdict::Jumped { .. }));
    assert!(
        bench.ledger.now() < before + SignedDuration::from_secs(10),
        "the ledger's time jumped with it"
    );
    // What is in flight stays accounted.
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 3)).await })
        .expect("captured");
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    lab.exec
        .block_on(async move { ledger.report(vec![report("a", 1, now)]).await })
        .expect("reported");
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.accept_clock().await })
        .expect("accepted");
    assert!(bench.ledger.now() > before + SignedDuration::from_hours(2));
    lab.hold(&bench, 1);
}

/// **D4**: people are told of every jump once, however long it lasts.
#[test]
fn every_jump_of_the_clock_is_told_once() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    lab.seconds(10);
    assert_eq!(bench.told.kinds(), []);
    for jump in 1..=2 {
        bench.clock.set_skew(SignedDuration::from_hours(3));
        lab.seconds(60);
        assert_eq!(bench.told.kinds(), vec![NoticeKind::ClockJump; jump]);
        bench.clock.set_skew(SignedDuration::ZERO);
        lab.seconds(60);
        assert_eq!(bench.told.kinds().len(), jump, "that it is right again alarms nobody");
    }
}

#[test]
fn the_mark_outlives_the_process_so_time_never_goes_back() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![hourly(100)]);
    lab.hold(&bench, 1);
    lab.seconds(100);
    lab.hold(&bench, 1);
    lab.seconds(3);
    let before = lab.view().holds.iter().map(|hold| hold.opened_at).max().expect("holds");
    lab.exec.kill(bench.group);
    bench.handle.kill();
    // The next process starts with a wall clock that is an hour behind.
    lab.start -= SignedDuration::from_hours(1);
    let next = lab.open(vec![hourly(100)]);
    assert!(
        next.ledger.now() >= before - SignedDuration::from_secs(2),
        "{} after {before}",
        next.ledger.now()
    );
    let clock = next.ledger.status().clock;
    assert!(matches!(clock, Verdict::Behind { .. }));
    assert!(
        clock.admits() && !clock.is_ok(),
        "nobody would learn that nothing expires"
    );
    assert!(clock.off_by() > SignedDuration::from_mins(50));
    assert!(bench.ledger.status().clock.is_ok());
}

#[test]
fn a_waiter_moves_into_the_next_window_when_its_own_is_over() {
    let mut lab = Lab::new();
    lab.start = "2026-11-20T01:59:50Z".parse().unwrap();
    let bench = lab.open(vec![hourly(100)]);
    let full = lab.hold(&bench, 90);
    let answer = lab.admit(&bench, 50);
    lab.seconds(5);
    assert!(answer.borrow().is_none());
    lab.seconds(7);
    let hold = answer.borrow_mut().take().expect("answered").expect("admitted");
    let end = hold.lines[0].window.end.expect("an hour");
    assert_eq!(end, "2026-11-20T03:00:00Z".parse().unwrap());
    assert_eq!(lab.state(full.id), Some(HoldState::Open));
    lab.audit();
}

#[test]
fn a_raised_limit_lets_waiters_in_and_a_lowered_one_breaches() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let first = lab.hold(&bench, 90);
    let waiting = lab.admit(&bench, 50);
    lab.seconds(2);
    assert!(waiting.borrow().is_none());
    let ledger = bench.ledger.clone();
    let touched = lab
        .exec
        .block_on(async move { ledger.set_rules(vec![budget(200)]).await });
    assert_eq!(touched, Ok(1));
    lab.seconds(2);
    assert!(matches!(&*waiting.borrow(), Some(Ok(_))));
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(first.id, 90)).await })
        .expect("captured");
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.set_rules(vec![budget(50)]).await })
        .expect("written");
    // The judge was told, and finds the breach.
    let triggers = bench.ledger.triggers();
    lab.exec.block_on(async move { triggers.notified().await });
    let world = lab.disk.world();
    let found = lab
        .exec
        .block_on(async move { world.pending_triggers(10).await })
        .expect("triggers");
    assert_eq!(found.len(), 1, "{found:?}");
    lab.audit();
}

/// As many lines as the agents named tasks: a reload reaches all of them, a page a commit, and holds pass
/// between the pages. Whoever loads again meanwhile has the last word.
#[test]
fn a_rule_reaches_a_thousand_lines_and_the_last_reload_wins() {
    let mut lab = Lab::new();
    let tasks = |limit| Budget {
        scope: Scope::Task,
        ..budget(limit)
    };
    let bench = lab.open(vec![tasks(100)]);
    let now = bench.ledger.now();
    let rows: Vec<_> = (0..1_000)
        .map(|number| {
            let mut row = report(&format!("r{number}"), 60, now);
            row.attribution.task = TaskId::new(format!("t{number}")).unwrap();
            row
        })
        .collect();
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.report(rows).await })
        .expect("reported");
    bench.store.trouble.store(30, Ordering::Relaxed);
    let (first, second) = (bench.ledger.clone(), bench.ledger.clone());
    let first = lab.start(async move { first.set_rules(vec![tasks(50)]).await });
    lab.millis(8);
    let second = lab.start(async move { second.set_rules(vec![tasks(200)]).await });
    lab.millis(1);
    let hold = lab.admit(&bench, 5);
    lab.seconds(600);
    bench.store.trouble.store(0, Ordering::Relaxed);
    lab.seconds(120);
    assert!(hold.borrow().is_some() && first.borrow().is_some() && second.borrow().is_some());
    let lines = lab.view().lines;
    // Those of the reports, and the hold's if the store took it.
    let all = lines.len();
    assert!(all >= 1_000, "{all}");
    let right = |lines: &[Line], limit| lines.iter().filter(|line| line.limit() == usd(limit)).count();
    assert_eq!(right(&lines, 200), all);
    lab.audit();

    // Untroubled, who asked is told how many there were.
    let ledger = bench.ledger.clone();
    let touched = lab
        .exec
        .block_on(async move { ledger.set_rules(vec![tasks(300)]).await });
    assert_eq!(touched, Ok(all as u64));
    // A start writes the rules as well, however many lines there are.
    let another = lab.open(vec![tasks(400)]);
    lab.seconds(5);
    drop(another);
    let lines = lab.view().lines;
    assert_eq!(right(&lines, 400), all);
}

#[test]
fn a_budget_that_vanished_binds_nobody_and_its_lines_stay() {
    let mut lab = Lab::new();
    let mut other = budget(1_000);
    other.id = backstop::domain::id::BudgetId::new("other").unwrap();
    let bench = lab.open(vec![budget(100), other.clone()]);
    let hold = lab.hold(&bench, 90);
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.set_rules(vec![other]).await })
        .expect("written");
    lab.hold(&bench, 90);
    // What was open on it still settles there.
    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 40)).await })
        .expect("captured");
    let ledger = bench.ledger.clone();
    let lines = lab
        .exec
        .block_on(async move { ledger.lines(&LineQuery::default()).await })
        .expect("lines");
    let of = |name: &str| {
        lines
            .iter()
            .find(|line| line.key.budget.as_str() == name)
            .expect("a line")
    };
    assert_eq!((of("cap").posted, of("cap").held), (usd(40), Usd::ZERO));
    assert_eq!((of("other").posted, of("other").held), (usd(40), usd(90)));
    let ledger = bench.ledger.clone();
    let view = lab
        .exec
        .block_on(async move { ledger.budget_view(&spend()).await })
        .expect("a view");
    assert_eq!(view.len(), 1, "a vanished budget is shown as binding");
    assert_eq!(view[0].remaining, usd(1_000 - 40 - 90));
    lab.audit();
}

#[test]
fn the_budget_view_shows_what_the_next_call_would_meet() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let look = |lab: &mut Lab| {
        let ledger = bench.ledger.clone();
        lab.exec
            .block_on(async move { ledger.budget_view(&spend()).await })
            .expect("a view")
    };
    let fresh = look(&mut lab);
    assert_eq!((fresh.len(), fresh[0].remaining, fresh[0].applies), (1, usd(100), true));
    lab.hold(&bench, 30);
    let later = look(&mut lab);
    assert_eq!(
        (later.len(), later[0].remaining, later[0].line.held),
        (1, usd(70), usd(30))
    );
}

/// An agent with very many lines still sees the one that binds it.
#[test]
fn the_budget_view_is_not_cut_before_what_binds() {
    let mut lab = Lab::new();
    let tasks = Budget {
        id: "a-task".parse().unwrap(),
        scope: Scope::Task,
        ..budget(100)
    };
    let bench = lab.open(vec![tasks, budget(5_000)]);
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    let rows = (0..1_100).map(|n| {
        let mut row = report(&format!("r{n}"), 1, now);
        row.attribution.task = format!("t{n}").parse().unwrap();
        row
    });
    let rows: Vec<_> = rows.collect();
    lab.exec
        .block_on(async move { ledger.report(rows).await })
        .expect("reported");
    let ledger = bench.ledger.clone();
    let view = lab
        .exec
        .block_on(async move { ledger.budget_view(&spend()).await })
        .expect("a view");
    let cap = view
        .iter()
        .find(|line| line.line.key.budget.as_str() == "cap")
        .expect("the line that binds");
    assert_eq!((cap.applies, cap.remaining), (true, usd(3_900)));
}

#[test]
fn the_end_of_a_lift_is_noticed_without_another_call() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let (ledger, now) = (bench.ledger.clone(), bench.ledger.now());
    lab.exec
        .block_on(async move { ledger.report(vec![report("a", 120, now)]).await })
        .expect("reported");
    let line = lab.view().lines[0].clone();
    assert_eq!(line.breached, Some(line.revision));
    let (ledger, until) = (bench.ledger.clone(), now + SignedDuration::from_secs(60));
    lab.exec
        .block_on(async move { ledger.override_line(line.key, Usd::ZERO, Some(until)).await })
        .expect("lifted");
    let triggers = |lab: &mut Lab| {
        let store = lab.disk.world();
        let pending = lab.exec.block_on(async move { store.pending_triggers(100).await });
        let pending = pending.expect("triggers");
        let breaches = pending.iter().filter(|one| one.trigger.cause == TriggerCause::Breach);
        breaches.count()
    };
    assert_eq!(triggers(&mut lab), 1);
    lab.seconds(50);
    assert_eq!(lab.view().lines[0].breached, None, "lifted");
    lab.seconds(30);
    assert_eq!(triggers(&mut lab), 2);
    let commits = bench.commits();
    lab.seconds(60);
    assert_eq!(triggers(&mut lab), 2, "it is judged once");
    assert_eq!(bench.commits(), commits);
}
