//! Application Auto Scaling: who else sets a service's count.
//!
//! Each of its policies and schedules brings a service's count back within bounds of their own, the next time
//! that it acts ("Suspend and resume scaling for Application Auto Scaling", read 2026-11-20): a cap that sets
//! the count alone is undone by it. So what it does to a service is suspended before the count is set, and
//! goes on after the count was put back. Nothing else of it is changed: its bounds, its policies and its
//! schedules stay as they are.
//!
//! It does three things, each of which can be suspended by itself: scale in, scale out, and follow a schedule.
//! They are one setting here, which says which of them are suspended.

use std::collections::BTreeMap;

use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::config::Builder;
use aws_sdk_applicationautoscaling::config::retry::RetryPartition;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ScalableTarget, ServiceNamespace, SuspendedState};

use crate::cloud::aws::once;
use crate::cloud::aws::services::{Place, pages};
use crate::ports::CloudError;

/// All three suspended.
pub(super) const SUSPENDED: &str = "suspended";

/// None suspended.
const ACTIVE: &str = "active";

/// Entries of a page at most.
const PAGE: u16 = 50;

#[derive(Debug)]
pub(super) struct Scaling {
    looks: Client,
    changes: Client,
}

impl Scaling {
    pub(super) fn new(place: &Place) -> Self {
        let partition = RetryPartition::new(place.partition("application-autoscaling"));
        let config = Builder::from(&place.sdk).retry_partition(partition);
        Self {
            changes: Client::from_conf(config.clone().retry_config(once()).build()),
            looks: Client::from_conf(config.build()),
        }
    }

    /// What is suspended of each service that it scales, by `CLUSTER/SERVICE`. Where we may not ask, the
    /// counts are capped all the same, which holds until it acts, and from the next sweep on again.
    pub(super) async fn of_services(&self, place: &Place) -> Result<BTreeMap<String, String>, CloudError> {
        match self.targets(place, None).await {
            Ok(targets) => Ok(targets.iter().filter_map(named).collect()),
            Err(error) if is_forbidden(&error) => {
                let region = &place.region;
                tracing::warn!(%region, %error, "whether somebody else sets the counts of services is unknown");
                Ok(BTreeMap::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Suspends these, and lets the others go on. What is not scaled stays so.
    pub(super) async fn put(&self, place: &Place, service: &str, value: &str) -> Result<(), CloudError> {
        let call = place.change("application-autoscaling:RegisterScalableTarget");
        let Some(state) = parse(value) else {
            return Err(call.refusal("UnknownSetting", format!("nothing scales {service} as {value}")));
        };
        let id = format!("service/{service}");
        // It would be made, if it were not there.
        let found = self.targets(place, Some(&id)).await?;
        if found.iter().all(|target| text(target.suspended_state()) == value) {
            return Ok(());
        }
        let _permit = place.turn().await;
        let request = self.changes.register_scalable_target();
        let request = request
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .resource_id(id)
            .suspended_state(state);
        request.send().await.map(drop).map_err(|e| call.failed(e))
    }

    async fn targets(&self, place: &Place, id: Option<&str>) -> Result<Vec<ScalableTarget>, CloudError> {
        let call = place.read("application-autoscaling:DescribeScalableTargets");
        let size = place.page(PAGE);
        let targets = pages(&call, |token| async {
            let _permit = place.look().await;
            let request = self.looks.describe_scalable_targets();
            let request = request
                .service_namespace(ServiceNamespace::Ecs)
                .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
                .set_resource_ids(id.map(|id| vec![id.to_owned()]))
                .max_results(size);
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.scalable_targets.unwrap_or_default(), page.next_token))
        });
        let mut targets = targets.await?;
        if let Some(id) = id {
            targets.retain(|target| target.resource_id == id);
        }
        Ok(targets)
    }
}

/// Whether it is a value of the setting.
pub(super) fn is_known(value: &str) -> bool {
    parse(value).is_some()
}

fn is_forbidden(error: &CloudError) -> bool {
    let code = error.code.as_deref();
    matches!(code, Some("AccessDeniedException" | "AccessDenied"))
}

fn named(target: &ScalableTarget) -> Option<(String, String)> {
    let service = target.resource_id.strip_prefix("service/")?;
    Some((service.to_owned(), text(target.suspended_state())))
}

/// `active`, `suspended`, or what of it is suspended, such as `suspended:in,scheduled`.
fn text(state: Option<&SuspendedState>) -> String {
    let of = |read: fn(&SuspendedState) -> Option<bool>| state.and_then(read) == Some(true);
    let parts = [
        ("in", of(SuspendedState::dynamic_scaling_in_suspended)),
        ("out", of(SuspendedState::dynamic_scaling_out_suspended)),
        ("scheduled", of(SuspendedState::scheduled_scaling_suspended)),
    ];
    let parts: Vec<&str> = parts.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    match parts.len() {
        0 => ACTIVE.to_owned(),
        3 => SUSPENDED.to_owned(),
        _ => format!("{SUSPENDED}:{}", parts.join(",")),
    }
}

fn parse(value: &str) -> Option<SuspendedState> {
    let parts: Vec<&str> = match value {
        ACTIVE => Vec::new(),
        SUSPENDED => vec!["in", "out", "scheduled"],
        some => some.strip_prefix(SUSPENDED)?.strip_prefix(':')?.split(',').collect(),
    };
    let state = SuspendedState::builder()
        .dynamic_scaling_in_suspended(parts.contains(&"in"))
        .dynamic_scaling_out_suspended(parts.contains(&"out"))
        .scheduled_scaling_suspended(parts.contains(&"scheduled"))
        .build();
    // Nothing but what we write ourselves.
    (text(Some(&state)) == value).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suspended_is_written_and_read_back() {
        for bits in 0..8_u8 {
            let state = SuspendedState::builder()
                .dynamic_scaling_in_suspended(bits & 1 > 0)
                .dynamic_scaling_out_suspended(bits & 2 > 0)
                .scheduled_scaling_suspended(bits & 4 > 0)
                .build();
            assert_eq!(parse(&text(Some(&state))), Some(state), "{bits}");
        }
        assert_eq!(text(None), "active");
        for wrong in [
            "",
            "none",
            "suspended:",
            "suspended:in,out,scheduled",
            "suspended:out,in",
            "1",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
