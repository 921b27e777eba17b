//! A store that fails: closed for new spend, and what is in flight stays accounted (D4, L5).

use std::sync::atomic::Ordering;

use backstop::domain::ledger::hold::HoldState;
use backstop::ledger::{AdmitRejection, Fatal, LedgerFailure, Unavailable};
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
    assert!(matches!(&*waiting.borrow(), Some(Err(AdmitRejection::Unavailable(why))) if down(*why)));
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
        &*answer.borrow(),
        Some(Err(AdmitRejection::Unavailable(Unavailable::StoreDown { .. })))
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
            assert!(matches!(&*refused.borrow(), Some(Err(AdmitRejection::Unavailable(_)))));
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
    assert!(matches!(&*admitted.borrow(), Some(Err(AdmitRejection::Unavailable(_)))));
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
        &*answer.borrow(),
        Some(Err(AdmitRejection::Unavailable(Unavailable::Stopping { .. })))
    ));
    let end = bench.end();
    assert!(
        matches!(end, Some(Err(Fatal::Store(StoreError::EpochClosed(_))))),
        "{end:?}"
    );
    let after = lab.admit(&bench, 5);
    lab.seconds(1);
    assert!(matches!(
        &*after.borrow(),
        Some(Err(AdmitRejection::Unavailable(Unavailable::Stopping { .. })))
    ));
}
