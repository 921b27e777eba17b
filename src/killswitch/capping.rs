//! Carrying out what is done to assets: caps, ends, and settings that are put back.
//!
//! As in `executor`, nothing is decided here, and a failure is left to the next sweep.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use super::call::{Caller, Failure};
use super::pass::{Pass, PassError, StepResult};
use super::tell;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::plan::RegionPlan;
use crate::domain::containment::restore::RestorePlan;
use crate::domain::containment::state::{Action, Step};
use crate::domain::containment::target::Resource;
use crate::domain::fleet::asset::AssetRef;

/// Calls at once in one region: three services, each with a rate limit of its own.
pub(super) const CONCURRENT_CAPS: usize = 16;

/// Caps what starts others in one region, all at once.
pub(super) async fn cap(pass: &Pass<'_>, caller: Caller<'_>, plan: &RegionPlan) -> Result<(), PassError> {
    pass.note_changed(&plan.adopted, &[]).await?;
    pass.supersede(&plan.superseded, &plan.images).await?;
    for cap in plan.caps.iter().filter(|cap| cap.put_back) {
        let text = format!(
            "{} was uncapped by somebody while contained; it is being capped again",
            cap.asset
        );
        tell::put_back(pass, &asset(&cap.asset), text);
    }
    let calls = plan.caps.iter().chain(&plan.cap_probes).map(|cap| {
        let call = caller.reach(|| pass.cloud.put_settings(&cap.asset, &cap.settings));
        (asset(&cap.asset), call)
    });
    many(pass, Action::Cap, &plan.images, calls.collect()).await
}

/// Steps of one kind that are written together before the first call, and after their calls as they come in:
/// those that have come in while the last ones were being written are written together.
async fn many(
    pass: &Pass<'_>,
    action: Action,
    planned: &[BeforeImage],
    calls: Vec<(Resource, impl Future<Output = Result<(), Failure>> + Send)>,
) -> Result<(), PassError> {
    let (resources, calls): (Vec<Resource>, Vec<_>) = calls.into_iter().unzip();
    let steps = pass.start_steps(action, &resources).await?;
    let each = steps.into_iter().zip(calls).map(|(step, call)| async move {
        let result = match call.await {
            Ok(()) => StepResult::Done,
            Err(failure) => failure.as_result(),
        };
        (step, result)
    });
    let each: Vec<_> = each.collect();
    let each = stream::iter(each).buffer_unordered(CONCURRENT_CAPS);
    let mut each = each.ready_chunks(CONCURRENT_CAPS);
    while let Some(some) = each.next().await {
        let results: BTreeMap<String, StepResult> = some
            .iter()
            .map(|(step, result)| (step.id.clone(), result.clone()))
            .collect();
        let done = some.iter().filter(|(_, result)| *result == StepResult::Done);
        let done: Vec<Resource> = done.map(|(step, _)| step.resource.clone()).collect();
        let unknown = StepResult::Unknown("its call was not made".to_owned());
        let of = |step: &Step| results.get(&step.id).unwrap_or(&unknown).clone();
        pass.end_steps(some.into_iter().map(|(step, _)| step).collect(), of)
            .await?;
        if action != Action::Uncap {
            pass.note_changed(&done, planned).await?;
        }
    }
    Ok(())
}

fn asset(what: &AssetRef) -> Resource {
    Resource::Asset { asset: what.clone() }
}

/// Ends what is ended for good in one region.
pub(super) async fn end(pass: &Pass<'_>, caller: Caller<'_>, plan: &RegionPlan) -> Result<(), PassError> {
    let calls = plan.ends.iter().chain(&plan.end_probes).map(|what| {
        let call = caller.reach(|| pass.cloud.end(what));
        (asset(what), call)
    });
    many(pass, Action::End, &plan.images, calls.collect()).await
}

/// Puts the settings of what starts others back.
pub(super) async fn uncap(pass: &Pass<'_>, caller: Caller<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    let calls = plan.uncaps.iter().map(|uncap| {
        let call = caller.reach(|| pass.cloud.put_settings(&uncap.asset, &uncap.settings));
        (asset(&uncap.asset), call)
    });
    many(pass, Action::Uncap, &[], calls.collect()).await
}
