//! Planning what runs besides instances: tasks that are ended, and what only deletion would stop.
//!
//! A task that its service would start anew is ended once the service is capped; until then it waits. Nothing
//! is ever deleted: a volume, a gateway or an address that is charged for is *still burning*, with what a
//! person would have to do about it.

use std::collections::{BTreeMap, BTreeSet};

use super::image::Before;
use super::ownership::{Match, Owner, Owners, Scope, others};
use super::plan::{ForeignMatch, Frame, RegionPlan, RegionView};
use super::spawners::{SpawnerPlan, Standing};
use super::state::{Action, Step, StepState, StillBurning};
use super::target::Resource;
use super::worth;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake};

/// Whether something is to be done about an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admitted {
    Ours,
    /// It is nobody's, another's, the guard's or a person's; for those that wait for it, why.
    Left(String),
}

/// What comes before anything is done about an asset: whose it is, what it costs, and whether it is where it
/// may be touched. All that is to be said of an asset that is left alone is said here.
pub(super) fn admit(owners: &Owners<'_>, plan: &mut RegionPlan, asset: &Asset) -> Admitted {
    let id = asset.what.to_string();
    let left = |why: &str| Admitted::Left(why.to_owned());
    // Capped, and nothing to pay for: there is nothing to be said or asked of it.
    let idle = asset.meters.is_empty() && (asset.is_capped() == Some(true) || !halts(&asset.brake));
    let by = match owners.asset(asset) {
        Owner::Nobody => {
            let may_be = asset.unread.as_deref().filter(|_| !idle && !owners.is_anothers(asset));
            if let Some(why) = may_be {
                unread(owners.frame, plan, asset, why);
            }
            return left("it is not the agent's, as far as can be seen");
        }
        Owner::Other { agent, by } => {
            let why = others(&agent, by);
            if !idle {
                plan.burning.push(line(&id, &why));
            }
            return Admitted::Left(why);
        }
        Owner::Agent(by) => by,
    };
    if owners.is_guarded(asset) {
        let why = "it matches as a target but is the guard's own; it is never touched";
        plan.burning.push(line(&id, why));
        plan.guarded.push(id);
        return left(why);
    }
    if let Some(cost) = worth::asset(owners.frame.prices, asset) {
        plan.costs.insert(id.clone(), cost);
    }
    match owners.scope(&asset.what.region, &id, by, asset.parent.as_ref()) {
        Scope::Within => Admitted::Ours,
        Scope::Left(_) | Scope::Ask(_) if idle => left("the agent does not declare where it is"),
        Scope::Left(why) => {
            plan.burning.push(line(&id, &why));
            Admitted::Left(why)
        }
        Scope::Ask(why) if !halts(&asset.brake) => {
            plan.burning.push(line(&id, &why));
            Admitted::Left(why)
        }
        Scope::Ask(why) => {
            plan.burning.push(line(&id, &format!("{why}; a person is asked")));
            plan.ask.push(ForeignMatch {
                region: asset.what.region.clone(),
                resource: id,
                why: why.clone(),
            });
            Admitted::Left(why)
        }
    }
}

/// Nothing names its owner, but not everything that could do so was read: it may be the agent's (C3). One line
/// for each kind and reason, since what cannot be read is seldom one thing's.
fn unread(frame: &Frame<'_>, plan: &mut RegionPlan, asset: &Asset, why: &str) {
    let region = &asset.what.region;
    let line = StillBurning {
        resource: format!("{}:{region}", asset.what.kind),
        why: format!("whose some of them are could not be read: {why}"),
    };
    // Where the agent declares nothing, a blind spot is reported but proves nothing open.
    let lines = if frame.declares(region) {
        &mut plan.unseen
    } else {
        &mut plan.burning
    };
    if !lines.contains(&line) {
        lines.push(line);
    }
}

/// Whether there is anything that a containment could do about it.
fn halts(brake: &Brake) -> bool {
    matches!(brake, Brake::Cap { .. } | Brake::End)
}

/// Plans the assets of a region that start nothing, and says what became of those that were ended.
pub(super) fn plan_assets(
    frame: &Frame<'_>,
    view: &RegionView,
    owners: &Owners<'_>,
    spawners: &SpawnerPlan,
    plan: &mut RegionPlan,
) {
    for assets in view.assets.values().flatten() {
        let unique: BTreeMap<&AssetRef, &Asset> = assets.iter().map(|asset| (&asset.what, asset)).collect();
        for asset in unique.into_values() {
            let id = asset.what.to_string();
            match &asset.brake {
                Brake::Cap { .. } | Brake::Blocked { .. } => {}
                Brake::End => {
                    if admit(owners, plan, asset) == Admitted::Ours {
                        plan_end(frame, view, spawners, plan, asset);
                    }
                }
                Brake::Deletion { how } => {
                    if admit(owners, plan, asset) == Admitted::Ours && !asset.meters.is_empty() {
                        plan.burning.push(line(&id, how));
                    }
                }
                Brake::Stop => {
                    if admit(owners, plan, asset) == Admitted::Ours {
                        plan.burning
                            .push(line(&id, "there is no call here that stops one of its kind"));
                    }
                }
            }
        }
    }
    ended(frame, view, plan);
}

fn plan_end(frame: &Frame<'_>, view: &RegionView, spawners: &SpawnerPlan, plan: &mut RegionPlan, asset: &Asset) {
    let resource = Resource::Asset {
        asset: asset.what.clone(),
    };
    let id = resource.to_string();
    if let Some(step) = frame.steps.get(Action::End, &resource)
        && step.state == StepState::Done
    {
        // What was ended for good does not run again: it is on its way.
        if frame.adopts(Action::End, &resource) {
            plan.adopted.push(resource.clone());
        }
        if frame.is_stuck(step.last_at) {
            plan.burning.push(line(&id, "it does not finish ending"));
        } else {
            plan.waiting.push(line(&id, "it is ending"));
        }
        return;
    }
    let parent = asset.parent.as_ref();
    let again = match parent.map(|parent| (parent, spawners.standing(frame, view, parent))) {
        None | Some((_, Standing::Capped | Standing::Unknown)) => None,
        Some((parent, Standing::Planned)) => {
            let why = format!("{parent}, which would start it anew, is not capped yet");
            plan.waiting.push(line(&id, &why));
            return;
        }
        Some((parent, Standing::Unseen)) => {
            let why = format!("{parent}, which would start it anew, could not be looked at");
            plan.waiting.push(line(&id, &why));
            return;
        }
        Some((parent, Standing::Loose(why))) => {
            plan.burning
                .push(line(&id, &format!("{parent} would start it anew: {why}")));
            return;
        }
        Some((parent, Standing::Uncappable(why))) => Some(format!("it is ended, but {parent} starts it anew: {why}")),
    };
    if !frame.images.contains_key(&resource) {
        let before = Before::Ran {
            parent: parent.cloned(),
        };
        plan.images.push(frame.image(&resource, before));
    }
    if let Some(why) = again {
        // It never comes to an end, so it keeps nothing else from being proved.
        plan.burning.push(line(&id, &why));
        plan.end_probes.push(asset.what.clone());
        return;
    }
    match frame.refused(Action::End, &resource) {
        None => plan.ends.push(asset.what.clone()),
        Some(step) => {
            let why = step.last_error.as_deref().unwrap_or("ending it was refused");
            plan.burning.push(line(&id, why));
            if frame.is_due(step) {
                plan.end_probes.push(asset.what.clone());
            }
        }
    }
}

/// What this containment ended and is not there any more. An end that was under way when we crashed and
/// turns out to have worked is ours.
fn ended(frame: &Frame<'_>, view: &RegionView, plan: &mut RegionPlan) {
    let seen = view.assets.values().flatten().flatten();
    let seen: BTreeSet<&AssetRef> = seen.map(|asset| &asset.what).collect();
    for (resource, image) in frame.images {
        let (Resource::Asset { asset }, Before::Ran { .. }) = (resource, &image.before) else {
            continue;
        };
        let listed = matches!(view.assets.get(&asset.kind), Some(Ok(_))) && asset.region == view.region;
        let step = frame.steps.get(Action::End, resource);
        if listed && step.is_some_and(Step::may_have_happened) && !seen.contains(asset) {
            if frame.adopts(Action::End, resource) {
                plan.adopted.push(resource.clone());
            }
            plan.ended.push(resource.to_string());
        }
    }
}

/// Why something is the agent's, if it is nobody else's; what is said of it if it is another's is said.
pub(super) fn claim(plan: &mut RegionPlan, owner: Owner, id: &str, costs: bool) -> Option<Match> {
    match owner {
        Owner::Nobody => None,
        Owner::Agent(by) => Some(by),
        Owner::Other { agent, by } => {
            if costs {
                plan.burning.push(line(id, &others(&agent, by)));
            }
            None
        }
    }
}

pub(super) fn line(id: &str, why: &str) -> StillBurning {
    StillBurning {
        resource: id.to_owned(),
        why: why.to_owned(),
    }
}
