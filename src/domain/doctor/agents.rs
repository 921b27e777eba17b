//! Whether what is declared of agents is enough to contain them, where we are.
//!
//! The config was checked when it was loaded; what it could not know is who the daemon is and in which
//! account (C5), and whether the principals that it names are there.

use std::collections::BTreeMap;

use super::{Finding, some};
use crate::domain::containment::deny;
use crate::domain::containment::guard::check_targets;
use crate::domain::containment::observed::{Identity, PrincipalState};
use crate::domain::containment::target::{CloudTargets, Guard};
use crate::domain::iam::OWNER;
use crate::domain::id::AgentId;

/// The name of the check.
pub const CHECK: &str = "agents";

/// What is declared of the agents.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Of every agent that declares a cloud side.
    pub targets: &'a BTreeMap<AgentId, CloudTargets>,
    /// Agents that declare none.
    pub without: &'a [AgentId],
    pub guard: &'a Guard,
}

/// What can be said without asking the cloud about each principal. `None` for a cloud that does not say
/// who we are.
pub fn findings(declared: Declared<'_>, identity: Option<&Identity>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let guard = match identity {
        Some(identity) => declared.guard.with_principal(&identity.arn),
        None => declared.guard.clone(),
    };
    for (agent, targets) in declared.targets {
        let before = findings.len();
        if let Some(identity) = identity.filter(|identity| identity.account != targets.account) {
            let found = format!(
                "{agent} is in account {}, but the credentials are of {}: nothing of it is seen or stopped",
                targets.account, identity.account
            );
            let todo = "correct [agent.aws] account, or give the daemon credentials of that account";
            findings.push(Finding::fail(CHECK, found, todo));
        }
        for problem in check_targets(targets, &guard) {
            let todo = "correct [agent.aws]: an agent's principals are its own, and never Backstop's";
            findings.push(Finding::fail(CHECK, format!("{agent}: {problem}"), todo));
        }
        if targets.principals.is_empty() {
            let found = format!("{agent} declares no role and no user: it can be stopped, and cannot be denied");
            let todo = "name them in [agent.aws] roles and users, else it starts again what is stopped";
            findings.push(Finding::warn(CHECK, found, todo));
        }
        if targets.tags.is_empty() {
            let found = format!(
                "{agent} declares no ownership tag: IAM lets the daemon stop by it, and what has none stays still burning"
            );
            let todo = format!(
                "let what it launches carry a tag such as {OWNER} = \"{agent}\", and name it in [agent.aws] tags"
            );
            findings.push(Finding::warn(CHECK, found, todo));
        } else if !targets.tags.contains_key(OWNER) {
            let found = format!("{agent} is owned by another tag than {OWNER}, which the shipped policies know");
            let todo = format!("tag what it launches with {OWNER} too, or widen the daemon's policy to that tag");
            findings.push(Finding::warn(CHECK, found, todo));
        }
        if findings.len() == before {
            let (principals, tags) = (targets.principals.len(), targets.tags.len());
            let found = format!(
                "{agent}: account {}, principals: {principals}, tags: {tags}",
                targets.account
            );
            findings.push(Finding::ok(CHECK, found));
        }
    }
    if !declared.without.is_empty() {
        let names: Vec<String> = declared.without.iter().map(ToString::to_string).collect();
        let found = format!(
            "no [agent.aws] for {}: containing them freezes their calls here, and nothing in the cloud",
            some(&names)
        );
        findings.push(Finding::warn(
            CHECK,
            found,
            "declare their cloud side, if they have any",
        ));
    }
    findings
}

/// What a look at a principal says: whether it is there, and whether the deny has room.
pub fn seen(agent: &AgentId, state: &PrincipalState, inline_chars: Option<usize>) -> Finding {
    let arn = state.principal.arn();
    if !state.exists {
        let found = format!("{agent}: {arn} is not there");
        return Finding::fail(
            CHECK,
            found,
            "correct its ARN in [agent.aws]: nobody is denied under this name",
        );
    }
    match deny::fits_inline(&state.principal, inline_chars) {
        Some(true) => Finding::ok(CHECK, format!("{agent}: {arn} is there, and has room for the deny")),
        Some(false) => Finding::ok(
            CHECK,
            format!("{agent}: {arn} is there; it has no room for an inline deny, so the managed one would be attached"),
        ),
        None => Finding::ok(
            CHECK,
            format!("{agent}: {arn} is there; whether it has room for an inline deny could not be added up"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::containment::target::Principal;
    use crate::domain::doctor::Standing;

    const ACCOUNT: &str = "123456789012";

    fn targets(account: &str, role: Option<&str>, tag: Option<&str>) -> CloudTargets {
        CloudTargets {
            account: account.to_owned(),
            principals: role
                .map(|path| Principal::Role(format!("arn:aws:iam::{account}:role/{path}")))
                .into_iter()
                .collect(),
            tags: tag.map(|key| (key.to_owned(), "a".to_owned())).into_iter().collect(),
            regions: Vec::new(),
        }
    }

    fn judged(targets: CloudTargets) -> Vec<(Standing, String)> {
        let identity = Identity {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:role/ops/guard"),
        };
        let all = BTreeMap::from([(AgentId::new("a").unwrap(), targets)]);
        let declared = Declared {
            targets: &all,
            without: &[],
            guard: &Guard::default(),
        };
        let found = findings(declared, Some(&identity)).into_iter();
        found.map(|one| (one.standing, one.found)).collect()
    }

    #[test]
    fn an_agent_is_held_against_where_we_are_and_who() {
        let fine = judged(targets(ACCOUNT, Some("agents/a"), Some(OWNER)));
        assert!(matches!(fine.as_slice(), [(Standing::Ok, _)]), "{fine:?}");
        for (targets, standing, says) in [
            (
                targets("210987654321", Some("agents/a"), Some(OWNER)),
                Standing::Fail,
                "credentials are of",
            ),
            (
                targets(ACCOUNT, Some("x/Guard"), Some(OWNER)),
                Standing::Fail,
                "guard's own",
            ),
            (targets(ACCOUNT, None, Some(OWNER)), Standing::Warn, "cannot be denied"),
            (
                targets(ACCOUNT, Some("agents/a"), None),
                Standing::Warn,
                "no ownership tag",
            ),
            (
                targets(ACCOUNT, Some("agents/a"), Some("team")),
                Standing::Warn,
                "another tag",
            ),
        ] {
            let found = judged(targets);
            assert!(
                found.iter().any(|(one, text)| *one == standing && text.contains(says)),
                "{says}: {found:?}"
            );
            assert!(found.iter().all(|(one, _)| *one != Standing::Ok), "{found:?}");
        }
    }

    #[test]
    fn an_agent_without_a_cloud_side_is_told() {
        let without = [AgentId::new("bare").unwrap()];
        let declared = Declared {
            targets: &BTreeMap::new(),
            without: &without,
            guard: &Guard::default(),
        };
        let found = findings(declared, None);
        assert!(matches!(found.as_slice(), [one] if one.standing == Standing::Warn && one.found.contains("bare")));
    }

    #[test]
    fn a_principal_that_is_not_there_fails_and_one_without_room_does_not() {
        let agent = AgentId::new("a").unwrap();
        let mut state = PrincipalState::absent(Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/agents/a")));
        assert_eq!(seen(&agent, &state, None).standing, Standing::Fail);
        state.exists = true;
        for (chars, says) in [
            (Some(0), "has room"),
            (Some(10_240), "managed"),
            (None, "could not be added up"),
        ] {
            let found = seen(&agent, &state, chars);
            assert!(
                found.standing == Standing::Ok && found.found.contains(says),
                "{found:?}"
            );
        }
    }
}
