//! Carrying out what a plan says about principals: denies, keys and service credentials, and back.
//!
//! It decides nothing but the one thing that only IAM knows: an inline deny that has no room is followed,
//! in the same pass, by the managed one. A put is not read back here. IAM answers from many places, and the
//! one asked next may not have heard of it; the next sweep reads it back, seconds later, and *contained* is
//! claimed by what two sweeps have read, never by what was put.

use futures_util::future::join_all;

use super::call::{Caller, Failure};
use super::pass::{Pass, PassError, StepResult};
use super::tell;
use crate::domain::containment::deny;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::plan::{PlannedDeny, PrincipalPlan};
use crate::domain::containment::restore::{Lift, RestorePlan};
use crate::domain::containment::state::Action;
use crate::domain::containment::target::{Principal, Resource};

/// Denies principals and makes their credentials inactive.
pub(super) async fn revoke(pass: &Pass<'_>, caller: Caller<'_>, plan: &PrincipalPlan) -> Result<(), PassError> {
    pass.note_changed(&plan.adopted, &[]).await?;
    pass.record_images(&plan.images).await?;
    let denies = plan.denies.iter().map(|deny| put_deny(pass, caller, plan, deny));
    let keys = plan.keys.iter().map(|key| deactivate_key(pass, caller, plan, key));
    let credentials = plan
        .credentials
        .iter()
        .map(|one| deactivate_credential(pass, caller, plan, one));
    let (denies, keys, credentials) = futures_util::join!(join_all(denies), join_all(keys), join_all(credentials));
    denies.into_iter().chain(keys).chain(credentials).collect()
}

async fn put_deny(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    plan: &PrincipalPlan,
    deny: &PlannedDeny,
) -> Result<(), PassError> {
    let resource = of(&deny.principal);
    if deny.put_back {
        alarm(pass, &resource);
    }
    if !deny.attach {
        let call = caller.reach(|| pass.cloud.put_deny(&deny.principal, deny::POLICY_NAME, deny::DOCUMENT));
        let failed = one(pass, Action::PutDeny, resource.clone(), &plan.images, call).await?;
        if failed.is_none_or(|failure| failure.code.as_deref() != Some(deny::NO_ROOM)) {
            return Ok(());
        }
    }
    let call = caller.reach(|| {
        pass.cloud
            .attach_deny(&deny.principal, deny::POLICY_NAME, deny::DOCUMENT)
    });
    one(pass, Action::AttachDeny, resource, &plan.images, call).await?;
    Ok(())
}

async fn deactivate_key(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    plan: &PrincipalPlan,
    key: &crate::domain::containment::plan::PlannedKey,
) -> Result<(), PassError> {
    let resource = Resource::AccessKey {
        user: key.user.clone(),
        key_id: key.key_id.clone(),
    };
    if key.put_back {
        alarm(pass, &resource);
    }
    let call = caller.reach(|| pass.cloud.set_access_key(&key.user, &key.key_id, false));
    one(pass, Action::DeactivateKey, resource, &plan.images, call).await?;
    Ok(())
}

async fn deactivate_credential(
    pass: &Pass<'_>,
    caller: Caller<'_>,
    plan: &PrincipalPlan,
    credential: &crate::domain::containment::plan::PlannedCredential,
) -> Result<(), PassError> {
    let resource = Resource::ServiceCredential {
        user: credential.user.clone(),
        id: credential.id.clone(),
    };
    if credential.put_back {
        alarm(pass, &resource);
    }
    let call = caller.reach(|| {
        pass.cloud
            .set_service_credential(&credential.user, &credential.id, false)
    });
    one(pass, Action::DeactivateCredential, resource, &plan.images, call).await?;
    Ok(())
}

/// One call about one resource that has a before-image; why it failed, if it did.
async fn one(
    pass: &Pass<'_>,
    action: Action,
    resource: Resource,
    planned: &[BeforeImage],
    call: impl Future<Output = Result<(), Failure>> + Send,
) -> Result<Option<Failure>, PassError> {
    let resources = [resource];
    let steps = pass.start_steps(action, &resources).await?;
    let failed = call.await.err();
    let result = failed.as_ref().map_or(StepResult::Done, Failure::as_result);
    pass.end_steps(steps, |_| result.clone()).await?;
    if failed.is_none() {
        pass.note_changed(&resources, planned).await?;
    }
    Ok(failed)
}

/// Somebody undid what a containment holds.
fn alarm(pass: &Pass<'_>, resource: &Resource) {
    let text = format!("{resource} was allowed again by somebody while contained; it is being denied again");
    tell::put_back(pass, resource, text);
}

/// Lifts denies, then activates keys and service credentials.
pub(super) async fn lift(pass: &Pass<'_>, caller: Caller<'_>, plan: &RestorePlan) -> Result<(), PassError> {
    let lifts = plan.lifts.iter().map(|lift| lift_one(pass, caller, lift));
    let detaches = plan.detaches.iter().map(|principal| detach(pass, caller, principal));
    let (lifted, detached) = futures_util::join!(join_all(lifts), join_all(detaches));
    let lifted: Result<(), PassError> = lifted.into_iter().chain(detached).collect();
    lifted?;
    let keys = plan.keys.iter().map(|(user, id)| activate_key(pass, caller, user, id));
    let credentials = plan
        .credentials
        .iter()
        .map(|(user, id)| activate_credential(pass, caller, user, id));
    let (keys, credentials) = futures_util::join!(join_all(keys), join_all(credentials));
    keys.into_iter().chain(credentials).collect()
}

async fn lift_one(pass: &Pass<'_>, caller: Caller<'_>, lift: &Lift) -> Result<(), PassError> {
    let call = caller.reach(async || match &lift.document {
        Some(document) => {
            let put = pass.cloud.put_deny(&lift.principal, deny::POLICY_NAME, document);
            put.await
        }
        None => pass.cloud.delete_deny(&lift.principal, deny::POLICY_NAME).await,
    });
    undo(pass, Action::LiftDeny, of(&lift.principal), call).await
}

async fn detach(pass: &Pass<'_>, caller: Caller<'_>, principal: &Principal) -> Result<(), PassError> {
    let call = caller.reach(|| pass.cloud.detach_deny(principal, deny::POLICY_NAME));
    undo(pass, Action::DetachDeny, of(principal), call).await
}

async fn activate_key(pass: &Pass<'_>, caller: Caller<'_>, user: &str, key_id: &str) -> Result<(), PassError> {
    let resource = Resource::AccessKey {
        user: user.to_owned(),
        key_id: key_id.to_owned(),
    };
    let call = caller.reach(|| pass.cloud.set_access_key(user, key_id, true));
    undo(pass, Action::ActivateKey, resource, call).await
}

async fn activate_credential(pass: &Pass<'_>, caller: Caller<'_>, user: &str, id: &str) -> Result<(), PassError> {
    let resource = Resource::ServiceCredential {
        user: user.to_owned(),
        id: id.to_owned(),
    };
    let call = caller.reach(|| pass.cloud.set_service_credential(user, id, true));
    undo(pass, Action::ActivateCredential, resource, call).await
}

/// One call of a restore: what became of it is seen, not noted.
async fn undo(
    pass: &Pass<'_>,
    action: Action,
    resource: Resource,
    call: impl Future<Output = Result<(), Failure>> + Send,
) -> Result<(), PassError> {
    let steps = pass.start_steps(action, &[resource]).await?;
    let result = call
        .await
        .map_or_else(|failure| failure.as_result(), |()| StepResult::Done);
    pass.end_steps(steps, |_| result.clone()).await
}

fn of(principal: &Principal) -> Resource {
    Resource::Principal {
        principal: principal.clone(),
    }
}
