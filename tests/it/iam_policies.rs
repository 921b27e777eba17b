//! The shipped policies: read by AWS's own linter for templates, and held against what they are for.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::harness::daemon::{Answer, backstop, run_cli};
use crate::harness::policy::{Policy, Request, Verdict, glob};
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
    for name in ["guard", "boundary", "scp", "scp-guard"] {
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
        ("scp-guard", "scp-guard.json"),
        ("scp-guard --format cloudformation", "scp-guard.cloudformation.json"),
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

async fn printed_policy(line: &str) -> Policy {
    Policy::parse(&printed(line).await.stdout)
}

const ROLE: &str = "arn:aws:iam::123456789012:role/agents/transcriber";
const GUARD: &str = "arn:aws:iam::123456789012:role/backstop/guard";
const DENY: &str = "arn:aws:iam::123456789012:policy/backstop/backstop-deny";
const MACHINE: &str = "arn:aws:ec2:eu-west-1:123456789012:instance/i-1";
const NAT: &str = "arn:aws:ec2:eu-west-1:123456789012:natgateway/nat-1";
const ADDRESS: &str = "arn:aws:ec2:eu-west-1:123456789012:elastic-ip/eipalloc-1";
const VOLUME: &str = "arn:aws:ec2:eu-west-1:123456789012:volume/vol-1";
const GROUP: &str = "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:u:autoScalingGroupName/g";
const TAGGED: (&str, &str) = ("aws:ResourceTag/backstop:agent", "a");

#[tokio::test]
async fn the_guard_stops_what_is_tagged_denies_who_is_an_agent_and_deletes_nothing() {
    let guard = policy("guard");
    let wide = policy("guard.stop-untagged");
    let members = printed_policy("guard --stop-members").await;
    let member = ("aws:ResourceTag/aws:autoscaling:groupName", "workers");
    let stop = |context: &[(&str, &str)]| members.verdict(&Request::new("ec2:StopInstances", MACHINE, context));
    assert_eq!((stop(&[member]), stop(&[])), (Verdict::Allowed, Verdict::NotAllowed));
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
    assert_eq!(verdict("iam:PutRolePolicy", other, &[]), Verdict::Denied);
    let of_its_own = "arn:aws:iam::123456789012:policy/backstop/guard";
    assert_eq!(verdict("iam:CreatePolicyVersion", of_its_own, &[]), Verdict::Denied);
    let group = "arn:aws:iam::123456789012:group/admins";
    assert_eq!(verdict("iam:PutGroupPolicy", group, &[]), Verdict::Denied);
    assert_eq!(verdict("iam:DeleteRolePermissionsBoundary", ROLE, &[]), Verdict::Denied);
    assert_eq!(verdict("sts:AssumeRole", other, &[]), Verdict::Denied);
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
    assert_eq!(verdict("iam:CreatePolicyVersion", boundary, &[]), Verdict::Denied);
    assert_eq!(verdict("iam:CreatePolicyVersion", DENY, &[]), Verdict::Allowed);
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
    let birth = ("ec2:CreateAction", "RunInstances");
    let cases: Vec<Case> = vec![
        ("ec2:RunInstances", MACHINE, vec![me, keys, tag("a")], true),
        ("ec2:RunInstances", MACHINE, vec![me], false),
        ("ec2:RunInstances", MACHINE, vec![me, keys, tag("b")], false),
        ("ec2:RunInstances", "arn:aws:ec2:eu-west-1::image/ami-1", vec![me], true),
        ("ec2:RequestSpotInstances", "*", vec![me], false),
        ("ecs:CreateExpressGatewayService", "*", vec![me], false),
        ("ec2:CreateNatGateway", NAT, vec![me, keys, tag("a")], true),
        ("ec2:CreateNatGateway", NAT, vec![me], false),
        ("ec2:CreateNatGateway", ADDRESS, vec![me], true),
        ("ec2:RunInstances", VOLUME, vec![me], true),
        ("ec2:CreateTags", MACHINE, vec![me, keys, tag("a"), birth], true),
        ("ec2:CreateTags", MACHINE, vec![me, keys, tag("b"), birth], false),
        ("ec2:DeleteTags", MACHINE, vec![me, keys], false),
        ("ec2:DeleteTags", MACHINE, vec![me, keys, tag("a")], false),
        ("autoscaling:DeleteTags", GROUP, vec![me, keys, tag("a")], false),
        ("ec2:DeleteTags", MACHINE, vec![me, ("aws:TagKeys", "team")], true),
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
        let verdict = scp.verdict(&Request::new(action, resource, &as_admin));
        assert_eq!(verdict, Verdict::NotAllowed, "{action}");
    }
    let host = [me, ("aws:ResourceTag/backstop:guard", "true")];
    let stop = Request::new("ec2:StopInstances", MACHINE, &host);
    assert_eq!(boundary.verdict(&stop), Verdict::Denied);
    // What the boundary alone says: an SCP has less room.
    let denied = |action: &str, resource: &str, context: &[(&str, &str)]| {
        boundary.verdict(&Request::new(action, resource, context)) == Verdict::Denied
    };
    for (action, resource) in [("ec2:AllocateAddress", ADDRESS), ("ec2:CreateVolume", VOLUME)] {
        assert!(denied(action, resource, &[me]), "{action}");
        assert!(!denied(action, resource, &[me, keys, tag("a")]), "{action}");
    }
    let others = ("aws:ResourceTag/backstop:agent", "b");
    assert!(
        denied("lambda:TagResource", "*", &[me, keys, tag("a"), others]),
        "another agent's"
    );
    assert!(
        denied("ec2:CreateTags", MACHINE, &[me, keys, tag("a")]),
        "what is there is not made its own"
    );
    assert!(denied("ec2:DeleteTags", MACHINE, &[me]), "all tags at once");
    let other_case = [me, ("aws:TagKeys", "Backstop:Agent"), tag("a")];
    assert!(
        denied("ec2:RunInstances", MACHINE, &other_case),
        "conditions compare names without case"
    );
    let admin = "arn:aws:iam::123456789012:role/cfn-admin";
    for action in ["iam:PassRole", "sts:AssumeRole"] {
        assert!(denied(action, admin, &[me]), "{action}");
        assert!(!denied(action, ROLE, &[me]), "{action}");
    }
    // A principal that does not carry the tag is nobody, and takes nobody's part.
    assert!(denied("ec2:CreateTags", MACHINE, &[keys, tag("b"), birth]));
    assert!(denied("ec2:DeleteTags", MACHINE, &[keys]));
    let nobody = Request::new("ec2:RunInstances", MACHINE, &[tag("a")]);
    assert_eq!(
        boundary.verdict(&nobody),
        Verdict::Denied,
        "a principal without the tag"
    );
}

#[test]
fn only_keepers_change_the_guard_and_no_agent_is_born_unbounded() {
    let scp = policy("scp-guard");
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
    let glasses = glass.1;
    for made in ["iam:CreateRole", "iam:UpdateAssumeRolePolicy"] {
        assert!(
            denied(made, glasses, &[admin]),
            "{made}: who makes break-glass is break-glass"
        );
        assert!(!denied(made, glasses, &[glass]));
    }
    let profile = "arn:aws:iam::123456789012:instance-profile/backstop/guard";
    assert!(denied("iam:RemoveRoleFromInstanceProfile", profile, &[admin]));
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

/// Every action that AWS knows, in lower case, as the linter's own copy of the Service Authorization Reference has them.
async fn known_actions() -> BTreeSet<String> {
    let python = venv::python().await;
    let read = "import json, pathlib, cfnlint; \
        p = pathlib.Path(cfnlint.__file__).parent / 'data/AdditionalSpecs/Policies.json'; \
        print('\\n'.join(s + ':' + a for s, of in json.loads(p.read_text()).items() for a in of['Actions']))";
    let output = Command::new(python)
        .args(["-c", read])
        .output()
        .expect("the interpreter runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn no_verb_of_iams_that_writes_and_no_commitment_is_forgotten() {
    let known = known_actions().await;
    assert!(known.len() > 10_000, "{}", known.len());
    let boundary = policy("boundary");
    let me = [("aws:PrincipalTag/backstop:agent", "a")];
    let allowed = |action: &str| boundary.verdict(&Request::new(action, "*", &me)) == Verdict::Allowed;
    let reads = ["get", "list", "simulate", "generate"];
    let is_read = |action: &str| {
        reads
            .iter()
            .any(|verb| action.split(':').nth(1).unwrap_or_default().starts_with(verb))
    };
    let writes = known
        .iter()
        .filter(|action| action.starts_with("iam:") && !is_read(action));
    let open: Vec<_> = writes.filter(|action| allowed(action)).collect();
    assert!(open.is_empty(), "{open:?}");
    // What sounds like a commitment and is none, each looked at.
    let none = COMMITS_TO_NOTHING;
    let sounds = |action: &str| {
        let action = action.split(':').nth(1).unwrap_or_default();
        let verbs = ["create", "purchase", "accept", "allocate", "buy"];
        let terms = ["purchase", "reserv", "savingsplan", "longterm", "commitment"];
        verbs.iter().any(|verb| action.starts_with(verb)) && terms.iter().any(|term| action.contains(term))
    };
    let open: Vec<_> = known
        .iter()
        .filter(|action| sounds(action) && allowed(action))
        .collect();
    let open: Vec<_> = open
        .into_iter()
        .filter(|action| !none.contains(&action.as_str()))
        .collect();
    assert!(open.is_empty(), "an agent may buy {open:?}");
    // Every action that the documents name is one that AWS knows.
    for name in ["guard", "boundary", "scp", "scp-guard"] {
        for action in policy(name).actions() {
            let matches = known
                .iter()
                .any(|one| glob(&action.to_lowercase(), &one.to_lowercase()));
            assert!(action == "*" || matches, "{name}: AWS knows no {action}");
        }
    }
}

const COMMITS_TO_NOTHING: &[&str] = &[
    "bcm-pricing-calculator:createbillscenariocommitmentmodification",
    "ec2:createinterruptiblecapacityreservationallocation",
    "ec2:createreservedinstanceslisting",
    "ec2:createsubnetcidrreservation",
    "user-subscriptions:createpurchasesession",
];
