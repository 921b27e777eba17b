//! Instances on the emulator: finding all of ours and none of others', stopping and starting them.

use std::collections::BTreeSet;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::observed::{Instance, InstanceState, SpotKind};
use backstop::domain::containment::target::Region;
use backstop::ports::{Cloud as _, InstanceFilter, Retry};

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Fault, FaultProxy, Rule};
use crate::harness::moto::{Keys, Moto};

const REGION: &str = "eu-central-1";
const OWNER: &str = "backstop:agent";

fn region() -> Region {
    Region(REGION.to_owned())
}

fn tags(value: &str) -> InstanceFilter {
    InstanceFilter::Tags(vec![(OWNER.to_owned(), value.to_owned())])
}

fn ids(instances: &[Instance]) -> BTreeSet<String> {
    instances.iter().map(|one| one.id.clone()).collect()
}

fn set(ids: &[String]) -> BTreeSet<String> {
    ids.iter().cloned().collect()
}

/// The adapter behind a proxy, with the caller's keys.
async fn proxied(moto: &Moto, keys: &Keys, settings: AwsSettings) -> (FaultProxy, Aws) {
    let proxy = FaultProxy::start(moto.endpoint()).await;
    let settings = AwsSettings {
        endpoint_url: Some(proxy.endpoint()),
        ..settings
    };
    let cloud = Aws::new(moto.sdk(keys, REGION), settings);
    (proxy, cloud)
}

#[tokio::test]
async fn more_than_a_thousand_instances_are_listed_over_all_pages() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let mut owned = Vec::new();
    // The emulator's page counts reservations.
    for _ in 0..11 {
        owned.extend(account.instances(REGION, 100, &[(OWNER, "transcriber")]).await);
    }
    account.instances(REGION, 30, &[(OWNER, "planner")]).await;
    account.instances(REGION, 10, &[]).await;

    let settings = AwsSettings { page: 5, ..patient() };
    let (proxy, cloud) = proxied(&moto, &admin, settings).await;
    let found = cloud
        .instances(&region(), &tags("transcriber"))
        .await
        .expect("they are listed");
    assert_eq!(found.len(), 1_100);
    assert_eq!(ids(&found), set(&owned));
    assert!(
        found
            .iter()
            .all(|one| one.state == InstanceState::Running && one.region == region())
    );
    assert!(
        found
            .iter()
            .all(|one| one.tags.get(OWNER).map(String::as_str) == Some("transcriber"))
    );
    assert!(found[0].launched_at.is_some() && found[0].instance_type == "t3.micro");
    let asked = proxy.take_action("DescribeInstances");
    assert_eq!(asked.len(), 3, "11 reservations in pages of 5");
    assert!(!asked[0].params.contains_key("NextToken"));
    assert!(asked[1..].iter().all(|one| one.params.contains_key("NextToken")));
}

#[tokio::test]
async fn a_listing_is_asked_for_in_full_pages_and_without_what_is_gone() {
    let moto = Moto::start().await;
    let (proxy, cloud) = proxied(&moto, &Keys::any(), patient()).await;
    let many: Vec<String> = (0..450).map(|n| format!("i-{n:017x}")).collect();
    let found = cloud
        .instances(&region(), &InstanceFilter::Ids(many))
        .await
        .expect("nothing is an answer");
    assert!(found.is_empty());
    let asked = proxy.take_asked();
    let values: Vec<usize> = asked.iter().map(|one| one.list("Filter.1.Value").len()).collect();
    assert_eq!(values, [200, 200, 50]);
    let one = &asked[0];
    assert_eq!(one.params["MaxResults"], "1000");
    assert_eq!(one.params["Filter.1.Name"], "instance-id");
    assert_eq!(one.params["Filter.2.Name"], "instance-state-name");
    let states = ["pending", "running", "shutting-down", "stopping", "stopped"];
    assert_eq!(one.list("Filter.2.Value"), states);
    assert_eq!((one.service.as_str(), one.region.as_str()), ("ec2", REGION));
}

#[tokio::test]
async fn a_tag_is_matched_letter_by_letter() {
    let moto = Moto::start().await;
    let account = Account::new(&moto, &Keys::any());
    let cloud = Aws::new(moto.sdk(&Keys::any(), REGION), patient());
    let odd = r"team *?\ä,%+&=1";
    let odd_key = "cost centre/ü";
    let mine = account.instances(REGION, 2, &[(OWNER, odd)]).await;
    let lookalikes = [
        r"team xyzä,%+&=1",
        r"team *?\ä,%+&=12",
        r"TEAM *?\ä,%+&=1",
        r"team **\ä,%+&=1",
    ];
    for lookalike in lookalikes {
        account.instances(REGION, 1, &[(OWNER, lookalike)]).await;
    }
    let star = account.instances(REGION, 1, &[(OWNER, "*")]).await;
    let other = account.instances(REGION, 1, &[(odd_key, "x")]).await;
    account.instances(REGION, 1, &[("Backstop:Agent", odd)]).await;

    let found = cloud.instances(&region(), &tags(odd)).await.expect("they are listed");
    assert_eq!(ids(&found), set(&mine));
    let found = cloud.instances(&region(), &tags("*")).await.expect("they are listed");
    assert_eq!(ids(&found), set(&star), "a star is a star and not everybody");
    let any_of = InstanceFilter::Tags(vec![
        (OWNER.to_owned(), odd.to_owned()),
        (OWNER.to_owned(), "*".to_owned()),
        (odd_key.to_owned(), "x".to_owned()),
    ]);
    let found = cloud.instances(&region(), &any_of).await.expect("they are listed");
    assert_eq!(ids(&found), set(&[mine, star, other].concat()));
}

#[tokio::test]
async fn instances_are_found_by_profile_and_by_id_where_they_are() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    account.role("/agents/", "transcriber").await;
    account.role("/agents/", "planner").await;
    let ours = account.profile("transcriber", "transcriber").await;
    let theirs = account.profile("planner", "planner").await;
    let mine = account.launch(REGION, 3, &[], Some(&ours)).await;
    account.launch(REGION, 2, &[], Some(&theirs)).await;
    let bare = account.instances(REGION, 2, &[]).await;
    let elsewhere = account.launch("us-west-2", 1, &[], Some(&ours)).await;

    let cloud = Aws::new(moto.sdk(&admin, REGION), patient());
    let by_profile = InstanceFilter::Profiles(vec![ours.clone()]);
    let found = cloud.instances(&region(), &by_profile).await.expect("they are listed");
    assert_eq!(ids(&found), set(&mine));
    assert!(
        found
            .iter()
            .all(|one| one.profile_arn.as_deref() == Some(ours.as_str()))
    );
    let west = Region("us-west-2".to_owned());
    let found = cloud.instances(&west, &by_profile).await.expect("they are listed");
    assert_eq!(ids(&found), set(&elsewhere));

    let some = InstanceFilter::Ids(vec![mine[0].clone(), bare[1].clone(), elsewhere[0].clone()]);
    let found = cloud
        .instances(&region(), &some)
        .await
        .expect("one that is not there does no harm");
    assert_eq!(ids(&found), set(&[mine[0].clone(), bare[1].clone()]));

    let regions = cloud.regions().await.expect("they are listed");
    assert!(regions.contains(&west) && regions.contains(&region()), "{regions:?}");
}

/// Synthetic answers, in the form that the EC2 API reference documents: the emulator does not connect a
/// spot instance with its request, nor does it have instance-store roots.
#[tokio::test]
async fn what_cannot_be_stopped_is_told_apart() {
    const INSTANCES: &str = r#"<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><reservationSet>
<item><reservationId>r-1</reservationId><instancesSet>
<item><instanceId>i-01</instanceId><instanceState><code>16</code><name>running</name></instanceState><instanceLifecycle>spot</instanceLifecycle><spotInstanceRequestId>sir-once</spotInstanceRequestId><tagSet><item><key>backstop:agent</key><value>a</value></item></tagSet></item>
<item><instanceId>i-02</instanceId><instanceState><code>16</code><name>running</name></instanceState><instanceLifecycle>spot</instanceLifecycle><spotInstanceRequestId>sir-keeps</spotInstanceRequestId><tagSet><item><key>backstop:agent</key><value>a</value></item></tagSet></item>
<item><instanceId>i-03</instanceId><instanceState><code>16</code><name>running</name></instanceState><instanceLifecycle>spot</instanceLifecycle><spotInstanceRequestId>sir-gone</spotInstanceRequestId><tagSet><item><key>backstop:agent</key><value>a</value></item></tagSet></item>
<item><instanceId>i-04</instanceId><instanceState><code>0</code><name>pending</name></instanceState><rootDeviceType>instance-store</rootDeviceType><tagSet><item><key>backstop:agent</key><value>a</value></item></tagSet></item>
<item><instanceId>i-05</instanceId><instanceState><code>16</code><name>running</name></instanceState><rootDeviceType>ebs</rootDeviceType><launchTime>2026-11-20T06:00:00.000Z</launchTime><tagSet><item><key>backstop:agent</key><value>a</value></item><item><key>aws:autoscaling:groupName</key><value>fleet</value></item></tagSet></item>
<item><instanceId>i-06</instanceId><instanceState><code>48</code><name>terminated</name></instanceState><tagSet><item><key>backstop:agent</key><value>a</value></item></tagSet></item>
<item><instanceId>i-07</instanceId><instanceState><code>16</code><name>running</name></instanceState><tagSet><item><key>backstop:agent</key><value>b</value></item></tagSet></item>
</instancesSet></item></reservationSet></DescribeInstancesResponse>"#;
    const REQUESTS: &str = r#"<DescribeSpotInstanceRequestsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><spotInstanceRequestSet>
<item><spotInstanceRequestId>sir-once</spotInstanceRequestId><type>one-time</type></item>
<item><spotInstanceRequestId>sir-keeps</spotInstanceRequestId><type>persistent</type></item>
</spotInstanceRequestSet></DescribeSpotInstanceRequestsResponse>"#;
    let moto = Moto::start().await;
    let (proxy, cloud) = proxied(&moto, &Keys::any(), patient()).await;
    proxy.inject(Rule::on("DescribeInstances", Fault::Answer(INSTANCES)));
    proxy.inject(Rule::on("DescribeSpotInstanceRequests", Fault::Answer(REQUESTS)).times(1));

    let found = cloud.instances(&region(), &tags("a")).await.expect("they are listed");
    let kinds: Vec<_> = found
        .iter()
        .map(|one| (one.id.as_str(), one.spot, one.root_is_instance_store))
        .collect();
    assert_eq!(
        kinds,
        [
            ("i-01", Some(SpotKind::OneTime), false),
            ("i-02", Some(SpotKind::Persistent), false),
            // A request that is not there: stoppable until EC2 says otherwise, never to be terminated.
            ("i-03", Some(SpotKind::Persistent), false),
            ("i-04", None, true),
            ("i-05", None, false),
        ],
        "neither the terminated one nor a foreign one that a filter let through"
    );
    assert_eq!(found[3].state, InstanceState::Pending);
    assert_eq!(found[4].group.as_deref(), Some("fleet"));
    assert_eq!(
        found[4].launched_at,
        Some("2026-11-20T06:00:00Z".parse().expect("a timestamp"))
    );
    let asked = proxy.take_action("DescribeSpotInstanceRequests");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].list("Filter.1.Value"), ["sir-gone", "sir-keeps", "sir-once"]);

    // When the requests cannot be seen at all, the instances still are.
    proxy.inject(Rule::on(
        "DescribeSpotInstanceRequests",
        Fault::Refuse {
            status: 403,
            code: "UnauthorizedOperation",
            message: "no",
        },
    ));
    let found = cloud.instances(&region(), &tags("a")).await.expect("they are listed");
    assert_eq!((found.len(), found[0].spot), (5, Some(SpotKind::Persistent)));
}

#[tokio::test]
async fn a_fleet_is_stopped_and_started_but_for_those_that_refuse() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let mut all = account.instances(REGION, 118, &[(OWNER, "transcriber")]).await;
    let protected = all[17].clone();
    account.protect(REGION, &protected, true).await;
    let busy = all[64].clone();
    let absent = "i-0123456789abcdef0".to_owned();
    all.insert(80, absent.clone());

    let (proxy, cloud) = proxied(&moto, &admin, patient()).await;
    let incorrect = Fault::Refuse {
        status: 400,
        code: "IncorrectInstanceState",
        message: "This instance is not in a state from which it can be stopped.",
    };
    proxy.inject(Rule::on("StopInstances", incorrect).naming(&busy));
    assert!(cloud.stop_protection(&region(), &protected).await.expect("it is told"));
    assert!(!cloud.stop_protection(&region(), &busy).await.expect("it is told"));

    let may = cloud.may_stop(&region(), &all[..10]).await.expect("it is told");
    assert_eq!((may.accepted.len(), may.refused.len()), (10, 0));
    let dry = proxy.take_action("StopInstances");
    assert!(dry.iter().all(|one| one.params["DryRun"] == "true"), "{dry:?}");
    assert!(account.states(REGION).await.values().all(|state| state == "running"));

    let done = cloud.stop(&region(), &all).await.expect("most are stopped");
    let refused: Vec<_> = done
        .refused
        .iter()
        .map(|(id, why)| (id.clone(), why.code.as_str(), why.transient))
        .collect();
    assert_eq!(
        refused,
        [
            (protected.clone(), "OperationNotPermitted", false),
            (busy.clone(), "IncorrectInstanceState", true),
            (absent, "InvalidInstanceID.NotFound", false),
        ]
    );
    assert_eq!(done.accepted.len(), 116);
    let asked = proxy.take_action("StopInstances");
    assert!(asked.len() <= 3 + 3 * 2 * 6, "{} calls", asked.len());
    assert!(
        asked
            .iter()
            .all(|one| !one.params.contains_key("DryRun") && !one.params.contains_key("Force"))
    );
    for (id, state) in account.states(REGION).await {
        let expected = if id == protected || id == busy {
            "running"
        } else {
            "stopped"
        };
        assert_eq!(state, expected, "{id}");
    }

    let again = cloud
        .stop(&region(), &done.accepted)
        .await
        .expect("what is stopped may be stopped again");
    assert_eq!((again.accepted.len(), again.refused.len()), (116, 0));
    assert_eq!(again.already, again.accepted, "this call stopped none of them");
    let back = cloud.start(&region(), &done.accepted).await.expect("they are started");
    assert_eq!((back.accepted.len(), back.refused.len()), (116, 0));
    assert!(account.states(REGION).await.values().all(|state| state == "running"));

    let gone = cloud
        .terminate(&region(), &all[..2])
        .await
        .expect("they are terminated");
    assert_eq!(gone.accepted, all[..2]);
    let found = cloud
        .instances(&region(), &tags("transcriber"))
        .await
        .expect("they are listed");
    assert_eq!(found.len(), 116, "what is terminated is not listed");
}

#[tokio::test]
async fn a_daemon_without_the_right_is_told_so_for_each_instance() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let owned = account.instances(REGION, 3, &[(OWNER, "transcriber")]).await;
    let (_, weak) = account.user("/", "watcher").await;
    let only = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:Describe*","Resource":"*"}]}"#;
    let put = account.iam().put_user_policy().user_name("watcher").policy_name("work");
    put.policy_document(only).send().await.expect("PutUserPolicy");

    let cloud = Aws::new(moto.sdk(&weak, REGION), patient());
    assert_eq!(
        cloud
            .instances(&region(), &tags("transcriber"))
            .await
            .expect("it may look")
            .len(),
        3
    );
    for done in [
        cloud.may_stop(&region(), &owned).await,
        cloud.stop(&region(), &owned).await,
    ] {
        let done = done.expect("each is told");
        assert!(done.accepted.is_empty());
        let refused: BTreeSet<_> = done
            .refused
            .iter()
            .map(|(id, why)| (id.clone(), why.transient))
            .collect();
        assert_eq!(refused, owned.iter().map(|id| (id.clone(), false)).collect());
    }
    assert!(account.states(REGION).await.values().all(|state| state == "running"));

    let stranger = Aws::new(moto.sdk(&Keys::any(), REGION), patient());
    let error = stranger.stop(&region(), &owned).await.expect_err("nobody knows it");
    assert_eq!(error.retry, Retry::Never, "{error:?}");
    assert!(!format!("{error} {error:?}").contains(&Keys::any().secret));
}
