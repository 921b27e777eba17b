//! Which of our own permissions a change needs, for a drill that asks whether we have them.
//!
//! IAM's simulation knows of a request what it is told: the action, the ARN, the tags of what it is about. It
//! looks none of them up, so all of them are put into the question here, in the same words as in
//! [`domain::iam::permissions`](crate::domain::iam::permissions), from which the shipped policy is made. What
//! the simulation cannot see, such as an organisation's SCPs of another account or a boundary on the session, a
//! drill does not see either.

use std::collections::BTreeMap;

use super::services;
use crate::domain::containment::deny;
use crate::domain::containment::state::Action;
use crate::domain::containment::target::{Principal, Resource};
use crate::ports::{Asking, Permission};

/// Where an account is, as its ARNs say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home<'a> {
    pub partition: &'a str,
    pub account: &'a str,
}

/// `None` for what has no permission of its own, or is named by something that nobody told.
pub(super) fn needed(us: &str, asking: &Asking<'_>) -> Option<Permission> {
    let mut parts = us.split(':').skip(1);
    let (partition, account) = (parts.next()?, parts.nth(2)?);
    let home = Home { partition, account };
    let principal = match asking.resource {
        Resource::Principal { principal } => Some(principal),
        _ => asking.principal,
    };
    let (action, resource) = match asking.resource {
        Resource::Instance { region, id } => {
            let arn = format!("arn:{partition}:ec2:{region}:{account}:instance/{id}");
            (machine(asking.action)?, arn)
        }
        Resource::Asset { asset } => services::permission(asking.action, home, asset)?,
        Resource::Principal { .. } | Resource::AccessKey { .. } | Resource::ServiceCredential { .. } => {
            let principal = principal?;
            (person(asking.action, principal)?, principal.arn().to_owned())
        }
    };
    let tags = asking.tags.iter();
    let mut context: BTreeMap<String, String> = tags
        .map(|(key, value)| (format!("aws:ResourceTag/{key}"), value.clone()))
        .collect();
    if matches!(asking.action, Action::AttachDeny | Action::DetachDeny) {
        let (path, name) = (deny::POLICY_PATH, deny::POLICY_NAME);
        let arn = format!("arn:{partition}:iam::{account}:policy{path}{name}");
        context.insert("iam:PolicyARN".to_owned(), arn);
    }
    Some(Permission {
        action: action.to_owned(),
        resource,
        context,
    })
}

fn machine(action: Action) -> Option<&'static str> {
    match action {
        Action::StopInstance => Some("ec2:StopInstances"),
        Action::StartInstance => Some("ec2:StartInstances"),
        Action::TerminateInstance => Some("ec2:TerminateInstances"),
        _ => None,
    }
}

fn person(action: Action, principal: &Principal) -> Option<&'static str> {
    let is_role = matches!(principal, Principal::Role(_));
    match (action, is_role) {
        (Action::PutDeny, true) => Some("iam:PutRolePolicy"),
        (Action::PutDeny, false) => Some("iam:PutUserPolicy"),
        (Action::LiftDeny, true) => Some("iam:DeleteRolePolicy"),
        (Action::LiftDeny, false) => Some("iam:DeleteUserPolicy"),
        (Action::AttachDeny, true) => Some("iam:AttachRolePolicy"),
        (Action::AttachDeny, false) => Some("iam:AttachUserPolicy"),
        (Action::DetachDeny, true) => Some("iam:DetachRolePolicy"),
        (Action::DetachDeny, false) => Some("iam:DetachUserPolicy"),
        (Action::DeactivateKey | Action::ActivateKey, false) => Some("iam:UpdateAccessKey"),
        (Action::DeactivateCredential | Action::ActivateCredential, false) => {
            Some("iam:UpdateServiceSpecificCredential")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::containment::target::Region;
    use crate::domain::fleet::asset::{AssetRef, Kind};
    use crate::domain::iam::permissions;

    const US: &str = "arn:aws-cn:iam::123456789012:role/backstop/guard";

    fn asset(kind: &'static str, id: &str) -> Resource {
        let (kind, region) = (Kind::named(kind), Region("eu-west-1".to_owned()));
        let id = id.to_owned();
        Resource::Asset {
            asset: AssetRef { kind, region, id },
        }
    }

    fn ask(action: Action, resource: &Resource, principal: Option<&Principal>) -> Option<Permission> {
        let tags = BTreeMap::from([("backstop:agent".to_owned(), "a".to_owned())]);
        needed(
            US,
            &Asking {
                action,
                resource,
                principal,
                tags: &tags,
            },
        )
    }

    /// Every change that a containment or a restore makes, and each of its permissions is one that is shipped.
    #[test]
    fn every_change_has_a_permission_of_the_shipped_policy() {
        let role = Principal::Role("arn:aws-cn:iam::123456789012:role/agents/a".to_owned());
        let user = Principal::User("arn:aws-cn:iam::123456789012:user/agents/b".to_owned());
        let principal = |one: &Principal| Resource::Principal { principal: one.clone() };
        let key = Resource::AccessKey {
            user: "b".to_owned(),
            key_id: "AKIA".to_owned(),
        };
        let credential = Resource::ServiceCredential {
            user: "b".to_owned(),
            id: "ACCA".to_owned(),
        };
        let machine = Resource::Instance {
            region: Region("eu-west-1".to_owned()),
            id: "i-1".to_owned(),
        };
        let denies = [
            Action::PutDeny,
            Action::LiftDeny,
            Action::AttachDeny,
            Action::DetachDeny,
        ];
        let mut all: Vec<(Action, Resource)> = Vec::new();
        for one in [&role, &user] {
            all.extend(denies.map(|action| (action, principal(one))));
        }
        all.extend([Action::DeactivateKey, Action::ActivateKey].map(|action| (action, key.clone())));
        all.extend([Action::DeactivateCredential, Action::ActivateCredential].map(|one| (one, credential.clone())));
        all.extend([Action::StopInstance, Action::StartInstance].map(|one| (one, machine.clone())));
        for (kind, id) in [("group", "g"), ("ecs-service", "c/s"), ("function", "f")] {
            all.extend([Action::Cap, Action::Uncap].map(|action| (action, asset(kind, id))));
        }
        all.push((Action::End, asset("ecs-task", "c/t")));
        for (action, resource) in all {
            let needed = ask(action, &resource, Some(&user)).unwrap_or_else(|| panic!("{action:?} {resource}"));
            assert!(
                permissions::ALL.iter().any(|one| one.action == needed.action),
                "{} is not in the table",
                needed.action
            );
            assert!(needed.resource.starts_with("arn:aws-cn:"), "{}", needed.resource);
            assert_eq!(needed.context["aws:ResourceTag/backstop:agent"], "a");
        }
        assert_eq!(ask(Action::Cap, &asset("volume", "v"), None), None);
        assert_eq!(ask(Action::DeactivateKey, &key, None), None, "whose it is was not said");
        let attach = ask(Action::AttachDeny, &principal(&role), None).unwrap();
        assert_eq!(
            attach.context["iam:PolicyARN"],
            "arn:aws-cn:iam::123456789012:policy/backstop/backstop-deny"
        );
    }
}
