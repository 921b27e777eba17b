//! One expense that its agent claims and evidence tells of: the evidence counts (C7, L6).

use super::*;
use crate::domain::ledger::posting::taking_back;

fn claim(n: u128, amount: i64, lines: &[LineSpec]) -> Report {
    Report {
        trust: Trust::Agent,
        digest: [1; 32],
        ..report(n, amount, lines)
    }
}

fn evidence(n: u128, amount: i64, lines: &[LineSpec]) -> Report {
    Report {
        trust: Trust::Operator,
        digest: [2; 32],
        posting: posting_id(600_000 + n),
        ..report(n, amount, lines)
    }
}

#[test]
fn evidence_replaces_the_claim_whether_it_says_more_or_less() {
    for (claimed, proven) in [(5, 9), (9, 5), (7, 7), (7, 0)] {
        let (mut ledger, day) = (Ledger::default(), line("day", 100));
        let lines = std::slice::from_ref(&day);
        ledger.run(0, vec![Op::Report(claim(1, claimed, lines))]);
        let outcome = ledger.one(9, Op::Report(evidence(1, proven, lines)));
        assert_eq!(
            outcome,
            Outcome::Posted {
                posting: posting_id(600_001)
            }
        );
        assert_eq!(ledger.sums(&day), (proven, 0, 0, 0), "claimed {claimed}");
        assert_eq!(
            ledger.kinds(),
            [PostingKind::Report, PostingKind::Correction, PostingKind::Report]
        );
        let back = &ledger.postings[1];
        assert_eq!(back.id, taking_back(ledger.postings[0].id));
        assert_eq!(
            (back.corrects, back.amount),
            (Some(ledger.postings[0].id), usd(-claimed))
        );
        // What was decided is decided: both again change nothing (L6).
        let before = ledger.clone();
        for again in [claim(1, claimed, lines), evidence(1, proven, lines)] {
            assert!(matches!(ledger.one(10, Op::Report(again)), Outcome::Unchanged { .. }));
        }
        assert_eq!(ledger.postings, before.postings);
    }
}

#[test]
fn a_fleet_line_on_which_no_claim_counts_gets_the_whole_amount() {
    let mut ledger = Ledger::default();
    let both = [line("day", 100), line("fleet", 100)];
    ledger.run(0, vec![Op::Report(claim(1, 5, &both))]);
    ledger.run(0, vec![Op::Report(evidence(1, 8, &both))]);
    assert_eq!((ledger.sums(&both[0]).0, ledger.sums(&both[1]).0), (8, 8));
}

/// The claim stood elsewhere: under another task, in another window.
#[test]
fn a_claim_is_taken_back_where_it_stands_and_the_evidence_stands_where_it_says() {
    let mut ledger = Ledger::default();
    let (here, there, rolled) = (line("here", 100), line("there", 100), rolling("burst", 100, 60, 10));
    ledger.run(0, vec![Op::Report(claim(1, 5, &[here.clone(), rolled.clone()]))]);
    assert_eq!(ledger.sums(&rolled).0, 5);
    // By then the bucket has left its window, and took the claim with it.
    ledger.run(90, vec![Op::Report(evidence(1, 8, std::slice::from_ref(&there)))]);
    assert_eq!((ledger.sums(&here).0, ledger.sums(&there).0), (0, 8));
    assert!(ledger.line(&rolled).posted <= usd(5) && !ledger.line(&rolled).posted.is_negative());
}

#[test]
fn a_claim_after_the_evidence_is_known_and_not_posted() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    let outcomes = ledger.run(
        0,
        vec![Op::Report(evidence(1, 8, lines)), Op::Report(claim(1, 5, lines))],
    );
    assert_eq!(
        outcomes[1],
        Outcome::Unchanged {
            posting: Some(posting_id(600_001))
        }
    );
    assert_eq!(ledger.one(3, Op::Report(claim(1, 5, lines))), outcomes[1], "and again");
    assert_eq!(ledger.sums(&day), (8, 0, 0, 0));
    let other = Report {
        digest: [9; 32],
        ..claim(1, 6, lines)
    };
    assert!(
        matches!(ledger.one(5, Op::Report(other)), Outcome::Rejected(_)),
        "the claim's id is taken"
    );
}

/// What nobody has confirmed neither takes a claim back nor stands in for one.
#[test]
fn an_unconfirmed_word_counts_beside_the_claim() {
    for order in [[0, 1], [1, 0]] {
        let (mut ledger, day) = (Ledger::default(), line("day", 100));
        let lines = std::slice::from_ref(&day);
        let unconfirmed = Report {
            trust: Trust::Unconfirmed,
            ..evidence(1, 1, lines)
        };
        let told = [claim(1, 5, lines), unconfirmed];
        for n in order {
            ledger.run(0, vec![Op::Report(told[n].clone())]);
        }
        assert_eq!(ledger.sums(&day).0, 6);
    }
}

/// A claim whose rows were rolled up stands where nobody can tell: then both count, and it is said.
#[test]
fn a_claim_that_was_rolled_up_counts_beside_the_evidence() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    ledger.commit(0, vec![Op::Report(claim(1, 5, lines))]);
    ledger.postings.clear();
    ledger.entries.clear();
    ledger.commit(5, vec![Op::Report(evidence(1, 8, lines))]);
    assert_eq!(ledger.sums(&day).0, 13);
    let told = ledger.postings[0].detail.as_deref().unwrap();
    assert!(told.contains("also_claimed_by_agent"), "{told}");
}

/// An overage that only the claim had caused goes with it; the breach that it was is not judged anew.
#[test]
fn l2_the_overage_of_a_claim_goes_with_it() {
    let (mut ledger, day) = (Ledger::default(), line("day", 10));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Report(claim(1, 25, lines))]);
    assert_eq!(ledger.sums(&day), (25, 0, 0, 15));
    assert_eq!(ledger.fired().last(), Some(&TriggerCause::Breach));
    ledger.run(5, vec![Op::Report(evidence(1, 4, lines))]);
    assert_eq!(ledger.sums(&day), (4, 0, 0, 0));
    assert_eq!(ledger.fired(), []);
}

fn together(reports: Vec<Report>) -> Op {
    Op::ReportAll {
        reports,
        check_only: false,
    }
}

#[test]
fn reports_that_stand_or_fall_together() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    ledger.run(0, vec![Op::Report(evidence(1, 8, lines))]);
    let taken = Report {
        digest: [9; 32],
        ..evidence(1, 9, lines)
    };
    let twice = Report {
        digest: [9; 32],
        ..evidence(2, 9, lines)
    };
    let negative = evidence(3, -1, lines);
    let refused = ledger.one(0, together(vec![evidence(2, 1, lines), taken, twice, negative]));
    let Outcome::Checked { rejected } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((ledger.postings.len(), ledger.reports.len()), (1, 1));

    let good = vec![
        evidence(1, 8, lines),
        claim(2, 3, lines),
        evidence(2, 4, lines),
        evidence(2, 4, lines),
    ];
    let check = Op::ReportAll {
        reports: good.clone(),
        check_only: true,
    };
    assert_eq!(ledger.one(0, check), Outcome::Checked { rejected: Vec::new() });
    assert_eq!(ledger.postings.len(), 1);
    let Outcome::Together(outcomes) = ledger.one(0, together(good.clone())) else {
        panic!("not kept")
    };
    assert!(matches!(
        outcomes[..],
        [
            Outcome::Unchanged { .. },
            Outcome::Posted { .. },
            Outcome::Posted { .. },
            Outcome::Unchanged { .. }
        ]
    ));
    assert_eq!(ledger.sums(&day).0, 12);
    let before = ledger.postings.clone();
    ledger.run(1, vec![together(good)]);
    assert_eq!(ledger.postings, before, "sent again it changes nothing");
}

/// Each of them fits the range of a sum, and all of them do not.
#[test]
fn a_group_that_no_sum_can_hold_is_refused_whole() {
    let (mut ledger, day) = (Ledger::default(), line("day", 100));
    let lines = std::slice::from_ref(&day);
    let group = (1..=10).map(|n| evidence(n, 1_000_000_000, lines)).collect();
    let refused = ledger.one(0, together(group));
    assert!(
        matches!(&refused, Outcome::Checked { rejected } if rejected.iter().map(|(row, _)| *row).eq([9])),
        "{refused:?}"
    );
    assert!(ledger.postings.is_empty());
}
