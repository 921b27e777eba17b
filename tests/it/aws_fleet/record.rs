//! CloudTrail. The emulator has no look-ups: the answers are synthetic events in the documented form.

use backstop::domain::fleet::creation_event::CALLS;
use backstop::ports::Cloud as _;
use serde_json::{Value, json};

use super::*;
use crate::harness::fault_proxy::{Fault, Rule};

const ROLE: &str = "arn:aws:iam::123456789012:role/agents/a";

/// A page's entry: the event itself is a text in it.
fn event(id: &str, name: &str, source: &str, at: &str, request: &Value, answer: &Value) -> Value {
    let event = json!({
        "eventVersion": "1.11", "eventID": id, "eventName": name, "eventSource": source, "eventTime": at,
        "awsRegion": REGION, "recipientAccountId": "123456789012",
        "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::123456789012:assumed-role/a/run-1",
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": ROLE}}},
        "requestParameters": request, "responseElements": answer
    });
    json!({"EventId": id, "EventName": name, "EventTime": 1_795_000_000, "CloudTrailEvent": event.to_string()})
}

#[tokio::test]
async fn what_was_made_is_looked_up_by_each_call_over_all_pages() {
    let bench = Bench::start().await;
    let machines = |ids: &[&str]| {
        let items: Vec<Value> = ids.iter().map(|id| json!({"instanceId": id})).collect();
        json!({"instancesSet": {"items": items}})
    };
    let page = |events: Vec<Value>, next: Option<&str>| Fault::Json(json!({"Events": events, "NextToken": next}));
    // CloudTrail tells the newest first.
    let newer = event(
        "e-2",
        "RunInstances",
        "ec2.amazonaws.com",
        "2026-11-20T06:05:00Z",
        &json!({}),
        &machines(&["i-02", "i-03"]),
    );
    let older = event(
        "e-1",
        "RunInstances",
        "ec2.amazonaws.com",
        "2026-11-20T06:01:00Z",
        &json!({}),
        &machines(&["i-01"]),
    );
    let unreadable = json!({"EventId": "e-0", "EventName": "RunInstances", "CloudTrailEvent": "{"});
    let group = event(
        "e-3",
        "CreateAutoScalingGroup",
        "autoscaling.amazonaws.com",
        "2026-11-20T06:03:00Z",
        &json!({"autoScalingGroupName": "workers"}),
        &Value::Null,
    );
    bench
        .proxy
        .inject(Rule::on("LookupEvents", page(vec![older, unreadable], None)).naming("more"));
    bench
        .proxy
        .inject(Rule::on("LookupEvents", page(vec![newer.clone(), newer], Some("more"))).naming("RunInstances"));
    bench
        .proxy
        .inject(Rule::on("LookupEvents", page(vec![group], None)).naming("CreateAutoScalingGroup"));
    bench.proxy.inject(Rule::on("LookupEvents", page(Vec::new(), None)));

    let since = "2026-11-20T06:00:00.75Z".parse().expect("a time");
    let creations = bench
        .cloud
        .creations(&region(), since)
        .await
        .expect("they are looked up");
    let told: Vec<(&str, Vec<String>)> = creations
        .iter()
        .map(|one| (one.event.as_str(), one.made.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(
        told,
        [
            ("e-1", vec!["instance:eu-central-1/i-01".to_owned()]),
            ("e-3", vec!["group:eu-central-1/workers".to_owned()]),
            (
                "e-2",
                vec![
                    "instance:eu-central-1/i-02".to_owned(),
                    "instance:eu-central-1/i-03".to_owned()
                ]
            )
        ],
        "the oldest first, each once"
    );
    assert!(
        creations
            .iter()
            .all(|one| one.by == ROLE && one.account == "123456789012")
    );

    let asked = bench.asked().await;
    let names: Vec<&str> = asked
        .iter()
        .map(|one| one.params["LookupAttributes.0.AttributeValue"].as_str())
        .collect();
    let mut expected = vec!["RunInstances"];
    expected.extend(CALLS);
    assert_eq!(
        names, expected,
        "each call that makes something, and a second page of the first"
    );
    let first = json!({
        "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "RunInstances"}],
        "StartTime": since.as_second(), "MaxResults": 50
    });
    assert_eq!(asked[0].json, Some(first));
}

#[tokio::test]
async fn a_look_up_that_is_refused_is_told() {
    let bench = Bench::start().await;
    let denied = Fault::Refuse {
        status: 400,
        code: "AccessDeniedException",
        message: "no",
    };
    bench.proxy.inject(Rule::on("LookupEvents", denied));
    let since = "2026-11-20T06:00:00Z".parse().expect("a time");
    let error = bench
        .cloud
        .creations(&region(), since)
        .await
        .expect_err("it is refused");
    assert_eq!(
        (error.operation, error.code.as_deref()),
        ("cloudtrail:LookupEvents", Some("AccessDeniedException"))
    );
    assert_eq!(error.region, Some(region()));
}
