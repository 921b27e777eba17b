//! What costs as it stands, and ends only by deletion: volumes, gateways, addresses, load balancers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::bill::Bill;
use super::world::World;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};
use crate::domain::fleet::rate::Meter;

#[derive(Debug, Clone)]
pub struct StandingSpec {
    pub what: AssetRef,
    pub tags: BTreeMap<String, String>,
    pub meters: Vec<Meter>,
    /// What a person would have to do.
    pub how: Cow<'static, str>,
    /// The call that makes one.
    pub call: &'static str,
    /// Under which it is billed.
    pub service: &'static str,
}

impl StandingSpec {
    fn new(kind: Kind, region: &str, id: &str, meter: Meter, how: &'static str, call: &'static str) -> Self {
        Self {
            what: AssetRef {
                kind,
                region: Region(region.to_owned()),
                id: id.to_owned(),
            },
            tags: BTreeMap::new(),
            meters: vec![meter],
            how: how.into(),
            call,
            service: "AmazonEC2",
        }
    }

    pub fn volume(region: &str, id: &str, gib: u64) -> Self {
        let meter = Meter::of("ebs/gp3", gib.saturating_mul(1_000));
        Self::new(
            Kind::named("volume"),
            region,
            id,
            meter,
            "snapshot it and delete it",
            "CreateVolume",
        )
    }

    pub fn nat(region: &str, id: &str) -> Self {
        let how = "delete it; private subnets lose their way out";
        Self::new(
            Kind::named("nat"),
            region,
            id,
            Meter::one("nat"),
            how,
            "CreateNatGateway",
        )
    }

    pub fn address(region: &str, id: &str) -> Self {
        let how = "release it; the address cannot be had again";
        Self::new(
            Kind::named("address"),
            region,
            id,
            Meter::one("ipv4"),
            how,
            "AllocateAddress",
        )
    }

    /// An application load balancer without any traffic.
    pub fn balancer(region: &str, id: &str) -> Self {
        let meter = Meter::one("balancer/application");
        let how = "delete it; what it serves is not reached any more";
        Self {
            service: "AWSELB",
            ..Self::new(Kind::named("balancer"), region, id, meter, how, "CreateLoadBalancer")
        }
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl World {
    pub fn add_standing(&mut self, spec: StandingSpec, now: Timestamp) -> AssetRef {
        let what = spec.what.clone();
        let mut bill = Bill::of(self.hourly(&spec.meters));
        bill.turn(true, now);
        self.standing.insert(what.clone(), Standing { spec, bill });
        what
    }
}

pub(super) struct Standing {
    pub spec: StandingSpec,
    pub bill: Bill,
}

impl Standing {
    pub fn asset(&self) -> Asset {
        Asset {
            what: self.spec.what.clone(),
            service: self.spec.service.into(),
            tags: self.spec.tags.clone(),
            acts_as: Vec::new(),
            unread: None,
            parent: None,
            created_at: None,
            meters: self.spec.meters.clone(),
            brake: Brake::Deletion {
                how: self.spec.how.clone(),
            },
        }
    }
}
