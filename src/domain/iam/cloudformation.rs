//! The same policies as CloudFormation templates, in which partition, account and paths are the stack's.
//!
//! Placeholders become `Fn::Sub`; IAM's own variables, which look the same, are escaped.

use serde_json::{Value, json};

use super::policy::{Policy, When, document};
use super::{BOUNDARY, Choice, Document, GUARD_PATH};

/// The template of a document.
pub fn template(which: Document) -> Value {
    match which {
        Document::Guard => guard(),
        Document::Boundary => boundary(),
        Document::Scp => scp(
            which,
            "backstop-agents",
            "What agents may not do",
            &json!({ "AgentPath": agent_path() }),
        ),
        Document::ScpGuard => scp(
            which,
            "backstop-guard",
            "Who may change the guard, and that agents are bounded",
            &json!({
                "AgentPath": agent_path(),
                "BreakGlassPath": path("/break-glass/", "The IAM path of the roles that may change the guard."),
            }),
        ),
    }
}

fn guard() -> Value {
    let choice = |text: &str| json!({ "Type": "String", "AllowedValues": ["true", "false"], "Default": "false", "Description": text });
    let is_chosen = |choice: Choice| json!({ "Fn::Equals": [{ "Ref": choice.parameter() }, "true"] });
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Backstop: the role of the daemon, with what it may do and never may.",
        "Parameters": {
            "AgentPath": agent_path(),
            "StopUntagged": choice(
                "Whether it may stop and start what carries no ownership tag, which is every machine of the account."),
            "StopMembers": choice(
                "Whether it may stop and start untagged members of Auto Scaling groups, whoever's they are."),
            "TerminateUnstoppable": choice(
                "Whether it may terminate what cannot be stopped, as aws.terminate_unstoppable asks."),
        },
        "Conditions": {
            "StopUntagged": is_chosen(Choice::StopUntagged),
            "StopMembers": is_chosen(Choice::StopMembers),
            "TerminateUnstoppable": is_chosen(Choice::TerminateUnstoppable),
        },
        "Resources": {
            "GuardPolicy": {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {
                    "Description": "What the Backstop daemon may do and never may",
                    "Path": GUARD_PATH,
                    "PolicyDocument": rendered(&Document::Guard.policy(), Account::OfTheStack),
                },
            },
            "GuardRole": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "Description": "The Backstop daemon",
                    "Path": GUARD_PATH,
                    "AssumeRolePolicyDocument": document(vec![json!({
                        "Effect": "Allow",
                        "Principal": { "Service": "ec2.amazonaws.com" },
                        "Action": "sts:AssumeRole",
                    })]),
                    "ManagedPolicyArns": [{ "Ref": "GuardPolicy" }],
                },
            },
            "GuardProfile": {
                "Type": "AWS::IAM::InstanceProfile",
                "Properties": { "Path": GUARD_PATH, "Roles": [{ "Ref": "GuardRole" }] },
            },
        },
        "Outputs": {
            "RoleArn": {
                "Description": "For aws.guard_principals, which it is part of by itself too",
                "Value": { "Fn::GetAtt": ["GuardRole", "Arn"] },
            },
            "ProfileArn": {
                "Description": "For the machine on which the daemon runs",
                "Value": { "Fn::GetAtt": ["GuardProfile", "Arn"] },
            },
        },
    })
}

fn boundary() -> Value {
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Backstop: the permission boundary of agents' roles and users.",
        "Parameters": {
            "AgentPath": agent_path(),
        },
        "Resources": {
            "AgentBoundary": {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {
                    "Description": "What an agent may not do whatever its own policies say",
                    "ManagedPolicyName": BOUNDARY,
                    "Path": GUARD_PATH,
                    "PolicyDocument": rendered(&Document::Boundary.policy(), Account::OfTheStack),
                },
            },
        },
        "Outputs": {
            "BoundaryArn": {
                "Description": "The PermissionsBoundary of every role and user of an agent",
                "Value": { "Ref": "AgentBoundary" },
            },
        },
    })
}

fn scp(which: Document, name: &str, what: &str, paths: &Value) -> Value {
    let mut template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Backstop: a service control policy for the accounts that agents work in.",
        "Parameters": paths,
        "Resources": {
            "Scp": {
                "Type": "AWS::Organizations::Policy",
                "Properties": {
                    "Name": name,
                    "Description": what,
                    "Type": "SERVICE_CONTROL_POLICY",
                    "TargetIds": { "Ref": "Targets" },
                    "Content": rendered(&which.policy(), Account::Any),
                },
            },
        },
    });
    template["Parameters"]["Targets"] = json!({
        "Type": "CommaDelimitedList",
        "Description": "Accounts, organisational units or roots to which it is attached.",
    });
    template
}

fn agent_path() -> Value {
    path("/agents/", "The IAM path of the agents' roles and users.")
}

fn path(default: &str, text: &str) -> Value {
    json!({
        "Type": "String",
        "Default": default,
        "AllowedPattern": "/([A-Za-z0-9_+=,.@-]+/)+",
        "Description": text,
    })
}

/// Which account a policy's ARNs are of.
#[derive(Clone, Copy)]
enum Account {
    OfTheStack,
    Any,
}

fn rendered(policy: &Policy, account: Account) -> Value {
    let write = |text: &str| sub(text, account);
    let statements = policy.statements.iter().map(|statement| {
        let body = statement.render(&write);
        let nothing = json!({ "Ref": "AWS::NoValue" });
        match statement.when {
            When::Always => body,
            When::Chosen(choice) => json!({ "Fn::If": [choice.parameter(), body, nothing] }),
            When::NotChosen(choice) => json!({ "Fn::If": [choice.parameter(), nothing, body] }),
        }
    });
    document(statements.collect())
}

fn sub(text: &str, account: Account) -> Value {
    let places = ["${partition}", "${account}", "${agents}", "${break-glass}"];
    if !places.iter().any(|place| text.contains(place)) {
        return json!(text);
    }
    let account = match account {
        Account::OfTheStack => "${AWS::AccountId}",
        Account::Any => "*",
    };
    // IAM's variables first: ours have no colon in them yet.
    let text = text
        .replace("${aws:", "${!aws:")
        .replace("${partition}", "${AWS::Partition}")
        .replace("${account}", account)
        .replace("${agents}", "${AgentPath}")
        .replace("${break-glass}", "${BreakGlassPath}");
    json!({ "Fn::Sub": text })
}
