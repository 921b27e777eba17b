//! What a caller may rely on: nothing stays behind it, nothing is counted twice, whose hold it is.

use std::time::Duration;

use backstop::domain::id::AgentId;
use backstop::domain::ledger::batch::LedgerRejection;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::MAX_POSTING;
use backstop::ledger::{AdmitRejection, CaptureRequest, LedgerFailure, Reported};

use crate::ledger::lab::{Lab, budget, capture, report, usd, wants};

/// Whatever the moment at which a caller goes away, no hold of it stays open, and none is charged.
#[test]
fn a_caller_that_goes_away_leaves_nothing_behind() {
    let mut voided = 0;
    for micros in (0..12_000).step_by(250) {
        let mut lab = Lab::new();
        let bench = lab.open(vec![budget(100)]);
        lab.seconds(2);
        let (ledger, time) = (bench.ledger.clone(), lab.exec.time.clone());
        let answer = lab.start(async move {
            tokio::select! {
                biased;
                () = time.sleep(Duration::from_micros(micros)) => None,
                answer = ledger.admit(wants(60)) => answer.ok(),
            }
        });
        lab.seconds(3);
        let answer = answer.borrow_mut().take().expect("it ended");
        let view = lab.view();
        match answer {
            Some(hold) => assert_eq!(lab.state(hold.id), Some(HoldState::Open), "after {micros} µs"),
            None => {
                assert!(
                    view.holds.iter().all(|hold| hold.state == HoldState::Voided),
                    "after {micros} µs"
                );
                assert!(
                    view.lines
                        .iter()
                        .all(|line| line.held.is_zero() && line.posted.is_zero())
                );
                voided += view.holds.len();
                assert_eq!(bench.ledger.status().open_holds, 0);
            }
        }
        lab.audit();
    }
    assert!(
        voided > 3,
        "the moment between the commit and the answer was hardly met: {voided}"
    );
}

#[test]
fn a_report_sent_again_is_known_and_with_another_body_a_conflict() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let now = bench.ledger.now();
    let (first, again) = (report("a", 10, now), report("a", 10, now));
    let mut other = report("a", 11, now);
    other.digest = [8; 32];
    let ledger = bench.ledger.clone();
    let answers = lab
        .exec
        .block_on(async move { ledger.report(vec![first, again, other]).await })
        .expect("durable");
    let Ok(Reported::Posted(posting)) = answers[0] else {
        panic!("{answers:?}")
    };
    assert_eq!(answers[1], Ok(Reported::Known(Some(posting))));
    assert!(
        matches!(answers[2], Err(LedgerRejection::ReportConflict(_))),
        "{answers:?}"
    );
    assert_eq!(lab.view().lines[0].posted, usd(10));
}

#[test]
fn ten_thousand_rows_go_in_pieces_and_holds_pass_between_them() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100_000)]);
    let now = bench.ledger.now();
    let rows: Vec<_> = (0..10_000)
        .map(|number| report(&format!("r{number}"), 1, now))
        .collect();
    let ledger = bench.ledger.clone();
    let reports = lab.start(async move { ledger.report(rows).await });
    lab.millis(3);
    let hold = lab.admit(&bench, 5);
    while hold.borrow().is_none() {
        lab.millis(1);
    }
    assert!(matches!(&*hold.borrow(), Some(Ok(_))));
    assert!(reports.borrow().is_none(), "the hold waited for all of the reports");
    lab.seconds(10);
    let answers = reports.borrow_mut().take().expect("done").expect("durable");
    assert_eq!(
        answers
            .iter()
            .filter(|answer| matches!(answer, Ok(Reported::Posted(_))))
            .count(),
        10_000
    );
    assert_eq!(lab.view().lines[0].posted, usd(10_000));
    assert!(bench.commits() <= 60, "{} commits", bench.commits());
    lab.audit();
}

#[test]
fn an_agents_key_ends_its_own_holds_alone() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    let hold = lab.hold(&bench, 10);
    let ends = |by: &str| CaptureRequest {
        by: Some(AgentId::new(by).unwrap()),
        ..capture(hold.id, 4)
    };
    let mut end = |request: CaptureRequest| {
        let ledger = bench.ledger.clone();
        lab.exec.block_on(async move { ledger.capture(request).await })
    };
    assert_eq!(
        end(ends("thief")),
        Err(LedgerFailure::Rejected(LedgerRejection::ForeignHold))
    );
    let unknown = CaptureRequest {
        hold: backstop::domain::id::HoldId(uuid::Uuid::nil()),
        ..ends("agent")
    };
    assert_eq!(end(unknown), Err(LedgerFailure::Rejected(LedgerRejection::UnknownHold)));
    let done = end(ends("agent")).expect("captured");
    assert!(!done.repeated);
    assert!(end(ends("agent")).expect("the same again").repeated);
    assert_eq!(lab.view().lines[0].posted, usd(4));
}

#[test]
fn amounts_that_are_none_are_turned_away_at_the_door() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    lab.seconds(1);
    let before = bench.commits();
    for (bound, why) in [
        (usd(-1), LedgerRejection::Negative),
        (MAX_POSTING.saturating_add(usd(1)), LedgerRejection::Absurd),
    ] {
        let mut request = wants(1);
        request.bound = bound.into();
        let ledger = bench.ledger.clone();
        let answer = lab.exec.block_on(async move { ledger.admit(request).await });
        assert_eq!(answer, Err(AdmitRejection::Invalid(why)));
    }
    assert_eq!(bench.commits(), before);
}
