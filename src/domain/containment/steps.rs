//! Steps' stable ids: what is done to which resource, and nothing else.
//!
//! A repetition after a crash, or by the next sweep, is the same step with one more attempt (C6).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::state::{Action, Step, StepState};
use super::target::Resource;
use crate::domain::id::ContainmentId;

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PutDeny => "deny",
            Self::DeactivateKey => "deactivate",
            Self::StopInstance => "stop",
            Self::TerminateInstance => "terminate",
            Self::StartInstance => "start",
            Self::LiftDeny => "lift",
            Self::ActivateKey => "activate",
        }
    }
}

/// A step's id, such as `stop/instance:eu-west-1/i-0abc`.
pub fn step_id(action: Action, resource: &Resource) -> String {
    format!("{}/{resource}", action.as_str())
}

/// The steps of one containment, by id.
#[derive(Debug, Clone, Default)]
pub struct Steps(BTreeMap<String, Step>);

impl Steps {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().map(|step| (step.id.clone(), step)).collect())
    }

    pub fn get(&self, action: Action, resource: &Resource) -> Option<&Step> {
        self.0.get(&step_id(action, resource))
    }

    /// As [`Self::get`], leaving out what was done before `since`: an earlier stop or restore.
    pub fn since(&self, action: Action, resource: &Resource, since: Timestamp) -> Option<&Step> {
        self.get(action, resource).filter(|step| step.last_at >= since)
    }

    /// The step as it stands when its call is about to be made.
    pub fn start(&self, containment: ContainmentId, action: Action, resource: &Resource, now: Timestamp) -> Step {
        let before = self.get(action, resource);
        Step {
            containment,
            id: step_id(action, resource),
            resource: resource.clone(),
            action,
            state: StepState::Started,
            attempts: before.map_or(1, |step| step.attempts.saturating_add(1)),
            last_error: None,
            first_at: match before {
                // A step that was done and has to be done again is counted anew.
                Some(step) if step.state != StepState::Done => step.first_at,
                _ => now,
            },
            last_at: now,
        }
    }

    pub fn put(&mut self, step: Step) {
        self.0.insert(step.id.clone(), step);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::containment::target::{Principal, Region};

    #[test]
    fn an_id_names_the_action_and_the_resource() {
        let instance = Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: "i-0abc".to_owned(),
        };
        assert_eq!(
            step_id(Action::StopInstance, &instance),
            "stop/instance:eu-west-1/i-0abc"
        );
        let role = Resource::Principal {
            principal: Principal::Role("arn:aws:iam::123456789012:role/a/b".to_owned()),
        };
        assert_eq!(
            step_id(Action::PutDeny, &role),
            "deny/role:arn:aws:iam::123456789012:role/a/b"
        );
    }

    #[test]
    fn a_repetition_is_the_same_step_with_one_more_attempt() {
        let resource = Resource::AccessKey {
            user: "u".to_owned(),
            key_id: "AKIA".to_owned(),
        };
        let id = ContainmentId(uuid::Uuid::nil());
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut steps = Steps::default();
        steps.put(steps.start(id, Action::DeactivateKey, &resource, at(1)));
        let again = steps.start(id, Action::DeactivateKey, &resource, at(2));
        assert_eq!((again.attempts, again.first_at, again.last_at), (2, at(1), at(2)));
        steps.put(Step {
            state: StepState::Done,
            ..again
        });
        let anew = steps.start(id, Action::DeactivateKey, &resource, at(3));
        assert_eq!((anew.attempts, anew.first_at), (3, at(3)));
        assert!(steps.since(Action::DeactivateKey, &resource, at(3)).is_none());
    }
}
