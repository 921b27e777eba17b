//! Steps' stable ids: what is done to which resource, and nothing else.
//!
//! A repetition after a crash, or by the next sweep, is the same step with one more attempt (C6).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::image::BeforeImage;
use super::state::{Action, Step, StepState};
use super::target::Resource;
use crate::domain::id::ContainmentId;

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PutDeny => "deny",
            Self::AttachDeny => "attach-deny",
            Self::DeactivateKey | Self::DeactivateCredential => "deactivate",
            Self::Cap => "cap",
            Self::End => "end",
            Self::StopInstance => "stop",
            Self::TerminateInstance => "terminate",
            Self::StartInstance => "start",
            Self::LiftDeny => "lift",
            Self::DetachDeny => "detach-deny",
            Self::ActivateKey | Self::ActivateCredential => "activate",
            Self::Uncap => "uncap",
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

    /// The step as it stands when its call is about to be made. `image` is the before-image of the
    /// resource as it was before this pass: an attempt that its `changed_at` does not cover yet, and that
    /// may have worked, is remembered whatever becomes of this one.
    pub fn start(
        &self,
        containment: ContainmentId,
        action: Action,
        resource: &Resource,
        image: Option<&BeforeImage>,
        now: Timestamp,
    ) -> Step {
        let before = self.get(action, resource);
        let unnoted = |step: &&Step| {
            image.is_some_and(|image| {
                step.last_at >= image.recorded_at && image.changed_at.is_none_or(|noted| noted < step.last_at)
            })
        };
        Step {
            containment,
            id: step_id(action, resource),
            resource: resource.clone(),
            action,
            state: StepState::Started,
            attempts: before.map_or(1, |step| step.attempts.saturating_add(1)),
            maybe_done: before.filter(unnoted).is_some_and(Step::may_have_happened),
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
        steps.put(steps.start(id, Action::DeactivateKey, &resource, None, at(1)));
        let again = steps.start(id, Action::DeactivateKey, &resource, None, at(2));
        assert_eq!((again.attempts, again.first_at, again.last_at), (2, at(1), at(2)));
        steps.put(Step {
            state: StepState::Done,
            ..again
        });
        let anew = steps.start(id, Action::DeactivateKey, &resource, None, at(3));
        assert_eq!((anew.attempts, anew.first_at), (3, at(3)));
        assert!(steps.since(Action::DeactivateKey, &resource, at(3)).is_none());
    }

    #[test]
    fn what_may_have_happened_is_remembered_until_it_is_noted() {
        let resource = Resource::AccessKey {
            user: "u".to_owned(),
            key_id: "AKIA".to_owned(),
        };
        let id = ContainmentId(uuid::Uuid::nil());
        let at = |s| Timestamp::from_second(s).unwrap();
        let image = |recorded, changed: Option<i64>| BeforeImage {
            agent: crate::domain::id::AgentId::new("a").unwrap(),
            resource: resource.clone(),
            before: crate::domain::containment::image::Before::AccessKey { active: true },
            containment: id,
            account: None,
            recorded_at: at(recorded),
            changed_at: changed.map(at),
            restored_at: None,
            outcome: None,
        };
        let started = |steps: &Steps, image: &BeforeImage, s| {
            steps.start(id, Action::DeactivateKey, &resource, Some(image), at(s))
        };
        let mut steps = Steps::default();
        let first = started(&steps, &image(1, None), 1);
        assert!(!first.maybe_done && first.may_have_happened());
        steps.put(first);
        // Tried again, and refused: the first attempt may have worked all the same.
        let second = Step {
            state: StepState::Failing,
            ..started(&steps, &image(1, None), 2)
        };
        assert!(second.maybe_done && second.may_have_happened());
        steps.put(second);
        assert!(started(&steps, &image(1, None), 3).maybe_done);
        assert!(!started(&steps, &image(1, Some(2)), 3).maybe_done, "it was noted");
        assert!(
            !started(&steps, &image(3, None), 3).maybe_done,
            "what was there before is known anew"
        );
    }
}
