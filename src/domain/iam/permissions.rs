//! Every call that the daemon makes to AWS: why, on what, when.
//!
//! The guard's policy is made from this table, and a test holds the calls that were really made against
//! that policy. A new call is one more line here.
//!
//! Resources and condition keys are those of the Service Authorization Reference (documented, read 2026-11).
//! Most reads that list know no resources, and IAM has no condition on the *name* of an inline policy: the
//! right to put the deny is limited by the path of the principal, that to attach it by the policy's ARN too.

use super::OWNER;
use super::policy::Condition;

/// What the daemon makes a call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Observe,
    Contain,
    Restore,
    /// What only a rehearsal or the doctor asks.
    Doctor,
}

/// On what a call is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// AWS asks for no permission.
    Nothing,
    /// Reads without resources, or of all: what is not the agents' has to be seen to be left alone.
    Everything,
    AgentRoles,
    AgentUsers,
    /// Agents' roles and users.
    Agents,
    /// As [`Self::Agents`], to attach or detach the managed deny and nothing else.
    AgentsAndDeny,
    /// The managed deny itself.
    DenyPolicy,
    GuardRole,
    Instances,
    Groups,
    Services,
    /// What Application Auto Scaling scales of services.
    ServiceScaling,
    Tasks,
    Functions,
    /// Keys of volumes, as grants that EC2 uses.
    VolumeKeys,
}

impl On {
    /// ARNs with placeholders.
    pub fn resources(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Everything => &["*"],
            Self::AgentRoles => &["arn:${partition}:iam::${account}:role${agents}*"],
            Self::AgentUsers => &["arn:${partition}:iam::${account}:user${agents}*"],
            Self::Agents | Self::AgentsAndDeny => &[
                "arn:${partition}:iam::${account}:role${agents}*",
                "arn:${partition}:iam::${account}:user${agents}*",
            ],
            Self::DenyPolicy => &["arn:${partition}:iam::${account}:policy/backstop/backstop-deny"],
            Self::GuardRole => &["arn:${partition}:iam::${account}:role/backstop/*"],
            Self::Instances => &["arn:${partition}:ec2:*:${account}:instance/*"],
            Self::Groups => &["arn:${partition}:autoscaling:*:${account}:autoScalingGroup:*"],
            Self::Services => &["arn:${partition}:ecs:*:${account}:service/*"],
            Self::ServiceScaling => &["arn:${partition}:application-autoscaling:*:${account}:scalable-target/*"],
            Self::Tasks => &["arn:${partition}:ecs:*:${account}:task/*"],
            Self::Functions => &["arn:${partition}:lambda:*:${account}:function:*"],
            Self::VolumeKeys => &["arn:${partition}:kms:*:${account}:key/*"],
        }
    }

    /// What it is, for a person.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Everything => "everything",
            Self::AgentRoles => "agents' roles",
            Self::AgentUsers => "agents' users",
            Self::Agents | Self::AgentsAndDeny => "agents' roles and users",
            Self::DenyPolicy => "the managed deny",
            Self::GuardRole => "the guard's role",
            Self::Instances => "machines",
            Self::Groups => "Auto Scaling groups",
            Self::Services => "ECS services",
            Self::ServiceScaling => "what scales ECS services",
            Self::Tasks => "ECS tasks",
            Self::Functions => "functions",
            Self::VolumeKeys => "keys of volumes",
        }
    }

    /// Whether it is the agents' by the ownership tag.
    pub fn is_owned(self) -> bool {
        matches!(
            self,
            Self::Instances | Self::Groups | Self::Services | Self::Tasks | Self::Functions
        )
    }

    /// For what is the agents' by the ownership tag as it is shipped.
    pub fn conditions(self) -> Vec<Condition> {
        self.conditions_by(OWNER)
    }

    /// For what is the agents' by a tag of that key.
    pub fn conditions_by(self, tag: &str) -> Vec<Condition> {
        match self {
            Self::AgentsAndDeny => vec![Condition::new("ArnLike", "iam:PolicyARN", Self::DenyPolicy.resources())],
            // It has tags of its own, which nobody sets: whose it is says the service that it scales.
            Self::ServiceScaling => vec![
                Condition::new("StringEquals", "application-autoscaling:service-namespace", &["ecs"]),
                Condition::new(
                    "StringEquals",
                    "application-autoscaling:scalable-dimension",
                    &["ecs:service:DesiredCount"],
                ),
            ],
            // EC2 makes the grant for itself, when it attaches the volumes of a machine that we start.
            Self::VolumeKeys => vec![
                Condition::new("Bool", "kms:GrantIsForAWSResource", &["true"]),
                Condition::new("StringLike", "kms:ViaService", &["ec2.*.amazonaws.com*"]),
            ],
            owned if owned.is_owned() => {
                vec![Condition::new("StringLike", format!("aws:ResourceTag/{tag}"), &["?*"])]
            }
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    pub action: &'static str,
    pub mode: Mode,
    pub on: On,
    pub why: &'static str,
}

const fn may(action: &'static str, mode: Mode, on: On, why: &'static str) -> Permission {
    Permission { action, mode, on, why }
}

/// By mode, then by service.
pub const ALL: &[Permission] = &[
    may("sts:GetCallerIdentity", Mode::Observe, On::Nothing, "who the daemon is"),
    may(
        "iam:GetRole",
        Mode::Observe,
        On::GuardRole,
        "the path of its own role, which a session has lost (C5)",
    ),
    may(
        "application-autoscaling:DescribeScalableTargets",
        Mode::Observe,
        On::Everything,
        "who else sets the count of a service",
    ),
    may(
        "autoscaling:DescribeAutoScalingGroups",
        Mode::Observe,
        On::Everything,
        "groups and their suspended processes",
    ),
    may(
        "autoscaling:DescribeAutoScalingInstances",
        Mode::Observe,
        On::Everything,
        "whether a group has marked a started member as unhealthy",
    ),
    may(
        "autoscaling:DescribeLaunchConfigurations",
        Mode::Observe,
        On::Everything,
        "whose hands a group's members act with",
    ),
    may(
        "cloudtrail:LookupEvents",
        Mode::Observe,
        On::Everything,
        "who made what",
    ),
    may(
        "ec2:DescribeAddresses",
        Mode::Observe,
        On::Everything,
        "addresses, which cost while idle too",
    ),
    may(
        "ec2:DescribeInstanceAttribute",
        Mode::Observe,
        On::Everything,
        "why a machine may not be stopped",
    ),
    may(
        "ec2:DescribeInstanceStatus",
        Mode::Observe,
        On::Everything,
        "whether started machines are healthy",
    ),
    may("ec2:DescribeInstances", Mode::Observe, On::Everything, "machines"),
    may(
        "ec2:DescribeLaunchTemplateVersions",
        Mode::Observe,
        On::Everything,
        "whose hands a group's members act with",
    ),
    may("ec2:DescribeNatGateways", Mode::Observe, On::Everything, "NAT gateways"),
    may(
        "ec2:DescribeNetworkInterfaces",
        Mode::Observe,
        On::Everything,
        "public addresses in use",
    ),
    may("ec2:DescribeRegions", Mode::Observe, On::Everything, "where to look"),
    may(
        "ec2:DescribeSpotInstanceRequests",
        Mode::Observe,
        On::Everything,
        "whether a spot machine can be stopped",
    ),
    may("ec2:DescribeVolumes", Mode::Observe, On::Everything, "volumes"),
    may(
        "ecs:DescribeClusters",
        Mode::Observe,
        On::Everything,
        "which clusters are empty",
    ),
    may("ecs:DescribeServices", Mode::Observe, On::Everything, "services"),
    may(
        "ecs:DescribeTaskDefinition",
        Mode::Observe,
        On::Everything,
        "whose hands a task acts with",
    ),
    may(
        "ecs:DescribeTasks",
        Mode::Observe,
        On::Everything,
        "tasks and their sizes",
    ),
    may("ecs:ListClusters", Mode::Observe, On::Everything, "clusters"),
    may(
        "ecs:ListServices",
        Mode::Observe,
        On::Everything,
        "services of a cluster",
    ),
    may("ecs:ListTasks", Mode::Observe, On::Everything, "tasks of a cluster"),
    may(
        "elasticloadbalancing:DescribeInstanceHealth",
        Mode::Observe,
        On::Everything,
        "whether a classic balancer finds started members healthy",
    ),
    may(
        "elasticloadbalancing:DescribeLoadBalancers",
        Mode::Observe,
        On::Everything,
        "balancers of both generations",
    ),
    may(
        "elasticloadbalancing:DescribeTags",
        Mode::Observe,
        On::Everything,
        "whose they are",
    ),
    may(
        "elasticloadbalancing:DescribeTargetHealth",
        Mode::Observe,
        On::Everything,
        "whether a balancer finds started members healthy",
    ),
    may(
        "iam:GetInstanceProfile",
        Mode::Observe,
        On::Everything,
        "the ARN of a profile that a launch template only names",
    ),
    may(
        "iam:ListRoles",
        Mode::Observe,
        On::Everything,
        "roles that trust an agent's role",
    ),
    may(
        "lambda:GetFunctionConcurrency",
        Mode::Observe,
        On::Everything,
        "a function's reserved concurrency; lambda:GetFunction would hand out its code",
    ),
    may("lambda:ListFunctions", Mode::Observe, On::Everything, "functions"),
    may("lambda:ListTags", Mode::Observe, On::Everything, "whose a function is"),
    may(
        "lambda:ListProvisionedConcurrencyConfigs",
        Mode::Observe,
        On::Everything,
        "concurrency that costs while idle",
    ),
    may("pricing:GetProducts", Mode::Observe, On::Everything, "list prices"),
    may(
        "iam:GetRole",
        Mode::Observe,
        On::AgentRoles,
        "whether a role is there, and whom it trusts",
    ),
    may(
        "iam:GetRolePolicy",
        Mode::Observe,
        On::AgentRoles,
        "reads the deny back",
    ),
    may(
        "iam:ListAttachedRolePolicies",
        Mode::Observe,
        On::AgentRoles,
        "whether the managed deny is attached",
    ),
    may(
        "iam:ListInstanceProfilesForRole",
        Mode::Observe,
        On::AgentRoles,
        "machines by their profile",
    ),
    may("iam:GetUser", Mode::Observe, On::AgentUsers, "whether a user is there"),
    may(
        "iam:GetUserPolicy",
        Mode::Observe,
        On::AgentUsers,
        "reads the deny back",
    ),
    may(
        "iam:ListAccessKeys",
        Mode::Observe,
        On::AgentUsers,
        "keys and whether they are active",
    ),
    may(
        "iam:ListAttachedUserPolicies",
        Mode::Observe,
        On::AgentUsers,
        "whether the managed deny is attached",
    ),
    may(
        "iam:ListServiceSpecificCredentials",
        Mode::Observe,
        On::AgentUsers,
        "Bedrock API keys and the like",
    ),
    may(
        "iam:GetPolicy",
        Mode::Observe,
        On::DenyPolicy,
        "whether the managed deny is there, and who has it",
    ),
    may(
        "iam:GetPolicyVersion",
        Mode::Observe,
        On::DenyPolicy,
        "reads the managed deny back",
    ),
    may(
        "iam:ListPolicyVersions",
        Mode::Observe,
        On::DenyPolicy,
        "which of its five versions can go",
    ),
    may(
        "iam:SimulatePrincipalPolicy",
        Mode::Observe,
        On::Agents,
        "what IAM thinks of a deny that is in place",
    ),
    may(
        "iam:PutRolePolicy",
        Mode::Contain,
        On::AgentRoles,
        "puts the deny, or what was under its name before",
    ),
    may(
        "iam:PutUserPolicy",
        Mode::Contain,
        On::AgentUsers,
        "puts the deny, or what was under its name before",
    ),
    may(
        "iam:UpdateAccessKey",
        Mode::Contain,
        On::AgentUsers,
        "sets keys inactive and active again",
    ),
    may(
        "iam:UpdateServiceSpecificCredential",
        Mode::Contain,
        On::AgentUsers,
        "sets credentials inactive and active",
    ),
    may(
        "iam:CreatePolicy",
        Mode::Contain,
        On::DenyPolicy,
        "makes the managed deny",
    ),
    may(
        "iam:CreatePolicyVersion",
        Mode::Contain,
        On::DenyPolicy,
        "makes it say again what it has to",
    ),
    may(
        "iam:DeletePolicyVersion",
        Mode::Contain,
        On::DenyPolicy,
        "makes room for that",
    ),
    may(
        "iam:AttachRolePolicy",
        Mode::Contain,
        On::AgentsAndDeny,
        "where an inline deny has no room",
    ),
    may(
        "iam:AttachUserPolicy",
        Mode::Contain,
        On::AgentsAndDeny,
        "where an inline deny has no room",
    ),
    may(
        "autoscaling:SuspendProcesses",
        Mode::Contain,
        On::Groups,
        "caps a group",
    ),
    may(
        "ecs:UpdateService",
        Mode::Contain,
        On::Services,
        "caps a service, and puts its count back",
    ),
    may(
        "application-autoscaling:RegisterScalableTarget",
        Mode::Contain,
        On::ServiceScaling,
        "suspends what would raise a capped count, and lets it go on",
    ),
    may("ecs:StopTask", Mode::Contain, On::Tasks, "ends a task"),
    may(
        "lambda:DeleteProvisionedConcurrencyConfig",
        Mode::Contain,
        On::Functions,
        "caps a function's provisioned concurrency, which costs while idle",
    ),
    may(
        "lambda:PutFunctionConcurrency",
        Mode::Contain,
        On::Functions,
        "caps a function, and puts its limit back",
    ),
    may("ec2:StopInstances", Mode::Contain, On::Instances, "stops machines"),
    may("iam:DeleteRolePolicy", Mode::Restore, On::AgentRoles, "lifts the deny"),
    may("iam:DeleteUserPolicy", Mode::Restore, On::AgentUsers, "lifts the deny"),
    may(
        "iam:DetachRolePolicy",
        Mode::Restore,
        On::AgentsAndDeny,
        "lifts the managed deny",
    ),
    may(
        "iam:DetachUserPolicy",
        Mode::Restore,
        On::AgentsAndDeny,
        "lifts the managed deny",
    ),
    may("iam:DeletePolicy", Mode::Restore, On::DenyPolicy, "once nobody has it"),
    may(
        "autoscaling:ResumeProcesses",
        Mode::Restore,
        On::Groups,
        "uncaps a group",
    ),
    may(
        "lambda:DeleteFunctionConcurrency",
        Mode::Restore,
        On::Functions,
        "uncaps a function that had no limit",
    ),
    may(
        "lambda:PutProvisionedConcurrencyConfig",
        Mode::Restore,
        On::Functions,
        "puts a function's provisioned concurrency back",
    ),
    may(
        "ec2:StartInstances",
        Mode::Restore,
        On::Instances,
        "starts what was stopped",
    ),
    may(
        "kms:CreateGrant",
        Mode::Restore,
        On::VolumeKeys,
        "volumes under customer keys; else the machine stops again",
    ),
    may(
        "iam:ListRolePolicies",
        Mode::Doctor,
        On::AgentRoles,
        "whether an inline deny would have room",
    ),
    may(
        "iam:ListUserPolicies",
        Mode::Doctor,
        On::AgentUsers,
        "whether an inline deny would have room",
    ),
    may(
        "iam:SimulatePrincipalPolicy",
        Mode::Doctor,
        On::GuardRole,
        "which of its own permissions is missing",
    ),
];
