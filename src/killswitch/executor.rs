//! Carrying out: what a plan says, in its order, each step recorded before and after its call.
//!
//! It decides nothing. A failure is written to its step and left to the next sweep; it never keeps
//! another step from being done.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::call::{Caller, Failure, FailureKind};
use super::pass::{Pass, PassError, StepResult};
use crate::domain::containment::deny;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::observed::{BatchResult, Refused};
use crate::domain::containment::plan::{PlannedDeny, PlannedKey, PrincipalPlan, RegionPlan};
use crate::domain::containment::restore::{Lift, RestorePlan};
use crate::domain::containment::state::{Action, Step};
use crate::domain::containment::target::{Region, Resource};
use crate::domain::fleet::asset::AssetRef;

/// Settings that are put at once in one region: three services, each with a rate limit of its own.
const CONCURRENT_CAPS: usize = 16;

impl Failure {
    fn as_result(&self) -> StepResult {
        let why = self.why.clone();
        match self.kind {
            FailureKind::Refused => StepResult::GivenUp(why),
            FailureKind::NotNow => StepResult::Failing(why),
            FailureKind::Unknown => StepResult::Unknown(why),
        }
    }
}

/// Denies principals and makes keys inactive.
pub(super) async fn revoke(pass: &Pass<'_>, caller: Caller<'_>, plan: &PrincipalPlan) -> Result<(), PassError> {
    pass.note_changed(&plan.adopted, &[]).await?;
    pass.record_images(&plan.images).await?;
    let denies = plan.denies.iter().map(|deny| put_deny(pass, caller, plan, deny));
    let keys = plan.keys.iter().map(|key| deactivate(pass, caller, plan, key));
    let (denies, keys) = futures_util::join!(join_all(denies), join_all(keys));
    denies.into_iter().chain(keys).collect()
}

async fn put_deny(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    plan: &PrincipalPlan,
    deny: &PlannedDeny,
) -> Result<(), PassError> {
    let resource = Resource::Principal {
        principal: deny.principal.clone(),
    };
    if deny.put_back {
        alarm(pass, &resource, allowed_again(&resource));
    }
    let call = caller.reach(|| pass.cloud.put_deny(&deny.principal, deny::POLICY_NAME, deny::DOCUMENT));
    one(pass, Action::PutDeny, resource, plan, call).await
}

async fn deactivate(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    plan: &PrincipalPlan,
    key: &PlannedKey,
) -> Result<(), PassError> {
    let resource = Resource::AccessKey {
        user: key.user.clone(),
        key_id: key.key_id.clone(),
    };
    if key.put_back {
        alarm(pass, &resource, allowed_again(&resource));
    }
    let call = caller.reach(|| pass.cloud.set_access_key(&key.user, &key.key_id, false));
    one(pass, Action::DeactivateKey, resource, plan, call).await
}

/// One call about one resource that has a before-image.
async fn one(
    pass: &Pass<'_>,
    action: Action,
    resource: Resource,
    plan: &PrincipalPlan,
    call: impl Future<Output = Result<(), Failure>> + Send,
) -> Result<(), PassError> {
    let resources = [resource];
    let steps = pass.start_steps(action, &resources).await?;
    let result = match call.await {
        Ok(()) => StepResult::Done,
        Err(failure) => failure.as_result(),
    };
    pass.end_steps(steps, |_| result.clone()).await?;
    if result == StepResult::Done {
        pass.note_changed(&resources, &plan.images).await?;
    }
    Ok(())
}

fn allowed_again(resource: &Resource) -> String {
    format!("{resource} was allowed again by somebody while contained; it is being denied again")
}

/// Somebody undid what a containment holds.
fn alarm(pass: &Pass<'_>, resource: &Resource, text: String) {
    pass.audit(
        "put_back",
        text.clone(),
        &serde_json::json!({ "resource": resource.to_string() }),
    );
    pass.notice(crate::ports::NoticeKind::StillBurning, text);
}

/// Caps what starts others in one region, all at once.
pub(super) async fn cap(pass: &Pass<'_>, caller: Caller<'_>, plan: &RegionPlan) -> Result<(), PassError> {
    pass.note_changed(&plan.adopted, &[]).await?;
    pass.settle(&plan.superseded).await?;
    pass.record_images(&plan.images).await?;
    for cap in plan.caps.iter().filter(|cap| cap.put_back) {
        let text = format!(
            "{} was uncapped by somebody while contained; it is being capped again",
            cap.asset
        );
        alarm(pass, &asset(&cap.asset), text);
    }
    let calls = plan.caps.iter().chain(&plan.cap_probes).map(|cap| {
        let call = caller.reach(|| pass.cloud.put_settings(&cap.asset, &cap.settings));
        (asset(&cap.asset), call)
    });
    many(pass, Action::Cap, &plan.images, calls.collect()).await
}

/// Steps of one kind that are written together before the first call and one by one after theirs.
async fn many(
    pass: &Pass<'_>,
    action: Action,
    planned: &[BeforeImage],
    calls: Vec<(Resource, impl Future<Output = Result<(), Failure>> + Send)>,
) -> Result<(), PassError> {
    let (resources, calls): (Vec<Resource>, Vec<_>) = calls.into_iter().unzip();
    let steps = pass.start_steps(action, &resources).await?;
    let each = steps
        .into_iter()
        .zip(resources)
        .zip(calls)
        .map(|((step, resource), call)| async move {
            let result = match call.await {
                Ok(()) => StepResult::Done,
                Err(failure) => failure.as_result(),
            };
            pass.end_steps(vec![step], |_| result.clone()).await?;
            if result == StepResult::Done && action != Action::Uncap {
                pass.note_changed(&[resource], planned).await?;
            }
            Ok::<(), PassError>(())
        });
    let each: Vec<_> = each.collect();
    let mut each = stream::iter(each).buffer_unordered(CONCURRENT_CAPS);
    while let Some(result) = each.next().await {
        result?;
    }
    Ok(())
}

fn asset(what: &AssetRef) -> Resource {
    Resource::Asset { asset: what.clone() }
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
    let ends = plan.ends.iter().chain(&plan.end_probes).map(|what| {
        let call = caller.reach(|| pass.cloud.end(what));
        (asset(what), call)
    });
    let ends = many(pass, Action::End, &plan.images, ends.collect());
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

/// Puts the settings of what starts others back.
pub(super) async fn uncap(pass: &Pass<'_>, caller: Caller<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    let calls = plan.uncaps.iter().map(|uncap| {
        let call = caller.reach(|| pass.cloud.put_settings(&uncap.asset, &uncap.settings));
        (asset(&uncap.asset), call)
    });
    many(pass, Action::Uncap, &[], calls.collect()).await
}

/// Lifts denies and activates keys.
pub(super) async fn lift(pass: &Pass<'_>, caller: Caller<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    let lifts = plan.lifts.iter().map(|lift| lift_one(pass, caller, lift));
    let lifted: Result<(), PassError> = join_all(lifts).await.into_iter().collect();
    lifted?;
    let keys = plan
        .keys
        .iter()
        .map(|(user, key_id)| activate(pass, caller, user, key_id));
    join_all(keys).await.into_iter().collect()
}

async fn lift_one(pass: &Pass<'_>, caller: Caller<'_>, lift: &Lift) -> Result<(), PassError> {
    let resources = [Resource::Principal {
        principal: lift.principal.clone(),
    }];
    let steps = pass.start_steps(Action::LiftDeny, &resources).await?;
    let answer = match &lift.document {
        Some(document) => {
            caller
                .reach(|| pass.cloud.put_deny(&lift.principal, deny::POLICY_NAME, document))
                .await
        }
        None => {
            caller
                .reach(|| pass.cloud.delete_deny(&lift.principal, deny::POLICY_NAME))
                .await
        }
    };
    let result = answer.map_or_else(|failure| failure.as_result(), |()| StepResult::Done);
    pass.end_steps(steps, |_| result.clone()).await
}

async fn activate(pass: &Pass<'_>, caller: Caller<'_>, user: &str, key_id: &str) -> Result<(), PassError> {
    let resources = [Resource::AccessKey {
        user: user.to_owned(),
        key_id: key_id.to_owned(),
    }];
    let steps = pass.start_steps(Action::ActivateKey, &resources).await?;
    let answer = caller.reach(|| pass.cloud.set_access_key(user, key_id, true)).await;
    let result = answer.map_or_else(|failure| failure.as_result(), |()| StepResult::Done);
    pass.end_steps(steps, |_| result.clone()).await
}
