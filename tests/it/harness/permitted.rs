//! Which permissions a recorded call needs: its action, on which resources, with which keys.
//!
//! That is AWS's own mapping (Service Authorization Reference), for the calls that Backstop makes. A call
//! that is not known here fails the test that asks about it.

use std::collections::BTreeMap;

use super::fault_proxy::Asked;
use super::policy::{Policy, Request, Verdict};

/// What the account has, as AWS would look it up.
#[derive(Debug, Default)]
pub struct Facts {
    pub account: String,
    /// ARNs by name.
    pub roles: BTreeMap<String, String>,
    pub users: BTreeMap<String, String>,
    /// Tags by a resource's id or name.
    pub tags: BTreeMap<String, BTreeMap<String, String>>,
}

impl Facts {
    /// The requests that AWS would check for one call; none where it needs no permission.
    pub fn requests(&self, asked: &Asked) -> Vec<Request> {
        let action = format!("{}:{}", asked.service, asked.action);
        let on = |resource: String| vec![Request::new(&action, &resource, &[])];
        let everything = || on("*".to_owned());
        match (asked.service.as_str(), asked.action.as_str()) {
            ("sts", "GetCallerIdentity") => Vec::new(),
            ("ec2", "StopInstances" | "StartInstances" | "TerminateInstances") => asked
                .list("InstanceId")
                .into_iter()
                .map(|id| {
                    self.tagged(
                        &action,
                        format!("arn:aws:ec2:{}:{}:instance/{id}", asked.region, self.account),
                        id,
                    )
                })
                .collect(),
            ("autoscaling", "SuspendProcesses" | "ResumeProcesses") => {
                let name = &asked.params["AutoScalingGroupName"];
                let arn = format!(
                    "arn:aws:autoscaling:{}:{}:autoScalingGroup:uuid:autoScalingGroupName/{name}",
                    asked.region, self.account
                );
                vec![self.tagged(&action, arn, name)]
            }
            ("ec2" | "autoscaling" | "elasticloadbalancing", name) if name.starts_with("Describe") => everything(),
            ("ecs", "ListClusters" | "DescribeTaskDefinition")
            | ("lambda", "ListFunctions")
            | ("cloudtrail", "LookupEvents")
            | ("pricing", "GetProducts") => everything(),
            ("ecs", "DescribeClusters") => {
                let clusters = asked.params.iter().filter(|(name, _)| name.starts_with("clusters."));
                clusters.map(|(_, arn)| Request::new(&action, arn, &[])).collect()
            }
            ("ecs", _) => self.of_a_cluster(&action, asked),
            ("lambda", _) => {
                let (_, path) = asked.rest.as_ref().expect("Lambda is asked by paths");
                let name = function(path).unwrap_or_else(|| panic!("which function {path} is about is not known here"));
                let arn = format!("arn:aws:lambda:{}:{}:function:{name}", asked.region, self.account);
                vec![self.tagged(&action, arn, &name)]
            }
            ("iam", "ListRoles") => everything(),
            ("iam", "SimulatePrincipalPolicy") => on(asked.params["PolicySourceArn"].clone()),
            ("iam", "CreatePolicy") => {
                let (path, name) = (&asked.params["Path"], &asked.params["PolicyName"]);
                on(format!("arn:aws:iam::{}:policy{path}{name}", self.account))
            }
            ("iam", _) => {
                let named = |key: &str, known: &BTreeMap<String, String>| {
                    let name = asked.params.get(key)?;
                    Some(
                        known
                            .get(name)
                            .unwrap_or_else(|| panic!("nobody said who {name} is"))
                            .clone(),
                    )
                };
                let principal = named("RoleName", &self.roles).or_else(|| named("UserName", &self.users));
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

    /// What a call to ECS is about: its services or tasks, or else its cluster.
    fn of_a_cluster(&self, action: &str, asked: &Asked) -> Vec<Request> {
        let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
        let cluster = last(asked.params.get("cluster").map_or("default", String::as_str));
        let below = |kind: &str, name: &str| {
            let place = format!("arn:aws:ecs:{}:{}:{kind}/{cluster}", asked.region, self.account);
            self.tagged(action, format!("{place}/{}", last(name)), &last(name))
        };
        let listed = |kind: &str, one: &str, many: &str| -> Vec<Request> {
            let many = format!("{many}.");
            let names = asked
                .params
                .iter()
                .filter(|(key, _)| *key == one || key.starts_with(&many));
            names.map(|(_, name)| below(kind, name)).collect()
        };
        match asked.action.as_str() {
            "DescribeServices" | "UpdateService" => listed("service", "service", "services"),
            "DescribeTasks" | "StopTask" => listed("task", "task", "tasks"),
            "ListServices" | "ListTasks" => {
                let arn = format!("arn:aws:ecs:{}:{}:cluster/{cluster}", asked.region, self.account);
                vec![Request::new(action, &arn, &[])]
            }
            _ => panic!("what {action} is about is not known here: {asked:?}"),
        }
    }

    fn tagged(&self, action: &str, arn: String, name: &str) -> Request {
        let tags = self.tags.get(name).into_iter().flatten();
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

/// The function in a path of Lambda's: `/2015-03-31/functions/NAME/…`, or `/2017-03-31/tags/ARN`.
fn function(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let [_, what, named, ..] = parts.as_slice() else {
        return None;
    };
    let named = percent_encoding::percent_decode_str(named).decode_utf8_lossy();
    let known = matches!(*what, "functions" | "tags") && !named.is_empty();
    known.then(|| named.rsplit(':').next().unwrap_or_default().to_owned())
}
