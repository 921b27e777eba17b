//! Commits: holds, postings, reports, and what a repetition does.

use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::id::ReportId;
use backstop::domain::ledger::batch::{LedgerRejection, Op, Outcome, Refusal, ShortLine};
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::ledger::posting::{PostingKind, Trust};
use backstop::domain::money::Usd;
use backstop::ports::{Judgement, PostingQuery, StoreError};

use crate::conform;
use crate::fixture::{Fixture, refused, send};
use crate::make::*;

conform!(
    a_hold_stands_on_all_of_its_lines_until_its_capture,
    what_is_written_is_read_back_whole,
    a_hold_that_does_not_fit_everywhere_leaves_nothing,
    a_batch_sent_again_changes_nothing,
    an_older_batch_is_dropped,
    a_void_of_a_hold_that_is_not_there_shuts_the_door_on_older_batches,
    a_batch_of_an_unknown_epoch_is_refused,
    one_report_id_is_one_posting,
    a_metered_request_that_is_reported_is_not_counted_again,
    an_expired_hold_is_unresolved_until_evidence_comes,
    a_late_answer_corrects_an_expired_hold,
    a_voided_hold_costs_nothing,
    a_frozen_agent_gets_no_hold,
    a_posting_id_that_is_in_use_fails_the_commit,
    expiring_holds_are_found_in_their_order,
    the_clock_never_goes_back_unless_an_operator_sets_it,
    amounts_at_the_ends_of_the_range_stand,
    two_handles_never_admit_past_the_limit,
);

async fn a_hold_stands_on_all_of_its_lines_until_its_capture(f: Fixture) {
    let lines = vec![
        spec("daily", "a", usd(10)),
        total("total", "a", usd(100)),
        rolling("rolling", "a", usd(10), 3600, 60),
        fleet("fleet", usd(1000)),
    ];
    let outcomes = f.commit(vec![admit(1, of("a"), usd(4), lines.clone())]).await;
    assert_eq!(
        outcomes,
        [Outcome::Admitted {
            bound: usd(4),
            remaining: usd(6)
        }]
    );
    for spec in &lines {
        let line = f.line(&spec.key).await;
        assert_eq!((line.held, line.posted, &line.rule), (usd(4), Usd::ZERO, &spec.rule));
    }
    f.is_sound().await;

    let outcomes = f.commit(vec![capture(1, usd(3))]).await;
    let ended = Outcome::Ended {
        posting: Some(posting_id(1)),
        overage: Usd::ZERO,
    };
    assert_eq!(outcomes, [ended]);
    for spec in &lines {
        let line = f.line(&spec.key).await;
        assert_eq!((line.held, line.posted), (Usd::ZERO, usd(3)));
    }
    let hold = f.store.hold(hold_id(1)).await.unwrap().unwrap();
    assert_eq!((hold.state, hold.ended_at), (HoldState::Captured, Some(now())));
    let view = f.is_sound().await;
    assert_eq!((view.postings.len(), view.entries.len()), (1, 4));
}

async fn what_is_written_is_read_back_whole(f: Fixture) {
    let mut labelled = spec("labels", "a", usd(50));
    labelled.key.value = "team=it's \"quoted\" \\ Z\u{fc}rich \u{1F600}\n".to_owned();
    let lines = vec![labelled.clone(), total("total", "a", usd(100))];
    let mut evidence = report(2, full("a"), Usd::from_nanos(1_234_567_891), lines.clone());
    evidence.detail = Some("{\"text\":\"it's \\\"so\\\" \\u0007\"}".to_owned());
    evidence.upstream_request = Some("req_\"x\"".to_owned());
    f.commit(vec![
        admit(1, full("a"), usd(4), lines.clone()),
        Op::Report(evidence.clone()),
    ])
    .await;

    let hold = f.store.hold(hold_id(1)).await.unwrap().unwrap();
    assert_eq!(hold.attribution, full("a"));
    assert_eq!(hold.lines, lines.iter().map(|l| l.key.clone()).collect::<Vec<_>>());
    assert_eq!(
        (hold.bound, hold.trust, hold.state),
        (usd(4), Trust::Gateway, HoldState::Open)
    );
    assert_eq!(
        (hold.opened_at, hold.expires_at, hold.epoch),
        (now(), later(60), f.epoch)
    );

    let page = PostingQuery {
        limit: 10,
        ..PostingQuery::default()
    };
    let [posting] = &f.store.postings(&page).await.unwrap()[..] else {
        panic!("one posting")
    };
    assert_eq!(posting.attribution, full("a"));
    assert_eq!((posting.id, posting.amount), (evidence.posting, evidence.amount));
    assert_eq!(posting.detail, evidence.detail);
    assert_eq!(posting.upstream_request, evidence.upstream_request);
    assert_eq!(posting.report, Some(evidence.report));
    assert_eq!(posting.occurred_at, evidence.occurred_at);
    assert_eq!(f.line(&labelled.key).await.rule, labelled.rule);
    assert!(f.store.hold(hold_id(99)).await.unwrap().is_none());
}

async fn a_hold_that_does_not_fit_everywhere_leaves_nothing(f: Fixture) {
    let wide = total("wide", "a", usd(100));
    let narrow = spec("narrow", "a", usd(5));
    let both = || vec![wide.clone(), narrow.clone()];
    let outcomes = f
        .commit(vec![
            admit(1, of("a"), usd(4), both()),
            admit(2, of("a"), usd(4), both()),
            admit(3, of("a"), usd(6), both()),
            admit(4, of("a"), usd(1), vec![]),
        ])
        .await;
    assert!(matches!(outcomes[0], Outcome::Admitted { .. }));
    assert_eq!(
        outcomes[1],
        Outcome::Wait {
            bound: usd(4),
            short: vec![ShortLine {
                line: narrow.key.clone(),
                limit: usd(5),
                posted: usd(0),
                held: usd(4),
            }]
        }
    );
    assert!(matches!(&outcomes[2], Outcome::Refused(Refusal::Budget { line, .. }) if *line == narrow.key));
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::NoBudget));
    assert_eq!(f.line(&wide.key).await.held, usd(4));
    assert!(f.store.hold(hold_id(2)).await.unwrap().is_none());
    f.is_sound().await;
}

async fn a_batch_sent_again_changes_nothing(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(100)), fleet("fleet", usd(1000))];
    f.commit(vec![
        admit(1, of("a"), usd(4), lines()),
        admit(2, of("a"), usd(4), lines()),
        admit(3, of("a"), usd(4), lines()),
    ])
    .await;
    let batch = f.batch(vec![
        admit(4, of("a"), usd(5), lines()),
        capture(1, usd(60)),
        expire(2),
        Op::Void { hold: hold_id(3) },
        Op::Report(report(10, of("a"), usd(7), lines())),
    ]);
    let first = send(&*f.store, &batch).await;
    let before = f.is_sound().await;
    let triggers = f.store.pending_triggers(100).await.unwrap();
    assert!(!triggers.is_empty(), "the report passed an alert");

    let again = send(&*f.store, &batch).await;
    assert_eq!(first.len(), again.len());
    assert!(matches!(again[0], Outcome::Admitted { .. }));
    let posting = |n| Outcome::Unchanged {
        posting: Some(posting_id(n)),
    };
    assert_eq!(again[1..3], [posting(1), posting(2)]);
    assert_eq!(again[3], Outcome::Unchanged { posting: None });
    assert_eq!(again[4], posting(10));
    let after = f.is_sound().await;
    assert_eq!(before.lines, after.lines);
    assert_eq!(before.postings, after.postings);
    assert_eq!(before.entries, after.entries);
    assert_eq!(f.store.pending_triggers(100).await.unwrap(), triggers);
}

async fn an_older_batch_is_dropped(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(100))];
    let older = f.batch(vec![admit(1, of("a"), usd(1), lines())]);
    let newer = f.batch(vec![admit(2, of("a"), usd(1), lines())]);
    send(&*f.store, &newer).await;
    let error = refused(&*f.store, &older).await;
    assert!(
        matches!(error, StoreError::StaleBatch { epoch, seq: 1, last: 2 } if epoch == f.epoch),
        "{error:?}"
    );
    assert!(f.store.hold(hold_id(1)).await.unwrap().is_none());
    f.is_sound().await;
}

/// Whoever voids a hold that may still be on its way has to be sure of it afterwards.
async fn a_void_of_a_hold_that_is_not_there_shuts_the_door_on_older_batches(f: Fixture) {
    let older = f.batch(vec![admit(1, of("a"), usd(1), vec![spec("daily", "a", usd(100))])]);
    let newer = f.batch(vec![Op::Void { hold: hold_id(1) }]);
    let outcomes = send(&*f.store, &newer).await;
    assert_eq!(outcomes, [Outcome::Rejected(LedgerRejection::UnknownHold)]);
    let error = refused(&*f.store, &older).await;
    assert!(
        matches!(error, StoreError::StaleBatch { seq: 1, last: 2, .. }),
        "{error:?}"
    );
    assert!(f.store.hold(hold_id(1)).await.unwrap().is_none());
    f.is_sound().await;
}

async fn a_batch_of_an_unknown_epoch_is_refused(f: Fixture) {
    let mut batch = f.batch(vec![admit(1, of("a"), usd(1), vec![spec("daily", "a", usd(100))])]);
    batch.epoch.0 += 1000;
    refused(&*f.store, &batch).await;
    assert!(f.store.hold(hold_id(1)).await.unwrap().is_none());
}

async fn one_report_id_is_one_posting(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(100))];
    let first = report(1, of("a"), usd(2), lines());
    let mut other_body = report(1, of("a"), usd(3), lines());
    other_body.digest = [9; 32];
    other_body.posting = posting_id(50);
    let mut retried = first.clone();
    retried.posting = posting_id(51);
    let mut other_agent = report(1, of("b"), usd(5), vec![spec("daily", "b", usd(100))]);
    other_agent.posting = posting_id(52);

    let outcomes = f
        .commit(vec![
            Op::Report(first.clone()),
            Op::Report(first),
            Op::Report(other_body.clone()),
        ])
        .await;
    let posting = posting_id(1);
    let conflict = || Outcome::Rejected(LedgerRejection::ReportConflict(ReportId::new("report-1").unwrap()));
    let unchanged = || Outcome::Unchanged { posting: Some(posting) };
    assert_eq!(outcomes, [Outcome::Posted { posting }, unchanged(), conflict()]);
    let outcomes = f
        .commit(vec![
            Op::Report(retried),
            Op::Report(other_body),
            Op::Report(other_agent),
        ])
        .await;
    let theirs = Outcome::Posted {
        posting: posting_id(52),
    };
    assert_eq!(outcomes, [unchanged(), conflict(), theirs]);
    assert_eq!(f.line(&lines()[0].key).await.posted, usd(2));
    f.is_sound().await;
}

async fn a_metered_request_that_is_reported_is_not_counted_again(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(100))];
    f.commit(vec![admit(1, of("a"), usd(4), lines()), capture(1, usd(3))])
        .await;
    let mut same = report(2, of("a"), usd(3), lines());
    same.upstream_request = Some("req-1".to_owned());
    let mut same_again = same.clone();
    same_again.posting = posting_id(3);
    let unchanged = Outcome::Unchanged {
        posting: Some(posting_id(1)),
    };
    assert_eq!(f.commit(vec![Op::Report(same)]).await, std::slice::from_ref(&unchanged));
    assert_eq!(f.commit(vec![Op::Report(same_again)]).await, [unchanged]);
    assert_eq!(f.line(&lines()[0].key).await.posted, usd(3));
    f.is_sound().await;
}

async fn an_expired_hold_is_unresolved_until_evidence_comes(f: Fixture) {
    let lines = |name: &str| vec![spec("daily", name, usd(10)), fleet("fleet", usd(100))];
    f.commit(vec![
        admit(1, of("a"), usd(4), lines("a")),
        admit(2, of("b"), usd(4), lines("b")),
    ])
    .await;
    f.commit(vec![expire(1), expire(2)]).await;
    let line = f.line(&lines("a")[1].key).await;
    assert_eq!((line.held, line.posted, line.unresolved), (Usd::ZERO, usd(8), usd(8)));
    let open = PostingQuery {
        unresolved: true,
        limit: 10,
        ..PostingQuery::default()
    };
    let unresolved = f.store.postings(&open).await.unwrap();
    assert_eq!(
        unresolved.iter().map(|p| p.id).collect::<Vec<_>>(),
        [posting_id(1), posting_id(2)]
    );
    let of_b = PostingQuery {
        agent: Some(agent("b")),
        ..open.clone()
    };
    assert_eq!(f.store.postings(&of_b).await.unwrap().len(), 1);

    let outcomes = f.commit(vec![resolve(1, 11, usd(1))]).await;
    assert!(matches!(outcomes[0], Outcome::Ended { posting: Some(p), .. } if p == posting_id(11)));
    let again = f.commit(vec![resolve(1, 12, usd(2))]).await;
    assert_eq!(again, [Outcome::Rejected(LedgerRejection::NotUnresolved)]);
    let line = f.line(&lines("b")[1].key).await;
    assert_eq!((line.posted, line.unresolved), (usd(5), usd(4)));
    let unresolved = f.store.postings(&open).await.unwrap();
    assert_eq!(unresolved.iter().map(|p| p.id).collect::<Vec<_>>(), [posting_id(2)]);
    let view = f.is_sound().await;
    let correction = view.postings.iter().find(|p| p.id == posting_id(11)).unwrap();
    assert_eq!(
        (correction.kind, correction.corrects),
        (PostingKind::Correction, Some(posting_id(1)))
    );
    assert_eq!(correction.amount, usd(-3));
}

async fn a_late_answer_corrects_an_expired_hold(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(10)), rolling("rolling", "a", usd(10), 3600, 60)];
    f.commit(vec![admit(1, of("a"), usd(4), lines())]).await;
    f.commit(vec![expire(1)]).await;
    let mut late = capture(1, usd(6));
    if let Op::Capture(capture) = &mut late {
        capture.posting = posting_id(2);
    }
    let outcomes = f.commit(vec![late.clone()]).await;
    let ended = Outcome::Ended {
        posting: Some(posting_id(2)),
        overage: usd(2),
    };
    assert_eq!(outcomes, [ended]);
    let again = Outcome::Unchanged {
        posting: Some(posting_id(2)),
    };
    assert_eq!(f.commit(vec![late]).await, [again]);
    for spec in lines() {
        let line = f.line(&spec.key).await;
        assert_eq!(
            (line.posted, line.unresolved, line.held),
            (usd(6), Usd::ZERO, Usd::ZERO)
        );
    }
    f.is_sound().await;
}

async fn a_voided_hold_costs_nothing(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(10))];
    f.commit(vec![admit(1, of("a"), usd(4), lines())]).await;
    f.commit(vec![Op::Void { hold: hold_id(1) }]).await;
    let line = f.line(&lines()[0].key).await;
    assert_eq!((line.held, line.posted), (Usd::ZERO, Usd::ZERO));
    let outcomes = f.commit(vec![capture(1, usd(1)), capture(7, usd(1))]).await;
    assert!(matches!(
        outcomes[0],
        Outcome::Rejected(LedgerRejection::AlreadyEnded(_))
    ));
    assert_eq!(outcomes[1], Outcome::Rejected(LedgerRejection::UnknownHold));
    f.is_sound().await;
}

async fn a_frozen_agent_gets_no_hold(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(10))];
    for (version, status, refusal) in [
        (1, AgentStatus::Paused, Some(Refusal::AgentPaused)),
        (2, AgentStatus::Contained, Some(Refusal::AgentContained)),
        (3, AgentStatus::Restoring, Some(Refusal::AgentContained)),
        (4, AgentStatus::Active, None),
    ] {
        let judgement = Judgement {
            agents: vec![AgentState {
                status,
                version,
                ..AgentState::initial(agent("a"))
            }],
            ..Judgement::default()
        };
        // Another process freezes it; the next hold here is bound by that.
        f.another().await.judge(&judgement).await.unwrap();
        let outcomes = f.commit(vec![admit(1, of("a"), usd(1), lines())]).await;
        match refusal {
            Some(refusal) => assert_eq!(outcomes, [Outcome::Refused(refusal)]),
            None => assert!(matches!(outcomes[..], [Outcome::Admitted { .. }])),
        }
    }
}

async fn a_posting_id_that_is_in_use_fails_the_commit(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(10))];
    f.commit(vec![Op::Report(report(1, of("a"), usd(1), lines()))]).await;
    let mut stolen = report(2, of("a"), usd(1), lines());
    stolen.posting = posting_id(1);
    let batch = f.batch(vec![Op::Report(stolen)]);
    refused(&*f.store, &batch).await;
    assert_eq!(f.line(&lines()[0].key).await.posted, usd(1));
    let outcomes = f.commit(vec![Op::Report(report(3, of("a"), usd(1), lines()))]).await;
    assert!(matches!(outcomes[..], [Outcome::Posted { .. }]), "the store goes on");
    f.is_sound().await;
}

async fn expiring_holds_are_found_in_their_order(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(1000))];
    let mut ops = Vec::new();
    for n in 0..6_u128 {
        let mut op = admit(n, of("a"), usd(1), lines());
        if let Op::Admit(admit) = &mut op {
            admit.expires_at = later(100 - i64::try_from(n).unwrap() * 10);
        }
        ops.push(op);
    }
    f.commit(ops).await;
    f.commit(vec![Op::Void { hold: hold_id(5) }]).await;
    let due = f.store.expiring_holds(f.epoch, later(80), 10).await.unwrap();
    assert_eq!(due, [hold_id(4), hold_id(3), hold_id(2)]);
    assert_eq!(f.store.expiring_holds(f.epoch, later(80), 2).await.unwrap(), due[..2]);
    assert_eq!(f.store.expiring_holds(f.epoch, later(10), 10).await.unwrap(), []);
    let mut other = f.epoch;
    other.0 += 1;
    assert_eq!(f.store.expiring_holds(other, later(800), 10).await.unwrap(), []);
}

async fn the_clock_never_goes_back_unless_an_operator_sets_it(f: Fixture) {
    assert_eq!(f.store.advance_clock(now()).await.unwrap(), now());
    assert_eq!(f.store.advance_clock(later(-5)).await.unwrap(), now());
    assert_eq!(f.another().await.advance_clock(later(5)).await.unwrap(), later(5));
    assert_eq!(f.store.advance_clock(now()).await.unwrap(), later(5));
    f.store.set_clock(later(-60)).await.unwrap();
    assert_eq!(f.store.advance_clock(later(-90)).await.unwrap(), later(-60));
}

async fn amounts_at_the_ends_of_the_range_stand(f: Fixture) {
    let billion = usd(1_000_000_000);
    let lines = || vec![total("total", "a", usd(1))];
    let mut posted = 0;
    for n in 0..12 {
        let outcomes = f.commit(vec![Op::Report(report(n, of("a"), billion, lines()))]).await;
        match outcomes[..] {
            [Outcome::Posted { .. }] => posted += 1,
            [Outcome::Rejected(LedgerRejection::Absurd)] => {}
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(posted, 9, "nine billion dollars fit into an amount");
    let outcomes = f
        .commit(vec![Op::Report(report(
            50,
            of("a"),
            billion.saturating_add(usd(1)),
            lines(),
        ))])
        .await;
    assert_eq!(outcomes, [Outcome::Rejected(LedgerRejection::Absurd)]);
    f.is_sound().await;
    // Sums over several lines may pass the range of one amount; the report of them ends there.
    for n in 100..112 {
        f.commit(vec![Op::Report(report(
            n,
            of("b"),
            billion,
            vec![total(&format!("t{n}"), "b", usd(1))],
        ))])
        .await;
    }
    let rows = f
        .store
        .spend(&backstop::ports::SpendQuery {
            agent: None,
            task: None,
            by: backstop::ports::SpendBy::Agent,
            since: None,
            until: None,
            limit: 10,
        })
        .await
        .unwrap();
    assert_eq!(rows.iter().find(|r| r.key == "b").unwrap().amount, Usd::MAX);
}

async fn two_handles_never_admit_past_the_limit(f: Fixture) {
    let limit = usd(25);
    let lines = || vec![spec("daily", "a", limit), fleet("fleet", usd(1000))];
    let other = f.another().await;
    let their_epoch = other.open_epoch(now(), "there").await.unwrap();
    let ours = async {
        let mut admitted = 0;
        for n in 0..20 {
            let outcomes = f.commit(vec![admit(n, of("a"), usd(1), lines())]).await;
            admitted += usize::from(matches!(outcomes[0], Outcome::Admitted { .. }));
        }
        admitted
    };
    let theirs = async {
        let mut admitted = 0;
        for n in 0..20 {
            let mut batch = f.batch(vec![admit(100 + n, of("a"), usd(1), lines())]);
            batch.epoch = their_epoch;
            let outcomes = send(&*other, &batch).await;
            admitted += usize::from(matches!(outcomes[0], Outcome::Admitted { .. }));
        }
        admitted
    };
    let (ours, theirs) = tokio::join!(ours, theirs);
    assert_eq!(ours + theirs, 25, "{ours} here and {theirs} there");
    assert_eq!(f.line(&lines()[0].key).await.held, limit);
    f.is_sound().await;
}
