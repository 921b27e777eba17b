//! Which instances there are.
//!
//! A filter only saves pages: what it lets through is checked again here, so that neither a wildcard in a
//! tag's value nor an endpoint that ignores a filter can make a foreign instance ours. The other way
//! round a filter must never let less through than it should, since what is not listed is not stopped:
//! characters with a meaning in a filter are sent as the wildcard for any character.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{
    DeviceType, Filter, InstanceLifecycleType, InstanceStateName, PlatformValues, SpotInstanceType, Tenancy,
};
use jiff::Timestamp;

use super::Ec2;
use crate::domain::containment::observed::{Instance, InstanceState, SpotKind};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{AssetRef, Kind};
use crate::ports::{CloudError, InstanceFilter};

/// EC2 takes no more values in one filter.
const FILTER_VALUES: usize = 200;

/// A million instances in one region, in full pages; this bounds a list that never ends.
const MAX_PAGES: usize = 1_000;

/// Every state but `terminated`.
const STATES: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];

/// The tag by which EC2 says which Auto Scaling group made an instance; nobody else may set it.
const GROUP_TAG: &str = "aws:autoscaling:groupName";

/// Likewise which fleet, and which spot fleet.
const FLEET_TAGS: [&str; 2] = ["aws:ec2:fleet-id", "aws:ec2spot:fleet-request-id"];

impl Ec2 {
    /// The instances that match, sorted by id.
    pub(in crate::cloud::aws) async fn instances(&self, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        let mut found: BTreeMap<String, Listed> = BTreeMap::new();
        for query in queries(filter) {
            for instance in self.pages(query).await? {
                let Some(listed) = read(&self.region, instance) else {
                    let call = self.read("ec2:DescribeInstances");
                    return Err(call.nonsense("the answer has an instance without an id"));
                };
                if matches(filter, &listed.instance) {
                    found.insert(listed.instance.id.clone(), listed);
                }
            }
        }
        self.classify_spot(&mut found).await;
        Ok(found.into_values().map(|listed| listed.instance).collect())
    }

    async fn pages(&self, query: Filter) -> Result<Vec<aws_sdk_ec2::types::Instance>, CloudError> {
        let call = self.read("ec2:DescribeInstances");
        let states = Filter::builder()
            .name("instance-state-name")
            .set_values(Some(STATES.map(str::to_owned).to_vec()))
            .build();
        let mut instances = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let _permit = self.permit().await;
            let request = self.looks.describe_instances().max_results(self.page);
            let request = request.filters(query.clone()).filters(states.clone());
            let page = request.set_next_token(token).send().await.map_err(|e| call.failed(e))?;
            let reservations = page.reservations.unwrap_or_default();
            instances.extend(
                reservations
                    .into_iter()
                    .flat_map(|one| one.instances.unwrap_or_default()),
            );
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(instances);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }

    /// Asks what kind of request stands behind each spot instance. If that cannot be learnt, an instance
    /// counts as one that can be stopped: a stop that is refused harms nobody, but a one-time instance
    /// may be terminated where the operator asked for that.
    async fn classify_spot(&self, found: &mut BTreeMap<String, Listed>) {
        let requests: BTreeSet<String> = found
            .values()
            .filter_map(|listed| listed.spot_request.clone())
            .collect();
        let requests: Vec<String> = requests.into_iter().collect();
        let mut kinds = BTreeMap::new();
        for chunk in requests.chunks(FILTER_VALUES) {
            match self.spot_kinds(chunk).await {
                Ok(some) => kinds.extend(some),
                Err(error) => tracing::warn!(
                    region = %self.region, %error,
                    "the kind of spot requests is unknown; their instances are taken for stoppable"
                ),
            }
        }
        for listed in found.values_mut() {
            if listed.instance.spot.is_some()
                && let Some(kind) = listed.spot_request.as_ref().and_then(|request| kinds.get(request))
            {
                listed.instance.spot = Some(*kind);
            }
        }
    }

    async fn spot_kinds(&self, requests: &[String]) -> Result<BTreeMap<String, SpotKind>, CloudError> {
        let call = self.read("ec2:DescribeSpotInstanceRequests");
        let query = equals("spot-instance-request-id", requests);
        let mut kinds = BTreeMap::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let _permit = self.permit().await;
            let request = self.looks.describe_spot_instance_requests().filters(query.clone());
            let page = request.set_next_token(token).send().await.map_err(|e| call.failed(e))?;
            for one in page.spot_instance_requests.unwrap_or_default() {
                let kind = match one.r#type {
                    Some(SpotInstanceType::OneTime) => SpotKind::OneTime,
                    Some(SpotInstanceType::Persistent) => SpotKind::Persistent,
                    _ => continue,
                };
                if let Some(id) = one.spot_instance_request_id {
                    kinds.insert(id, kind);
                }
            }
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(kinds);
            }
        }
        Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
    }
}

/// An instance with what is needed to complete it.
struct Listed {
    instance: Instance,
    spot_request: Option<String>,
}

/// Filters whose results together hold everything that `filter` asks for. Different filters of one call
/// must all hold, the values of one filter are alternatives; so each tag key is a query of its own.
fn queries(filter: &InstanceFilter) -> Vec<Filter> {
    let mut alternatives: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    match filter {
        InstanceFilter::All => return vec![equals("instance-state-name", &STATES.map(str::to_owned))],
        InstanceFilter::Tags(tags) => {
            for (key, value) in tags {
                alternatives
                    .entry(format!("tag:{key}"))
                    .or_default()
                    .insert(loose(value));
            }
        }
        InstanceFilter::Profiles(arns) => {
            let arns = arns.iter().map(|arn| loose(arn)).collect();
            alternatives.insert("iam-instance-profile.arn".to_owned(), arns);
        }
        InstanceFilter::Ids(ids) => {
            let ids = ids.iter().map(|id| loose(id)).collect();
            alternatives.insert("instance-id".to_owned(), ids);
        }
    }
    alternatives
        .into_iter()
        .flat_map(|(name, values)| {
            let values: Vec<String> = values.into_iter().collect();
            let chunks: Vec<Filter> = values.chunks(FILTER_VALUES).map(|chunk| equals(&name, chunk)).collect();
            chunks
        })
        .collect()
}

fn equals(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

/// A value in which nothing is taken literally that a filter would not take literally. `?` lets through
/// whatever stands there, the character itself included, and needs no rule of escaping.
fn loose(value: &str) -> String {
    value
        .chars()
        .map(|c| if matches!(c, '*' | '?' | '\\') { '?' } else { c })
        .collect()
}

/// Whether an instance is really one of those that were asked for.
fn matches(filter: &InstanceFilter, instance: &Instance) -> bool {
    if instance.state == InstanceState::Terminated {
        return false;
    }
    match filter {
        InstanceFilter::All => true,
        InstanceFilter::Tags(tags) => tags.iter().any(|(key, value)| instance.tags.get(key) == Some(value)),
        InstanceFilter::Profiles(arns) => instance.profile_arn.as_ref().is_some_and(|arn| arns.contains(arn)),
        InstanceFilter::Ids(ids) => ids.contains(&instance.id),
    }
}

/// `None` when the answer lacks an id.
fn read(region: &Region, instance: aws_sdk_ec2::types::Instance) -> Option<Listed> {
    let state = match instance.state.and_then(|state| state.name) {
        Some(InstanceStateName::Pending) => InstanceState::Pending,
        Some(InstanceStateName::Stopping) => InstanceState::Stopping,
        Some(InstanceStateName::Stopped) => InstanceState::Stopped,
        Some(InstanceStateName::ShuttingDown) => InstanceState::ShuttingDown,
        Some(InstanceStateName::Terminated) => InstanceState::Terminated,
        // A state that is missing or new to us may cost money (L7): it counts as running until it is told
        // otherwise.
        _ => InstanceState::Running,
    };
    let tags: BTreeMap<String, String> = instance
        .tags
        .unwrap_or_default()
        .into_iter()
        .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
        .collect();
    let is_spot = instance.instance_lifecycle == Some(InstanceLifecycleType::Spot);
    let request = |kind: &'static str, id: &String| AssetRef {
        kind: Kind::named(kind),
        region: region.clone(),
        id: id.clone(),
    };
    let fleet = FLEET_TAGS
        .iter()
        .find_map(|tag| tags.get(*tag))
        .map(|id| request("fleet", id));
    let spot = instance.spot_instance_request_id.as_ref();
    let request = fleet.or_else(|| spot.map(|id| request("spot-request", id)));
    let tenancy = instance.placement.and_then(|placement| placement.tenancy);
    let sold_as = sold_as(
        instance.usage_operation.as_deref(),
        instance.platform.as_ref(),
        tenancy.as_ref(),
    );
    Some(Listed {
        spot_request: instance.spot_instance_request_id.filter(|_| is_spot),
        instance: Instance {
            region: region.clone(),
            id: instance.instance_id?,
            state,
            instance_type: instance
                .instance_type
                .map(|kind| kind.as_str().to_owned())
                .unwrap_or_default(),
            group: tags.get(GROUP_TAG).cloned(),
            tags,
            profile_arn: instance.iam_instance_profile.and_then(|profile| profile.arn),
            launched_at: instance
                .launch_time
                .and_then(|at| Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or(0)).ok()),
            spot: is_spot.then_some(SpotKind::Persistent),
            root_is_instance_store: instance.root_device_type == Some(DeviceType::InstanceStore),
            stop_protected: None,
            request,
            sold_as,
        },
    })
}

/// `None` for plain Linux on shared hardware; else what AWS calls what it runs, and whose hardware it is. Where that is
/// not told, a machine that says it is Windows is one, and any other is plain.
fn sold_as(operation: Option<&str>, platform: Option<&PlatformValues>, tenancy: Option<&Tenancy>) -> Option<String> {
    const LINUX: &str = "RunInstances";
    let operation = operation.filter(|operation| !operation.is_empty());
    let operation = operation.unwrap_or(match platform {
        Some(PlatformValues::Windows) => "RunInstances:0002",
        _ => LINUX,
    });
    let tenancy = match tenancy {
        None | Some(Tenancy::Default) => "shared",
        Some(other) => other.as_str(),
    };
    (operation != LINUX || tenancy != "shared").then(|| format!("{operation}/{tenancy}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{IamInstanceProfile, Instance as Seen, InstanceState as SeenState, Tag};

    use super::*;

    fn seen(id: &str, state: Option<InstanceStateName>, tags: &[(&str, &str)]) -> Instance {
        let mut seen = Seen::builder().instance_id(id);
        if let Some(state) = state {
            seen = seen.state(SeenState::builder().name(state).build());
        }
        for (key, value) in tags {
            seen = seen.tags(Tag::builder().key(*key).value(*value).build());
        }
        let profile = IamInstanceProfile::builder().arn("arn:aws:iam::123456789012:instance-profile/a");
        let seen = seen.iam_instance_profile(profile.build()).build();
        read(&Region("eu-west-1".to_owned()), seen)
            .expect("it has an id")
            .instance
    }

    fn tags(pairs: &[(&str, &str)]) -> InstanceFilter {
        InstanceFilter::Tags(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_filter_lets_through_too_much_rather_than_too_little() {
        let sent = queries(&tags(&[("owner", r"a*b?c\d"), ("owner", "plain"), ("team", "x")]));
        let sent: Vec<_> = sent
            .iter()
            .map(|f| (f.name().unwrap_or_default(), f.values()))
            .collect();
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert_eq!(
            sent[0],
            ("tag:owner", ["a?b?c?d".to_owned(), "plain".to_owned()].as_slice())
        );
        assert_eq!(sent[1], ("tag:team", ["x".to_owned()].as_slice()));

        let many: Vec<String> = (0..450).map(|n| format!("i-{n}")).collect();
        let sent = queries(&InstanceFilter::Ids(many));
        assert_eq!(
            sent.iter().map(|f| f.values().len()).collect::<Vec<_>>(),
            [200, 200, 50]
        );
        assert!(queries(&tags(&[])).is_empty());
    }

    #[test]
    fn what_comes_back_is_checked_again() {
        let filter = tags(&[("owner", "a*")]);
        let running = || Some(InstanceStateName::Running);
        assert!(matches(&filter, &seen("i-1", running(), &[("owner", "a*")])));
        assert!(!matches(&filter, &seen("i-1", running(), &[("owner", "ab")])));
        assert!(!matches(&filter, &seen("i-1", running(), &[("Owner", "a*")])));
        assert!(!matches(&filter, &seen("i-1", running(), &[("other", "a*")])));
        assert!(!matches(
            &filter,
            &seen("i-1", Some(InstanceStateName::Terminated), &[("owner", "a*")])
        ));

        let profile = |arn: &str| InstanceFilter::Profiles(vec![arn.to_owned()]);
        assert!(matches(
            &profile("arn:aws:iam::123456789012:instance-profile/a"),
            &seen("i-1", running(), &[])
        ));
        assert!(!matches(
            &profile("arn:aws:iam::123456789012:instance-profile/b"),
            &seen("i-1", running(), &[])
        ));
        let ids = InstanceFilter::Ids(vec!["i-2".to_owned()]);
        assert!(!matches(&ids, &seen("i-1", running(), &[])));
    }

    #[test]
    fn a_state_that_we_do_not_know_costs_money() {
        assert_eq!(seen("i-1", None, &[]).state, InstanceState::Running);
        assert_eq!(
            seen("i-1", Some("hibernating".into()), &[]).state,
            InstanceState::Running
        );
        assert_eq!(
            seen("i-1", Some(InstanceStateName::Pending), &[]).state,
            InstanceState::Pending
        );
        assert_eq!(
            seen("i-1", None, &[(GROUP_TAG, "fleet")]).group.as_deref(),
            Some("fleet")
        );
    }

    #[test]
    fn only_plain_linux_on_shared_hardware_is_sold_as_such() {
        let told = |operation, platform, tenancy: Option<Tenancy>| sold_as(operation, platform, tenancy.as_ref());
        let windows = Some(&PlatformValues::Windows);
        assert_eq!(told(None, None, None), None);
        assert_eq!(told(Some("RunInstances"), None, Some(Tenancy::Default)), None);
        let cases = [
            (
                told(Some("RunInstances:0002"), windows, None),
                "RunInstances:0002/shared",
            ),
            (told(None, windows, None), "RunInstances:0002/shared"),
            (told(Some("RunInstances:0010"), None, None), "RunInstances:0010/shared"),
            (
                told(Some("RunInstances"), None, Some(Tenancy::Dedicated)),
                "RunInstances/dedicated",
            ),
            (
                told(Some("RunInstances"), None, Some(Tenancy::Host)),
                "RunInstances/host",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found.as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_started_it_is_its_request_unless_a_group_did() {
        let parent = |tags: &[(&str, &str)]| {
            let parent = seen("i-1", None, tags).started_by();
            parent.map(|parent| parent.to_string()).unwrap_or_default()
        };
        assert_eq!(parent(&[(FLEET_TAGS[0], "fleet-1")]), "fleet:eu-west-1/fleet-1");
        assert_eq!(parent(&[(FLEET_TAGS[1], "sfr-1")]), "fleet:eu-west-1/sfr-1");
        assert_eq!(
            parent(&[(FLEET_TAGS[0], "fleet-1"), (GROUP_TAG, "g")]),
            "group:eu-west-1/g"
        );
        let spot = Seen::builder()
            .instance_id("i-1")
            .spot_instance_request_id("sir-1")
            .build();
        let spot = read(&Region("eu-west-1".to_owned()), spot).expect("it has an id");
        let parent = spot.instance.started_by().map(|parent| parent.to_string());
        assert_eq!(parent.as_deref(), Some("spot-request:eu-west-1/sir-1"));
    }
}
