//! Planning one region: which machines are the agent's, and what can be done about each.
//!
//! A machine is the agent's by an ownership tag or by the instance profile of one of its roles, within
//! the declared account and regions; or because this containment stopped it already (its tag may have
//! been taken off meanwhile, to slip away). A match outside asks a person and is not touched before.
//!
//! Classification comes before action. A member of an Auto Scaling group is left running: its group
//! would take a stopped member for a sick one, destroy it and start another.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::hourly::hourly;
use super::image::Before;
use super::observed::{Instance, InstanceState, SpotKind};
use super::plan::{ForeignMatch, Frame, MachineCost, RegionPlan, RegionView};
use super::state::{Action, Step, StepState, StillBurning};
use super::target::Resource;

/// What may be done about a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Class {
    Stop,
    /// Cannot be stopped, only destroyed.
    OnlyTerminate(&'static str),
    Leave(String),
}

/// Plans one region from what was seen there.
pub fn plan_region(frame: &Frame<'_>, view: &RegionView, profiles: &BTreeSet<String>) -> RegionPlan {
    let mut plan = RegionPlan::empty(view.region.clone());
    let region_id = format!("region:{}", view.region);
    let instances = match &view.instances {
        Ok(instances) => instances,
        Err(why) => {
            let line = StillBurning {
                resource: region_id,
                why: format!("it could not be looked at: {why}"),
            };
            // Where the agent declares nothing, a blind spot is reported but proves nothing open.
            if frame.declares(&view.region) {
                plan.unseen.push(line);
            } else {
                plan.burning.push(line);
            }
            return plan;
        }
    };
    let Some(ours) = frame.account else {
        plan.unseen.push(StillBurning {
            resource: region_id,
            why: "the account of our credentials is not known yet".to_owned(),
        });
        return plan;
    };
    let declared = frame.targets.account.as_str();
    if !declared.is_empty() && declared != ours && frame.declares(&view.region) {
        // What is seen here is another account's; the agent's own may be full of machines.
        plan.unseen.push(StillBurning {
            resource: region_id,
            why: format!("the agent's account is {declared}, but our credentials are of account {ours}"),
        });
    }
    let mut todo = Todo::default();
    // One row an instance, in the order of ids, whatever filters found it.
    let unique: BTreeMap<&str, &Instance> = instances.iter().map(|seen| (seen.id.as_str(), seen)).collect();
    for instance in unique.into_values() {
        plan_instance(frame, &mut plan, &mut todo, instance, profiles);
    }
    let batches = |ids: Vec<String>| ids.chunks(frame.rules.batch.max(1)).map(<[String]>::to_vec).collect();
    plan.stops = batches(todo.stops);
    plan.terminates = batches(todo.terminates);
    plan.probes = batches(todo.probes);
    plan.terminate_probes = batches(todo.terminate_probes);
    plan
}

#[derive(Default)]
struct Todo {
    stops: Vec<String>,
    terminates: Vec<String>,
    probes: Vec<String>,
    terminate_probes: Vec<String>,
}

fn plan_instance(
    frame: &Frame<'_>,
    plan: &mut RegionPlan,
    todo: &mut Todo,
    instance: &Instance,
    profiles: &BTreeSet<String>,
) {
    let resource = resource(instance);
    let id = resource.to_string();
    let Some(match_by) = ownership(frame, instance, &resource, profiles) else {
        return;
    };
    if frame.guard.covers_instance(&instance.id) {
        plan.burning.push(burning(
            &id,
            "it matches as a target but is the guard's own; it is never touched",
        ));
        plan.guarded.push(id);
        return;
    }
    if let Some(runs) = costs(frame, instance, &resource) {
        let cost = MachineCost {
            instance_type: instance.instance_type.clone(),
            hourly: hourly(&instance.instance_type, &instance.region),
            runs,
        };
        plan.costs.insert(instance.id.clone(), cost);
    }
    if match_by != Match::Stopped && !in_scope(frame, instance) && instance.state.is_chargeable() {
        match frame.foreign.get(&id) {
            Some(true) => {}
            Some(false) => {
                plan.burning.push(burning(&id, "a person decided to leave it running"));
                return;
            }
            None => {
                let why = outside(frame, instance, match_by);
                plan.burning.push(burning(&id, &format!("{why}; a person is asked")));
                plan.ask.push(ForeignMatch {
                    region: instance.region.clone(),
                    instance: instance.id.clone(),
                    resource: id,
                    why,
                });
                return;
            }
        }
    }
    match instance.state {
        InstanceState::Terminated | InstanceState::ShuttingDown => {}
        InstanceState::Stopped => {
            adopt(frame, plan, &resource);
            plan.stopped.push(id);
        }
        InstanceState::Stopping => {
            adopt(frame, plan, &resource);
            let since = frame.images.get(&resource).and_then(|image| image.changed_at);
            if is_stuck(frame, since.unwrap_or(frame.containment.opened_at)) {
                plan.burning.push(burning(
                    &id,
                    "it does not finish stopping; a forced stop is yours to do",
                ));
            } else {
                plan.waiting.push(burning(&id, "it is stopping"));
            }
        }
        InstanceState::Pending => match classify(instance) {
            Class::Leave(why) => plan.burning.push(burning(&id, &why)),
            Class::OnlyTerminate(why) if !frame.rules.terminate_unstoppable => {
                plan.burning.push(burning(&id, why));
            }
            _ if is_stuck(frame, instance.launched_at.unwrap_or(frame.containment.opened_at)) => {
                plan.burning.push(burning(
                    &id,
                    "it does not finish starting, and cannot be stopped before",
                ));
            }
            _ => plan
                .waiting
                .push(burning(&id, "it is starting and can be stopped once it runs")),
        },
        InstanceState::Running => plan_running(frame, plan, todo, instance, &resource),
    }
}

fn plan_running(frame: &Frame<'_>, plan: &mut RegionPlan, todo: &mut Todo, instance: &Instance, resource: &Resource) {
    let id = resource.to_string();
    let (action, list, probes) = match classify(instance) {
        Class::Leave(why) => {
            plan.burning.push(burning(&id, &why));
            return;
        }
        Class::OnlyTerminate(why) if !frame.rules.terminate_unstoppable => {
            plan.burning.push(burning(&id, why));
            return;
        }
        Class::OnlyTerminate(_) => (
            Action::TerminateInstance,
            &mut todo.terminates,
            &mut todo.terminate_probes,
        ),
        Class::Stop => (Action::StopInstance, &mut todo.stops, &mut todo.probes),
    };
    if !frame.images.contains_key(resource) {
        let before = Before::Instance { state: instance.state };
        plan.images.push(frame.image(resource, before));
    }
    // What is refused for good, or for so long that it comes to the same, is still burning: said, and
    // tried again now and then, but it does not keep the rest from being proved.
    let refused = frame.steps.get(action, resource).filter(|step| match step.state {
        StepState::GivenUp => true,
        StepState::Failing => is_stuck(frame, step.first_at),
        StepState::Started | StepState::Done => false,
    });
    match refused {
        None => list.push(instance.id.clone()),
        Some(step) => {
            let why = step.last_error.as_deref().unwrap_or("stopping it was refused");
            plan.burning.push(burning(&id, why));
            let due = frame.now.duration_since(step.last_at) >= frame.rules.probe_every;
            if due {
                probes.push(instance.id.clone());
            }
        }
    }
}

/// Why a machine is taken for the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Tag,
    Profile,
    /// This containment stopped it.
    Stopped,
}

fn ownership(
    frame: &Frame<'_>,
    instance: &Instance,
    resource: &Resource,
    profiles: &BTreeSet<String>,
) -> Option<Match> {
    let touched = |action| {
        let step = frame.steps.get(action, resource);
        step.is_some_and(Step::may_have_happened)
    };
    if touched(Action::StopInstance) || touched(Action::TerminateInstance) {
        return Some(Match::Stopped);
    }
    if frame
        .targets
        .tags
        .iter()
        .any(|(key, value)| instance.tags.get(key) == Some(value))
    {
        return Some(Match::Tag);
    }
    let profile = instance.profile_arn.as_ref()?;
    profiles.contains(profile).then_some(Match::Profile)
}

/// Whether a machine costs compute now (`true`), or did before we stopped it (`false`).
fn costs(frame: &Frame<'_>, instance: &Instance, resource: &Resource) -> Option<bool> {
    if instance.state.is_chargeable() {
        return Some(true);
    }
    let before = frame.images.get(resource).map(|image| &image.before);
    let ran = matches!(before, Some(Before::Instance { state }) if state.is_chargeable());
    (ran && !instance.state.is_gone()).then_some(false)
}

fn in_scope(frame: &Frame<'_>, instance: &Instance) -> bool {
    frame.declares(&instance.region) && frame.account == Some(frame.targets.account.as_str())
}

fn outside(frame: &Frame<'_>, instance: &Instance, found: Match) -> String {
    let by = match found {
        Match::Tag => "its tag",
        Match::Profile | Match::Stopped => "its instance profile",
    };
    if frame.declares(&instance.region) {
        format!(
            "it is the agent's by {by}, but runs in account {}, which the agent does not declare",
            frame.account.unwrap_or("unknown")
        )
    } else {
        format!(
            "it is the agent's by {by}, but runs in {}, which the agent does not declare",
            instance.region
        )
    }
}

fn classify(instance: &Instance) -> Class {
    if let Some(group) = &instance.group {
        return Class::Leave(format!(
            "it belongs to the Auto Scaling group {group}, which would replace it: cap the group first"
        ));
    }
    if instance.spot == Some(SpotKind::OneTime) {
        return Class::OnlyTerminate("it is a one-time spot instance, which can only be terminated");
    }
    if instance.root_is_instance_store {
        return Class::OnlyTerminate("its root is an instance store, so it can only be terminated");
    }
    if instance.stop_protected == Some(true) {
        return Class::Leave("it is protected against stopping (DisableApiStop)".to_owned());
    }
    Class::Stop
}

/// A stop that was under way when we crashed, and turns out to have worked, is ours.
fn adopt(frame: &Frame<'_>, plan: &mut RegionPlan, resource: &Resource) {
    let Some(image) = frame.images.get(resource) else {
        return;
    };
    // A stop of what somebody started meanwhile is noted anew: only the last one says whose doing it is
    // that the machine is down.
    let step = frame.steps.since(Action::StopInstance, resource, image.recorded_at);
    let unnoted = |step: &Step| image.changed_at.is_none_or(|noted| noted < step.last_at);
    if step.is_some_and(|step| step.may_have_happened() && unnoted(step)) {
        plan.adopted.push(resource.clone());
    }
}

fn is_stuck(frame: &Frame<'_>, since: Timestamp) -> bool {
    frame.now.duration_since(since) >= frame.rules.stuck_after
}

fn burning(id: &str, why: &str) -> StillBurning {
    StillBurning {
        resource: id.to_owned(),
        why: why.to_owned(),
    }
}

/// The resource that an instance is.
pub fn resource(instance: &Instance) -> Resource {
    Resource::Instance {
        region: instance.region.clone(),
        id: instance.id.clone(),
    }
}
