//! AWS as it is on a bad day: what is retried, what is unknown, and what no fault may break.

use std::time::Duration;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::target::{Principal, Region};
use backstop::ports::{Cloud as _, InstanceFilter, Retry};

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Fault, FaultProxy, Rule};
use crate::harness::moto::{Keys, Moto};

const REGION: &str = "eu-central-1";
const POLICY: &str = "backstop-deny";
const DENY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

fn region() -> Region {
    Region(REGION.to_owned())
}

fn attempts(proxy: &FaultProxy, max_attempts: u32) -> AwsSettings {
    AwsSettings {
        endpoint_url: Some(proxy.endpoint()),
        max_attempts,
        ..patient()
    }
}

struct Ground {
    moto: Moto,
    proxy: FaultProxy,
    role: Principal,
    owned: Vec<String>,
}

impl Ground {
    async fn new(instances: i32) -> Self {
        let moto = Moto::start().await;
        let account = Account::new(&moto, &Keys::any());
        let role = Principal::Role(account.role("/agents/", "transcriber").await);
        let owned = account.instances(REGION, instances, &[("owner", "a")]).await;
        let proxy = FaultProxy::start(moto.endpoint()).await;
        Self {
            moto,
            proxy,
            role,
            owned,
        }
    }

    fn cloud(&self, max_attempts: u32) -> Aws {
        Aws::new(self.moto.sdk(&Keys::any(), REGION), attempts(&self.proxy, max_attempts))
    }

    fn filter() -> InstanceFilter {
        InstanceFilter::Tags(vec![("owner".to_owned(), "a".to_owned())])
    }

    async fn stopped(&self) -> usize {
        let account = Account::new(&self.moto, &Keys::any());
        account
            .states(REGION)
            .await
            .values()
            .filter(|state| *state == "stopped")
            .count()
    }
}

#[tokio::test]
async fn a_look_is_repeated_and_a_change_is_not() {
    let ground = Ground::new(3).await;
    let cloud = ground.cloud(3);
    for fault in [
        Fault::Reset,
        Fault::LoseReply,
        Fault::Html(500),
        Fault::throttle(),
        Fault::Html(503),
    ] {
        let what = format!("{fault:?}");
        for action in ["DescribeInstances", "GetRole"] {
            ground.proxy.inject(Rule::on(action, fault.clone()).times(2));
        }
        assert_eq!(
            cloud.instances(&region(), &Ground::filter()).await.expect(&what).len(),
            3
        );
        assert!(cloud.principal(&ground.role, POLICY).await.expect(&what).exists);
        let asked = ground.proxy.take_asked();
        let times = |action: &str| asked.iter().filter(|one| one.action == action).count();
        assert_eq!((times("DescribeInstances"), times("GetRole")), (3, 3), "{what}");

        // A second attempt that is throttled would hide that the first one was carried out.
        for action in ["StopInstances", "PutRolePolicy", "DeleteRolePolicy"] {
            ground.proxy.inject(Rule::on(action, fault.clone()));
        }
        cloud.stop(&region(), &ground.owned).await.expect_err(&what);
        cloud.put_deny(&ground.role, POLICY, DENY).await.expect_err(&what);
        cloud.delete_deny(&ground.role, POLICY).await.expect_err(&what);
        assert_eq!(ground.proxy.take_asked().len(), 3, "{what}");
        ground.proxy.heal();
    }
}

#[tokio::test]
async fn what_lasts_is_told_by_what_may_have_happened() {
    let ground = Ground::new(2).await;
    let cloud = ground.cloud(1);
    let unknown = [
        Fault::Reset,
        Fault::LoseReply,
        Fault::Html(500),
        Fault::Html(502),
        Fault::Html(200),
    ];
    for fault in unknown {
        let what = format!("{fault:?}");
        for action in [
            "StopInstances",
            "PutRolePolicy",
            "DescribeInstances",
            "GetRole",
            "UpdateAccessKey",
        ] {
            ground.proxy.inject(Rule::on(action, fault.clone()));
        }
        let error = cloud.stop(&region(), &ground.owned).await.expect_err(&what);
        assert_eq!(
            (error.retry, error.operation),
            (Retry::UnknownOutcome, "ec2:StopInstances"),
            "{what}: {error:?}"
        );
        assert_eq!(error.region, Some(region()));
        // The SDK does not read the body of a success that carries nothing: there only the next look tells.
        if !matches!(fault, Fault::Html(200)) {
            let error = cloud.put_deny(&ground.role, POLICY, DENY).await.expect_err(&what);
            assert_eq!(error.retry, Retry::UnknownOutcome, "{what}: {error:?}");
            let error = cloud
                .set_access_key("nobody", "AKIAIOSFODNN7EXAMPLE", false)
                .await
                .expect_err(&what);
            assert_eq!(error.retry, Retry::UnknownOutcome, "{what}: {error:?}");
        }
        let error = cloud.instances(&region(), &Ground::filter()).await.expect_err(&what);
        assert_eq!(error.retry, Retry::Transient, "{what}: {error:?}");
        let error = cloud.principal(&ground.role, POLICY).await.expect_err(&what);
        assert_eq!(error.retry, Retry::Transient, "{what}: {error:?}");
        // A page is not passed on as if it were AWS's words.
        assert!(!error.message.contains("DOCTYPE"), "{error:?}");
        ground.proxy.heal();
    }

    // The reply was lost, the deny is there: only looking again tells.
    let seen = cloud.principal(&ground.role, POLICY).await.expect("it is there");
    assert_eq!(seen.deny_document.as_deref(), Some(DENY));
    assert_eq!(ground.stopped().await, 2);
}

#[tokio::test]
async fn a_throttle_that_lasts_says_when_to_come_back() {
    let ground = Ground::new(2).await;
    let cloud = ground.cloud(3);
    ground.proxy.inject(Rule::on("StopInstances", Fault::throttle()));
    let error = cloud.stop(&region(), &ground.owned).await.expect_err("it lasts");
    assert!(
        matches!(error.retry, Retry::After(pause) if pause > Duration::ZERO),
        "{error:?}"
    );
    assert_eq!(error.code.as_deref(), Some("RequestLimitExceeded"));
    assert_eq!(ground.proxy.take_action("StopInstances").len(), 1);

    let throttled = Fault::Refuse {
        status: 400,
        code: "Throttling",
        message: "Rate exceeded",
    };
    ground.proxy.inject(Rule::on("PutRolePolicy", throttled));
    let error = cloud.put_deny(&ground.role, POLICY, DENY).await.expect_err("it lasts");
    assert!(matches!(error.retry, Retry::After(_)), "{error:?}");
}

#[tokio::test]
async fn a_throttle_in_the_middle_keeps_what_was_stopped() {
    let ground = Ground::new(120).await;
    let settings = AwsSettings {
        parallel: 1,
        ..attempts(&ground.proxy, 1)
    };
    let cloud = Aws::new(ground.moto.sdk(&Keys::any(), REGION), settings);
    ground
        .proxy
        .inject(Rule::on("StopInstances", Fault::throttle()).after(2).times(1));
    let done = cloud.stop(&region(), &ground.owned).await.expect("some were stopped");
    assert_eq!(done.accepted, ground.owned[..100]);
    assert_eq!(done.refused.len(), 20);
    assert!(
        done.refused
            .iter()
            .all(|(_, why)| why.transient && why.code == "RequestLimitExceeded")
    );
    assert_eq!(ground.stopped().await, 100);
}

#[tokio::test]
async fn a_lost_reply_in_the_middle_leaves_only_its_own_unknown() {
    let ground = Ground::new(120).await;
    let cloud = ground.cloud(3);
    ground
        .proxy
        .inject(Rule::on("StopInstances", Fault::LoseReply).naming(&ground.owned[60]));
    let done = cloud
        .stop(&region(), &ground.owned)
        .await
        .expect("some are known to be stopped");
    let known: Vec<String> = [&ground.owned[..50], &ground.owned[100..]].concat();
    assert_eq!((done.accepted, done.refused), (known, Vec::new()));
    assert_eq!(ground.stopped().await, 120, "it was carried out all the same");
}

#[tokio::test]
async fn a_refusal_is_final_and_asked_for_once() {
    let ground = Ground::new(1).await;
    let cloud = ground.cloud(3);
    for (code, status) in [
        ("AccessDenied", 403),
        ("LimitExceeded", 409),
        ("MalformedPolicyDocument", 400),
    ] {
        let fault = Fault::Refuse {
            status,
            code,
            message: "no",
        };
        ground.proxy.inject(Rule::on("PutRolePolicy", fault));
        let error = cloud.put_deny(&ground.role, POLICY, DENY).await.expect_err(code);
        assert_eq!((error.code.as_deref(), error.retry), (Some(code), Retry::Never));
        assert_eq!(ground.proxy.take_action("PutRolePolicy").len(), 1, "{code}");
        ground.proxy.heal();
    }
}

#[tokio::test]
async fn a_silent_region_ends_and_holds_no_other_back() {
    let ground = Ground::new(2).await;
    let account = Account::new(&ground.moto, &Keys::any());
    let there = account.instances("us-west-2", 2, &[("owner", "a")]).await;
    let settings = AwsSettings {
        attempt_timeout: Duration::from_millis(500),
        parallel: 1,
        ..attempts(&ground.proxy, 1)
    };
    let cloud = Aws::new(ground.moto.sdk(&Keys::any(), REGION), settings);
    let patient = Aws::new(ground.moto.sdk(&Keys::any(), REGION), attempts(&ground.proxy, 1));
    ground
        .proxy
        .inject(Rule::on("StopInstances", Fault::Silence).in_region(REGION));

    let west = Region("us-west-2".to_owned());
    let here = region();
    let (silent, other) = tokio::join!(cloud.stop(&here, &ground.owned), patient.stop(&west, &there));
    let error = silent.expect_err("it is silent");
    assert_eq!((error.retry, error.region), (Retry::UnknownOutcome, Some(here.clone())));
    assert_eq!(other.expect("it answers").accepted, there);
    // Its one place is free again, and the region may have come back.
    ground.proxy.heal();
    assert_eq!(
        patient.stop(&here, &ground.owned).await.expect("it is back").accepted,
        ground.owned
    );
}

#[tokio::test]
async fn nobody_listening_is_no_proof_that_nothing_happened() {
    let settings = AwsSettings {
        endpoint_url: Some("http://127.0.0.1:9".to_owned()),
        max_attempts: 2,
        ..patient()
    };
    let moto_like = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .credentials_provider(aws_sdk_iam::config::SharedCredentialsProvider::new(
            aws_sdk_iam::config::Credentials::new("AKIA", "s3cr3t-value", None, None, "test"),
        ))
        .build();
    let cloud = Aws::new(moto_like, settings);
    let error = cloud
        .stop(&region(), &["i-1".to_owned()])
        .await
        .expect_err("nobody is there");
    assert_eq!(error.retry, Retry::UnknownOutcome, "{error:?}");
    let told = format!("{error} {error:?}");
    assert!(
        told.contains("ec2:StopInstances") && !told.contains("s3cr3t-value"),
        "{told}"
    );
    let error = cloud.regions().await.expect_err("nobody is there");
    assert_eq!(error.retry, Retry::Transient, "{error:?}");
}
