//! Reports: one expense told by two, and rows that stand or fall together.

use backstop::domain::ledger::batch::{LedgerRejection, Op, Outcome, Report};
use backstop::domain::ledger::posting::{PostingKind, Trust};
use backstop::ports::{SpendBy, SpendQuery};

use crate::conform;
use crate::fixture::Fixture;
use crate::make::*;

conform!(
    evidence_takes_the_claim_of_the_same_expense_back,
    reports_stand_or_fall_together,
);

/// Both told of one expense, in one batch or in two, the one before the other or the other before the one.
async fn evidence_takes_the_claim_of_the_same_expense_back(f: Fixture) {
    let daily = || vec![spec("daily", "a", usd(100))];
    let both = || vec![spec("daily", "a", usd(100)), fleet("fleet", usd(100))];
    let claim = |n: u128| Report {
        trust: Trust::Agent,
        digest: [1; 32],
        posting: posting_id(1_000 + n),
        ..report(n, of("a"), usd(5), daily())
    };
    let evidence = |n: u128| report(n, of("a"), usd(8), both());
    f.commit(vec![Op::Report(claim(1)), Op::Report(evidence(3))]).await;
    let outcomes = f
        .commit(vec![
            Op::Report(evidence(1)),
            Op::Report(claim(2)),
            Op::Report(evidence(2)),
            Op::Report(claim(3)),
        ])
        .await;
    assert_eq!(outcomes[0], Outcome::Posted { posting: posting_id(1) });
    assert_eq!(outcomes[2], Outcome::Posted { posting: posting_id(2) });
    let known = Outcome::Unchanged {
        posting: Some(posting_id(3)),
    };
    assert_eq!(outcomes[3], known);
    for spec in both() {
        assert_eq!(f.line(&spec.key).await.posted, usd(24), "{:?}", spec.key);
    }
    let view = f.is_sound().await;
    let corrections = view
        .postings
        .iter()
        .filter(|posting| posting.kind == PostingKind::Correction);
    let corrected: Vec<_> = corrections.filter_map(|posting| posting.corrects).collect();
    assert_eq!(corrected, [posting_id(1_001), posting_id(1_002)]);
    let query = SpendQuery {
        agent: None,
        task: None,
        by: SpendBy::Agent,
        since: None,
        until: None,
        limit: 10,
    };
    let spent = f.store.spend(&query).await.unwrap();
    assert_eq!((spent[0].amount, spent[0].unresolved), (usd(24), usd(0)));
    // And again nothing of it changes.
    let again = f
        .commit(vec![
            Op::Report(evidence(1)),
            Op::Report(claim(3)),
            Op::Report(claim(1)),
        ])
        .await;
    assert_eq!(again[1], known);
    assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Unchanged { .. })));
    assert_eq!(f.is_sound().await.postings.len(), view.postings.len());
}

async fn reports_stand_or_fall_together(f: Fixture) {
    let row = |n: u128| report(n, of("a"), usd(2), vec![spec("daily", "a", usd(100))]);
    let together = |reports: Vec<Report>, check_only| vec![Op::ReportAll { reports, check_only }];
    f.commit(vec![Op::Report(row(1))]).await;
    let other = Report {
        digest: [99; 32],
        ..row(1)
    };
    let conflict = LedgerRejection::ReportConflict(other.report.clone());
    let refused = vec![Outcome::Checked {
        rejected: vec![(1, conflict)],
    }];
    for check_only in [true, false] {
        assert_eq!(
            f.commit(together(vec![row(2), other.clone()], check_only)).await,
            refused
        );
    }
    let nothing = vec![Outcome::Checked { rejected: Vec::new() }];
    assert_eq!(f.commit(together(vec![row(1), row(2)], true)).await, nothing);
    assert_eq!(f.is_sound().await.postings.len(), 1);
    let kept = vec![Outcome::Together(vec![
        Outcome::Unchanged {
            posting: Some(posting_id(1)),
        },
        Outcome::Posted { posting: posting_id(2) },
    ])];
    assert_eq!(f.commit(together(vec![row(1), row(2)], false)).await, kept);
    assert_eq!(f.line(&spec("daily", "a", usd(100)).key).await.posted, usd(4));
    f.is_sound().await;
}
