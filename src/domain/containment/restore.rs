//! Planning a restore: what to put back, and what to leave because somebody else changed it (C4).
//!
//! The order harms nothing: machines start while the principal is still denied and what starts others is
//! still capped, then the deny is lifted and keys are activated, then the machines' health is awaited, then
//! what starts others is uncapped (`uncap`), and the agent thaws last.
//!
//! Only what a before-image names is looked at, and only what is still as we left it is put back. What
//! is gone, was put back already or was changed by somebody else is *settled* with an outcome that
//! says so. What cannot be put back now is waited for, machines for a bounded time; then they stay
//! owed, unrestored, to the next reset. A principal is waited for without end, because an agent whose
//! role is denied has not been reset.
//!
//! To credentials of another account everything looks gone. So nothing is believed, settled or done
//! unless they are of the account in which the before-image was taken; until then it is waited for
//! without end, machines as well, because a person has to put the credentials right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::guard::PrincipalName;
use super::image::{Before, BeforeImage};
use super::lift::{plan_activation, plan_lift};
use super::observed::{Instance, InstanceState, PrincipalState};
use super::plan::{Images, Seen};
use super::state::{Action, Containment, RestoreRequest, Step, StepState, StillBurning};
use super::steps::Steps;
use super::target::{Principal, Region, Resource};
use super::uncap::plan_uncaps;
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};

/// How far our clock may be behind the cloud's before a start that came before our stop would seem to
/// have come after it.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug, Clone)]
pub struct RestoreInput<'a> {
    pub now: Timestamp,
    pub containment: &'a Containment,
    /// The account of our credentials; `None` while it is not known.
    pub account: Option<&'a str>,
    pub images: &'a Images,
    pub steps: &'a Steps,
    /// The principals that images name; a key's by the name of its user.
    pub principals: BTreeMap<Principal, Seen<PrincipalState>>,
    /// The instances that images name, and those that this restore started, region by region.
    pub instances: BTreeMap<Region, Seen<Vec<Instance>>>,
    /// The kinds of which images name capped assets, region by region.
    pub assets: BTreeMap<Region, BTreeMap<Kind, Seen<Vec<Asset>>>>,
    /// Which of the machines that this restore started pass their checks.
    pub passing: BTreeMap<Region, BTreeSet<String>>,
    pub batch: usize,
    /// How long a machine is waited for, from the reset on; and from its first try on, if that was later.
    pub patience: SignedDuration,
    /// How long a started member of a group is given to pass its checks before its group is uncapped.
    pub health_patience: SignedDuration,
}

/// The outcome of a machine that a restore started and saw running.
pub const STARTED: &str = "started";

/// The outcome of settings that a restore put back, all of them, and saw.
pub const PUT_BACK: &str = "put back";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    pub starts: BTreeMap<Region, Vec<Vec<String>>>,
    pub lifts: Vec<Lift>,
    /// Principals from which the managed policy of our name is taken.
    pub detaches: Vec<Principal>,
    /// User and key, to be activated.
    pub keys: Vec<(String, String)>,
    /// User and id of service credentials, to be activated.
    pub credentials: Vec<(String, String)>,
    /// What starts others, once that harms nothing.
    pub uncaps: Vec<Uncap>,
    /// Put back, or given up for a reason that the outcome names.
    pub settled: Vec<Settled>,
    /// On its way, or not to be seen now.
    pub waiting: Vec<StillBurning>,
    /// What could not be put back in time, or not without harm: it stays owed to the next reset.
    pub owed: Vec<StillBurning>,
    /// What the operator did not select.
    pub kept: Vec<String>,
    /// Machines that do not pass their checks although their time is over; their groups go on without.
    pub sick: Vec<StillBurning>,
}

/// Settings to put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uncap {
    pub asset: AssetRef,
    /// Those that are still as the cap left them.
    pub settings: Settings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lift {
    pub principal: Principal,
    /// The document that was under our name before; `None` deletes ours.
    pub document: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    pub resource: Resource,
    pub outcome: String,
}

impl RestorePlan {
    /// Nothing is left to do or to wait for: the agent may thaw.
    pub fn is_done(&self) -> bool {
        self.starts.is_empty() && !self.lifts_something() && self.uncaps.is_empty() && self.waiting.is_empty()
    }

    /// Whether a deny is to be lifted or a credential to be activated.
    pub fn lifts_something(&self) -> bool {
        !(self.lifts.is_empty() && self.detaches.is_empty() && self.keys.is_empty() && self.credentials.is_empty())
    }
}

/// Names in `only` that select nothing with an unrestored before-image. A reset with any of them is
/// refused before anything is done.
pub fn unknown_selections(images: &Images, only: &[String]) -> Vec<String> {
    only.iter()
        .filter(|wanted| !images.keys().any(|resource| is_named(resource, wanted)))
        .cloned()
        .collect()
}

fn is_named(resource: &Resource, wanted: &str) -> bool {
    match resource {
        Resource::Instance { id, .. } => id == wanted || resource.to_string() == wanted,
        Resource::Asset { asset } => asset.id == wanted || resource.to_string() == wanted,
        Resource::Principal { .. } | Resource::AccessKey { .. } | Resource::ServiceCredential { .. } => false,
    }
}

/// Whether a reset puts this resource back. Principals always are.
pub fn is_selected(resource: &Resource, request: Option<&RestoreRequest>) -> bool {
    let only = request.map(|request| request.only.as_slice()).unwrap_or_default();
    match resource {
        Resource::Principal { .. } | Resource::AccessKey { .. } | Resource::ServiceCredential { .. } => true,
        Resource::Instance { .. } | Resource::Asset { .. } => {
            only.is_empty() || only.iter().any(|wanted| is_named(resource, wanted))
        }
    }
}

/// Plans the next pass of a restore.
pub fn plan_restore(input: &RestoreInput<'_>) -> RestorePlan {
    let mut plan = RestorePlan::default();
    let mut starts: BTreeMap<Region, Vec<String>> = BTreeMap::new();
    for (resource, image) in input.images {
        if is_selected(resource, input.containment.restore.as_ref())
            && let Some(why) = elsewhere(input, resource, image)
        {
            wait(&mut plan, resource, &why);
            continue;
        }
        match (resource, &image.before) {
            (
                Resource::Principal { principal },
                Before::Principal {
                    deny_document,
                    deny_attached,
                },
            ) => {
                let before = (deny_document.as_deref(), *deny_attached);
                plan_lift(input, &mut plan, resource, principal, before);
            }
            (Resource::AccessKey { .. } | Resource::ServiceCredential { .. }, _) => {
                plan_activation(input, &mut plan, resource, image);
            }
            (Resource::Instance { region, id }, Before::Instance { state }) => {
                if !is_selected(resource, input.containment.restore.as_ref()) {
                    plan.kept.push(resource.to_string());
                } else if plan_start(input, &mut plan, resource, image, *state) {
                    starts.entry(region.clone()).or_default().push(id.clone());
                }
            }
            // Once the rest is planned.
            (Resource::Asset { .. }, Before::Settings { .. }) => {}
            (Resource::Asset { .. }, Before::Ran { parent }) => {
                let outcome = match parent {
                    _ if !changed(input, Action::End, resource, image) => "was never ended by us",
                    Some(_) => "ended; what started it starts new ones",
                    None => "ended; run it again yourself",
                };
                settle(&mut plan, resource, outcome);
            }
            _ => settle(&mut plan, resource, "its before-image does not fit it; left as it is"),
        }
    }
    plan.starts = starts
        .into_iter()
        .map(|(region, ids)| {
            let batches = ids.chunks(input.batch.max(1)).map(<[String]>::to_vec).collect();
            (region, batches)
        })
        .collect();
    plan_uncaps(input, &mut plan);
    plan
}

/// Why what our credentials see says nothing about this resource.
pub(super) fn elsewhere(input: &RestoreInput<'_>, resource: &Resource, image: &BeforeImage) -> Option<String> {
    let Some(ours) = input.account else {
        return Some("the account of our credentials is not known yet".to_owned());
    };
    let named = || match resource {
        Resource::Principal { principal } => PrincipalName::parse(principal.arn()).map(|name| name.account),
        _ => None,
    };
    let theirs = image.account.clone().or_else(named)?;
    (theirs != ours).then(|| format!("our credentials are of account {ours}, but it was changed in account {theirs}"))
}

/// Whether the machine is to be started now.
fn plan_start(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    resource: &Resource,
    image: &BeforeImage,
    before: InstanceState,
) -> bool {
    let Resource::Instance { region, id } = resource else {
        return false;
    };
    let started = step_of_this_restore(input, Action::StartInstance, resource);
    let refused = started.filter(|step| step.state == StepState::GivenUp);
    // What could not be tried before, for whatever reason, has its whole time from the first try on.
    let begun = input.containment.restoring_at.unwrap_or(input.now);
    let since = started.map_or(begun, |step| begun.max(step.first_at));
    let overdue = input.now.duration_since(since) >= input.patience;
    let pending = |plan: &mut RestorePlan, why: String| {
        let line = StillBurning {
            resource: resource.to_string(),
            why,
        };
        if overdue {
            plan.owed.push(line)
        } else {
            plan.waiting.push(line)
        }
        false
    };
    let found = match input.instances.get(region) {
        Some(Ok(instances)) => instances.iter().find(|instance| instance.id == *id),
        Some(Err(why)) => return pending(plan, format!("its region could not be looked at: {why}")),
        None => return pending(plan, "its region was not looked at".to_owned()),
    };
    let Some(instance) = found.filter(|instance| !instance.state.is_gone()) else {
        let by_us = input.steps.get(Action::TerminateInstance, resource).is_some();
        settle(
            plan,
            resource,
            if by_us {
                "we terminated it because it cannot be stopped; it cannot come back"
            } else {
                "it was terminated by somebody else; nothing to start"
            },
        );
        return false;
    };
    if !changed(input, Action::StopInstance, resource, image) {
        settle(plan, resource, "was never stopped by us");
        return false;
    }
    match instance.state {
        InstanceState::Running if started.is_some() => settle(plan, resource, STARTED),
        InstanceState::Running => settle(plan, resource, "was started by somebody else"),
        InstanceState::Pending => return pending(plan, "it is starting".to_owned()),
        InstanceState::Stopping => return pending(plan, "it is still stopping".to_owned()),
        // Our own start may have been taken back for want of capacity; that is tried again.
        _ if started.is_none() && was_started_since(input, resource, image, instance) => settle(
            plan,
            resource,
            "was started by somebody else since we stopped it, and is down again; left as it is",
        ),
        _ if !before.is_chargeable() => settle(plan, resource, "did not run before; left stopped"),
        _ => {
            if let Some(step) = refused {
                let why = step
                    .last_error
                    .clone()
                    .unwrap_or_else(|| "starting it was refused".to_owned());
                plan.owed.push(StillBurning {
                    resource: resource.to_string(),
                    why,
                });
                return false;
            }
            if let Some(step) = started.filter(|_| overdue) {
                let why = step.last_error.clone();
                plan.owed.push(StillBurning {
                    resource: resource.to_string(),
                    why: why.unwrap_or_else(|| "it could not be started in time".to_owned()),
                });
                return false;
            }
            return true;
        }
    }
    false
}

/// Whether we changed it: it says so, or a call was under way when we crashed and the outcome, as it
/// is seen now, is that of the call.
pub(super) fn changed(input: &RestoreInput<'_>, action: Action, resource: &Resource, image: &BeforeImage) -> bool {
    let step = input.steps.since(action, resource, image.recorded_at);
    image.changed_at.is_some() || step.is_some_and(Step::may_have_happened)
}

/// Whether a machine was started after our last stop of it, as its launch time says, which EC2 moves at
/// every start: whoever stopped it then, it was not us.
fn was_started_since(input: &RestoreInput<'_>, resource: &Resource, image: &BeforeImage, instance: &Instance) -> bool {
    let step = input.steps.since(Action::StopInstance, resource, image.recorded_at);
    let tried = step.filter(|step| step.may_have_happened()).map(|step| step.last_at);
    match (instance.launched_at, image.changed_at.max(tried)) {
        (Some(launched), Some(stopped)) => launched.duration_since(stopped) > CLOCK_SKEW,
        _ => false,
    }
}

/// A step that belongs to the restore that runs now, not to an earlier one that a breach cut short.
pub(super) fn step_of_this_restore<'a>(
    input: &RestoreInput<'a>,
    action: Action,
    resource: &Resource,
) -> Option<&'a Step> {
    let since = input.containment.restoring_at?;
    input.steps.since(action, resource, since)
}

pub(super) fn settle(plan: &mut RestorePlan, resource: &Resource, outcome: &str) {
    plan.settled.push(Settled {
        resource: resource.clone(),
        outcome: outcome.to_owned(),
    });
}

pub(super) fn wait(plan: &mut RestorePlan, resource: &Resource, why: &str) {
    plan.waiting.push(StillBurning {
        resource: resource.to_string(),
        why: why.to_owned(),
    });
}
