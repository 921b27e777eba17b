//! One pass of a restore: look, settle, start, lift, and thaw when nothing is left (C4).

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::future::{Either, join, join_all, select};
use jiff::SignedDuration;

use super::pass::{ACTOR, Pass, PassError};
use super::sweep::Known;
use super::{executor, observe, revoking, tell};
use crate::domain::agent::{AgentState, AgentStatus};
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::restore::{RestoreInput, RestorePlan, plan_restore};
use crate::domain::containment::state::{Containment, Phase};
use crate::domain::review::Decision;
use crate::ports::{Judgement, NoticeKind};

/// Looks at what the before-images name and plans.
pub(super) async fn look(pass: &Pass<'_>, known: &Known) -> RestorePlan {
    let caller = pass.caller(pass.settings.step_patience);
    let settings = &pass.settings;
    let wanted = observe::principals_of(&pass.images, &known.targets, known.account.as_deref());
    let principals = observe::principals(pass.cloud, caller, wanted, settings.concurrent_regions);
    let machines = observe::machines_of(&pass.images, &pass.containment);
    let views = join_all(
        machines
            .iter()
            .map(|(region, wanted)| observe::region(pass.cloud, caller, region, wanted)),
    );
    let (principals, views) = join(principals, views).await;
    plan_restore(&RestoreInput {
        now: pass.now(),
        containment: &pass.containment,
        account: known.account.as_deref(),
        images: &pass.images,
        steps: &pass.steps(),
        principals: principals.into_iter().collect(),
        instances: views
            .into_iter()
            .map(|view| (view.region, view.instances))
            .collect::<BTreeMap<_, _>>(),
        batch: settings.rules.batch,
        patience: SignedDuration::try_from(settings.restore_patience).unwrap_or(SignedDuration::MAX),
    })
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
    let plan = look(pass, known).await;
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
    if plan.is_done() {
        return thaw(pass, known, &plan).await.map(Some);
    }
    Ok(None)
}

/// Writes what was put back, or given up for a reason; and what is owed, and why.
async fn settle(pass: &Pass<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    let now = pass.now();
    let mut images: Vec<BeforeImage> = Vec::new();
    for settled in &plan.settled {
        if let Some(image) = pass.images.get(&settled.resource) {
            images.push(BeforeImage {
                restored_at: Some(now),
                outcome: Some(settled.outcome.clone()),
                ..image.clone()
            });
        }
    }
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

/// The end: the containment closes and the agent thaws, in one write.
async fn thaw(pass: &Pass<'_>, known: &Known, plan: &RestorePlan) -> Result<Judgement, PassError> {
    let now = pass.now();
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
