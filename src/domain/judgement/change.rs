//! What a measure makes of one agent, given where it stands.
//!
//! Every change is conditional on the versions it was made from, so that two judges cannot both act. A
//! softer measure never loosens a harder one, and a measure that is in force already changes nothing.

use jiff::Timestamp;

use super::rule::Measure;
use crate::domain::agent::{AgentState, AgentStatus};
use crate::domain::containment::canary::Canary;
use crate::domain::containment::state::{Containment, Mode, Phase};
use crate::domain::drill::{Drill, evidence};
use crate::domain::id::ContainmentId;

/// Where an agent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub state: AgentState,
    /// Its live containment, if it has one, or the canary drill that is under way.
    pub live: Option<Containment>,
    /// The generation of its last containment; 0 before the first.
    pub generation: i64,
}

impl Standing {
    /// The containment that holds the agent: a canary drill does not.
    pub fn held(&self) -> Option<&Containment> {
        self.live.as_ref().filter(|live| live.canary.is_none())
    }

    /// The canary drill that is under way.
    pub fn drilled(&self) -> Option<&Canary> {
        self.live.as_ref().and_then(|live| live.canary.as_ref())
    }
}

/// What is to be written about one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub state: Option<AgentState>,
    pub open: Option<Containment>,
    pub update: Option<Containment>,
    /// The evidence of a drill that ends by this.
    pub drill: Option<Drill>,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Paused,
    Resumed,
    /// A containment was opened.
    Contained,
    /// The live containment goes further than before.
    Escalated,
    /// A restore is broken off; the containment holds again.
    Recontained,
    /// A canary drill was under way: its containment is the agent's from now on.
    Overtaken,
}

/// Applies a measure. `None` when it, or a harder one, is in force already.
pub fn apply(standing: &Standing, measure: Measure, why: &str, now: Timestamp, id: ContainmentId) -> Option<Change> {
    match measure.mode() {
        None => pause(standing, why, now),
        Some(mode) => contain(standing, mode, why, now, id),
    }
}

fn pause(standing: &Standing, why: &str, now: Timestamp) -> Option<Change> {
    let state = &standing.state;
    // A pause during a restore lets the restore go on; the agent stays paused when it is over.
    state.status.may_become(AgentStatus::Paused).then(|| Change {
        state: Some(AgentState {
            status: AgentStatus::Paused,
            ..moved(state, why, now)
        }),
        open: None,
        update: None,
        drill: None,
        kind: ChangeKind::Paused,
    })
}

/// Resumes a paused agent. `None` when it is not paused, or while a restore is under way.
pub fn resume(standing: &Standing, why: &str, now: Timestamp) -> Option<Change> {
    let state = &standing.state;
    (state.status == AgentStatus::Paused && standing.held().is_none()).then(|| Change {
        state: Some(AgentState {
            status: AgentStatus::Active,
            containment: None,
            ..moved(state, why, now)
        }),
        open: None,
        update: None,
        drill: None,
        kind: ChangeKind::Resumed,
    })
}

fn contain(standing: &Standing, mode: Mode, why: &str, now: Timestamp, id: ContainmentId) -> Option<Change> {
    let state = &standing.state;
    let Some(live) = &standing.live else {
        let generation = standing.generation.saturating_add(1);
        let opened = Containment::opened(id, state.id.clone(), generation, mode, why, now);
        return Some(Change {
            state: Some(AgentState {
                status: AgentStatus::Contained,
                containment: Some(id),
                ..moved(state, why, now)
            }),
            open: Some(opened),
            update: None,
            drill: None,
            kind: ChangeKind::Contained,
        });
    };
    if let Some(canary) = &live.canary {
        return Some(overtake(state, (live, canary), mode, why, now));
    }
    let mode = harder(live.mode, mode);
    let restoring = live.phase == Phase::Restoring;
    if !restoring && mode == live.mode {
        return None;
    }
    let update = Containment {
        mode,
        phase: Phase::Containing,
        restoring_at: None,
        restore: None,
        quiet: 0,
        version: live.version + 1,
        ..live.clone()
    };
    let state = (state.status != AgentStatus::Contained).then(|| AgentState {
        status: AgentStatus::Contained,
        containment: Some(live.id),
        ..moved(state, why, now)
    });
    Some(Change {
        state,
        open: None,
        update: Some(update),
        drill: None,
        kind: if restoring {
            ChangeKind::Recontained
        } else {
            ChangeKind::Escalated
        },
    })
}

/// A containment in earnest wins over a drill: it takes over the drill's own, with its steps and before-images,
/// so that what the drill stopped is put back by the reset, also where machines are otherwise left running.
/// Everything else begins anew.
fn overtake(
    state: &AgentState,
    (live, canary): (&Containment, &Canary),
    mode: Mode,
    why: &str,
    now: Timestamp,
) -> Change {
    Change {
        state: Some(AgentState {
            status: AgentStatus::Contained,
            containment: Some(live.id),
            ..moved(state, why, now)
        }),
        open: None,
        update: Some(Containment {
            version: live.version + 1,
            sweeps: live.sweeps,
            ..Containment::opened(live.id, live.agent.clone(), live.generation, mode, why, now)
        }),
        drill: Some(evidence::overtaken(live, canary, None, now)),
        kind: ChangeKind::Overtaken,
    }
}

fn moved(state: &AgentState, why: &str, now: Timestamp) -> AgentState {
    AgentState {
        since: now,
        reason: why.to_owned(),
        version: state.version + 1,
        ..state.clone()
    }
}

fn harder(a: Mode, b: Mode) -> Mode {
    if a == Mode::Contain || b == Mode::Contain {
        Mode::Contain
    } else {
        Mode::Revoke
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::containment::state::RestoreRequest;
    use crate::domain::id::AgentId;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(number: u128) -> ContainmentId {
        ContainmentId(uuid::Uuid::from_u128(number))
    }

    fn active() -> Standing {
        Standing {
            state: AgentState::initial(AgentId::new("a").unwrap()),
            live: None,
            generation: 0,
        }
    }

    fn after(standing: &Standing, change: Change) -> Standing {
        let live = change.open.or(change.update).or_else(|| standing.live.clone());
        Standing {
            state: change.state.unwrap_or_else(|| standing.state.clone()),
            generation: live.as_ref().map_or(standing.generation, |live| live.generation),
            live,
        }
    }

    fn contained(mode: Mode) -> Standing {
        let standing = active();
        let change = apply(&standing, mode.into(), "why", at(1), id(1)).unwrap();
        assert_eq!(change.kind, ChangeKind::Contained);
        after(&standing, change)
    }

    fn restoring(mode: Mode) -> Standing {
        let mut standing = contained(mode);
        standing.state.status = AgentStatus::Restoring;
        let live = standing.live.as_mut().unwrap();
        live.phase = Phase::Restoring;
        live.restoring_at = Some(at(5));
        live.restore = Some(RestoreRequest {
            by: "o".to_owned(),
            at: at(5),
            only: Vec::new(),
            lines_checked: true,
        });
        standing
    }

    #[test]
    fn a_containment_opens_once_and_numbers_its_generation() {
        let mut standing = active();
        standing.generation = 3;
        let change = apply(&standing, Measure::Contain, "why", at(1), id(1)).unwrap();
        let opened = change.open.as_ref().unwrap();
        assert_eq!(
            (opened.generation, opened.version, opened.phase),
            (4, 1, Phase::Containing)
        );
        let standing = after(&standing, change);
        assert_eq!(standing.state.containment, Some(id(1)));
        assert_eq!(standing.state.version, 1);
        assert_eq!(apply(&standing, Measure::Contain, "why", at(2), id(2)), None);
        assert_eq!(apply(&standing, Measure::Revoke, "why", at(2), id(2)), None);
        assert_eq!(
            apply(&standing, Measure::Pause, "why", at(2), id(2)),
            None,
            "a pause never loosens"
        );
    }

    #[test]
    fn a_harder_response_upgrades_the_live_containment() {
        let standing = contained(Mode::Revoke);
        let change = apply(&standing, Measure::Contain, "why", at(2), id(2)).unwrap();
        assert_eq!(change.kind, ChangeKind::Escalated);
        assert_eq!(change.state, None, "it is contained already");
        let update = change.update.unwrap();
        assert_eq!(
            (update.id, update.mode, update.version, update.quiet),
            (id(1), Mode::Contain, 2, 0)
        );
    }

    #[test]
    fn a_breach_while_restoring_contains_again() {
        let standing = restoring(Mode::Contain);
        let change = apply(&standing, Measure::Revoke, "why", at(9), id(2)).unwrap();
        assert_eq!(change.kind, ChangeKind::Recontained);
        let update = change.update.clone().unwrap();
        assert_eq!(
            (update.mode, update.phase, update.restore),
            (Mode::Contain, Phase::Containing, None)
        );
        assert_eq!(after(&standing, change).state.status, AgentStatus::Contained);
    }

    #[test]
    fn a_pause_while_restoring_lets_the_restore_go_on() {
        let standing = restoring(Mode::Contain);
        let change = apply(&standing, Measure::Pause, "why", at(9), id(2)).unwrap();
        assert_eq!(change.update, None);
        let paused = after(&standing, change);
        assert_eq!(paused.state.status, AgentStatus::Paused);
        assert_eq!(paused.state.containment, Some(id(1)));
        assert_eq!(resume(&paused, "why", at(10)), None, "not before the restore is over");
        let again = apply(&paused, Measure::Contain, "why", at(11), id(3)).unwrap();
        assert_eq!(again.kind, ChangeKind::Recontained);
        assert_eq!(after(&paused, again).state.status, AgentStatus::Contained);
    }

    fn drilled(phase: Phase) -> Standing {
        let canary = Canary {
            drill: crate::domain::id::DrillId(uuid::Uuid::nil()),
            by: "operator".to_owned(),
            assets: std::collections::BTreeSet::new(),
        };
        let agent = active().state.id;
        let opened = Containment::opened(id(7), agent, 1, Mode::Contain, "drill", at(1));
        Standing {
            live: Some(Containment {
                canary: Some(canary),
                phase,
                version: 4,
                ..opened
            }),
            generation: 1,
            ..active()
        }
    }

    #[test]
    fn a_containment_in_earnest_takes_a_drill_over() {
        for phase in [Phase::Containing, Phase::Contained, Phase::Restoring] {
            let change = apply(&drilled(phase), Measure::Revoke, "why", at(9), id(2)).unwrap();
            assert_eq!((change.kind, change.open.is_none()), (ChangeKind::Overtaken, true));
            let (state, update) = (change.state.unwrap(), change.update.unwrap());
            assert_eq!((state.status, state.containment), (AgentStatus::Contained, Some(id(7))));
            assert_eq!((update.id, update.version, update.canary), (id(7), 5, None));
            assert_eq!(
                (update.mode, update.phase, update.opened_at, update.restore),
                (Mode::Revoke, Phase::Containing, at(9), None)
            );
        }
    }

    #[test]
    fn a_drill_keeps_nobody_from_pausing_and_resuming() {
        let standing = drilled(Phase::Containing);
        let paused = after(
            &standing,
            apply(&standing, Measure::Pause, "why", at(2), id(2)).unwrap(),
        );
        assert_eq!(paused.state.status, AgentStatus::Paused);
        let resumed = resume(&paused, "why", at(3)).unwrap();
        assert_eq!(resumed.state.unwrap().status, AgentStatus::Active);
        assert_eq!(paused.held(), None);
        assert!(paused.drilled().is_some());
    }

    #[test]
    fn pause_and_resume_are_idempotent() {
        let standing = active();
        assert_eq!(resume(&standing, "why", at(1)), None);
        let paused = after(
            &standing,
            apply(&standing, Measure::Pause, "why", at(1), id(1)).unwrap(),
        );
        assert_eq!(apply(&paused, Measure::Pause, "why", at(2), id(1)), None);
        let resumed = after(&paused, resume(&paused, "why", at(3)).unwrap());
        assert_eq!(resumed.state.status, AgentStatus::Active);
        assert_eq!(resumed.state.version, 2);
    }
}
