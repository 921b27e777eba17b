//! Public IPv4 addresses: each is charged for by the hour, in use or idle (VPC pricing, since 2024-02-01,
//! read 2026-11-20).
//!
//! There are two sorts. An Elastic IP is the account's until it is released, and is listed by
//! `DescribeAddresses` whether anything uses it or not. Any other public address belongs to the network
//! interface that it was given to (a machine's, a Fargate task's, a balancer's), is named after that, and
//! goes with it. An interface that bears an Elastic IP is not counted a second time. Addresses that the
//! account brought along, and those of a carrier or an Outpost, are free of this charge.

use std::borrow::Cow;
use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_ec2::types::{Address, NetworkInterface};

use super::{Offered, Place, Service, pages, tags, timestamp};
use crate::domain::fleet::asset::{Asset, Brake, Kind};
use crate::domain::fleet::rate::Meter;
use crate::ports::CloudError;

const ADDRESS: Kind = Kind::named("address");

const RELEASE: &str = "release it; the same address cannot be had back";
const WITH_ITS_HOLDER: &str = "it goes with what holds it: stop or delete that";

#[derive(Debug)]
pub(super) struct Addresses {
    place: Place,
}

impl Offered for Addresses {
    const KINDS: &'static [Kind] = &[ADDRESS];

    fn new(place: Place) -> Self {
        Self { place }
    }
}

#[async_trait]
impl Service for Addresses {
    async fn list(&self, _kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let (elastic, interfaces) = tokio::try_join!(self.elastic(), self.interfaces())?;
        Ok(assets(&self.place, elastic, interfaces))
    }
}

impl Addresses {
    /// This list has no pages.
    async fn elastic(&self) -> Result<Vec<Address>, CloudError> {
        let call = self.place.read("ec2:DescribeAddresses");
        let _permit = self.place.look().await;
        let answer = self.place.ec2.looks().describe_addresses().send().await;
        let answer = answer.map_err(|e| call.failed(e))?;
        Ok(answer.addresses.unwrap_or_default())
    }

    async fn interfaces(&self) -> Result<Vec<NetworkInterface>, CloudError> {
        let call = self.place.read("ec2:DescribeNetworkInterfaces");
        let size = self.place.page(1_000).max(5);
        let list = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.place.ec2.looks().describe_network_interfaces();
            let request = request.max_results(size).set_next_token(token);
            let page = request.send().await.map_err(|e| call.failed(e))?;
            Ok((page.network_interfaces.unwrap_or_default(), page.next_token))
        });
        list.await
    }
}

fn assets(place: &Place, elastic: Vec<Address>, interfaces: Vec<NetworkInterface>) -> Vec<Asset> {
    let ips: BTreeSet<String> = elastic.iter().filter_map(|one| one.public_ip.clone()).collect();
    let mut assets: Vec<Asset> = elastic.into_iter().filter_map(|one| of_elastic(place, one)).collect();
    for interface in interfaces {
        assets.extend(of_interface(place, interface, &ips));
    }
    assets
}

fn asset(place: &Place, id: String, parent: Option<String>, how: &'static str) -> Asset {
    Asset {
        what: place.asset(&ADDRESS, id),
        service: Cow::Borrowed("AmazonVPC"),
        tags: Default::default(),
        acts_as: Vec::new(),
        unread: None,
        parent: parent.map(|instance| place.asset(&Kind::INSTANCE, instance)),
        created_at: None,
        meters: vec![Meter::one("ipv4")],
        brake: Brake::Deletion { how: how.into() },
    }
}

fn of_elastic(place: &Place, address: Address) -> Option<Asset> {
    let is_amazons = address.public_ipv4_pool.as_deref().is_none_or(|pool| pool == "amazon");
    let id = address.allocation_id.or_else(|| address.public_ip.clone())?;
    let holder = address.instance_id.filter(|id| !id.is_empty());
    let mut asset = asset(place, id, holder, RELEASE);
    asset.tags = tags(
        address
            .tags
            .unwrap_or_default()
            .into_iter()
            .map(|tag| (tag.key, tag.value)),
    );
    if !is_amazons || address.carrier_ip.is_some() || address.customer_owned_ip.is_some() {
        asset.meters.clear();
    }
    Some(asset)
}

/// The addresses of an interface that are no Elastic IPs. It has one name, so each further one of its
/// addresses is named with the address.
fn of_interface(place: &Place, interface: NetworkInterface, elastic: &BTreeSet<String>) -> Vec<Asset> {
    let Some(id) = interface.network_interface_id else {
        return Vec::new();
    };
    let secondary = interface.private_ip_addresses.unwrap_or_default();
    let all = secondary.into_iter().filter_map(|one| one.association);
    let all = interface.association.into_iter().chain(all);
    let ips: BTreeSet<String> = all
        .filter(|one| one.allocation_id.is_none() && one.carrier_ip.is_none() && one.customer_owned_ip.is_none())
        .filter_map(|one| one.public_ip)
        .filter(|ip| !ip.is_empty() && !elastic.contains(ip))
        .collect();
    let attachment = interface.attachment;
    let since = timestamp(attachment.as_ref().and_then(|one| one.attach_time));
    let holder = attachment.and_then(|one| one.instance_id);
    let tags = tags(
        interface
            .tag_set
            .unwrap_or_default()
            .into_iter()
            .map(|tag| (tag.key, tag.value)),
    );
    let numbered = ips.into_iter().enumerate().map(|(n, ip)| {
        let name = if n == 0 { id.clone() } else { format!("{id}/{ip}") };
        let mut asset = asset(place, name, holder.clone(), WITH_ITS_HOLDER);
        asset.tags.clone_from(&tags);
        asset.created_at = since;
        asset
    });
    numbered.collect()
}
