//! Drills: kept with their audit entry or not at all, the newest of each agent.

use std::time::Duration;

use backstop::domain::containment::image::{Before, BeforeImage};
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::target::{Region, Resource};
use backstop::domain::drill::{Drill, DrillHead, DrillKind, KEPT, Outcome, digest};
use backstop::domain::id::{ContainmentId, DrillId};
use backstop::ports::{Judgement, StoreError};
use uuid::Uuid;

use crate::conform;
use crate::fixture::Fixture;
use crate::make::{agent, later};

conform!(
    a_drill_is_kept_whole_with_its_audit_entry,
    the_newest_of_each_agent_and_kind_is_told,
    old_drills_make_room_for_new_ones,
    what_a_restore_settled_can_be_read_again,
);

fn drill(n: u128, of: &str, kind: DrillKind) -> Drill {
    let report = format!("{{\"it's\":\"{n}\"}}");
    Drill {
        head: DrillHead {
            id: DrillId(Uuid::from_u128(n)),
            agent: agent(of),
            kind,
            by: "operator".to_owned(),
            began_at: later(1),
            ended_at: later(2),
            outcome: Outcome::Passed,
            summary: format!("drill {n}"),
            declared: "d".to_owned(),
            stopping: Some(Duration::from_millis(8_250)),
            digest: digest(&report),
        },
        report,
    }
}

fn over(drills: Vec<Drill>) -> Judgement {
    Judgement {
        audit: drills.iter().map(Drill::audit).collect(),
        drills,
        ..Judgement::default()
    }
}

async fn a_drill_is_kept_whole_with_its_audit_entry(f: Fixture) {
    let first = drill(1, "a", DrillKind::Plan);
    let entries = f.store.judge(&over(vec![first.clone()])).await.unwrap();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].entry.evidence.contains(&first.head.digest));
    // The same drill does not end twice, and nothing is written of the attempt.
    let twice = f.another().await.judge(&over(vec![first.clone()])).await;
    assert!(matches!(twice, Err(StoreError::Conflict { .. })), "{twice:?}");
    let (store, _, _remains) = f.crash().await;
    let back = store.drill(first.head.id).await.unwrap().unwrap();
    assert!(back.is_intact());
    assert_eq!(back, first);
    assert_eq!(store.drill(DrillId(Uuid::from_u128(9))).await.unwrap(), None);
    assert_eq!(store.audit(1, 10).await.unwrap().len(), 1);
}

async fn the_newest_of_each_agent_and_kind_is_told(f: Fixture) {
    let rows = [
        (1, "a", DrillKind::Plan),
        (2, "a", DrillKind::Canary),
        (3, "b", DrillKind::Plan),
        (4, "a", DrillKind::Plan),
    ];
    for (n, of, kind) in rows {
        f.store.judge(&over(vec![drill(n, of, kind)])).await.unwrap();
    }
    let ids = |heads: Vec<DrillHead>| heads.into_iter().map(|head| head.id.0.as_u128()).collect::<Vec<_>>();
    let mut last = ids(f.store.last_drills().await.unwrap());
    last.sort_unstable();
    assert_eq!(last, [2, 3, 4]);
    assert_eq!(ids(f.store.drills(&agent("a"), 10).await.unwrap()), [4, 2, 1]);
    assert_eq!(ids(f.another().await.drills(&agent("a"), 2).await.unwrap()), [4, 2]);
    assert_eq!(ids(f.store.drills(&agent("c"), 10).await.unwrap()), [0_u128; 0]);
}

async fn old_drills_make_room_for_new_ones(f: Fixture) {
    let kept = u128::try_from(KEPT).unwrap();
    f.store
        .judge(&over(vec![drill(1_000, "b", DrillKind::Plan)]))
        .await
        .unwrap();
    let all: Vec<Drill> = (1..=kept + 2).map(|n| drill(n, "a", DrillKind::Plan)).collect();
    f.store.judge(&over(all)).await.unwrap();
    let heads = f.store.drills(&agent("a"), 10_000).await.unwrap();
    assert_eq!(heads.len(), KEPT);
    assert_eq!(heads.last().unwrap().id, DrillId(Uuid::from_u128(3)));
    assert_eq!(f.store.drills(&agent("b"), 10).await.unwrap().len(), 1);
    let entries = f.store.audit(1, 1_000).await.unwrap();
    assert_eq!(entries.len(), KEPT + 3, "of those that went the digest stays");
}

async fn what_a_restore_settled_can_be_read_again(f: Fixture) {
    let lease = f
        .store
        .lease("containment", "one", later(0), Duration::from_secs(60))
        .await;
    let lease = lease.unwrap().unwrap();
    let image = |id: &str| BeforeImage {
        agent: agent("a"),
        resource: Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: id.to_owned(),
        },
        before: Before::Instance {
            state: InstanceState::Running,
        },
        containment: ContainmentId(Uuid::from_u128(1)),
        account: None,
        recorded_at: later(1),
        changed_at: None,
        restored_at: None,
        outcome: None,
    };
    let settled = |id: &str, at| BeforeImage {
        restored_at: Some(later(at)),
        outcome: Some("started".to_owned()),
        ..image(id)
    };
    let all = ["i-1", "i-2", "i-3"].map(image);
    f.store.record_images(&lease, &all).await.unwrap();
    f.store
        .update_images(&lease, &[settled("i-1", 5), settled("i-2", 9)])
        .await
        .unwrap();
    let of_a = agent("a");
    let since = |at| f.store.restored_images(&of_a, later(at));
    assert_eq!(since(6).await.unwrap(), [settled("i-2", 9)]);
    assert_eq!(since(5).await.unwrap(), [settled("i-1", 5), settled("i-2", 9)]);
    assert!(f.store.restored_images(&agent("b"), later(0)).await.unwrap().is_empty());
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), [image("i-3")]);
}
