//! The audit log and the credentials.

use backstop::domain::audit::{Head, NewAudit, chain};
use backstop::domain::id::KeyId;
use backstop::ports::{AgentKey, Judgement, StoreError};
use uuid::Uuid;

use crate::conform;
use crate::fixture::Fixture;
use crate::make::*;

conform!(
    the_audit_log_is_one_chain,
    two_handles_do_not_fork_the_chain,
    a_judgement_that_fails_leaves_no_audit,
    keys_are_kept_and_revoked_once,
);

fn entry(n: i64) -> NewAudit {
    NewAudit {
        at: later(n),
        actor: "operator:\"ann\"".to_owned(),
        action: "paused".to_owned(),
        agent: (n % 2 == 0).then(|| agent("a")),
        reason: format!("because {n} \u{1F600}"),
        evidence: format!("{{\"n\":{n},\"text\":\"a\\\"b\\n\"}}"),
    }
}

async fn the_audit_log_is_one_chain(f: Fixture) {
    assert!(f.store.audit(1, 10).await.unwrap().is_empty());
    let first = f.store.append_audit(&[entry(1), entry(2)]).await.unwrap();
    let judged = Judgement {
        audit: vec![entry(3)],
        ..Judgement::default()
    };
    let third = f.store.judge(&judged).await.unwrap();
    assert!(f.store.append_audit(&[]).await.unwrap().is_empty());
    let all = f.store.audit(1, 10).await.unwrap();
    assert_eq!(all, [first, third].concat());
    let mut head = Head::GENESIS;
    for (n, stored) in (1..).zip(&all) {
        let wanted = chain(head, entry(n));
        assert_eq!(*stored, wanted);
        head = wanted.head();
    }
    assert_eq!(f.store.audit(2, 1).await.unwrap(), all[1..2]);
    assert!(f.store.audit(4, 10).await.unwrap().is_empty());
}

async fn two_handles_do_not_fork_the_chain(f: Fixture) {
    let other = f.another().await;
    let ours = async {
        for n in 0..10 {
            f.store.append_audit(&[entry(n)]).await.unwrap();
        }
    };
    let theirs = async {
        for n in 10..20 {
            other.append_audit(&[entry(n)]).await.unwrap();
        }
    };
    tokio::join!(ours, theirs);
    let all = f.store.audit(1, 100).await.unwrap();
    assert_eq!(all.len(), 20);
    let mut head = Head::GENESIS;
    for stored in &all {
        head = backstop::domain::audit::follow(head, stored).unwrap();
    }
}

async fn a_judgement_that_fails_leaves_no_audit(f: Fixture) {
    let judgement = Judgement {
        settle: vec![12345],
        audit: vec![entry(1)],
        ..Judgement::default()
    };
    f.store.judge(&judgement).await.unwrap_err();
    assert!(f.store.audit(1, 10).await.unwrap().is_empty());
}

async fn keys_are_kept_and_revoked_once(f: Fixture) {
    let key = |n: u8| AgentKey {
        id: KeyId(Uuid::from_u128(n.into())),
        agent: agent("a"),
        hash: [n; 32],
        created_at: later(n.into()),
        revoked_at: None,
    };
    f.store.add_key(&key(1)).await.unwrap();
    f.store.add_key(&key(2)).await.unwrap();
    assert!(matches!(
        f.store.add_key(&key(1)).await,
        Err(StoreError::Conflict { .. })
    ));
    f.store.revoke_key(key(1).id, later(60)).await.unwrap();
    f.store.revoke_key(key(1).id, later(90)).await.unwrap();
    assert!(matches!(
        f.store.revoke_key(key(3).id, now()).await,
        Err(StoreError::NotFound { .. })
    ));
    let revoked = AgentKey {
        revoked_at: Some(later(60)),
        ..key(1)
    };
    let mut keys = f.store.keys().await.unwrap();
    keys.sort_by_key(|key| key.id);
    assert_eq!(keys, [revoked, key(2)]);
}
