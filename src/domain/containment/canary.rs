//! A canary: things of the agent's, marked for it, on which the kill switch shows that it works.
//!
//! A canary drill is a containment whose scope is narrowed, and no second kill switch: the same sweeps stop
//! it, the same proof says so, the same restore brings it back, and a crash resumes it the same way (C6).
//! What narrows it is one rule, asked wherever ownership is: a thing is the drill's if it is on the list that
//! a person confirmed, and carries the ownership tag and the canary tag *at that sweep*. Nothing else makes a
//! thing its: not a role, a maker or a parent. A tag that is taken off in the midst of a drill takes the thing
//! out of its reach at once; what was stopped before is put back all the same, by its before-image.
//!
//! No principal is ever touched. Whatever is denied of the agent's, its work stops, and a role that is not its
//! own proves nothing of those that are; a deny is shown by reading back and by IAM's simulation instead. The
//! agent is not frozen either: it goes on working, and whoever contains it in earnest meanwhile takes the
//! drill over, with all that it recorded (see [`change`](crate::domain::judgement::change)).
//!
//! Only what comes back is a canary: machines that stop and start, and what is capped by its settings. What
//! could only be ended or terminated is refused by name. And a drill does not wait for ever: after
//! [`PATIENCE`] it puts back whatever it reached.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::hourly::Hourly;
use super::ownership::resource_of;
use super::plan::RegionPlan;
use super::state::{Action, Containment, Phase, RestoreRequest, StillBurning};
use super::target::{CloudTargets, Region, Resource};
use crate::domain::fleet::asset::{AssetRef, Kind};
use crate::domain::id::DrillId;

/// The tag that marks a canary, beside the agent's own.
pub const TAG: (&str, &str) = ("backstop:canary", "true");

/// Canaries of one drill at most.
pub const MAX: usize = 20;

/// How long a drill waits for its proof before it puts back what it reached.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// What a drill is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    pub drill: DrillId,
    /// Who asked for it.
    pub by: String,
    /// What was shown to that person and confirmed.
    pub assets: BTreeSet<AssetRef>,
}

impl Canary {
    pub fn covers(&self, resource: &Resource) -> bool {
        self.assets.iter().any(|asset| resource_of(asset) == *resource)
    }

    /// Its assets, as before-images and steps name them.
    pub fn resources(&self) -> Vec<Resource> {
        self.assets.iter().map(resource_of).collect()
    }

    /// What the agent declares, as far as its drill may know it: no principal, and the regions of the canaries.
    pub fn narrow(&self, targets: &CloudTargets) -> CloudTargets {
        let regions: BTreeSet<&Region> = self.assets.iter().map(|asset| &asset.region).collect();
        let declared = |region: &&Region| targets.regions.is_empty() || targets.regions.contains(region);
        let regions: Vec<Region> = regions.into_iter().filter(declared).cloned().collect();
        CloudTargets {
            principals: Vec::new(),
            // None at all would be every one.
            regions: if regions.is_empty() {
                targets.regions.clone()
            } else {
                regions
            },
            ..targets.clone()
        }
    }
}

pub fn is_marked(tags: &BTreeMap<String, String>) -> bool {
    tags.get(TAG.0).is_some_and(|value| value == TAG.1)
}

/// What a canary drill would do to one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    pub asset: AssetRef,
    pub action: Action,
    pub what: String,
    pub hourly: Option<Hourly>,
}

/// What is marked: what a drill can be run on, and what not, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Candidates {
    pub fit: Vec<Candidate>,
    pub unfit: Vec<StillBurning>,
}

impl Candidates {
    /// From the plans of a containment narrowed to all that is `marked`. What the plan would neither stop nor cap
    /// is no canary.
    pub fn of(plans: &[RegionPlan], marked: &BTreeSet<AssetRef>) -> Self {
        let mut found = Self::default();
        for plan in plans {
            let mut take = |asset: AssetRef, action| {
                let cost = plan.costs.get(&asset.to_string());
                found.fit.push(Candidate {
                    action,
                    what: cost.map_or_else(|| asset.kind.to_string(), |cost| cost.what.clone()),
                    hourly: cost.map(|cost| cost.hourly),
                    asset,
                });
            };
            for cap in &plan.caps {
                take(cap.asset.clone(), Action::Cap);
            }
            for id in plan.stops.iter().flatten() {
                let kind = Kind::INSTANCE;
                let (region, id) = (plan.region.clone(), id.clone());
                take(AssetRef { kind, region, id }, Action::StopInstance);
            }
            let lines = plan.waiting.iter().chain(&plan.burning);
            found.unfit.extend(lines.cloned());
        }
        let said: BTreeSet<String> = found.unfit.iter().map(|line| line.resource.clone()).collect();
        let fit: BTreeSet<&AssetRef> = found.fit.iter().map(|one| &one.asset).collect();
        let rest = marked
            .iter()
            .filter(|asset| !fit.contains(asset) && !said.contains(&asset.to_string()));
        let rest: Vec<StillBurning> = rest
            .map(|asset| StillBurning {
                resource: asset.to_string(),
                why:
                    "it does not run now, or can only be ended for good: a canary is stopped or capped, and comes back"
                        .to_owned(),
            })
            .collect();
        found.unfit.extend(rest);
        found
    }
}

/// What follows a sweep of a canary drill: once it is proved, or its time is over, everything is put back. `None`
/// while it goes on.
pub fn put_back(swept: &Containment, now: Timestamp) -> Option<Containment> {
    let canary = swept.canary.as_ref()?;
    let is_over = now.duration_since(swept.opened_at) >= PATIENCE;
    if swept.phase == Phase::Restoring || (swept.phase != Phase::Contained && !is_over) {
        return None;
    }
    Some(Containment {
        phase: Phase::Restoring,
        restoring_at: Some(now),
        restore: Some(RestoreRequest {
            by: canary.by.clone(),
            at: now,
            only: Vec::new(),
            // It breached no line and none is let go by it.
            lines_checked: true,
        }),
        ..swept.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::containment::state::Mode;
    use crate::domain::containment::target::Principal;
    use crate::domain::id::{AgentId, ContainmentId};

    fn asset(kind: &'static str, id: &str) -> AssetRef {
        AssetRef {
            kind: Kind::named(kind),
            region: Region("eu-west-1".to_owned()),
            id: id.to_owned(),
        }
    }

    fn canary() -> Canary {
        Canary {
            drill: DrillId(uuid::Uuid::nil()),
            by: "operator".to_owned(),
            assets: BTreeSet::from([asset("instance", "i-1"), asset("group", "g")]),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn it_covers_what_is_on_its_list_and_no_principal() {
        let instance = |id: &str| Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: id.to_owned(),
        };
        assert!(canary().covers(&instance("i-1")));
        assert!(!canary().covers(&instance("i-2")));
        let group = |id: &str| Resource::Asset {
            asset: asset("group", id),
        };
        assert!(canary().covers(&group("g")) && !canary().covers(&group("h")));
        let role = Principal::Role("arn:aws:iam::123456789012:role/a".to_owned());
        assert!(!canary().covers(&Resource::Principal { principal: role }));
    }

    #[test]
    fn narrowed_targets_hold_no_principal_and_no_other_region() {
        let targets = CloudTargets {
            account: "123456789012".to_owned(),
            principals: vec![Principal::Role("arn:aws:iam::123456789012:role/a".to_owned())],
            tags: BTreeMap::from([("backstop:agent".to_owned(), "a".to_owned())]),
            regions: Vec::new(),
        };
        let narrow = canary().narrow(&targets);
        assert_eq!(
            (narrow.principals.len(), narrow.regions, &narrow.tags),
            (0, vec![Region("eu-west-1".to_owned())], &targets.tags)
        );
        let elsewhere = CloudTargets {
            regions: vec![Region("us-east-1".to_owned())],
            ..targets
        };
        let narrow = canary().narrow(&elsewhere);
        assert_eq!(
            narrow.regions, elsewhere.regions,
            "it is not let into what is not declared"
        );
    }

    #[test]
    fn it_is_put_back_when_it_is_proved_or_its_time_is_over() {
        let (id, agent) = (ContainmentId(uuid::Uuid::nil()), AgentId::new("a").unwrap());
        let mut swept = Containment::opened(id, agent, 1, Mode::Contain, "", at(0));
        assert_eq!(
            put_back(&swept, at(10_000)),
            None,
            "a containment is held until a reset"
        );
        swept.canary = Some(canary());
        assert_eq!(put_back(&swept, at(599)), None);
        let late = put_back(&swept, at(600)).unwrap();
        assert_eq!((late.phase, late.restoring_at), (Phase::Restoring, Some(at(600))));
        assert!(late.restore.clone().unwrap().lines_checked);
        assert_eq!(put_back(&late, at(700)), None);
        swept.phase = Phase::Contained;
        assert_eq!(put_back(&swept, at(30)).unwrap().phase, Phase::Restoring);
    }

    #[test]
    fn what_cannot_come_back_is_no_candidate() {
        let mut plan = RegionPlan::empty(Region("eu-west-1".to_owned()));
        plan.stops = vec![vec!["i-1".to_owned()]];
        plan.ends = vec![asset("ecs-task", "t")];
        plan.burning = vec![StillBurning {
            resource: asset("instance", "i-spot").to_string(),
            why: "it is a one-time spot instance".to_owned(),
        }];
        let marked = ["i-1", "i-spot", "i-down"].map(|id| asset("instance", id));
        let marked = marked.into_iter().chain([asset("ecs-task", "t")]).collect();
        let found = Candidates::of(&[plan], &marked);
        let ids: Vec<&str> = found.fit.iter().map(|one| one.asset.id.as_str()).collect();
        assert_eq!(ids, ["i-1"]);
        let unfit: BTreeSet<&str> = found.unfit.iter().map(|line| line.resource.as_str()).collect();
        let expected = [
            "ecs-task:eu-west-1/t",
            "instance:eu-west-1/i-down",
            "instance:eu-west-1/i-spot",
        ];
        assert_eq!(unfit, expected.into());
    }
}
