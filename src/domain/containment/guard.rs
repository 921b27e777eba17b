//! The guard: Backstop's own role and host and the break-glass principals, never targets (C5).
//!
//! Checked twice: a config that names one as a target is refused, and a plan skips and reports one
//! that turns up all the same (a tag put on our own host, a guard learnt only when the daemon asked
//! who it is). A role is compared by account and name, not by text: the session of an assumed role
//! carries no path, and IAM keeps names unique whatever their path and case. Whoever lives below the
//! guard's own path is its, whether a setting names it or not.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::deny;
use super::target::{CloudTargets, Guard, Principal, Resource};

/// What an IAM or STS ARN names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalName {
    pub account: String,
    pub kind: PrincipalKind,
    /// Without its path; in lower case, because IAM's names are unique without regard to case.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    Role,
    User,
    Root,
}

impl PrincipalName {
    /// Reads `arn:P:iam::ACCOUNT:role/PATH/NAME`, `…:user/PATH/NAME`, `…:root` and
    /// `arn:P:sts::ACCOUNT:assumed-role/NAME/SESSION`.
    pub fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (prefix, partition) = (parts.next()?, parts.next()?);
        let (service, region, account, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if prefix != "arn" || partition.is_empty() || !region.is_empty() || !digits {
            return None;
        }
        let (kind, name) = match (service, rest.split_once('/')) {
            ("iam", None) if rest == "root" => (PrincipalKind::Root, "root"),
            ("iam", Some(("role", path))) => (PrincipalKind::Role, path.rsplit('/').next()?),
            ("iam", Some(("user", path))) => (PrincipalKind::User, path.rsplit('/').next()?),
            ("sts", Some(("assumed-role", session))) => (PrincipalKind::Role, session.split('/').next()?),
            _ => return None,
        };
        (!name.is_empty()).then(|| Self {
            account: account.to_owned(),
            kind,
            name: name.to_ascii_lowercase(),
        })
    }
}

/// One text for all ARNs of the same principal.
impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PrincipalKind::Role => "role",
            PrincipalKind::User => "user",
            PrincipalKind::Root => "root",
        };
        write!(f, "{}:{kind}/{}", self.account, self.name)
    }
}

/// Whether it is the ARN of a role or user below the path at which the shipped policies keep the guard.
pub fn is_below_guard_path(arn: &str) -> bool {
    let named = arn.splitn(6, ':').nth(5).and_then(|rest| rest.split_once('/'));
    let path = deny::POLICY_PATH.trim_start_matches('/');
    named.is_some_and(|(kind, rest)| matches!(kind, "role" | "user") && rest.starts_with(path))
}

impl Guard {
    pub fn covers_principal(&self, principal: &Principal) -> bool {
        self.covers_arn(principal.arn())
    }

    pub fn covers_arn(&self, arn: &str) -> bool {
        let name = PrincipalName::parse(arn);
        is_below_guard_path(arn)
            || self
                .principals
                .iter()
                .any(|guard| guard == arn || (name.is_some() && PrincipalName::parse(guard) == name))
    }

    pub fn covers_instance(&self, id: &str) -> bool {
        self.instances.iter().any(|guard| guard == id)
    }

    pub fn covers(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Principal { principal } => self.covers_principal(principal),
            // A key is its user's; of a user only the name is known here, so a guard of that name in
            // any account protects it.
            Resource::AccessKey { user, .. } | Resource::ServiceCredential { user, .. } => {
                self.principals.iter().any(|guard| {
                    PrincipalName::parse(guard)
                        .is_some_and(|name| name.kind == PrincipalKind::User && name.name.eq_ignore_ascii_case(user))
                })
            }
            Resource::Instance { id, .. } => self.covers_instance(id),
            // What the guard itself runs as is not known by its settings; by its role it is never the agent's.
            Resource::Asset { .. } => false,
        }
    }

    /// Adds who the daemon found itself to be.
    pub fn with_principal(&self, arn: &str) -> Self {
        let mut guard = self.clone();
        if !guard.principals.iter().any(|known| known == arn) {
            guard.principals.push(arn.to_owned());
        }
        guard
    }
}

/// Why a configured target cannot be one. In order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetProblem {
    #[error("{0} is not the ARN of an IAM role or user")]
    NotAPrincipal(String),
    #[error("{arn} belongs to account {found}, but the agent declares account {declared}")]
    OtherAccount {
        arn: String,
        declared: String,
        found: String,
    },
    #[error("{0} is the guard's own or a break-glass principal, which can never be a target")]
    IsGuard(String),
}

/// Everything that is wrong with an agent's targets (C5); empty when all is well.
pub fn check_targets(targets: &CloudTargets, guard: &Guard) -> Vec<TargetProblem> {
    targets
        .principals
        .iter()
        .filter_map(|principal| {
            let arn = principal.arn().to_owned();
            let wanted = match principal {
                Principal::Role(_) => PrincipalKind::Role,
                Principal::User(_) => PrincipalKind::User,
            };
            match PrincipalName::parse(&arn) {
                Some(name) if name.kind == wanted && arn.contains(":iam:") => {
                    if name.account != targets.account {
                        Some(TargetProblem::OtherAccount {
                            arn,
                            declared: targets.account.clone(),
                            found: name.account,
                        })
                    } else if guard.covers_principal(principal) {
                        Some(TargetProblem::IsGuard(arn))
                    } else {
                        None
                    }
                }
                _ => Some(TargetProblem::NotAPrincipal(arn)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ACCOUNT: &str = "123456789012";

    fn role(path: &str) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/{path}")
    }

    #[test]
    fn a_guard_is_known_under_each_of_its_names() {
        let guard = Guard {
            principals: vec![format!("arn:aws:sts::{ACCOUNT}:assumed-role/Backstop/i-0123")],
            instances: vec!["i-0guard".to_owned()],
        };
        for arn in [role("Backstop"), role("ops/deep/Backstop"), role("backstop")] {
            assert!(guard.covers_principal(&Principal::Role(arn.clone())), "{arn}");
        }
        assert!(!guard.covers_principal(&Principal::Role(role("Backstop2"))));
        assert!(!guard.covers_principal(&Principal::User(format!("arn:aws:iam::{ACCOUNT}:user/Backstop"))));
        assert!(!guard.covers_principal(&Principal::Role("arn:aws:iam::999999999999:role/Backstop".to_owned())));
        assert!(guard.covers_instance("i-0guard"));
    }

    #[test]
    fn who_lives_at_the_guards_path_is_the_guards() {
        let guard = Guard::default();
        for (path, is_guard) in [
            ("backstop/guard", true),
            ("backstop/deep/x", true),
            ("backstop", false),
            ("backstopper/x", false),
            ("agents/backstop/x", false),
        ] {
            assert_eq!(guard.covers_principal(&Principal::Role(role(path))), is_guard, "{path}");
        }
        assert!(guard.covers_arn(&format!("arn:aws:iam::{ACCOUNT}:user/backstop/u")));
        assert!(!guard.covers_arn(&format!("arn:aws:sts::{ACCOUNT}:assumed-role/agent/backstop/")));
    }

    #[test]
    fn a_guards_access_keys_are_guarded() {
        let guard = Guard {
            principals: vec![format!("arn:aws:iam::{ACCOUNT}:user/break/Glass")],
            instances: Vec::new(),
        };
        let key = |user: &str| Resource::AccessKey {
            user: user.to_owned(),
            key_id: "AKIA1".to_owned(),
        };
        assert!(guard.covers(&key("Glass")));
        assert!(guard.covers(&key("glass")));
        assert!(!guard.covers(&key("agent")));
    }

    #[test]
    fn a_config_that_names_the_guard_is_refused() {
        let guard = Guard {
            principals: vec![role("Backstop")],
            instances: Vec::new(),
        };
        let targets = CloudTargets {
            account: ACCOUNT.to_owned(),
            principals: vec![
                Principal::Role(role("agents/a")),
                Principal::Role(role("x/backstop")),
                Principal::Role("arn:aws:iam::999999999999:role/b".to_owned()),
                Principal::User(role("c")),
                Principal::Role("nonsense".to_owned()),
            ],
            tags: BTreeMap::new(),
            regions: Vec::new(),
        };
        let problems = check_targets(&targets, &guard);
        assert!(matches!(
            problems.as_slice(),
            [
                TargetProblem::IsGuard(_),
                TargetProblem::OtherAccount { .. },
                TargetProblem::NotAPrincipal(_),
                TargetProblem::NotAPrincipal(_),
            ]
        ));
    }
}
