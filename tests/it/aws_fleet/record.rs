//! CloudTrail. The emulator has no look-ups: the answers are synthetic events in the documented form.

use backstop::domain::fleet::creation::Creation;
use backstop::domain::fleet::creation_event::CALLS;
use backstop::ports::{Cloud as _, CloudError, LookUp, Recorded};
use jiff::Timestamp;
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

/// Every page of every call, as the watcher asks for them; what was not read.
async fn everything(bench: &Bench, since: Timestamp) -> Result<(Vec<Creation>, Vec<String>), CloudError> {
    let (mut creations, mut unread) = (Vec::new(), Vec::new());
    for call in CALLS {
        let mut wanted = LookUp {
            call,
            since,
            until: None,
            page: None,
        };
        loop {
            let page = bench.cloud.creations(&region(), &wanted).await?;
            creations.extend(page.creations);
            unread.extend(page.unread);
            wanted.page = page.next;
            if wanted.page.is_none() {
                break;
            }
        }
    }
    creations.sort_by(|a, b| (a.at, &a.event).cmp(&(b.at, &b.event)));
    creations.dedup();
    Ok((creations, unread))
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
    let (creations, unread) = everything(&bench, since).await.expect("they are looked up");
    assert_eq!(unread.len(), 1, "{unread:?}");
    assert!(unread[0].contains("e-0"), "{unread:?}");
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
    let error = everything(&bench, since).await.expect_err("it is refused");
    assert_eq!(
        (error.operation, error.code.as_deref()),
        ("cloudtrail:LookupEvents", Some("AccessDeniedException"))
    );
    assert_eq!(error.region, Some(region()));
}

/// An answer of more than 100 KB is left out of the event; what the look-up names beside it is taken.
#[tokio::test]
async fn what_a_large_call_made_is_taken_from_what_the_look_up_names() {
    let bench = Bench::start().await;
    let ids: Vec<String> = (0..500).map(|n| format!("i-{n:017x}")).collect();
    let omitted = json!({"omitted": true, "originalSize": 400_000, "reason": "responseElements too large"});
    let large = |id: &str, subjects: Vec<Value>| {
        let at = "2026-11-20T06:05:00Z";
        let mut event = event(id, "RunInstances", "ec2.amazonaws.com", at, &json!({}), &omitted);
        event["Resources"] = Value::Array(subjects);
        event
    };
    let named = |kind: &str, id: &str| json!({"ResourceType": kind, "ResourceName": id});
    let mut subjects = vec![named("AWS::EC2::Ami", "ami-1"), named("AWS::EC2::Instance", "odd")];
    subjects.extend(ids.iter().map(|id| named("AWS::EC2::Instance", id)));
    let events = [large("e-1", subjects), large("e-2", Vec::new())];
    bench
        .proxy
        .inject(Rule::on("LookupEvents", Fault::Json(json!({"Events": events}))).naming("RunInstances"));
    let at = 1_795_000_000;
    let wanted = LookUp {
        call: "RunInstances",
        since: Timestamp::from_second(at - 100).expect("a time"),
        until: Some(Timestamp::from_second(at).expect("a time")),
        page: None,
    };
    let found = bench
        .cloud
        .creations(&region(), &wanted)
        .await
        .expect("it is looked up");
    let Recorded {
        creations,
        oldest,
        unread,
        next,
    } = found;
    assert_eq!((creations.len(), next), (1, None));
    let made: Vec<&str> = creations[0].made.iter().map(|what| what.id.as_str()).collect();
    assert_eq!(made, ids);
    assert_eq!(oldest, Timestamp::from_second(at).ok());
    let unread = unread.expect("of the other one nobody knows what it made");
    assert!(unread.contains("e-2") && unread.contains("RunInstances"), "{unread}");
    let asked = bench.asked().await;
    assert_eq!(
        asked[0]
            .json
            .as_ref()
            .map(|json| (json["StartTime"].clone(), json["EndTime"].clone())),
        Some((json!(at - 100), json!(at)))
    );
}
