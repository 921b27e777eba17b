//! Every permission that the daemon needs, by the policy simulator, or by what can be tried.

use std::collections::BTreeSet;

use super::{Case, Doctor, Who, is_denied, some_at_once};
use crate::domain::doctor::missing::{self, CHECK, Missing, Why};
use crate::domain::doctor::questions::{self, Asked, Plan};
use crate::domain::doctor::{Finding, excess, some};
use crate::domain::iam::permissions::{ALL, On};
use crate::domain::iam::simulation::{Decision, Ruling};
use crate::ports::CloudError;

/// Questions at once.
const AT_ONCE: usize = 2;

impl Doctor {
    pub(super) async fn rights(&self, case: &Case, who: &Who) -> Vec<Finding> {
        let Plan { asked, left_out } = questions::plan(&who.basis);
        let Some((first, rest)) = asked.split_first() else {
            return vec![Finding::not_checked(CHECK, "there is nothing to ask about")];
        };
        // One question alone first: if it is refused, so would be the others.
        let answer = self.within(self.cloud.rule(&who.about, &first.question)).await;
        if let Err(error) = &answer {
            return self.tried(who, error).await;
        }
        let mut judged = Judged::default();
        judged.take(first, answer);
        let calls = rest
            .iter()
            .map(|asked| async move { (asked, self.within(self.cloud.rule(&who.about, &asked.question)).await) });
        let answers = some_at_once(calls, AT_ONCE).await;
        for (asked, answer) in answers {
            judged.take(asked, answer);
        }
        let mut findings = judged.findings(who, left_out);
        findings.extend(self.more(case, who).await);
        findings
    }

    /// What is neither needed nor plainly wrong, and what must not be.
    async fn more(&self, case: &Case, who: &Who) -> Vec<Finding> {
        let about = who.about.arn();
        let mut findings = Vec::new();
        let forbidden = excess::of_guard(&who.basis.scope);
        findings.push(match self.within(self.cloud.rule(&who.about, &forbidden)).await {
            Ok(rulings) => excess::guard_finding(&rulings, about),
            Err(error) => Finding::not_checked(excess::GUARD_CHECK, format!("the simulator failed: {error}")),
        });
        let untagged = questions::untagged(&who.basis);
        let untagged = self.within(self.cloud.rule(&who.about, &untagged)).await;
        findings.push(match untagged {
            Ok(rulings) => untagged_finding(case, &rulings),
            Err(error) => Finding::not_checked("untagged", format!("the simulator failed: {error}")),
        });
        findings
    }

    /// Without a simulation: reads of which each shows one permission. What would change something is not
    /// tried, and so is not checked.
    async fn tried(&self, who: &Who, why: &CloudError) -> Vec<Finding> {
        let about = who.about.arn();
        let mut findings = Vec::new();
        if why.code.as_deref() == Some("NoSuchEntity") {
            let found = format!("{about} is not there: {why}");
            return vec![Finding::fail(
                CHECK,
                found,
                "name the role or user that the daemon runs as, by its whole ARN",
            )];
        }
        if is_denied(why) {
            let own = Missing {
                action: "iam:SimulatePrincipalPolicy".to_owned(),
                on: On::GuardRole,
                resource: about.to_owned(),
                tag: None,
                why: Why::NoStatement { keys: Vec::new() },
            };
            let asked_as = &who.identity.arn;
            let found = format!("{asked_as} may not simulate the policies of {about}, so less can be shown: {why}");
            let todo = format!("add this to the policies of {asked_as}");
            let statements = missing::statements(&[own], &who.basis.scope);
            findings.push(Finding::warn(CHECK, found, todo).with_statements(statements));
        } else {
            let found = format!("the policies of {about} could not be simulated: {why}");
            findings.push(Finding::warn(CHECK, found, "look again; less can be shown without it"));
        }
        if about != who.identity.arn {
            // What we may shows nothing of what it may.
            findings.push(Finding::not_checked(
                CHECK,
                format!("whether {about} has the permissions of the table"),
            ));
            return findings;
        }
        let tries = self.cloud.probes().iter().map(|probe| async move {
            (
                probe.action,
                self.within(self.cloud.probe(&who.basis.region, probe.action)).await,
            )
        });
        let tries = some_at_once(tries, AT_ONCE).await;
        let (mut shown, mut refused) = (BTreeSet::new(), Vec::new());
        for (action, answer) in tries {
            match answer.map(|answered| answered.refused) {
                Ok(None) => {
                    shown.insert(action);
                }
                Ok(Some(error)) if is_denied(&error) => refused.push(Missing {
                    action: action.to_owned(),
                    on: On::Everything,
                    resource: "*".to_owned(),
                    tag: None,
                    why: Why::NoStatement { keys: Vec::new() },
                }),
                Ok(Some(_)) | Err(_) => {}
            }
        }
        findings.extend(missing::findings(&refused, &who.basis.scope, about));
        if !shown.is_empty() {
            let names: Vec<String> = shown.iter().map(|&action| action.to_owned()).collect();
            findings.push(Finding::ok(CHECK, format!("tried, and allowed: {}", names.join(", "))));
        }
        let is_open = |action: &&str| !shown.contains(action) && !refused.iter().any(|one| one.action == *action);
        let needed = ALL.iter().filter(|one| one.on != On::Nothing).map(|one| one.action);
        let open: BTreeSet<&str> = needed.filter(is_open).collect();
        let open: Vec<String> = open.into_iter().map(str::to_owned).collect();
        let found = format!("these {} cannot be tried without harm: {}", open.len(), open.join(", "));
        findings.push(Finding::not_checked(CHECK, found));
        findings
    }
}

/// What the answers said so far.
#[derive(Default)]
struct Judged {
    missing: Vec<Missing>,
    allowed: BTreeSet<(String, On)>,
    /// Questions that were not answered, or not wholly, and why.
    open: Vec<String>,
}

impl Judged {
    fn take(&mut self, asked: &Asked, answer: Result<Vec<Ruling>, CloudError>) {
        let rulings = match answer {
            Ok(rulings) => rulings,
            Err(error) => {
                self.open.push(format!("{}: {error}", asked.question.resource));
                return;
            }
        };
        for action in missing::unanswered(asked, &rulings) {
            self.open.push(format!("{action}: the simulator says nothing of it"));
        }
        for ruling in &rulings {
            match Missing::of(asked, ruling) {
                Some(missing) => self.missing.push(missing),
                None => drop(self.allowed.insert((ruling.action.clone(), asked.on))),
            }
        }
    }

    fn findings(self, who: &Who, left_out: usize) -> Vec<Finding> {
        let about = who.about.arn();
        let mut findings = missing::findings(&self.missing, &who.basis.scope, about);
        if self.missing.is_empty() && self.open.is_empty() {
            let (count, agents) = (self.allowed.len(), who.basis.agents.len());
            let of = if agents == 0 {
                "as for an agent by the conventions of deploy/iam, as none is declared here".to_owned()
            } else {
                format!("agents: {agents}")
            };
            let found = format!("{about} has all {count} permissions that are needed, by IAM's simulation ({of})");
            findings.push(Finding::ok(CHECK, found));
        }
        if !self.open.is_empty() {
            let found = format!("the simulator did not answer everything: {}", some(&self.open));
            findings.push(Finding::fail(
                CHECK,
                found,
                "run it again; if it stays so, IAM throttles or fails",
            ));
        }
        if left_out > 0 {
            let found = format!(
                "{left_out} questions more of the same kind, about further agents; {} were asked",
                questions::MOST
            );
            findings.push(Finding::not_checked(CHECK, found));
        }
        findings
    }
}

fn untagged_finding(case: &Case, rulings: &[Ruling]) -> Finding {
    let allowed = rulings.iter().any(|one| one.decision == Decision::Allowed);
    if allowed {
        return Finding::ok("untagged", "machines without an ownership tag can be stopped too");
    }
    let tagless = case.targets.iter().filter(|(_, targets)| targets.tags.is_empty());
    let tagless: Vec<String> = tagless.map(|(agent, _)| agent.to_string()).collect();
    if tagless.is_empty() {
        let found = "machines without an ownership tag cannot be stopped: what an agent launches untagged stays still \
                     burning (the boundary keeps it from that; see --stop-untagged in deploy/iam)";
        return Finding::ok("untagged", found);
    }
    let found = format!("nothing of {} can be stopped: it has no ownership tag", some(&tagless));
    let todo = "give it one; or take `backstop aws policy guard --stop-untagged`, if the account is the agents' own";
    Finding::warn("untagged", found, todo)
}
