//! Planning what a restore uncaps: groups, services, functions, each setting by itself (C4).
//!
//! A setting that is still as the cap left it gets its old value; one that somebody changed since is theirs.
//!
//! What starts others is uncapped last, because it may destroy. A group that works again takes a member that
//! is down for a sick one. So it waits until the deny is lifted, until its members that we stopped have
//! started, and until they pass their checks (bounded: then it goes on, and that is said). A group with
//! members that stay down, because nobody selected them or they could not be started, stays capped and owed.

use std::collections::BTreeSet;

use super::image::{Before, BeforeImage};
use super::restore::{
    PUT_BACK, RestoreInput, RestorePlan, Uncap, changed, elsewhere, is_selected, settle, step_of_this_restore, wait,
};

use super::state::{Action, Step, StepState, StillBurning};
use super::target::Resource;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Settings};

/// Plans the capped assets, when all else is planned.
pub(super) fn plan_uncaps(input: &RestoreInput<'_>, plan: &mut RestorePlan) {
    let Some(rest) = Rest::of(input, plan) else {
        return;
    };
    for (resource, image) in input.images {
        let (Resource::Asset { asset }, Before::Settings { were, capped }) = (resource, &image.before) else {
            continue;
        };
        if !is_selected(resource, input.containment.restore.as_ref()) {
            plan.kept.push(resource.to_string());
        } else if elsewhere(input, resource, image).is_none()
            && let Some(settings) = plan_one(input, plan, &rest, resource, image, (asset, were, capped))
        {
            plan.uncaps.push(Uncap {
                asset: asset.clone(),
                settings,
            });
        }
    }
}

/// How the rest of the restore stands.
struct Rest {
    /// Denies and credentials that are not put back yet.
    is_denied: bool,
    /// Stable ids of machines that are on their way.
    underway: BTreeSet<String>,
    /// Stable ids of machines that stay down.
    down: BTreeSet<String>,
}

impl Rest {
    /// `None` if nothing was capped.
    fn of(input: &RestoreInput<'_>, plan: &RestorePlan) -> Option<Self> {
        let is_capped = |image: &BeforeImage| matches!(image.before, Before::Settings { .. });
        if !input.images.values().any(is_capped) {
            return None;
        }
        let settled: BTreeSet<&Resource> = plan.settled.iter().map(|settled| &settled.resource).collect();
        let is_denied = input.images.keys().any(|resource| match resource {
            Resource::Principal { .. } | Resource::AccessKey { .. } | Resource::ServiceCredential { .. } => {
                !settled.contains(resource)
            }
            Resource::Instance { .. } | Resource::Asset { .. } => false,
        });
        let starts = plan.starts.iter().flat_map(|(region, batches)| {
            let ids = batches.iter().flatten();
            ids.map(move |id| format!("instance:{region}/{id}"))
        });
        let waiting = plan.waiting.iter().map(|line| line.resource.clone());
        let owed = plan.owed.iter().map(|line| line.resource.clone());
        Some(Self {
            is_denied,
            underway: starts.chain(waiting).collect(),
            down: owed.chain(plan.kept.iter().cloned()).collect(),
        })
    }
}

/// The settings to put back now.
fn plan_one(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    rest: &Rest,
    resource: &Resource,
    image: &BeforeImage,
    (asset, were, capped): (&AssetRef, &Settings, &Settings),
) -> Option<Settings> {
    let tried = step_of_this_restore(input, Action::Uncap, resource);
    let begun = input.containment.restoring_at.unwrap_or(input.now);
    let since = tried.map_or(begun, |step| begun.max(step.first_at));
    let is_overdue = input.now.duration_since(since) >= input.patience;
    let now = match look(input, asset) {
        Looked::There(now) => now,
        Looked::Gone => {
            settle(plan, resource, "it is gone; nothing to put back");
            return None;
        }
        Looked::NotNow(why) if is_overdue => {
            plan.owed.push(line(resource, why));
            return None;
        }
        Looked::NotNow(why) => {
            wait(plan, resource, &why);
            return None;
        }
    };
    // What does not show cannot be told from what somebody changed.
    if let Some(hidden) = were.keys().find(|name| !now.contains_key(*name)) {
        if is_overdue {
            plan.owed
                .push(line(resource, format!("its setting {hidden} could not be seen")));
        } else {
            wait(plan, resource, &format!("its setting {hidden} cannot be seen now"));
        }
        return None;
    }
    if !changed(input, Action::Cap, resource, image) {
        settle(plan, resource, "was never capped by us");
        return None;
    }
    let is_ours = |(name, first): &(&String, &String)| {
        let value = now.get(*name);
        value == capped.get(*name) && value != Some(*first)
    };
    let back: Settings = were
        .iter()
        .filter(is_ours)
        .map(|(name, first)| (name.clone(), first.clone()))
        .collect();
    if back.is_empty() {
        settle(plan, resource, &outcome(were, now, tried.is_some()));
        return None;
    }
    if let Some(step) = tried.filter(|step| step.state == StepState::GivenUp || is_overdue) {
        let why = step.last_error.as_deref().unwrap_or("it could not be put back in time");
        plan.owed.push(line(resource, why.to_owned()));
        return None;
    }
    if rest.is_denied {
        wait(plan, resource, "what it starts comes after the deny is lifted");
        return None;
    }
    members_let(input, plan, rest, resource, asset).then_some(back)
}

enum Looked<'a> {
    There(&'a Settings),
    Gone,
    NotNow(String),
}

fn look<'a>(input: &'a RestoreInput<'_>, what: &AssetRef) -> Looked<'a> {
    let seen = input.assets.get(&what.region).and_then(|kinds| kinds.get(&what.kind));
    let assets = match seen {
        Some(Ok(assets)) => assets,
        Some(Err(why)) => return Looked::NotNow(format!("it could not be looked at: {why}")),
        None => return Looked::NotNow("it was not looked at".to_owned()),
    };
    let found: Option<&Asset> = assets.iter().find(|asset| asset.what == *what);
    match found.map(|asset| &asset.brake) {
        None => Looked::Gone,
        Some(Brake::Cap { now, .. }) => Looked::There(now),
        Some(Brake::Blocked { why }) => Looked::NotNow(format!("its settings cannot be put back now: {why}")),
        Some(Brake::End | Brake::Stop | Brake::Deletion { .. }) => {
            Looked::NotNow("its settings cannot be put back now".to_owned())
        }
    }
}

fn outcome(were: &Settings, now: &Settings, by_us: bool) -> String {
    let theirs = were.iter().filter(|(name, first)| now.get(*name) != Some(*first));
    let theirs: Vec<&str> = theirs.map(|(name, _)| name.as_str()).collect();
    match (theirs.is_empty(), by_us) {
        (true, true) => PUT_BACK.to_owned(),
        (true, false) => "was as before already".to_owned(),
        (false, true) => format!("put back, but for what somebody else changed: {}", theirs.join(", ")),
        (false, false) => format!("somebody else changed it; left so: {}", theirs.join(", ")),
    }
}

/// Whether what it started and we stopped is ready for it. What is to be said otherwise is said.
fn members_let(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    rest: &Rest,
    resource: &Resource,
    asset: &AssetRef,
) -> bool {
    let here = |other: &Resource| matches!(other, Resource::Instance { region, .. } if *region == asset.region);
    let instances = match input.instances.get(&asset.region) {
        Some(Ok(instances)) => instances.as_slice(),
        Some(Err(why)) if input.images.keys().any(here) => {
            // Its own members may be among those that stay down.
            let why = format!("machines that may be its members could not be looked at: {why}");
            let known_down = rest
                .down
                .iter()
                .any(|id| id.starts_with(&format!("instance:{}/", asset.region)));
            let line = line(resource, why);
            if known_down {
                plan.owed.push(line)
            } else {
                plan.waiting.push(line)
            }
            return false;
        }
        Some(Err(_)) | None => &[],
    };
    let members = instances
        .iter()
        .filter(|instance| instance.parent().as_ref() == Some(asset));
    let (mut down, mut underway, mut unwell) = (Vec::new(), Vec::new(), Vec::new());
    for member in members {
        let own = super::stop::resource(member);
        let id = own.to_string();
        let started =
            step_of_this_restore(input, Action::StartInstance, &own).filter(|step| Step::may_have_happened(step));
        let passes = || {
            input
                .passing
                .get(&asset.region)
                .is_some_and(|ids| ids.contains(&member.id))
        };
        if rest.down.contains(&id) {
            down.push(member.id.as_str());
        } else if rest.underway.contains(&id) {
            underway.push(member.id.as_str());
        } else if let Some(step) = started.filter(|_| !passes()) {
            let late = input.now.duration_since(step.last_at) >= input.health_patience;
            unwell.push((id, member.id.as_str(), late));
        }
    }
    if !down.is_empty() {
        let why = format!("its members {} are down, and it would destroy them", named(&down));
        plan.owed.push(line(resource, why));
        return false;
    }
    let early: Vec<&str> = unwell
        .iter()
        .filter(|(_, _, late)| !late)
        .map(|(_, id, _)| *id)
        .collect();
    if !underway.is_empty() || !early.is_empty() {
        let why = if underway.is_empty() {
            format!("its members {} do not pass their checks yet", named(&early))
        } else {
            format!("its members {} are starting", named(&underway))
        };
        wait(plan, resource, &why);
        return false;
    }
    let late = unwell.into_iter().map(|(id, _, _)| StillBurning {
        resource: id,
        why: format!("it does not pass its checks in time; {asset} is uncapped and may replace it"),
    });
    plan.sick.extend(late);
    true
}

fn line(resource: &Resource, why: String) -> StillBurning {
    StillBurning {
        resource: resource.to_string(),
        why,
    }
}

fn named(ids: &[&str]) -> String {
    const NAMED: usize = 5;
    let first = ids.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
