//! Which questions are put to the policy simulator, from the table of permissions and what is declared.
//!
//! A permission is asked about as it will be used: on the real role and user of every agent, on things that
//! carry an agent's own ownership tag, with the keys that AWS sets in such a request. So a role outside the
//! path that a policy names shows, and so does a tag that a policy does not know. Where no agent is declared yet,
//! one that follows the conventions of `deploy/iam` stands in.
//!
//! The things need not exist: the simulator compares names.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::containment::target::{CloudTargets, Principal, Region};
use crate::domain::iam::permissions::{ALL, On};
use crate::domain::iam::simulation::{Key, Question};
use crate::domain::iam::{Choice, OWNER, Scope};
use crate::domain::id::AgentId;

/// Questions of one examination at most: IAM answers a few a second, and the kill switch asks there too.
pub const MOST: usize = 240;

/// The permission that is not in the table, since it is only for those who choose it.
pub const TERMINATE: &str = "ec2:TerminateInstances";

/// What stands in for a name that is not known.
const NOBODY: &str = "backstop-doctor";

/// What the questions are about.
#[derive(Debug, Clone)]
pub struct Basis {
    /// Partition, account, and what is chosen.
    pub scope: Scope,
    /// The ARN of the role or user whose permissions are looked at.
    pub guard: String,
    /// In which region regional things are taken to be.
    pub region: Region,
    pub agents: BTreeMap<AgentId, CloudTargets>,
}

/// A question with what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub on: On,
    /// The key of the ownership tag that the thing carries, where it is the agents' by one.
    pub tag: Option<String>,
    pub question: Question,
}

/// The questions, and how many more there would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub asked: Vec<Asked>,
    pub left_out: usize,
}

/// Every permission of the table that AWS asks for, each on everything it is needed on. What all of
/// them need comes first, so that a cut leaves out only more of the same.
pub fn plan(basis: &Basis) -> Plan {
    let mut by: BTreeMap<On, Vec<&'static str>> = BTreeMap::new();
    for one in ALL.iter().filter(|one| one.on != On::Nothing) {
        by.entry(one.on).or_default().push(one.action);
    }
    if basis.scope.has(Choice::TerminateUnstoppable) {
        by.entry(On::Instances).or_default().push(TERMINATE);
    }
    let (mut once, mut each): (Vec<Asked>, Vec<Vec<Asked>>) = (Vec::new(), Vec::new());
    for (on, actions) in by {
        let mut asked = basis.on(on, &actions);
        if asked.is_empty() {
            continue;
        }
        let rest = asked.split_off(1);
        once.extend(asked);
        each.push(rest);
    }
    // Round by round, so that no kind of thing is left out for the sake of another.
    let mut more: Vec<std::vec::IntoIter<Asked>> = each.into_iter().map(Vec::into_iter).collect();
    loop {
        let round: Vec<Asked> = more.iter_mut().filter_map(Iterator::next).collect();
        if round.is_empty() {
            break;
        }
        once.extend(round);
    }
    let left_out = once.len().saturating_sub(MOST);
    once.truncate(MOST);
    Plan { asked: once, left_out }
}

/// Whether it may stop what carries no ownership tag: a choice, and not among what must be allowed.
pub fn untagged(basis: &Basis) -> Question {
    Question {
        actions: vec!["ec2:StopInstances".to_owned()],
        resource: basis.thing(On::Instances),
        keys: vec![basis.region_key()],
    }
}

impl Basis {
    fn on(&self, on: On, actions: &[&'static str]) -> Vec<Asked> {
        let ask = |resource: String, keys: Vec<Key>, tag: Option<String>, actions: Vec<&str>| Asked {
            on,
            tag,
            question: Question {
                actions: actions.into_iter().map(str::to_owned).collect(),
                resource,
                keys,
            },
        };
        let all = || actions.to_vec();
        match on {
            On::Nothing => Vec::new(),
            On::Everything => vec![ask("*".to_owned(), vec![self.region_key()], None, all())],
            On::AgentRoles => (self.principals(true, false).into_iter())
                .map(|arn| ask(arn, Vec::new(), None, all()))
                .collect(),
            On::AgentUsers => (self.principals(false, true).into_iter())
                .map(|arn| ask(arn, Vec::new(), None, all()))
                .collect(),
            On::Agents => (self.principals(true, true).into_iter())
                .map(|arn| ask(arn, Vec::new(), None, all()))
                .collect(),
            On::AgentsAndDeny => (self.principals(true, true).into_iter())
                .map(|arn| {
                    let keys = vec![Key::text("iam:PolicyARN", self.fill(On::DenyPolicy))];
                    // A role is not attached to as a user is.
                    let word = if is_role(&arn) { "RolePolicy" } else { "UserPolicy" };
                    let fit = actions
                        .iter()
                        .copied()
                        .filter(|action| action.ends_with(word))
                        .collect();
                    ask(arn, keys, None, fit)
                })
                .collect(),
            On::DenyPolicy => vec![ask(self.fill(On::DenyPolicy), Vec::new(), None, all())],
            On::GuardRole => {
                // A user has no role to look up.
                let fit = |action: &&str| is_role(&self.guard) || *action != "iam:GetRole";
                let fit = actions.iter().copied().filter(fit).collect();
                vec![ask(self.guard.clone(), Vec::new(), None, fit)]
            }
            On::VolumeKeys => {
                let Region(region) = &self.region;
                let keys = vec![
                    Key::yes("kms:GrantIsForAWSResource"),
                    Key::text("kms:ViaService", format!("ec2.{region}.amazonaws.com")),
                    self.region_key(),
                ];
                vec![ask(self.thing(on), keys, None, all())]
            }
            On::Instances | On::Groups | On::Services | On::Tasks | On::Functions => (self.tags().into_iter())
                .map(|(tag, value)| {
                    let keys = self.tag_keys(on, &tag, &value);
                    ask(self.thing(on), keys, Some(tag), all())
                })
                .collect(),
        }
    }

    fn fill(&self, on: On) -> String {
        on.resources()
            .first()
            .map_or_else(String::new, |text| self.scope.fill(text))
    }

    fn region_key(&self) -> Key {
        Key::text("aws:RequestedRegion", self.region.0.clone())
    }

    /// The tag under every name by which a policy may ask for it.
    fn tag_keys(&self, on: On, tag: &str, value: &str) -> Vec<Key> {
        let own = match on {
            On::Instances => Some("ec2"),
            On::Groups => Some("autoscaling"),
            On::Services | On::Tasks => Some("ecs"),
            _ => None,
        };
        let names = std::iter::once("aws").chain(own);
        let tags = names.map(|service| Key::text(format!("{service}:ResourceTag/{tag}"), value));
        tags.chain([self.region_key()]).collect()
    }

    /// The agents' roles, users or both, each once.
    fn principals(&self, roles: bool, users: bool) -> Vec<String> {
        let declared = self.agents.values().flat_map(|targets| &targets.principals);
        let named: BTreeSet<&str> = declared
            .filter(|one| match one {
                Principal::Role(_) => roles,
                Principal::User(_) => users,
            })
            .map(Principal::arn)
            .collect();
        // Of agents that are all roles, nothing is done to a user.
        if !self.agents.is_empty() {
            return named.into_iter().map(str::to_owned).collect();
        }
        let (partition, account, path) = (&self.scope.partition, &self.scope.account, &self.scope.agent_path);
        let kinds = [("role", roles), ("user", users)]
            .into_iter()
            .filter(|(_, wanted)| *wanted);
        kinds
            .map(|(kind, _)| format!("arn:{partition}:iam::{account}:{kind}{path}{NOBODY}"))
            .collect()
    }

    /// The agents' ownership tags, each once.
    fn tags(&self) -> Vec<(String, String)> {
        let declared = self.agents.values().flat_map(|targets| &targets.tags);
        let tags: BTreeSet<(String, String)> = declared.map(|(key, value)| (key.clone(), value.clone())).collect();
        if self.agents.is_empty() {
            return vec![(OWNER.to_owned(), NOBODY.to_owned())];
        }
        tags.into_iter().collect()
    }

    /// Something of that kind.
    fn thing(&self, on: On) -> String {
        let name = match on {
            On::Instances => "instance/i-00000000000000000".to_owned(),
            On::Groups => {
                format!("autoScalingGroup:00000000-0000-0000-0000-000000000000:autoScalingGroupName/{NOBODY}")
            }
            On::Services => format!("service/{NOBODY}/{NOBODY}"),
            On::Tasks => format!("task/{NOBODY}/00000000000000000000000000000000"),
            On::Functions => format!("function:{NOBODY}"),
            On::VolumeKeys => "key/00000000-0000-0000-0000-000000000000".to_owned(),
            _ => return self.fill(on),
        };
        // The pattern of the table says whose it is, down to the kind: `arn:P:ec2:*:A:instance/*`.
        let pattern = self.fill(on);
        let mut parts: Vec<&str> = pattern.splitn(6, ':').collect();
        let (Some(region), true) = (parts.get_mut(3), name.contains('/') || name.contains(':')) else {
            return pattern;
        };
        *region = &self.region.0;
        parts.truncate(5);
        format!("{}:{name}", parts.join(":"))
    }
}

pub(super) fn is_role(arn: &str) -> bool {
    arn.splitn(6, ':').nth(5).is_some_and(|rest| rest.starts_with("role/"))
}

#[cfg(test)]
mod tests;
