//! Reading a creation out of the cloud's record of a call.
//!
//! CloudTrail keeps an event for each call that changes something; EventBridge delivers the same event as
//! the `detail` of its own. Both are read here, so that what was made has one owner whichever way the news
//! came. The fields are those of "CloudTrail record contents" and "CloudTrail userIdentity element" in the
//! CloudTrail User Guide (event version 1.11, read 2026-11-20).
//!
//! An event is a claim by AWS, and its parts come from whoever called: names and parameters are an
//! agent's own words. So only ids of the shape that the cloud itself gives are taken out of an answer, a
//! name is taken from the request only where AWS answers nothing, and a call that failed made nothing.
//!
//! Who called is the role or user that a policy can name. A call that a service makes for somebody
//! (CloudFormation for an agent) carries that somebody's identity, and is theirs. A service's own call, by
//! its service-linked role, is nobody's: what it made has a parent, the group or the service, and belongs
//! to whom that belongs. It must never be taken for a person's, nor a session for its role.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::asset::{AssetRef, Kind};
use super::creation::Creation;
use crate::domain::containment::target::Region;
use crate::domain::wire::json::{JsonLimits, JsonRejection, parse_strict};

/// The calls that make something which is looked for, by the names under which CloudTrail records them.
pub const CALLS: &[&str] = &[
    "RunInstances",
    "RequestSpotInstances",
    "RequestSpotFleet",
    "CreateFleet",
    "CreateAutoScalingGroup",
    "CreateService",
    "RunTask",
    "StartTask",
    "CreateFunction20150331",
    "CreateVolume",
    "CreateNatGateway",
    "AllocateAddress",
    "CreateLoadBalancer",
];

/// Whose calls they are: other services have some of the same names.
const SOURCES: &[&str] = &[
    "autoscaling.amazonaws.com",
    "ec2.amazonaws.com",
    "ecs.amazonaws.com",
    "elasticloadbalancing.amazonaws.com",
    "lambda.amazonaws.com",
];

/// An event has at most 256 KB ("Quotas in AWS CloudTrail", read 2026-11-20).
const LIMITS: JsonLimits = JsonLimits {
    bytes: 512 << 10,
    depth: 64,
    values: 100_000,
};

/// RunInstances makes no more in one call under any quota that AWS grants by default; more is no answer.
const MAX_MADE: usize = 10_000;

/// The longest id or name that is kept.
const MAX_ID: usize = 512;

/// Why an event cannot be read. It may have made something, so whoever reads events says so aloud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventRejection {
    #[error("the event is not read: {0}")]
    Json(#[from] JsonRejection),
    #[error("the event is not an object")]
    NotAnObject,
    #[error("the event has no {field}")]
    Missing { field: &'static str },
    #[error("the event's time is no time")]
    Time,
    #[error("the event says who called in a way that is not known here")]
    UnknownCaller,
    #[error("the event does not say what was made")]
    NothingNamed,
}

/// What a look-up says beside an event that the call was about: types such as `AWS::EC2::Instance`, and names.
pub type Subjects<'a> = &'a [(&'a str, &'a str)];

/// Reads the text of an event. `None`: nothing was made, or by nobody who could be an agent.
pub fn read(text: &str) -> Result<Option<Creation>, EventRejection> {
    read_about(text, &[])
}

/// The same of an event that was looked up.
///
/// CloudTrail leaves an answer of more than 100 KB out (`omitted`), and RunInstances answers with that much for some
/// seventy machines. Then what the look-up itself names is taken instead.
pub fn read_about(text: &str, subjects: Subjects<'_>) -> Result<Option<Creation>, EventRejection> {
    read_with(&parse_strict(text.as_bytes(), &LIMITS)?, subjects)
}

/// Reads an event that is JSON already, such as the `detail` of EventBridge's.
pub fn read_value(event: &Value) -> Result<Option<Creation>, EventRejection> {
    read_with(event, &[])
}

fn read_with(event: &Value, subjects: Subjects<'_>) -> Result<Option<Creation>, EventRejection> {
    let event = event.as_object().ok_or(EventRejection::NotAnObject)?;
    let call = text(event, "eventName").ok_or(EventRejection::Missing { field: "eventName" })?;
    let source = text(event, "eventSource").unwrap_or_default();
    let is_ours = CALLS.contains(&call) && SOURCES.contains(&source);
    if !is_ours || event.get("errorCode").is_some_and(|code| !code.is_null()) {
        return Ok(None);
    }
    let identity = event.get("userIdentity").and_then(Value::as_object);
    let identity = identity.ok_or(EventRejection::Missing { field: "userIdentity" })?;
    let Some(by) = caller(identity)? else { return Ok(None) };
    let missing = |field| EventRejection::Missing { field };
    let account = text(event, "recipientAccountId").or_else(|| text(identity, "accountId"));
    let account = account.ok_or(missing("recipientAccountId"))?;
    let region = Region(text(event, "awsRegion").ok_or(missing("awsRegion"))?.to_owned());
    let at = text(event, "eventTime").ok_or(missing("eventTime"))?;
    let at: Timestamp = at.parse().map_err(|_| EventRejection::Time)?;
    let id = text(event, "eventID").ok_or(missing("eventID"))?;
    let mut made = made(call, event, &region);
    if made.is_empty() {
        made = among(subjects, call, &region);
    }
    if made.is_empty() {
        // ECS may answer with failures alone, which is no error to CloudTrail.
        return match event.get("responseElements") {
            Some(Value::Object(answer)) if call.ends_with("Task") && answer.contains_key("failures") => Ok(None),
            _ => Err(EventRejection::NothingNamed),
        };
    }
    Ok(Some(Creation {
        event: id.to_owned(),
        call: call.to_owned(),
        at,
        account: account.to_owned(),
        region,
        by,
        made,
    }))
}

/// The ARN of whoever called; `None` for a service on its own behalf.
fn caller(identity: &Map<String, Value>) -> Result<Option<String>, EventRejection> {
    let session = identity.get("sessionContext").and_then(Value::as_object);
    let issuer = session.and_then(|session| session.get("sessionIssuer"));
    let issuer = issuer.and_then(Value::as_object).and_then(|issuer| text(issuer, "arn"));
    let own = text(identity, "arn");
    let arn = match text(identity, "type") {
        // A service that acts for itself has no ARN that a policy could name.
        Some("AWSService") => return Ok(None),
        Some("IAMUser" | "Root" | "Role" | "IdentityCenterUser") => own.map(str::to_owned),
        Some("AssumedRole" | "FederatedUser") => issuer.map(str::to_owned).or_else(|| own.and_then(role_of_session)),
        _ => issuer.or(own).map(str::to_owned),
    };
    let arn = arn.ok_or(EventRejection::UnknownCaller)?;
    Ok((!arn.contains(":role/aws-service-role/")).then_some(arn))
}

/// `arn:aws:iam::123456789012:role/name` of `arn:aws:sts::123456789012:assumed-role/name/session`; the role's path
/// is lost in it.
fn role_of_session(arn: &str) -> Option<String> {
    let mut parts = arn.splitn(6, ':');
    let (arn, partition, sts, _, account) = (
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
    );
    let role = parts.next()?.strip_prefix("assumed-role/")?.split('/').next()?;
    (arn == "arn" && sts == "sts" && !role.is_empty()).then(|| format!("arn:{partition}:iam::{account}:role/{role}"))
}

/// What a call of this name makes, by the types under which a look-up names it, with how its ids begin.
const SUBJECTS: &[(&str, &str, &str, &str)] = &[
    ("RunInstances", "AWS::EC2::Instance", "instance", "i-"),
    ("CreateFleet", "AWS::EC2::Instance", "instance", "i-"),
    ("CreateFleet", "AWS::EC2::EC2Fleet", "fleet", "fleet-"),
    ("RequestSpotFleet", "AWS::EC2::SpotFleet", "fleet", "sfr-"),
    ("CreateVolume", "AWS::EC2::Volume", "volume", "vol-"),
    ("CreateNatGateway", "AWS::EC2::NatGateway", "nat", "nat-"),
    ("AllocateAddress", "AWS::EC2::EIP", "address", "eipalloc-"),
];

fn among(subjects: Subjects<'_>, call: &str, region: &Region) -> Vec<AssetRef> {
    let mut found = BTreeSet::new();
    for (kind_of, id) in subjects.iter().filter(|(_, id)| id.len() <= MAX_ID).take(MAX_MADE) {
        let known = SUBJECTS
            .iter()
            .filter(|(name, of, _, _)| *name == call && of == kind_of);
        for (_, _, kind, _) in known.filter(|(_, _, _, prefix)| id.starts_with(prefix)) {
            found.insert(AssetRef {
                kind: Kind::named(kind),
                region: region.clone(),
                id: (*id).to_owned(),
            });
        }
    }
    found.into_iter().collect()
}

fn made(call: &str, event: &Map<String, Value>, region: &Region) -> Vec<AssetRef> {
    let answer = event.get("responseElements").unwrap_or(&Value::Null);
    let request = event.get("requestParameters").and_then(Value::as_object);
    let of = |kind: &'static str, ids: Vec<String>| {
        let refs = ids.into_iter().map(|id| AssetRef {
            kind: Kind::named(kind),
            region: region.clone(),
            id,
        });
        refs.collect::<Vec<_>>()
    };
    let named = |field: &str| {
        let name = request.and_then(|request| text(request, field));
        name.map(str::to_owned).into_iter().collect::<Vec<_>>()
    };
    match call {
        "RunInstances" => of("instance", ids(answer, &["instanceId", "instanceIds"], "i-")),
        // One that is kept up starts its machines later, on its own.
        "CreateFleet" => {
            let mut made = of("instance", ids(answer, &["instanceId", "instanceIds"], "i-"));
            made.extend(of("fleet", ids(answer, &["fleetId"], "fleet-")));
            made
        }
        "RequestSpotFleet" => of("fleet", ids(answer, &["spotFleetRequestId"], "sfr-")),
        "RequestSpotInstances" => of("spot-request", ids(answer, &["spotInstanceRequestId"], "sir-")),
        "CreateVolume" => of("volume", ids(answer, &["volumeId"], "vol-")),
        "CreateNatGateway" => of("nat", ids(answer, &["natGatewayId"], "nat-")),
        "AllocateAddress" => of("address", ids(answer, &["allocationId"], "eipalloc-")),
        // Auto Scaling answers nothing.
        "CreateAutoScalingGroup" => of("group", named("autoScalingGroupName")),
        "CreateService" => {
            let arns = ids(answer, &["serviceArn"], "arn:");
            of(
                "ecs-service",
                arns.iter()
                    .filter_map(|arn| in_cluster(arn, "service", answer))
                    .collect(),
            )
        }
        "RunTask" | "StartTask" => {
            let arns = ids(answer, &["taskArn"], "arn:");
            of(
                "ecs-task",
                arns.iter().filter_map(|arn| in_cluster(arn, "task", answer)).collect(),
            )
        }
        "CreateFunction20150331" => {
            let answered = ids(answer, &["functionName"], "");
            let names = if answered.is_empty() {
                named("functionName")
            } else {
                answered
            };
            of(
                "function",
                names.iter().map(|name| function_name(name).to_owned()).collect(),
            )
        }
        "CreateLoadBalancer" => {
            // The two generations have one name for the call; only the newer answers with a list.
            match answer.get("loadBalancers") {
                Some(list) => of("balancer", ids(list, &["loadBalancerName"], "")),
                None => of("classic-balancer", named("loadBalancerName")),
            }
        }
        _ => Vec::new(),
    }
}

/// Every text under one of these names, at any depth, that begins so: in the answers of older services a
/// list may be wrapped once or twice, and a single member may stand for a list.
fn ids(answer: &Value, names: &[&str], prefix: &str) -> Vec<String> {
    fn is_id(text: &str, prefix: &str) -> bool {
        text.len() > prefix.len()
            && text.len() <= MAX_ID
            && text.starts_with(prefix)
            && !text.contains(char::is_control)
    }
    fn walk(value: &Value, inside: bool, names: &[&str], prefix: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if inside && found.len() < MAX_MADE && is_id(text, prefix) => {
                found.insert(text.clone());
            }
            Value::Array(list) => list.iter().for_each(|one| walk(one, inside, names, prefix, found)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(value, inside || names.contains(&name.as_str()), names, prefix, found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(answer, false, names, prefix, &mut found);
    found.into_iter().collect()
}

/// `cluster/name` of `arn:aws:ecs:REGION:ACCOUNT:service/cluster/name`; in the older form without the
/// cluster, that of the answer's `clusterArn`.
fn in_cluster(arn: &str, what: &str, answer: &Value) -> Option<String> {
    let resource = arn.splitn(6, ':').nth(5)?.strip_prefix(what)?.strip_prefix('/')?;
    if resource.contains('/') {
        return Some(resource.to_owned());
    }
    let clusters = ids(answer, &["clusterArn"], "arn:");
    let cluster = clusters.first()?.split_once(":cluster/")?.1;
    Some(format!("{cluster}/{resource}"))
}

/// The name in any of the forms in which Lambda takes one: name, ARN, or part of an ARN.
fn function_name(given: &str) -> &str {
    match given.split_once("function:") {
        Some((_, rest)) => rest.split(':').next().unwrap_or(rest),
        None => given,
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    let text = fields.get(name)?.as_str()?;
    (!text.is_empty() && text.len() <= 2_048).then_some(text)
}

#[cfg(test)]
mod tests;
