//! Principals on the emulator: what is there, taking it away, giving it back.

use aws_sdk_iam::error::ProvideErrorMetadata as _;
use aws_sdk_iam::types::StatusType;
use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::observed::AccessKey;
use backstop::domain::containment::target::{Principal, Region};
use backstop::ports::{Cloud as _, Retry};

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::FaultProxy;
use crate::harness::moto::{ACCOUNT, Keys, Moto};

const POLICY: &str = "backstop-deny";
const DENY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Sid":"100%+sure","Effect":"Deny","Action":"*","Resource":"*"}]}"#;

fn aws(moto: &Moto, keys: &Keys) -> Aws {
    Aws::new(moto.sdk(keys, "eu-central-1"), patient())
}

#[tokio::test]
async fn an_issued_session_is_refused_while_the_deny_is_there_and_works_again_after() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let arn = account.role("/agents/", "transcriber").await;
    let session = account.session(&arn).await;
    let agent = aws_sdk_ec2::Client::new(&moto.sdk(&session, "eu-central-1"));
    let cloud = aws(&moto, &admin);
    let role = Principal::Role(arn);

    agent.describe_instances().send().await.expect("the role allows it");
    assert_eq!(
        cloud.principal(&role, POLICY).await.expect("it is there").deny_document,
        None
    );

    cloud.put_deny(&role, POLICY, DENY).await.expect("the deny is put");
    cloud.put_deny(&role, POLICY, DENY).await.expect("and may be put twice");
    assert_eq!(
        cloud
            .principal(&role, POLICY)
            .await
            .expect("it is there")
            .deny_document
            .as_deref(),
        Some(DENY)
    );
    let refused = agent.describe_instances().send().await.expect_err("the role is denied");
    assert_eq!(refused.code(), Some("AccessDenied"));

    cloud.delete_deny(&role, POLICY).await.expect("the deny is deleted");
    cloud
        .delete_deny(&role, POLICY)
        .await
        .expect("and may be deleted twice");
    assert_eq!(
        cloud.principal(&role, POLICY).await.expect("it is there").deny_document,
        None
    );
    agent.describe_instances().send().await.expect("the deny is lifted");
}

#[tokio::test]
async fn a_users_key_is_refused_while_the_user_is_denied() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let (arn, keys) = account.user("/agents/", "legacy-bot").await;
    let agent = aws_sdk_ec2::Client::new(&moto.sdk(&keys, "eu-central-1"));
    let cloud = aws(&moto, &admin);
    let user = Principal::User(arn);

    agent.describe_instances().send().await.expect("the user may");
    cloud.put_deny(&user, POLICY, DENY).await.expect("the deny is put");
    assert_eq!(
        cloud
            .principal(&user, POLICY)
            .await
            .expect("it is there")
            .deny_document
            .as_deref(),
        Some(DENY)
    );
    agent.describe_instances().send().await.expect_err("the user is denied");
    cloud.delete_deny(&user, POLICY).await.expect("the deny is deleted");
    cloud
        .delete_deny(&user, POLICY)
        .await
        .expect("and may be deleted twice");
    agent.describe_instances().send().await.expect("the deny is lifted");
}

#[tokio::test]
async fn a_role_is_seen_with_its_profiles_and_whom_it_trusts() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"sts:AssumeRole",
        "Principal":{{"AWS":["arn:aws:iam::{ACCOUNT}:role/agents/planner"],"Service":"ec2.amazonaws.com"}}}}]}}"#
    );
    let arn = account.role_trusting("/agents/", "transcriber", &trust).await;
    let one = account.profile("transcriber-a", "transcriber").await;
    let other = account.profile("transcriber-b", "transcriber").await;

    let cloud = aws(&moto, &Keys::any());
    let seen = cloud
        .principal(&Principal::Role(arn.clone()), POLICY)
        .await
        .expect("it is there");
    assert!(seen.exists);
    assert_eq!(seen.principal, Principal::Role(arn));
    assert_eq!(seen.trusted, [format!("arn:aws:iam::{ACCOUNT}:role/agents/planner")]);
    let mut profiles = seen.profile_arns;
    profiles.sort();
    assert_eq!(profiles, [one, other]);
    assert!(seen.keys.is_empty());
}

#[tokio::test]
async fn roles_that_trust_the_agent_are_found_among_many() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let trusting = |principal: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{principal}}}}}"#
        )
    };
    let service = trusting(r#"{"Service":"lambda.amazonaws.com"}"#);
    let arn = account.role_trusting("/agents/", "transcriber", &service).await;
    for n in 0..120 {
        let request = account.iam().create_role().role_name(format!("service-{n:03}"));
        request
            .assume_role_policy_document(&service)
            .send()
            .await
            .expect("CreateRole");
    }
    let by_name = trusting(&format!(r#"{{"AWS":"{arn}"}}"#));
    let by_account = trusting(&format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:root"}}"#));
    let other = trusting(r#"{"AWS":"arn:aws:iam::210987654321:root"}"#);
    let one = account.role_trusting("/zz/", "zz-deployer", &by_name).await;
    let two = account.role_trusting("/", "admin", &by_account).await;
    account.role_trusting("/", "vendor", &other).await;

    let cloud = aws(&moto, &Keys::any());
    let found = cloud.trusting(&[Principal::Role(arn)]).await.expect("they are listed");
    let mut expected = vec![one, two];
    expected.sort();
    assert_eq!(found, expected);
    assert!(cloud.trusting(&[]).await.expect("nobody is asked about").is_empty());
}

#[tokio::test]
async fn a_users_keys_are_seen_and_set_with_exactly_that_request() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let (arn, first) = account.user("/", "legacy-bot").await;
    let second = account.access_key("legacy-bot").await;
    account.set_key("legacy-bot", &second.id, StatusType::Inactive).await;

    let proxy = FaultProxy::start(moto.endpoint()).await;
    let settings = AwsSettings {
        endpoint_url: Some(proxy.endpoint()),
        ..patient()
    };
    let cloud = Aws::new(moto.sdk(&Keys::any(), "eu-central-1"), settings);
    let user = Principal::User(arn);
    let keys = async || {
        let mut keys = cloud.principal(&user, POLICY).await.expect("it is there").keys;
        keys.sort_by_key(|key| key.id != first.id);
        keys
    };
    let key = |keys: &Keys, active| AccessKey {
        id: keys.id.clone(),
        active,
    };
    assert_eq!(keys().await, [key(&first, true), key(&second, false)]);

    proxy.take_asked();
    cloud
        .set_access_key("legacy-bot", &first.id, false)
        .await
        .expect("it is set");
    cloud
        .set_access_key("legacy-bot", &first.id, true)
        .await
        .expect("it is set");
    let asked = proxy.take_asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for (asked, status) in asked.iter().zip(["Inactive", "Active"]) {
        let params: Vec<_> = asked
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            params,
            [
                ("AccessKeyId", first.id.as_str()),
                ("Action", "UpdateAccessKey"),
                ("Status", status),
                ("UserName", "legacy-bot"),
                ("Version", "2010-05-08"),
            ]
        );
        assert_eq!((asked.service.as_str(), asked.carried_out), ("iam", true));
    }
    cloud
        .set_access_key("legacy-bot", &first.id, false)
        .await
        .expect("it is set");
    assert_eq!(keys().await, [key(&first, false), key(&second, false)]);
}

#[tokio::test]
async fn who_is_not_there_does_not_exist_and_a_namesake_is_not_taken_for_it() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    account.role("/agents/", "transcriber").await;
    account.user("/agents/", "legacy-bot").await;
    let cloud = aws(&moto, &Keys::any());
    let arn = |rest: &str| format!("arn:aws:iam::{ACCOUNT}:{rest}");

    for absent in [Principal::Role(arn("role/nobody")), Principal::User(arn("user/nobody"))] {
        let seen = cloud.principal(&absent, POLICY).await.expect("absence is an answer");
        assert!(
            !seen.exists && seen.deny_document.is_none() && seen.keys.is_empty(),
            "{seen:?}"
        );
        cloud
            .delete_deny(&absent, POLICY)
            .await
            .expect("nothing is to be deleted");
        let refused = cloud
            .put_deny(&absent, POLICY, DENY)
            .await
            .expect_err("nobody can be denied");
        assert_eq!(
            (refused.code.as_deref(), refused.retry),
            (Some("NoSuchEntity"), Retry::Never)
        );
    }
    for namesake in [
        Principal::Role(arn("role/transcriber")),
        Principal::User(arn("user/other/legacy-bot")),
        Principal::Role("arn:aws:iam::210987654321:role/agents/transcriber".to_owned()),
    ] {
        let refused = cloud
            .principal(&namesake, POLICY)
            .await
            .expect_err("another principal of that name");
        assert_eq!(
            (refused.code.as_deref(), refused.retry),
            (Some("PrincipalMismatch"), Retry::Never)
        );
    }
}

#[tokio::test]
async fn the_daemon_knows_itself_with_the_path_that_its_session_has_lost() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let arn = account.role("/ops/guards/", "backstop").await;
    let session = account.session(&arn).await;

    let own = aws(&moto, &session)
        .identity()
        .await
        .expect("STS answers anybody it knows");
    assert_eq!((own.account.as_str(), own.arn.as_str()), (ACCOUNT, arn.as_str()));

    // Without iam:GetRole the path stays unknown; the account and the name are still right.
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:*","Resource":"*"}]}"#;
    let put = account
        .iam()
        .put_role_policy()
        .role_name("backstop")
        .policy_name("no-iam");
    put.policy_document(deny).send().await.expect("PutRolePolicy");
    let own = aws(&moto, &session)
        .identity()
        .await
        .expect("STS answers anybody it knows");
    assert_eq!(own.arn, format!("arn:aws:iam::{ACCOUNT}:role/backstop"));

    let (user, keys) = account.user("/ops/", "ann").await;
    assert_eq!(aws(&moto, &keys).identity().await.expect("a user is itself").arn, user);
}

#[tokio::test]
async fn the_usual_aws_places_may_be_empty_and_that_is_told() {
    // No credentials: an address that nobody listens at must not even be tried for them.
    let settings = AwsSettings {
        endpoint_url: Some("http://127.0.0.1:9".to_owned()),
        regions: vec![Region("eu-central-1".to_owned())],
        max_attempts: 1,
        ..patient()
    };
    let sdk = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .build();
    let cloud = Aws::new(sdk, settings);
    let error = cloud.identity().await.expect_err("nobody is nobody");
    assert_eq!(error.operation, "sts:GetCallerIdentity");
    assert!(
        error.message.to_lowercase().contains("credential") || error.message.contains("identity"),
        "{error:?}"
    );
    assert_eq!(
        cloud.regions().await.expect("they were given"),
        [Region("eu-central-1".to_owned())]
    );
}
