//! Lambda functions.

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, Runtime};
use backstop::domain::fleet::asset::Brake;
use backstop::ports::{Cloud as _, Retry};
use serde_json::json;

use super::*;
use crate::harness::fault_proxy::{Fault, Rule};

pub(super) async fn function(bench: &Bench, name: &str, role: &str) {
    let code = FunctionCode::builder().zip_file(Blob::new(b"not run".to_vec())).build();
    let request = aws_sdk_lambda::Client::new(&bench.sdk())
        .create_function()
        .function_name(name);
    let request = request.role(role).code(code).runtime(Runtime::Python312).handler("h.h");
    request
        .tags("backstop:agent", "a")
        .send()
        .await
        .expect("CreateFunction");
}

#[tokio::test]
async fn functions_are_listed_capped_and_put_back_to_a_number_or_to_none() {
    let bench = Bench::start().await;
    let role = bench.account().role("/agents/", "a").await;
    for n in 0..7 {
        function(&bench, &format!("f-{n}"), &role).await;
    }
    let client = aws_sdk_lambda::Client::new(&bench.sdk());
    let reserve = client
        .put_function_concurrency()
        .function_name("f-1")
        .reserved_concurrent_executions(17);
    reserve.send().await.expect("PutFunctionConcurrency");

    let before = bench.assets("function").await;
    assert_eq!(before.len(), 7);
    let reserved = |asset: &Asset| match &asset.brake {
        Brake::Cap { now, capped } => {
            assert_eq!(*capped, settings(&[("reserved", "0")]));
            now["reserved"].clone()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(reserved(&before["function:eu-central-1/f-0"]), "none");
    assert_eq!(reserved(&before["function:eu-central-1/f-1"]), "17");
    for asset in before.values() {
        assert_eq!(
            (asset.acts_as.as_slice(), asset.service.as_ref()),
            ([role.clone()].as_slice(), "AWSLambda")
        );
        assert_eq!(asset.tags["backstop:agent"], "a");
        assert!(asset.meters.is_empty());
    }
    let asked = bench.asked().await;
    let count = |action: &str| asked.iter().filter(|one| one.action == action).count();
    assert_eq!(
        (
            count("ListFunctions"),
            count("GetFunctionConcurrency"),
            count("ListTags")
        ),
        (1, 7, 7)
    );
    assert_eq!(count("GetFunction"), 0, "it would hand out the code");
    assert_eq!(asked[0].params["FunctionVersion"], "ALL");

    for name in ["f-0", "f-1"] {
        for _ in 0..2 {
            let cap = settings(&[("reserved", "0")]);
            bench
                .cloud
                .put_settings(&asset("function", name), &cap)
                .await
                .expect("it is capped");
        }
    }
    let asked = bench.asked().await;
    assert_eq!(actions(&asked), ["PutFunctionConcurrency"; 4]);
    assert_eq!(asked[0].json, Some(json!({"ReservedConcurrentExecutions": 0})));
    let capped = bench.assets("function").await;
    assert_eq!(capped.values().filter(|one| one.is_capped() == Some(true)).count(), 2);
    bench.asked().await;

    for asset in before.values() {
        let Brake::Cap { now, .. } = &asset.brake else {
            panic!("{asset:?}")
        };
        if capped[&asset.what.to_string()].is_capped() == Some(true) {
            bench
                .cloud
                .put_settings(&asset.what, now)
                .await
                .expect("it is put back");
        }
    }
    assert_eq!(
        actions(&bench.asked().await),
        ["DeleteFunctionConcurrency", "PutFunctionConcurrency"]
    );
    assert_eq!(bench.assets("function").await, before);

    for value in ["0", "none"] {
        let gone = asset("function", "gone");
        bench
            .cloud
            .put_settings(&gone, &settings(&[("reserved", value)]))
            .await
            .expect("what is gone is fine");
    }
    bench.asked().await;
    for wrong in [("reserved", "-1"), ("reserved", "all"), ("memory", "0")] {
        let error = bench
            .cloud
            .put_settings(&asset("function", "f-0"), &settings(&[wrong]))
            .await;
        let error = error.expect_err("it is no setting");
        assert_eq!(
            (error.code.as_deref(), error.retry),
            (Some("UnknownSetting"), Retry::Never)
        );
    }
    assert!(bench.asked().await.is_empty());
}

/// Synthetic answers in the documented form: the emulator has neither pages nor provisioned concurrency
/// here.
#[tokio::test]
async fn provisioned_concurrency_is_asked_for_where_there_can_be_some() {
    let bench = Bench::start().await;
    let role = "arn:aws:iam::123456789012:role/agents/a";
    let version = |name: &str, version: &str, memory: i32| {
        json!({"FunctionName": name, "Version": version, "MemorySize": memory, "Architectures": ["arm64"],
            "Role": role, "FunctionArn": format!("arn:aws:lambda:{REGION}:123456789012:function:{name}:{version}")})
    };
    let first =
        json!({"Functions": [version("plain", "$LATEST", 128), version("busy", "$LATEST", 512)], "NextMarker": "more"});
    let second = json!({"Functions": [version("busy", "3", 1_024)]});
    bench
        .proxy
        .inject(Rule::on("ListFunctions", Fault::Json(second)).naming("more"));
    bench.proxy.inject(Rule::on("ListFunctions", Fault::Json(first)));
    let tags = json!({"Tags": {"team": "x"}});
    bench.proxy.inject(Rule::on("ListTags", Fault::Json(tags)));
    let reserved = json!({"ReservedConcurrentExecutions": 50});
    bench
        .proxy
        .inject(Rule::on("GetFunctionConcurrency", Fault::Json(reserved)));
    let config = |count: i32| {
        json!({"FunctionArn": format!("arn:aws:lambda:{REGION}:123456789012:function:busy:3"),
            "RequestedProvisionedConcurrentExecutions": count, "AllocatedProvisionedConcurrentExecutions": 0,
            "Status": "IN_PROGRESS"})
    };
    let first = json!({"ProvisionedConcurrencyConfigs": [config(10)], "NextMarker": "rest"});
    let second = json!({"ProvisionedConcurrencyConfigs": [config(2)]});
    bench.proxy.inject(
        Rule::on("ListProvisionedConcurrencyConfigs", Fault::Json(second))
            .naming("rest")
            .times(1),
    );
    bench
        .proxy
        .inject(Rule::on("ListProvisionedConcurrencyConfigs", Fault::Json(first)).times(1));
    let denied = Fault::Refuse {
        status: 403,
        code: "AccessDeniedException",
        message: "no",
    };
    bench
        .proxy
        .inject(Rule::on("ListProvisionedConcurrencyConfigs", denied));
    let functions = bench.assets("function").await;
    assert_eq!(functions.len(), 2);
    let busy = &functions["function:eu-central-1/busy"];
    assert_eq!(meters(busy), [("lambda-provisioned/arm".to_owned(), 12_000)]);
    assert_eq!(busy.tags["team"], "x");
    let brake = Brake::Cap {
        now: settings(&[("reserved", "50"), ("provisioned", "3=2")]),
        capped: settings(&[("reserved", "0"), ("provisioned", "none")]),
    };
    assert_eq!(busy.brake, brake);
    assert!(functions["function:eu-central-1/plain"].meters.is_empty());
    let asked = bench.asked().await;
    let of = |action: &str| asked.iter().filter(|one| one.action == action).count();
    assert_eq!(
        (
            of("ListFunctions"),
            of("GetFunctionConcurrency"),
            of("ListProvisionedConcurrencyConfigs")
        ),
        (2, 2, 2)
    );
    // Without the permission the function is listed and can be capped all the same, and costs what it cost.
    let busy = &bench.assets("function").await["function:eu-central-1/busy"];
    assert_eq!(meters(busy), [("lambda-provisioned/arm".to_owned(), 12_000)]);
    assert!(busy.unread.is_none());
    let asked = bench.proxy.take_action("ListProvisionedConcurrencyConfigs");
    assert_eq!(asked.len(), 1);
    // A daemon that never learnt it charges a bound: what is reserved, at the function's largest memory.
    let settings_of = AwsSettings {
        endpoint_url: Some(bench.proxy.endpoint()),
        ..patient()
    };
    let fresh = Aws::new(bench.sdk(), settings_of);
    let found = fresh
        .assets(&region(), &Kind::named("function"))
        .await
        .expect("they are listed");
    let busy = found.iter().find(|one| one.what.id == "busy").expect("it is listed");
    assert_eq!(meters(busy), [("lambda-provisioned/arm".to_owned(), 50_000)]);

    bench.proxy.heal();
    provisioned_concurrency_goes_before_the_reservation_and_comes_after_it(&bench).await;
    bench.proxy.heal();
    let busy = asset("function", "busy");
    let cap = settings(&[("reserved", "0")]);
    for (status, code, transient) in [
        (429, "TooManyRequestsException", false),
        (409, "ResourceConflictException", true),
    ] {
        bench.proxy.inject(Rule::on(
            "PutFunctionConcurrency",
            Fault::Refuse {
                status,
                code,
                message: "not now",
            },
        ));
        let error = bench.cloud.put_settings(&busy, &cap).await.expect_err("not now");
        assert_eq!(error.code.as_deref(), Some(code));
        assert_eq!(error.retry == Retry::Transient, transient, "{error:?}");
        assert!(transient || matches!(error.retry, Retry::After(_)), "{error:?}");
        bench.proxy.heal();
    }
    bench.proxy.inject(Rule::on("PutFunctionConcurrency", Fault::Reset));
    let error = bench.cloud.put_settings(&busy, &cap).await.expect_err("nobody knows");
    assert_eq!(error.retry, Retry::UnknownOutcome);
}

/// AWS keeps what is provisioned within what is reserved.
async fn provisioned_concurrency_goes_before_the_reservation_and_comes_after_it(bench: &Bench) {
    let busy = asset("function", "busy");
    let config = |qualifier: &str, count: i32| {
        json!({"FunctionArn": format!("arn:aws:lambda:{REGION}:123456789012:function:busy:{qualifier}"),
            "RequestedProvisionedConcurrentExecutions": count, "Status": "READY"})
    };
    let configs = json!({"ProvisionedConcurrencyConfigs": [config("live", 10), config("3", 2)]});
    let answers = [
        ("ListProvisionedConcurrencyConfigs", configs),
        ("DeleteProvisionedConcurrencyConfig", json!({})),
        ("PutProvisionedConcurrencyConfig", json!({"Status": "IN_PROGRESS"})),
        ("PutFunctionConcurrency", json!({"ReservedConcurrentExecutions": 0})),
    ];
    for (action, answer) in answers {
        bench.proxy.inject(Rule::on(action, Fault::Json(answer)));
    }
    bench.asked().await;
    let cap = settings(&[("reserved", "0"), ("provisioned", "none")]);
    bench.cloud.put_settings(&busy, &cap).await.expect("it is capped");
    assert_eq!(
        actions(&bench.asked().await),
        [
            "ListProvisionedConcurrencyConfigs",
            "DeleteProvisionedConcurrencyConfig",
            "DeleteProvisionedConcurrencyConfig",
            "PutFunctionConcurrency"
        ]
    );
    let none = json!({"ProvisionedConcurrencyConfigs": []});
    bench.proxy.heal();
    bench
        .proxy
        .inject(Rule::on("ListProvisionedConcurrencyConfigs", Fault::Json(none)));
    let answers = [
        ("PutProvisionedConcurrencyConfig", json!({"Status": "IN_PROGRESS"})),
        ("PutFunctionConcurrency", json!({"ReservedConcurrentExecutions": 50})),
    ];
    for (action, answer) in answers {
        bench.proxy.inject(Rule::on(action, Fault::Json(answer)));
    }
    let back = settings(&[("reserved", "50"), ("provisioned", "3=2,live=10")]);
    bench.cloud.put_settings(&busy, &back).await.expect("it is put back");
    let asked = bench.asked().await;
    assert_eq!(
        actions(&asked),
        [
            "ListProvisionedConcurrencyConfigs",
            "PutFunctionConcurrency",
            "PutProvisionedConcurrencyConfig",
            "PutProvisionedConcurrencyConfig"
        ]
    );
    assert_eq!(asked[2].json, Some(json!({"ProvisionedConcurrentExecutions": 2})));
    assert_eq!(asked[3].json, Some(json!({"ProvisionedConcurrentExecutions": 10})));
}

/// C3: tags that are not told leave open whose a function is.
#[tokio::test]
async fn tags_that_are_not_told_are_said() {
    let bench = Bench::start().await;
    let listed = json!({"Functions": [{"FunctionName": "f", "Version": "$LATEST", "MemorySize": 128,
        "FunctionArn": format!("arn:aws:lambda:{REGION}:123456789012:function:f")}]});
    bench.proxy.inject(Rule::on("ListFunctions", Fault::Json(listed)));
    bench
        .proxy
        .inject(Rule::on("GetFunctionConcurrency", Fault::Json(json!({}))));
    let denied = Fault::Refuse {
        status: 403,
        code: "AccessDeniedException",
        message: "no",
    };
    bench.proxy.inject(Rule::on("ListTags", denied));
    let functions = bench.assets("function").await;
    let why = functions["function:eu-central-1/f"]
        .unread
        .as_deref()
        .expect("it is said");
    assert!(
        why.contains("AccessDeniedException") && why.contains("lambda:ListTags"),
        "{why}"
    );
}
