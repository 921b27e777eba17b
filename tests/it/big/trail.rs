//! What the emulator lacks, answered in its place: CloudTrail's look-ups and the price list.
//!
//! The answers are synthetic, in the documented form ("LookupEvents", CloudTrail API Reference; "CloudTrail record
//! contents", its User Guide): an event for each call that made something, under the role of whoever
//! made it. The price list has nothing, so the built-in prices count.

use serde_json::{Value, json};

use super::REGIONS;
use crate::harness::fault_proxy::{Fault, FaultProxy, Rule};
use crate::harness::moto::ACCOUNT;

/// Who made what, as `fleet.py` tells it: region, call, role, ids.
pub fn inject(proxy: &FaultProxy, trail: &Value, at: &str) {
    for region in REGIONS {
        let calls = trail[region].as_object().into_iter().flatten();
        for (call, makers) in calls {
            let makers = makers.as_object().into_iter().flatten();
            let events: Vec<Value> = makers.map(|(role, ids)| event(region, call, role, ids, at)).collect();
            let page = Fault::Json(json!({ "Events": events }));
            proxy.inject(Rule::on("LookupEvents", page).naming(call).in_region(region));
        }
    }
    proxy.inject(Rule::on("LookupEvents", Fault::Json(json!({ "Events": [] }))));
    let nothing = json!({ "FormatVersion": "aws_v1", "PriceList": [] });
    proxy.inject(Rule::on("GetProducts", Fault::Json(nothing)));
}

fn event(region: &str, call: &str, role: &str, ids: &Value, at: &str) -> Value {
    let id = format!("{region}-{call}-{role}");
    let (source, request, answer) = match call {
        "RunInstances" => {
            let ids = ids.as_array().into_iter().flatten();
            let items: Vec<Value> = ids.map(|id| json!({ "instanceId": id })).collect();
            (
                "ec2.amazonaws.com",
                json!({}),
                json!({ "instancesSet": { "items": items } }),
            )
        }
        "CreateAutoScalingGroup" => {
            let request = json!({ "autoScalingGroupName": ids[0] });
            ("autoscaling.amazonaws.com", request, Value::Null)
        }
        other => panic!("the event of {other} is not known here"),
    };
    let event = json!({
        "eventVersion": "1.11", "eventID": id, "eventName": call, "eventSource": source, "eventTime": at,
        "awsRegion": region, "recipientAccountId": ACCOUNT,
        "userIdentity": {
            "type": "AssumedRole",
            "arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/run-1"),
            "sessionContext": { "sessionIssuer": {
                "type": "Role", "arn": format!("arn:aws:iam::{ACCOUNT}:role/agents/{role}")
            } },
        },
        "requestParameters": request, "responseElements": answer,
    });
    json!({ "EventId": id, "EventName": call, "CloudTrailEvent": event.to_string() })
}
