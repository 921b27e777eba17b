//! The service control policy: the boundary's denies for every agent of an organisation, and what only an
//! SCP can say.
//!
//! It binds an account's administrators too, so it says as little as it must: nobody but the guard and
//! break-glass rewrites or takes away the guard's role and policies, and no principal below the agents'
//! path is without the boundary. The inline deny itself cannot be named in an SCP (IAM has no condition on
//! an inline policy's name); whoever takes it away finds it put back, with an alarm.
//!
//! An SCP has less room than a boundary, and its white space counts. It repeats of the boundary what is
//! dearest to miss, for principals that are older than it; the finer points of tagging are the boundary's,
//! which nobody can take off. It is printed without white space and without statement ids.

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
    "KeepTheTag",
    "LaunchTagged",
    "LaunchUntaggable",
    "NoCommitments",
    "NoIamWrites",
    "NotTheGuard",
];

pub fn policy() -> Policy {
    let repeated = denies().into_iter().filter(|one| REPEATED.contains(&one.sid));
    let mut statements: Vec<Statement> = repeated
        .map(|statement| statement.only_if(Condition::new("ArnLike", "aws:PrincipalArn", AGENTS)))
        .collect();
    let unless_keeper = || Condition::new("ArnNotLike", "aws:PrincipalArn", KEEPERS);
    let guard = &[
        "arn:${partition}:iam::*:policy/backstop/*",
        "arn:${partition}:iam::*:role/backstop/*",
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
    for statement in &mut statements {
        statement.sid = "";
    }
    Policy { statements }
}
