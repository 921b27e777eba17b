//! Planning a restore's lifting part: the deny, inline and attached, then keys and service credentials.
//!
//! Each of the two policies is looked at on its own, and the principal is settled once neither needs us. A
//! policy that does not read as we left it belongs to whoever changed it (C4).

use super::deny;
use super::image::{Before, BeforeImage};
use super::observed::PrincipalState;
use super::restore::{Lift, RestoreInput, RestorePlan, changed, settle, step_of_this_restore, wait};
use super::state::Action;
use super::target::{Principal, Resource};

/// What is left to do about one policy.
enum Verdict {
    /// It was never there and is not.
    Untouched,
    Settled(&'static str),
    Pending,
}

pub(super) fn plan_lift(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    resource: &Resource,
    principal: &Principal,
    before: (Option<&str>, bool),
) {
    let state = match input.principals.get(principal) {
        Some(Ok(state)) => state,
        Some(Err(why)) => return wait(plan, resource, &format!("it could not be looked at: {why}")),
        None => return wait(plan, resource, "it was not looked at"),
    };
    if !state.exists {
        return settle(plan, resource, "it is gone; nothing to lift");
    }
    let inline = inline(input, resource, state, before.0);
    let attached = attached(input, resource, state, before.1);
    if matches!(inline, Verdict::Pending) {
        plan.lifts.push(Lift {
            principal: principal.clone(),
            document: before.0.map(str::to_owned),
        });
    }
    if matches!(attached, Verdict::Pending) {
        plan.detaches.push(principal.clone());
    }
    let outcome = match (inline, attached) {
        (Verdict::Pending, _) | (_, Verdict::Pending) => return,
        // The ordinary case: our inline policy, and never a managed one.
        (Verdict::Settled(outcome), Verdict::Untouched) | (Verdict::Untouched, Verdict::Settled(outcome)) => {
            outcome.to_owned()
        }
        (Verdict::Settled(inline), Verdict::Settled(attached)) => format!("{inline}; {attached}"),
        (Verdict::Untouched, Verdict::Untouched) => "was lifted by somebody else".to_owned(),
    };
    settle(plan, resource, &outcome);
}

fn inline(input: &RestoreInput<'_>, resource: &Resource, state: &PrincipalState, before: Option<&str>) -> Verdict {
    let by_us = step_of_this_restore(input, Action::LiftDeny, resource).is_some();
    match (state.deny_document.as_deref(), before) {
        (Some(now), Some(then)) if deny::same(now, then) => {
            Verdict::Settled(if by_us { "put back" } else { "was as before already" })
        }
        (Some(now), _) if deny::is_ours(now) => Verdict::Pending,
        (None, None) if by_us => Verdict::Settled("lifted"),
        (None, None) => Verdict::Untouched,
        (None, Some(_)) if by_us => Verdict::Pending,
        (None, Some(_)) => Verdict::Settled("somebody else deleted the policy of our name; left so"),
        (Some(_), _) => Verdict::Settled("somebody else changed the policy of our name; left so"),
    }
}

fn attached(input: &RestoreInput<'_>, resource: &Resource, state: &PrincipalState, before: bool) -> Verdict {
    let by_us = step_of_this_restore(input, Action::DetachDeny, resource).is_some();
    match (state.deny_attached, before) {
        (false, false) if by_us => Verdict::Settled("detached"),
        (false, false) => Verdict::Untouched,
        // What a policy that was attached before says is the same for all who have it: it is not ours to detach.
        (true, true) => Verdict::Untouched,
        (false, true) => Verdict::Settled("somebody else detached the managed policy of our name; left so"),
        (true, false) if deny::is_attached(state) => Verdict::Pending,
        (true, false) => Verdict::Settled("somebody else changed the managed policy of our name; left attached"),
    }
}

/// A key or service credential that was active is activated again, unless somebody else saw to it.
pub(super) fn plan_activation(
    input: &RestoreInput<'_>,
    plan: &mut RestorePlan,
    resource: &Resource,
    image: &BeforeImage,
) {
    let (user, id, was_active, is_key) = match (resource, &image.before) {
        (Resource::AccessKey { user, key_id }, Before::AccessKey { active }) => (user, key_id, *active, true),
        (Resource::ServiceCredential { user, id }, Before::ServiceCredential { active }) => (user, id, *active, false),
        _ => return settle(plan, resource, "its before-image does not fit it; left as it is"),
    };
    let seen = input
        .principals
        .iter()
        .find(|(principal, _)| matches!(principal, Principal::User(_)) && principal.name() == user);
    let state = match seen {
        Some((_, Ok(state))) => state,
        Some((_, Err(why))) => return wait(plan, resource, &format!("its user could not be looked at: {why}")),
        None => return wait(plan, resource, "its user was not looked at"),
    };
    let (off, on) = if is_key {
        (Action::DeactivateKey, Action::ActivateKey)
    } else {
        (Action::DeactivateCredential, Action::ActivateCredential)
    };
    let active = if is_key {
        let key = state.keys.iter().find(|key| key.id == *id);
        key.map(|key| key.active)
    } else {
        let found = state.service_credentials.iter().find(|found| found.id == *id);
        if let (None, Some(blind)) = (found, &state.credentials_unseen) {
            return wait(
                plan,
                resource,
                &format!("its user's could not be listed: {}", blind.why),
            );
        }
        found.map(|found| found.active)
    };
    let by_us = step_of_this_restore(input, on, resource).is_some();
    match active {
        None => settle(plan, resource, "it is gone; nothing to activate"),
        Some(true) if by_us => settle(plan, resource, "activated"),
        Some(true) => settle(plan, resource, "was activated by somebody else"),
        Some(false) if !was_active => settle(plan, resource, "was inactive before; left so"),
        Some(false) if !changed(input, off, resource, image) => {
            settle(plan, resource, "was never changed by us");
        }
        Some(false) if is_key => plan.keys.push((user.clone(), id.clone())),
        Some(false) => plan.credentials.push((user.clone(), id.clone())),
    }
}
