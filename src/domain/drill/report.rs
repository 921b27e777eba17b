//! The report of a plan drill: what a containment would do now, what it would leave, and what is proved of it.
//!
//! It is made from the plan alone, with what the cloud answered beside it: nothing here decides what would be
//! stopped, so a drill cannot tell of another containment than the one that would run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Outcome;
use super::predict::Prediction;
use crate::domain::containment::coverage::MAX_LISTED;
use crate::domain::containment::hourly::PriceBasis;
use crate::domain::containment::observed::Instance;
use crate::domain::containment::plan::{Plan, RegionView};
use crate::domain::containment::state::{Action, FleetBurn, StillBurning};
use crate::domain::containment::target::{Principal, Resource};
use crate::domain::fleet::asset::{Asset, AssetRef};
use crate::domain::fleet::owner::Owners;
use crate::domain::fleet::price::FleetPrices;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;

/// Orphans that are named, the dearest first; the others are counted.
const ORPHANS: usize = 20;

/// One step of the plan, on one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedStep {
    pub action: Action,
    pub resource: Resource,
}

/// What is known of whether a step would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "proof")]
pub enum Proof {
    /// The cloud checked the very call and would have made it (EC2's DryRun).
    DryRun,
    /// IAM's policy simulation says that we may.
    Simulated,
    /// It would be refused.
    Refused { why: String },
    /// It is not provable without doing it.
    Unproved { why: String },
}

impl Proof {
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { why } => Some(why),
            Self::DryRun | Self::Simulated | Self::Unproved { .. } => None,
        }
    }
}

/// Whether a step would be allowed, and whether what undoes it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proofs {
    pub done: Proof,
    /// `None` for what is not undone.
    pub undone: Option<Proof>,
}

/// A step as it was rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    pub action: Action,
    pub resource: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<String>,
    #[serde(flatten)]
    pub proof: Proof,
    /// Whether a reset could put it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Proof>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub resource: String,
    pub why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<String>,
}

/// What is near and stays untouched, added up by whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// Another agent; nobody for orphans.
    pub owner: Option<AgentId>,
    pub assets: usize,
    pub usd_per_hour: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dollars {
    pub before_usd_per_hour: String,
    pub saved_usd_per_hour: String,
    pub left_usd_per_hour: String,
    pub basis: PriceBasis,
}

/// Calls to the cloud, by operation. A look of many pages is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// What the drill made: the looks are those of a sweep.
    pub made: BTreeMap<String, u64>,
    /// What a containment would change.
    pub foreseen: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    pub account: Option<String>,
    /// How many steps there are, by action.
    pub counts: BTreeMap<String, usize>,
    pub steps: Vec<Rehearsed>,
    pub steps_left_out: usize,
    /// What would go on costing, and why.
    pub still_burning: Vec<Line>,
    /// What keeps a containment from working, or a drill from telling: somebody has to do something.
    pub gaps: Vec<Line>,
    /// What is not provable without doing it, by action, and why.
    pub unproved: Vec<Line>,
    pub untouched: Vec<Near>,
    /// Of what nobody owns, the dearest.
    pub orphans: Vec<Line>,
    /// The guard's own, which would match.
    pub guarded: Vec<String>,
    /// What a person would be asked about.
    pub asked: Vec<Line>,
    /// `None` where no region was looked at.
    pub dollars: Option<Dollars>,
    pub predicted: Prediction,
    pub calls: Calls,
}

/// What a report is made from.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    pub agent: &'a AgentId,
    pub account: Option<&'a str>,
    pub plan: &'a Plan,
    /// What would go on burning, as a containment's coverage would say it.
    pub burning: &'a [StillBurning],
    pub burn: Option<FleetBurn>,
    pub views: &'a [RegionView],
    pub owners: &'a Owners,
    /// Who made what, as far as it is known: ARNs of principals.
    pub makers: &'a BTreeMap<AssetRef, String>,
    pub prices: &'a FleetPrices,
    pub proofs: &'a BTreeMap<PlannedStep, Proofs>,
    pub predicted: Prediction,
    pub calls: Calls,
}

/// Every step of a plan, in its order.
pub fn steps(plan: &Plan) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let mut add = |action, resource| steps.push(PlannedStep { action, resource });
    for deny in &plan.principals.denies {
        let action = if deny.attach {
            Action::AttachDeny
        } else {
            Action::PutDeny
        };
        let principal = deny.principal.clone();
        add(action, Resource::Principal { principal });
    }
    for key in &plan.principals.keys {
        let (user, key_id) = (key.user.clone(), key.key_id.clone());
        add(Action::DeactivateKey, Resource::AccessKey { user, key_id });
    }
    for one in &plan.principals.credentials {
        let (user, id) = (one.user.clone(), one.id.clone());
        add(Action::DeactivateCredential, Resource::ServiceCredential { user, id });
    }
    for region in &plan.regions {
        for cap in region.caps.iter().chain(&region.cap_probes) {
            add(
                Action::Cap,
                Resource::Asset {
                    asset: cap.asset.clone(),
                },
            );
        }
        for asset in region.ends.iter().chain(&region.end_probes) {
            add(Action::End, Resource::Asset { asset: asset.clone() });
        }
        let machines = |ids: &Vec<Vec<String>>| -> Vec<Resource> {
            let ids = ids.iter().flatten().cloned();
            let region = || region.region.clone();
            ids.map(|id| Resource::Instance { region: region(), id }).collect()
        };
        for resource in machines(&region.stops) {
            add(Action::StopInstance, resource);
        }
        for resource in machines(&region.terminates) {
            add(Action::TerminateInstance, resource);
        }
    }
    steps
}

/// What undoes a step; `None` for what is not undone.
pub fn undoes(action: Action) -> Option<Action> {
    match action {
        Action::PutDeny => Some(Action::LiftDeny),
        Action::AttachDeny => Some(Action::DetachDeny),
        Action::DeactivateKey => Some(Action::ActivateKey),
        Action::DeactivateCredential => Some(Action::ActivateCredential),
        Action::Cap => Some(Action::Uncap),
        Action::StopInstance => Some(Action::StartInstance),
        Action::End
        | Action::TerminateInstance
        | Action::StartInstance
        | Action::LiftDeny
        | Action::DetachDeny
        | Action::ActivateKey
        | Action::ActivateCredential
        | Action::Uncap => None,
    }
}

impl PlanReport {
    pub fn of(input: &Rehearsal<'_>) -> Self {
        let steps = steps(input.plan);
        let costs = costs(input.plan);
        let price = |id: &str| costs.get(id).map(|(usd, _)| usd.to_string());
        let mut counts = BTreeMap::new();
        let mut rehearsed = Vec::new();
        let (mut gaps, mut saved) = (Vec::new(), Usd::ZERO);
        let mut unproved: BTreeMap<(Action, String), usize> = BTreeMap::new();
        for step in &steps {
            *counts.entry(step.action.as_str().to_owned()).or_default() += 1;
            let id = step.resource.to_string();
            let nobody_asked = || Proof::Unproved {
                why: "it was not asked about".to_owned(),
            };
            let proofs = input.proofs.get(step);
            let proof = proofs.map_or_else(nobody_asked, |proofs| proofs.done.clone());
            let back = proofs.and_then(|proofs| proofs.undone.clone());
            if let Some(why) = proof.refusal() {
                gaps.push(line(
                    &id,
                    format!("{} would be refused: {why}", step.action.as_str()),
                    price(&id),
                ));
            } else {
                let stops = matches!(
                    step.action,
                    Action::StopInstance | Action::TerminateInstance | Action::End
                );
                let spared = costs.get(id.as_str()).filter(|_| stops);
                saved = spared.map_or(saved, |(usd, _)| saved.saturating_add(*usd));
            }
            if let Some(why) = back.as_ref().and_then(Proof::refusal) {
                gaps.push(line(&id, format!("a reset could not put it back: {why}"), None));
            }
            if let Proof::Unproved { why } = &proof {
                *unproved.entry((step.action, why.clone())).or_default() += 1;
            }
            rehearsed.push(Rehearsed {
                action: step.action,
                what: costs
                    .get(id.as_str())
                    .map(|(_, what)| (*what).to_owned())
                    .unwrap_or_default(),
                usd_per_hour: price(&id),
                resource: id,
                proof,
                back,
            });
        }
        gaps.extend(blind(input.plan));
        let steps_left_out = rehearsed.len().saturating_sub(MAX_LISTED);
        rehearsed.truncate(MAX_LISTED);
        let done: BTreeSet<String> = steps.iter().map(|step| step.resource.to_string()).collect();
        let said: BTreeSet<&str> = gaps.iter().map(|gap| gap.resource.as_str()).collect();
        let burning = input.burning.iter();
        let burning = burning.filter(|one| !done.contains(&one.resource) && !said.contains(one.resource.as_str()));
        let still_burning: Vec<Line> = burning
            .map(|one| line(&one.resource, one.why.clone(), price(&one.resource)))
            .collect();
        let (untouched, orphans) = near(input, &done);
        let unproved = unproved.into_iter().map(|((action, why), count)| {
            let steps = if count == 1 { "step" } else { "steps" };
            line(action.as_str(), format!("{count} {steps}: {why}"), None)
        });
        let asked = input.plan.regions.iter().flat_map(|region| &region.ask);
        Self {
            account: input.account.map(str::to_owned),
            counts,
            steps: rehearsed,
            steps_left_out,
            still_burning: bounded(still_burning),
            gaps: bounded(gaps),
            unproved: unproved.collect(),
            untouched,
            orphans,
            guarded: input.plan.guarded().cloned().collect(),
            asked: bounded(asked.map(|one| line(&one.resource, one.why.clone(), None)).collect()),
            dollars: input.burn.map(|burn| Dollars {
                before_usd_per_hour: burn.now.to_string(),
                saved_usd_per_hour: saved.to_string(),
                left_usd_per_hour: burn.now.saturating_sub(saved).to_string(),
                basis: burn.basis,
            }),
            predicted: input.predicted.clone(),
            calls: input.calls.clone(),
        }
    }

    pub fn outcome(&self) -> Outcome {
        if self.gaps.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed
        }
    }

    /// One sentence.
    pub fn summary(&self) -> String {
        let counts: Vec<String> = self
            .counts
            .iter()
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        let would = if counts.is_empty() {
            "nothing to do in the cloud".to_owned()
        } else {
            format!("would {}", counts.join(", "))
        };
        let dollars = self.dollars.as_ref().map_or_else(String::new, |dollars| {
            let (saved, before) = (&dollars.saved_usd_per_hour, &dollars.before_usd_per_hour);
            format!("; saves ${saved} of ${before} an hour")
        });
        let time = format!("; contained in about {:.0} s", self.predicted.contained.likely_s);
        let gaps = match self.gaps.len() {
            0 => String::new(),
            1 => "; 1 gap".to_owned(),
            many => format!("; {many} gaps"),
        };
        format!("{would}{dollars}{time}{gaps}")
    }
}

fn line(resource: &str, why: String, usd_per_hour: Option<String>) -> Line {
    Line {
        resource: resource.to_owned(),
        why,
        usd_per_hour,
    }
}

fn bounded(mut lines: Vec<Line>) -> Vec<Line> {
    if lines.len() > MAX_LISTED {
        let more = lines.len() - MAX_LISTED;
        lines.truncate(MAX_LISTED);
        lines.push(line("more", format!("{more} further lines are left out"), None));
    }
    lines
}

/// What each thing costs, and what it is, by its stable id.
fn costs(plan: &Plan) -> BTreeMap<&str, (Usd, &str)> {
    let each = plan.regions.iter().flat_map(|region| &region.costs);
    each.map(|(id, cost)| (id.as_str(), (cost.hourly.usd, cost.what.as_str())))
        .collect()
}

/// What could not be looked at, and principals that are not what the agent declares.
fn blind(plan: &Plan) -> Vec<Line> {
    let guarded: BTreeSet<&String> = plan.guarded().collect();
    let regions = plan.regions.iter().flat_map(|region| &region.unseen);
    let lines = plan.unseen.iter().chain(&plan.principals.unseen);
    let lines = lines.chain(&plan.principals.burning).chain(regions);
    lines
        .filter(|one| !guarded.contains(&one.resource))
        .map(|one| line(&one.resource, one.why.clone(), None))
        .collect()
}

/// What is not the agent's: added up by owner, and the dearest orphans.
fn near(input: &Rehearsal<'_>, done: &BTreeSet<String>) -> (Vec<Near>, Vec<Line>) {
    let mut sums: BTreeMap<Option<AgentId>, (usize, Usd)> = BTreeMap::new();
    let mut orphans: Vec<(Usd, String)> = Vec::new();
    for view in input.views {
        let machines = view.instances.iter().flatten().map(Instance::to_asset);
        let others = view.assets.values().flatten().flatten().cloned();
        let all: Vec<Asset> = machines.chain(others).collect();
        let account = input.account.unwrap_or_default();
        let owners = input.owners.attribute(&all, input.makers, &BTreeMap::new(), account);
        for asset in &all {
            let id = asset.what.to_string();
            let owner = owners.get(&asset.what).and_then(|owner| owner.agent());
            let Some(hourly) = input.prices.asset(asset) else {
                continue;
            };
            let is_ours = owner == Some(input.agent) || done.contains(&id);
            if is_ours || input.plan.guarded().any(|guarded| *guarded == id) {
                continue;
            }
            let sum = sums.entry(owner.cloned()).or_insert((0, Usd::ZERO));
            *sum = (sum.0 + 1, sum.1.saturating_add(hourly.usd));
            if owner.is_none() {
                orphans.push((hourly.usd, id));
            }
        }
    }
    orphans.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let sums = sums.into_iter().map(|(owner, (assets, usd))| Near {
        owner,
        assets,
        usd_per_hour: usd.to_string(),
    });
    let orphans = orphans.into_iter().take(ORPHANS);
    let why = "nobody owns it: it carries no agent's tag, role or creator";
    let orphans = orphans.map(|(usd, id)| line(&id, why.to_owned(), Some(usd.to_string())));
    (sums.collect(), orphans.collect())
}

/// The ARN of a principal that stands for the agent where it is asked who made something.
pub fn makers(principals: &[Principal], created: &BTreeSet<AssetRef>) -> BTreeMap<AssetRef, String> {
    let Some(first) = principals.first() else {
        return BTreeMap::new();
    };
    created
        .iter()
        .map(|asset| (asset.clone(), first.arn().to_owned()))
        .collect()
}
