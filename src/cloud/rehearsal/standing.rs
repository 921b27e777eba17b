//! What costs as it stands, and ends only by deletion: volumes, gateways, addresses.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bill::Bill;
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
}

impl StandingSpec {
    fn new(kind: Kind, region: &str, id: &str, meter: Meter, how: &'static str) -> Self {
        Self {
            what: AssetRef {
                kind,
                region: Region(region.to_owned()),
                id: id.to_owned(),
            },
            tags: BTreeMap::new(),
            meters: vec![meter],
            how: how.into(),
        }
    }

    pub fn volume(region: &str, id: &str, gib: u64) -> Self {
        let meter = Meter::of("ebs/gp3", gib.saturating_mul(1_000));
        Self::new(Kind::named("volume"), region, id, meter, "snapshot it and delete it")
    }

    pub fn nat(region: &str, id: &str) -> Self {
        let how = "delete it; private subnets lose their way out";
        Self::new(Kind::named("nat"), region, id, Meter::one("nat"), how)
    }

    pub fn address(region: &str, id: &str) -> Self {
        let how = "release it; the address cannot be had again";
        Self::new(Kind::named("address"), region, id, Meter::one("ipv4"), how)
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
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
            service: "AmazonEC2".into(),
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
