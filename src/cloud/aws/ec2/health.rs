//! Whether machines pass EC2's own checks.

use std::collections::{BTreeMap, VecDeque};

use aws_sdk_ec2::types::{InstanceStateName, InstanceStatus, SummaryStatus};

use super::Ec2;
use crate::ports::{CloudError, Health};

/// EC2 takes no more ids in one question.
const IDS: usize = 100;

impl Ec2 {
    /// The health of these, as far as EC2 says. An id that is not there has its whole question refused,
    /// so a refused question is halved until the missing one stands alone, and that one is left out.
    pub(in crate::cloud::aws) async fn health(&self, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        let mut waiting: VecDeque<&[String]> = ids.chunks(IDS).collect();
        let mut health = BTreeMap::new();
        while let Some(some) = waiting.pop_front() {
            match self.statuses(some).await {
                Ok(statuses) => health.extend(statuses.into_iter().filter_map(read)),
                Err(error) if !is_about_an_id(&error) => return Err(error),
                Err(_) if some.len() > 1 => {
                    let (first, second) = some.split_at(some.len() / 2);
                    waiting.extend([first, second]);
                }
                Err(_) => {}
            }
        }
        Ok(health)
    }

    /// The answer to a question with ids has no pages.
    async fn statuses(&self, ids: &[String]) -> Result<Vec<InstanceStatus>, CloudError> {
        let call = self.read("ec2:DescribeInstanceStatus");
        let _permit = self.permit().await;
        let request = self
            .looks
            .describe_instance_status()
            .set_instance_ids(Some(ids.to_vec()));
        // Those that do not run, too: one that is still pending is not unknown.
        let answer = request.include_all_instances(true).send().await;
        let answer = answer.map_err(|e| call.failed(e))?;
        Ok(answer.instance_statuses.unwrap_or_default())
    }
}

fn is_about_an_id(error: &CloudError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.starts_with("InvalidInstanceID.") || code == "InvalidInstanceId"
}

fn read(status: InstanceStatus) -> Option<(String, Health)> {
    let state = status.instance_state.and_then(|state| state.name);
    let checks = [status.system_status, status.instance_status];
    let checks = checks.map(|check| check.and_then(|check| check.status));
    let health = match state {
        Some(InstanceStateName::Running) if checks.iter().all(|check| *check == Some(SummaryStatus::Ok)) => {
            Health::Passing
        }
        Some(InstanceStateName::Running) if checks.contains(&Some(SummaryStatus::Impaired)) => Health::Failing,
        Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown) => Health::Failing,
        _ => Health::Pending,
    };
    Some((status.instance_id?, health))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{InstanceState, InstanceStatusSummary};

    use super::*;

    #[test]
    fn a_machine_passes_when_both_checks_do() {
        let of = |state: InstanceStateName, system: Option<SummaryStatus>, own: Option<SummaryStatus>| {
            let check = |status: Option<SummaryStatus>| InstanceStatusSummary::builder().set_status(status).build();
            let status = InstanceStatus::builder()
                .instance_id("i-1")
                .instance_state(InstanceState::builder().name(state).build())
                .system_status(check(system))
                .instance_status(check(own));
            read(status.build()).expect("it has an id").1
        };
        use InstanceStateName::{Pending, Running, Stopped, Terminated};
        use SummaryStatus::{Impaired, Initializing, Ok as Fine};
        assert_eq!(of(Running, Some(Fine), Some(Fine)), Health::Passing);
        assert_eq!(of(Running, Some(Fine), Some(Initializing)), Health::Pending);
        assert_eq!(of(Running, Some(Fine), None), Health::Pending);
        assert_eq!(of(Running, Some(Impaired), Some(Initializing)), Health::Failing);
        assert_eq!(of(Pending, None, None), Health::Pending);
        assert_eq!(of(Stopped, Some(Fine), Some(Fine)), Health::Pending);
        assert_eq!(of(Terminated, None, None), Health::Failing);
    }
}
