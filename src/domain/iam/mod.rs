//! What Backstop may do in AWS, and what its agents may not: the one source of `deploy/iam/`.
//!
//! Four policies are made here, each as IAM's JSON and as a CloudFormation template:
//!
//! - the *guard*'s, for the daemon's own role: every call that the daemon makes, from the table in
//!   [`permissions`], and an explicit deny of what it must never do, whatever else is attached to it;
//! - the agents' permission *boundary*: prevention. It denies launching without the ownership tag, changing
//!   that tag, passing or assuming roles that are no agent's, IAM writes, everything about the guard, and buying
//!   commitments;
//! - the agents' *SCP*, the same for a whole organisation;
//! - the guard's *SCP*, what only an SCP can say: nobody but the guard and break-glass touches the guard's role
//!   and policies, and no agent is born without the boundary.
//!
//! Names and paths say whose a thing is. Agents' roles and users live below [`Scope::agent_path`]; what is
//! below [`GUARD_PATH`], and topics that begin with `backstop`, are the guard's.
//!
//! Limits (documented: IAM User Guide, "IAM and AWS STS quotas"; AWS Organizations User Guide, "Quotas and
//! service limits"; read 2026-11): a managed policy and so a boundary has 6,144 characters, white space not
//! counted; an SCP had 5,120, white space counted, and is said to have 10,240 since May 2026 (third party).
//! The smaller figure is kept.

pub mod boundary;
pub mod cloudformation;
pub mod guard;
pub mod permissions;
pub mod policy;
pub mod scp;
pub mod simulation;

use policy::Policy;

use crate::domain::containment::deny;

/// The key of the ownership tag.
pub const OWNER: &str = "backstop:agent";

/// The key of a tag, of any value, that marks the guard's own machines: agents with the boundary can do nothing
/// to what carries it. The operator puts it there.
pub const GUARD_TAG: &str = "backstop:guard";

/// Below this path are the guard's role, its policies and the managed deny.
pub const GUARD_PATH: &str = deny::POLICY_PATH;

/// The name of the agents' permission boundary.
pub const BOUNDARY: &str = "backstop-agent-boundary";

pub const MANAGED_LIMIT: usize = 6_144;
pub const SCP_LIMIT: usize = 5_120;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Guard,
    Boundary,
    Scp,
    ScpGuard,
}

impl Document {
    pub const ALL: [Self; 4] = [Self::Guard, Self::Boundary, Self::Scp, Self::ScpGuard];

    pub fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Boundary => "boundary",
            Self::Scp => "scp",
            Self::ScpGuard => "scp-guard",
        }
    }

    pub fn policy(self) -> Policy {
        match self {
            Self::Guard => guard::policy(),
            Self::Boundary => boundary::policy(),
            Self::Scp => scp::agents(),
            Self::ScpGuard => scp::keepers(),
        }
    }

    /// The policy for a scope, as it is printed and shipped.
    pub fn text(self, scope: &Scope) -> String {
        let json = self.policy().json(scope);
        match self {
            Self::Guard | Self::Boundary => text(&json),
            Self::Scp | Self::ScpGuard => json.to_string(),
        }
    }

    /// Its size as AWS counts it, and what it may be.
    pub fn size(self, text: &str) -> (usize, usize) {
        match self {
            Self::Guard | Self::Boundary => (deny::chars(text), MANAGED_LIMIT),
            Self::Scp | Self::ScpGuard => (text.chars().count(), SCP_LIMIT),
        }
    }
}

/// What is widened by explicit choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Stop and start what carries no ownership tag. Runaway agents launch untagged, and what creator events
    /// or an instance profile show to be theirs can only be stopped by a statement without a tag condition,
    /// which then covers every machine of the account. That is for whoever runs the account to decide.
    StopUntagged,
    /// Stop and start the members of every group, tagged or not: a group that carries the ownership tag need not
    /// hand it to its members, and a member is found by its group. AWS alone writes the tag that names a group.
    StopMembers,
    /// Terminate what cannot be stopped, as `aws.terminate_unstoppable` asks; its disks are lost.
    TerminateUnstoppable,
}

impl Choice {
    pub const ALL: [Self; 3] = [Self::StopUntagged, Self::StopMembers, Self::TerminateUnstoppable];

    /// The name of its CloudFormation parameter.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::StopUntagged => "StopUntagged",
            Self::StopMembers => "StopMembers",
            Self::TerminateUnstoppable => "TerminateUnstoppable",
        }
    }
}

/// Where a policy is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Such as `aws` or `aws-cn`.
    pub partition: String,
    /// Twelve digits, or `*` for any.
    pub account: String,
    /// With a slash at both ends.
    pub agent_path: String,
    /// As [`Self::agent_path`]: whose members may change the guard.
    pub break_glass_path: String,
    pub choices: Vec<Choice>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            partition: "aws".to_owned(),
            account: "*".to_owned(),
            agent_path: "/agents/".to_owned(),
            break_glass_path: "/break-glass/".to_owned(),
            choices: Vec::new(),
        }
    }
}

/// What is wrong with a scope, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeProblem {
    #[error("{0:?} is not an account: twelve digits, or *")]
    Account(String),
    #[error("{0:?} is not a partition, such as aws, aws-cn or aws-us-gov")]
    Partition(String),
    #[error("{0:?} is not a path: it begins and ends with / and names at least one level")]
    Path(String),
    #[error("{0:?} would make the guard an agent, or an agent the guard")]
    GuardPath(String),
}

impl Scope {
    pub fn check(&self) -> Result<(), ScopeProblem> {
        let is_account = self.account.len() == 12 && self.account.bytes().all(|byte| byte.is_ascii_digit());
        if self.account != "*" && !is_account {
            return Err(ScopeProblem::Account(self.account.clone()));
        }
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        if !self.partition.starts_with("aws") || !self.partition.bytes().all(is_word) {
            return Err(ScopeProblem::Partition(self.partition.clone()));
        }
        for path in [&self.agent_path, &self.break_glass_path] {
            let inner = path.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
            let sound = |level: &str| {
                let good = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
                !level.is_empty() && level.chars().all(good)
            };
            if !inner.is_some_and(|inner| inner.split('/').all(sound)) || path.len() > 512 {
                return Err(ScopeProblem::Path(path.clone()));
            }
        }
        let overlaps = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
        let agents = self.agent_path.as_str();
        if overlaps(agents, GUARD_PATH) || overlaps(agents, &self.break_glass_path) {
            return Err(ScopeProblem::GuardPath(self.agent_path.clone()));
        }
        Ok(())
    }

    pub fn has(&self, choice: Choice) -> bool {
        self.choices.contains(&choice)
    }

    /// Fills in the placeholders of a text.
    pub fn fill(&self, text: &str) -> String {
        text.replace("${partition}", &self.partition)
            .replace("${account}", &self.account)
            .replace("${agents}", &self.agent_path)
            .replace("${break-glass}", &self.break_glass_path)
    }
}

/// A template, or a document of which white space does not count, as it is printed and shipped.
pub fn text(document: &serde_json::Value) -> String {
    // A value has no keys but texts, so it can be written.
    serde_json::to_string_pretty(document).unwrap_or_default()
}

#[cfg(test)]
mod tests;
