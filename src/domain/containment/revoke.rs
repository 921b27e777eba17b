//! Planning the principals: which denies to put and which keys to make inactive.
//!
//! A principal is *denied* when our document is in place under our name. Everything else is brought
//! there: absent, another document under our name, or taken away again by somebody (which is also an
//! alarm: during a containment only a reset may lift it).

use super::deny;
use super::guard::PrincipalName;
use super::image::Before;
use super::observed::PrincipalState;
use super::plan::{Frame, PlannedDeny, PlannedKey, PrincipalPlan, Seen};
use super::state::{Action, Step, StillBurning};
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
                plan_deny(frame, &mut plan, principal, &resource, state.deny_document.as_deref());
                plan_keys(frame, &mut plan, principal, state);
            }
        }
    }
    plan
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

fn plan_deny(
    frame: &Frame<'_>,
    plan: &mut PrincipalPlan,
    principal: &Principal,
    resource: &Resource,
    document: Option<&str>,
) {
    let id = resource.to_string();
    let image = frame.images.get(resource);
    if document.is_some_and(deny::is_ours) {
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
                deny_document: document.map(str::to_owned),
                deny_attached: false,
            },
        ));
    }
    plan.denies.push(PlannedDeny {
        principal: principal.clone(),
        put_back: frame.containment.coverage.denied.contains(&id),
    });
}

fn plan_keys(frame: &Frame<'_>, plan: &mut PrincipalPlan, principal: &Principal, state: &PrincipalState) {
    for key in &state.keys {
        let resource = Resource::AccessKey {
            user: principal.name().to_owned(),
            key_id: key.id.clone(),
        };
        let id = resource.to_string();
        let image = frame.images.get(&resource);
        if key.active {
            if image.is_none() {
                plan.images
                    .push(frame.image(&resource, Before::AccessKey { active: true }));
            }
            plan.keys.push(PlannedKey {
                user: principal.name().to_owned(),
                key_id: key.id.clone(),
                put_back: frame.containment.coverage.denied.contains(&id),
            });
        } else if let Some(image) = image {
            // Ours only if we tried: a person may have been faster, and then a reset leaves it inactive.
            let tried = frame
                .steps
                .since(Action::DeactivateKey, &resource, image.recorded_at)
                .is_some_and(Step::may_have_happened);
            if image.changed_at.is_none() && tried {
                plan.adopted.push(resource.clone());
            }
            plan.denied.push(id);
        }
    }
}
