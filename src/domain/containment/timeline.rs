//! When each class of steps was done: what a report counts in seconds from the breach.
//!
//! Steps are written anew when they are done again, so the first time of a class is kept in the coverage and
//! the steps only move its last.

use jiff::{SignedDuration, Timestamp};

use super::state::{Action, Containment, Coverage, Span, StepClass, StepState};
use super::steps::Steps;

impl StepClass {
    /// The class of a containment's action; `None` for what a restore does.
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::PutDeny | Action::AttachDeny | Action::DeactivateKey | Action::DeactivateCredential => {
                Some(Self::Deny)
            }
            Action::Cap => Some(Self::Cap),
            Action::End => Some(Self::End),
            Action::StopInstance | Action::TerminateInstance => Some(Self::Stop),
            Action::StartInstance
            | Action::LiftDeny
            | Action::DetachDeny
            | Action::ActivateKey
            | Action::ActivateCredential
            | Action::Uncap => None,
        }
    }
}

impl Containment {
    /// From where its seconds are counted: the breach, or its opening by a person.
    pub fn counted_from(&self) -> Timestamp {
        self.breached_at.unwrap_or(self.opened_at)
    }

    /// Seconds from there to a time.
    pub fn seconds_to(&self, at: Timestamp) -> SignedDuration {
        at.duration_since(self.counted_from())
    }

    /// Writes the times of what was done by now.
    pub fn note_times(&mut self, steps: &Steps, is_quiet: bool, now: Timestamp) {
        // What a drill did before the agent itself was contained is no part of it.
        let since = self.opened_at;
        let own = |step: &&super::state::Step| step.state == StepState::Done && step.last_at >= since;
        for step in steps.iter().filter(own) {
            if let Some(class) = StepClass::of(step.action) {
                note(&mut self.coverage, class, step.last_at);
            }
        }
        if is_quiet {
            note(&mut self.coverage, StepClass::Quiet, now);
        }
    }
}

fn note(coverage: &mut Coverage, class: StepClass, at: Timestamp) {
    let span = coverage.times.entry(class).or_insert(Span { first: at, last: at });
    span.first = span.first.min(at);
    span.last = span.last.max(at);
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;
    use crate::domain::containment::target::{Region, Resource};

    #[test]
    fn the_first_time_of_a_class_stays_when_a_step_is_done_again() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut containment = model::containment(1);
        containment.breached_at = Some(at(-3));
        let group = Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: "i-1".to_owned(),
        };
        for second in [4, 60] {
            let mut steps = Steps::default();
            let mut step = steps.start(containment.id, Action::StopInstance, &group, None, at(second));
            step.state = StepState::Done;
            steps.put(step);
            containment.note_times(&steps, second == 60, at(second));
        }
        let times = &containment.coverage.times;
        assert_eq!(
            times[&StepClass::Stop],
            Span {
                first: at(4),
                last: at(60)
            }
        );
        assert_eq!(times[&StepClass::Quiet].first, at(60));
        assert_eq!(containment.seconds_to(at(4)).as_secs(), 7);
        assert_eq!(times.get(&StepClass::Deny), None);
    }
}
