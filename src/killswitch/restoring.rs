//! One pass of a restore: look, settle, start, lift, uncap, and thaw when nothing is left (C4).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures_util::future::{Either, join, join_all, select};
use jiff::SignedDuration;

use super::pass::{ACTOR, Pass, PassError};
use super::sweep::Known;
use super::{capping, executor, observe, revoking, tell};
use crate::domain::agent::{AgentState, AgentStatus};
use crate::domain::containment::canary::Canary;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::observed::{Instance, InstanceState, PrincipalState};
use crate::domain::containment::plan::{Images, RegionView, Seen};
use crate::domain::containment::restore::{RestoreInput, RestorePlan, Uncap, is_selected, plan_restore};
use crate::domain::containment::state::{Containment, Phase};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::{CloudTargets, Principal, Region, Resource};
use crate::domain::drill::{Outcome, evidence};
use crate::domain::fleet::asset::{Asset, Kind};
use crate::domain::review::Decision;
use crate::ports::{Health, Judgement, NoticeKind};

/// Machines in one question about their checks: EC2 takes 100.
const HEALTH_IDS: usize = 100;

/// What the before-images name, as it was seen.
struct Sight {
    account: Option<String>,
    steps: Steps,
    principals: BTreeMap<Principal, Seen<PrincipalState>>,
    instances: BTreeMap<Region, Seen<Vec<Instance>>>,
    assets: BTreeMap<Region, BTreeMap<Kind, Seen<Vec<Asset>>>>,
    passing: BTreeMap<Region, BTreeSet<String>>,
}

impl Sight {
    async fn of(pass: &Pass<'_>, known: &Known) -> Self {
        let caller = pass.caller(pass.settings.step_patience);
        let people = observe::principals_of(&pass.images, &known.targets, known.account.as_deref());
        let principals = observe::principals(pass.cloud, caller, people, pass.settings.concurrent_regions);
        let steps = pass.steps();
        let wanted = observe::wanted_for_restore(&pass.images, &steps, &pass.containment);
        let views = join_all(
            wanted
                .iter()
                .map(|(region, wanted)| observe::wanted(pass.cloud, caller, region, wanted)),
        );
        let (principals, views) = join(principals, views).await;
        let passing = passing(pass, &views).await;
        let (mut instances, mut assets) = (BTreeMap::new(), BTreeMap::new());
        for view in views {
            instances.insert(view.region.clone(), view.instances);
            assets.insert(view.region, view.assets);
        }
        Self {
            account: known.account.clone(),
            steps,
            principals: principals.into_iter().collect(),
            instances,
            assets,
            passing,
        }
    }

    fn plan(self, pass: &Pass<'_>, images: &Images) -> RestorePlan {
        let bounded = |patience| SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
        plan_restore(&RestoreInput {
            now: pass.now(),
            containment: &pass.containment,
            account: self.account.as_deref(),
            images,
            steps: &self.steps,
            principals: self.principals,
            instances: self.instances,
            assets: self.assets,
            passing: self.passing,
            batch: pass.settings.rules.batch,
            patience: bounded(pass.settings.restore_patience),
            health_patience: bounded(pass.settings.health_patience),
        })
    }
}

/// Looks at what the before-images name and plans; also what is uncapped once all else is put back, which the
/// plan itself has to wait for.
pub(super) async fn look_ahead(pass: &Pass<'_>, known: &Known) -> (RestorePlan, Vec<Uncap>) {
    let sight = Sight::of(pass, known).await;
    let later = Sight {
        steps: sight.steps.clone(),
        account: sight.account.clone(),
        instances: sight.instances.clone(),
        assets: sight.assets.clone(),
        principals: BTreeMap::new(),
        passing: BTreeMap::new(),
    };
    let stays = |resource: &Resource| match resource {
        Resource::Asset { .. } => true,
        Resource::Instance { .. } => !is_selected(resource, pass.containment.restore.as_ref()),
        Resource::Principal { .. } | Resource::AccessKey { .. } | Resource::ServiceCredential { .. } => false,
    };
    let images = pass.images.iter().filter(|(resource, _)| stays(resource));
    let images: Images = images
        .map(|(resource, image)| (resource.clone(), image.clone()))
        .collect();
    (sight.plan(pass, &pass.images), later.plan(pass, &images).uncaps)
}

/// Which members of groups pass their checks, where a group is to be uncapped. What cannot be asked passes
/// nothing, and is asked again.
async fn passing(pass: &Pass<'_>, views: &[RegionView]) -> BTreeMap<Region, BTreeSet<String>> {
    let caller = pass.caller(pass.settings.step_patience);
    let asked = views
        .iter()
        .filter(|view| !view.assets.is_empty())
        .map(|view| async move {
            let members = view.instances.iter().flatten();
            let running = members.filter(|member| member.group.is_some() && member.state == InstanceState::Running);
            let ids: Vec<String> = running.map(|member| member.id.clone()).collect();
            let mut passing = BTreeSet::new();
            for ids in ids.chunks(HEALTH_IDS) {
                let health = caller
                    .reach(|| pass.cloud.health(&view.region, ids))
                    .await
                    .unwrap_or_default();
                let well = health.into_iter().filter(|(_, health)| *health == Health::Passing);
                passing.extend(well.map(|(id, _)| id));
            }
            (view.region.clone(), passing)
        });
    join_all(asked).await.into_iter().collect()
}

/// One pass. `Some` is what is left to write when everything is back: the containment closes and the
/// agent thaws.
pub(super) async fn restore(pass: &Pass<'_>, known: &Known) -> Result<Option<Judgement>, PassError> {
    if pass
        .containment
        .restore
        .as_ref()
        .is_some_and(|asked| !asked.lines_checked)
    {
        // Whoever judges looks at the agent's lines first: what overtook the reset may break it off.
        return Ok(None);
    }
    let plan = Sight::of(pass, known).await.plan(pass, &pass.images);
    settle(pass, &plan).await?;

    // Machines first, while their principal is still denied; but not without end.
    let starts = pin!(executor::start(pass, pass.caller(pass.settings.step_patience), &plan));
    let lift = || revoking::lift(pass, pass.caller(pass.settings.step_patience), &plan);
    match select(starts, pass.clock.sleep(pass.settings.step_patience)).await {
        Either::Left((started, _)) => {
            started?;
            lift().await?;
        }
        Either::Right(((), rest)) => {
            let (started, lifted) = join(rest, lift()).await;
            started?;
            lifted?;
        }
    }
    capping::uncap(pass, pass.caller(pass.settings.step_patience), &plan).await?;
    if plan.is_done() {
        return thaw(pass, known, &plan).await.map(Some);
    }
    Ok(None)
}

/// Writes what was put back, or given up for a reason; and what is owed, and why.
async fn settle(pass: &Pass<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    pass.settle(&plan.settled).await?;
    for sick in &plan.sick {
        pass.audit(
            "unhealthy",
            format!("{}: {}", sick.resource, sick.why),
            &serde_json::json!({ "containment": pass.containment.id, "resource": sick.resource }),
        );
        pass.notice(NoticeKind::Restoring, format!("{}: {}", sick.resource, sick.why));
    }
    let mut images: Vec<BeforeImage> = Vec::new();
    for owed in &plan.owed {
        let image = pass
            .images
            .values()
            .find(|image| image.resource.to_string() == owed.resource);
        let outcome = Some(format!("owed: {}", owed.why));
        if let Some(image) = image.filter(|image| image.outcome != outcome) {
            images.push(BeforeImage {
                outcome,
                ..image.clone()
            });
        }
    }
    pass.update_images(&images).await
}

/// The end of a canary drill: its containment closes and its evidence is kept, in one write. The agent was not
/// frozen and does not thaw.
async fn end_drill(pass: &Pass<'_>, canary: &Canary, declared: &Option<CloudTargets>) -> Result<Judgement, PassError> {
    let (now, containment) = (pass.now(), &pass.containment);
    let since = containment.opened_at;
    let images = pass.store.restored_images(&containment.agent, since).await?;
    let drill = evidence::canary(containment, canary, declared.as_ref(), &pass.steps(), &images, now);
    if drill.head.outcome != Outcome::Passed {
        pass.notice(
            NoticeKind::Alert,
            format!("a canary drill failed: {}", drill.head.summary),
        );
    }
    let closed = Containment {
        phase: Phase::Closed,
        closed_at: Some(now),
        version: containment.version + 1,
        ..containment.clone()
    };
    Ok(Judgement {
        update: vec![closed],
        audit: vec![drill.audit()],
        drills: vec![drill],
        ..Judgement::default()
    })
}

/// The end: the containment closes and the agent thaws, in one write.
async fn thaw(pass: &Pass<'_>, known: &Known, plan: &RestorePlan) -> Result<Judgement, PassError> {
    let now = pass.now();
    if let Some(canary) = &pass.containment.canary {
        return end_drill(pass, canary, &known.declared).await;
    }
    let agent = pass.store.agent(&pass.containment.agent).await?;
    let by = pass
        .containment
        .restore
        .as_ref()
        .map_or("an operator", |request| request.by.as_str());
    let closed = Containment {
        phase: Phase::Closed,
        closed_at: Some(now),
        version: pass.containment.version + 1,
        ..pass.containment.clone()
    };
    let (status, reason) = match agent.status {
        // A pause that came while we restored outlasts the containment.
        AgentStatus::Paused => (AgentStatus::Paused, agent.reason.clone()),
        _ => (AgentStatus::Active, format!("reset by {by}")),
    };
    let agent = AgentState {
        status,
        since: now,
        reason,
        containment: None,
        version: agent.version + 1,
        ..agent
    };
    let text = format!(
        "reset by {by}: put back; {} left stopped as asked, {} owed",
        plan.kept.len(),
        plan.owed.len()
    );
    pass.audit(
        "reset",
        text.clone(),
        &serde_json::json!({
            "containment": closed.id,
            "generation": closed.generation,
            "kept": tell::bounded(&plan.kept),
            "owed": tell::bounded(&plan.owed),
        }),
    );
    pass.notice(NoticeKind::Reset, text);
    let moot = Decision {
        approved: false,
        by: ACTOR.to_owned(),
        at: now,
        note: "the containment is over".to_owned(),
    };
    Ok(Judgement {
        agents: vec![agent],
        update: vec![closed],
        decide: known.open.iter().map(|id| (*id, moot.clone())).collect(),
        ..Judgement::default()
    })
}
