//! The account as boto3 tells it, and how one telling differs from another.

use serde_json::Value;

/// What may differ after a containment and its reset, by name, and why. `*` is any one name.
///
/// Everything else is compared: all that we own, and all that AWS keeps across a stop and a start.
const LEFT_OUT: &[(&str, &str)] = &[
    ("*/ec2/instances/*/LaunchTime", "EC2 moves it at every start"),
    (
        "*/ec2/instances/*/UsageOperationUpdateTime",
        "EC2 moves it at every start",
    ),
    (
        "*/ec2/instances/*/PublicIpAddress",
        "a start gives another, unless it is elastic",
    ),
    ("*/ec2/instances/*/PublicDnsName", "it is made of the address"),
    (
        "*/ec2/instances/*/NetworkInterfaces/*/Association",
        "it holds the public address",
    ),
    (
        "*/ec2/instances/*/NetworkInterfaces/*/PrivateIpAddresses/*/Association",
        "it holds the public address",
    ),
    (
        "*/ec2/instances/*/StateTransitionReason",
        "it says who stopped it last, and when",
    ),
    ("*/ec2/instances/*/StateReason", "it says who stopped it last"),
    ("*/ec2/interfaces/*/Association", "it holds the public address"),
    (
        "*/ec2/interfaces/*/PrivateIpAddresses/*/Association",
        "it holds the public address",
    ),
    (
        "iam/profiles/*/Roles/*/RoleLastUsed",
        "the test itself uses the agent's session",
    ),
    (
        "*/ecs/services/*/runningCount",
        "ECS brings it to the desired count in its own time",
    ),
    (
        "*/ecs/services/*/pendingCount",
        "ECS brings it to the desired count in its own time",
    ),
    ("*/ecs/services/*/events", "ECS notes every change of the count there"),
    (
        "*/ecs/services/*/deployments/*/updatedAt",
        "ECS notes when the count was changed",
    ),
    (
        "*/functions/*/Configuration/LastModified",
        "Lambda may note a change of the reservation",
    ),
    (
        "*/functions/*/Configuration/RevisionId",
        "Lambda gives another at every change",
    ),
    ("*/functions/*/Code/Location", "a signed address, another at each look"),
];

/// A telling of everything that is in the account.
#[derive(Debug, Clone)]
pub struct Snapshot(pub Value);

/// A field that two tellings disagree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub path: String,
    pub before: Value,
    pub after: Value,
}

impl Snapshot {
    pub fn new(told: Value) -> Self {
        Self(told)
    }

    /// The value at a path whose names may hold slashes.
    pub fn at(&self, path: &[&str]) -> &Value {
        path.iter().fold(&self.0, |value, name| &value[*name])
    }

    /// Every field that differs, but for those that are left out by name.
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        walk(&mut Vec::new(), &self.0, &after.0, &mut found);
        found
    }
}

fn walk(path: &mut Vec<String>, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    if before == after || is_left_out(path) {
        return;
    }
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            for name in names {
                path.push(name.clone());
                walk(path, &before[name.as_str()], &after[name.as_str()], found);
                path.pop();
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (before, after)) in one.iter().zip(other).enumerate() {
                path.push(at.to_string());
                walk(path, before, after, found);
                path.pop();
            }
        }
        _ => found.push(Difference {
            path: path.join("/"),
            before: before.clone(),
            after: after.clone(),
        }),
    }
}

fn is_left_out(path: &[String]) -> bool {
    LEFT_OUT.iter().any(|(names, _)| {
        let mut names = names.split('/');
        path.iter()
            .all(|part| names.next().is_some_and(|name| name == "*" || name == part))
            && names.next().is_none()
    })
}

#[test]
fn a_difference_is_found_wherever_it_is_and_what_is_left_out_is_left_out() {
    use serde_json::json;
    let told = |state: &str, time: &str, tags: Value| {
        Snapshot::new(json!({"r": {"ec2": {"instances": {"i-1": {"State": state, "LaunchTime": time, "Tags": tags}}}}}))
    };
    let before = told("running", "1", json!({"a": 1}));
    assert_eq!(before.differences(&told("running", "2", json!({"a": 1}))), []);
    let paths = |after: &Snapshot| -> Vec<String> {
        let found = before.differences(after);
        found.into_iter().map(|one| one.path).collect()
    };
    assert_eq!(
        paths(&told("stopped", "1", json!({"a": 1}))),
        ["r/ec2/instances/i-1/State"]
    );
    assert_eq!(
        paths(&told("running", "1", json!({"b": 1}))),
        ["r/ec2/instances/i-1/Tags/a", "r/ec2/instances/i-1/Tags/b"]
    );
    assert_eq!(paths(&Snapshot::new(json!({}))), ["r"]);
    // Only what is named is left out, and nothing below or above it by accident.
    assert!(!is_left_out(&["r", "ec2", "instances", "i-1"].map(str::to_owned)));
    assert!(!is_left_out(
        &["r", "ec2", "instances", "i-1", "State"].map(str::to_owned)
    ));
}
