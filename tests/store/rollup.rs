//! Retention: what goes, what stays, and that every sum is the same after it.

use backstop::domain::ledger::batch::{LedgerRejection, Op, Outcome};
use backstop::domain::money::Usd;
use backstop::domain::window::WindowInstance;
use backstop::ports::{PostingQuery, SpendBy, SpendQuery};
use jiff::Timestamp;

use crate::conform;
use crate::fixture::{Fixture, is_sound};
use crate::make::*;

conform!(
    old_postings_become_hourly_sums,
    report_ids_and_metered_requests_outlive_their_postings,
    what_is_open_or_unresolved_stays,
    a_correction_goes_with_what_it_corrects,
    a_rolling_line_keeps_its_live_buckets,
    a_roll_up_is_bounded_and_ends,
);

/// A month after the day of the tests.
fn after() -> Timestamp {
    later(30 * 86_400)
}

fn everything() -> PostingQuery {
    PostingQuery {
        limit: 1000,
        ..PostingQuery::default()
    }
}

async fn roll(f: &Fixture) -> u64 {
    f.store.roll_up(later(86_400), after(), 1000).await.unwrap()
}

async fn old_postings_become_hourly_sums(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(100)), fleet("fleet", usd(1000))];
    let mut ops = Vec::new();
    for n in 0..10 {
        let mut report = report(n, of("a"), usd(1), lines());
        report.occurred_at = later(-1800 * i64::try_from(n).unwrap());
        ops.push(Op::Report(report));
    }
    ops.extend([admit(20, of("a"), usd(3), lines()), capture(20, usd(2))]);
    f.commit(ops).await;
    let before = f.is_sound().await;
    let by_day = SpendQuery {
        agent: None,
        task: None,
        by: SpendBy::Day,
        since: None,
        until: None,
        limit: 100,
    };
    let spend = f.store.spend(&by_day).await.unwrap();

    assert_eq!(
        f.store.roll_up(now(), after(), 1000).await.unwrap(),
        0,
        "recorded later"
    );
    assert_eq!(
        f.store.roll_up(later(1), now(), 1000).await.unwrap(),
        0,
        "its window is open"
    );
    assert_eq!(roll(&f).await, 11);
    let view = is_sound(&*f.store, after()).await;
    assert_eq!((view.postings.len(), view.entries.len()), (0, 0));
    assert_eq!(view.lines, before.lines);
    let rolled: Usd = view.rolled.iter().filter(|r| r.0 == lines()[0].key).map(|r| r.2).sum();
    assert_eq!(rolled, usd(12));
    let hours: Vec<_> = view
        .rolled
        .iter()
        .filter(|r| r.0 == lines()[0].key)
        .map(|r| (r.1, r.2))
        .collect();
    assert_eq!(hours.len(), 6);
    assert!(
        hours.contains(&(now(), usd(3))),
        "the capture and one report: {hours:?}"
    );
    assert_eq!(f.store.spend(&by_day).await.unwrap(), spend);
    assert_eq!(roll(&f).await, 0);
}

async fn report_ids_and_metered_requests_outlive_their_postings(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(100))];
    let first = report(1, of("a"), usd(1), lines());
    f.commit(vec![
        Op::Report(first.clone()),
        admit(2, of("a"), usd(3), lines()),
        capture(2, usd(2)),
    ])
    .await;
    assert_eq!(roll(&f).await, 2);
    let mut changed = first.clone();
    changed.digest = [77; 32];
    let mut metered = report(3, of("a"), usd(2), lines());
    metered.upstream_request = Some("req-2".to_owned());
    let outcomes = f
        .commit_at(
            after(),
            vec![Op::Report(first), Op::Report(changed.clone()), Op::Report(metered)],
        )
        .await;
    let known = |n| Outcome::Unchanged {
        posting: Some(posting_id(n)),
    };
    let conflict = Outcome::Rejected(LedgerRejection::ReportConflict(changed.report));
    assert_eq!(outcomes, [known(1), conflict, known(2)]);
    assert_eq!(f.line(&lines()[0].key).await.posted, usd(3));
    is_sound(&*f.store, after()).await;
}

async fn what_is_open_or_unresolved_stays(f: Fixture) {
    let mut month = spec("monthly", "a", usd(100));
    month.key.window = WindowInstance {
        start: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        end: Some("2026-03-01T00:00:00Z".parse().unwrap()),
    };
    let day = || vec![spec("daily", "a", usd(100))];
    f.commit(vec![
        Op::Report(report(1, of("a"), usd(1), vec![spec("daily", "a", usd(100)), month])),
        admit(2, of("a"), usd(1), day()),
        expire(2),
        admit(3, of("a"), usd(1), day()),
        Op::Report(report(4, of("a"), usd(1), day())),
    ])
    .await;
    assert_eq!(roll(&f).await, 1);
    let left: Vec<_> = f
        .store
        .postings(&everything())
        .await
        .unwrap()
        .iter()
        .map(|p| p.id)
        .collect();
    assert_eq!(left, [posting_id(1), posting_id(2)]);
    assert!(
        f.store.hold(hold_id(3)).await.unwrap().is_some(),
        "an open hold is never old"
    );
    is_sound(&*f.store, after()).await;
    let outcomes = f.commit_at(after(), vec![resolve(2, 12, Usd::ZERO)]).await;
    assert!(matches!(outcomes[0], Outcome::Ended { .. }), "{outcomes:?}");
    is_sound(&*f.store, after()).await;
}

async fn a_correction_goes_with_what_it_corrects(f: Fixture) {
    let day = || vec![spec("daily", "a", usd(100))];
    f.commit(vec![
        admit(1, of("a"), usd(5), day()),
        expire(1),
        Op::Report(report(2, of("a"), usd(1), day())),
    ])
    .await;
    // The evidence is recorded later than what may go, so both stay.
    f.commit_at(later(2 * 86_400), vec![resolve(1, 11, usd(2))]).await;
    assert_eq!(roll(&f).await, 1);
    is_sound(&*f.store, after()).await;
    let again = f.commit_at(after(), vec![resolve(1, 13, usd(3))]).await;
    assert_eq!(again, [Outcome::Rejected(LedgerRejection::NotUnresolved)]);
    assert_eq!(
        f.store.roll_up(after(), after(), 1).await.unwrap(),
        2,
        "together, past the bound"
    );
    assert!(f.store.postings(&everything()).await.unwrap().is_empty());
    let line = f.line(&day()[0].key).await;
    assert_eq!((line.posted, line.unresolved), (usd(3), Usd::ZERO));
    is_sound(&*f.store, after()).await;
}

async fn a_rolling_line_keeps_its_live_buckets(f: Fixture) {
    let week = rolling("week", "a", usd(100), 7 * 86_400, 3600);
    let at = |n: u128, seconds: i64| {
        let mut report = report(n, of("a"), usd(1), vec![week.clone()]);
        report.occurred_at = later(seconds);
        Op::Report(report)
    };
    f.commit_at(later(5 * 86_400), vec![at(1, 0), at(2, 5 * 86_400)]).await;
    let then = later(8 * 86_400);
    assert_eq!(f.store.roll_up(then, then, 1000).await.unwrap(), 1);
    let left: Vec<_> = f
        .store
        .postings(&everything())
        .await
        .unwrap()
        .iter()
        .map(|p| p.id)
        .collect();
    assert_eq!(left, [posting_id(2)]);
    // Its next commit drops the old bucket; only the live one is left, with its entry.
    f.commit_at(then, vec![at(3, 8 * 86_400)]).await;
    assert_eq!(f.line(&week.key).await.posted, usd(2));
    is_sound(&*f.store, then).await;
}

async fn a_roll_up_is_bounded_and_ends(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(1000)), total("total", "a", usd(1000))];
    let ops = (0..95)
        .map(|n| Op::Report(report(n, of("a"), usd(1), lines())))
        .collect();
    f.commit(ops).await;
    let mut rounds = Vec::new();
    loop {
        let rolled = f.store.roll_up(later(86_400), after(), 40).await.unwrap();
        if rolled == 0 {
            break;
        }
        rounds.push(rolled);
        is_sound(&*f.store, after()).await;
    }
    assert_eq!(rounds, [40, 40, 15]);
    assert_eq!(f.line(&lines()[1].key).await.posted, usd(95));
}
