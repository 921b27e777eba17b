//! Planning the principals: which denies to put, which keys and service credentials to make inactive.
//!
//! A principal is *denied* when our document was read back, inline or attached. Everything else is brought
//! there: absent, another document under our name, or taken away again by somebody (which is also an
//! alarm: during a containment only a reset may lift it). Keys and service credentials go inactive as
//! well, although the deny binds them: whoever lifts the deny by mistake then has not given everything back.
//!
//! The guard is checked here once for a principal and all that is its: its policies, keys and credentials
//! are planned only behind that check (C5).

use super::deny;
use super::guard::PrincipalName;
use super::image::{Before, BeforeImage};
use super::observed::{Blind, PrincipalState, Simulated};
use super::plan::{Frame, PlannedCredential, PlannedDeny, PlannedKey, PrincipalPlan, Seen};
use super::state::{Action, Mode, Step, StepState, StillBurning};
use super::target::{Principal, Resource};

/// Plans the principals that were looked at.
pub fn plan_principals(frame: &Frame<'_>, observed: &[(Principal, Seen<PrincipalState>)]) -> PrincipalPlan {
    let mut plan = PrincipalPlan::default();
    for (principal, seen) in observed {
        let resource = Resource::Principal {
            principal: principal.clone(),
        };
        if frame.guard.covers_principal(principal) {
            plan.guarded.push(resource.to_string());
            plan.burning.push(StillBurning {
                resource: resource.to_string(),
                why: "it is declared as a target but is the guard's own; it is never touched".to_owned(),
            });
            continue;
        }
        if let Some(why) = out_of_reach(frame, principal) {
            plan.unseen.push(StillBurning {
                resource: resource.to_string(),
                why,
            });
            continue;
        }
        match seen {
            Err(why) => plan.unseen.push(StillBurning {
                resource: resource.to_string(),
                why: format!("it could not be looked at: {why}"),
            }),
            Ok(state) if !state.exists => plan.burning.push(StillBurning {
                resource: resource.to_string(),
                why: "there is no such principal, so nothing was denied; check the agent's declaration".to_owned(),
            }),
            Ok(state) => {
                plan.profiles.extend(state.profile_arns.iter().cloned());
                unseen_profiles(frame, &mut plan, &resource, state);
                plan_deny(frame, &mut plan, &resource, state);
                plan_keys(frame, &mut plan, &resource, state);
                plan_credentials(frame, &mut plan, &resource, state);
            }
        }
    }
    plan
}

/// Where IAM's policy simulation contradicts a deny that was read back. It is additional evidence: the
/// documents say that the deny binds, so a containment does not hang on it, but a person should look.
pub fn contradicted(principal: &Principal, answers: &[Simulated]) -> Option<StillBurning> {
    let allowed: Vec<&str> = answers
        .iter()
        .filter(|answer| answer.allowed)
        .map(|answer| answer.action.as_str())
        .collect();
    (!allowed.is_empty()).then(|| StillBurning {
        resource: Resource::Principal {
            principal: principal.clone(),
        }
        .to_string(),
        why: format!(
            "its deny is in place and was read back, yet IAM's policy simulation says that it may {}: compare its \
             policies with the deny",
            allowed.join(", ")
        ),
    })
}

/// Why our credentials cannot or must not act on a principal.
fn out_of_reach(frame: &Frame<'_>, principal: &Principal) -> Option<String> {
    let Some(account) = frame.account else {
        return Some("who we are is not known yet, and the guard itself must never be denied".to_owned());
    };
    match PrincipalName::parse(principal.arn()) {
        Some(name) if name.account == account => None,
        Some(name) => Some(format!(
            "it belongs to account {}, our credentials to {account}",
            name.account
        )),
        None => Some("its ARN is not one of an IAM role or user".to_owned()),
    }
}

fn plan_deny(frame: &Frame<'_>, plan: &mut PrincipalPlan, resource: &Resource, state: &PrincipalState) {
    let id = resource.to_string();
    let image = frame.images.get(resource);
    if deny::is_in_place(state) {
        if image.is_some_and(|image| image.changed_at.is_none()) {
            plan.adopted.push(resource.clone());
        }
        plan.denied.push(id);
        return;
    }
    if image.is_none() {
        plan.images.push(frame.image(
            resource,
            Before::Principal {
                deny_document: state.deny_document.clone(),
                deny_attached: state.deny_attached,
            },
        ));
    }
    plan.denies.push(PlannedDeny {
        principal: state.principal.clone(),
        attach: deny::fits_inline(&state.principal, state.inline_chars) == Some(false),
        put_back: frame.containment.coverage.denied.contains(&id),
        why: so_far(frame, resource, image),
    });
}

/// What came of a deny that is not in place, for the person who may have to help it.
fn so_far(frame: &Frame<'_>, resource: &Resource, image: Option<&BeforeImage>) -> String {
    let refused = |action| {
        let step = frame.steps.since(action, resource, image?.recorded_at)?;
        let why = step.last_error.as_deref()?;
        (step.state == StepState::GivenUp).then_some(why)
    };
    match (refused(Action::PutDeny), refused(Action::AttachDeny)) {
        (_, Some(attach)) => format!(
            "it cannot be denied: its inline policies leave no room, and the managed policy {} cannot be attached \
             ({attach}). Delete one of its inline policies or detach one of its managed policies, or have the quota \
             raised; it is tried again at every sweep",
            deny::POLICY_NAME
        ),
        (Some(put), None) => format!("it is being denied; so far that is refused: {put}"),
        (None, None) => "it is being denied".to_owned(),
    }
}

/// How a key or credential stands, and what follows.
enum Next {
    Deactivate { put_back: bool },
    Inactive,
    NotOurs,
}

fn next(frame: &Frame<'_>, plan: &mut PrincipalPlan, resource: &Resource, active: bool) -> Next {
    let (action, before) = match resource {
        Resource::ServiceCredential { .. } => {
            (Action::DeactivateCredential, Before::ServiceCredential { active: true })
        }
        _ => (Action::DeactivateKey, Before::AccessKey { active: true }),
    };
    let image = frame.images.get(resource);
    if active {
        if image.is_none() {
            plan.images.push(frame.image(resource, before));
        }
        let put_back = frame.containment.coverage.denied.contains(&resource.to_string());
        return Next::Deactivate { put_back };
    }
    let Some(image) = image else {
        return Next::NotOurs;
    };
    // Ours only if we tried: a person may have been faster, and then a reset leaves it inactive.
    let tried = frame
        .steps
        .since(action, resource, image.recorded_at)
        .is_some_and(Step::may_have_happened);
    if image.changed_at.is_none() && tried {
        plan.adopted.push(resource.clone());
    }
    Next::Inactive
}

/// Machines are known by the profiles that they carry, so what may be missed keeps a containment open (C3).
fn unseen_profiles(frame: &Frame<'_>, plan: &mut PrincipalPlan, principal: &Resource, state: &PrincipalState) {
    let Some(blind) = &state.profiles_unseen else { return };
    let line = StillBurning {
        resource: principal.to_string(),
        why: format!(
            "its instance profiles could not be listed, so machines that only they show to be the agent's may be \
             missed: {}",
            blind.why
        ),
    };
    if blind.refused && frame.containment.mode == Mode::Revoke {
        plan.burning.push(line);
    } else {
        plan.unseen.push(line);
    }
}

fn plan_keys(frame: &Frame<'_>, plan: &mut PrincipalPlan, principal: &Resource, state: &PrincipalState) {
    let user = state.principal.name();
    for key in &state.keys {
        let resource = Resource::AccessKey {
            user: user.to_owned(),
            key_id: key.id.clone(),
        };
        match next(frame, plan, &resource, key.active) {
            Next::Deactivate { put_back } => plan.keys.push(PlannedKey {
                user: user.to_owned(),
                key_id: key.id.clone(),
                put_back,
            }),
            Next::Inactive => plan.denied.push(resource.to_string()),
            Next::NotOurs => {}
        }
    }
    if let Some(blind) = &state.keys_unseen {
        bound_all_the_same(plan, principal, "access keys", blind);
    }
}

fn plan_credentials(frame: &Frame<'_>, plan: &mut PrincipalPlan, principal: &Resource, state: &PrincipalState) {
    let user = state.principal.name();
    for credential in &state.service_credentials {
        let resource = Resource::ServiceCredential {
            user: user.to_owned(),
            id: credential.id.clone(),
        };
        match next(frame, plan, &resource, credential.active) {
            Next::Deactivate { put_back } => plan.credentials.push(PlannedCredential {
                user: user.to_owned(),
                id: credential.id.clone(),
                put_back,
            }),
            Next::Inactive => plan.denied.push(resource.to_string()),
            Next::NotOurs => {}
        }
    }
    if let Some(blind) = &state.credentials_unseen {
        bound_all_the_same(plan, principal, "service credentials", blind);
    }
}

fn bound_all_the_same(plan: &mut PrincipalPlan, principal: &Resource, what: &str, blind: &Blind) {
    let line = StillBurning {
        resource: principal.to_string(),
        why: format!(
            "its {what} could not be listed, so none was made inactive; the deny binds them all the same: {}",
            blind.why
        ),
    };
    if blind.refused {
        plan.burning.push(line);
    } else {
        plan.unseen.push(line);
    }
}
