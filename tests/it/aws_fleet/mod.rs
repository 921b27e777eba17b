//! The fleet's services by the real SDK: every kind listed over all its pages, capped, uncapped and ended.
//!
//! What the emulator shows is asked of it. What it cannot (CloudTrail look-ups, the price list, provisioned
//! concurrency, pages of ECS) is answered by a synthetic answer in the documented form, and the exact
//! request is asserted. Every request of every test is held against AWS's own models.

mod calls;
mod functions;
mod groups;
mod prices;
mod record;
mod tasks;
mod things;

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::target::Region;
use backstop::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use backstop::ports::Cloud as _;

use crate::aws_requests::problems;
use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Asked, FaultProxy};
use crate::harness::moto::{Keys, Moto};

const REGION: &str = "eu-central-1";

/// An account with our adapter before it, behind a proxy.
struct Bench {
    moto: Moto,
    proxy: FaultProxy,
    cloud: Aws,
}

impl Bench {
    /// With the smallest pages.
    async fn start() -> Self {
        Self::with_page(5).await
    }

    async fn with_page(page: u16) -> Self {
        let moto = Moto::start().await;
        let proxy = FaultProxy::start(moto.endpoint()).await;
        let settings = AwsSettings {
            endpoint_url: Some(proxy.endpoint()),
            page,
            ..patient()
        };
        let cloud = Aws::new(moto.sdk(&Keys::any(), REGION), settings);
        Self { moto, proxy, cloud }
    }

    /// For the account's own clients, past the proxy.
    fn sdk(&self) -> SdkConfig {
        self.moto.sdk(&Keys::any(), REGION)
    }

    fn account(&self) -> Account<'_> {
        Account::new(&self.moto, &Keys::any())
    }

    /// Every asset of a kind by its stable id.
    async fn assets(&self, kind: &'static str) -> BTreeMap<String, Asset> {
        let found = self.cloud.assets(&region(), &Kind::named(kind)).await;
        let found = found.expect("they are listed");
        let count = found.len();
        let found: BTreeMap<_, _> = found.into_iter().map(|one| (one.what.to_string(), one)).collect();
        assert_eq!(found.len(), count, "nothing is listed twice");
        found
    }

    /// What was asked, each of it valid; the actions in order.
    async fn asked(&self) -> Vec<Asked> {
        let asked = self.proxy.take_asked();
        assert_eq!(problems(&asked).await, Vec::<String>::new());
        assert!(asked.iter().all(|one| one.region == REGION || one.service == "iam"));
        asked
    }
}

fn region() -> Region {
    Region(REGION.to_owned())
}

fn asset(kind: &'static str, id: &str) -> AssetRef {
    AssetRef {
        kind: Kind::named(kind),
        region: region(),
        id: id.to_owned(),
    }
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn actions(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|one| one.action.as_str()).collect()
}

fn meters(asset: &Asset) -> Vec<(String, u64)> {
    let meters = asset.meters.iter();
    meters.map(|meter| (meter.rate.0.clone(), meter.thousandths)).collect()
}
