//! The agents' roles and users: whether they are there, have room for the deny, are bounded, and have no way
//! to the guard.

use super::{Doctor, Who, some_at_once};
use crate::domain::containment::deny;
use crate::domain::containment::target::Principal;
use crate::domain::doctor::excess::{self, AGENT_CHECK, Known};
use crate::domain::doctor::{Finding, agents};
use crate::domain::iam::simulation::Ruling;
use crate::domain::id::AgentId;
use crate::ports::CloudError;

/// Principals that are looked at.
const MOST: usize = 60;

/// At once; of each a few things.
const AT_ONCE: usize = 1;

/// What was seen of one of them.
struct Seen<'a> {
    agent: &'a AgentId,
    principal: &'a Principal,
    findings: Vec<Finding>,
    guard: Result<Vec<Ruling>, CloudError>,
    own: Result<Vec<Ruling>, CloudError>,
}

impl Doctor {
    pub(super) async fn people(&self, who: &Who) -> Vec<Finding> {
        let all = who.basis.agents.iter();
        let all = all.flat_map(|(agent, targets)| targets.principals.iter().map(move |one| (agent, one)));
        let all: Vec<(&AgentId, &Principal)> = all.collect();
        if all.is_empty() {
            return Vec::new();
        }
        let principals: Vec<Principal> = all.iter().map(|(_, principal)| (*principal).clone()).collect();
        let looks = all.iter().take(MOST);
        let looks = looks.map(|&(agent, principal)| self.person(who, agent, principal));
        let (trusting, seen) = tokio::join!(
            self.within(self.cloud.trusting(&principals)),
            some_at_once(looks, AT_ONCE)
        );
        let guard_trusts = trusting
            .as_ref()
            .ok()
            .map(|roles| roles.iter().any(|role| role == who.about.arn()));
        let mut findings = Vec::new();
        if let Err(error) = &trusting {
            let found = format!("whether the guard's role trusts an agent could not be read: {error}");
            findings.push(Finding::not_checked(AGENT_CHECK, found));
        }
        let (mut asked, mut dangers, mut failed) = (0_usize, Vec::new(), None);
        for one in seen {
            findings.extend(one.findings);
            match (&one.guard, &one.own) {
                (Ok(_), Ok(_)) => asked += 1,
                (Err(error), _) | (_, Err(error)) => failed = Some(error.to_string()),
            }
            dangers.extend(excess::agent_findings(&Known {
                agent: one.agent,
                principal: one.principal,
                guard: one.guard.as_deref().ok(),
                own: one.own.as_deref().ok(),
                guard_trusts,
            }));
        }
        if let Some(error) = failed {
            let found = format!("what every agent may do to the guard could not be simulated: {error}");
            findings.push(Finding::not_checked(AGENT_CHECK, found));
        }
        if dangers.is_empty() && asked > 0 {
            let found =
                format!("no way to the guard or to rights for the agents' principals that were asked about: {asked}");
            findings.push(Finding::ok(AGENT_CHECK, found));
        }
        findings.extend(dangers);
        if all.len() > MOST {
            let found = format!(
                "{} principals more than are looked at in one examination",
                all.len() - MOST
            );
            findings.push(Finding::not_checked(agents::CHECK, found));
        }
        findings
    }

    async fn person<'a>(&self, who: &Who, agent: &'a AgentId, principal: &'a Principal) -> Seen<'a> {
        let questions = excess::of_agent(principal, who.about.arn());
        let rule = async |n: usize| match questions.get(n) {
            Some(question) => self.within(self.cloud.rule(principal, question)).await,
            None => Ok(Vec::new()),
        };
        let (state, chars, guard, own) = tokio::join!(
            self.within(self.cloud.principal(principal, deny::POLICY_NAME)),
            self.within(self.cloud.inline_chars(principal, deny::POLICY_NAME)),
            rule(0),
            rule(1)
        );
        let mut findings = Vec::new();
        match &state {
            Ok(state) => {
                findings.push(agents::seen(agent, state, chars.ok()));
                let bound = state.boundary.as_deref();
                findings.extend(excess::boundary_finding(agent, principal, bound).filter(|_| state.exists));
            }
            Err(error) => {
                let found = format!("{agent}: {} could not be looked at: {error}", principal.arn());
                let todo = "correct its ARN in [agent.aws], or allow the daemon to read it";
                findings.push(Finding::fail(agents::CHECK, found, todo));
            }
        }
        Seen {
            agent,
            principal,
            findings,
            guard,
            own,
        }
    }
}
