//! The plan: everything a sweep does next, from what was observed and what is recorded.
//!
//! It is pure and complete. It leaves execution no choices: what is in it is recorded (C1) and then
//! done, in its order, and what is not in it is not touched. Planning again after the plan was carried
//! out yields nothing to do, so a sweep that crashed is simply planned anew (C6).
//!
//! A plan has a part for the principals and one for each region, which are made and carried out apart,
//! so that a region that is down never holds back the others. A region's part is made in two: what starts
//! others is capped first, and then what runs is planned by what became of that. Each part says
//! - what to do (images to record first, denies, keys, caps, ends, stops in batches),
//! - what is *waiting*: it will be stoppable, but is not yet,
//! - what is *unseen*: an observation that failed, behind which anything may run,
//! - what is *still burning*: it runs, and nothing we are allowed to do stops it (C3).
//!
//! A sweep is *quiet* when there is nothing to do, nothing waits and nothing is unseen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::hourly::Hourly;
use super::image::{Before, BeforeImage};
use super::memory::unlisted_regions;
use super::observed::{Instance, PrincipalState};
use super::restore::Settled;
use super::revoke::plan_principals;
use super::spawners::plan_spawners;
use super::state::{Action, Containment, Mode, Step, StepState, StillBurning};
use super::steps::Steps;
use super::stop::plan_region;
use super::target::{CloudTargets, Guard, Principal, Region, Resource};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::price::FleetPrices;
use crate::domain::id::AgentId;

/// The unrestored before-images of an agent, of every generation.
pub type Images = BTreeMap<Resource, BeforeImage>;

/// What was seen, or why it could not be.
pub type Seen<T> = Result<T, String>;

/// Settings of the rules, from the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanRules {
    /// Instances in one stop or start call at most.
    pub batch: usize,
    /// Terminate what cannot be stopped (one-time spot, instance store); their disks are lost.
    pub terminate_unstoppable: bool,
    /// What is stuck on its way for this long counts as still burning, so that one stuck machine does
    /// not keep a containment from ever being proved.
    pub stuck_after: SignedDuration,
    /// How often to try again what was refused for good.
    pub probe_every: SignedDuration,
    /// How long creator events may be on their way (CloudTrail: minutes). `None` while nothing reads
    /// them: then the coverage says that machines without tag or profile are not looked for.
    pub attribution_lag: Option<SignedDuration>,
    /// How much longer it is waited for that they are read, before what cannot be read is *still burning*.
    pub attribution_patience: SignedDuration,
}

impl Default for PlanRules {
    fn default() -> Self {
        Self {
            batch: 50,
            terminate_unstoppable: false,
            stuck_after: SignedDuration::from_mins(5),
            probe_every: SignedDuration::from_secs(60),
            attribution_lag: None,
            attribution_patience: SignedDuration::from_mins(30),
        }
    }
}

/// What every part of a plan needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub now: Timestamp,
    pub containment: &'a Containment,
    pub targets: &'a CloudTargets,
    pub guard: &'a Guard,
    /// The account of our credentials; `None` while it is not known.
    pub account: Option<&'a str>,
    pub images: &'a Images,
    pub steps: &'a Steps,
    /// What people decided on foreign matches of this containment, by stable id.
    pub foreign: &'a BTreeMap<String, bool>,
    /// What the cloud's own record says that the agent's principals made.
    pub created: &'a BTreeSet<AssetRef>,
    /// What every other declared agent is known by.
    pub others: &'a Others,
    /// For telling what things cost.
    pub prices: &'a FleetPrices,
    pub rules: &'a PlanRules,
}

/// What another agent is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its ownership tags.
    pub tags: BTreeMap<String, String>,
    /// ARNs of its roles and users.
    pub principals: BTreeSet<String>,
}

pub type Others = BTreeMap<AgentId, Marks>;

impl Frame<'_> {
    /// Whether a region is one that the agent declares; none declared means every one.
    pub fn declares(&self, region: &Region) -> bool {
        self.targets.regions.is_empty() || self.targets.regions.contains(region)
    }

    /// The principals to hold down: those declared, and those that we changed when they still were.
    pub fn principals(&self) -> BTreeSet<Principal> {
        let changed = self.images.keys().filter_map(|resource| match resource {
            Resource::Principal { principal } => Some(principal.clone()),
            _ => None,
        });
        self.targets.principals.iter().cloned().chain(changed).collect()
    }

    /// Whether a region is within what the agent declares, in its own account.
    pub fn in_scope(&self, region: &Region) -> bool {
        self.declares(region) && self.account == Some(self.targets.account.as_str())
    }

    /// What is stuck on its way since then is still burning, and no longer waited for.
    pub fn is_stuck(&self, since: Timestamp) -> bool {
        self.now.duration_since(since) >= self.rules.stuck_after
    }

    /// The step, if it was refused for good, or for so long that it comes to the same: said, and tried again
    /// now and then, but it does not keep the rest from being proved.
    pub fn refused(&self, action: Action, resource: &Resource) -> Option<&Step> {
        self.steps.get(action, resource).filter(|step| match step.state {
            StepState::GivenUp => true,
            StepState::Failing => self.is_stuck(step.first_at),
            StepState::Started | StepState::Done => false,
        })
    }

    /// Whether it is time to try again what was refused.
    pub fn is_due(&self, step: &Step) -> bool {
        self.now.duration_since(step.last_at) >= self.rules.probe_every
    }

    /// Whether what is seen to be done now is by a call of ours that is not noted yet: it was under way when
    /// we crashed, or somebody undid what an earlier one did and this one did it again.
    pub fn adopts(&self, action: Action, resource: &Resource) -> bool {
        let Some(image) = self.images.get(resource) else {
            return false;
        };
        let unnoted = |step: &Step| image.changed_at.is_none_or(|noted| noted < step.last_at);
        let step = self.steps.since(action, resource, image.recorded_at);
        step.is_some_and(|step| step.may_have_happened() && unnoted(step))
    }

    pub fn image(&self, resource: &Resource, before: Before) -> BeforeImage {
        BeforeImage {
            agent: self.containment.agent.clone(),
            resource: resource.clone(),
            before,
            containment: self.containment.id,
            account: self.account.map(str::to_owned),
            recorded_at: self.now,
            changed_at: None,
            restored_at: None,
            outcome: None,
        }
    }
}

/// One region as it was seen.
#[derive(Debug, Clone)]
pub struct RegionView {
    pub region: Region,
    /// When the look began.
    pub observed_at: Timestamp,
    pub instances: Seen<Vec<Instance>>,
    /// Everything else, each kind on its own: one that cannot be listed hides no other.
    pub assets: BTreeMap<Kind, Seen<Vec<Asset>>>,
}

/// Everything a whole plan is made from.
#[derive(Debug, Clone)]
pub struct PlanInput<'a> {
    pub frame: Frame<'a>,
    pub principals: Vec<(Principal, Seen<PrincipalState>)>,
    /// `Err` when the regions themselves could not be listed.
    pub regions: Seen<Vec<RegionView>>,
    /// Roles that trust the agent's principals.
    pub trusting: Seen<Vec<String>>,
}

/// What to do about the principals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrincipalPlan {
    pub images: Vec<BeforeImage>,
    pub denies: Vec<PlannedDeny>,
    pub keys: Vec<PlannedKey>,
    /// Credentials of single services.
    pub credentials: Vec<PlannedCredential>,
    /// Changed by us, as we now see, before a crash kept us from writing so.
    pub adopted: Vec<Resource>,
    /// Stable ids of what is denied now.
    pub denied: Vec<String>,
    pub burning: Vec<StillBurning>,
    pub unseen: Vec<StillBurning>,
    /// Targets that turned out to be the guard: skipped and reported (C5).
    pub guarded: Vec<String>,
    /// The instance profiles of the agent's roles.
    pub profiles: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDeny {
    pub principal: Principal,
    /// By the managed policy at once: the inline one is known to have no room.
    pub attach: bool,
    /// It was in place and somebody took it away: put it back, and raise the alarm.
    pub put_back: bool,
    /// What has come of it so far, for a person.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedKey {
    pub user: String,
    pub key_id: String,
    /// As `put_back` of a deny.
    pub put_back: bool,
}

/// A credential for one service, to be made inactive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedCredential {
    pub user: String,
    pub id: String,
    /// As `put_back` of a deny.
    pub put_back: bool,
}

/// What to do in one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegionPlan {
    pub region: Region,
    /// Before-images whose settings somebody changed since the containment that recorded them: settled
    /// before the images below are recorded in their place.
    pub superseded: Vec<Settled>,
    pub images: Vec<BeforeImage>,
    /// What starts others, or costs by its own settings: halted first.
    pub caps: Vec<PlannedCap>,
    /// Caps that were refused for good and are tried again now and then.
    pub cap_probes: Vec<PlannedCap>,
    /// What is ended for good, such as tasks.
    pub ends: Vec<AssetRef>,
    /// Likewise; and what is started anew by something that cannot be capped.
    pub end_probes: Vec<AssetRef>,
    pub stops: Vec<Vec<String>>,
    pub terminates: Vec<Vec<String>>,
    /// Stops that were refused for good and are tried again now and then; no sign of unrest.
    pub probes: Vec<Vec<String>>,
    /// Terminations that were refused, likewise.
    pub terminate_probes: Vec<Vec<String>>,
    pub adopted: Vec<Resource>,
    pub stopped: Vec<String>,
    pub capped: Vec<String>,
    pub ended: Vec<String>,
    pub waiting: Vec<StillBurning>,
    pub burning: Vec<StillBurning>,
    pub unseen: Vec<StillBurning>,
    pub guarded: Vec<String>,
    /// Matches outside the declared accounts and regions: a person is asked.
    pub ask: Vec<ForeignMatch>,
    /// What each of the agent's things costs an hour, by stable id: what runs, and what ran before we
    /// stopped it.
    pub costs: BTreeMap<String, AssetCost>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssetCost {
    /// What it is charged for, such as `m7g.large`.
    pub what: String,
    pub hourly: Hourly,
    pub runs: bool,
}

/// Settings that halt an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedCap {
    pub asset: AssetRef,
    pub settings: Settings,
    /// It was capped and somebody undid it: cap it again, and raise the alarm.
    pub put_back: bool,
}

impl RegionPlan {
    pub fn empty(region: Region) -> Self {
        Self {
            region,
            superseded: Vec::new(),
            images: Vec::new(),
            caps: Vec::new(),
            cap_probes: Vec::new(),
            ends: Vec::new(),
            end_probes: Vec::new(),
            stops: Vec::new(),
            terminates: Vec::new(),
            probes: Vec::new(),
            terminate_probes: Vec::new(),
            adopted: Vec::new(),
            stopped: Vec::new(),
            capped: Vec::new(),
            ended: Vec::new(),
            waiting: Vec::new(),
            burning: Vec::new(),
            unseen: Vec::new(),
            guarded: Vec::new(),
            ask: Vec::new(),
            costs: BTreeMap::new(),
        }
    }

    pub fn is_quiet(&self) -> bool {
        !self.found_something() && self.unseen.is_empty()
    }

    /// Whether something runs that is to be down.
    pub fn found_something(&self) -> bool {
        !self.caps.is_empty()
            || !self.ends.is_empty()
            || !self.stops.is_empty()
            || !self.terminates.is_empty()
            || !self.waiting.is_empty()
    }

    /// Both parts of a region's plan as one.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.superseded.extend(other.superseded);
        self.images.extend(other.images);
        self.caps.extend(other.caps);
        self.cap_probes.extend(other.cap_probes);
        self.ends.extend(other.ends);
        self.end_probes.extend(other.end_probes);
        self.stops.extend(other.stops);
        self.terminates.extend(other.terminates);
        self.probes.extend(other.probes);
        self.terminate_probes.extend(other.terminate_probes);
        self.adopted.extend(other.adopted);
        self.stopped.extend(other.stopped);
        self.capped.extend(other.capped);
        self.ended.extend(other.ended);
        self.waiting.extend(other.waiting);
        self.burning.extend(other.burning);
        self.unseen.extend(other.unseen);
        self.guarded.extend(other.guarded);
        self.ask.extend(other.ask);
        self.costs.extend(other.costs);
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForeignMatch {
    pub region: Region,
    /// Its stable id.
    pub resource: String,
    pub why: String,
}

impl PrincipalPlan {
    pub fn is_quiet(&self) -> bool {
        !self.changes_something() && self.unseen.is_empty()
    }

    pub fn changes_something(&self) -> bool {
        !(self.denies.is_empty() && self.keys.is_empty() && self.credentials.is_empty())
    }
}

/// A whole sweep's plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub principals: PrincipalPlan,
    pub regions: Vec<RegionPlan>,
    /// Beyond both: roles we do not control, regions that could not be listed.
    pub burning: Vec<StillBurning>,
    pub unseen: Vec<StillBurning>,
    /// Something unseen is still being looked at: the next sweeps will know more.
    pub late: bool,
}

impl Plan {
    /// Nothing to do, nothing on its way, nothing unseen.
    pub fn is_quiet(&self) -> bool {
        self.principals.is_quiet() && self.unseen.is_empty() && self.regions.iter().all(RegionPlan::is_quiet)
    }

    /// Whether something runs or may act that was to be down: found, not merely unseen.
    pub fn found_something(&self) -> bool {
        self.principals.changes_something() || self.regions.iter().any(RegionPlan::found_something)
    }

    /// Whether it says nothing either way: nothing was found, and an answer is still to come.
    pub fn is_undecided(&self) -> bool {
        self.late && !self.is_quiet() && !self.found_something()
    }

    /// Stable ids of guards that matched as targets.
    pub fn guarded(&self) -> impl Iterator<Item = &String> {
        self.principals
            .guarded
            .iter()
            .chain(self.regions.iter().flat_map(|region| &region.guarded))
    }

    pub fn images(&self) -> impl Iterator<Item = &BeforeImage> {
        self.principals
            .images
            .iter()
            .chain(self.regions.iter().flat_map(|region| &region.images))
    }
}

/// Plans a sweep.
pub fn plan(input: &PlanInput<'_>) -> Plan {
    let frame = &input.frame;
    let principals = plan_principals(frame, &input.principals);
    let mut plan = Plan {
        burning: trust_chains(frame, &input.trusting),
        ..Plan::default()
    };
    if frame.containment.mode == Mode::Contain {
        match &input.regions {
            Ok(regions) => {
                plan.regions = regions
                    .iter()
                    .map(|view| {
                        let spawners = plan_spawners(frame, view, &principals.profiles);
                        plan_region(frame, view, &principals.profiles, &spawners).with(spawners.part)
                    })
                    .collect();
            }
            Err(why) => plan.unseen.push(unlisted_regions(why, 0)),
        }
    }
    plan.principals = principals;
    plan
}

/// Roles that the agent may have assumed and that are not its declared own: a session that it took
/// there outlives the deny on its role, and we have no say over it (C3).
pub fn trust_chains(frame: &Frame<'_>, trusting: &Seen<Vec<String>>) -> Vec<StillBurning> {
    let held = frame.principals();
    match trusting {
        Ok(arns) => arns
            .iter()
            .filter(|arn| !held.iter().any(|principal| principal.arn() == arn.as_str()))
            .map(|arn| StillBurning {
                resource: format!("role:{arn}"),
                why: "it trusts the agent's principal and is not declared as the agent's: a session taken there \
                      outlives the deny"
                    .to_owned(),
            })
            .collect(),
        Err(_) if held.is_empty() => Vec::new(),
        Err(why) => vec![StillBurning {
            resource: "trust".to_owned(),
            why: format!("roles that trust the agent's principals could not be listed: {why}"),
        }],
    }
}
