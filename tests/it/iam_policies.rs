//! The shipped policies: read by AWS's own linter for templates, and held against what they are for.

use std::process::Command;
use std::time::Duration;

use crate::harness::daemon::{Answer, backstop, run_cli};
use crate::harness::policy::{Policy, Request, Verdict};
use crate::harness::{process, venv};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam");

fn policy(name: &str) -> Policy {
    let text = std::fs::read_to_string(format!("{DIR}/{name}.json")).expect("it is shipped");
    Policy::parse(&text)
}

/// cfn-lint on one template: its exit status and what it says.
async fn lint(template: &str) -> (bool, String) {
    let python = venv::python().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(python);
    // It asks nobody: its rules and schemas are in the package.
    command.args([
        "-c",
        "import sys, cfnlint.runner as r; sys.exit(r.main())",
        "--format",
        "parseable",
    ]);
    command.arg(template);
    let run = move || process::run("cfn-lint", command, dir.path(), Duration::from_secs(240));
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("running a command does not panic")
        .expect("it reads a template in time");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[tokio::test]
async fn cfn_lint_has_nothing_to_say_of_the_templates() {
    for name in ["guard", "boundary", "scp"] {
        let (sound, said) = lint(&format!("{DIR}/{name}.cloudformation.json")).await;
        assert!(sound && said.trim().is_empty(), "{name}: {said}");
    }
    // And it would: a property that does not exist.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let wrong = std::fs::read_to_string(format!("{DIR}/boundary.cloudformation.json")).expect("it is shipped");
    let file = dir.path().join("wrong.json");
    std::fs::write(&file, wrong.replace("ManagedPolicyName", "ManagedPolicyNames")).expect("the directory is ours");
    let (sound, said) = lint(file.to_str().expect("a path of ours")).await;
    assert!(!sound && said.contains("ManagedPolicyNames"), "{said}");
}

/// `backstop aws policy …` in an empty directory: it needs no daemon, config or credentials.
async fn printed(line: &str) -> Answer {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = backstop();
    command.args(["aws", "policy"]).args(line.split(' '));
    run_cli(command, dir.path()).await
}

#[tokio::test]
async fn the_command_prints_what_is_shipped() {
    for (line, file) in [
        ("guard", "guard.json"),
        ("guard --stop-untagged", "guard.stop-untagged.json"),
        ("guard --format cloudformation", "guard.cloudformation.json"),
        ("boundary", "boundary.json"),
        ("boundary --format cloudformation", "boundary.cloudformation.json"),
        ("scp", "scp.json"),
        ("scp --format cloudformation", "scp.cloudformation.json"),
    ] {
        let answer = printed(line).await;
        assert_eq!(answer.code, Some(0), "{line}: {}", answer.stderr);
        let shipped = std::fs::read_to_string(format!("{DIR}/{file}")).expect("it is shipped");
        assert!(
            answer.stdout == shipped,
            "{file} is not what `backstop aws policy {line}` prints"
        );
    }
    let named = printed("guard --account 123456789012 --agent-path /bots/ --partition aws-cn").await;
    assert!(
        named.stdout.contains("arn:aws-cn:iam::123456789012:role/bots/*"),
        "{}",
        named.stdout
    );
    let calls = printed("calls --json").await;
    assert!(calls.stdout.contains("kms:CreateGrant"), "{}", calls.stdout);
    for wrong in [
        "guard --account 12",
        "guard --agent-path /backstop/",
        "boundary --agent-path agents",
        "guard --format cloudformation --stop-untagged",
    ] {
        let answer = printed(wrong).await;
        assert_eq!(
            (answer.code, answer.stdout.as_str()),
            (Some(2), ""),
            "{wrong}: {}",
            answer.stderr
        );
    }
}

const ROLE: &str = "arn:aws:iam::123456789012:role/agents/transcriber";
const GUARD: &str = "arn:aws:iam::123456789012:role/backstop/guard";
const DENY: &str = "arn:aws:iam::123456789012:policy/backstop/backstop-deny";
const MACHINE: &str = "arn:aws:ec2:eu-west-1:123456789012:instance/i-1";
const TAGGED: (&str, &str) = ("aws:ResourceTag/backstop:agent", "a");

#[test]
fn the_guard_stops_what_is_tagged_denies_who_is_an_agent_and_deletes_nothing() {
    let guard = policy("guard");
    let wide = policy("guard.stop-untagged");
    let verdict = |action: &str, resource: &str, context: &[(&str, &str)]| {
        guard.verdict(&Request::new(action, resource, context))
    };
    assert_eq!(verdict("ec2:StopInstances", MACHINE, &[TAGGED]), Verdict::Allowed);
    assert_eq!(verdict("ec2:StartInstances", MACHINE, &[TAGGED]), Verdict::Allowed);
    let empty = ("aws:ResourceTag/backstop:agent", "");
    for context in [&[][..], &[empty], &[("aws:ResourceTag/team", "a")]] {
        assert_eq!(verdict("ec2:StopInstances", MACHINE, context), Verdict::NotAllowed);
        let chosen = wide.verdict(&Request::new("ec2:StopInstances", MACHINE, context));
        assert_eq!(chosen, Verdict::Allowed);
    }
    assert_eq!(verdict("ec2:TerminateInstances", MACHINE, &[TAGGED]), Verdict::Denied);
    assert_eq!(verdict("iam:PutRolePolicy", ROLE, &[]), Verdict::Allowed);
    let other = "arn:aws:iam::123456789012:role/admin";
    assert_eq!(verdict("iam:PutRolePolicy", other, &[]), Verdict::NotAllowed);
    assert_eq!(verdict("iam:PutRolePolicy", GUARD, &[]), Verdict::Denied);
    assert_eq!(verdict("iam:GetRole", GUARD, &[]), Verdict::Allowed);
    assert_eq!(
        verdict("iam:AttachRolePolicy", ROLE, &[("iam:PolicyARN", DENY)]),
        Verdict::Allowed
    );
    let admin = ("iam:PolicyARN", "arn:aws:iam::aws:policy/AdministratorAccess");
    assert_eq!(verdict("iam:AttachRolePolicy", ROLE, &[admin]), Verdict::NotAllowed);
    assert_eq!(verdict("iam:CreatePolicy", DENY, &[]), Verdict::Allowed);
    let boundary = "arn:aws:iam::123456789012:policy/backstop/backstop-agent-boundary";
    assert_eq!(verdict("iam:CreatePolicyVersion", boundary, &[]), Verdict::NotAllowed);
    let key = "arn:aws:kms:eu-west-1:123456789012:key/k";
    let by_ec2 = [
        ("kms:GrantIsForAWSResource", "true"),
        ("kms:ViaService", "ec2.eu-west-1.amazonaws.com"),
    ];
    assert_eq!(verdict("kms:CreateGrant", key, &by_ec2), Verdict::Allowed);
    assert_eq!(verdict("kms:CreateGrant", key, &by_ec2[1..]), Verdict::NotAllowed);
    for delete in [
        "s3:DeleteObject",
        "s3:DeleteBucket",
        "ec2:DeleteVolume",
        "ec2:DeleteSnapshot",
        "dynamodb:DeleteTable",
        "rds:DeleteDBInstance",
        "lambda:DeleteFunction",
        "ecs:DeleteService",
        "autoscaling:DeleteAutoScalingGroup",
        "kms:ScheduleKeyDeletion",
        "iam:CreateAccessKey",
        "iam:PassRole",
    ] {
        assert_eq!(verdict(delete, "*", &[TAGGED]), Verdict::Denied, "{delete}");
    }
    // Lifting what it put is no deletion of data.
    let function = "arn:aws:lambda:eu-west-1:123456789012:function:f";
    let uncap = verdict("lambda:DeleteFunctionConcurrency", function, &[TAGGED]);
    assert_eq!(uncap, Verdict::Allowed);
}

/// An action, on what, with which keys, and whether an agent may.
type Case = (&'static str, &'static str, Vec<(&'static str, &'static str)>, bool);

#[test]
fn an_agent_launches_only_as_itself_and_nothing_else_of_the_account_is_its() {
    let me = ("aws:PrincipalTag/backstop:agent", "a");
    let arn = ("aws:PrincipalArn", ROLE);
    let tag = |value| ("aws:RequestTag/backstop:agent", value);
    let keys = ("aws:TagKeys", "backstop:agent");
    let cases: Vec<Case> = vec![
        ("ec2:RunInstances", MACHINE, vec![me, tag("a")], true),
        ("ec2:RunInstances", MACHINE, vec![me], false),
        ("ec2:RunInstances", MACHINE, vec![me, tag("b")], false),
        ("ec2:RunInstances", "arn:aws:ec2:eu-west-1::image/ami-1", vec![me], true),
        ("ec2:RequestSpotInstances", "*", vec![me], false),
        ("ec2:CreateTags", MACHINE, vec![me, keys, tag("a")], true),
        ("ec2:CreateTags", MACHINE, vec![me, keys, tag("b")], false),
        ("ec2:DeleteTags", MACHINE, vec![me, keys], false),
        ("ec2:CreateTags", MACHINE, vec![me, ("aws:TagKeys", "team")], true),
        ("sts:TagSession", ROLE, vec![me, keys, tag("b")], false),
        ("iam:CreateRole", ROLE, vec![me], false),
        ("iam:PutRolePolicy", ROLE, vec![me], false),
        ("iam:GetRole", ROLE, vec![me], true),
        ("iam:GetRole", GUARD, vec![me], false),
        (
            "sns:Publish",
            "arn:aws:sns:eu-west-1:123456789012:backstop-breach",
            vec![me],
            false,
        ),
        ("sns:Publish", "arn:aws:sns:eu-west-1:123456789012:work", vec![me], true),
        ("ec2:PurchaseReservedInstancesOffering", "*", vec![me], false),
        ("savingsplans:CreateSavingsPlan", "*", vec![me], false),
        ("s3:PutObject", "arn:aws:s3:::data/x", vec![me], true),
    ];
    let (boundary, scp) = (policy("boundary"), policy("scp"));
    for (action, resource, context, allowed) in &cases {
        let request = Request::new(action, resource, context);
        let verdict = boundary.verdict(&request);
        assert_eq!(
            verdict == Verdict::Allowed,
            *allowed,
            "{action} {context:?}: {verdict:?}"
        );
        // An SCP allows by another policy; of the agents it denies the same, of others nothing.
        let mut as_agent = context.clone();
        as_agent.push(arn);
        let denied = scp.verdict(&Request::new(action, resource, &as_agent)) == Verdict::Denied;
        assert_eq!(denied, !allowed, "{action} {as_agent:?}");
        let mut as_admin = context.clone();
        as_admin.push(("aws:PrincipalArn", "arn:aws:iam::123456789012:role/admin"));
        let of_the_guard = resource.contains("/backstop/") || *action == "iam:CreateRole";
        let verdict = scp.verdict(&Request::new(action, resource, &as_admin));
        assert!(of_the_guard || verdict == Verdict::NotAllowed, "{action}: {verdict:?}");
    }
    let host = [me, ("aws:ResourceTag/backstop:guard", "true")];
    let stop = Request::new("ec2:StopInstances", MACHINE, &host);
    assert_eq!(boundary.verdict(&stop), Verdict::Denied);
    let others = [me, keys, tag("a"), ("aws:ResourceTag/backstop:agent", "b")];
    let take = Request::new("ec2:CreateTags", MACHINE, &others);
    assert_eq!(boundary.verdict(&take), Verdict::Denied, "another agent's machine");
    let wipe = Request::new("ec2:DeleteTags", MACHINE, &[me]);
    assert_eq!(boundary.verdict(&wipe), Verdict::Denied, "all tags at once");
    let nobody = Request::new("ec2:RunInstances", MACHINE, &[tag("a")]);
    assert_eq!(
        boundary.verdict(&nobody),
        Verdict::Denied,
        "a principal without the tag"
    );
}

#[test]
fn only_keepers_change_the_guard_and_no_agent_is_born_unbounded() {
    let scp = policy("scp");
    let denied = |action: &str, resource: &str, context: &[(&str, &str)]| {
        scp.verdict(&Request::new(action, resource, context)) == Verdict::Denied
    };
    let by = |name: &'static str| ("aws:PrincipalArn", name);
    let admin = by("arn:aws:iam::123456789012:role/admin");
    let glass = by("arn:aws:iam::123456789012:role/break-glass/on-call");
    let bounded = (
        "iam:PermissionsBoundary",
        "arn:aws:iam::123456789012:policy/backstop/backstop-agent-boundary",
    );
    assert!(denied("iam:AttachRolePolicy", GUARD, &[admin]));
    assert!(!denied("iam:AttachRolePolicy", GUARD, &[glass]));
    assert!(denied("iam:DeletePolicyVersion", DENY, &[admin]));
    assert!(!denied("iam:CreatePolicyVersion", DENY, &[by(GUARD)]));
    assert!(denied("iam:DetachRolePolicy", ROLE, &[admin, ("iam:PolicyARN", DENY)]));
    assert!(!denied(
        "iam:DetachRolePolicy",
        ROLE,
        &[by(GUARD), ("iam:PolicyARN", DENY)]
    ));
    assert!(!denied(
        "iam:DetachRolePolicy",
        ROLE,
        &[admin, ("iam:PolicyARN", "arn:aws:iam::aws:policy/X")]
    ));
    assert!(denied("iam:CreateRole", ROLE, &[admin]));
    assert!(!denied("iam:CreateRole", ROLE, &[admin, bounded]));
    assert!(!denied(
        "iam:CreateRole",
        "arn:aws:iam::123456789012:role/other",
        &[admin]
    ));
    assert!(denied("iam:DeleteRolePermissionsBoundary", ROLE, &[admin]));
    assert!(!denied("iam:DeleteRolePermissionsBoundary", ROLE, &[glass]));
}
