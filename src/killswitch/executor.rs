//! Carrying out: what a plan says, in its order, each step recorded before and after its call.
//!
//! It decides nothing. A failure is written to its step and left to the next sweep; it never keeps
//! another step from being done.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use super::call::{Caller, Failure, FailureKind};
use super::capping;
use super::pass::{Pass, PassError, StepResult};
use crate::domain::containment::observed::{BatchResult, Refused};
use crate::domain::containment::plan::RegionPlan;
use crate::domain::containment::restore::RestorePlan;
use crate::domain::containment::state::{Action, Step};
use crate::domain::containment::target::{Region, Resource};

impl Failure {
    pub(super) fn as_result(&self) -> StepResult {
        let why = self.why.clone();
        match self.kind {
            FailureKind::Refused => StepResult::GivenUp(why),
            FailureKind::NotNow => StepResult::Failing(why),
            FailureKind::Unknown => StepResult::Unknown(why),
        }
    }
}

/// Ends tasks and stops machines of one region.
pub(super) async fn stop(pass: &Pass<'_>, caller: Caller<'_>, plan: &RegionPlan) -> Result<(), PassError> {
    pass.note_changed(&plan.adopted, &[]).await?;
    pass.record_images(&plan.images).await?;
    let batches = plan
        .stops
        .iter()
        .chain(&plan.probes)
        .map(|ids| (Action::StopInstance, ids));
    let terminates = plan.terminates.iter().chain(&plan.terminate_probes);
    let terminates = terminates.map(|ids| (Action::TerminateInstance, ids));
    let calls: Vec<_> = batches
        .chain(terminates)
        .map(|(action, ids)| batch(pass, caller, action, plan, ids))
        .collect();
    let stops = async {
        let mut calls = stream::iter(calls).buffer_unordered(pass.settings.concurrent_batches.max(1));
        while let Some(result) = calls.next().await {
            result?;
        }
        Ok(())
    };
    let ends = capping::end(pass, caller, plan);
    let (stopped, ended): (Result<(), PassError>, _) = futures_util::join!(stops, ends);
    stopped.and(ended)
}

async fn batch(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    action: Action,
    plan: &RegionPlan,
    ids: &[String],
) -> Result<(), PassError> {
    let accepted = machines(pass, caller, action, &plan.region, ids).await?;
    pass.note_changed(&accepted, &plan.images).await
}

/// One call about several machines; the resources for which it was accepted.
async fn machines(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    action: Action,
    region: &Region,
    ids: &[String],
) -> Result<Vec<Resource>, PassError> {
    let resources: Vec<Resource> = ids
        .iter()
        .map(|id| Resource::Instance {
            region: region.clone(),
            id: id.clone(),
        })
        .collect();
    let steps = pass.start_steps(action, &resources).await?;
    let answer = match action {
        Action::StartInstance => caller.reach(|| pass.cloud.start(region, ids)).await,
        Action::TerminateInstance => caller.reach(|| pass.cloud.terminate(region, ids)).await,
        _ => caller.reach(|| pass.cloud.stop(region, ids)).await,
    };
    let results = match answer {
        Ok(answer) => each(pass, caller, region, answer).await,
        Err(failure) => ids.iter().map(|id| (id.clone(), failure.as_result())).collect(),
    };
    let unanswered = StepResult::Unknown("the answer did not mention it".to_owned());
    let of = |step: &Step| match &step.resource {
        Resource::Instance { id, .. } => results.get(id).unwrap_or(&unanswered).clone(),
        _ => unanswered.clone(),
    };
    pass.end_steps(steps, of).await?;
    let done = |resource: &Resource| matches!(resource, Resource::Instance { id, .. } if results.get(id) == Some(&StepResult::Done));
    Ok(resources.into_iter().filter(done).collect())
}

async fn each(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    region: &Region,
    answer: BatchResult,
) -> BTreeMap<String, StepResult> {
    let mut results: BTreeMap<String, StepResult> =
        answer.accepted.into_iter().map(|id| (id, StepResult::Done)).collect();
    // Somebody stopped it between our look and our call, or an earlier call of ours did: then its step
    // remembers that it may have.
    let not_by_this_call = || StepResult::Failing("it was down before the call".to_owned());
    results.extend(answer.already.into_iter().map(|id| (id, not_by_this_call())));
    let reasons: Vec<_> = answer
        .refused
        .iter()
        .map(|(id, refused)| reason(pass, caller, region, id, refused))
        .collect();
    let reasons = stream::iter(reasons).buffered(pass.settings.concurrent_batches.max(1));
    let reasons: Vec<String> = reasons.collect().await;
    for ((id, refused), why) in answer.refused.into_iter().zip(reasons) {
        let result = if refused.transient {
            StepResult::Failing(why)
        } else {
            StepResult::GivenUp(why)
        };
        results.insert(id, result);
    }
    results
}

/// Why a machine was refused, for a person. Stop protection hides behind a general code, so it is
/// looked up.
async fn reason(pass: &Pass<'_>, caller: Caller<'_>, region: &Region, id: &str, refused: &Refused) -> String {
    if refused.code == "OperationNotPermitted"
        && let Ok(true) = caller.reach(|| pass.cloud.stop_protection(region, id)).await
    {
        return "it is protected against stopping (DisableApiStop)".to_owned();
    }
    format!("{}: {}", refused.code, refused.message)
}

/// Starts machines, every region at once.
pub(super) async fn start(pass: &Pass<'_>, caller: Caller<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    let mut calls = Vec::new();
    for (region, batches) in &plan.starts {
        for ids in batches {
            calls.push(machines(pass, caller, Action::StartInstance, region, ids));
        }
    }
    let limit = pass.settings.concurrent_regions.max(1);
    let mut calls = stream::iter(calls).buffer_unordered(limit);
    while let Some(result) = calls.next().await {
        result?;
    }
    Ok(())
}
