//! Judgement, containment, leases: conditional writes and fences.

use std::time::Duration;

use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::containment::image::{Before, BeforeImage};
use backstop::domain::containment::memory::{Fact, MAX_NOTES, Note};
use backstop::domain::containment::observed::{Identity, InstanceState};
use backstop::domain::containment::state::{Action, Containment, Mode, Phase, Step, StepState};
use backstop::domain::containment::target::{Region, Resource};
use backstop::domain::id::{ContainmentId, ReviewId};
use backstop::domain::review::{Decision, Question, Review};
use backstop::ports::{Judgement, Lease, Store, StoreError};
use uuid::Uuid;

use crate::conform;
use crate::fixture::Fixture;
use crate::make::*;

conform!(
    an_agent_is_active_until_something_is_written,
    an_agents_state_is_conditional_on_its_version,
    an_agent_has_one_live_containment,
    a_containments_writes_are_conditional_on_its_version,
    a_judgement_is_all_or_nothing,
    a_question_is_asked_once_and_decided_once,
    an_agents_reviews_are_those_that_still_matter,
    a_lease_has_one_holder_and_its_token_rises,
    the_lease_of_a_dead_epoch_is_free_at_once,
    a_fence_stops_who_was_overtaken,
    steps_are_replaced_by_their_id,
    what_was_learnt_of_the_cloud_is_kept_by_its_key,
    what_was_written_survives_a_crash,
);

const TTL: Duration = Duration::from_secs(30);

fn state(version: i64, status: AgentStatus) -> AgentState {
    AgentState {
        id: agent("a"),
        status,
        since: later(version),
        reason: format!("version {version}"),
        containment: None,
        version,
    }
}

pub fn containment(n: u128, of: &str, generation: i64) -> Containment {
    let id = ContainmentId(Uuid::from_u128(n));
    Containment::opened(id, agent(of), generation, Mode::Contain, "it's a \"breach\"", now())
}

pub fn open(containment: Containment) -> Judgement {
    Judgement {
        open: vec![containment],
        ..Judgement::default()
    }
}

pub fn update(containment: Containment) -> Judgement {
    Judgement {
        update: vec![containment],
        ..Judgement::default()
    }
}

fn agents(states: Vec<AgentState>) -> Judgement {
    Judgement {
        agents: states,
        ..Judgement::default()
    }
}

pub fn is_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{result:?}");
}

async fn an_agent_is_active_until_something_is_written(f: Fixture) {
    assert_eq!(
        f.store.agent(&agent("a")).await.unwrap(),
        AgentState::initial(agent("a"))
    );
    assert!(f.store.agents().await.unwrap().is_empty());
    f.store
        .judge(&agents(vec![state(1, AgentStatus::Paused)]))
        .await
        .unwrap();
    assert_eq!(f.store.agents().await.unwrap(), [state(1, AgentStatus::Paused)]);
}

async fn an_agents_state_is_conditional_on_its_version(f: Fixture) {
    is_conflict(f.store.judge(&agents(vec![state(2, AgentStatus::Paused)])).await);
    f.store
        .judge(&agents(vec![state(1, AgentStatus::Paused)]))
        .await
        .unwrap();
    is_conflict(f.store.judge(&agents(vec![state(1, AgentStatus::Contained)])).await);
    is_conflict(
        f.another()
            .await
            .judge(&agents(vec![state(3, AgentStatus::Active)]))
            .await,
    );
    f.another()
        .await
        .judge(&agents(vec![state(2, AgentStatus::Active)]))
        .await
        .unwrap();
    assert_eq!(f.store.agent(&agent("a")).await.unwrap(), state(2, AgentStatus::Active));
}

async fn an_agent_has_one_live_containment(f: Fixture) {
    let first = containment(1, "a", 1);
    f.store.judge(&open(first.clone())).await.unwrap();
    is_conflict(f.another().await.judge(&open(containment(2, "a", 2))).await);
    is_conflict(f.store.judge(&open(first.clone())).await);
    f.store.judge(&open(containment(3, "b", 1))).await.unwrap();
    let live: Vec<_> = f
        .store
        .live_containments()
        .await
        .unwrap()
        .iter()
        .map(|c| c.agent.clone())
        .collect();
    assert_eq!(live, [agent("a"), agent("b")]);

    let closed = Containment {
        phase: Phase::Closed,
        closed_at: Some(later(9)),
        version: 2,
        ..first.clone()
    };
    f.store.judge(&update(closed.clone())).await.unwrap();
    f.store.judge(&open(containment(2, "a", 2))).await.unwrap();
    assert_eq!(f.store.containment(first.id).await.unwrap(), Some(closed.clone()));
    let of_a = f.store.containments_of(&agent("a"), 10).await.unwrap();
    assert_eq!(of_a, [containment(2, "a", 2), closed]);
    assert_eq!(f.store.containments_of(&agent("a"), 1).await.unwrap(), of_a[..1]);
    assert_eq!(
        f.store.containment(ContainmentId(Uuid::from_u128(9))).await.unwrap(),
        None
    );
}

async fn a_containments_writes_are_conditional_on_its_version(f: Fixture) {
    let first = containment(1, "a", 1);
    is_conflict(f.store.judge(&update(first.clone())).await);
    f.store.judge(&open(first.clone())).await.unwrap();
    let swept = |version| Containment {
        sweeps: version,
        version,
        ..first.clone()
    };
    is_conflict(f.store.judge(&update(swept(3))).await);
    f.store.judge(&update(swept(2))).await.unwrap();
    is_conflict(f.store.judge(&update(swept(2))).await);
    assert_eq!(f.store.containment(first.id).await.unwrap(), Some(swept(2)));
}

async fn a_judgement_is_all_or_nothing(f: Fixture) {
    f.store.judge(&open(containment(1, "a", 1))).await.unwrap();
    let judgement = Judgement {
        agents: vec![state(1, AgentStatus::Contained)],
        open: vec![containment(2, "b", 1), containment(3, "a", 2)],
        reviews: vec![review(1, Question::Paused { cause: "x".to_owned() })],
        ..Judgement::default()
    };
    is_conflict(f.store.judge(&judgement).await);
    assert_eq!(f.store.agent(&agent("a")).await.unwrap().version, 0);
    assert_eq!(f.store.live_containments().await.unwrap().len(), 1);
    assert!(f.store.reviews(false, 10).await.unwrap().is_empty());
}

fn review(n: u128, question: Question) -> Review {
    Review {
        id: ReviewId(Uuid::from_u128(n)),
        agent: agent("a"),
        opened_at: now(),
        question,
        summary: "May it go on?".to_owned(),
        evidence: "{}".to_owned(),
        decision: None,
    }
}

async fn a_question_is_asked_once_and_decided_once(f: Fixture) {
    let paused = || Question::Paused {
        cause: "it\"s".to_owned(),
    };
    let ask = |review| Judgement {
        reviews: vec![review],
        ..Judgement::default()
    };
    let decide = |n: u128, approved| Judgement {
        decide: vec![(
            ReviewId(Uuid::from_u128(n)),
            Decision {
                approved,
                by: "ann".to_owned(),
                at: later(5),
                note: "fine".to_owned(),
            },
        )],
        ..Judgement::default()
    };
    f.store.judge(&ask(review(1, paused()))).await.unwrap();
    f.store.judge(&ask(review(2, paused()))).await.unwrap();
    f.store
        .judge(&ask(review(3, Question::Contain { cause: "y".to_owned() })))
        .await
        .unwrap();
    let ids = async |open_only| {
        let reviews = f.store.reviews(open_only, 10).await.unwrap();
        reviews.iter().map(|r| r.id.0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(ids(true).await, [1, 3]);
    f.store.judge(&decide(1, true)).await.unwrap();
    is_conflict(f.store.judge(&decide(1, false)).await);
    f.store.judge(&decide(7, true)).await.unwrap_err();
    assert_eq!((ids(true).await, ids(false).await), (vec![3], vec![1, 3]));
    let decided = f.store.review(ReviewId(Uuid::from_u128(1))).await.unwrap().unwrap();
    assert_eq!(decided.decision, Some(decide(1, true).decide[0].1.clone()));
    // Decided, it may be asked again.
    f.store.judge(&ask(review(4, paused()))).await.unwrap();
    assert_eq!(ids(true).await, [3, 4]);
    assert_eq!(f.store.review(ReviewId(Uuid::from_u128(9))).await.unwrap(), None);
}

async fn an_agents_reviews_are_those_that_still_matter(f: Fixture) {
    let asked = |n: u128, who: &str, at: i64| Review {
        agent: agent(who),
        opened_at: later(at),
        ..review(
            n,
            Question::ForeignMatch {
                resource: format!("i-{n}"),
            },
        )
    };
    let reviews = vec![
        asked(1, "a", 1),
        asked(2, "a", 2),
        asked(3, "b", 3),
        asked(4, "a", 10),
        asked(5, "a", 11),
    ];
    let judgement = Judgement {
        reviews,
        ..Judgement::default()
    };
    f.store.judge(&judgement).await.unwrap();
    let decision = Decision {
        approved: true,
        by: "ann".to_owned(),
        at: later(20),
        note: String::new(),
    };
    let judgement = Judgement {
        decide: [2, 5].map(|n| (ReviewId(Uuid::from_u128(n)), decision.clone())).into(),
        ..Judgement::default()
    };
    f.store.judge(&judgement).await.unwrap();
    let ids = async |since, limit| {
        let reviews = f.store.reviews_of(&agent("a"), later(since), limit).await.unwrap();
        reviews.iter().map(|r| r.id.0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(ids(10, 9).await, [5, 4, 1], "the decided one of before is left out");
    assert_eq!(ids(0, 9).await, [5, 4, 2, 1]);
    assert_eq!(ids(10, 2).await, [5, 4]);
    assert!(f.store.reviews_of(&agent("c"), later(0), 9).await.unwrap().is_empty());
}

pub async fn take(store: &dyn Store, holder: &str, at: i64) -> Option<Lease> {
    store.lease("driver", holder, later(at), TTL).await.unwrap()
}

async fn a_lease_has_one_holder_and_its_token_rises(f: Fixture) {
    let other = f.another().await;
    let first = take(&*f.store, "one", 0).await.unwrap();
    assert_eq!((first.holder.as_str(), first.expires_at), ("one", later(30)));
    assert_eq!(take(&*other, "two", 29).await, None);
    let renewed = take(&*f.store, "one", 20).await.unwrap();
    assert_eq!((renewed.token, renewed.expires_at), (first.token, later(50)));
    assert_eq!(take(&*other, "two", 40).await, None, "renewed in time");
    let second = take(&*other, "two", 50).await.unwrap();
    assert!(second.token > first.token);
    f.store.release(&renewed).await.unwrap();
    assert_eq!(take(&*f.store, "one", 60).await, None, "only its holder gives it back");
    other.release(&second).await.unwrap();
    let third = take(&*f.store, "one", 60).await.unwrap();
    assert!(third.token > second.token);
    assert!(f.store.lease("other", "two", later(60), TTL).await.unwrap().is_some());
}

async fn the_lease_of_a_dead_epoch_is_free_at_once(f: Fixture) {
    let other = f.another().await;
    let theirs = other.open_epoch(now(), "there").await.unwrap();
    let old = take(&*other, &Lease::holder_in(theirs), 0).await.unwrap();
    assert_eq!(take(&*f.store, &Lease::holder_in(f.epoch), 1).await, None, "it lives");
    other.close_epoch(theirs, later(2)).await.unwrap();
    let new = take(&*f.store, &Lease::holder_in(f.epoch), 3).await.unwrap();
    assert!(new.token > old.token);
    is_conflict(f.store.judge_fenced(&old, &Judgement::default()).await);
    assert_eq!(take(&*other, "two", 4).await, None, "it lives");
    // Only a whole name is an epoch's.
    let odd = format!("{}x", Lease::holder_in(theirs));
    assert!(f.store.lease("odd", &odd, later(5), TTL).await.unwrap().is_some());
    assert!(f.store.lease("odd", "two", later(6), TTL).await.unwrap().is_none());
}

pub fn image(n: u32, of: ContainmentId, state: InstanceState) -> BeforeImage {
    BeforeImage {
        agent: agent("a"),
        resource: Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: format!("i-{n}"),
        },
        before: Before::Instance { state },
        containment: of,
        account: Some("123456789012".to_owned()),
        recorded_at: now(),
        changed_at: None,
        restored_at: None,
        outcome: None,
    }
}

pub fn step(n: u32, state: StepState, attempts: i64) -> Step {
    let id = ContainmentId(Uuid::from_u128(1));
    Step {
        containment: id,
        id: format!("stop/i-{n}"),
        resource: image(n, id, InstanceState::Running).resource,
        action: Action::StopInstance,
        state,
        attempts,
        maybe_done: attempts > 1,
        last_error: (attempts > 1).then(|| "it's \"throttled\"".to_owned()),
        first_at: now(),
        last_at: later(attempts),
    }
}

async fn a_fence_stops_who_was_overtaken(f: Fixture) {
    let first = containment(1, "a", 1);
    f.store.judge(&open(first.clone())).await.unwrap();
    let old = take(&*f.store, "one", 0).await.unwrap();
    let images = [image(1, first.id, InstanceState::Running)];
    f.store.record_images(&old, &images).await.unwrap();
    let new = take(&*f.another().await, "two", 31).await.unwrap();
    let second = Containment {
        version: 2,
        ..first.clone()
    };
    is_conflict(
        f.store
            .record_images(&old, &[image(2, first.id, InstanceState::Running)])
            .await,
    );
    is_conflict(f.store.update_images(&old, &images).await);
    is_conflict(f.store.record_steps(&old, &[step(1, StepState::Started, 1)]).await);
    is_conflict(f.store.judge_fenced(&old, &update(second.clone())).await);
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), images);
    assert!(f.store.steps(first.id).await.unwrap().is_empty());
    assert_eq!(f.store.containment(first.id).await.unwrap(), Some(first.clone()));

    f.store.judge_fenced(&new, &update(second)).await.unwrap();
    f.store.release(&new).await.unwrap();
    is_conflict(f.store.record_steps(&new, &[step(1, StepState::Started, 1)]).await);
}

async fn steps_are_replaced_by_their_id(f: Fixture) {
    let lease = take(&*f.store, "one", 0).await.unwrap();
    let id = ContainmentId(Uuid::from_u128(1));
    f.store
        .record_steps(
            &lease,
            &[step(2, StepState::Started, 1), step(1, StepState::Started, 1)],
        )
        .await
        .unwrap();
    f.store
        .record_steps(&lease, &[step(2, StepState::Done, 2)])
        .await
        .unwrap();
    let mut steps = f.store.steps(id).await.unwrap();
    steps.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(steps, [step(1, StepState::Started, 1), step(2, StepState::Done, 2)]);
    assert!(
        f.store
            .steps(ContainmentId(Uuid::from_u128(2)))
            .await
            .unwrap()
            .is_empty()
    );
}

fn identity_note(credentials: &str, arn: &str, second: i64) -> Note {
    Note {
        learnt_at: later(second),
        fact: Fact::Identity {
            identity: Identity {
                account: "123456789012".to_owned(),
                arn: arn.to_owned(),
            },
            credentials: credentials.to_owned(),
            instances: vec!["i-0it's".to_owned()],
        },
    }
}

async fn what_was_learnt_of_the_cloud_is_kept_by_its_key(f: Fixture) {
    assert_eq!(f.store.remembered().await.unwrap(), []);
    f.store.remember(&[]).await.unwrap();
    let regions = Note {
        learnt_at: later(1),
        fact: Fact::Regions {
            account: "123456789012".to_owned(),
            regions: ["eu-west-1", "us-east-1"].map(|name| Region(name.to_owned())).into(),
        },
    };
    let one = identity_note("one", "arn:a", 2);
    f.store.remember(&[one.clone(), regions.clone()]).await.unwrap();
    let two = identity_note("two", "arn:b", 3);
    f.another().await.remember(std::slice::from_ref(&two)).await.unwrap();
    assert_eq!(f.store.remembered().await.unwrap(), [two.clone(), one, regions.clone()]);
    let again = identity_note("one", "arn:c", 4);
    f.store.remember(std::slice::from_ref(&again)).await.unwrap();
    let kept = [again, two, regions];
    assert_eq!(f.another().await.remembered().await.unwrap(), kept);

    let many: Vec<Note> = (0..100)
        .map(|n| identity_note(&format!("n{n}"), "arn:n", 10 + n))
        .collect();
    f.store.remember(&many).await.unwrap();
    let left = f.store.remembered().await.unwrap();
    assert_eq!(left.len(), MAX_NOTES);
    assert_eq!(left[0], many[99]);
    assert!(!left.contains(&kept[0]), "the oldest go first");
    let (next, _, _remains) = f.crash().await;
    assert_eq!(next.remembered().await.unwrap(), left);
}

async fn what_was_written_survives_a_crash(f: Fixture) {
    let first = containment(1, "a", 1);
    f.store.judge(&open(first.clone())).await.unwrap();
    f.store
        .judge(&agents(vec![state(1, AgentStatus::Contained)]))
        .await
        .unwrap();
    let lease = take(&*f.store, "one", 0).await.unwrap();
    let image = image(1, first.id, InstanceState::Running);
    f.store
        .record_images(&lease, std::slice::from_ref(&image))
        .await
        .unwrap();
    f.store
        .record_steps(&lease, &[step(1, StepState::Started, 1)])
        .await
        .unwrap();
    let (store, _, _remains) = f.crash().await;
    assert_eq!(store.live_containments().await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(
        store.agent(&agent("a")).await.unwrap(),
        state(1, AgentStatus::Contained)
    );
    assert_eq!(store.images(&agent("a")).await.unwrap(), [image]);
    assert_eq!(store.steps(first.id).await.unwrap(), [step(1, StepState::Started, 1)]);
    assert_eq!(
        take(&*store, "two", 5).await,
        None,
        "a lease outlives its holder until it ends"
    );
}
