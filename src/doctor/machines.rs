//! Whether a real machine could be stopped: EC2 answers a dry run with what every policy says of it, those
//! of an organisation and of a session too, which no simulation knows.

use super::{Case, Doctor, Who, is_denied, some_at_once};
use crate::domain::containment::target::Region;
use crate::domain::doctor::missing::{self, Missing, Why};
use crate::domain::doctor::{Finding, some};
use crate::domain::iam::permissions::On;
use crate::ports::InstanceFilter;

/// The name of the check.
const CHECK: &str = "dry run";

/// Regions in which one machine is tried.
const REGIONS: usize = 4;

impl Doctor {
    pub(super) async fn machines(&self, case: &Case, who: &Who) -> Vec<Finding> {
        let tags = who.basis.agents.values().flat_map(|targets| &targets.tags);
        let tags: Vec<(String, String)> = tags.map(|(key, value)| (key.clone(), value.clone())).collect();
        let regions = who.regions.as_deref().unwrap_or_default();
        if tags.is_empty() || regions.is_empty() {
            return vec![Finding::not_checked(
                CHECK,
                "no agent declares machines by a tag, so none was tried",
            )];
        }
        if who.about.arn() != who.identity.arn {
            let found = format!("only {} itself could try to stop a machine", who.about.arn());
            return vec![Finding::not_checked(CHECK, found)];
        }
        let mut findings = Vec::new();
        let mut empty = Vec::new();
        let filter = &InstanceFilter::Tags(tags);
        let looks = regions
            .iter()
            .map(|region| async move { (region, self.within(self.cloud.instances(region, filter)).await) });
        let mut tried = 0;
        for (region, answer) in some_at_once(looks, REGIONS).await {
            let machine = match answer {
                Ok(all) => {
                    let mut ours = all.into_iter().filter(|one| one.state.is_chargeable());
                    ours.find(|one| !case.guard.covers_instance(&one.id))
                        .map(|one| (one.id, one.tags))
                }
                Err(error) => {
                    findings.push(Finding::not_checked(
                        CHECK,
                        format!("{region}: its machines could not be seen: {error}"),
                    ));
                    continue;
                }
            };
            match machine {
                Some((id, tags)) if tried < REGIONS => {
                    tried += 1;
                    let by = who.basis.agents.values().flat_map(|targets| targets.tags.keys());
                    let tag = by.into_iter().find(|key| tags.contains_key(*key)).cloned();
                    findings.push(self.try_stop(who, region, &id, tag).await);
                }
                Some(_) => {}
                None => empty.push(region.to_string()),
            }
        }
        if !empty.is_empty() {
            let found = format!("no machine of an agent runs in {}, so none was tried", some(&empty));
            findings.push(Finding::not_checked(CHECK, found));
        }
        findings
    }

    async fn try_stop(&self, who: &Who, region: &Region, id: &str, tag: Option<String>) -> Finding {
        let answer = self.within(self.cloud.may_stop(region, &[id.to_owned()])).await;
        let (denied, why) = match answer {
            Ok(result) if result.refused.is_empty() => {
                return Finding::ok(
                    CHECK,
                    format!("{region}: {id} could be stopped (EC2 DryRun; nothing was stopped)"),
                );
            }
            Ok(result) => {
                let refused = result.refused.into_iter().map(|(_, refused)| refused).next();
                let (code, message) = refused.map(|one| (one.code, one.message)).unwrap_or_default();
                (
                    code == "UnauthorizedOperation" || code.starts_with("AccessDenied"),
                    message,
                )
            }
            Err(error) => (is_denied(&error), error.to_string()),
        };
        let found = format!("{region}: {id} could not be stopped (EC2 DryRun): {why}");
        if !denied {
            return Finding::fail(
                CHECK,
                found,
                "see what AWS says of it; a containment would meet the same",
            );
        }
        let missing = Missing {
            action: "ec2:StopInstances".to_owned(),
            on: On::Instances,
            resource: format!(
                "arn:{}:ec2:{region}:{}:instance/{id}",
                who.basis.scope.partition, who.basis.scope.account
            ),
            tag,
            why: Why::NoStatement { keys: Vec::new() },
        };
        let todo = format!(
            "allow it to {}; where its policies do already, an SCP, the permission boundary or a session policy forbids it",
            who.about.arn()
        );
        Finding::fail(CHECK, found, todo).with_statements(missing::statements(&[missing], &who.basis.scope))
    }
}
