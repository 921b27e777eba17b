//! What would happen: the plan of a containment and the impact of a reset, with nothing changed.

use jiff::SignedDuration;
use serde::Serialize;

use super::driver::{KillSwitch, look_without_touching};
use super::pass::{Pass, PassError};
use super::restoring;
use crate::domain::containment::attribution::attribution;
use crate::domain::containment::coverage::after_sweep;
use crate::domain::containment::hourly::{Hourly, PriceBasis};
use crate::domain::containment::plan::Plan;
use crate::domain::containment::restore::{RestorePlan, Uncap};
use crate::domain::containment::state::{Containment, Coverage, Mode, Phase, RestoreRequest, StillBurning};
use crate::domain::containment::target::{Region, Resource};
use crate::domain::containment::worth;
use crate::domain::fleet::price::FleetPrices;
use crate::domain::fleet::rate::RateKey;
use crate::domain::id::{AgentId, ContainmentId};
use crate::domain::money::Usd;
use crate::ports::{InstanceFilter, Lease};

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
        let live = self.live(agent).await?;
        let containment = live.clone().unwrap_or_else(|| self.imagined(agent, mode));
        let pass = self.imagined_pass(containment).await?;
        let known = self.known(&pass.settings, &pass.containment).await?;
        let plan = look_without_touching(&pass, &known).await;
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
        let live = self.live(agent).await?.ok_or(ReportError::NotContained)?;
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
        let pass = self.imagined_pass(imagined).await?;
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

    async fn live(&self, agent: &AgentId) -> Result<Option<Containment>, PassError> {
        let live = self.store.live_containments().await?;
        Ok(live.into_iter().find(|containment| containment.agent == *agent))
    }

    /// A pass that will never write: it has no lease.
    async fn imagined_pass(&self, containment: Containment) -> Result<Pass<'_>, PassError> {
        let images = self.store.images(&containment.agent).await?;
        let steps = self.store.steps(containment.id).await?;
        let lease = Lease {
            name: String::new(),
            holder: String::new(),
            token: 0,
            expires_at: self.clock.now(),
        };
        Ok(self.new_pass(self.settings(), containment, images, steps, lease))
    }

    fn imagined(&self, agent: &AgentId, mode: Mode) -> Containment {
        let now = self.clock.now();
        let id = ContainmentId(self.entropy.id(now));
        Containment {
            version: 0,
            ..Containment::opened(id, agent.clone(), 0, mode, "dry run", now)
        }
    }
}

/// Asks the cloud whether the planned stops would be allowed.
async fn refusals(pass: &Pass<'_>, plan: &Plan) -> Vec<StillBurning> {
    let caller = pass.caller(pass.settings.step_patience);
    let mut lines = Vec::new();
    let resource = |region: &Region, id: &str| {
        let id = id.to_owned();
        Resource::Instance {
            region: region.clone(),
            id,
        }
        .to_string()
    };
    for region in &plan.regions {
        for ids in &region.stops {
            match caller.reach(|| pass.cloud.may_stop(&region.region, ids)).await {
                Ok(answer) => lines.extend(answer.refused.into_iter().map(|(id, refused)| StillBurning {
                    resource: resource(&region.region, &id),
                    why: format!("{}: {}", refused.code, refused.message),
                })),
                Err(failure) => lines.extend(ids.iter().map(|id| StillBurning {
                    resource: resource(&region.region, id),
                    why: format!("it could not be asked: {}", failure.why),
                })),
            }
        }
    }
    lines
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
