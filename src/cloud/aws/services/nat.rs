//! NAT gateways: charged for by the hour for as long as they exist.
//!
//! One in the regional mode is one gateway with a charge for each zone that it spans, at a rate of its own
//! (VPC pricing and `RegionalNatGateway-Hours` in the price list, read 2026-11-20). Its addresses are
//! [listed by themselves](super::address).

use std::borrow::Cow;
use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_ec2::types::{AvailabilityMode, NatGateway, NatGatewayState};

use super::{Offered, Place, Service, pages, tags, thousandths, timestamp};
use crate::domain::fleet::asset::{Asset, Brake, Kind};
use crate::domain::fleet::rate::Meter;
use crate::ports::CloudError;

pub(super) const NAT: Kind = Kind::named("nat");

const HOW: &str = "delete it once nothing routes through it";

#[derive(Debug)]
pub(super) struct NatGateways {
    place: Place,
}

impl Offered for NatGateways {
    const KINDS: &'static [Kind] = &[NAT];

    fn new(place: Place) -> Self {
        Self { place }
    }
}

#[async_trait]
impl Service for NatGateways {
    async fn list(&self, _kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let call = self.place.read("ec2:DescribeNatGateways");
        let size = self.place.page(1_000).max(5);
        let gateways = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.place.ec2.looks().describe_nat_gateways().max_results(size);
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.nat_gateways.unwrap_or_default(), page.next_token))
        });
        let gateways = gateways.await?.into_iter();
        Ok(gateways.filter_map(|gateway| asset(&self.place, gateway)).collect())
    }
}

/// `None` for one that is gone, which EC2 goes on listing for an hour, or never came to be.
fn asset(place: &Place, gateway: NatGateway) -> Option<Asset> {
    if matches!(gateway.state, Some(NatGatewayState::Deleted | NatGatewayState::Failed)) {
        return None;
    }
    let meter = meter(&gateway);
    Some(Asset {
        what: place.asset(&NAT, gateway.nat_gateway_id?),
        service: Cow::Borrowed("AmazonEC2"),
        tags: tags(
            gateway
                .tags
                .unwrap_or_default()
                .into_iter()
                .map(|tag| (tag.key, tag.value)),
        ),
        acts_as: Vec::new(),
        unread: None,
        parent: None,
        created_at: timestamp(gateway.create_time),
        meters: vec![meter],
        brake: Brake::Deletion { how: HOW.into() },
    })
}

fn meter(gateway: &NatGateway) -> Meter {
    if gateway.availability_mode != Some(AvailabilityMode::Regional) {
        return Meter::one("nat");
    }
    let zones = gateway.nat_gateway_addresses();
    let zones: BTreeSet<&str> = zones
        .iter()
        .filter_map(|address| address.availability_zone_id().or(address.availability_zone()))
        .collect();
    // One that does not say where it is is somewhere.
    Meter::of("nat/regional", thousandths(zones.len().max(1) as u64, 1))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::NatGatewayAddress;

    use super::*;

    #[test]
    fn a_regional_gateway_is_charged_for_in_each_of_its_zones() {
        let at = |zone: &str| NatGatewayAddress::builder().availability_zone_id(zone).build();
        let zonal = NatGateway::builder().nat_gateway_addresses(at("euw1-az1")).build();
        assert_eq!(meter(&zonal), Meter::one("nat"));
        let regional = NatGateway::builder().availability_mode(AvailabilityMode::Regional);
        assert_eq!(meter(&regional.clone().build()), Meter::one("nat/regional"));
        let spread = regional
            .nat_gateway_addresses(at("euw1-az1"))
            .nat_gateway_addresses(at("euw1-az2"))
            .nat_gateway_addresses(at("euw1-az1"));
        assert_eq!(meter(&spread.build()), Meter::of("nat/regional", 2_000));
    }
}
