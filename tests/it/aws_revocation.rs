//! Revocation on the emulator, with IAM enforced: the managed fallback, service credentials, simulation.
//!
//! The emulator obeys a managed deny as IAM does. That an inline policy has no room is not its business, so
//! the proxy says it; of credentials and simulation the exact requests are asserted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::deny;
use backstop::domain::containment::state::{Containment, Phase};
use backstop::domain::containment::target::{CloudTargets, Guard, Principal, Region};
use backstop::domain::id::AgentId;
use backstop::killswitch::KillSettings;
use backstop::ports::{Cloud as _, Retry};

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Fault, FaultProxy, Rule};
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::switch::{ForwardClock, Switch};

const REGION: &str = "eu-central-1";
const AGENT: &str = "transcriber";
const OTHER: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#;

fn no_room() -> Fault {
    Fault::Refuse {
        status: 409,
        code: "LimitExceeded",
        message: "Maximum policy size of 10240 bytes exceeded for role transcriber",
    }
}

fn policy_arn() -> String {
    format!("arn:aws:iam::{ACCOUNT}:policy/backstop/{}", deny::POLICY_NAME)
}

async fn client(moto: &Moto, keys: &Keys) -> (Aws, FaultProxy) {
    let proxy = FaultProxy::start(moto.endpoint()).await;
    let settings = AwsSettings {
        regions: vec![Region(REGION.to_owned())],
        endpoint_url: Some(proxy.endpoint()),
        ..patient()
    };
    (Aws::new(moto.sdk(keys, REGION), settings), proxy)
}

async fn may_act(moto: &Moto, session: &Keys) -> bool {
    let agent = aws_sdk_ec2::Client::new(&moto.sdk(session, REGION));
    agent.describe_regions().send().await.is_ok()
}

/// A user's credential of one service; its id.
async fn credential(account: &Account<'_>, user: &str, service: &str) -> String {
    let request = account.iam().create_service_specific_credential().user_name(user);
    let answer = request.service_name(service).send().await;
    let answer = answer.expect("CreateServiceSpecificCredential");
    let made = answer.service_specific_credential().expect("it is returned");
    made.service_specific_credential_id().to_owned()
}

#[tokio::test]
async fn where_no_inline_policy_fits_the_managed_one_is_attached_and_goes_without_a_trace() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let role = account.role("/agents/", AGENT).await;
    let (user, key) = account.user("/agents/", "legacy-bot").await;
    let (bedrock, asleep) = (
        credential(&account, "legacy-bot", "bedrock.amazonaws.com").await,
        credential(&account, "legacy-bot", "codecommit.amazonaws.com").await,
    );
    let sleep = account
        .iam()
        .update_service_specific_credential()
        .user_name("legacy-bot");
    let sleep = sleep.service_specific_credential_id(&asleep);
    let inactive = aws_sdk_iam::types::StatusType::Inactive;
    sleep
        .status(inactive)
        .send()
        .await
        .expect("UpdateServiceSpecificCredential");
    let session = account.session(&role).await;
    let guard = account.role("/backstop/", "guard").await;
    let daemon = account.session(&guard).await;
    let (cloud, proxy) = client(&moto, &daemon).await;
    proxy.inject(Rule::on("PutRolePolicy", no_room()));

    let agent = AgentId::new(AGENT).expect("a name");
    let targets = CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![Principal::Role(role), Principal::User(user)],
        tags: BTreeMap::new(),
        regions: vec![Region(REGION.to_owned())],
    };
    let settings = KillSettings {
        targets: BTreeMap::from([(agent.clone(), targets)]),
        guard: Guard::default(),
        sweep_spacing: Duration::ZERO,
        call_limit: Duration::from_secs(60),
        step_patience: Duration::from_secs(120),
        ..KillSettings::default()
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clock = Arc::new(ForwardClock::default());
    let switch = Switch::start(dir.path(), &agent, Arc::new(cloud), clock, settings).await;
    assert!(may_act(&moto, &session).await);
    switch.contain().await;
    let contained = switch.until_contained().await;
    assert!(
        !may_act(&moto, &session).await,
        "the session that was issued before is denied"
    );
    let asked = proxy.take_asked();
    let changes: Vec<&str> = asked
        .iter()
        .map(|one| one.action.as_str())
        .filter(|action| {
            !["Get", "List", "Describe", "Simulate"]
                .iter()
                .any(|verb| action.starts_with(verb))
        })
        .collect();
    let at = |action: &str| {
        let found = changes.iter().position(|one| *one == action);
        found.unwrap_or_else(|| panic!("no {action} in {changes:?}"))
    };
    assert!(at("PutRolePolicy") < at("CreatePolicy"), "{changes:?}");
    assert!(at("CreatePolicy") < at("AttachRolePolicy"), "{changes:?}");
    let set: Vec<_> = asked
        .iter()
        .filter(|one| one.action == "UpdateServiceSpecificCredential")
        .collect();
    assert_eq!(set.len(), 1, "the one that was active: {set:?}");
    assert_eq!(set[0].params["ServiceSpecificCredentialId"], bedrock);
    assert_eq!(
        (set[0].params["Status"].as_str(), set[0].params["UserName"].as_str()),
        ("Inactive", "legacy-bot")
    );
    let denied = &contained.coverage.denied;
    for id in [
        format!("credential:legacy-bot/{bedrock}"),
        format!("key:legacy-bot/{}", key.id),
    ] {
        assert!(denied.contains(&id), "{id} in {denied:?}");
    }
    // The simulation was asked of both, once the deny was in place, and agreed: nothing is said.
    let simulated: Vec<_> = asked
        .iter()
        .filter(|one| one.action == "SimulatePrincipalPolicy")
        .collect();
    assert_eq!(simulated.len(), 2);
    for one in simulated {
        assert_eq!(one.params["ActionNames.member.1"], deny::SIMULATED[0]);
    }
    assert!(
        contained
            .coverage
            .still_burning
            .iter()
            .all(|line| !line.why.contains("simulation"))
    );

    // Somebody rewrites the managed policy: the session works again, until the next sweep.
    let rewrite = account.iam().create_policy_version().policy_arn(policy_arn());
    let rewritten = rewrite.policy_document(OTHER).set_as_default(true).send().await;
    rewritten.expect("CreatePolicyVersion");
    assert!(may_act(&moto, &session).await);
    switch.sweep().await;
    assert!(!may_act(&moto, &session).await);
    switch.until_contained().await;

    switch.reset(&[]).await;
    switch.until_reset().await;
    assert!(may_act(&moto, &session).await);
    let attached = account
        .iam()
        .list_attached_role_policies()
        .role_name(AGENT)
        .send()
        .await;
    assert!(
        attached
            .expect("ListAttachedRolePolicies")
            .attached_policies()
            .is_empty()
    );
    let gone = account.iam().get_policy().policy_arn(policy_arn()).send().await;
    gone.expect_err("the policy is deleted once nobody has it");
    let listed = account
        .iam()
        .list_service_specific_credentials()
        .user_name("legacy-bot")
        .send()
        .await;
    let listed = listed.expect("ListServiceSpecificCredentials");
    let active: Vec<_> = listed
        .service_specific_credentials()
        .iter()
        .filter(|one| one.status().as_str() == "Active")
        .map(|one| one.service_specific_credential_id())
        .collect();
    assert_eq!(active, [bedrock]);
    assert!(switch.images().await.is_empty());
}

#[tokio::test]
async fn the_policy_says_again_what_it_has_to_even_when_five_versions_are_there() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let role = Principal::Role(account.role("/agents/", AGENT).await);
    let (cloud, proxy) = client(&moto, &Keys::any()).await;
    cloud
        .attach_deny(&role, deny::POLICY_NAME, deny::DOCUMENT)
        .await
        .expect("it is made and attached");
    for _ in 0..4 {
        let rewrite = account.iam().create_policy_version().policy_arn(policy_arn());
        let rewritten = rewrite.policy_document(OTHER).set_as_default(true).send().await;
        rewritten.expect("CreatePolicyVersion");
    }
    let seen = cloud.principal(&role, deny::POLICY_NAME).await.expect("it is there");
    assert!(
        seen.deny_attached && !deny::is_attached(&seen),
        "attached, but it says something else"
    );
    proxy.take_asked();
    cloud
        .attach_deny(&role, deny::POLICY_NAME, deny::DOCUMENT)
        .await
        .expect("it is put right");
    let seen = cloud.principal(&role, deny::POLICY_NAME).await.expect("it is there");
    assert!(deny::is_attached(&seen));
    let deleted = proxy.take_action("DeletePolicyVersion");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].params["VersionId"], "v1", "the oldest that is not in force");
}

#[tokio::test]
async fn a_full_quota_is_a_refusal_for_good_and_names_itself() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let role = Principal::Role(account.role("/agents/", AGENT).await);
    let (cloud, proxy) = client(&moto, &Keys::any()).await;
    proxy.inject(Rule::on("PutRolePolicy", no_room()));
    let full = Fault::Refuse {
        status: 409,
        code: "LimitExceeded",
        message: "Cannot exceed quota for PoliciesPerRole: 10",
    };
    proxy.inject(Rule::on("AttachRolePolicy", full));
    let put = cloud.put_deny(&role, deny::POLICY_NAME, deny::DOCUMENT).await;
    let put = put.expect_err("there is no room");
    assert_eq!((put.code.as_deref(), put.retry), (Some(deny::NO_ROOM), Retry::Never));
    let attach = cloud.attach_deny(&role, deny::POLICY_NAME, deny::DOCUMENT).await;
    let attach = attach.expect_err("nor for this one");
    assert_eq!(
        (attach.code.as_deref(), attach.retry),
        (Some(deny::NO_ROOM), Retry::Never)
    );
    assert!(attach.message.contains("PoliciesPerRole"));
}

#[tokio::test]
async fn what_inline_policies_take_is_added_up_without_ours_and_without_white_space() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let role = Principal::Role(account.role("/agents/", AGENT).await);
    let (user, _) = account.user("/agents/", "legacy-bot").await;
    let user = Principal::User(user);
    let (cloud, _proxy) = client(&moto, &Keys::any()).await;
    for principal in [&role, &user] {
        let alone = cloud
            .inline_chars(principal, deny::POLICY_NAME)
            .await
            .expect("it adds up");
        assert!(alone > 40, "the policy that it works with: {alone}");
        cloud
            .put_deny(principal, deny::POLICY_NAME, deny::DOCUMENT)
            .await
            .expect("the deny is put");
        assert_eq!(
            cloud
                .inline_chars(principal, deny::POLICY_NAME)
                .await
                .expect("it adds up"),
            alone
        );
        assert_eq!(
            cloud.inline_chars(principal, "another").await.expect("it adds up"),
            alone + deny::chars(deny::DOCUMENT)
        );
    }
}

#[tokio::test]
async fn credentials_that_nobody_lets_us_list_hold_up_no_look() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let (user, key) = account.user("/agents/", "legacy-bot").await;
    let (cloud, proxy) = client(&moto, &Keys::any()).await;
    let refused = Fault::Refuse {
        status: 403,
        code: "AccessDenied",
        message: "not authorized to perform: iam:ListServiceSpecificCredentials",
    };
    proxy.inject(Rule::on("ListServiceSpecificCredentials", refused));
    let seen = cloud
        .principal(&Principal::User(user), deny::POLICY_NAME)
        .await
        .expect("the rest is seen");
    assert_eq!(seen.keys[0].id, key.id);
    let blind = seen.credentials_unseen.expect("and what is not is said");
    assert!(
        blind.refused && blind.why.contains("ListServiceSpecificCredentials"),
        "{blind:?}"
    );
}

/// Lists beside the deny that nobody lets us read keep no deny from being put, and are said.
#[tokio::test]
async fn the_deny_is_put_whatever_else_cannot_be_listed() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let role = account.role("/agents/", AGENT).await;
    let (user, _) = account.user("/agents/", "legacy-bot").await;
    let session = account.session(&role).await;
    let guard = account.role("/backstop/", "guard").await;
    let daemon = account.session(&guard).await;
    let (cloud, proxy) = client(&moto, &daemon).await;
    for action in ["ListInstanceProfilesForRole", "ListAccessKeys"] {
        let refused = Fault::Refuse {
            status: 403,
            code: "AccessDenied",
            message: "not authorized to perform this",
        };
        proxy.inject(Rule::on(action, refused));
    }
    let agent = AgentId::new(AGENT).expect("a name");
    let targets = CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![Principal::Role(role.clone()), Principal::User(user.clone())],
        tags: BTreeMap::new(),
        regions: vec![Region(REGION.to_owned())],
    };
    let settings = KillSettings {
        targets: BTreeMap::from([(agent.clone(), targets)]),
        guard: Guard::default(),
        sweep_spacing: Duration::ZERO,
        call_limit: Duration::from_secs(60),
        step_patience: Duration::from_secs(120),
        ..KillSettings::default()
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clock = Arc::new(ForwardClock::default());
    let switch = Switch::start(dir.path(), &agent, Arc::new(cloud), clock, settings).await;
    assert!(may_act(&moto, &session).await);
    switch.contain().await;
    let line = |containment: &Containment, id: &str, part: &str| {
        let mut lines = containment.coverage.still_burning.iter();
        lines.any(|line| line.resource.contains(id) && line.why.contains(part))
    };
    for _ in 0..3 {
        switch.sweep().await;
    }
    let last = switch.sweep().await;
    assert!(line(&last, AGENT, "instance profiles could not be listed"), "{last:#?}");
    assert!(
        line(&last, "legacy-bot", "access keys could not be listed"),
        "{last:#?}"
    );
    assert!(!may_act(&moto, &session).await, "the deny is put all the same");
    assert_eq!(last.phase, Phase::Containing, "machines may be missed");
    assert_eq!(last.coverage.denied.len(), 2, "{:?}", last.coverage.denied);
    proxy.heal();
    let contained = switch.until_contained().await;
    assert!(!line(&contained, AGENT, "could not be listed"));
}

/// A simulated answer that contradicts the deny, word for word as IAM writes one.
#[tokio::test]
async fn a_simulation_is_read_as_iam_writes_it() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let role = Principal::Role(account.role("/agents/", AGENT).await);
    let (cloud, proxy) = client(&moto, &Keys::any()).await;
    let member = |action: &str, decision: &str| {
        format!(
            "<member><EvalActionName>{action}</EvalActionName><EvalResourceName>*</EvalResourceName>\
             <EvalDecision>{decision}</EvalDecision></member>"
        )
    };
    let members = member("ec2:RunInstances", "allowed")
        + &member("s3:GetObject", "explicitDeny")
        + &member("a:B", "implicitDeny");
    let answer = format!(
        "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
         <SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>\
         <EvaluationResults>{members}</EvaluationResults></SimulatePrincipalPolicyResult>\
         <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"
    );
    proxy.inject(Rule::on("SimulatePrincipalPolicy", Fault::Answer(answer.leak())));
    let actions = ["ec2:RunInstances", "s3:GetObject", "a:B"].map(str::to_owned);
    let said = cloud.simulate(&role, &actions).await.expect("it is read");
    let said: Vec<_> = said.iter().map(|one| (one.action.as_str(), one.allowed)).collect();
    assert_eq!(
        said,
        [("ec2:RunInstances", true), ("s3:GetObject", false), ("a:B", false)]
    );
    let asked = proxy.take_asked().remove(0);
    assert_eq!(asked.params["PolicySourceArn"], role.arn());
    assert_eq!(asked.params["ActionNames.member.3"], "a:B");
}
