//! Epochs: who is alive, and what becomes of what the dead held.

use std::time::Duration;

use backstop::domain::ledger::batch::LedgerRules;
use backstop::domain::ledger::hold::HoldState;
use backstop::domain::money::Usd;
use backstop::ports::{DeadEpochs, Lease, PostingQuery, StoreError};

use crate::conform;
use crate::fixture::{Fixture, is_sound, refused};
use crate::make::*;

conform!(
    epochs_are_numbered_and_apart,
    an_epoch_with_open_holds_does_not_close,
    a_closed_epoch_writes_nothing,
    the_living_are_not_buried,
    the_holds_of_the_dead_become_unresolved_one_by_one,
    a_large_burial_is_whole,
    two_may_bury_at_once,
    the_leases_of_the_dead_are_free,
);

async fn epochs_are_numbered_and_apart(f: Fixture) {
    let second = f.store.open_epoch(now(), "here").await.unwrap();
    let third = f.another().await.open_epoch(now(), "there").await.unwrap();
    assert!(f.epoch < second && second < third);
}

async fn an_epoch_with_open_holds_does_not_close(f: Fixture) {
    f.commit(vec![admit(1, of("a"), usd(1), vec![spec("daily", "a", usd(10))])])
        .await;
    let error = f.store.close_epoch(f.epoch, now()).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    f.commit(vec![capture(1, usd(1))]).await;
    f.store.close_epoch(f.epoch, now()).await.unwrap();
}

async fn a_closed_epoch_writes_nothing(f: Fixture) {
    f.store.close_epoch(f.epoch, now()).await.unwrap();
    let batch = f.batch(vec![admit(1, of("a"), usd(1), vec![spec("daily", "a", usd(10))])]);
    let error = refused(&*f.store, &batch).await;
    assert!(
        matches!(error, StoreError::EpochClosed(epoch) if epoch == f.epoch),
        "{error:?}"
    );
    assert!(f.store.hold(hold_id(1)).await.unwrap().is_none());
    let dead = f.store.bury_dead_epochs(now(), &LedgerRules::default()).await.unwrap();
    assert_eq!(dead, DeadEpochs::default(), "what was closed is not dead");
}

async fn the_living_are_not_buried(f: Fixture) {
    f.commit(vec![admit(1, of("a"), usd(1), vec![spec("daily", "a", usd(10))])])
        .await;
    let other = f.another().await;
    let theirs = other.open_epoch(now(), "there").await.unwrap();
    for store in [&f.store, &other] {
        let dead = store.bury_dead_epochs(now(), &LedgerRules::default()).await.unwrap();
        assert_eq!(dead, DeadEpochs::default());
    }
    let hold = other.hold(hold_id(1)).await.unwrap().unwrap();
    assert_eq!(hold.state, HoldState::Open);
    f.commit(vec![capture(1, usd(1))]).await;
    other.close_epoch(theirs, now()).await.unwrap();
}

async fn the_holds_of_the_dead_become_unresolved_one_by_one(f: Fixture) {
    let line = spec("daily", "a", usd(10));
    let lines = || vec![line.clone()];
    f.commit(vec![
        admit(1, of("a"), usd(1), lines()),
        admit(2, full("a"), usd(2), lines()),
        admit(3, of("a"), usd(4), lines()),
    ])
    .await;
    f.commit(vec![capture(3, usd(3))]).await;
    let (store, dead_epoch, _remains) = f.crash().await;
    let alive = store.open_epoch(now(), "here").await.unwrap();
    let dead = store
        .bury_dead_epochs(later(30), &LedgerRules::default())
        .await
        .unwrap();
    assert_eq!(
        dead,
        DeadEpochs {
            epochs: vec![dead_epoch],
            holds: 2,
            amount: usd(3)
        }
    );
    let open = PostingQuery {
        unresolved: true,
        limit: 10,
        ..PostingQuery::default()
    };
    let unresolved = store.postings(&open).await.unwrap();
    let mut holds: Vec<_> = unresolved.iter().map(|p| (p.hold.unwrap(), p.amount)).collect();
    holds.sort();
    assert_eq!(holds, [(hold_id(1), usd(1)), (hold_id(2), usd(2))]);
    let stored = crate::fixture::line(&*store, &line.key).await;
    assert_eq!(
        (stored.held, stored.posted, stored.unresolved),
        (Usd::ZERO, usd(6), usd(3))
    );
    is_sound(&*store, later(30)).await;

    let again = store
        .bury_dead_epochs(later(31), &LedgerRules::default())
        .await
        .unwrap();
    assert_eq!(again, DeadEpochs::default());
    // Were it to come back, its writes would be dropped.
    let batch = backstop::domain::ledger::batch::Batch {
        epoch: dead_epoch,
        seq: 99,
        now: later(40),
        ops: vec![capture(1, usd(1))],
    };
    assert!(matches!(refused(&*store, &batch).await, StoreError::EpochClosed(_)));
    store.close_epoch(alive, later(50)).await.unwrap();
}

async fn a_large_burial_is_whole(f: Fixture) {
    let line = spec("daily", "a", usd(100_000));
    for part in 0..3_u128 {
        let ops = (0..500)
            .map(|n| admit(part * 500 + n, of("a"), usd(1), vec![line.clone()]))
            .collect();
        f.commit(ops).await;
    }
    let (store, _, _remains) = f.crash().await;
    let dead = store
        .bury_dead_epochs(later(30), &LedgerRules::default())
        .await
        .unwrap();
    assert_eq!((dead.holds, dead.amount), (1500, usd(1500)));
    is_sound(&*store, later(30)).await;
}

async fn two_may_bury_at_once(f: Fixture) {
    let line = spec("daily", "a", usd(100_000));
    let ops = (0..500)
        .map(|n| admit(n, of("a"), usd(1), vec![line.clone()]))
        .collect();
    f.commit(ops).await;
    let other = f.another().await;
    let (store, _, _remains) = f.crash().await;
    let rules = LedgerRules::default();
    let (one, two) = tokio::join!(
        store.bury_dead_epochs(later(30), &rules),
        other.bury_dead_epochs(later(30), &rules)
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.holds + two.holds, 500);
    assert_eq!(one.epochs.len() + two.epochs.len(), 1);
    is_sound(&*store, later(30)).await;
}

/// Nobody waits for the lease of a driver that is provably dead (C6); that of the living stays.
async fn the_leases_of_the_dead_are_free(f: Fixture) {
    let hour = Duration::from_secs(3600);
    let dead = Lease::holder_in(f.epoch);
    let held = f.store.lease("driver", &dead, now(), hour).await.unwrap().unwrap();
    let (store, _, _remains) = f.crash().await;
    let living = Lease::holder_in(store.open_epoch(now(), "there").await.unwrap());
    store.lease("other", &living, now(), hour).await.unwrap().unwrap();
    assert_eq!(store.lease("driver", &living, later(1), hour).await.unwrap(), None);
    store.bury_dead_epochs(later(2), &LedgerRules::default()).await.unwrap();
    let taken = store.lease("driver", &living, later(3), hour).await.unwrap().unwrap();
    assert!(taken.token > held.token, "the fence rises");
    let error = store.record_steps(&held, &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    assert_eq!(store.lease("other", "third", later(3), hour).await.unwrap(), None);
}
