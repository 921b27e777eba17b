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

/// The principal's own value of the ownership tag. A principal without it has a value that no agent can have: what
/// IAM makes of a variable that it cannot fill is not to be relied on (IAM User Guide, "IAM policy elements:
/// Variables and tags": the statement *might* be invalid; read 2026-11).
const OWN: &str = "${aws:PrincipalTag/backstop:agent, '-'}";

/// Launches of which every resource named in [`LAUNCHED`] carries the tags that are asked for. A launch is
/// checked against every resource that it touches, and an image or a subnet has no requested tags.
const LAUNCHES: &[&str] = &[
    "autoscaling:CreateAutoScalingGroup",
    "ec2:CreateNatGateway",
    "ec2:RunInstances",
    "ecs:CreateService",
    "ecs:RunTask",
    "elasticloadbalancing:CreateLoadBalancer",
    "lambda:CreateFunction",
];

const LAUNCHED: &[&str] = &[
    "arn:${partition}:autoscaling:*:*:autoScalingGroup:*",
    "arn:${partition}:ec2:*:*:natgateway/*",
    "arn:${partition}:ec2:*:*:instance/*",
    "arn:${partition}:ecs:*:*:service/*",
    "arn:${partition}:ecs:*:*:task-definition/*",
    "arn:${partition}:elasticloadbalancing:*:*:loadbalancer/*",
    "arn:${partition}:lambda:*:*:function:*",
];

/// Apart, because a NAT gateway touches an address, and a machine a volume, that it does not tag.
const PARTS: &[&str] = &["ec2:AllocateAddress", "ec2:CreateVolume"];

const PARTED: &[&str] = &[
    "arn:${partition}:ec2:*:*:elastic-ip/*",
    "arn:${partition}:ec2:*:*:volume/*",
];

/// Launches whose machines cannot be held to a tag at the request, or are started by a service in its own name.
const UNTAGGABLE: &[&str] = &[
    "batch:CreateComputeEnvironment",
    "ec2:CopyVolumes",
    "ec2:CreateFleet",
    "ec2:Import*",
    "ec2:RequestSpot*",
    "ec2:RunScheduledInstances",
    "ecs:CreateCapacityProvider",
    "ecs:CreateDaemon",
    "ecs:CreateExpressGatewayService",
    "ecs:StartTask",
    "eks:CreateNodegroup",
    "lambda:CreateCapacityProvider",
    "lambda:CreateWebFunction",
    "lambda:RunMicrovm",
    "lightsail:CreateInstances*",
];

const TAGS: &[&str] = &[
    "autoscaling:CreateOrUpdateTags",
    "ec2:CreateTags",
    "ecs:TagResource",
    "elasticloadbalancing:AddTags",
    "lambda:TagResource",
    "sts:TagSession",
    "tag:TagResources",
];

const UNTAGS: &[&str] = &[
    "autoscaling:DeleteTags",
    "ec2:DeleteTags",
    "ecs:UntagResource",
    "elasticloadbalancing:RemoveTags",
    "lambda:UntagResource",
    "tag:UntagResources",
];

/// Services that tell tagging at birth from tagging what is there, each by a key of its own.
const TAGS_AT_BIRTH: &[(&str, &str)] = &[
    ("ec2:CreateTags", "ec2:CreateAction"),
    ("ecs:TagResource", "ecs:CreateAction"),
    ("elasticloadbalancing:AddTags", "elasticloadbalancing:CreateAction"),
];

/// Every verb of IAM's that writes, by its first letters: those that read begin with `Ge`, `L` and `Si`, and passing
/// a role on is apart. A test holds them against all that IAM knows.
pub(super) const IAM_WRITES: &[&str] = &[
    "iam:A*", "iam:C*", "iam:D*", "iam:E*", "iam:Put*", "iam:R*", "iam:Se*", "iam:T*", "iam:U*",
];

/// What binds the account to pay for a term.
const COMMITMENTS: &[&str] = &[
    "athena:CreateCapacityReservation",
    "aws-marketplace:AcceptAgreementRequest",
    "aws-marketplace:Subscribe",
    "bedrock-mantle:CreateReservation",
    "bedrock:CreateProvisionedModelThroughput",
    "cloudfront:CreateSavingsPlan",
    "devicefarm:Purchase*",
    "dynamodb:Purchase*",
    "ec2:AcceptCapacityReservation*",
    "ec2:AcceptReserved*",
    "ec2:AllocateHosts",
    "ec2:CreateCapacityReservation*",
    "ec2:Purchase*",
    "elasticache:Purchase*",
    "es:Purchase*",
    "glacier:Purchase*",
    "mediaconnect:Purchase*",
    "medialive:Purchase*",
    "memorydb:Purchase*",
    "outposts:CreateOrder",
    "rds:Purchase*",
    "redshift-serverless:CreateReservation",
    "redshift:AcceptReserved*",
    "redshift:Purchase*",
    "route53domains:RegisterDomain",
    "route53domains:TransferDomain",
    "sagemaker:CreateReservedCapacity",
    "sagemaker:CreateTrainingPlan",
    "savingsplans:CreateSavingsPlan",
    "shield:CreateSubscription",
    "snowball:CreateLongTermPricing",
    "supportplans:CreateSupportPlanSchedule",
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
    let is_not_own = || Condition::new("StringNotEquals", tag("RequestTag"), &[OWN]);
    // The names of tags in conditions are compared without case, and Backstop reads them as they are written.
    let not_by_that_name = || Condition::new("ForAllValues:StringNotEquals", "aws:TagKeys", &[OWNER]);
    let launches: Vec<&str> = LAUNCHES.iter().chain(PARTS).copied().collect();
    let after_birth: Vec<&str> = TAGS_AT_BIRTH.iter().map(|(action, _)| *action).collect();
    let mut late = deny("TagAtBirth", &after_birth, &["*"]).only_if(is_about_the_tag());
    for (_, key) in TAGS_AT_BIRTH {
        late = late.only_if(Condition::new("Null", *key, &["true"]));
    }
    vec![
        // Absent or another value: a negated comparison holds for a key that is not there.
        deny("LaunchTagged", LAUNCHES, LAUNCHED).only_if(is_not_own()),
        deny("LaunchTaggedParts", PARTS, PARTED).only_if(is_not_own()),
        deny("LaunchByThatName", LAUNCHES, LAUNCHED).only_if(not_by_that_name()),
        deny("LaunchPartsByThatName", PARTS, PARTED).only_if(not_by_that_name()),
        deny("LaunchAsSomebody", &launches, &["*"]).only_if(Condition::new("Null", tag("PrincipalTag"), &["true"])),
        deny("LaunchUntaggable", UNTAGGABLE, &["*"]),
        // Somebody else's role would launch in its own name.
        deny(
            "OnlyAgentsRoles",
            &["iam:PassRole", "sts:AssumeRole"],
            &["arn:${partition}:iam::*:role${agents}*"],
        )
        .elsewhere(),
        deny("KeepTheTag", TAGS, &["*"])
            .only_if(is_about_the_tag())
            .only_if(is_not_own()),
        deny("KeepItOn", UNTAGS, &["*"]).only_if(is_about_the_tag()),
        // What is there already is not made an agent's, to be stopped with it.
        late,
        deny("TakeNobodysTag", TAGS, &["*"])
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
