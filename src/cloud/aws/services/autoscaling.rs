//! Auto Scaling groups: what starts machines, and replaces those that are stopped.
//!
//! A group is capped by suspending its processes, one setting a process. Its sizes are never touched: a
//! maximum of zero would terminate the machines, and with them what no reset can bring back. Suspending
//! `HealthCheck` and `ReplaceUnhealthy` keeps the group from taking a stopped machine for a broken one.
//! `AddToLoadBalancer` starts nothing and ends nothing, and is left alone ("Suspend and resume Amazon EC2
//! Auto Scaling processes", read 2026-11-20). A change names exactly the processes that differ, so that one that
//! somebody else suspended is never resumed by us, nor the other way round.
//!
//! Whose hands the machines will have says the instance profile of what they are launched from. That is
//! asked in one call for all groups that follow a template's latest or default version, in one for each
//! fifty launch configurations, and once ever for a version by number, which never changes, and for the
//! path of a profile that is given by its name. If it cannot be learnt a group is still listed, and says so: by its
//! tags and its maker it may be somebody's, and it must not be taken for nobody's.

use std::borrow::Cow;
use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Builder;
use aws_sdk_autoscaling::config::retry::RetryPartition;
use aws_sdk_autoscaling::types::AutoScalingGroup;

use super::{Offered, Place, Service, pages, tags, timestamp};
use crate::cloud::aws::once;
use crate::cloud::aws::permission::Home;
use crate::domain::containment::state::Action;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::domain::fleet::instance::GROUP;
use crate::ports::CloudError;

mod names;
mod profile;

use profile::{Known, Profiles, Source};

/// What a cap suspends.
const PROCESSES: [&str; 8] = [
    "AZRebalance",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "Launch",
    "ReplaceUnhealthy",
    "ScheduledActions",
    "Terminate",
];

const ACTIVE: &str = "active";
const SUSPENDED: &str = "suspended";

#[derive(Debug)]
pub(super) struct AutoScaling {
    place: Place,
    looks: Client,
    changes: Client,
    profiles: Profiles,
}

impl Offered for AutoScaling {
    const KINDS: &'static [Kind] = &[GROUP];

    fn new(place: Place) -> Self {
        let partition = RetryPartition::new(place.partition("autoscaling"));
        let config = Builder::from(&place.sdk).retry_partition(partition);
        Self {
            changes: Client::from_conf(config.clone().retry_config(once()).build()),
            looks: Client::from_conf(config.build()),
            profiles: Profiles::new(&place),
            place,
        }
    }

    fn permission(action: Action, home: Home<'_>, asset: &AssetRef) -> Option<(&'static str, String)> {
        let named = match action {
            Action::Cap => "autoscaling:SuspendProcesses",
            Action::Uncap => "autoscaling:ResumeProcesses",
            _ => return None,
        };
        let (Home { partition, account }, AssetRef { region, id, .. }) = (home, asset);
        // Between account and name its ARN has an id of its own, which no policy can know.
        let arn =
            format!("arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{id}");
        Some((named, arn))
    }
}

#[async_trait]
impl Service for AutoScaling {
    async fn list(&self, _kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let groups = self.groups(None).await?;
        let sources: BTreeSet<Source> = groups.iter().flat_map(Source::of).collect();
        let profiles = self.profiles.of(&self.place, &self.looks, &sources).await;
        let assets = groups
            .into_iter()
            .filter_map(|group| asset(&self.place, group, &profiles));
        Ok(assets.collect())
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        let call = self.place.change("autoscaling:SuspendProcesses");
        for (name, value) in settings {
            if !PROCESSES.contains(&name.as_str()) || ![ACTIVE, SUSPENDED].contains(&value.as_str()) {
                return Err(call.refusal("UnknownSetting", format!("{asset} has no setting {name}={value}")));
            }
        }
        let Some(group) = self.groups(Some(&asset.id)).await?.pop() else {
            return Ok(());
        };
        let now = processes(&group);
        let differing = |wanted: &str| {
            let differ = settings
                .iter()
                .filter(|(name, value)| *value == wanted && now.get(*name) != Some(*value));
            let differ: Vec<String> = differ.map(|(name, _)| name.clone()).collect();
            (!differ.is_empty()).then_some(differ)
        };
        if let Some(processes) = differing(SUSPENDED) {
            let _permit = self.place.turn().await;
            let request = self.changes.suspend_processes().auto_scaling_group_name(&asset.id);
            let answer = request.set_scaling_processes(Some(processes)).send().await;
            gone_is_fine(answer.map(drop).map_err(|e| call.failed(e)))?;
        }
        if let Some(processes) = differing(ACTIVE) {
            let call = self.place.change("autoscaling:ResumeProcesses");
            let _permit = self.place.turn().await;
            let request = self.changes.resume_processes().auto_scaling_group_name(&asset.id);
            let answer = request.set_scaling_processes(Some(processes)).send().await;
            gone_is_fine(answer.map(drop).map_err(|e| call.failed(e)))?;
        }
        Ok(())
    }
}

impl AutoScaling {
    /// Every group, or the one of that name.
    async fn groups(&self, name: Option<&str>) -> Result<Vec<AutoScalingGroup>, CloudError> {
        let call = self.place.read("autoscaling:DescribeAutoScalingGroups");
        let size = self.place.page(100);
        let names = name.map(|name| vec![name.to_owned()]);
        let groups = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.looks.describe_auto_scaling_groups().max_records(size);
            let request = request.set_auto_scaling_group_names(names.clone());
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.auto_scaling_groups.unwrap_or_default(), page.next_token))
        });
        let mut groups = groups.await?;
        if let Some(name) = name {
            groups.retain(|group| group.auto_scaling_group_name.as_deref() == Some(name));
        }
        Ok(groups)
    }
}

/// A group that went between the look and the change.
fn gone_is_fine(answer: Result<(), CloudError>) -> Result<(), CloudError> {
    match answer {
        Err(error)
            if error.code.as_deref() == Some("ValidationError")
                && error.message.to_lowercase().contains("not found") =>
        {
            Ok(())
        }
        answer => answer,
    }
}

fn processes(group: &AutoScalingGroup) -> Settings {
    let suspended: BTreeSet<&str> = group
        .suspended_processes()
        .iter()
        .filter_map(|one| one.process_name())
        .collect();
    let value = |process: &str| if suspended.contains(process) { SUSPENDED } else { ACTIVE };
    PROCESSES
        .into_iter()
        .map(|process| (process.to_owned(), value(process).to_owned()))
        .collect()
}

/// What all of a group's settings are while it is capped.
fn capped() -> Settings {
    PROCESSES
        .into_iter()
        .map(|process| (process.to_owned(), SUSPENDED.to_owned()))
        .collect()
}

fn asset(place: &Place, group: AutoScalingGroup, profiles: &Known) -> Option<Asset> {
    let now = processes(&group);
    let (acts_as, unread) = profiles.of(&group);
    Some(Asset {
        what: place.asset(&GROUP, group.auto_scaling_group_name?),
        service: Cow::Borrowed("AmazonEC2"),
        tags: tags(
            group
                .tags
                .unwrap_or_default()
                .into_iter()
                .map(|tag| (tag.key, tag.value)),
        ),
        acts_as: acts_as.into_iter().collect(),
        unread,
        parent: None,
        created_at: timestamp(group.created_time),
        // Its machines are charged for, and the group itself is not.
        meters: Vec::new(),
        brake: Brake::Cap { now, capped: capped() },
    })
}
