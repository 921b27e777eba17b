//! Looking: what the plan needs to know of the cloud, each part on its own, so that one that cannot be
//! seen hides no other.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::call::Caller;
use crate::domain::containment::deny;
use crate::domain::containment::observed::{Instance, PrincipalState};
use crate::domain::containment::plan::{Images, RegionView, Seen};
use crate::domain::containment::state::{Action, Containment};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::{CloudTargets, Principal, Region, Resource};
use crate::ports::{Cloud, InstanceFilter};

/// Values of one filter in one call: EC2 takes 200.
const FILTER_VALUES: usize = 200;

/// Which instances of a region to ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub tags: Vec<(String, String)>,
    pub profiles: Vec<String>,
    pub ids: Vec<String>,
}

impl Wanted {
    fn filters(&self) -> Vec<InstanceFilter> {
        let mut filters = Vec::new();
        filters.extend(
            self.tags
                .chunks(FILTER_VALUES)
                .map(|part| InstanceFilter::Tags(part.to_vec())),
        );
        filters.extend(
            self.profiles
                .chunks(FILTER_VALUES)
                .map(|part| InstanceFilter::Profiles(part.to_vec())),
        );
        filters.extend(
            self.ids
                .chunks(FILTER_VALUES)
                .map(|part| InstanceFilter::Ids(part.to_vec())),
        );
        filters
    }
}

/// What to ask for in each region during a sweep: by tag, by profile, and what this containment stopped.
pub(super) fn wanted_in(
    region: &Region,
    targets: &CloudTargets,
    profiles: &BTreeSet<String>,
    images: &Images,
    steps: &Steps,
) -> Wanted {
    let touched = |resource: &Resource| {
        steps.get(Action::StopInstance, resource).is_some() || steps.get(Action::TerminateInstance, resource).is_some()
    };
    Wanted {
        tags: targets
            .tags
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        profiles: profiles.iter().cloned().collect(),
        ids: images
            .keys()
            .filter_map(|resource| match resource {
                Resource::Instance { region: at, id } if at == region && touched(resource) => Some(id.clone()),
                _ => None,
            })
            .collect(),
    }
}

/// The instances of one region that any filter finds; all filters must have answered.
pub(super) async fn region(cloud: &dyn Cloud, caller: Caller<'_>, region: &Region, wanted: &Wanted) -> RegionView {
    let mut found: BTreeMap<String, Instance> = BTreeMap::new();
    let filters = wanted.filters();
    let calls: Vec<_> = filters
        .iter()
        .map(|filter| caller.reach(move || cloud.instances(region, filter)))
        .collect();
    let mut answers = stream::iter(calls).buffer_unordered(3);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(instances) => found.extend(instances.into_iter().map(|instance| (instance.id.clone(), instance))),
            Err(failure) => {
                return RegionView {
                    region: region.clone(),
                    instances: Err(failure.why),
                };
            }
        }
    }
    RegionView {
        region: region.clone(),
        instances: Ok(found.into_values().collect()),
    }
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
        _ => None,
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

/// The machines that a restore of this containment looks at, region by region.
pub(super) fn machines_of(images: &Images, containment: &Containment) -> BTreeMap<Region, Wanted> {
    let mut wanted: BTreeMap<Region, Wanted> = BTreeMap::new();
    for resource in images.keys() {
        if let Resource::Instance { region, id } = resource
            && crate::domain::containment::restore::is_selected(resource, containment.restore.as_ref())
        {
            wanted.entry(region.clone()).or_default().ids.push(id.clone());
        }
    }
    wanted
}
