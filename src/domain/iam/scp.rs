//! The service control policies: the boundary's denies for every agent of an organisation, and what only an
//! SCP can say.
//!
//! They bind an account's administrators too, so they say as little as they must. One holds the agents'
//! principals to what is dearest to miss of the boundary, for those that are older than it; the finer points
//! of tagging are the boundary's, which nobody can take off. The other keeps the guard: nobody but the guard
//! and break-glass rewrites or takes away the guard's role, profile and policies or makes a role of
//! break-glass, and no principal below the agents' path is without the boundary. The inline deny itself
//! cannot be named in an SCP (IAM has no condition on an inline policy's name); whoever takes it away finds it
//! put back, with an alarm.
//!
//! There are two because an SCP has less room than a boundary, and its white space counts; they are printed
//! without white space and without statement ids.

use super::boundary::{IAM_WRITES, denies};
use super::policy::{Condition, Effect, Policy, Statement};

const AGENTS: &[&str] = &[
    "arn:${partition}:iam::*:role${agents}*",
    "arn:${partition}:iam::*:user${agents}*",
];

const KEEPERS: &[&str] = &[
    "arn:${partition}:iam::*:role/backstop/*",
    "arn:${partition}:iam::*:role${break-glass}*",
];

const BOUNDARY_ARN: &str = "arn:${partition}:iam::*:policy/backstop/backstop-agent-boundary";

/// The statements of the boundary that are repeated.
const REPEATED: &[&str] = &[
    "KeepItOn",
    "KeepTheTag",
    "LaunchAsSomebody",
    "LaunchTagged",
    "LaunchUntaggable",
    "NoCommitments",
    "NoIamWrites",
    "NotTheGuard",
    "OnlyAgentsRoles",
];

/// What agents may not do.
pub fn agents() -> Policy {
    let repeated = denies().into_iter().filter(|one| REPEATED.contains(&one.sid));
    let of_agents = |statement: Statement| statement.only_if(Condition::new("ArnLike", "aws:PrincipalArn", AGENTS));
    nameless(repeated.map(of_agents).collect())
}

/// Who may change the guard, and that agents are bounded.
pub fn keepers() -> Policy {
    let mut statements = Vec::new();
    let unless_keeper = || Condition::new("ArnNotLike", "aws:PrincipalArn", KEEPERS);
    // Who could make a role of break-glass could do all that break-glass may.
    let guard = &[
        "arn:${partition}:iam::*:policy/backstop/*",
        "arn:${partition}:iam::*:role/backstop/*",
        "arn:${partition}:iam::*:instance-profile/backstop/*",
        "arn:${partition}:iam::*:role${break-glass}*",
    ];
    statements.push(Statement::new("KeepTheGuard", Effect::Deny, IAM_WRITES, guard).only_if(unless_keeper()));
    let detach = ["iam:DetachRolePolicy", "iam:DetachUserPolicy"];
    statements.push(
        Statement::new("KeepTheDeny", Effect::Deny, &detach, &["*"])
            .only_if(Condition::new("ArnLike", "iam:PolicyARN", &[guard[0]]))
            .only_if(unless_keeper()),
    );
    let births = [
        "iam:CreateRole",
        "iam:CreateUser",
        "iam:PutRolePermissionsBoundary",
        "iam:PutUserPermissionsBoundary",
    ];
    statements.push(
        Statement::new("BornBounded", Effect::Deny, &births, AGENTS).only_if(Condition::new(
            "ArnNotLike",
            "iam:PermissionsBoundary",
            &[BOUNDARY_ARN],
        )),
    );
    let unbind = ["iam:DeleteRolePermissionsBoundary", "iam:DeleteUserPermissionsBoundary"];
    statements.push(Statement::new("StayBounded", Effect::Deny, &unbind, AGENTS).only_if(unless_keeper()));
    nameless(statements)
}

fn nameless(mut statements: Vec<Statement>) -> Policy {
    for statement in &mut statements {
        statement.sid = "";
    }
    Policy { statements }
}
