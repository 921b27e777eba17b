//! The daemon's own policy: what the table says, and an explicit deny of what must never happen.
//!
//! The deny is there for the day on which somebody attaches more to the guard's role than this. It names
//! the deletion of data and of what holds it, new rights for anybody, and the guard itself.

use std::collections::BTreeMap;

use super::boundary::IAM_WRITES;
use super::policy::{Condition, Effect, Policy, Statement, When};
use super::{Choice, permissions};
use permissions::On;

/// What deletes data, or opens a way to its loss. Deletions that only lift what we put (a deny, a
/// function's concurrency) are not among them.
const DELETES: &[&str] = &[
    "autoscaling:Delete*",
    "autoscaling:Terminate*",
    "autoscaling:UpdateAutoScalingGroup",
    "backup:Delete*",
    "cloudformation:Delete*",
    "cloudtrail:Delete*",
    "cloudtrail:StopLogging",
    "dynamodb:Delete*",
    "dynamodb:PartiQLDelete",
    "ec2:Delete*",
    "ec2:DeregisterImage",
    "ec2:DetachVolume",
    "ec2:DisassociateAddress",
    "ec2:ModifyInstanceAttribute",
    "ec2:ReleaseAddress",
    "ecr:BatchDelete*",
    "ecr:Delete*",
    "ecs:Delete*",
    "ecs:DeregisterTaskDefinition",
    "elasticache:Delete*",
    "elasticfilesystem:Delete*",
    "elasticloadbalancing:Delete*",
    "es:Delete*",
    "fsx:Delete*",
    "glacier:Delete*",
    "kinesis:Delete*",
    "kms:DeleteImportedKeyMaterial",
    "kms:Disable*",
    "kms:ScheduleKeyDeletion",
    "lambda:DeleteFunction",
    "logs:Delete*",
    "organizations:CloseAccount",
    "organizations:LeaveOrganization",
    "rds:Delete*",
    "redshift:Delete*",
    "s3:Delete*",
    "s3:PutBucketPolicy",
    "s3:PutLifecycleConfiguration",
    "sagemaker:Delete*",
    "secretsmanager:Delete*",
    "sns:Delete*",
    "sqs:Delete*",
    "sqs:PurgeQueue",
];

/// What makes or hands out rights.
const RIGHTS: &[&str] = &[
    "iam:Add*",
    "iam:CreateAccessKey",
    "iam:CreateLoginProfile",
    "iam:CreateRole",
    "iam:CreateServiceSpecificCredential",
    "iam:CreateUser",
    "iam:DeleteRole",
    "iam:DeleteUser",
    "iam:PassRole",
    "iam:ResetServiceSpecificCredential",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateLoginProfile",
    "sts:AssumeRole",
];

/// The name of the statement for what is owned.
pub(crate) const OWNED: &str = "OwnedByTag";

/// The same of what is terminated by choice.
pub(crate) const UNSTOPPABLE: &str = "Unstoppable";

pub fn policy() -> Policy {
    let mut by_resource: BTreeMap<On, Vec<&str>> = BTreeMap::new();
    for permission in permissions::ALL.iter().filter(|one| one.on != On::Nothing) {
        by_resource.entry(permission.on).or_default().push(permission.action);
    }
    let mut statements = Vec::new();
    let (mut owned, mut resources) = (Vec::new(), Vec::new());
    for (on, actions) in &by_resource {
        if on.is_owned() {
            owned.extend(actions);
            resources.extend(on.resources());
            continue;
        }
        let mut statement = Statement::new(sid(*on), Effect::Allow, actions, on.resources());
        statement.conditions = on.conditions();
        statements.push(statement);
    }
    // One statement for all that is owned: an action meets only resources of its own service.
    let mut tagged = Statement::new(OWNED, Effect::Allow, &owned, &resources);
    tagged.conditions = On::Instances.conditions();
    statements.push(tagged.when(When::NotChosen(Choice::StopUntagged)));
    statements.push(
        Statement::new("OwnedOrUntagged", Effect::Allow, &owned, &resources).when(When::Chosen(Choice::StopUntagged)),
    );
    let mut members = Statement::new(
        "MembersOfGroups",
        Effect::Allow,
        &["ec2:StartInstances", "ec2:StopInstances"],
        On::Instances.resources(),
    );
    members.conditions = vec![Condition::new(
        "StringLike",
        "aws:ResourceTag/aws:autoscaling:groupName",
        &["?*"],
    )];
    statements.push(members.when(When::Chosen(Choice::StopMembers)));
    let mut terminate = Statement::new(
        UNSTOPPABLE,
        Effect::Allow,
        &["ec2:TerminateInstances"],
        On::Instances.resources(),
    );
    terminate.conditions = On::Instances.conditions();
    statements.push(terminate.when(When::Chosen(Choice::TerminateUnstoppable)));
    statements.push(
        Statement::new("NeverTerminate", Effect::Deny, &["ec2:TerminateInstances"], &["*"])
            .when(When::NotChosen(Choice::TerminateUnstoppable)),
    );
    statements.push(Statement::new("NeverDelete", Effect::Deny, DELETES, &["*"]));
    statements.push(Statement::new("NeverMakeRights", Effect::Deny, RIGHTS, &["*"]));
    // So neither its own role, nor its own policy, a new version of which would take every deny of this away.
    let theirs: Vec<&str> = [On::Agents, On::DenyPolicy]
        .iter()
        .flat_map(|on| on.resources())
        .copied()
        .collect();
    statements.push(Statement::new("NeverElsewhere", Effect::Deny, IAM_WRITES, &theirs).elsewhere());
    let binds = ["iam:*PermissionsBoundary"];
    statements.push(Statement::new("NeverUnbind", Effect::Deny, &binds, &["*"]));
    Policy { statements }
}

/// The name of the statement that allows what is done on it.
pub(crate) fn sid(on: On) -> &'static str {
    match on {
        On::Everything => "Observe",
        On::AgentRoles => "AgentRoles",
        On::AgentUsers => "AgentUsers",
        On::Agents => "Agents",
        On::AgentsAndDeny => "AttachTheDeny",
        On::DenyPolicy => "TheDeny",
        On::GuardRole => "KnowItself",
        On::VolumeKeys => "StartEncrypted",
        On::Nothing | On::Instances | On::Groups | On::Services | On::Tasks | On::Functions => "Owned",
    }
}
