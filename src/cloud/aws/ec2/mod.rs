//! EC2 in one region: what runs there, stopping it and starting it again.

pub(super) mod batch;
mod health;
mod listing;

use aws_config::SdkConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Builder;
use aws_sdk_ec2::config::retry::RetryPartition;
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::types::{InstanceAttributeName, InstanceStateChange, InstanceStateName};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Call;
use super::{AwsSettings, once};
use crate::domain::containment::target::Region;
use crate::ports::CloudError;

/// What can be done to a batch of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Stop,
    Start,
    Terminate,
    /// Asks whether a stop would be allowed, and stops nothing.
    TryStop,
}

impl Change {
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Stop | Self::TryStop => "ec2:StopInstances",
            Self::Start => "ec2:StartInstances",
            Self::Terminate => "ec2:TerminateInstances",
        }
    }
}

#[derive(Debug)]
pub(super) struct Ec2 {
    region: Region,
    looks: Client,
    changes: Client,
    permits: Semaphore,
    page: i32,
}

impl Ec2 {
    pub(super) fn new(sdk: &SdkConfig, region: &Region, settings: &AwsSettings) -> Self {
        let config = Builder::from(sdk)
            .region(aws_config::Region::new(region.0.clone()))
            // The SDK's budget of repetitions is one a partition: a region that fails spends its own.
            .retry_partition(RetryPartition::new(format!("ec2-{region}")));
        Self {
            region: region.clone(),
            changes: Client::from_conf(config.clone().retry_config(once()).build()),
            looks: Client::from_conf(config.build()),
            permits: Semaphore::new(settings.parallel.max(1)),
            page: i32::from(settings.page).clamp(5, 1_000),
        }
    }

    /// The client that only looks, for the services whose things are part of EC2.
    pub(super) fn looks(&self) -> &Client {
        &self.looks
    }

    /// A place among the calls in flight; it is waited for no longer than those calls take.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes this semaphore; if somebody did, the bound would be gone, not the kill switch.
        self.permits.acquire().await.ok()
    }

    fn read(&self, operation: &'static str) -> Call {
        Call::read(operation).within(&self.region)
    }

    /// The regions that the account can use, sorted.
    pub(super) async fn enabled_regions(&self) -> Result<Vec<Region>, CloudError> {
        let call = self.read("ec2:DescribeRegions");
        let _permit = self.permit().await;
        let answer = self.looks.describe_regions().send().await.map_err(|e| call.failed(e))?;
        let mut regions: Vec<Region> = answer
            .regions
            .unwrap_or_default()
            .into_iter()
            .filter(|region| region.opt_in_status.as_deref() != Some("not-opted-in"))
            .filter_map(|region| region.region_name.map(Region))
            .collect();
        regions.sort();
        if regions.is_empty() {
            // Looking nowhere would find nothing running, and be taken for a proof.
            return Err(call.nonsense("the answer names no region"));
        }
        Ok(regions)
    }

    pub(super) async fn stop_protection(&self, instance: &str) -> Result<bool, CloudError> {
        let call = self.read("ec2:DescribeInstanceAttribute");
        let _permit = self.permit().await;
        let request = self.looks.describe_instance_attribute().instance_id(instance);
        let answer = request
            .attribute(InstanceAttributeName::DisableApiStop)
            .send()
            .await
            .map_err(|e| call.failed(e))?;
        Ok(answer.disable_api_stop.and_then(|value| value.value).unwrap_or(false))
    }

    /// One call for all of `ids`; `batch` makes many of them. Answers with those that a stop found
    /// stopping or stopped.
    pub(super) async fn change(&self, change: Change, ids: Vec<String>) -> Result<Vec<String>, CloudError> {
        let _permit = self.permit().await;
        let call = Call::change(change.operation()).within(&self.region);
        let ids = Some(ids);
        match change {
            Change::Stop => {
                let request = self.changes.stop_instances().set_instance_ids(ids);
                let answer = request.send().await.map_err(|e| call.failed(e))?;
                let changes = answer.stopping_instances.unwrap_or_default().into_iter();
                return Ok(changes
                    .filter(was_down)
                    .filter_map(|change| change.instance_id)
                    .collect());
            }
            Change::Start => {
                let request = self.changes.start_instances().set_instance_ids(ids);
                request.send().await.map_err(|e| call.failed(e))?;
            }
            Change::Terminate => {
                let request = self.changes.terminate_instances().set_instance_ids(ids);
                request.send().await.map_err(|e| call.failed(e))?;
            }
            Change::TryStop => {
                let call = self.read(change.operation());
                let request = self.looks.stop_instances().set_instance_ids(ids);
                match request.dry_run(true).send().await {
                    Err(error) if error.code() == Some("DryRunOperation") => {}
                    Err(error) => return Err(call.failed(error)),
                    // Never a success in disguise: an endpoint that ignores DryRun has just stopped them.
                    Ok(_) => return Err(call.nonsense("a dry run was answered as if it were none")),
                }
            }
        }
        Ok(Vec::new())
    }
}

/// Whether a machine was down, or on its way there, before the call that answers so. Where the answer
/// does not say, the call is taken to have done it.
fn was_down(change: &InstanceStateChange) -> bool {
    let before = change.previous_state.as_ref().and_then(|state| state.name.as_ref());
    matches!(before, Some(InstanceStateName::Stopping | InstanceStateName::Stopped))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::InstanceState;

    use super::*;

    #[test]
    fn a_stop_counts_for_what_ran_before() {
        let change = |before: Option<InstanceStateName>| {
            let state = before.map(|name| InstanceState::builder().name(name).build());
            InstanceStateChange::builder()
                .instance_id("i-1")
                .set_previous_state(state)
                .build()
        };
        for name in [InstanceStateName::Stopping, InstanceStateName::Stopped] {
            assert!(was_down(&change(Some(name))));
        }
        for name in [InstanceStateName::Pending, InstanceStateName::Running] {
            assert!(!was_down(&change(Some(name))));
        }
        assert!(!was_down(&change(None)));
    }
}
