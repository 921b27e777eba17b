//! Planning what is halted by its own settings: groups, services, functions. They come first (C2): a machine
//! that is stopped under a group that is not capped is destroyed by it and replaced, and a task that is ended
//! under its service is started anew.
//!
//! A cap is the settings that the asset itself names, and nothing else of it is changed. What was there is
//! recorded before. A before-image of an earlier containment stays the one to restore, field by field: a
//! field that still is as that cap left it keeps its first value; one that somebody changed since, while the
//! agent was free, is theirs, and what they set is what a reset puts back.
//!
//! Each kind is listed on its own. One that cannot be listed hides no other; what it may have started waits.

use std::collections::{BTreeMap, BTreeSet};

use super::assets::{Admitted, admit, line};
use super::image::{Before, BeforeImage};
use super::ownership::Owners;
use super::plan::{Frame, PlannedCap, RegionPlan, RegionView};
use super::restore::Settled;
use super::state::{Action, StillBurning};
use super::target::Resource;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};

/// How something stands that may have started others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Capped,
    /// It is being capped in this pass.
    Planned,
    /// It goes on starting others, and why.
    Loose(String),
    /// As `Loose`, and there is no setting that would cap it.
    Uncappable(String),
    /// It could not be looked at.
    Unseen,
    /// It is not there, or nobody looks for its kind.
    Unknown,
}

/// A region's first part, and how what starts others stands.
#[derive(Debug, Clone)]
pub struct SpawnerPlan {
    pub part: RegionPlan,
    standing: BTreeMap<AssetRef, Standing>,
    hidden: BTreeSet<Kind>,
}

impl SpawnerPlan {
    pub(super) fn standing(&self, frame: &Frame<'_>, view: &RegionView, what: &AssetRef) -> Standing {
        match self.standing.get(what) {
            // Once its cap was done in this pass, it is as good as seen.
            Some(Standing::Planned) => {
                let resource = Resource::Asset { asset: what.clone() };
                let step = frame.steps.since(Action::Cap, &resource, view.observed_at);
                let done = step.is_some_and(|step| step.state == super::state::StepState::Done);
                if done { Standing::Capped } else { Standing::Planned }
            }
            Some(standing) => standing.clone(),
            None if self.hidden.contains(&what.kind) => Standing::Unseen,
            None => Standing::Unknown,
        }
    }
}

/// Plans what is halted first in a region.
pub fn plan_spawners(frame: &Frame<'_>, view: &RegionView, profiles: &BTreeSet<String>) -> SpawnerPlan {
    let mut plan = SpawnerPlan {
        part: RegionPlan::empty(view.region.clone()),
        standing: BTreeMap::new(),
        hidden: BTreeSet::new(),
    };
    let owners = Owners::of(frame, view, profiles);
    for (kind, seen) in &view.assets {
        match seen {
            Ok(_) if frame.account.is_none() => {
                plan.hidden.insert(kind.clone());
            }
            Ok(assets) => {
                // One row an asset, in the order of ids.
                let unique: BTreeMap<&AssetRef, &Asset> = assets.iter().map(|asset| (&asset.what, asset)).collect();
                for asset in unique.into_values() {
                    let standing = plan_asset(frame, &owners, &mut plan.part, asset);
                    plan.standing.insert(asset.what.clone(), standing);
                }
            }
            Err(why) => {
                plan.hidden.insert(kind.clone());
                unseen(frame, &mut plan.part, kind, &view.region, why);
            }
        }
    }
    plan
}

/// Where the agent declares nothing, a blind spot is reported but proves nothing open.
fn unseen(frame: &Frame<'_>, plan: &mut RegionPlan, kind: &Kind, region: &Region, why: &str) {
    let line = StillBurning {
        resource: format!("{kind}:{region}"),
        why: format!("they could not be listed: {why}"),
    };
    if frame.declares(region) {
        plan.unseen.push(line);
    } else {
        plan.burning.push(line);
    }
}

fn plan_asset(frame: &Frame<'_>, owners: &Owners<'_>, plan: &mut RegionPlan, asset: &Asset) -> Standing {
    let (now, capped) = match &asset.brake {
        Brake::Cap { now, capped } => (now, capped),
        Brake::Blocked { why } => {
            return match admit(owners, plan, asset) {
                Admitted::Ours => {
                    plan.burning.push(line(&asset.what.to_string(), why));
                    Standing::Uncappable(why.clone())
                }
                Admitted::Left(why) => Standing::Loose(why),
            };
        }
        // Planned with the machines.
        Brake::End | Brake::Stop | Brake::Deletion { .. } => return Standing::Unknown,
    };
    if let Admitted::Left(why) = admit(owners, plan, asset) {
        return Standing::Loose(why);
    }
    let resource = Resource::Asset {
        asset: asset.what.clone(),
    };
    let id = resource.to_string();
    if now == capped {
        if frame.adopts(Action::Cap, &resource) {
            plan.adopted.push(resource);
        }
        if let Some(cost) = plan.costs.get(&id) {
            // Provisioned capacity is paid for whether it serves or not.
            let why = format!("it is capped, but still charged for: {}", cost.what);
            plan.burning.push(line(&id, &why));
        }
        plan.capped.push(id);
        return Standing::Capped;
    }
    remember(frame, plan, &resource, now, capped);
    let cap = PlannedCap {
        asset: asset.what.clone(),
        settings: capped.clone(),
        put_back: frame.containment.coverage.capped.contains(&id),
    };
    match frame.refused(Action::Cap, &resource) {
        None => {
            plan.caps.push(cap);
            Standing::Planned
        }
        Some(step) => {
            let why = step.last_error.as_deref().unwrap_or("capping it was refused");
            plan.burning.push(line(&id, why));
            if frame.is_due(step) {
                plan.cap_probes.push(cap);
            }
            Standing::Loose(format!("it could not be capped: {why}"))
        }
    }
}

/// Records what is there, unless an earlier before-image still tells it.
fn remember(frame: &Frame<'_>, plan: &mut RegionPlan, resource: &Resource, now: &Settings, capped: &Settings) {
    let before = |were: Settings| Before::Settings {
        were,
        capped: capped.clone(),
    };
    let Some(image) = frame.images.get(resource) else {
        plan.images.push(frame.image(resource, before(now.clone())));
        return;
    };
    let Before::Settings { were, capped: left } = &image.before else {
        return;
    };
    let held = image.containment == frame.containment.id || frame.steps.get(Action::Cap, resource).is_some();
    // A setting that did not show when the others were recorded: it is recorded before it is changed (C1).
    let is_new = |name: &String| !were.contains_key(name);
    let theirs = |name: &String, value: &String| {
        !held && !is_new(name) && left.get(name) != Some(value) && were.get(name) != Some(value)
    };
    let is_changed = now.iter().any(|(name, value)| theirs(name, value));
    if !is_changed && !now.keys().any(is_new) {
        return;
    }
    // What does not show now is as it was recorded.
    let mut merged = were.clone();
    let own = now.iter().filter(|(name, value)| is_new(name) || theirs(name, value));
    merged.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    let mut leaves = left.clone();
    leaves.extend(capped.clone());
    let why = if is_changed {
        "somebody else changed it since; what they set is recorded anew"
    } else {
        "more of it is seen now; it is recorded anew with that"
    };
    plan.superseded.push(Settled {
        resource: resource.clone(),
        outcome: why.to_owned(),
    });
    let before = Before::Settings {
        were: merged,
        capped: leaves,
    };
    plan.images.push(if held {
        // It tells of the same time as before, and of more.
        BeforeImage {
            before,
            ..image.clone()
        }
    } else {
        BeforeImage {
            // What is still as we left it was changed by us then.
            changed_at: image.changed_at,
            ..frame.image(resource, before)
        }
    });
}
