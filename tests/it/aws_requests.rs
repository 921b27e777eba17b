//! Every request of the adapter, held against AWS's own service models.
//!
//! The emulator is more generous than AWS. The models that botocore ships (documented by AWS, version
//! pinned with the emulator) say which parameters, words, lengths and numbers AWS takes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::deny;
use backstop::domain::containment::target::{Principal, Region};
use backstop::domain::iam::{Choice, Document, Scope};
use backstop::ports::{Cloud as _, InstanceFilter};
use serde_json::{Value, json};

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Asked, FaultProxy};
use crate::harness::moto::{ACCOUNT, Moto};
use crate::harness::permitted::Facts;
use crate::harness::policy::Policy;
use crate::harness::{process, venv};

const REGION: &str = "eu-central-1";
const VALIDATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/validate_requests.py");

/// What the models find wrong, a line each.
pub async fn problems(asked: &[Asked]) -> Vec<String> {
    let python = venv::python().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("requests.json");
    let list: Vec<_> = asked
        .iter()
        .map(|one| {
            serde_json::json!({"service": one.service, "action": one.action, "params": one.params,
                "json": one.json, "rest": one.rest})
        })
        .collect();
    std::fs::write(&file, serde_json::Value::from(list).to_string()).expect("the directory is ours");
    let mut command = Command::new(python);
    command.arg(VALIDATE).arg(&file);
    let run = move || process::run("validate", command, dir.path(), Duration::from_secs(120));
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("running a command does not panic");
    let output = output.expect("the models are read in time");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = lines.pop().unwrap_or_default();
    assert_eq!(last, format!("checked {}", asked.len()), "{output:?}");
    lines
}

#[tokio::test]
async fn aws_itself_would_take_every_request() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let role = Principal::Role(account.role("/agents/", "transcriber").await);
    let (user_arn, key) = account.user("/agents/", "legacy-bot").await;
    let user = Principal::User(user_arn);
    let profile = account.profile("transcriber", "transcriber").await;
    let owned = account.instances(REGION, 3, &[("backstop:agent", "a")]).await;
    let guard = account.role("/backstop/", "guard").await;
    let session = account.session(&guard).await;

    let policy = format!(
        "arn:aws:iam::{ACCOUNT}:policy{}{}",
        deny::POLICY_PATH,
        deny::POLICY_NAME
    );
    let bedrock = account
        .iam()
        .create_service_specific_credential()
        .user_name("legacy-bot");
    let bedrock = bedrock.service_name("bedrock.amazonaws.com").send().await;
    let bedrock = bedrock
        .expect("CreateServiceSpecificCredential")
        .service_specific_credential;
    let bedrock = bedrock.expect("it is returned").service_specific_credential_id;

    let proxy = FaultProxy::start(moto.endpoint()).await;
    let settings = AwsSettings {
        endpoint_url: Some(proxy.endpoint()),
        ..patient()
    };
    let cloud = Aws::new(moto.sdk(&session, REGION), settings);
    let region = Region(REGION.to_owned());
    cloud.identity().await.expect("identity");
    cloud.regions().await.expect("regions");
    for principal in [&role, &user] {
        cloud
            .put_deny(principal, deny::POLICY_NAME, deny::DOCUMENT)
            .await
            .expect("put_deny");
        cloud.principal(principal, deny::POLICY_NAME).await.expect("principal");
        cloud
            .delete_deny(principal, deny::POLICY_NAME)
            .await
            .expect("delete_deny");
    }
    for principal in [&role, &user] {
        let name = deny::POLICY_NAME;
        cloud.inline_chars(principal, name).await.expect("inline_chars");
        cloud
            .attach_deny(principal, name, deny::DOCUMENT)
            .await
            .expect("attach_deny");
        let rewrite = account.iam().create_policy_version().policy_arn(&policy);
        let rewrite = rewrite.policy_document(
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*"}}"#,
        );
        rewrite.set_as_default(true).send().await.expect("CreatePolicyVersion");
        cloud.principal(principal, name).await.expect("principal");
        cloud
            .attach_deny(principal, name, deny::DOCUMENT)
            .await
            .expect("attach_deny");
        let actions: Vec<String> = deny::SIMULATED.iter().map(|&one| one.to_owned()).collect();
        cloud.simulate(principal, &actions).await.expect("simulate");
        cloud.detach_deny(principal, name).await.expect("detach_deny");
    }
    for active in [false, true] {
        let set = cloud.set_service_credential("legacy-bot", &bedrock, active).await;
        set.expect("set_service_credential");
    }
    cloud.trusting(std::slice::from_ref(&role)).await.expect("trusting");
    cloud
        .set_access_key("legacy-bot", &key.id, false)
        .await
        .expect("set_access_key");
    cloud
        .set_access_key("legacy-bot", &key.id, true)
        .await
        .expect("set_access_key");
    let tag = |value: &str| ("backstop:agent".to_owned(), value.to_owned());
    let many = (0..450).map(|n| format!("i-{n:017x}")).collect();
    for filter in [
        InstanceFilter::Tags(vec![tag("a"), tag(r"b*?\"), ("team".to_owned(), String::new())]),
        InstanceFilter::Profiles(vec![profile]),
        InstanceFilter::Ids(many),
    ] {
        cloud.instances(&region, &filter).await.expect("instances");
    }
    cloud
        .stop_protection(&region, &owned[0])
        .await
        .expect("stop_protection");
    cloud.may_stop(&region, &owned).await.expect("may_stop");
    cloud.stop(&region, &owned).await.expect("stop");
    cloud.start(&region, &owned).await.expect("start");
    cloud.terminate(&region, &owned).await.expect("terminate");

    let asked = proxy.take_asked();
    assert_eq!(problems(&asked).await, Vec::<String>::new());
    let actions: BTreeSet<&str> = asked.iter().map(|one| one.action.as_str()).collect();
    let expected = [
        "AttachRolePolicy",
        "AttachUserPolicy",
        "CreatePolicy",
        "CreatePolicyVersion",
        "DeletePolicy",
        "DeletePolicyVersion",
        "DeleteRolePolicy",
        "DeleteUserPolicy",
        "DescribeInstanceAttribute",
        "DescribeInstances",
        "DescribeRegions",
        "DetachRolePolicy",
        "DetachUserPolicy",
        "GetCallerIdentity",
        "GetPolicy",
        "GetPolicyVersion",
        "GetRole",
        "GetRolePolicy",
        "GetUser",
        "GetUserPolicy",
        "ListAccessKeys",
        "ListAttachedRolePolicies",
        "ListAttachedUserPolicies",
        "ListInstanceProfilesForRole",
        "ListPolicyVersions",
        "ListRolePolicies",
        "ListRoles",
        "ListServiceSpecificCredentials",
        "ListUserPolicies",
        "PutRolePolicy",
        "PutUserPolicy",
        "SimulatePrincipalPolicy",
        "StartInstances",
        "StopInstances",
        "TerminateInstances",
        "UpdateAccessKey",
        "UpdateServiceSpecificCredential",
    ];
    assert_eq!(
        actions.into_iter().collect::<Vec<_>>(),
        expected,
        "what the daemon's own role must allow"
    );

    // And it does: the shipped policy, with the choice to terminate, which was tried.
    let scope = Scope {
        choices: vec![Choice::TerminateUnstoppable],
        ..Scope::default()
    };
    let name = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
    let facts = Facts {
        account: ACCOUNT.to_owned(),
        roles: [(name(role.arn()), role.arn().to_owned()), (name(&guard), guard)].into(),
        users: [(name(user.arn()), user.arn().to_owned())].into(),
        tags: account.tags(REGION).await,
        ..Facts::default()
    };
    let shipped = Policy::parse(&Document::Guard.text(&scope));
    assert_eq!(facts.refused(&shipped, &asked), Vec::new());
    let strict = Policy::parse(&Document::Guard.text(&Scope::default()));
    let refused = facts.refused(&strict, &asked);
    assert!(
        refused.iter().all(|(action, _)| action == "ec2:TerminateInstances"),
        "{refused:?}"
    );
    assert_eq!(refused.len(), owned.len());
}

/// The check can fail: each of these is refused by AWS and taken by a careless reader.
#[tokio::test]
async fn a_wrong_request_does_not_pass_the_models() {
    let request = |service: &str, action: &str, params: &[(&str, &str)]| {
        let version = if service == "iam" { "2010-05-08" } else { "2016-11-15" };
        let own = [("Action", action), ("Version", version)];
        let params = own
            .iter()
            .chain(params)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Asked {
            service: service.to_owned(),
            region: REGION.to_owned(),
            action: action.to_owned(),
            params: params.collect(),
            json: None,
            rest: None,
            carried_out: false,
        }
    };
    let key = ("AccessKeyId", "AKIAIOSFODNN7EXAMPLE");
    let cases = [
        (
            request("iam", "UpdateAccessKey", &[key, ("Status", "Disabled")]),
            "is none of",
        ),
        (request("iam", "UpdateAccessKey", &[key]), "required and not given"),
        (
            request(
                "iam",
                "PutRolePolicy",
                &[("RoleName", "a b"), ("PolicyName", "p"), ("PolicyDocument", "{}")],
            ),
            "does not match",
        ),
        (request("iam", "ListRoles", &[("MaxItems", "1001")]), "is above 1000"),
        (
            request("ec2", "StopInstances", &[("InstanceIds.1", "i-1")]),
            "there is no such parameter",
        ),
        (
            request("ec2", "StopInstances", &[("InstanceId.1", "i-1"), ("DryRun", "yes")]),
            "is not a boolean",
        ),
        (request("ec2", "HaltInstances", &[]), "there is no such operation"),
    ];
    for (asked, expected) in cases {
        let found = problems(std::slice::from_ref(&asked)).await;
        assert!(found.iter().any(|line| line.contains(expected)), "{asked:?}: {found:?}");
    }
    let right = request("ec2", "StopInstances", &[("InstanceId.1", "i-1"), ("DryRun", "true")]);
    assert_eq!(problems(&[right]).await, Vec::<String>::new());
}

/// The same for services that are asked in JSON, by paths, or under a name that two of them share.
#[tokio::test]
async fn a_wrong_request_of_any_protocol_does_not_pass_the_models() {
    let plain = |service: &str, action: &str| Asked {
        service: service.to_owned(),
        region: REGION.to_owned(),
        action: action.to_owned(),
        params: BTreeMap::new(),
        json: None,
        rest: None,
        carried_out: false,
    };
    let json = |service: &str, action: &str, body: Value| Asked {
        json: Some(body),
        ..plain(service, action)
    };
    let rest = |action: &str, method: &str, path: &str, body: Option<Value>| Asked {
        rest: Some((method.to_owned(), path.to_owned())),
        json: body,
        ..plain("lambda", action)
    };
    let query = |service: &str, action: &str, version: &str, params: &[(&str, &str)]| {
        let own = [("Action", action), ("Version", version)];
        let all = own.iter().chain(params);
        Asked {
            params: all
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..plain(service, action)
        }
    };
    let concurrency = "/2017-10-31/functions/f/concurrency";
    let attribute = |key: &str| json!({"LookupAttributes": [{"AttributeKey": key, "AttributeValue": "RunInstances"}]});
    let (scaling, newer, classic) = ("2011-01-01", "2015-12-01", "2012-06-01");
    let wrong = [
        (
            json("ecs", "UpdateService", json!({"cluster": "c"})),
            "required and not given",
        ),
        (
            json("ecs", "UpdateService", json!({"service": "s", "desiredCount": "0"})),
            "is not a number",
        ),
        (
            json("ecs", "UpdateService", json!({"service": "s", "desired": 0})),
            "there is no such parameter",
        ),
        (json("ecs", "ListTasks", json!({"desiredStatus": "UP"})), "is none of"),
        (json("ecs", "HaltTask", json!({})), "there is no such operation"),
        (
            json("cloudtrail", "LookupEvents", json!({"MaxResults": 51})),
            "is above 50",
        ),
        (json("cloudtrail", "LookupEvents", attribute("Name")), "is none of"),
        (
            json("cloudtrail", "LookupEvents", json!({"StartTime": "now"})),
            "is not a number",
        ),
        (
            json("pricing", "GetProducts", json!({"MaxResults": 10})),
            "required and not given",
        ),
        (
            json(
                "pricing",
                "GetProducts",
                json!({"ServiceCode": "AmazonEC2", "MaxResults": 101}),
            ),
            "is above 100",
        ),
        (
            rest("PutFunctionConcurrency", "PUT", concurrency, Some(json!({}))),
            "required and not given",
        ),
        (
            rest(
                "PutFunctionConcurrency",
                "PUT",
                concurrency,
                Some(json!({"ReservedConcurrentExecutions": -1})),
            ),
            "is below 0",
        ),
        (
            rest("PutFunctionConcurrency", "POST", concurrency, None),
            "is not its path",
        ),
        (
            rest("GetFunction", "GET", "/2015-03-31/functions/a%20b", None),
            "does not match",
        ),
        (
            rest(
                "ListFunctions",
                "GET",
                "/2015-03-31/functions/?FunctionVersion=SOME",
                None,
            ),
            "is none of",
        ),
        (
            rest("ListFunctions", "GET", "/2015-03-31/functions/?Page=1", None),
            "there is no such parameter",
        ),
        (
            query("autoscaling", "SuspendProcesses", scaling, &[]),
            "required and not given",
        ),
        (
            query(
                "autoscaling",
                "SuspendProcesses",
                newer,
                &[("AutoScalingGroupName", "g")],
            ),
            "instead of 2011-01-01",
        ),
        (
            query(
                "elasticloadbalancing",
                "DescribeLoadBalancers",
                newer,
                &[("PageSize", "401")],
            ),
            "is above 400",
        ),
        (
            query(
                "elasticloadbalancing",
                "DescribeTags",
                classic,
                &[("ResourceArns.member.1", "a")],
            ),
            "required and not given",
        ),
    ];
    for (asked, expected) in wrong {
        let found = problems(std::slice::from_ref(&asked)).await;
        assert!(found.iter().any(|line| line.contains(expected)), "{asked:?}: {found:?}");
    }
    let right = [
        json(
            "ecs",
            "UpdateService",
            json!({"cluster": "c", "service": "s", "desiredCount": 0}),
        ),
        json("cloudtrail", "LookupEvents", attribute("EventName")),
        json("pricing", "GetProducts", json!({"ServiceCode": "AmazonEC2"})),
        rest(
            "PutFunctionConcurrency",
            "PUT",
            concurrency,
            Some(json!({"ReservedConcurrentExecutions": 0})),
        ),
        rest("DeleteFunctionConcurrency", "DELETE", concurrency, None),
        rest(
            "ListFunctions",
            "GET",
            "/2015-03-31/functions/?FunctionVersion=ALL&MaxItems=50",
            None,
        ),
        query(
            "autoscaling",
            "ResumeProcesses",
            scaling,
            &[("AutoScalingGroupName", "g"), ("ScalingProcesses.member.1", "Launch")],
        ),
        query(
            "elasticloadbalancing",
            "DescribeTags",
            newer,
            &[("ResourceArns.member.1", "a")],
        ),
        query(
            "elasticloadbalancing",
            "DescribeTags",
            classic,
            &[("LoadBalancerNames.member.1", "a")],
        ),
    ];
    assert_eq!(problems(&right).await, Vec::<String>::new());
}
