//! Ends of holds that nobody waits for: handed over is written (L3), and until then the hold stands (L2).

use std::sync::atomic::Ordering;

use backstop::domain::ledger::batch::LedgerRejection;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::ledger::posting::{PostingKind, Trust};
use backstop::domain::money::MAX_POSTING;
use backstop::ledger::{CaptureRequest, LedgerFailure, MAX_REASON, Reported, Unavailable};

use crate::ledger::faulty::Fate;
use crate::ledger::lab::{Lab, budget, capture, report, usd};

#[test]
fn a_capture_that_is_handed_over_is_written_and_the_hold_stands_until_then() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 60);
    bench.store.force(Fate::StallsBefore(2_000));
    bench.ledger.capture_later(capture(hold.id, 10)).expect("handed over");
    lab.seconds(1);
    assert_eq!(lab.view().lines[0].held, usd(60));
    lab.seconds(3);
    let line = lab.view().lines[0].clone();
    assert_eq!((line.held, line.posted), (usd(0), usd(10)));
    assert_eq!(bench.ledger.status().open_holds, 0);
    lab.audit();
}

/// One commit writes both: none begins for an end alone while a hold may come along. Alone it goes soon.
#[test]
fn an_end_that_nobody_waits_for_goes_with_the_next_hold() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let first = lab.hold(&bench, 10);
    let before = bench.commits();
    bench.ledger.capture_later(capture(first.id, 10)).expect("handed over");
    let second = lab.hold(&bench, 20);
    assert_eq!(lab.state(first.id), Some(HoldState::Captured));
    assert_eq!(bench.commits(), before + 1);

    bench.ledger.capture_later(capture(second.id, 5)).expect("handed over");
    lab.seconds(1);
    assert_eq!(lab.state(second.id), Some(HoldState::Captured));
    assert_eq!(bench.commits(), before + 2);
    lab.audit();
}

/// More than fits between the callers and the committer, while the store fails again and again.
#[test]
fn none_of_many_is_lost_while_the_store_fails() {
    let mut lab = Lab::new();
    lab.settings.max_open_holds = 100_000;
    let bench = lab.open(vec![budget(1_000_000)]);
    let holds: Vec<_> = (0..3_000).map(|_| lab.hold(&bench, 3).id).collect();
    bench.store.trouble.store(60, Ordering::Relaxed);
    for (number, &hold) in holds.iter().enumerate() {
        match number % 3 {
            0 => bench.ledger.capture_later(capture(hold, 2)).expect("handed over"),
            1 => bench.ledger.void_later(hold).expect("handed over"),
            _ => bench.ledger.unresolve_later(hold, "gone").expect("handed over"),
        }
    }
    // Long before any of them would expire.
    lab.seconds(120);
    bench.store.trouble.store(0, Ordering::Relaxed);
    lab.seconds(120);
    let view = lab.view();
    let count = |state| view.holds.iter().filter(|hold| hold.state == state).count();
    assert_eq!(
        [HoldState::Captured, HoldState::Voided, HoldState::Unresolved].map(count),
        [1_000; 3]
    );
    assert_eq!(view.lines[0].posted, usd(5_000));
    lab.audit();
}

#[test]
fn what_cannot_be_written_is_said_at_once() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 60);
    let later = |request: CaptureRequest| bench.ledger.capture_later(request);
    let rejected = |why| Err(LedgerFailure::Rejected(why));
    assert_eq!(later(capture(hold.id, -1)), rejected(LedgerRejection::Negative));
    let mut absurd = capture(hold.id, 0);
    absurd.cost = MAX_POSTING.saturating_add(usd(1));
    assert_eq!(later(absurd), rejected(LedgerRejection::Absurd));
    let mut owned = capture(hold.id, 1);
    owned.by = Some("agent".parse().unwrap());
    assert_eq!(later(owned), rejected(LedgerRejection::ForeignHold));

    bench.ledger.void_later(hold.id).expect("handed over");
    bench.drain.cancel();
    lab.seconds(30);
    assert!(matches!(bench.end(), Some(Ok(()))));
    assert_eq!(
        lab.state(hold.id),
        Some(HoldState::Voided),
        "a drain writes what was handed over"
    );
    let stopped = bench.ledger.void_later(hold.id);
    assert!(matches!(stopped, Err(Unavailable::Stopping { .. })), "{stopped:?}");
}

/// **L3**: given up is charged at the bound, with the reason, until somebody knows better.
#[test]
fn l3_a_call_that_is_given_up_counts_at_its_bound_until_evidence_comes() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 60);
    let ledger = bench.ledger.clone();
    let reason = format!("the upstream reset the stream \"mid\" way{}", "\u{fc}".repeat(400));
    let ended = lab
        .exec
        .block_on(async move { ledger.unresolve(hold.id, &reason).await })
        .expect("durable");
    assert!(!ended.repeated && ended.posting.is_some());
    assert_eq!(lab.state(hold.id), Some(HoldState::Unresolved));
    let view = lab.view();
    assert_eq!((view.lines[0].posted, view.lines[0].unresolved), (usd(60), usd(60)));
    let detail: serde_json::Value = serde_json::from_str(view.postings[0].detail.as_deref().unwrap()).unwrap();
    let told = detail["unresolved"].as_str().unwrap();
    assert!(told.starts_with("the upstream reset the stream \"mid\" way") && told.len() <= MAX_REASON);

    let ledger = bench.ledger.clone();
    lab.exec
        .block_on(async move { ledger.capture(capture(hold.id, 13)).await })
        .expect("evidence");
    let line = lab.view().lines[0].clone();
    assert_eq!((line.posted, line.unresolved), (usd(13), usd(0)));
    lab.audit();
}

/// A provider that charges above the bound: an overage that consumes the limit and is never hidden (L2),
/// and the report of the same request that comes later is not counted again (L6).
#[test]
fn l2_l6_a_capture_above_its_bound_is_an_overage_and_its_report_is_known() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 60);
    let ledger = bench.ledger.clone();
    let request = CaptureRequest {
        upstream_request: Some("req_1".to_owned()),
        ..capture(hold.id, 130)
    };
    let settled = lab
        .exec
        .block_on(async move { ledger.capture(request).await })
        .expect("captured");
    assert_eq!(settled.overage, usd(70));
    let now = bench.ledger.now();
    for trust in [Trust::Agent, Trust::Provider] {
        let mut row = report("later", 130, now);
        row.upstream_request = Some("req_1".to_owned());
        row.trust = trust;
        let ledger = bench.ledger.clone();
        let answers = lab.exec.block_on(async move { ledger.report(vec![row]).await });
        assert_eq!(answers.expect("durable"), [Ok(Reported::Known(settled.posting))]);
    }
    let view = lab.view();
    assert_eq!((view.lines[0].posted, view.lines[0].overage), (usd(130), usd(70)));
    assert_eq!(view.postings.len(), 1);
    assert_eq!(view.postings[0].kind, PostingKind::Capture);
    assert!(view.lines[0].breached.is_some());
    lab.audit();
}
