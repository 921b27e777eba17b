//! Looking: what the plan needs to know of the cloud, each part on its own, so that one that cannot be
//! seen hides no other.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::future::{join, join_all};
use futures_util::stream;

use super::call::Caller;
use crate::domain::containment::deny;
use crate::domain::containment::image::Before;
use crate::domain::containment::observed::{Instance, PrincipalState};
use crate::domain::containment::plan::{Images, RegionView, Seen};
use crate::domain::containment::restore::is_selected;
use crate::domain::containment::state::Containment;
use crate::domain::containment::target::{CloudTargets, Principal, Region, Resource};
use crate::domain::fleet::asset::{Asset, Kind};
use crate::domain::fleet::instance::GROUP;
use crate::ports::{Cloud, InstanceFilter};

/// Values of one filter in one call: EC2 takes 200.
const FILTER_VALUES: usize = 200;

/// What a restore has to see of a region.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub instances: BTreeSet<String>,
    /// Groups, all of whose members are looked at.
    pub groups: BTreeSet<String>,
    pub kinds: BTreeSet<Kind>,
}

/// A whole region, whoever's it is, once all of it has answered.
pub(super) async fn region(cloud: &dyn Cloud, caller: Caller<'_>, region: &Region) -> RegionView {
    let observed_at = caller.clock.now();
    let instances = caller.reach(move || cloud.instances(region, &InstanceFilter::All));
    let (instances, assets) = join(instances, kinds(cloud, caller, region, cloud.kinds())).await;
    RegionView {
        region: region.clone(),
        observed_at,
        instances: instances.map_err(|failure| failure.why),
        assets,
    }
}

/// What a restore has to see of one region; all filters must have answered.
pub(super) async fn wanted(cloud: &dyn Cloud, caller: Caller<'_>, region: &Region, wanted: &Wanted) -> RegionView {
    let observed_at = caller.clock.now();
    let ids: Vec<String> = wanted.instances.iter().cloned().collect();
    let groups: Vec<String> = wanted.groups.iter().cloned().collect();
    let ids = ids.chunks(FILTER_VALUES).map(|part| InstanceFilter::Ids(part.to_vec()));
    let groups = groups
        .chunks(FILTER_VALUES)
        .map(|part| InstanceFilter::Groups(part.to_vec()));
    let filters: Vec<InstanceFilter> = ids.chain(groups).collect();
    let calls: Vec<_> = filters
        .iter()
        .map(|filter| caller.reach(move || cloud.instances(region, filter)))
        .collect();
    let instances = async {
        let mut found: BTreeMap<String, Instance> = BTreeMap::new();
        let mut answers = stream::iter(calls).buffer_unordered(3);
        while let Some(answer) = answers.next().await {
            let instances = answer.map_err(|failure| failure.why)?;
            found.extend(instances.into_iter().map(|instance| (instance.id.clone(), instance)));
        }
        Ok(found.into_values().collect())
    };
    let kinds = kinds(cloud, caller, region, wanted.kinds.iter().cloned().collect());
    let (instances, assets) = join(instances, kinds).await;
    RegionView {
        region: region.clone(),
        observed_at,
        instances,
        assets,
    }
}

async fn kinds(
    cloud: &dyn Cloud,
    caller: Caller<'_>,
    region: &Region,
    kinds: Vec<Kind>,
) -> BTreeMap<Kind, Seen<Vec<Asset>>> {
    // All at once: each kind has a service, and a rate limit, of its own.
    let lists = kinds.into_iter().map(|kind| async move {
        let seen = caller.reach(|| cloud.assets(region, &kind)).await;
        (kind, seen.map_err(|failure| failure.why))
    });
    join_all(lists).await.into_iter().collect()
}

/// Each principal on its own.
pub(super) async fn principals(
    cloud: &dyn Cloud,
    caller: Caller<'_>,
    wanted: BTreeSet<Principal>,
    concurrent: usize,
) -> Vec<(Principal, Seen<PrincipalState>)> {
    stream::iter(wanted)
        .map(|principal| async move {
            let seen = caller.reach(|| cloud.principal(&principal, deny::POLICY_NAME)).await;
            (principal, seen.map_err(|failure| failure.why))
        })
        .buffer_unordered(concurrent.max(1))
        .collect()
        .await
}

/// Adds up what the inline policies of those that are not denied take: what a sweep leaves to IAM itself.
pub(super) async fn headroom(
    cloud: &dyn Cloud,
    caller: Caller<'_>,
    seen: &mut [(Principal, Seen<PrincipalState>)],
    concurrent: usize,
) {
    let undenied = |state: &&PrincipalState| state.exists && !deny::is_in_place(state);
    let wanted = seen.iter().filter_map(|(_, state)| state.as_ref().ok());
    let wanted: Vec<Principal> = wanted.filter(undenied).map(|state| state.principal.clone()).collect();
    let answers: BTreeMap<Principal, usize> = stream::iter(wanted)
        .map(|principal| async move {
            let answer = caller.reach(|| cloud.inline_chars(&principal, deny::POLICY_NAME)).await;
            (principal, answer.ok())
        })
        .buffer_unordered(concurrent.max(1))
        .filter_map(async |(principal, chars)| Some((principal, chars?)))
        .collect()
        .await;
    for (principal, state) in seen {
        if let Ok(state) = state {
            state.inline_chars = answers.get(principal).copied();
        }
    }
}

/// The regions to look at whatever is enabled: those that the agent declares, and those where we changed
/// something.
pub(super) fn named_regions(targets: &CloudTargets, images: &Images) -> BTreeSet<Region> {
    let changed = images.keys().filter_map(|resource| match resource {
        Resource::Instance { region, .. } => Some(region.clone()),
        Resource::Asset { asset } => Some(asset.region.clone()),
        Resource::Principal { .. } | Resource::AccessKey { .. } | Resource::ServiceCredential { .. } => None,
    });
    targets.regions.iter().cloned().chain(changed).collect()
}

/// The regions that are enabled now. All of them are looked at, since what is outside the declared ones
/// asks a person. When they cannot be listed, those that were listed last are looked at all the same: the
/// list comes from a single region, whose failure must not hide the others.
pub(super) async fn list_regions(cloud: &dyn Cloud, caller: Caller<'_>) -> Seen<BTreeSet<Region>> {
    let listed = caller.reach(|| cloud.regions()).await;
    listed
        .map(|enabled| enabled.into_iter().collect())
        .map_err(|failure| failure.why)
}

/// Whose state a restore needs: the principals that images name, and the users of keys. Of a key's user
/// only the name is recorded, so its ARN is found among the others or made up; IAM goes by the name.
pub(super) fn principals_of(images: &Images, targets: &CloudTargets, account: Option<&str>) -> BTreeSet<Principal> {
    let mut wanted: BTreeSet<Principal> = images
        .keys()
        .filter_map(|resource| match resource {
            Resource::Principal { principal } => Some(principal.clone()),
            _ => None,
        })
        .collect();
    for resource in images.keys() {
        let (Resource::AccessKey { user, .. } | Resource::ServiceCredential { user, .. }) = resource else {
            continue;
        };
        let is_it = |principal: &&Principal| matches!(principal, Principal::User(_)) && principal.name() == user;
        if wanted.iter().any(|principal| is_it(&principal)) {
            continue;
        }
        let declared = targets.principals.iter().find(is_it).cloned();
        let account = account.unwrap_or(&targets.account);
        wanted.insert(declared.unwrap_or_else(|| Principal::User(format!("arn:aws:iam::{account}:user/{user}"))));
    }
    wanted
}

/// What a restore of this containment looks at, region by region: what it puts back, and every member of the
/// groups that it uncaps, whoever stopped or started it.
pub(super) fn wanted_for_restore(images: &Images, containment: &Containment) -> BTreeMap<Region, Wanted> {
    let is_selected = |resource: &Resource| is_selected(resource, containment.restore.as_ref());
    let mut wanted: BTreeMap<Region, Wanted> = BTreeMap::new();
    for (resource, image) in images.iter().filter(|(resource, _)| is_selected(resource)) {
        match resource {
            Resource::Instance { region, id } => {
                wanted.entry(region.clone()).or_default().instances.insert(id.clone());
            }
            Resource::Asset { asset } if matches!(image.before, Before::Settings { .. }) => {
                let here = wanted.entry(asset.region.clone()).or_default();
                here.kinds.insert(asset.kind.clone());
                if asset.kind == GROUP {
                    here.groups.insert(asset.id.clone());
                }
            }
            Resource::Asset { .. }
            | Resource::Principal { .. }
            | Resource::AccessKey { .. }
            | Resource::ServiceCredential { .. } => {}
        }
    }
    wanted
}
