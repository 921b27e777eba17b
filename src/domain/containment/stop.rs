//! Planning what runs in one region: which machines are the agent's, and what can be done about each.
//!
//! Whose a machine is, `ownership` says. A match outside the declared account and regions asks a person and
//! is not touched before.
//!
//! Classification comes before action. A member of an Auto Scaling group is stopped only once its group is
//! capped: else the group would take the stopped member for a sick one, destroy it and start another. So it
//! waits for its group, and where the group cannot be capped it is left running.

use std::collections::{BTreeMap, BTreeSet};

use super::assets::{claim, line as burning, plan_assets};
use super::image::Before;
use super::observed::{Instance, InstanceState, SpotKind};
use super::ownership::{Match, Owners, Scope};
use super::plan::{AssetCost, ForeignMatch, Frame, RegionPlan, RegionView};
use super::spawners::{SpawnerPlan, Standing};
use super::state::{Action, StillBurning};
use super::target::Resource;
use super::worth;

/// What may be done about a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Class {
    Stop,
    /// Cannot be stopped, only destroyed.
    OnlyTerminate(&'static str),
    /// Not yet, and why.
    Wait(String),
    Leave(String),
}

/// Plans what runs in one region, from what was seen there and what became of what starts others.
pub fn plan_region(
    frame: &Frame<'_>,
    view: &RegionView,
    profiles: &BTreeSet<String>,
    spawners: &SpawnerPlan,
) -> RegionPlan {
    let mut plan = RegionPlan::empty(view.region.clone());
    let region_id = format!("region:{}", view.region);
    let unseen = |plan: &mut RegionPlan, why: String| {
        let line = StillBurning {
            resource: region_id.clone(),
            why,
        };
        // Where the agent declares nothing, a blind spot is reported but proves nothing open.
        if frame.declares(&view.region) {
            plan.unseen.push(line);
        } else {
            plan.burning.push(line);
        }
    };
    if let Err(why) = &view.instances {
        unseen(&mut plan, format!("it could not be looked at: {why}"));
    }
    let Some(ours) = frame.account else {
        if view.instances.is_ok() {
            plan.unseen.push(StillBurning {
                resource: region_id,
                why: "the account of our credentials is not known yet".to_owned(),
            });
        }
        return plan;
    };
    let declared = frame.targets.account.as_str();
    if view.instances.is_ok() && !declared.is_empty() && declared != ours && frame.declares(&view.region) {
        // What is seen here is another account's; the agent's own may be full of machines.
        plan.unseen.push(StillBurning {
            resource: region_id,
            why: format!("the agent's account is {declared}, but our credentials are of account {ours}"),
        });
    }
    let owners = Owners::of(frame, view, profiles);
    let mut todo = Todo::default();
    // One row an instance, in the order of ids, whatever filters found it.
    let instances = view.instances.iter().flatten();
    let unique: BTreeMap<&str, &Instance> = instances.map(|seen| (seen.id.as_str(), seen)).collect();
    let ground = Ground {
        frame,
        view,
        owners: &owners,
        spawners,
    };
    for instance in unique.into_values() {
        plan_instance(&ground, &mut plan, &mut todo, instance);
    }
    let batches = |ids: Vec<String>| ids.chunks(frame.rules.batch.max(1)).map(<[String]>::to_vec).collect();
    plan.stops = batches(todo.stops);
    plan.terminates = batches(todo.terminates);
    plan.probes = batches(todo.probes);
    plan.terminate_probes = batches(todo.terminate_probes);
    plan_assets(frame, view, &owners, spawners, &mut plan);
    plan
}

/// What a machine's plan is made from.
struct Ground<'a> {
    frame: &'a Frame<'a>,
    view: &'a RegionView,
    owners: &'a Owners<'a>,
    spawners: &'a SpawnerPlan,
}

#[derive(Default)]
struct Todo {
    stops: Vec<String>,
    terminates: Vec<String>,
    probes: Vec<String>,
    terminate_probes: Vec<String>,
}

fn plan_instance(ground: &Ground<'_>, plan: &mut RegionPlan, todo: &mut Todo, instance: &Instance) {
    let frame = ground.frame;
    let resource = resource(instance);
    let id = resource.to_string();
    let runs = instance.state.is_chargeable();
    let Some(match_by) = claim(plan, ground.owners.instance(instance), &id, runs) else {
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
        let cost = AssetCost {
            what: instance.instance_type.clone(),
            hourly: worth::machine(frame.prices, instance),
            runs,
        };
        plan.costs.insert(id.clone(), cost);
    }
    if runs && !may_touch(ground, plan, instance, &id, match_by) {
        return;
    }
    match instance.state {
        InstanceState::Terminated | InstanceState::ShuttingDown => {}
        InstanceState::Stopped => {
            if frame.adopts(Action::StopInstance, &resource) {
                plan.adopted.push(resource);
            }
            plan.stopped.push(id);
        }
        InstanceState::Stopping => {
            let since = frame.images.get(&resource).and_then(|image| image.changed_at);
            if frame.adopts(Action::StopInstance, &resource) {
                plan.adopted.push(resource);
            }
            if frame.is_stuck(since.unwrap_or(frame.containment.opened_at)) {
                plan.burning.push(burning(
                    &id,
                    "it does not finish stopping; a forced stop is yours to do",
                ));
            } else {
                plan.waiting.push(burning(&id, "it is stopping"));
            }
        }
        InstanceState::Pending => match classify(ground, instance) {
            Class::Leave(why) => plan.burning.push(burning(&id, &why)),
            Class::Wait(why) => plan.waiting.push(burning(&id, &why)),
            Class::OnlyTerminate(why) if !frame.rules.terminate_unstoppable => {
                plan.burning.push(burning(&id, why));
            }
            _ if frame.is_stuck(instance.launched_at.unwrap_or(frame.containment.opened_at)) => {
                plan.burning.push(burning(
                    &id,
                    "it does not finish starting, and cannot be stopped before",
                ));
            }
            _ => plan
                .waiting
                .push(burning(&id, "it is starting and can be stopped once it runs")),
        },
        InstanceState::Running => plan_running(ground, plan, todo, instance, &resource),
    }
}

/// Whether a machine may be touched where it is. What is to be said or asked otherwise is said.
fn may_touch(ground: &Ground<'_>, plan: &mut RegionPlan, instance: &Instance, id: &str, by: Match) -> bool {
    match ground
        .owners
        .scope(&instance.region, id, by, instance.parent().as_ref())
    {
        Scope::Within => return true,
        Scope::Left(why) => plan.burning.push(burning(id, &why)),
        Scope::Ask(why) => {
            plan.burning.push(burning(id, &format!("{why}; a person is asked")));
            plan.ask.push(ForeignMatch {
                region: instance.region.clone(),
                resource: id.to_owned(),
                why,
            });
        }
    }
    false
}

fn plan_running(ground: &Ground<'_>, plan: &mut RegionPlan, todo: &mut Todo, instance: &Instance, resource: &Resource) {
    let frame = ground.frame;
    let id = resource.to_string();
    let (action, list, probes) = match classify(ground, instance) {
        Class::Leave(why) => {
            plan.burning.push(burning(&id, &why));
            return;
        }
        Class::Wait(why) => {
            plan.waiting.push(burning(&id, &why));
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
    match frame.refused(action, resource) {
        None => list.push(instance.id.clone()),
        Some(step) => {
            let why = step.last_error.as_deref().unwrap_or("stopping it was refused");
            plan.burning.push(burning(&id, why));
            if frame.is_due(step) {
                probes.push(instance.id.clone());
            }
        }
    }
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

fn classify(ground: &Ground<'_>, instance: &Instance) -> Class {
    if let Some(group) = instance.parent() {
        let name = &group.id;
        let member = format!("it belongs to the Auto Scaling group {name}, which would replace it");
        match ground.spawners.standing(ground.frame, ground.view, &group) {
            Standing::Capped => {}
            Standing::Planned => return Class::Wait(format!("{member} and is not capped yet")),
            Standing::Unseen => return Class::Wait(format!("{member} and could not be looked at")),
            Standing::Loose(why) | Standing::Uncappable(why) => return Class::Leave(format!("{member}: {why}")),
            Standing::Unknown => return Class::Leave(format!("{member}: cap the group first")),
        }
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

/// The resource that an instance is.
pub fn resource(instance: &Instance) -> Resource {
    Resource::Instance {
        region: instance.region.clone(),
        id: instance.id.clone(),
    }
}
