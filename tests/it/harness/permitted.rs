//! Which permissions a recorded call needs: its action, on which resources, with which keys.
//!
//! That is AWS's own mapping (Service Authorization Reference), for the calls that Backstop makes. A call
//! that is not known here fails the test that asks about it.

use std::collections::BTreeMap;

use super::fault_proxy::Asked;
use super::policy::{Policy, Request, Verdict};

/// The ARN of a principal or profile that a parameter names.
fn named(asked: &Asked, parameter: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let name = asked.params.get(parameter)?;
    let arn = known.get(name);
    Some(arn.unwrap_or_else(|| panic!("nobody said who {name} is")).clone())
}

/// What the account has, as AWS would look it up.
#[derive(Debug, Default)]
pub struct Facts {
    pub account: String,
    /// ARNs by name.
    pub roles: BTreeMap<String, String>,
    pub users: BTreeMap<String, String>,
    pub profiles: BTreeMap<String, String>,
    /// Tags by ARN. Of a group the ARN is without the id that AWS gives it, as [`group_arn`] makes it.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
}

/// The ARN of what a stable id names, such as `ecs-service:eu-west-1/cluster/name`.
///
/// # Panics
/// For a kind that no call changes.
pub fn arn_of(account: &str, stable_id: &str) -> String {
    let (kind, rest) = stable_id.split_once(':').expect("a kind");
    let (region, id) = rest.split_once('/').expect("a region");
    let (service, resource) = match kind {
        "instance" => ("ec2", format!("instance/{id}")),
        "group" => return group_arn(account, region, id),
        "ecs-service" => ("ecs", format!("service/{id}")),
        "ecs-task" => ("ecs", format!("task/{id}")),
        "function" => ("lambda", format!("function:{id}")),
        other => panic!("what the ARN of a {other} is is not known here"),
    };
    format!("arn:aws:{service}:{region}:{account}:{resource}")
}

fn group_arn(account: &str, region: &str, name: &str) -> String {
    format!("arn:aws:autoscaling:{region}:{account}:autoScalingGroup:uuid:autoScalingGroupName/{name}")
}

impl Facts {
    /// The requests that AWS would check for one call; none where it needs no permission.
    pub fn requests(&self, asked: &Asked) -> Vec<Request> {
        let action = format!("{}:{}", asked.service, asked.action);
        let on = |resource: String| vec![Request::new(&action, &resource, &[])];
        let everything = || on("*".to_owned());
        let here = |kind: &str, id: &str| arn_of(&self.account, &format!("{kind}:{}/{id}", asked.region));
        match (asked.service.as_str(), asked.action.as_str()) {
            ("sts", "GetCallerIdentity") => Vec::new(),
            ("ec2", "StopInstances" | "StartInstances" | "TerminateInstances") => {
                let ids = asked.list("InstanceId").into_iter();
                ids.map(|id| self.tagged(&action, here("instance", id))).collect()
            }
            ("autoscaling", "SuspendProcesses" | "ResumeProcesses") => {
                vec![self.tagged(&action, here("group", &asked.params["AutoScalingGroupName"]))]
            }
            ("ec2" | "autoscaling" | "elasticloadbalancing", name) if name.starts_with("Describe") => everything(),
            ("application-autoscaling", "DescribeScalableTargets") => everything(),
            ("application-autoscaling", "RegisterScalableTarget") => {
                let arn = format!(
                    "arn:aws:application-autoscaling:{}:{}:scalable-target/0ec5",
                    asked.region, self.account
                );
                let keys = [
                    ("service-namespace", "ServiceNamespace"),
                    ("scalable-dimension", "ScalableDimension"),
                ];
                let keys = keys.map(|(key, of)| {
                    let key = format!("application-autoscaling:{key}");
                    (key, asked.params[of].as_str())
                });
                let keys = keys.each_ref().map(|(key, value)| (key.as_str(), *value));
                vec![Request::new(&action, &arn, &keys)]
            }
            ("ecs", "UpdateService") => {
                let id = format!("{}/{}", asked.params["cluster"], asked.params["service"]);
                vec![self.tagged(&action, here("ecs-service", &id))]
            }
            ("ecs", "StopTask") => {
                let id = format!("{}/{}", asked.params["cluster"], asked.params["task"]);
                vec![self.tagged(&action, here("ecs-task", &id))]
            }
            // Services and tasks are asked for by ARN, those of a cluster by the cluster's.
            ("ecs", "DescribeClusters") => asked.numbered("clusters").into_iter().flat_map(on).collect(),
            ("ecs", "DescribeServices") => asked.numbered("services").into_iter().flat_map(on).collect(),
            ("ecs", "DescribeTasks") => asked.numbered("tasks").into_iter().flat_map(on).collect(),
            ("ecs", "ListClusters" | "ListServices" | "ListTasks" | "DescribeTaskDefinition") => everything(),
            ("lambda", "ListFunctions") => everything(),
            (
                "lambda",
                "GetFunctionConcurrency"
                | "ListTags"
                | "ListProvisionedConcurrencyConfigs"
                | "PutFunctionConcurrency"
                | "DeleteFunctionConcurrency"
                | "PutProvisionedConcurrencyConfig"
                | "DeleteProvisionedConcurrencyConfig",
            ) => vec![self.tagged(&action, here("function", &asked.function()))],
            ("cloudtrail", "LookupEvents") | ("pricing", "GetProducts") => everything(),
            ("iam", "ListRoles") => everything(),
            ("iam", "GetInstanceProfile") => on(named(asked, "InstanceProfileName", &self.profiles)
                .unwrap_or_else(|| panic!("{action} names no profile: {asked:?}"))),
            ("iam", "SimulatePrincipalPolicy") => on(asked.params["PolicySourceArn"].clone()),
            ("iam", "CreatePolicy") => {
                let (path, name) = (&asked.params["Path"], &asked.params["PolicyName"]);
                on(format!("arn:aws:iam::{}:policy{path}{name}", self.account))
            }
            ("iam", _) => {
                let principal = named(asked, "RoleName", &self.roles).or_else(|| named(asked, "UserName", &self.users));
                let policy = asked.params.get("PolicyArn");
                match (principal, policy) {
                    (Some(principal), Some(policy)) => {
                        vec![Request::new(&action, &principal, &[("iam:PolicyARN", policy)])]
                    }
                    (Some(resource), None) => on(resource),
                    (None, Some(policy)) => on(policy.clone()),
                    (None, None) => panic!("what {action} is about is not known here: {asked:?}"),
                }
            }
            _ => panic!("what {action} needs is not known here"),
        }
    }

    fn tagged(&self, action: &str, arn: String) -> Request {
        let tags = self.tags.get(&arn).into_iter().flatten();
        let keys: Vec<(String, &str)> = tags
            .map(|(key, value)| (format!("aws:ResourceTag/{key}"), value.as_str()))
            .collect();
        let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        Request::new(action, &arn, &keys)
    }

    /// What a policy would have refused of these calls: the action and the resource, each once.
    pub fn refused(&self, policy: &Policy, asked: &[Asked]) -> Vec<(String, String)> {
        let requests = asked.iter().flat_map(|one| self.requests(one));
        let refused = requests.filter(|request| policy.verdict(request) != Verdict::Allowed);
        let mut refused: Vec<_> = refused.map(|request| (request.action, request.resource)).collect();
        refused.sort();
        refused.dedup();
        refused
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every change that the daemon makes is allowed where the ownership tag is, and refused where it is not,
    /// by the policy as it is shipped; what it must never ask is refused anywhere.
    #[test]
    fn what_a_call_needs_is_judged_by_what_it_names() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/iam/guard.json"));
        let policy = Policy::parse(&text.expect("it is shipped"));
        let asked = |service: &str, action: &str, params: &[(&str, &str)], path: Option<&str>| Asked {
            service: service.to_owned(),
            region: "eu-west-1".to_owned(),
            action: action.to_owned(),
            params: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            json: None,
            rest: path.map(|path| ("PUT".to_owned(), path.to_owned())),
            carried_out: true,
        };
        let changes = |name: &'static str| {
            let path = format!("/2017-10-31/functions/{name}/concurrency");
            [
                asked("ec2", "StopInstances", &[("InstanceId.1", name)], None),
                asked("ec2", "StartInstances", &[("InstanceId.1", name)], None),
                asked(
                    "autoscaling",
                    "SuspendProcesses",
                    &[("AutoScalingGroupName", name)],
                    None,
                ),
                asked(
                    "autoscaling",
                    "ResumeProcesses",
                    &[("AutoScalingGroupName", name)],
                    None,
                ),
                asked("ecs", "UpdateService", &[("cluster", "c"), ("service", name)], None),
                asked("ecs", "StopTask", &[("cluster", "c"), ("task", name)], None),
                asked("lambda", "PutFunctionConcurrency", &[], Some(&path)),
                asked("lambda", "DeleteFunctionConcurrency", &[], Some(&path)),
            ]
        };
        let tag = BTreeMap::from([("backstop:agent".to_owned(), "a".to_owned())]);
        let tagged = [
            "instance:eu-west-1/ours",
            "group:eu-west-1/ours",
            "ecs-service:eu-west-1/c/ours",
            "ecs-task:eu-west-1/c/ours",
            "function:eu-west-1/ours",
            // Of the same name elsewhere, or of another kind.
            "instance:us-east-1/theirs",
            "ecs-service:eu-west-1/d/theirs",
        ];
        let facts = Facts {
            account: "123456789012".to_owned(),
            tags: tagged.map(|id| (arn_of("123456789012", id), tag.clone())).into(),
            ..Facts::default()
        };
        assert_eq!(facts.refused(&policy, &changes("ours")), Vec::new());
        assert_eq!(facts.refused(&policy, &changes("theirs")).len(), 8, "each of them");
        let reads = [
            asked(
                "ecs",
                "DescribeServices",
                &[("services.0", "arn:aws:ecs:eu-west-1:1:service/c/s")],
                None,
            ),
            asked(
                "lambda",
                "GetFunctionConcurrency",
                &[],
                Some("/2019-09-30/functions/theirs/concurrency"),
            ),
            asked("lambda", "ListTags", &[], Some("/2017-03-31/tags/theirs")),
            asked("cloudtrail", "LookupEvents", &[], None),
            asked("pricing", "GetProducts", &[], None),
        ];
        assert_eq!(facts.refused(&policy, &reads), Vec::new());
        let nothing = Policy::parse(r#"{"Version":"2012-10-17","Statement":[]}"#);
        assert_eq!(facts.refused(&nothing, &reads).len(), 5);
        let worse = asked("ec2", "TerminateInstances", &[("InstanceId.1", "ours")], None);
        assert_eq!(facts.refused(&policy, &[worse]).len(), 1);
    }

    #[test]
    #[should_panic(expected = "is not known here")]
    fn a_call_that_nobody_thought_of_is_no_permitted_one() {
        let asked = Asked {
            service: "ecs".to_owned(),
            region: "eu-west-1".to_owned(),
            action: "DeleteService".to_owned(),
            params: BTreeMap::new(),
            json: Some(json!({})),
            rest: None,
            carried_out: true,
        };
        Facts::default().requests(&asked);
    }
}
