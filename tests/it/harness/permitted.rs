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
