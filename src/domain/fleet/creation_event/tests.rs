//! Events in the form that the CloudTrail User Guide documents, with synthetic content.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ROLE: &str = "arn:aws:iam::123456789012:role/agents/transcriber";

/// An agent's session.
fn session() -> Value {
    json!({
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLE:run-1",
        "arn": "arn:aws:sts::123456789012:assumed-role/transcriber/run-1",
        "accountId": "123456789012",
        "accessKeyId": "ASIAEXAMPLE",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": "AROAEXAMPLE",
                "arn": ROLE,
                "accountId": "123456789012",
                "userName": "transcriber"
            },
            "attributes": {"creationDate": "2026-11-20T06:00:00Z", "mfaAuthenticated": "false"}
        }
    })
}

fn event(name: &str, source: &str, by: Value, request: Value, answer: Value) -> Value {
    json!({
        "eventVersion": "1.11",
        "userIdentity": by,
        "eventTime": "2026-11-20T06:01:02Z",
        "eventSource": source,
        "eventName": name,
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "aws-sdk-rust/1.3",
        "requestParameters": request,
        "responseElements": answer,
        "requestID": "00000000-0000-4000-8000-000000000001",
        "eventID": "00000000-0000-4000-8000-000000000002",
        "readOnly": false,
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": "123456789012",
        "eventCategory": "Management"
    })
}

fn made(event: &Value) -> Vec<String> {
    let creation = read(&event.to_string())
        .expect("it is read")
        .expect("something was made");
    creation.made.iter().map(ToString::to_string).collect()
}

fn run_instances(by: Value) -> Value {
    let answer = json!({
        "requestId": "r-1",
        "reservationId": "r-0abc",
        "ownerId": "123456789012",
        "groupSet": {},
        "instancesSet": {"items": [
            {"instanceId": "i-0000000000000000b", "imageId": "ami-1", "instanceState": {"code": 0, "name": "pending"},
             "networkInterfaceSet": {"items": [{"networkInterfaceId": "eni-1"}]},
             "tagSet": {"items": [{"key": "Name", "value": "i-0dead"}]}},
            {"instanceId": "i-0000000000000000a", "imageId": "ami-1"}
        ]}
    });
    let request = json!({"instancesSet": {"items": [{"imageId": "ami-1", "minCount": 2, "maxCount": 2}]},
        "instanceType": "m8g.12xlarge"});
    event("RunInstances", "ec2.amazonaws.com", by, request, answer)
}

#[test]
fn several_machines_of_one_call_have_one_maker() {
    let creation = read(&run_instances(session()).to_string());
    let creation = creation.expect("it is read").expect("something was made");
    assert_eq!(creation.event, "00000000-0000-4000-8000-000000000002");
    assert_eq!((creation.call.as_str(), creation.by.as_str()), ("RunInstances", ROLE));
    assert_eq!(
        (creation.account.as_str(), creation.region.0.as_str()),
        ("123456789012", "eu-west-1")
    );
    assert_eq!(creation.at.to_string(), "2026-11-20T06:01:02Z");
    let made: Vec<String> = creation.made.iter().map(ToString::to_string).collect();
    // A tag that looks like an id is a tag.
    assert_eq!(
        made,
        [
            "instance:eu-west-1/i-0000000000000000a",
            "instance:eu-west-1/i-0000000000000000b"
        ]
    );
    // EventBridge has the same event in its `detail`.
    let bridged = read_value(&run_instances(session()))
        .expect("it is read")
        .expect("made");
    assert_eq!(bridged.made.len(), 2);
}

#[test]
fn every_kind_of_thing_is_named_as_its_listing_names_it() {
    let ecs = "ecs.amazonaws.com";
    let elb = "elasticloadbalancing.amazonaws.com";
    let cases = [
        (
            event(
                "CreateAutoScalingGroup",
                "autoscaling.amazonaws.com",
                session(),
                json!({"autoScalingGroupName": "work ers/1", "minSize": 0}),
                Value::Null,
            ),
            vec!["group:eu-west-1/work ers/1"],
        ),
        (
            event(
                "CreateService",
                ecs,
                session(),
                json!({"serviceName": "web", "cluster": "main"}),
                json!({"service": {
                "serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/main/web",
                "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/main", "serviceName": "web"}}),
            ),
            vec!["ecs-service:eu-west-1/main/web"],
        ),
        (
            // Before long ARNs the cluster stood beside.
            event(
                "CreateService",
                ecs,
                session(),
                json!({}),
                json!({"service": {
                "serviceArn": "arn:aws:ecs:eu-west-1:123456789012:service/web",
                "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/main"}}),
            ),
            vec!["ecs-service:eu-west-1/main/web"],
        ),
        (
            event(
                "RunTask",
                ecs,
                session(),
                json!({"cluster": "main", "count": 2}),
                json!({"tasks": [
                {"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/main/0b",
                 "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/main"},
                {"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/main/0a"}], "failures": []}),
            ),
            vec!["ecs-task:eu-west-1/main/0a", "ecs-task:eu-west-1/main/0b"],
        ),
        (
            event(
                "CreateFunction20150331",
                "lambda.amazonaws.com",
                session(),
                json!({"functionName": "f"}),
                json!({"functionName": "f", "functionArn": "arn:aws:lambda:eu-west-1:123456789012:function:f"}),
            ),
            vec!["function:eu-west-1/f"],
        ),
        (
            event(
                "CreateFunction20150331",
                "lambda.amazonaws.com",
                session(),
                json!({"functionName": "arn:aws:lambda:eu-west-1:123456789012:function:g"}),
                Value::Null,
            ),
            vec!["function:eu-west-1/g"],
        ),
        (
            event(
                "CreateVolume",
                "ec2.amazonaws.com",
                session(),
                json!({"size": "16000"}),
                json!({"requestId": "r", "volumeId": "vol-0abc", "size": "16000"}),
            ),
            vec!["volume:eu-west-1/vol-0abc"],
        ),
        (
            event(
                "CreateNatGateway",
                "ec2.amazonaws.com",
                session(),
                json!({"CreateNatGatewayRequest": {"SubnetId": "subnet-1"}}),
                json!({"CreateNatGatewayResponse":
                    {"natGateway": {"natGatewayId": "nat-0abc", "subnetId": "subnet-1"}}}),
            ),
            vec!["nat:eu-west-1/nat-0abc"],
        ),
        (
            event(
                "AllocateAddress",
                "ec2.amazonaws.com",
                session(),
                json!({"domain": "vpc"}),
                json!({"publicIp": "203.0.113.9", "allocationId": "eipalloc-0abc"}),
            ),
            vec!["address:eu-west-1/eipalloc-0abc"],
        ),
        (
            event(
                "CreateLoadBalancer",
                elb,
                session(),
                json!({"name": "lb", "type": "network"}),
                json!({"loadBalancers": [{"loadBalancerName": "lb", "type": "network"}]}),
            ),
            vec!["balancer:eu-west-1/lb"],
        ),
        (
            event(
                "CreateLoadBalancer",
                elb,
                session(),
                json!({"loadBalancerName": "old"}),
                json!({"dNSName": "old-1.eu-west-1.elb.amazonaws.com"}),
            ),
            vec!["classic-balancer:eu-west-1/old"],
        ),
        (
            event(
                "CreateFleet",
                "ec2.amazonaws.com",
                session(),
                json!({}),
                json!({"CreateFleetResponse": {"fleetId": "fleet-1",
                    "fleetInstanceSet": {"item": {"instanceIds": {"item": "i-0abc"}}}}}),
            ),
            vec!["instance:eu-west-1/i-0abc", "fleet:eu-west-1/fleet-1"],
        ),
        (
            // One that is kept up starts its machines later.
            event(
                "CreateFleet",
                "ec2.amazonaws.com",
                session(),
                json!({"CreateFleetRequest": {"Type": "maintain"}}),
                json!({"CreateFleetResponse": {"fleetId": "fleet-2", "requestId": "r"}}),
            ),
            vec!["fleet:eu-west-1/fleet-2"],
        ),
        (
            event(
                "RequestSpotFleet",
                "ec2.amazonaws.com",
                session(),
                json!({"spotFleetRequestConfig": {"targetCapacity": 40}}),
                json!({"requestId": "r", "spotFleetRequestId": "sfr-1"}),
            ),
            vec!["fleet:eu-west-1/sfr-1"],
        ),
        (
            event(
                "RequestSpotInstances",
                "ec2.amazonaws.com",
                session(),
                json!({"instanceCount": 2}),
                json!({"requestId": "r", "spotInstanceRequestSet": {"items": [
                    {"spotInstanceRequestId": "sir-1", "state": "open"}, {"spotInstanceRequestId": "sir-2"}]}}),
            ),
            vec!["spot-request:eu-west-1/sir-1", "spot-request:eu-west-1/sir-2"],
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(made(&event), expected, "{event}");
    }
}

#[test]
fn who_called_is_whom_a_policy_can_name() {
    let by = |identity: Value| {
        let read = read(&run_instances(identity).to_string());
        read.map(|creation| creation.map(|creation| creation.by))
    };
    let user = "arn:aws:iam::123456789012:user/agents/legacy-bot";
    assert_eq!(
        by(json!({"type": "IAMUser", "arn": user, "accountId": "123456789012"})),
        Ok(Some(user.to_owned()))
    );
    // CloudFormation calls with the identity of whoever asked it to.
    let mut through = session();
    through["invokedBy"] = json!("cloudformation.amazonaws.com");
    assert_eq!(by(through), Ok(Some(ROLE.to_owned())));
    // Without its context a session still names its role.
    let bare = json!({"type": "AssumedRole", "arn": "arn:aws-cn:sts::123456789012:assumed-role/bot/i-0abc"});
    assert_eq!(by(bare), Ok(Some("arn:aws-cn:iam::123456789012:role/bot".to_owned())));
    let identity_of_tomorrow = json!({"type": "Robot", "arn": user});
    assert_eq!(by(identity_of_tomorrow), Ok(Some(user.to_owned())));

    let mut service = session();
    service["invokedBy"] = json!("autoscaling.amazonaws.com");
    service["sessionContext"]["sessionIssuer"]["arn"] =
        json!("arn:aws:iam::123456789012:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling");
    assert_eq!(by(service), Ok(None));
    assert_eq!(
        by(json!({"type": "AWSService", "invokedBy": "spot.amazonaws.com"})),
        Ok(None)
    );
    assert_eq!(
        by(json!({"type": "AssumedRole", "arn": "nonsense"})),
        Err(EventRejection::UnknownCaller)
    );
    assert_eq!(
        by(json!({"type": "AWSAccount", "accountId": "999999999999"})),
        Err(EventRejection::UnknownCaller)
    );
}

#[test]
fn what_failed_made_nothing() {
    let mut refused = run_instances(session());
    refused["errorCode"] = json!("Client.UnauthorizedOperation");
    refused["responseElements"] = Value::Null;
    assert_eq!(read(&refused.to_string()), Ok(None));
    let none_placed = json!({"tasks": [], "failures": [{"reason": "RESOURCE:MEMORY"}]});
    let none_placed = event("RunTask", "ecs.amazonaws.com", session(), json!({}), none_placed);
    assert_eq!(read(&none_placed.to_string()), Ok(None));
    let other = event(
        "DescribeInstances",
        "ec2.amazonaws.com",
        session(),
        json!({}),
        Value::Null,
    );
    assert_eq!(read(&other.to_string()), Ok(None));
    // Another service's call of the same name.
    let other = event(
        "CreateService",
        "servicediscovery.amazonaws.com",
        session(),
        json!({}),
        json!({"service": {"id": "srv-1"}}),
    );
    assert_eq!(read(&other.to_string()), Ok(None));
}

#[test]
fn what_cannot_be_read_is_said() {
    let without = |field: &str| {
        let mut event = run_instances(session());
        event.as_object_mut().expect("an object").remove(field);
        read(&event.to_string())
    };
    for field in ["eventName", "userIdentity", "awsRegion", "eventTime", "eventID"] {
        assert_eq!(without(field).map(|_| ()), Err(EventRejection::Missing { field }));
    }
    assert!(without("recipientAccountId").is_ok(), "the caller's account stands in");
    // Too large an answer is left out by CloudTrail.
    assert_eq!(
        without("responseElements").map(|_| ()),
        Err(EventRejection::NothingNamed)
    );
    let mut odd = run_instances(session());
    odd["eventTime"] = json!("yesterday");
    assert_eq!(read(&odd.to_string()).map(|_| ()), Err(EventRejection::Time));
    assert_eq!(read("[]").map(|_| ()), Err(EventRejection::NotAnObject));
    assert!(matches!(read("{\"a\":1,\"a\":2}"), Err(EventRejection::Json(_))));
    assert!(matches!(read("{"), Err(EventRejection::Json(_))));
}

/// Any JSON, with the names that are looked for among its keys.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "(i-|arn:|nat-|vol-)?[a-z0-9:/-]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let name = prop_oneof![
            Just("instanceId"),
            Just("taskArn"),
            Just("serviceArn"),
            Just("clusterArn"),
            Just("functionName"),
            Just("loadBalancers"),
            Just("loadBalancerName"),
            Just("item"),
            Just("failures"),
            Just("arn"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_an_event_says_is_read_or_refused(
        name in prop::sample::select(CALLS),
        source in prop::sample::select(SOURCES),
        by in anything(),
        request in anything(),
        answer in anything(),
    ) {
        let event = event(name, source, by, request.clone(), answer.clone());
        let by_text = read(&event.to_string());
        prop_assert_eq!(&by_text, &read_value(&event), "one event by two ways is one");
        let with_maker = self::event(name, source, session(), request, answer);
        if let Ok(Some(creation)) = read_value(&with_maker) {
            prop_assert!(!creation.made.is_empty());
            prop_assert!(creation.made.iter().all(|made| !made.id.is_empty() && made.region.0 == "eu-west-1"));
        }
    }
}

/// CloudTrail leaves an answer of more than 100 KB out and says so.
#[test]
fn what_an_answer_that_was_left_out_made_is_what_the_look_up_names() {
    let omitted = json!({"omitted": true, "originalSize": 400_000, "reason": "too large"});
    let large = event("RunInstances", "ec2.amazonaws.com", session(), json!({}), omitted).to_string();
    let subjects = [
        ("AWS::EC2::Ami", "ami-1"),
        ("AWS::EC2::Instance", "i-0b"),
        ("AWS::EC2::Instance", "i-0a"),
        ("AWS::EC2::Instance", "i-0a"),
        ("AWS::EC2::Instance", "sg-1"),
        ("AWS::EC2::Volume", "vol-1"),
    ];
    let creation = read_about(&large, &subjects).expect("it is read").expect("made");
    let made: Vec<String> = creation.made.iter().map(ToString::to_string).collect();
    assert_eq!(made, ["instance:eu-west-1/i-0a", "instance:eu-west-1/i-0b"]);
    assert_eq!(creation.by, ROLE);
    // What the event itself says goes first, and of neither it is said aloud.
    let whole = read_about(&run_instances(session()).to_string(), &subjects);
    assert_eq!(whole.expect("it is read").expect("made").made.len(), 2);
    assert_eq!(read_about(&large, &subjects[..1]), Err(EventRejection::NothingNamed));
    assert_eq!(read(&large), Err(EventRejection::NothingNamed));
}
