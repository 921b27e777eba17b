//! Folding: what was ended for good and is gone is counted, and no more kept one by one.
//!
//! An ended task leaves a before-image and a step. A service that cannot be capped, or somebody else, may start
//! another in its place for as long as a containment is held, and every sweep reads all images and steps. So
//! of those that a listing shows to be gone only the newest are kept, and the older ones become a number in the
//! coverage, in the same write that takes them away: the sum of both is what was ended, at any time and
//! after any crash (C3, C6). Nothing is lost that a reset would need, since what was ended does not come back.
//!
//! Only what is certain is folded: that we ended it is on record (C1), and it is not seen any more. Were one
//! seen again it would be recorded and ended anew.

use std::collections::BTreeSet;

use super::image::{Before, BeforeImage};
use super::plan::{Images, Plan};
use super::state::{Action, Containment, StepState};
use super::steps::{Steps, step_id};
use super::target::Resource;
use crate::domain::id::{AgentId, ContainmentId};

/// Ended things that are kept one by one: the coverage lists them, and a reset prices by them what their
/// service would start.
pub const KEPT: usize = 200;

/// One whose before-image and step go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    pub agent: AgentId,
    pub containment: ContainmentId,
    pub resource: Resource,
}

impl Folded {
    /// The step that ended it.
    pub fn step_id(&self) -> String {
        step_id(Action::End, &self.resource)
    }
}

/// What is to be folded after a sweep.
pub fn fold(containment: &Containment, plan: &Plan, images: &Images, steps: &Steps) -> Vec<Folded> {
    let gone: BTreeSet<&str> = plan
        .regions
        .iter()
        .flat_map(|region| region.ended.iter().map(String::as_str))
        .collect();
    if gone.len() <= KEPT {
        return Vec::new();
    }
    let is_certain = |image: &BeforeImage| {
        let step = steps.get(Action::End, &image.resource);
        matches!(image.before, Before::Ran { .. })
            && image.changed_at.is_some()
            && step.is_some_and(|step| step.containment == containment.id && step.state == StepState::Done)
            && gone.contains(image.resource.to_string().as_str())
    };
    let mut certain: Vec<&BeforeImage> = images.values().filter(|image| is_certain(image)).collect();
    certain.sort_by_key(|image| image.changed_at);
    let older = certain.len().saturating_sub(KEPT);
    let older = certain.into_iter().take(older);
    older
        .map(|image| Folded {
            agent: image.agent.clone(),
            containment: containment.id,
            resource: image.resource.clone(),
        })
        .collect()
}

/// Counts them in the coverage instead.
pub fn count(containment: &mut Containment, folded: &[Folded]) {
    let ids: BTreeSet<String> = folded.iter().map(|one| one.resource.to_string()).collect();
    let coverage = &mut containment.coverage;
    coverage.ended.retain(|id| !ids.contains(id));
    coverage.hourly.retain(|id, _| !ids.contains(id));
    let more = u64::try_from(folded.len()).unwrap_or(u64::MAX);
    coverage.ended_before = coverage.ended_before.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::plan::RegionPlan;
    use super::super::target::Region;
    use super::super::tests::model;
    use super::*;
    use crate::domain::fleet::asset::{AssetRef, Kind};

    fn task(n: usize) -> Resource {
        let asset = AssetRef {
            kind: Kind::named("ecs-task"),
            region: Region("eu-west-1".to_owned()),
            id: format!("main/{n:04}"),
        };
        Resource::Asset { asset }
    }

    fn at(second: usize) -> Timestamp {
        Timestamp::from_second(1_000_000 + i64::try_from(second).unwrap()).unwrap()
    }

    /// So many tasks that were ended, one a second; what is seen of them is theirs to say.
    fn ended(containment: &Containment, count: usize) -> (Plan, Images, Steps) {
        let mut region = RegionPlan::empty(Region("eu-west-1".to_owned()));
        let (mut images, mut steps) = (Images::new(), Steps::default());
        for n in 0..count {
            let image = BeforeImage {
                agent: containment.agent.clone(),
                resource: task(n),
                before: Before::Ran { parent: None },
                containment: containment.id,
                account: None,
                recorded_at: at(n),
                changed_at: Some(at(n)),
                restored_at: None,
                outcome: None,
            };
            let mut step = steps.start(containment.id, Action::End, &task(n), None, at(n));
            step.state = StepState::Done;
            steps.put(step);
            images.insert(task(n), image);
            region.ended.push(task(n).to_string());
        }
        let plan = Plan {
            regions: vec![region],
            ..Plan::default()
        };
        (plan, images, steps)
    }

    #[test]
    fn c3_the_oldest_become_a_number_and_the_sum_stays_the_truth() {
        let mut containment = model::containment(1);
        let (plan, images, steps) = ended(&containment, KEPT + 30);
        containment.coverage.ended = plan.regions[0].ended.clone();
        containment.coverage.ended_before = 5;
        let folded = fold(&containment, &plan, &images, &steps);
        let ids: Vec<&Resource> = folded.iter().map(|one| &one.resource).collect();
        let oldest: Vec<Resource> = (0..30).map(task).collect();
        assert_eq!(ids, oldest.iter().collect::<Vec<_>>());
        assert_eq!(folded[0].step_id(), "end/ecs-task:eu-west-1/main/0000");
        count(&mut containment, &folded);
        assert_eq!(
            (containment.coverage.ended.len(), containment.coverage.ended_before),
            (KEPT, 35)
        );
        assert_eq!(containment.coverage.ended[0], task(30).to_string());
    }

    #[test]
    fn what_is_not_certain_is_kept() {
        let containment = model::containment(1);
        let (mut plan, mut images, mut steps) = ended(&containment, KEPT + 3);
        // It is seen again; it is not noted as ours; its end is under way.
        plan.regions[0].ended.remove(0);
        images.get_mut(&task(1)).unwrap().changed_at = None;
        let again = steps.start(containment.id, Action::End, &task(2), None, at(9_999));
        steps.put(again);
        assert_eq!(fold(&containment, &plan, &images, &steps), []);
        let (plan, images, steps) = ended(&containment, KEPT);
        assert_eq!(fold(&containment, &plan, &images, &steps), []);
    }
}
