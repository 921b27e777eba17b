//! The simulated faults themselves. What every store must do is in `tests/store`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use jiff::ToSpan;
use uuid::Uuid;

use super::faults::Odds;
use super::*;
use crate::domain::id::{PostingId, ReportId, TaskId};
use crate::domain::ledger::auditor::{AuditParts, audit};
use crate::domain::ledger::batch::{Admit, Capture, Op, Report};
use crate::domain::ledger::hold::{HoldState, posting_of_dead};
use crate::domain::ledger::line::{LineKey, LineRule, LineSpec, Response, Scope};
use crate::domain::ledger::posting::{Attribution, Basis, PostingKind, Trust};
use crate::domain::money::Usd;
use crate::domain::window::WindowInstance;

/// The store never waits, so its futures are ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store waited"),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(second.seconds()).unwrap()
}

fn line() -> LineSpec {
    LineSpec {
        key: LineKey {
            budget: "total".parse().unwrap(),
            agent: Some("a".parse().unwrap()),
            value: String::new(),
            window: WindowInstance::UNBOUNDED,
        },
        rule: LineRule {
            scope: Scope::Agent,
            limit: Usd::from_dollars(1_000),
            alert_at: vec![50],
            response: Response::Pause,
            rolling: None,
        },
    }
}

fn spend() -> Attribution {
    Attribution {
        agent: "a".parse().unwrap(),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: BTreeMap::new(),
    }
}

fn report(n: u128) -> Op {
    Op::Report(Report {
        posting: PostingId(Uuid::from_u128(n)),
        report: ReportId::new(format!("r{n}")).unwrap(),
        digest: [1; 32],
        attribution: spend(),
        amount: Usd::from_dollars(1),
        basis: Basis::Reported,
        trust: Trust::Provider,
        occurred_at: at(0),
        lines: vec![line()],
        upstream_request: None,
        detail: None,
    })
}

fn admit(n: u128) -> Op {
    Op::Admit(Admit {
        hold: HoldId(Uuid::from_u128(n)),
        attribution: spend(),
        trust: Trust::Gateway,
        bound: Usd::from_dollars(2).into(),
        lines: vec![line()],
        expires_at: at(1_000),
        blocks: false,
        tentative: false,
    })
}

fn capture(n: u128) -> Op {
    Op::Capture(Capture {
        hold: HoldId(Uuid::from_u128(n)),
        posting: PostingId(Uuid::from_u128(1_000_000 + n)),
        cost: Usd::from_dollars(1),
        trust: Trust::Gateway,
        occurred_at: at(0),
        upstream_request: None,
        detail: None,
    })
}

fn batch(epoch: EpochId, seq: i64, ops: Vec<Op>) -> Batch {
    Batch {
        epoch,
        seq,
        now: at(10),
        ops,
    }
}

fn commit(store: &MemoryStore, batch: &Batch) -> Result<Vec<Outcome>, StoreError> {
    ready(store.commit(batch, &LedgerRules::default()))
}

fn view(store: &MemoryStore) -> AuditView {
    let view = ready(store.audit_view()).unwrap();
    let parts = AuditParts {
        lines: &view.lines,
        holds: &view.holds,
        postings: &view.postings,
        entries: &view.entries,
        rolled: &view.rolled,
        now: at(10),
    };
    assert_eq!(audit(&parts), []);
    view
}

fn opened() -> (MemoryStore, EpochId) {
    let store = MemoryStore::new();
    let epoch = ready(store.open_epoch(at(0), "here")).unwrap();
    (store, epoch)
}

#[test]
fn each_fault_does_what_it_says() {
    // (fault, written when the caller is told, written after a crash)
    let cases = [
        (Fault::Busy, false, false),
        (Fault::Full, false, false),
        (Fault::Lost, false, false),
        (Fault::Unanswered, true, true),
        (Fault::Unsynced, true, false),
    ];
    for (fault, before, after) in cases {
        let (store, epoch) = opened();
        store.inject(fault);
        let error = commit(&store, &batch(epoch, 1, vec![report(1)])).unwrap_err();
        let told = match fault {
            Fault::Busy => matches!(error, StoreError::Busy { .. }),
            Fault::Full => matches!(error, StoreError::Full { .. }),
            _ => matches!(error, StoreError::UnknownCommit { .. }),
        };
        assert!(told, "{fault:?}: {error:?}");
        assert_eq!(view(&store).postings.len() == 1, before, "{fault:?}");
        assert_eq!(store.has_unsynced(), fault == Fault::Unsynced);
        let store = store.crash();
        assert_eq!(view(&store).postings.len() == 1, after, "{fault:?}");
    }
}

#[test]
fn l6_a_batch_sent_again_after_any_fault_counts_once() {
    for fault in [
        Fault::Busy,
        Fault::Full,
        Fault::Lost,
        Fault::Unanswered,
        Fault::Unsynced,
    ] {
        let (store, epoch) = opened();
        let again = batch(epoch, 1, vec![report(1), admit(2), capture(2)]);
        store.inject(fault);
        commit(&store, &again).unwrap_err();
        commit(&store, &again).unwrap();
        assert!(!store.has_unsynced(), "the second one's sync is the first one's too");
        let store = store.crash();
        assert_eq!(view(&store).lines[0].posted, Usd::from_dollars(2), "{fault:?}");
    }
}

#[test]
fn a_crash_loses_the_unsynced_tail_and_nothing_before_it() {
    let (store, epoch) = opened();
    commit(&store, &batch(epoch, 1, vec![report(1)])).unwrap();
    for (seq, n) in [(2, 2), (3, 3)] {
        store.inject(Fault::Unsynced);
        commit(&store, &batch(epoch, seq, vec![report(n)])).unwrap_err();
    }
    assert_eq!(view(&store).postings.len(), 3);
    let store = store.crash();
    assert_eq!(view(&store).postings.len(), 1);
}

#[test]
fn a_killed_process_is_dead_and_another_one_lives() {
    let (store, epoch) = opened();
    let other = store.clone();
    let theirs = ready(other.open_epoch(at(0), "there")).unwrap();
    commit(&store, &batch(epoch, 1, vec![admit(1)])).unwrap();
    commit(&other, &batch(theirs, 1, vec![admit(2)])).unwrap();
    let rules = LedgerRules::default();
    assert_eq!(
        ready(other.bury_dead_epochs(at(5), &rules)).unwrap(),
        DeadEpochs::default()
    );
    store.kill();
    assert!(commit(&store, &batch(epoch, 2, vec![report(1)])).is_err());
    let expected = DeadEpochs {
        epochs: vec![epoch],
        holds: 1,
        amount: Usd::from_dollars(2),
    };
    assert_eq!(ready(other.bury_dead_epochs(at(5), &rules)).unwrap(), expected);
    let view = view(&other);
    let states: Vec<_> = view.holds.iter().map(|hold| hold.state).collect();
    assert_eq!(states, [HoldState::Unresolved, HoldState::Open]);
    assert_eq!(view.postings[0].kind, PostingKind::Unresolved);
    assert_eq!(view.postings[0].id, posting_of_dead(view.holds[0].id));
}

#[test]
fn a_burial_that_is_interrupted_is_finished_by_the_next() {
    let (store, epoch) = opened();
    // As many as fit on a line of $1,000 at $2 each.
    commit(&store, &batch(epoch, 1, (0..400).map(admit).collect())).unwrap();
    commit(&store, &batch(epoch, 2, (400..600).map(admit).collect())).unwrap();
    let store = store.crash();
    store.inject(Fault::Unanswered);
    let rules = LedgerRules::default();
    assert!(ready(store.bury_dead_epochs(at(5), &rules)).is_err());
    let dead = ready(store.bury_dead_epochs(at(5), &rules)).unwrap();
    assert_eq!(dead.epochs, [epoch]);
    assert!(
        view(&store)
            .holds
            .iter()
            .all(|hold| hold.state == HoldState::Unresolved)
    );
    assert_eq!(
        ready(store.bury_dead_epochs(at(6), &rules)).unwrap(),
        DeadEpochs::default()
    );
}

#[test]
fn faults_follow_their_seed() {
    let play = |seed| {
        let (store, epoch) = opened();
        let odds = Odds {
            busy: 100,
            full: 50,
            lost: 100,
            unanswered: 100,
            unsynced: 100,
        };
        let faults = Faults {
            seed,
            commit: odds,
            write: Odds::default(),
            read_busy: 0,
        };
        store.set_faults(faults);
        let outcome = |n: i64| commit(&store, &batch(epoch, n, vec![report(u128::try_from(n).unwrap())]));
        (1..60)
            .map(|n| outcome(n).map_err(|error| error.to_string()))
            .map(|r| format!("{r:?}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2));
    assert!(play(1).iter().any(|outcome| outcome.starts_with("Ok")));
}

/// L5 under every fault: what was acknowledged is there after crashes, once; what was not may be.
#[test]
fn l5_what_was_acknowledged_survives_crashes() {
    for seed in 0..50 {
        let odds = Odds {
            busy: 50,
            full: 20,
            lost: 80,
            unanswered: 80,
            unsynced: 120,
        };
        let mut store = MemoryStore::new();
        let (mut acknowledged, mut sent) = (BTreeSet::new(), 0_u128);
        for _life in 0..6 {
            store.set_faults(Faults::default());
            let epoch = ready(store.open_epoch(at(0), "here")).unwrap();
            ready(store.bury_dead_epochs(at(5), &LedgerRules::default())).unwrap();
            store.set_faults(Faults {
                seed: seed * 1_000 + u64::try_from(sent).unwrap(),
                commit: odds,
                write: odds,
                read_busy: 0,
            });
            for seq in 1..12 {
                sent += 1;
                let ops = vec![report(sent), admit(sent), capture(sent.saturating_sub(1))];
                let batch = batch(epoch, seq, ops);
                // Three tries, as a caller does that must give up at some time.
                if (0..3).any(|_| commit(&store, &batch).is_ok()) {
                    acknowledged.insert(PostingId(Uuid::from_u128(sent)));
                }
            }
            store = store.crash();
            let there: BTreeSet<_> = view(&store).postings.iter().map(|posting| posting.id).collect();
            assert!(acknowledged.is_subset(&there), "seed {seed}");
        }
    }
}
