//! The agents' permission boundary: prevention, which costs nothing at the moment of need.
//!
//! A boundary grants nothing; it allows all that it does not deny, so that an agent's own policies decide
//! within it. An agent's role or user carries the ownership tag itself (`backstop:agent`), and what it
//! launches must carry the same value: a machine without it can be found only by whom it acts as, or by
//! creator events that are minutes late. The launch APIs that cannot be held to a tag are denied whole.
//!
//! What a group or a service launches is launched by AWS's own service role, beyond any boundary; so it is
//! the group and the service that must carry the tag, and a member is its group's.

use super::OWNER;
use super::policy::{Condition, Effect, Policy, Statement};

/// The principal's own value of the ownership tag.
const OWN: &str = "${aws:PrincipalTag/backstop:agent}";

const LAUNCHES: &[&str] = &[
    "autoscaling:CreateAutoScalingGroup",
    "ec2:AllocateAddress",
    "ec2:CreateNatGateway",
    "ec2:RunInstances",
    "ecs:CreateService",
    "ecs:RunTask",
    "elasticloadbalancing:CreateLoadBalancer",
    "lambda:CreateFunction",
];

/// The resource on which each launch carries the tags that it asks for. A launch is checked against every
/// resource that it touches, and an image or a subnet has no requested tags.
const LAUNCHED: &[&str] = &[
    "arn:${partition}:autoscaling:*:*:autoScalingGroup:*",
    "arn:${partition}:ec2:*:*:elastic-ip/*",
    "arn:${partition}:ec2:*:*:natgateway/*",
    "arn:${partition}:ec2:*:*:instance/*",
    "arn:${partition}:ecs:*:*:service/*",
    "arn:${partition}:ecs:*:*:task-definition/*",
    "arn:${partition}:elasticloadbalancing:*:*:loadbalancer/*",
    "arn:${partition}:lambda:*:*:function:*",
];

/// Launches whose machines cannot be held to a tag at the request.
const UNTAGGABLE: &[&str] = &[
    "ec2:CreateFleet",
    "ec2:RequestSpotFleet",
    "ec2:RequestSpotInstances",
    "ecs:StartTask",
];

const RETAGS: &[&str] = &[
    "autoscaling:CreateOrUpdateTags",
    "autoscaling:DeleteTags",
    "ec2:CreateTags",
    "ec2:DeleteTags",
    "ecs:TagResource",
    "ecs:UntagResource",
    "elasticloadbalancing:AddTags",
    "elasticloadbalancing:RemoveTags",
    "lambda:TagResource",
    "lambda:UntagResource",
    "sts:TagSession",
    "tag:TagResources",
    "tag:UntagResources",
];

/// Every verb of IAM's that writes.
pub(super) const IAM_WRITES: &[&str] = &[
    "iam:Add*",
    "iam:Attach*",
    "iam:Change*",
    "iam:Create*",
    "iam:Deactivate*",
    "iam:Delete*",
    "iam:Detach*",
    "iam:Disable*",
    "iam:Enable*",
    "iam:Put*",
    "iam:Remove*",
    "iam:Reset*",
    "iam:Resync*",
    "iam:Set*",
    "iam:Tag*",
    "iam:Untag*",
    "iam:Update*",
    "iam:Upload*",
];

/// What binds the account to pay for a term.
const COMMITMENTS: &[&str] = &[
    "aws-marketplace:Subscribe",
    "bedrock:CreateProvisionedModelThroughput",
    "dynamodb:PurchaseReservedCapacityOfferings",
    "ec2:AcceptReservedInstancesExchangeQuote",
    "ec2:AllocateHosts",
    "ec2:CreateCapacityReservation*",
    "ec2:Purchase*",
    "elasticache:PurchaseReservedCacheNodesOffering",
    "es:PurchaseReserved*",
    "memorydb:PurchaseReservedNodesOffering",
    "outposts:CreateOrder",
    "rds:PurchaseReservedDBInstancesOffering",
    "redshift:PurchaseReservedNodeOffering",
    "route53domains:RegisterDomain",
    "route53domains:TransferDomain",
    "sagemaker:CreateTrainingPlan",
    "savingsplans:CreateSavingsPlan",
    "shield:CreateSubscription",
];

/// The guard's things, and the topic at which it is told.
const GUARDS: &[&str] = &[
    "arn:${partition}:iam::*:instance-profile/backstop/*",
    "arn:${partition}:iam::*:policy/backstop/*",
    "arn:${partition}:iam::*:role/backstop/*",
    "arn:${partition}:iam::*:user/backstop/*",
    "arn:${partition}:sns:*:*:backstop*",
];

pub fn policy() -> Policy {
    let mut statements = vec![Statement::new("TheirOwnPoliciesDecide", Effect::Allow, &["*"], &["*"])];
    statements.extend(denies());
    Policy { statements }
}

/// What agents are denied, for the boundary and for the SCP.
pub(super) fn denies() -> Vec<Statement> {
    let tag = |kind: &str| format!("aws:{kind}/{OWNER}");
    let deny = |sid, actions: &[&str], resources: &[&str]| Statement::new(sid, Effect::Deny, actions, resources);
    let is_about_the_tag = || Condition::new("ForAnyValue:StringEquals", "aws:TagKeys", &[OWNER]);
    vec![
        // Absent or another value: a negated comparison holds for a key that is not there.
        deny("LaunchTagged", LAUNCHES, LAUNCHED).only_if(Condition::new("StringNotEquals", tag("RequestTag"), &[OWN])),
        deny("LaunchAsSomebody", LAUNCHES, LAUNCHED).only_if(Condition::new("Null", tag("PrincipalTag"), &["true"])),
        deny("LaunchUntaggable", UNTAGGABLE, &["*"]),
        deny("KeepTheTag", RETAGS, &["*"])
            .only_if(is_about_the_tag())
            .only_if(Condition::new("StringNotEquals", tag("RequestTag"), &[OWN])),
        deny("TakeNobodysTag", RETAGS, &["*"])
            .only_if(is_about_the_tag())
            .only_if(Condition::new("StringNotEquals", tag("ResourceTag"), &[OWN]))
            .only_if(Condition::new("Null", tag("ResourceTag"), &["false"])),
        // Without keys it deletes them all.
        deny("WipeNoTags", &["ec2:DeleteTags"], &["*"]).only_if(Condition::new("Null", "aws:TagKeys", &["true"])),
        deny("NoIamWrites", IAM_WRITES, &["*"]),
        deny("NotTheGuard", &["*"], GUARDS),
        deny("NotTheGuardsHost", &["*"], &["*"]).only_if(Condition::new(
            "Null",
            format!("aws:ResourceTag/{}", super::GUARD_TAG),
            &["false"],
        )),
        deny("NoCommitments", COMMITMENTS, &["*"]),
    ]
}
