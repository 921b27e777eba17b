//! A store that fails: closed for new spend, and what is in flight stays accounted (D4, L5).

use std::sync::atomic::Ordering;

use backstop::domain::ledger::hold::HoldState;
use backstop::ledger::{AdmitRejection, Fatal, LedgerFailure, Reported, Unavailable};
use backstop::ports::{NoticeKind, StoreError};
use backstop::store::memory::faults::Fault;

use crate::ledger::faulty::Fate;
use crate::ledger::lab::{Lab, budget, capture, report, usd};

#[test]
fn an_unknown_commit_is_sent_again_and_counts_once() {
    for fault in [Fault::Lost, Fault::Unanswered, Fault::Unsynced] {
        let mut lab = Lab::new();
        let bench = lab.open(vec![budget(100)]);
        lab.seconds(1);
        bench.handle.inject(fault);
        let now = bench.ledger.now();
        let ledger = bench.ledger.clone();
        let answers = lab
            .exec
            .block_on(async move { ledger.report(vec![report("a", 10, now)]).await });
        assert!(answers.expect("durable in the end")[0].is_ok(), "{fault:?}");
        // Acknowledged, so it survives the machine (L5).
        bench.handle.kill();
        lab.disk.crash();
        assert_eq!(lab.view().lines[0].posted, usd(10), "{fault:?}");
        assert_eq!(lab.view().postings.len(), 1, "{fault:?}");
        lab.audit();
    }
}

#[test]
fn callers_are_told_when_the_store_hangs_and_the_batch_goes_on() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 10);
    bench.store.force(Fate::StallsBefore(20_000));
    let ledger = bench.ledger.clone();
    let id = hold.id;
    let ended = lab.start(async move { ledger.capture(capture(id, 7)).await });
    lab.millis(20);
    // These come while the commit hangs: they are told within the time limit as well.
    let waiting = lab.admit(&bench, 5);
    let now = bench.ledger.now();
    let ledger = bench.ledger.clone();
    let reported = lab.start(async move { ledger.report(vec![report("late", 1, now)]).await });
    lab.seconds(8);
    let down = |unavailable: Unavailable| matches!(unavailable, Unavailable::StoreDown { .. });
    assert!(matches!(&*ended.borrow(), Some(Err(LedgerFailure::Unavailable(why))) if down(*why)));
    assert!(matches!(Lab::rejection(&waiting), Some(AdmitRejection::Unavailable(why)) if down(why)));
    assert!(matches!(&*reported.borrow(), Some(Err(why)) if down(*why)));
    assert!(bench.ledger.status().store_down);
    assert_eq!(lab.state(hold.id), Some(HoldState::Open));
    lab.seconds(20);
    assert_eq!(
        lab.state(hold.id),
        Some(HoldState::Captured),
        "the capture went on without its caller"
    );
    assert!(!bench.ledger.status().store_down);
    assert_eq!(lab.view().lines[0].posted, usd(7));
    lab.audit();
}

#[test]
fn a_hold_that_lands_after_its_caller_was_told_no_is_voided() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    lab.seconds(1);
    bench.store.force(Fate::StallsAfter(9_000));
    let answer = lab.admit(&bench, 60);
    lab.seconds(7);
    assert!(matches!(
        Lab::rejection(&answer),
        Some(AdmitRejection::Unavailable(Unavailable::StoreDown { .. }))
    ));
    assert_eq!(
        lab.view().holds.len(),
        1,
        "it is durable, though its caller was told no"
    );
    lab.seconds(5);
    assert_eq!(lab.view().holds[0].state, HoldState::Voided);
    assert_eq!(bench.ledger.status().open_holds, 0);
    lab.audit();
}

/// **L2**, **L3**: nobody knows what became of a commit, and then the store says that it failed. What was
/// sent first may land all the same, and the holds in it have no caller.
#[test]
fn a_hold_that_lands_after_its_commit_was_said_to_have_failed_is_voided() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    lab.seconds(1);
    bench.store.force(Fate::Late(6_000));
    let answer = lab.admit(&bench, 60);
    lab.seconds(4);
    assert!(matches!(
        Lab::rejection(&answer),
        Some(AdmitRejection::Unavailable(Unavailable::StoreDown { .. }))
    ));
    assert_eq!(lab.view().holds, [], "it has not landed yet");
    lab.seconds(20);
    // Whatever is committed next comes after it.
    let next = lab.hold(&bench, 10);
    lab.seconds(5);
    let view = lab.view();
    let states: Vec<_> = view.holds.iter().map(|hold| (hold.bound, hold.state)).collect();
    assert!(states.contains(&(usd(60), HoldState::Voided)), "{states:?}");
    assert_eq!(lab.state(next.id), Some(HoldState::Open));
    assert_eq!(view.lines[0].held, usd(10));
    lab.audit();
}

/// The same with what was spent: it counts once (L6), and only what is on disk was acknowledged (L5).
#[test]
fn what_lands_after_its_commit_was_said_to_have_failed_counts_once() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 10);
    lab.seconds(1);
    bench.store.force(Fate::Late(6_000));
    bench.ledger.capture_later(capture(hold.id, 7)).expect("handed over");
    let now = bench.ledger.now();
    let ledger = bench.ledger.clone();
    let reported = lab.start(async move { ledger.report(vec![report("a", 5, now)]).await });
    lab.seconds(4);
    assert!(matches!(&*reported.borrow(), Some(Err(Unavailable::StoreDown { .. }))));
    lab.seconds(20);
    assert_eq!(lab.state(hold.id), Some(HoldState::Captured));
    let ledger = bench.ledger.clone();
    let again = lab
        .exec
        .block_on(async move { ledger.report(vec![report("a", 5, now)]).await });
    assert!(
        matches!(again.as_deref(), Ok([Ok(Reported::Known(Some(_)))])),
        "{again:?}"
    );
    let view = lab.view();
    assert_eq!((view.lines[0].posted, view.lines[0].held), (usd(12), usd(0)));
    assert_eq!(view.postings.len(), 2);
    lab.audit();
}

/// **L3**: what was handed over is written as long as the process lives, however long the store is away.
#[test]
fn a_long_outage_loses_no_end_of_a_hold() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let [captured, voided, unresolved] = [10, 20, 30].map(|bound| lab.hold(&bench, bound).id);
    *bench.store.always.lock().unwrap() = Some(Fate::Fails);
    bench.ledger.capture_later(capture(captured, 7)).expect("handed over");
    bench.ledger.void_later(voided).expect("handed over");
    bench.ledger.unresolve_later(unresolved, "gone").expect("handed over");
    // Before any of them expires.
    lab.seconds(500);
    assert_eq!(lab.state(captured), Some(HoldState::Open));
    *bench.store.always.lock().unwrap() = None;
    lab.seconds(15);
    let states = [captured, voided, unresolved].map(|hold| lab.state(hold));
    let expected = [HoldState::Captured, HoldState::Voided, HoldState::Unresolved];
    assert_eq!(states, expected.map(Some));
    let line = lab.view().lines[0].clone();
    assert_eq!((line.posted, line.held), (usd(37), usd(0)));
    assert!(!bench.ledger.status().store_down);
    lab.audit();
}

/// One operation that the store cannot write is tried for itself, and shuts nobody out meanwhile.
#[test]
fn an_operation_that_cannot_be_written_holds_nobody_up() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000)]);
    let cursed = lab.hold(&bench, 10);
    *bench.store.poison.lock().unwrap() = Some(cursed.id);
    bench.ledger.capture_later(capture(cursed.id, 7)).expect("handed over");
    // In company it takes the others with it for a few tries.
    lab.seconds(5);
    for round in 0..100 {
        let other = lab.admit(&bench, 5);
        lab.millis(900);
        let answer = other.borrow_mut().take();
        let Some(Ok(hold)) = answer else {
            panic!("round {round}: {answer:?}")
        };
        assert!(!bench.ledger.status().store_down, "round {round}");
        bench.ledger.capture_later(capture(hold.id, 1)).expect("handed over");
    }
    lab.seconds(1);
    assert_eq!(lab.state(cursed.id), Some(HoldState::Open));
    assert_eq!(lab.view().lines[0].posted, usd(100));
    *bench.store.poison.lock().unwrap() = None;
    lab.seconds(5);
    assert_eq!(lab.state(cursed.id), Some(HoldState::Captured));
    lab.audit();
}

/// A daemon that is to stop does stop, though the store takes nothing any more; the next start does the rest.
#[test]
fn a_drain_ends_though_the_store_takes_nothing() {
    for fate in [Fate::Fails, Fate::Full] {
        let mut lab = Lab::new();
        let bench = lab.open(vec![budget(100)]);
        let hold = lab.hold(&bench, 10);
        *bench.store.always.lock().unwrap() = Some(fate);
        bench.ledger.capture_later(capture(hold.id, 7)).expect("handed over");
        lab.seconds(10);
        bench.drain.cancel();
        lab.seconds(60);
        let end = bench.end();
        assert!(matches!(end, Some(Err(Fatal::Unwritten { operations: 1 }))), "{end:?}");
        bench.handle.kill();
        lab.open(vec![budget(100)]);
        assert_eq!(lab.state(hold.id), Some(HoldState::Unresolved));
        lab.audit();
    }
}

/// **D4**: an outage is told once, also when nobody asks for a while, and the next one again.
#[test]
fn every_outage_of_the_store_is_told_once() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000)]);
    lab.seconds(1);
    for outage in 1..=2 {
        bench.store.reserve.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let refused = lab.admit(&bench, 5);
            lab.seconds(90);
            assert!(matches!(Lab::rejection(&refused), Some(AdmitRejection::Unavailable(_))));
        }
        assert_eq!(bench.told.kinds(), vec![NoticeKind::StoreDown; outage]);
        bench.store.reserve.store(false, Ordering::Relaxed);
        lab.seconds(120);
        lab.hold(&bench, 5);
    }
}

#[test]
fn a_full_disk_refuses_holds_and_keeps_what_is_in_flight_accounted() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000)]);
    let hold = lab.hold(&bench, 10);
    bench.store.reserve.store(true, Ordering::Relaxed);
    let ledger = bench.ledger.clone();
    let id = hold.id;
    let ended = lab.start(async move { ledger.capture(capture(id, 7)).await });
    let now = bench.ledger.now();
    let ledger = bench.ledger.clone();
    let reported = lab.start(async move { ledger.report(vec![report("a", 5, now)]).await });
    let refused: Vec<_> = (0..20).map(|_| lab.admit(&bench, 5)).collect();
    lab.seconds(3);
    for answer in refused {
        let answer = answer.borrow_mut().take().expect("answered");
        assert!(
            matches!(answer, Err(AdmitRejection::Unavailable(Unavailable::StoreFull { .. }))),
            "{answer:?}"
        );
    }
    assert!(matches!(&*ended.borrow(), Some(Ok(_))), "{:?}", ended.borrow());
    assert!(matches!(&*reported.borrow(), Some(Ok(_))), "{:?}", reported.borrow());
    assert!(bench.ledger.status().store_down);
    bench.store.reserve.store(false, Ordering::Relaxed);
    lab.seconds(15);
    assert!(
        !bench.ledger.status().store_down,
        "it says it is down for ever, and gets no calls to find out"
    );
    lab.hold(&bench, 5);
    lab.audit();
}

#[test]
fn a_busy_store_fails_holds_and_reports_and_tries_ends_of_holds_again() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000)]);
    let hold = lab.hold(&bench, 10);
    for fault in [Fault::Busy, Fault::Full, Fault::Busy] {
        bench.handle.inject(fault);
    }
    let ledger = bench.ledger.clone();
    let id = hold.id;
    let ended = lab.start(async move { ledger.capture(capture(id, 7)).await });
    let now = bench.ledger.now();
    let ledger = bench.ledger.clone();
    let reported = lab.start(async move { ledger.report(vec![report("a", 5, now)]).await });
    lab.seconds(3);
    assert!(matches!(&*ended.borrow(), Some(Ok(_))), "{:?}", ended.borrow());
    // Not acknowledged, or acknowledged and there (L5).
    let acked = matches!(&*reported.borrow(), Some(Ok(_)));
    assert_eq!(
        lab.view().postings.iter().any(|posting| posting.report.is_some()),
        acked
    );
    assert!(reported.borrow().is_some());
    lab.audit();
}

#[test]
fn a_dead_store_admits_nothing_and_answers_everybody() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000)]);
    let hold = lab.hold(&bench, 10);
    bench.handle.kill();
    let admitted = lab.admit(&bench, 5);
    let now = bench.ledger.now();
    let (reporter, capturer) = (bench.ledger.clone(), bench.ledger.clone());
    let reported = lab.start(async move { reporter.report(vec![report("a", 5, now)]).await });
    let id = hold.id;
    let ended = lab.start(async move { capturer.capture(capture(id, 7)).await });
    lab.seconds(10);
    assert!(matches!(
        Lab::rejection(&admitted),
        Some(AdmitRejection::Unavailable(_))
    ));
    assert!(matches!(&*reported.borrow(), Some(Err(_))));
    assert!(matches!(&*ended.borrow(), Some(Err(LedgerFailure::Unavailable(_)))));
    // What was in flight is charged at its bound by whoever comes next (L3).
    let next = lab.open(vec![budget(1_000)]);
    assert_eq!((next.dead.holds, next.dead.amount), (1, usd(10)));
    assert_eq!(lab.state(hold.id), Some(HoldState::Unresolved));
    lab.audit();
}

#[test]
fn a_closed_epoch_ends_the_process() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(1_000)]);
    lab.seconds(1);
    let (world, epoch, now) = (lab.disk.world(), bench.ledger.epoch(), bench.ledger.now());
    lab.exec
        .block_on(async move { world.close_epoch(epoch, now).await })
        .expect("closed");
    let answer = lab.admit(&bench, 5);
    lab.seconds(1);
    assert!(matches!(
        Lab::rejection(&answer),
        Some(AdmitRejection::Unavailable(Unavailable::Stopping { .. }))
    ));
    let end = bench.end();
    assert!(
        matches!(end, Some(Err(Fatal::Store(StoreError::EpochClosed(_))))),
        "{end:?}"
    );
    let after = lab.admit(&bench, 5);
    lab.seconds(1);
    assert!(matches!(
        Lab::rejection(&after),
        Some(AdmitRejection::Unavailable(Unavailable::Stopping { .. }))
    ));
}
