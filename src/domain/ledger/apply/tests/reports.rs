use super::*;
use crate::domain::ledger::batch::LedgerRejection;

#[test]
fn l6_one_report_id_one_posting() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let first = report(1, 3, lines);
    let posted = Outcome::Posted { posting: first.posting };
    let unchanged = Outcome::Unchanged {
        posting: Some(first.posting),
    };
    let again = Report {
        posting: posting_id(9),
        ..first.clone()
    };
    let both = ledger.run(0, vec![Op::Report(first.clone()), Op::Report(again.clone())]);
    assert_eq!(both, [posted, unchanged.clone()]);
    assert_eq!(ledger.one(0, Op::Report(again)), unchanged);
    let other_body = Report {
        digest: [8; 32],
        posting: posting_id(10),
        ..first.clone()
    };
    let conflict = LedgerRejection::ReportConflict(first.report.clone());
    assert_eq!(ledger.one(0, Op::Report(other_body)), Outcome::Rejected(conflict));
    assert_eq!(ledger.sums(&day), (3, 0, 0, 0));
    // Ids are an agent's own.
    let others = Report {
        attribution: spend_of("b"),
        posting: posting_id(11),
        lines: Vec::new(),
        ..first
    };
    assert!(matches!(ledger.one(0, Op::Report(others)), Outcome::Posted { .. }));
    assert_eq!(ledger.postings.len(), 2);
}

#[test]
fn l6_what_was_metered_here_is_not_counted_again() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let metered = Capture {
        upstream_request: Some("req-1".into()),
        ..capture(1, 2)
    };
    let reported = Report {
        upstream_request: Some("req-1".into()),
        ..report(1, 3, lines)
    };
    let outcomes = ledger.run(
        0,
        vec![
            Op::Admit(admit(1, 5, lines)),
            Op::Capture(metered),
            Op::Report(reported.clone()),
        ],
    );
    let recognised = Outcome::Unchanged {
        posting: Some(posting_id(1)),
    };
    assert_eq!(outcomes[2], recognised);
    assert_eq!(ledger.reports[&ReportKey::of(&reported)], ([7; 32], None));
    assert_eq!(
        ledger.one(5, Op::Report(reported.clone())),
        recognised,
        "and its id is known from then on"
    );
    let conflict = Report {
        digest: [8; 32],
        ..reported
    };
    assert!(matches!(
        ledger.one(5, Op::Report(conflict)),
        Outcome::Rejected(LedgerRejection::ReportConflict(_))
    ));
    assert_eq!(ledger.sums(&day), (2, 0, 0, 0));
}

#[test]
fn l6_an_agents_own_word_hides_no_report() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let own = Admit {
        trust: Trust::Agent,
        ..admit(1, 5, lines)
    };
    let word = Capture {
        trust: Trust::Agent,
        upstream_request: Some("req-1".into()),
        ..capture(1, 0)
    };
    let truth = Report {
        upstream_request: Some("req-1".into()),
        ..report(1, 3, lines)
    };
    let outcomes = ledger.run(0, vec![Op::Admit(own), Op::Capture(word), Op::Report(truth)]);
    assert!(matches!(outcomes[2], Outcome::Posted { .. }));
    assert_eq!(ledger.sums(&day), (3, 0, 0, 0));
}

#[test]
fn l2_a_report_posts_past_the_limit_as_an_overage() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Admit(admit(1, 6, lines)), Op::Report(report(1, 7, lines))]);
    assert_eq!(ledger.sums(&day), (7, 6, 0, 3));
    ledger.run(0, vec![Op::Capture(capture(1, 1))]);
    assert_eq!(
        ledger.sums(&day),
        (8, 0, 0, 0),
        "the hold ended below its bound, and it fits after all"
    );
    ledger.run(0, vec![Op::Report(report(2, 7, lines))]);
    assert_eq!(ledger.sums(&day), (15, 0, 0, 5));
}

#[test]
fn l7_absurd_and_negative_amounts_are_never_posted() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    for (amount, rejection) in [
        (Usd::from_nanos(1_000_000_000_000_000_001), LedgerRejection::Absurd),
        (Usd::MAX, LedgerRejection::Absurd),
        (Usd::from_nanos(-1), LedgerRejection::Negative),
        (Usd::from_nanos(i64::MIN), LedgerRejection::Negative),
    ] {
        let claim = Report {
            amount,
            ..report(1, 0, lines)
        };
        assert_eq!(ledger.one(0, Op::Report(claim)), Outcome::Rejected(rejection));
    }
    assert!(ledger.lines.is_empty() && ledger.postings.is_empty() && ledger.reports.is_empty());
    let billion = Report {
        amount: crate::domain::money::MAX_POSTING,
        ..report(1, 0, lines)
    };
    assert!(matches!(ledger.one(0, Op::Report(billion)), Outcome::Posted { .. }));
}

#[test]
fn no_sum_of_a_line_leaves_its_range() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    let billions = (0..10).map(|n| Op::Report(report(n, 1_000_000_000, lines))).collect();
    let outcomes = ledger.run(0, billions);
    assert!(
        outcomes[..9]
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Posted { .. }))
    );
    assert_eq!(outcomes[9], Outcome::Rejected(LedgerRejection::Absurd));
    assert_eq!(ledger.sums(&day).0, 9_000_000_000);
    assert!(
        !ledger
            .reports
            .contains_key(&ReportKey::of(&report(9, 1_000_000_000, lines))),
        "it may be reported again"
    );
}

#[test]
fn c7_a_weak_claim_never_reaches_a_fleet_line() {
    let mut ledger = Ledger::default();
    let (own, fleet) = (line("day", 10), line("fleet", 10));
    for (n, trust) in [(1, Trust::Agent), (2, Trust::Unconfirmed)] {
        let claim = Report {
            trust,
            ..report(n, 1, &[own.clone(), fleet.clone()])
        };
        ledger.run(0, vec![Op::Report(claim)]);
    }
    assert_eq!(ledger.sums(&own), (2, 0, 0, 0));
    assert!(!ledger.lines.contains_key(&fleet.key));
    ledger.run(0, vec![Op::Report(report(3, 1, &[own, fleet.clone()]))]);
    assert_eq!(ledger.sums(&fleet), (1, 0, 0, 0));
}

#[test]
fn what_no_budget_covers_is_posted_all_the_same() {
    let mut ledger = Ledger::default();
    assert!(matches!(
        ledger.one(0, Op::Report(report(1, 3, &[]))),
        Outcome::Posted { .. }
    ));
    assert_eq!(ledger.postings.len(), 1);
    assert!(ledger.entries.is_empty());
}

/// **C7**, **L2**: an agent cannot take the place of evidence by using its ids first.
#[test]
fn a_claim_never_stands_in_for_evidence() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    let claim = Report {
        trust: Trust::Agent,
        digest: [1; 32],
        ..report(1, 1, lines)
    };
    let bill = Report {
        trust: Trust::Operator,
        digest: [2; 32],
        posting: posting_id(2),
        detail: Some("the bill".to_owned()),
        ..report(1, 40, lines)
    };
    let outcomes = ledger.run(0, vec![Op::Report(claim.clone()), Op::Report(bill.clone())]);
    assert_eq!(outcomes[1], Outcome::Posted { posting: posting_id(2) });
    assert_eq!(ledger.sums(&day).0, 40);
    let told = ledger.postings[2].detail.as_deref().unwrap();
    assert!(told.contains("replaces_claim") && told.contains("the bill"), "{told}");

    // Each is known by its own id from then on (L6).
    for again in [&claim, &bill] {
        let again = Report {
            posting: posting_id(3),
            ..again.clone()
        };
        let outcome = ledger.one(5, Op::Report(again.clone()));
        assert!(matches!(outcome, Outcome::Unchanged { .. }), "{outcome:?}");
        let other = Report {
            digest: [9; 32],
            ..again
        };
        let outcome = ledger.one(5, Op::Report(other));
        assert!(matches!(outcome, Outcome::Rejected(LedgerRejection::ReportConflict(_))));
    }
}
