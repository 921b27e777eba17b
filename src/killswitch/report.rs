//! What would happen: the plan of a containment and the impact of a reset, with nothing changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde::Serialize;

use super::driver::{KillSwitch, look_without_touching};
use super::pass::{Pass, PassError};
use super::restoring;
use super::settings::KillSettings;
use crate::domain::containment::attribution::attribution;
use crate::domain::containment::coverage::after_sweep;
use crate::domain::containment::hourly::{Hourly, PriceBasis};
use crate::domain::containment::plan::Plan;
use crate::domain::containment::restore::{RestorePlan, Uncap};
use crate::domain::containment::state::{Action, Containment, Coverage, Mode, Phase, RestoreRequest, StillBurning};
use crate::domain::containment::target::Resource;
use crate::domain::containment::worth;
use crate::domain::drill::report::{PlannedStep, Proof};
use crate::domain::fleet::price::FleetPrices;
use crate::domain::fleet::rate::RateKey;
use crate::domain::id::{AgentId, ContainmentId};
use crate::domain::money::Usd;
use crate::ports::{Cloud, InstanceFilter, Lease};

/// What `contain` would do now.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    pub agent: AgentId,
    pub mode: Mode,
    /// The account of our credentials, if it could be learnt.
    pub account: Option<String>,
    /// The containment that holds the agent already, if one does.
    pub live: Option<ContainmentId>,
    pub plan: Plan,
    /// What the plan proves and what would go on burning.
    pub coverage: Coverage,
    /// Machines whose stop the cloud says it would refuse (EC2 DryRun), and why.
    pub would_refuse: Vec<StillBurning>,
}

/// What `reset` would do now.
#[derive(Debug, Clone, Serialize)]
pub struct ResetImpact {
    pub agent: AgentId,
    pub containment: ContainmentId,
    pub plan: RestorePlan,
    pub starts: Vec<StartImpact>,
    /// What is uncapped once the machines are up: it starts others by itself.
    pub uncaps: Vec<UncapImpact>,
    /// Dollars an hour that it starts again, at list prices.
    pub usd_per_hour: Usd,
    /// Machines whose price is not known: a ceiling stands for it (L7).
    pub unpriced: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct UncapImpact {
    #[serde(flatten)]
    pub uncap: Uncap,
    /// What it costs again, with what it starts besides machines; `None` where that was never seen.
    pub hourly: Option<Hourly>,
}

#[derive(Debug, Clone, Serialize)]
pub struct StartImpact {
    pub resource: String,
    pub instance_type: String,
    pub hourly: Hourly,
}

/// Why there is no impact to tell.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("the agent is not contained")]
    NotContained,
    #[error(transparent)]
    Pass(#[from] PassError),
}

impl KillSwitch {
    /// The plan of a containment, as `contain --dry-run` prints it. Reads only.
    pub async fn dry_run(&self, agent: &AgentId, mode: Mode) -> Result<PlanReport, PassError> {
        // A canary drill is no containment of the agent's.
        let live = self.live(agent).await?.filter(|live| live.canary.is_none());
        let containment = live.clone().unwrap_or_else(|| self.imagined(agent, mode));
        let pass = self.imagined_pass(&*self.cloud, self.settings(), containment).await?;
        let known = self.known(&pass.settings, &pass.containment).await?;
        let plan = look_without_touching(&pass, &known).await.plan;
        let would_refuse = refusals(&pass, &plan).await;
        let (containment, rules, now) = (&pass.containment, &pass.settings.rules, pass.now());
        let attribution = attribution(containment, &plan, &known.readings, rules, now);
        let (after, _) = after_sweep(containment, &plan, now, SignedDuration::ZERO, &attribution);
        Ok(PlanReport {
            agent: agent.clone(),
            mode: pass.containment.mode,
            account: known.account,
            live: live.map(|containment| containment.id),
            coverage: after.coverage,
            plan,
            would_refuse,
        })
    }

    /// What a reset would put back, and what it would cost an hour. Reads only.
    pub async fn impact(&self, agent: &AgentId, only: &[String]) -> Result<ResetImpact, ReportError> {
        let live = self.live(agent).await?.filter(|live| live.canary.is_none());
        let live = live.ok_or(ReportError::NotContained)?;
        let now = self.clock.now();
        let imagined = Containment {
            phase: Phase::Restoring,
            restoring_at: live.restoring_at.or(Some(now)),
            restore: Some(live.restore.clone().unwrap_or_else(|| RestoreRequest {
                by: String::new(),
                at: now,
                only: only.to_vec(),
                lines_checked: true,
            })),
            ..live
        };
        let pass = self.imagined_pass(&*self.cloud, self.settings(), imagined).await?;
        let known = self.known(&pass.settings, &pass.containment).await?;
        let (plan, uncaps) = restoring::look_ahead(&pass, &known).await;
        let starts = starts(&pass, &plan, &known.prices).await;
        let cost = &pass.containment.coverage.hourly;
        let uncaps: Vec<UncapImpact> = uncaps
            .into_iter()
            .map(|uncap| UncapImpact {
                hourly: worth::uncapped(&uncap, &pass.images, cost),
                uncap,
            })
            .collect();
        let again = starts.iter().map(|start| start.hourly);
        let again = again.chain(uncaps.iter().filter_map(|uncap| uncap.hourly));
        Ok(ResetImpact {
            agent: agent.clone(),
            containment: pass.containment.id,
            usd_per_hour: again.fold(Usd::ZERO, |sum, hourly| sum.saturating_add(hourly.usd)),
            unpriced: starts
                .iter()
                .filter(|start| start.hourly.basis == PriceBasis::Ceiling)
                .count(),
            starts,
            uncaps,
            plan,
        })
    }

    pub(super) async fn live(&self, agent: &AgentId) -> Result<Option<Containment>, PassError> {
        let live = self.store.live_containments().await?;
        Ok(live.into_iter().find(|containment| containment.agent == *agent))
    }

    /// A pass that will never write: it has no lease.
    pub(super) async fn imagined_pass<'a>(
        &'a self,
        cloud: &'a dyn Cloud,
        settings: Arc<KillSettings>,
        containment: Containment,
    ) -> Result<Pass<'a>, PassError> {
        let images = self.store.images(&containment.agent).await?;
        let steps = self.store.steps(containment.id).await?;
        let lease = Lease {
            name: String::new(),
            holder: String::new(),
            token: 0,
            expires_at: self.clock.now(),
        };
        Ok(Pass::new(
            &*self.store,
            cloud,
            &*self.clock,
            &*self.entropy,
            settings,
            containment,
            images,
            steps,
            lease,
        ))
    }

    pub(super) fn imagined(&self, agent: &AgentId, mode: Mode) -> Containment {
        let now = self.clock.now();
        let id = ContainmentId(self.entropy.id(now));
        Containment {
            version: 0,
            ..Containment::opened(id, agent.clone(), 0, mode, "dry run", now)
        }
    }
}

/// What the cloud would refuse, or could not be asked about.
async fn refusals(pass: &Pass<'_>, plan: &Plan) -> Vec<StillBurning> {
    let asked = dry_run_stops(pass, plan).await;
    let refused = asked.into_iter().filter_map(|(step, proof)| {
        let why = match proof {
            Proof::Refused { why } | Proof::Unproved { why } => why,
            Proof::DryRun | Proof::Simulated => return None,
        };
        let resource = step.resource.to_string();
        Some(StillBurning { resource, why })
    });
    refused.collect()
}

/// Asks the cloud whether the planned stops would be allowed.
pub(super) async fn dry_run_stops(pass: &Pass<'_>, plan: &Plan) -> BTreeMap<PlannedStep, Proof> {
    let caller = pass.caller(pass.settings.step_patience);
    let mut proofs = BTreeMap::new();
    for region in &plan.regions {
        for ids in &region.stops {
            let mut note = |id: &String, proof| {
                let (region, id) = (region.region.clone(), id.clone());
                let resource = Resource::Instance { region, id };
                let action = Action::StopInstance;
                proofs.insert(PlannedStep { action, resource }, proof);
            };
            match caller.reach(|| pass.cloud.may_stop(&region.region, ids)).await {
                Ok(answer) => {
                    let silent = || Proof::Unproved {
                        why: "the answer did not mention it".to_owned(),
                    };
                    ids.iter().for_each(|id| note(id, silent()));
                    answer.accepted.iter().for_each(|id| note(id, Proof::DryRun));
                    for (id, refused) in &answer.refused {
                        let why = format!("{}: {}", refused.code, refused.message);
                        note(id, Proof::Refused { why });
                    }
                }
                Err(failure) => {
                    let why = format!("it could not be asked: {}", failure.why);
                    for id in ids {
                        let why = why.clone();
                        note(id, Proof::Unproved { why });
                    }
                }
            }
        }
    }
    proofs
}

/// What each machine that would start is, and costs.
async fn starts(pass: &Pass<'_>, plan: &RestorePlan, prices: &FleetPrices) -> Vec<StartImpact> {
    let caller = pass.caller(pass.settings.step_patience);
    let mut starts = Vec::new();
    for (region, batches) in &plan.starts {
        for ids in batches {
            let filter = InstanceFilter::Ids(ids.clone());
            let seen = caller
                .reach(|| pass.cloud.instances(region, &filter))
                .await
                .unwrap_or_default();
            for id in ids {
                let kind = seen
                    .iter()
                    .find(|instance| instance.id == *id)
                    .map_or("unknown", |instance| instance.instance_type.as_str());
                starts.push(StartImpact {
                    resource: format!("instance:{region}/{id}"),
                    instance_type: kind.to_owned(),
                    hourly: prices.unit(region, &RateKey(format!("ec2/{kind}"))),
                });
            }
        }
    }
    starts
}
