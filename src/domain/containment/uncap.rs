//! Planning what a restore uncaps: groups, services, functions, each setting by itself (C4).
//!
//! A setting that is still as the cap left it gets its old value; one that somebody changed since is theirs.
//!
//! What starts others is uncapped last, because it may destroy. A group that works again takes a member that
//! is down for a sick one. So it waits until the deny is lifted, until its members that we stopped have
//! started, and until all that run pass their checks (bounded: then it goes on, and that is said). A group
//! with members that stay down stays capped and owed, whoever stopped them: because nobody selected them,
//! because they could not be started, or because somebody else stopped one that was never ours to start.
//!
//! What is owed was tried for `patience`, and that begins when nothing else was in its way any more.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::image::{Before, BeforeImage};
use super::observed::{Instance, InstanceState};
use super::restore::{
    PUT_BACK, RestoreInput, RestorePlan, Uncap, changed, elsewhere, is_selected, settle, step_of_this_restore, wait,
};

use super::state::{Action, Step, StepState, StillBurning};
use super::target::{Region, Resource};
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Settings};
use crate::domain::fleet::instance::GROUP;

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

/// How the rest of the restore stands, and what was seen, ready to be looked up.
struct Rest<'a> {
    /// Denies and credentials that are not put back yet.
    is_denied: bool,
    /// When this restore last put something back that comes before what starts others: anywhere, and
    /// machines by their region.
    lifted_at: Option<Timestamp>,
    started_at: BTreeMap<&'a Region, Timestamp>,
    /// Stable ids of machines that are on their way.
    underway: BTreeSet<String>,
    /// Stable ids of machines that stay down, and where there are any.
    down: BTreeSet<String>,
    down_in: BTreeSet<&'a Region>,
    assets: BTreeMap<&'a AssetRef, &'a Asset>,
    members: BTreeMap<AssetRef, Vec<&'a Instance>>,
}

impl<'a> Rest<'a> {
    /// `None` if nothing was capped.
    fn of(input: &'a RestoreInput<'_>, plan: &RestorePlan) -> Option<Self> {
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
        let down: BTreeSet<String> = owed.chain(plan.kept.iter().cloned()).collect();
        let down_in = input.images.keys().filter_map(|resource| match resource {
            Resource::Instance { region, .. } if down.contains(&resource.to_string()) => Some(region),
            _ => None,
        });
        let mut members: BTreeMap<AssetRef, Vec<&Instance>> = BTreeMap::new();
        for instance in input.instances.values().flatten().flatten() {
            if let Some(parent) = instance.parent() {
                members.entry(parent).or_default().push(instance);
            }
        }
        let mut rest = Self {
            is_denied,
            lifted_at: None,
            started_at: BTreeMap::new(),
            underway: starts.chain(waiting).collect(),
            down_in: down_in.collect(),
            down,
            assets: input
                .assets
                .values()
                .flat_map(BTreeMap::values)
                .flatten()
                .flatten()
                .map(|asset| (&asset.what, asset))
                .collect(),
            members,
        };
        rest.note_times(input);
        Some(rest)
    }

    fn note_times(&mut self, input: &RestoreInput<'a>) {
        let Some(begun) = input.containment.restoring_at else {
            return;
        };
        for step in input.steps.iter().filter(|step| step.last_at >= begun) {
            match (step.action, &step.resource) {
                (Action::StartInstance, Resource::Instance { region, .. }) => {
                    let at = self.started_at.entry(region).or_insert(step.last_at);
                    *at = step.last_at.max(*at);
                }
                (Action::LiftDeny | Action::DetachDeny | Action::ActivateKey | Action::ActivateCredential, _) => {
                    self.lifted_at = self.lifted_at.max(Some(step.last_at))
                }
                _ => {}
            }
        }
    }

    /// Since when nothing else has been in its way, as far as is recorded.
    fn ready_at(&self, begun: Timestamp, region: &Region) -> Timestamp {
        let others = [self.lifted_at, self.started_at.get(region).copied()];
        others.into_iter().flatten().fold(begun, Timestamp::max)
    }
}

/// The settings to put back now.
fn plan_one(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    rest: &Rest<'_>,
    resource: &Resource,
    image: &BeforeImage,
    (asset, were, capped): (&AssetRef, &Settings, &Settings),
) -> Option<Settings> {
    let tried = step_of_this_restore(input, Action::Uncap, resource);
    let begun = input.containment.restoring_at.unwrap_or(input.now);
    let ready = rest.ready_at(begun, &asset.region);
    let since = tried.map_or(ready, |step| ready.max(step.first_at));
    let is_overdue = !rest.is_denied && input.now.duration_since(since) >= input.patience;
    let now = match look(input, rest, asset) {
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
    members_let(input, plan, rest, resource, (asset, is_overdue)).then_some(back)
}

enum Looked<'a> {
    There(&'a Settings),
    Gone,
    NotNow(String),
}

fn look<'a>(input: &RestoreInput<'_>, rest: &Rest<'a>, what: &AssetRef) -> Looked<'a> {
    let seen = input.assets.get(&what.region).and_then(|kinds| kinds.get(&what.kind));
    match seen {
        Some(Ok(_)) => {}
        Some(Err(why)) => return Looked::NotNow(format!("it could not be looked at: {why}")),
        None => return Looked::NotNow("it was not looked at".to_owned()),
    }
    match rest.assets.get(what).map(|asset| &asset.brake) {
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

/// Whether what it started is ready for it. What is to be said otherwise is said.
fn members_let(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    rest: &Rest<'_>,
    resource: &Resource,
    (asset, is_overdue): (&AssetRef, bool),
) -> bool {
    if asset.kind != GROUP {
        return true;
    }
    if let Err(why) = seen(input, &asset.region) {
        let why = format!("machines that may be its members could not be looked at: {why}");
        let line = line(resource, why);
        // Its own members may be among those that stay down.
        if is_overdue || rest.down_in.contains(&asset.region) {
            plan.owed.push(line)
        } else {
            plan.waiting.push(line)
        }
        return false;
    }
    let passing = input.passing.get(&asset.region);
    let (mut down, mut underway, mut unwell) = (Vec::new(), Vec::new(), Vec::new());
    for member in rest.members.get(asset).into_iter().flatten() {
        let own = super::stop::resource(member);
        let id = own.to_string();
        let is_down = matches!(member.state, InstanceState::Stopping | InstanceState::Stopped);
        if rest.underway.contains(&id) {
            underway.push(member.id.as_str());
        } else if is_down || (rest.down.contains(&id) && member.state == InstanceState::Pending) {
            down.push(member.id.as_str());
        } else if !member.state.is_gone() && !passing.is_some_and(|ids| ids.contains(&member.id)) {
            let started =
                step_of_this_restore(input, Action::StartInstance, &own).filter(|step| Step::may_have_happened(step));
            // One that somebody else started has its time as well; one that has long been sick is not our doing.
            let since = started.map(|step| step.last_at).or(member.launched_at);
            let late = since.is_none_or(|since| input.now.duration_since(since) >= input.health_patience);
            if started.is_some() || !late {
                unwell.push((id, member.id.as_str(), late));
            }
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

fn seen<'a>(input: &'a RestoreInput<'_>, region: &Region) -> Result<(), &'a str> {
    match input.instances.get(region) {
        Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err(why),
        None => Err("they were not looked at"),
    }
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
