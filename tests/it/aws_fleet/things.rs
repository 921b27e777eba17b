//! What only deletion would stop: volumes, NAT gateways, addresses, balancers; and machines' health.

use aws_sdk_ec2::types::{DomainType, ResourceType, Tag, TagSpecification, VolumeType};
use backstop::domain::fleet::asset::Brake;
use backstop::ports::{Cloud as _, Health};

use super::*;
use crate::harness::fault_proxy::{Fault, Rule};

fn owned(kind: ResourceType) -> TagSpecification {
    let tag = Tag::builder().key("backstop:agent").value("a").build();
    TagSpecification::builder().resource_type(kind).tags(tag).build()
}

fn is_for_a_person(asset: &Asset) {
    assert!(
        matches!(&asset.brake, Brake::Deletion { how } if !how.is_empty()),
        "{asset:?}"
    );
}

/// The region's first subnet, which the emulator makes with the account.
async fn subnet(ec2: &aws_sdk_ec2::Client) -> String {
    let subnets = ec2.describe_subnets().send().await.expect("DescribeSubnets");
    subnets.subnets()[0].subnet_id().expect("an id").to_owned()
}

#[tokio::test]
async fn volumes_are_listed_with_their_size_and_machine() {
    let bench = Bench::start().await;
    let account = bench.account();
    let ec2 = account.ec2(REGION);
    let machine = account.instances(REGION, 1, &[]).await.remove(0);
    let made = ec2
        .create_volume()
        .availability_zone(format!("{REGION}a"))
        .size(500)
        .volume_type(VolumeType::Gp3);
    let made = made
        .iops(16_000)
        .throughput(1_000)
        .tag_specifications(owned(ResourceType::Volume));
    let made = made.send().await.expect("CreateVolume");
    let volumes = bench.assets("volume").await;
    assert_eq!(volumes.len(), 2, "the machine has one of its own");
    let volume = &volumes[&format!("volume:{REGION}/{}", made.volume_id().expect("an id"))];
    assert_eq!(volume.tags["backstop:agent"], "a");
    assert_eq!(
        meters(volume),
        [
            ("ebs/gp3".to_owned(), 500_000),
            ("ebs-iops/gp3".to_owned(), 13_000_000),
            ("ebs-throughput/gp3".to_owned(), 875_000)
        ]
    );
    is_for_a_person(volume);
    assert_eq!((volume.parent.as_ref(), volume.service.as_ref()), (None, "AmazonEC2"));
    let root = volumes
        .values()
        .find(|one| one.parent.is_some())
        .expect("one is attached");
    assert_eq!(root.parent, Some(asset("instance", &machine)));
    let asked = bench.asked().await;
    assert_eq!(
        (actions(&asked), asked[0].params["MaxResults"].as_str()),
        (vec!["DescribeVolumes"], "5")
    );
}

/// Synthetic answers in the documented form: the emulator does not page these.
#[tokio::test]
async fn every_page_of_ec2s_lists_is_read() {
    const FIRST: &str = r#"<DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><volumeSet><item><volumeId>vol-01</volumeId><size>8</size><volumeType>io2</volumeType><iops>100</iops><status>available</status></item></volumeSet><nextToken>more</nextToken></DescribeVolumesResponse>"#;
    const SECOND: &str = r#"<DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><volumeSet><item><volumeId>vol-02</volumeId><size>1</size><status>in-use</status><createTime>2026-11-20T06:00:00.000Z</createTime></item><item><volumeId>vol-03</volumeId><status>deleting</status></item></volumeSet></DescribeVolumesResponse>"#;
    const GATEWAYS: &str = r#"<DescribeNatGatewaysResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><natGatewaySet><item><natGatewayId>nat-01</natGatewayId><state>pending</state></item></natGatewaySet><nextToken>more</nextToken></DescribeNatGatewaysResponse>"#;
    const LAST: &str = r#"<DescribeNatGatewaysResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><natGatewaySet><item><natGatewayId>nat-02</natGatewayId><state>available</state></item><item><natGatewayId>nat-03</natGatewayId><state>deleted</state></item></natGatewaySet></DescribeNatGatewaysResponse>"#;
    let bench = Bench::start().await;
    bench
        .proxy
        .inject(Rule::on("DescribeVolumes", Fault::Answer(SECOND)).naming("more"));
    bench.proxy.inject(Rule::on("DescribeVolumes", Fault::Answer(FIRST)));
    bench
        .proxy
        .inject(Rule::on("DescribeNatGateways", Fault::Answer(LAST)).naming("more"));
    bench
        .proxy
        .inject(Rule::on("DescribeNatGateways", Fault::Answer(GATEWAYS)));
    let volumes = bench.assets("volume").await;
    assert_eq!(
        volumes.keys().collect::<Vec<_>>(),
        ["volume:eu-central-1/vol-01", "volume:eu-central-1/vol-02"]
    );
    assert_eq!(
        meters(&volumes["volume:eu-central-1/vol-01"]),
        [("ebs/io2".to_owned(), 8_000), ("ebs-iops/io2".to_owned(), 100_000)]
    );
    assert!(volumes["volume:eu-central-1/vol-02"].created_at.is_some());
    let gateways = bench.assets("nat").await;
    assert_eq!(
        gateways.keys().collect::<Vec<_>>(),
        ["nat:eu-central-1/nat-01", "nat:eu-central-1/nat-02"]
    );
    assert_eq!(bench.asked().await.len(), 4);
}

#[tokio::test]
async fn gateways_and_addresses_are_listed_idle_or_not() {
    let bench = Bench::start().await;
    let account = bench.account();
    let ec2 = account.ec2(REGION);
    let machine = account.instances(REGION, 1, &[]).await.remove(0);
    let mut elastic = Vec::new();
    for _ in 0..3 {
        let made = ec2.allocate_address().domain(DomainType::Vpc);
        let made = made.tag_specifications(owned(ResourceType::ElasticIp)).send().await;
        elastic.push(
            made.expect("AllocateAddress")
                .allocation_id()
                .expect("an id")
                .to_owned(),
        );
    }
    let bind = ec2.associate_address().allocation_id(&elastic[0]).instance_id(&machine);
    bind.send().await.expect("AssociateAddress");
    let made = ec2
        .create_nat_gateway()
        .subnet_id(subnet(&ec2).await)
        .allocation_id(&elastic[1]);
    let made = made
        .tag_specifications(owned(ResourceType::Natgateway))
        .send()
        .await
        .expect("CreateNatGateway");
    let made = made
        .nat_gateway()
        .and_then(|one| one.nat_gateway_id())
        .expect("an id")
        .to_owned();

    let gateways = bench.assets("nat").await;
    let gateway = &gateways[&format!("nat:{REGION}/{made}")];
    assert_eq!((gateways.len(), meters(gateway)), (1, vec![("nat".to_owned(), 1_000)]));
    assert_eq!(gateway.tags["backstop:agent"], "a");
    is_for_a_person(gateway);

    let addresses = bench.assets("address").await;
    for (n, id) in elastic.iter().enumerate() {
        let address = &addresses[&format!("address:{REGION}/{id}")];
        assert_eq!(
            (meters(address), address.service.as_ref()),
            (vec![("ipv4".to_owned(), 1_000)], "AmazonVPC")
        );
        assert_eq!(address.tags["backstop:agent"], "a");
        assert_eq!(address.parent, (n == 0).then(|| asset("instance", &machine)));
        is_for_a_person(address);
    }
    let asked = bench.asked().await;
    let mut asked = actions(&asked);
    asked.sort_unstable();
    assert_eq!(
        asked,
        ["DescribeAddresses", "DescribeNatGateways", "DescribeNetworkInterfaces"]
    );
}

/// Synthetic answers in the documented form.
#[tokio::test]
async fn an_address_is_counted_once_and_goes_with_its_holder() {
    const ELASTIC: &str = r#"<DescribeAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><addressesSet>
<item><publicIp>203.0.113.1</publicIp><allocationId>eipalloc-01</allocationId><domain>vpc</domain><instanceId>i-01</instanceId><publicIpv4Pool>amazon</publicIpv4Pool></item>
<item><publicIp>203.0.113.2</publicIp><allocationId>eipalloc-02</allocationId><domain>vpc</domain><publicIpv4Pool>ipv4pool-ec2-0abc</publicIpv4Pool></item>
</addressesSet></DescribeAddressesResponse>"#;
    const INTERFACES: &str = r#"<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><networkInterfaceSet>
<item><networkInterfaceId>eni-01</networkInterfaceId><attachment><instanceId>i-01</instanceId></attachment><association><publicIp>203.0.113.1</publicIp><allocationId>eipalloc-01</allocationId></association></item>
<item><networkInterfaceId>eni-02</networkInterfaceId><attachment><instanceId>i-02</instanceId><attachTime>2026-11-20T06:00:00.000Z</attachTime></attachment><association><publicIp>203.0.113.7</publicIp><ipOwnerId>amazon</ipOwnerId></association>
<privateIpAddressesSet><item><association><publicIp>203.0.113.7</publicIp><ipOwnerId>amazon</ipOwnerId></association></item><item><association><publicIp>203.0.113.8</publicIp><ipOwnerId>amazon</ipOwnerId></association></item></privateIpAddressesSet><tagSet><item><key>team</key><value>x</value></item></tagSet></item>
<item><networkInterfaceId>eni-03</networkInterfaceId><association><publicIp>203.0.113.9</publicIp><ipOwnerId>amazon-elb</ipOwnerId></association></item>
<item><networkInterfaceId>eni-04</networkInterfaceId></item>
</networkInterfaceSet></DescribeNetworkInterfacesResponse>"#;
    let bench = Bench::start().await;
    bench
        .proxy
        .inject(Rule::on("DescribeAddresses", Fault::Answer(ELASTIC)));
    bench
        .proxy
        .inject(Rule::on("DescribeNetworkInterfaces", Fault::Answer(INTERFACES)));
    let addresses = bench.assets("address").await;
    let told: Vec<(&str, usize, Option<&str>)> = addresses
        .values()
        .map(|one| {
            (
                one.what.id.as_str(),
                one.meters.len(),
                one.parent.as_ref().map(|parent| parent.id.as_str()),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("eipalloc-01", 1, Some("i-01")),
            // The account brought this one along.
            ("eipalloc-02", 0, None),
            ("eni-02", 1, Some("i-02")),
            ("eni-02/203.0.113.8", 1, Some("i-02")),
            ("eni-03", 1, None)
        ]
    );
    let given = &addresses["address:eu-central-1/eni-02"];
    assert!(given.tags["team"] == "x" && given.created_at.is_some());
}

#[tokio::test]
async fn balancers_of_both_generations_are_listed_over_all_pages() {
    use aws_sdk_elasticloadbalancing as v1;
    use aws_sdk_elasticloadbalancingv2 as v2;
    let bench = Bench::start().await;
    let newer = v2::Client::new(&bench.sdk());
    let classic = v1::Client::new(&bench.sdk());
    let subnet = subnet(&bench.account().ec2(REGION)).await;
    let tag = v2::types::Tag::builder().key("backstop:agent").value("a").build();
    for n in 0..22 {
        let kind = if n % 2 == 0 {
            v2::types::LoadBalancerTypeEnum::Network
        } else {
            v2::types::LoadBalancerTypeEnum::Application
        };
        let request = newer
            .create_load_balancer()
            .name(format!("lb-{n}"))
            .r#type(kind)
            .subnets(&subnet);
        request.tags(tag.clone()).send().await.expect("CreateLoadBalancer");
    }
    let listener = v1::types::Listener::builder()
        .protocol("HTTP")
        .load_balancer_port(80)
        .instance_port(80);
    let listener = listener.build().expect("a listener");
    let owner = v1::types::Tag::builder()
        .key("backstop:agent")
        .value("a")
        .build()
        .expect("a tag");
    for n in 0..6 {
        let request = classic.create_load_balancer().load_balancer_name(format!("lb-{n}"));
        let request = request
            .listeners(listener.clone())
            .availability_zones(format!("{REGION}a"));
        request.tags(owner.clone()).send().await.expect("CreateLoadBalancer");
    }
    let newer = bench.assets("balancer").await;
    assert_eq!(newer.len(), 22);
    let one = |rate: &str| vec![(rate.to_owned(), 1_000)];
    assert_eq!(meters(&newer["balancer:eu-central-1/lb-0"]), one("balancer/network"));
    assert_eq!(
        meters(&newer["balancer:eu-central-1/lb-1"]),
        one("balancer/application")
    );
    let asked = bench.asked().await;
    let count = |action: &str| asked.iter().filter(|one| one.action == action).count();
    assert_eq!((count("DescribeLoadBalancers"), count("DescribeTags")), (5, 2));
    let classic = bench.assets("classic-balancer").await;
    assert_eq!(classic.len(), 6, "of the other generation, and by the same names");
    assert_eq!(
        meters(&classic["classic-balancer:eu-central-1/lb-0"]),
        one("balancer/classic")
    );
    for asset in newer.values().chain(classic.values()) {
        assert_eq!(
            (asset.tags["backstop:agent"].as_str(), asset.service.as_ref()),
            ("a", "AWSELB")
        );
        is_for_a_person(asset);
    }
    let asked = bench.asked().await;
    let count = |action: &str| asked.iter().filter(|one| one.action == action).count();
    assert_eq!((count("DescribeLoadBalancers"), count("DescribeTags")), (2, 1));
}

#[tokio::test]
async fn the_health_of_machines_is_told_and_of_others_is_not_known() {
    let bench = Bench::start().await;
    let account = bench.account();
    let mut ids = account.instances(REGION, 130, &[]).await;
    let down = ids[3].clone();
    account
        .ec2(REGION)
        .stop_instances()
        .instance_ids(&down)
        .send()
        .await
        .expect("StopInstances");
    ids.push("i-0123456789abcdef0".to_owned());
    let health = bench.cloud.health(&region(), &ids).await.expect("it is told");
    assert_eq!(health.len(), 130);
    assert_eq!(health[&down], Health::Pending);
    assert_eq!(health.values().filter(|one| **one == Health::Passing).count(), 129);
    let mut asked = bench.asked().await;
    // Their groups are asked for as well, and these have none.
    let (groups, own) = (asked.len(), "DescribeInstanceStatus");
    asked.retain(|one| one.action == own);
    assert_eq!(groups - asked.len(), 3, "50 at a time");
    assert!(asked.iter().all(|one| one.params["IncludeAllInstances"] == "true"));
    assert!(asked.iter().all(|one| one.list("InstanceId").len() <= 100));
    assert!(asked.len() <= 1 + 2 * 6, "{}", asked.len());
    assert!(
        bench
            .cloud
            .health(&region(), &[])
            .await
            .expect("nothing is asked")
            .is_empty()
    );
}
