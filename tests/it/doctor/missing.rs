//! What is missing fails, with the statement that puts it right: it is put right by it.

use serde_json::{Value, json};

use super::place::{Place, found, shipped};
use crate::harness::fault_proxy::{Fault, Rule};

/// The shipped policy without some actions.
fn without(actions: &[&str]) -> Value {
    let mut policy: Value = serde_json::from_str(&shipped("guard")).expect("it is JSON");
    let statements = policy["Statement"].as_array_mut().expect("a list");
    for statement in statements.iter_mut().filter(|one| one["Effect"] == "Allow") {
        if let Value::Array(all) = &mut statement["Action"] {
            all.retain(|one| !actions.iter().any(|action| one == action));
        }
    }
    policy
}

#[tokio::test]
async fn what_is_missing_is_named_and_the_statement_that_is_printed_is_enough() {
    let place = Place::new().await;
    let gone = [
        "iam:PutRolePolicy",
        "autoscaling:ResumeProcesses",
        "ec2:DescribeVolumes",
        "ec2:StartInstances",
    ];
    let mut policy = without(&gone);
    place.simulate(&policy.to_string());
    let daemon = place.site.start().await;
    let (code, report, answer) = place.doctor(&[]).await;
    assert_eq!(code, Some(1), "{report:#}\n{}", answer.stderr);
    let said = found(&report, "permissions", "fail");
    for action in gone {
        assert!(said.contains(action), "{action}: {said}");
    }
    assert!(
        said.contains("iam:PutRolePolicy (puts the deny") && said.contains(&place.role),
        "{said}"
    );
    let missing = &report["missing_policy"]["Statement"];
    assert_eq!(
        *missing,
        json!([
            {"Sid": "Observe", "Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"},
            {
                "Sid": "AgentRoles", "Effect": "Allow", "Action": "iam:PutRolePolicy",
                "Resource": "arn:aws:iam::123456789012:role/agents/*",
            },
            {
                "Sid": "OwnedByTag", "Effect": "Allow", "Action": "ec2:StartInstances",
                "Resource": "arn:aws:ec2:*:123456789012:instance/*",
                "Condition": {"StringLike": {"aws:ResourceTag/backstop:agent": "?*"}},
            },
            {
                "Sid": "OwnedByTag", "Effect": "Allow", "Action": "autoscaling:ResumeProcesses",
                "Resource": "arn:aws:autoscaling:*:123456789012:autoScalingGroup:*",
                "Condition": {"StringLike": {"aws:ResourceTag/backstop:agent": "?*"}},
            },
        ])
    );
    let text = place.site.refused(&["doctor"]).await;
    assert!(
        text.stdout.contains("\"Action\": \"iam:PutRolePolicy\""),
        "{}",
        text.stdout
    );
    assert!(
        text.stdout
            .contains(&format!("add this to the policies of {}", place.guard)),
        "{}",
        text.stdout
    );

    // With what was printed, and nothing else, it passes.
    let more = missing.as_array().expect("a list").clone();
    policy["Statement"].as_array_mut().expect("a list").extend(more);
    place.simulate(&policy.to_string());
    let (code, report, answer) = place.doctor(&[]).await;
    assert_eq!(code, Some(0), "{report:#}\n{}", answer.stderr);
    assert!(report["missing_policy"].is_null());
    drop(daemon);
}

#[tokio::test]
async fn without_a_simulation_what_can_be_tried_is_tried_and_the_rest_is_said_to_be_open() {
    let place = Place::new().await;
    let refused = |code| Fault::Refuse {
        status: 403,
        code,
        message: "User is not authorized to perform this",
    };
    place
        .proxy
        .inject(Rule::on("SimulatePrincipalPolicy", refused("AccessDenied")));
    place
        .proxy
        .inject(Rule::on("DescribeVolumes", refused("UnauthorizedOperation")));
    let (code, report, answer) = place.doctor(&["--local"]).await;
    assert_eq!(code, Some(1), "{report:#}\n{}", answer.stderr);
    assert!(
        found(&report, "permissions", "warn").contains("may not simulate"),
        "{report:#}"
    );
    assert!(
        found(&report, "permissions", "ok").contains("ec2:DescribeInstances"),
        "{report:#}"
    );
    let open = found(&report, "permissions", "not_checked");
    assert!(
        open.contains("iam:PutRolePolicy") && !open.contains("ec2:DescribeVolumes"),
        "{open}"
    );
    assert!(
        found(&report, "agent rights", "not_checked").contains("could not be simulated"),
        "{report:#}"
    );
    assert_eq!(
        report["missing_policy"]["Statement"],
        json!([
            {
                "Sid": "KnowItself", "Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy",
                "Resource": "arn:aws:iam::123456789012:role/backstop/*",
            },
            {"Sid": "Observe", "Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"},
        ])
    );
}
