//! What must not be allowed: a guard that agents can change is no guard, and a guard that may do everything is
//! the best thing to steal.
//!
//! None of it keeps Backstop from working, so it is a warning, with what would prevent it. It is asked in
//! the same way as what must be allowed, of the same simulator, and never tried.

use super::{Finding, some};
use crate::domain::containment::target::Principal;
use crate::domain::iam::simulation::{Decision, Key, Question, Ruling};
use crate::domain::iam::{BOUNDARY, Choice, GUARD_PATH, Scope};
use crate::domain::id::AgentId;

/// The name of the check of the guard's own rights.
pub const GUARD_CHECK: &str = "guard rights";

/// The name of the checks of what agents could do to the guard.
pub const AGENT_CHECK: &str = "agent rights";

/// What the shipped policy denies the guard: one example each of deleting data and of making rights.
const NEVER: &[&str] = &[
    "dynamodb:DeleteTable",
    "ec2:DeleteVolume",
    "iam:CreateAccessKey",
    "iam:CreateUser",
    "iam:PassRole",
    "kms:ScheduleKeyDeletion",
    "rds:DeleteDBInstance",
    "s3:DeleteObject",
];

/// Not unless it is chosen.
const TERMINATE: &str = super::questions::TERMINATE;

/// What changes whose hands a role is in, or what it may do.
const CHANGES_A_ROLE: &[&str] = &[
    "iam:AttachRolePolicy",
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
];

const CHANGES_A_USER: &[&str] = &[
    "iam:AttachUserPolicy",
    "iam:CreateAccessKey",
    "iam:DeleteUserPermissionsBoundary",
    "iam:DeleteUserPolicy",
    "iam:DetachUserPolicy",
    "iam:PutUserPolicy",
    "iam:UpdateAccessKey",
];

const ASSUME: &str = "sts:AssumeRole";

/// May the guard do what it never has to?
pub fn of_guard(scope: &Scope) -> Question {
    let actions = NEVER
        .iter()
        .chain((!scope.has(Choice::TerminateUnstoppable)).then_some(&TERMINATE));
    Question {
        actions: actions.map(|&action| action.to_owned()).collect(),
        resource: "*".to_owned(),
        keys: Vec::new(),
    }
}

pub fn guard_finding(rulings: &[Ruling], about: &str) -> Finding {
    let allowed = allowed(rulings);
    if allowed.is_empty() {
        return Finding::ok(GUARD_CHECK, format!("{about} may not delete data, nor hand out rights"));
    }
    let found = format!("{about} may do what it never has to: {}", some(&allowed));
    let todo = "attach what `backstop aws policy guard` prints: it denies this, whatever else is attached";
    Finding::warn(GUARD_CHECK, found, todo)
}

/// What is asked of one of an agent's principals: about the guard, and about principals like itself.
pub fn of_agent(principal: &Principal, guard: &str) -> Vec<Question> {
    let ask = |actions: &[&str], resource: &str| Question {
        actions: actions.iter().map(|&action| action.to_owned()).collect(),
        resource: resource.to_owned(),
        keys: Vec::<Key>::new(),
    };
    let of_guard = if super::questions::is_role(guard) {
        let mut actions = CHANGES_A_ROLE.to_vec();
        actions.push(ASSUME);
        actions
    } else {
        CHANGES_A_USER.to_vec()
    };
    let own = match principal {
        Principal::Role(_) => CHANGES_A_ROLE,
        Principal::User(_) => CHANGES_A_USER,
    };
    vec![ask(&of_guard, guard), ask(own, principal.arn())]
}

/// What was learnt of an agent's principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known<'a> {
    pub agent: &'a AgentId,
    pub principal: &'a Principal,
    /// What it may do to the guard, and to itself; `None` where the simulator was not heard.
    pub guard: Option<&'a [Ruling]>,
    pub own: Option<&'a [Ruling]>,
    /// Whether the guard's role trusts it, or its whole account; `None` if that could not be read.
    pub guard_trusts: Option<bool>,
}

/// Everything that should not be, of one principal; empty if it is as it should be.
pub fn agent_findings(known: &Known<'_>) -> Vec<Finding> {
    let who = format!("{} ({})", known.agent, known.principal.arn());
    let mut findings = Vec::new();
    let bound = format!("give it the permission boundary that `backstop aws policy boundary` prints ({BOUNDARY})");
    let rulings = known.guard.unwrap_or_default();
    let (assume, changes): (Vec<String>, Vec<String>) = allowed(rulings).into_iter().partition(|one| one == ASSUME);
    if !changes.is_empty() {
        let found = format!("{who} may change the guard: {}", some(&changes));
        findings.push(Finding::warn(AGENT_CHECK, found, bound.clone()));
    }
    let denied = rulings
        .iter()
        .any(|one| one.action == ASSUME && one.decision == Decision::Denied);
    match (known.guard_trusts, assume.is_empty()) {
        // A role that trusts somebody by name needs no policy of theirs; whether it is by name is not known here.
        (Some(true), _) if !denied => {
            let found = format!("{who} may become the guard: the guard's role trusts it, or its whole account");
            let todo = "let the guard's role trust its own service alone, such as ec2.amazonaws.com".to_owned();
            findings.push(Finding::warn(AGENT_CHECK, found, todo));
        }
        (None, false) => {
            let found =
                format!("{who} is allowed to assume the guard's role; whether that trusts it could not be read");
            findings.push(Finding::warn(AGENT_CHECK, found, bound.clone()));
        }
        _ => {}
    }
    let own = allowed(known.own.unwrap_or_default());
    if !own.is_empty() {
        let found = format!(
            "{who} may change rights, its own or those of its like, and with them lift another agent's deny: {}",
            some(&own)
        );
        findings.push(Finding::warn(AGENT_CHECK, found, bound));
    }
    findings
}

/// Whether a principal has a permission boundary: of one that has none, all that its policies allow is allowed.
pub fn boundary_finding(agent: &AgentId, principal: &Principal, boundary: Option<&str>) -> Option<Finding> {
    if boundary.is_some() {
        return None;
    }
    let found = format!("{agent} ({}) has no permission boundary", principal.arn());
    let todo = format!(
        "make the policy that `backstop aws policy boundary` prints as {GUARD_PATH}{BOUNDARY}, and let it be the \
         boundary of the agents' roles and users"
    );
    Some(Finding::warn("boundary", found, todo))
}

/// The shipped policies protect the guard by its path.
pub fn place_finding(guard: &str) -> Option<Finding> {
    if crate::domain::containment::guard::is_below_guard_path(guard) {
        return None;
    }
    let found = format!(
        "{guard} is not below the path {GUARD_PATH}: the shipped boundary and SCP protect what is there, and do \
         not know this one"
    );
    let todo = format!("let the daemon run as a role below {GUARD_PATH}, as the template in deploy/iam makes it");
    Some(Finding::warn("guard place", found, todo))
}

fn allowed(rulings: &[Ruling]) -> Vec<String> {
    let allowed = rulings.iter().filter(|one| one.decision == Decision::Allowed);
    allowed.map(|one| one.action.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: &str = "arn:aws:iam::123456789012:role/backstop/guard";

    fn role() -> Principal {
        Principal::Role("arn:aws:iam::123456789012:role/agents/a".to_owned())
    }

    fn rulings(question: &Question, allowed: &[&str]) -> Vec<Ruling> {
        let ruling = |action: &String| Ruling {
            action: action.clone(),
            decision: if allowed.contains(&action.as_str()) {
                Decision::Allowed
            } else {
                Decision::NotAllowed
            },
            by: Vec::new(),
            boundary_allows: None,
            organisation_allows: None,
            missing_keys: Vec::new(),
        };
        question.actions.iter().map(ruling).collect()
    }

    #[test]
    fn what_the_guard_never_needs_is_what_the_shipped_policy_denies() {
        let policy = crate::domain::iam::guard::policy().json(&Scope::default());
        let denied: Vec<String> = policy["Statement"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["Effect"] == "Deny")
            .flat_map(|one| match &one["Action"] {
                serde_json::Value::Array(list) => list.clone(),
                one => vec![one.clone()],
            })
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect();
        for action in of_guard(&Scope::default()).actions {
            let is_denied = denied.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(begin) => action.starts_with(begin),
                None => *pattern == action,
            });
            assert!(is_denied, "{action}");
        }
    }

    #[test]
    fn a_guard_that_may_terminate_by_choice_is_not_blamed_for_it() {
        let chosen = Scope {
            choices: vec![Choice::TerminateUnstoppable],
            ..Scope::default()
        };
        assert!(of_guard(&Scope::default()).actions.iter().any(|one| one == TERMINATE));
        assert!(of_guard(&chosen).actions.iter().all(|one| one != TERMINATE));
    }

    #[test]
    fn an_agent_that_can_do_nothing_to_the_guard_is_not_mentioned() {
        let (agent, principal) = (AgentId::new("a").unwrap(), role());
        let asked = of_agent(&principal, GUARD);
        let (guard, own) = (rulings(&asked[0], &[]), rulings(&asked[1], &[]));
        for guard_trusts in [Some(false), None] {
            let known = Known {
                agent: &agent,
                principal: &principal,
                guard: Some(&guard),
                own: Some(&own),
                guard_trusts,
            };
            assert_eq!(agent_findings(&known), []);
        }
    }

    #[test]
    fn every_way_to_the_guard_is_told() {
        let (agent, principal) = (AgentId::new("a").unwrap(), role());
        let asked = of_agent(&principal, GUARD);
        assert_eq!(
            (asked[0].resource.as_str(), asked[1].resource.as_str()),
            (GUARD, principal.arn())
        );
        let told = |guard: &[&str], own: &[&str], guard_trusts: Option<bool>| {
            let (guard, own) = (rulings(&asked[0], guard), rulings(&asked[1], own));
            let known = Known {
                agent: &agent,
                principal: &principal,
                guard: Some(&guard),
                own: Some(&own),
                guard_trusts,
            };
            let found = agent_findings(&known).into_iter().map(|one| one.found);
            found.collect::<Vec<_>>().join("\n")
        };
        assert!(told(&["iam:PutRolePolicy"], &[], Some(false)).contains("may change the guard: iam:PutRolePolicy"));
        assert!(told(&[ASSUME], &[], Some(true)).contains("may become the guard"));
        assert!(
            told(&[], &[], Some(true)).contains("may become the guard"),
            "trusted by name, it needs no policy"
        );
        assert!(told(&[ASSUME], &[], None).contains("could not be read"));
        assert_eq!(
            told(&[ASSUME], &[], Some(false)),
            "",
            "nobody who is not trusted gets in"
        );
        assert!(told(&[], &["iam:DeleteRolePolicy"], Some(false)).contains("lift another agent's deny"));
    }

    #[test]
    fn a_forbidden_way_is_none() {
        let (agent, principal) = (AgentId::new("a").unwrap(), role());
        let mut guard = rulings(&of_agent(&principal, GUARD)[0], &[]);
        for ruling in &mut guard {
            ruling.decision = Decision::Denied;
        }
        let known = Known {
            agent: &agent,
            principal: &principal,
            guard: Some(&guard),
            own: None,
            guard_trusts: Some(true),
        };
        assert_eq!(agent_findings(&known), []);
    }

    #[test]
    fn a_guard_and_an_agent_stand_where_the_shipped_policies_look() {
        assert!(place_finding(GUARD).is_none());
        assert!(place_finding("arn:aws:iam::123456789012:role/ops/backstop").is_some());
        let agent = AgentId::new("a").unwrap();
        assert!(boundary_finding(&agent, &role(), Some("arn:aws:iam::123456789012:policy/x")).is_none());
        assert!(boundary_finding(&agent, &role(), None).is_some());
    }
}
