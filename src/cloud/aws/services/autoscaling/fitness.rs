//! What groups think of their members.
//!
//! A group whose processes work destroys a member that runs but does not pass the checks by which it judges
//! it. Those are EC2's own, and for a group of health check type `ELB` its balancers' and target groups' as
//! well ("Health checks for instances in an Auto Scaling group", read 2026-11-20). While its processes are
//! suspended its own marks stand still, so the balancers are asked themselves. A mark that stands is final:
//! what is marked `Unhealthy` is replaced as soon as the group may.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_autoscaling::types::{AutoScalingGroup, AutoScalingInstanceDetails};
use aws_sdk_elasticloadbalancing as v1;
use aws_sdk_elasticloadbalancingv2 as v2;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use v2::types::{TargetHealth, TargetHealthReasonEnum, TargetHealthStateEnum};

use super::AutoScaling;
use crate::cloud::aws::services::{Place, pages};
use crate::ports::{CloudError, Health};

/// Auto Scaling tells so many members in one call, and so many groups.
const MEMBERS: usize = 50;
const GROUPS: usize = 100;

#[derive(Debug)]
pub(super) struct Fitness {
    v1: v1::Client,
    v2: v2::Client,
}

/// What a group judges its members by, besides EC2's own checks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Judge {
    TargetGroup(String),
    Classic(String),
    /// Something that is not asked here, by its name.
    Unasked(String),
}

impl Fitness {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            v1: v1::Client::new(&place.sdk),
            v2: v2::Client::new(&place.sdk),
        }
    }

    /// What a judge says of whom.
    async fn ask(&self, place: &Place, judge: &Judge) -> Result<BTreeMap<String, Health>, CloudError> {
        match judge {
            Judge::TargetGroup(arn) => {
                let call = place.read("elasticloadbalancing:DescribeTargetHealth");
                let _permit = place.look().await;
                // Of all its targets: there are no pages.
                let answer = self.v2.describe_target_health().target_group_arn(arn).send().await;
                let answer = answer.map_err(|e| call.failed(e))?;
                let told = answer.target_health_descriptions.unwrap_or_default().into_iter();
                let mut all = BTreeMap::new();
                for one in told {
                    let Some(id) = one.target.and_then(|target| target.id) else {
                        continue;
                    };
                    // The same machine may be there by several ports.
                    let health = target(one.target_health.as_ref());
                    let known = all.entry(id).or_insert(health);
                    *known = health.max(*known);
                }
                Ok(all)
            }
            Judge::Classic(name) => {
                let call = place.read("elasticloadbalancing:DescribeInstanceHealth");
                let _permit = place.look().await;
                let answer = self.v1.describe_instance_health().load_balancer_name(name).send().await;
                let answer = answer.map_err(|e| call.failed(e))?;
                let told = answer.instance_states.unwrap_or_default().into_iter();
                let told = told.filter_map(|one| Some((one.instance_id?, classic(one.state.as_deref()))));
                Ok(told.collect())
            }
            Judge::Unasked(kind) => {
                let region = &place.region;
                tracing::warn!(%region, kind, "a group judges its members by what cannot be asked here");
                Ok(BTreeMap::new())
            }
        }
    }
}

impl AutoScaling {
    /// What their groups think of these machines; of one that is in no group, nothing.
    pub(super) async fn fitness(&self, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        let members = self.members(ids).await?;
        let names: BTreeSet<String> = members.values().map(|(group, _)| group.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let mut judges: BTreeMap<String, BTreeSet<Judge>> = BTreeMap::new();
        for some in names.chunks(GROUPS) {
            for group in self.groups(Some(some)).await? {
                let judged_by = judges_of(&group);
                judges.insert(group.auto_scaling_group_name.unwrap_or_default(), judged_by);
            }
        }
        let all: BTreeSet<&Judge> = judges.values().flatten().collect();
        let asked: Vec<_> = all
            .into_iter()
            .map(|judge| async move { Ok::<_, CloudError>((judge, self.fitness.ask(&self.place, judge).await?)) })
            .collect();
        let told: BTreeMap<&Judge, BTreeMap<String, Health>> = stream::iter(asked)
            .buffer_unordered(self.place.parallel)
            .try_collect()
            .await?;
        let fitness = members.into_iter().map(|(id, (group, own))| {
            let by = judges.get(&group).into_iter().flatten();
            // Not registered there yet: it is not known to be well.
            let said = by.map(|judge| told.get(judge).and_then(|told| told.get(&id)).copied());
            let health = said.fold(own, |worst, said| worst.max(said.unwrap_or(Health::Pending)));
            (id, health)
        });
        Ok(fitness.collect())
    }

    /// Those that are members, with the group and its own mark.
    async fn members(&self, ids: &[String]) -> Result<BTreeMap<String, (String, Health)>, CloudError> {
        let call = self.place.read("autoscaling:DescribeAutoScalingInstances");
        let mut members = BTreeMap::new();
        for some in ids.chunks(MEMBERS) {
            let told = pages(&call, |token| async {
                let _permit = self.place.look().await;
                let request = self.looks.describe_auto_scaling_instances();
                let request = request.set_instance_ids(Some(some.to_vec()));
                let page = request.set_next_token(token).send().await;
                let page = page.map_err(|e| call.failed(e))?;
                Ok((page.auto_scaling_instances.unwrap_or_default(), page.next_token))
            });
            members.extend(told.await?.into_iter().filter_map(member));
        }
        Ok(members)
    }
}

/// One on standby is not judged.
fn member(told: AutoScalingInstanceDetails) -> Option<(String, (String, Health))> {
    if matches!(told.lifecycle_state.as_deref(), Some("Standby" | "EnteringStandby")) {
        return None;
    }
    let is_marked = told
        .health_status
        .is_some_and(|mark| mark.eq_ignore_ascii_case("unhealthy"));
    let own = if is_marked { Health::Failing } else { Health::Passing };
    Some((told.instance_id?, (told.auto_scaling_group_name?, own)))
}

fn judges_of(group: &AutoScalingGroup) -> BTreeSet<Judge> {
    let kinds = group.health_check_type().unwrap_or_default();
    let mut judges = BTreeSet::new();
    for kind in kinds.split(',').map(str::trim) {
        match kind {
            // EBS's checks are among EC2's own.
            "" | "EC2" | "EBS" => {}
            "ELB" => {
                judges.extend(group.target_group_arns().iter().cloned().map(Judge::TargetGroup));
                judges.extend(group.load_balancer_names().iter().cloned().map(Judge::Classic));
                judges.extend(group.traffic_sources().iter().filter_map(|source| {
                    let named = source.identifier()?.to_owned();
                    match source.r#type() {
                        Some("elbv2") => Some(Judge::TargetGroup(named)),
                        Some("elb") => Some(Judge::Classic(named)),
                        _ => None,
                    }
                }));
            }
            other => {
                judges.insert(Judge::Unasked(other.to_owned()));
            }
        }
    }
    judges
}

fn target(told: Option<&TargetHealth>) -> Health {
    use TargetHealthStateEnum::{Healthy, Unavailable, Unhealthy, UnhealthyDraining, Unused};
    let reason = told.and_then(TargetHealth::reason);
    match told.and_then(TargetHealth::state) {
        Some(Healthy | Unavailable) => Health::Passing,
        // No balancer sends it anything, so none checks it.
        Some(Unused) if reason == Some(&TargetHealthReasonEnum::NotInUse) => Health::Passing,
        Some(Unhealthy | UnhealthyDraining) => Health::Failing,
        _ => Health::Pending,
    }
}

fn classic(state: Option<&str>) -> Health {
    match state {
        Some("InService") => Health::Passing,
        Some("OutOfService") => Health::Failing,
        _ => Health::Pending,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::TrafficSourceIdentifier;

    use super::*;

    fn group(kind: &str) -> AutoScalingGroup {
        let lattice = TrafficSourceIdentifier::builder().identifier("l").r#type("vpc-lattice");
        let again = TrafficSourceIdentifier::builder().identifier("arn:1").r#type("elbv2");
        AutoScalingGroup::builder()
            .health_check_type(kind)
            .target_group_arns("arn:1")
            .load_balancer_names("old")
            .traffic_sources(lattice.build())
            .traffic_sources(again.build())
            .build()
    }

    #[test]
    fn a_group_judges_by_its_balancers_when_it_says_so() {
        for kind in ["EC2", "EBS", ""] {
            assert_eq!(judges_of(&group(kind)), BTreeSet::new(), "{kind}");
        }
        let both = [Judge::TargetGroup("arn:1".to_owned()), Judge::Classic("old".to_owned())];
        assert_eq!(judges_of(&group("ELB")), both.clone().into());
        assert_eq!(judges_of(&group("EBS, ELB")), both.into());
        let lattice = [Judge::Unasked("VPC_LATTICE".to_owned())];
        assert_eq!(judges_of(&group("VPC_LATTICE")), lattice.into());
    }

    #[test]
    fn what_balancers_say_is_read() {
        use TargetHealthStateEnum::{Draining, Healthy, Initial, Unavailable, Unhealthy, Unused};
        let of = |state: TargetHealthStateEnum, reason: Option<TargetHealthReasonEnum>| {
            target(Some(&TargetHealth::builder().state(state).set_reason(reason).build()))
        };
        assert_eq!(of(Healthy, None), Health::Passing);
        assert_eq!(of(Unavailable, None), Health::Passing);
        assert_eq!(of(Initial, None), Health::Pending);
        assert_eq!(of(Draining, None), Health::Pending);
        assert_eq!(of(Unhealthy, None), Health::Failing);
        assert_eq!(of(Unused, Some(TargetHealthReasonEnum::NotInUse)), Health::Passing);
        assert_eq!(of(Unused, Some(TargetHealthReasonEnum::InvalidState)), Health::Pending);
        assert_eq!(target(None), Health::Pending);
        assert_eq!(classic(Some("InService")), Health::Passing);
        assert_eq!(classic(Some("OutOfService")), Health::Failing);
        assert_eq!(classic(Some("Unknown")), Health::Pending);
    }

    #[test]
    fn a_mark_of_the_group_stands_and_who_is_on_standby_is_not_judged() {
        let of = |state: &str, mark: &str| {
            let told = AutoScalingInstanceDetails::builder().instance_id("i-1");
            let told = told.auto_scaling_group_name("g").lifecycle_state(state);
            member(told.health_status(mark).build()).map(|(_, (_, own))| own)
        };
        assert_eq!(of("InService", "HEALTHY"), Some(Health::Passing));
        assert_eq!(of("InService", "UNHEALTHY"), Some(Health::Failing));
        assert_eq!(of("Standby", "HEALTHY"), None);
    }
}
