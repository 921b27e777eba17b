//! What a process hears of its agents: soon, whoever changed it, and before a refused caller does.

use std::time::Duration;

use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::id::AgentId;
use backstop::domain::ledger::batch::Refusal;
use backstop::ledger::AdmitRejection;
use backstop::ports::Judgement;

use crate::ledger::lab::{Lab, budget};

fn name() -> AgentId {
    AgentId::new("agent").unwrap()
}

/// Writes a state past every process, as another one would.
fn write(lab: &mut Lab, status: AgentStatus, version: i64) {
    let store = lab.disk.world();
    let state = AgentState {
        status,
        version,
        ..AgentState::initial(name())
    };
    let judgement = Judgement {
        agents: vec![state],
        ..Judgement::default()
    };
    lab.exec
        .block_on(async move { store.judge(&judgement).await })
        .expect("written");
}

#[test]
fn a_change_by_another_process_is_heard_and_wakes_who_follows() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    lab.seconds(1);
    let mut follower = bench.ledger.agents();
    assert_eq!(bench.ledger.agent_status(&name()), AgentStatus::Active);
    let woken = lab.start(async move {
        follower.changed().await.expect("the ledger lives");
        follower.borrow_and_update().of(&name())
    });
    lab.seconds(5);
    assert!(woken.borrow().is_none(), "nothing changed");
    write(&mut lab, AgentStatus::Paused, 1);
    lab.seconds(1);
    assert_eq!(*woken.borrow(), Some(AgentStatus::Paused));
    write(&mut lab, AgentStatus::Active, 2);
    lab.seconds(1);
    assert_eq!(bench.ledger.agent_status(&name()), AgentStatus::Active);
}

#[test]
fn who_is_refused_finds_the_state_known_and_who_changed_it_may_say_so() {
    let mut lab = Lab::new();
    lab.settings.agents_every = Duration::from_secs(3_600);
    let bench = lab.open(vec![budget(100)]);
    lab.seconds(1);
    write(&mut lab, AgentStatus::Paused, 1);
    let (answer, ledger) = (lab.admit(&bench, 10), bench.ledger.clone());
    while answer.borrow().is_none() {
        lab.millis(1);
    }
    assert_eq!(
        Lab::rejection(&answer),
        Some(AdmitRejection::Refused(Refusal::AgentPaused))
    );
    assert_eq!(ledger.agent_status(&name()), AgentStatus::Paused);
    lab.seconds(600);
    write(&mut lab, AgentStatus::Active, 2);
    lab.seconds(1);
    assert_eq!(ledger.agent_status(&name()), AgentStatus::Paused);
    ledger.look_at_agents();
    lab.seconds(300);
    assert_eq!(ledger.agent_status(&name()), AgentStatus::Active);
}

/// A commit knows no difference between the two; what is known better is not forgotten for it.
#[test]
fn a_refusal_does_not_turn_restoring_into_contained() {
    let mut lab = Lab::new();
    let bench = lab.open(vec![budget(100)]);
    write(&mut lab, AgentStatus::Contained, 1);
    write(&mut lab, AgentStatus::Restoring, 2);
    lab.seconds(1);
    let mut follower = bench.ledger.agents();
    let answer = lab.admit(&bench, 10);
    lab.seconds(1);
    assert_eq!(
        Lab::rejection(&answer),
        Some(AdmitRejection::Refused(Refusal::AgentContained))
    );
    assert_eq!(bench.ledger.agent_status(&name()), AgentStatus::Restoring);
    assert!(!follower.has_changed().expect("the ledger lives"));
    follower.mark_unchanged();
}
