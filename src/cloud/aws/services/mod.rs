//! Everything that costs money or starts what does, but for instances: one file a service.
//!
//! A service says which kinds of assets it knows, lists them, and where they can be halted brings their
//! settings to what they should be or ends them. A new service is a file here and one line in
//! [`REGISTRY`]; nothing else learns its name.
//!
//! Each has clients of its own in each region, made at first use, and its own bounds on looks and changes in flight:
//! a listing that takes a thousand calls never keeps a cap waiting. Looks are repeated by the SDK, a change is
//! attempted once (see [`super`]), and it is safe to make twice, as it says what should be and not what to add.
//! What is gone when it should be changed is fine: it can spend nothing any more.
//!
//! What must never happen here: a listing that is cut short and looks whole. So every list is read to its
//! end, and one without an end is an error.

mod address;
mod autoscaling;
mod balancers;
mod ebs;
mod ecs;
mod lambda;
#[cfg(test)]
mod meters;
mod nat;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_smithy_types::DateTime;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ec2::Ec2;
use super::error::Call;
use super::permission::Home;
use crate::domain::containment::state::Action;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::ports::{CloudError, Health};

/// The services, one a line.
const REGISTRY: &[Entry] = &[
    entry::<autoscaling::AutoScaling>(),
    entry::<ecs::Ecs>(),
    entry::<lambda::Lambda>(),
    entry::<ebs::Volumes>(),
    entry::<nat::NatGateways>(),
    entry::<address::Addresses>(),
    entry::<balancers::Balancers>(),
];

/// Between paced calls: Lambda's are, and no other service's changes.
pub(super) const LAMBDA_GAP: Duration = lambda::GAP;

/// Pages of one list. The smallest pages have 50 entries, and no account is allowed a quarter of a million
/// of anything that is listed here.
const MAX_PAGES: usize = 5_000;

/// One service in one region.
#[async_trait]
pub(super) trait Service: fmt::Debug + Send + Sync {
    /// Every asset of a kind, whoever's it is.
    async fn list(&self, kind: &Kind) -> Result<Vec<Asset>, CloudError>;

    /// Brings these settings to these values and leaves its others alone.
    async fn put_settings(&self, asset: &AssetRef, _settings: &Settings) -> Result<(), CloudError> {
        Err(unsuited(
            "the change of settings",
            asset,
            "has no settings that halt it",
        ))
    }

    /// What it thinks of these machines. Of one that it does not mention it has no opinion.
    async fn health(&self, _machines: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        Ok(BTreeMap::new())
    }

    /// Ends it for good.
    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError> {
        Err(unsuited(
            "the end of an asset",
            asset,
            "is not ended by the kill switch",
        ))
    }
}

/// What the registry needs to know of a service before there is one.
trait Offered: Service + Sized + 'static {
    const KINDS: &'static [Kind];

    fn new(place: Place) -> Self;

    /// The permission that a change needs, and the ARN of what it is about.
    fn permission(_action: Action, _home: Home<'_>, _asset: &AssetRef) -> Option<(&'static str, String)> {
        None
    }
}

#[derive(Clone, Copy)]
struct Entry {
    kinds: &'static [Kind],
    make: fn(Place) -> Arc<dyn Service>,
    permission: fn(Action, Home<'_>, &AssetRef) -> Option<(&'static str, String)>,
}

const fn entry<S: Offered>() -> Entry {
    Entry {
        kinds: S::KINDS,
        make: |place| Arc::new(S::new(place)),
        permission: S::permission,
    }
}

/// The kinds of assets that the registry knows.
pub(super) fn kinds() -> Vec<Kind> {
    REGISTRY.iter().flat_map(|entry| entry.kinds).cloned().collect()
}

/// The permission that a change of an asset needs, and the asset's ARN.
pub(super) fn permission(action: Action, home: Home<'_>, asset: &AssetRef) -> Option<(&'static str, String)> {
    let entry = REGISTRY.iter().find(|entry| entry.kinds.contains(&asset.kind))?;
    (entry.permission)(action, home, asset)
}

/// The services that were used so far, by region and their place in the registry.
#[derive(Debug, Default)]
pub(super) struct Services(Mutex<BTreeMap<(Region, usize), Arc<dyn Service>>>);

impl Services {
    /// The service that knows a kind, with clients for a region; `place` is asked for at its first use.
    pub(super) fn of(&self, kind: &Kind, region: &Region, place: impl FnOnce() -> Place) -> Option<Arc<dyn Service>> {
        let at = REGISTRY.iter().position(|entry| entry.kinds.contains(kind))?;
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let service = made
            .entry((region.clone(), at))
            .or_insert_with(|| (REGISTRY[at].make)(place()));
        Some(Arc::clone(service))
    }
}

/// Where a service is asked, and how much at once.
#[derive(Debug)]
pub(super) struct Place {
    sdk: SdkConfig,
    region: Region,
    /// For the services that are part of EC2.
    ec2: Arc<Ec2>,
    parallel: usize,
    page: u16,
    looks: Semaphore,
    changes: Semaphore,
}

impl Place {
    pub(super) fn new(sdk: &SdkConfig, region: &Region, ec2: Arc<Ec2>, parallel: usize, page: u16) -> Self {
        let parallel = parallel.max(1);
        let here = sdk.clone().into_builder();
        Self {
            sdk: here.region(aws_config::Region::new(region.0.clone())).build(),
            region: region.clone(),
            ec2,
            parallel,
            page,
            looks: Semaphore::new(parallel),
            changes: Semaphore::new(parallel),
        }
    }

    fn read(&self, operation: &'static str) -> Call {
        Call::read(operation).within(&self.region)
    }

    fn change(&self, operation: &'static str) -> Call {
        Call::change(operation).within(&self.region)
    }

    /// A place among the looks in flight; it is waited for no longer than those calls take.
    async fn look(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes this semaphore; if somebody did, the bound would be gone, not the look.
        self.looks.acquire().await.ok()
    }

    /// A place among the changes in flight.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.changes.acquire().await.ok()
    }

    /// Entries of a page, where the service gives at most `most`.
    fn page(&self, most: u16) -> i32 {
        i32::from(self.page.clamp(1, most))
    }

    fn asset(&self, kind: &Kind, id: impl Into<String>) -> AssetRef {
        AssetRef {
            kind: kind.clone(),
            region: self.region.clone(),
            id: id.into(),
        }
    }

    /// The service's name in the SDK's budgets of repetitions, which are one a partition: a region that
    /// fails spends its own.
    fn partition(&self, service: &str) -> String {
        format!("{service}-{}", self.region)
    }
}

/// One page of a list and the token of the next.
type Page<T> = Result<(Vec<T>, Option<String>), CloudError>;

/// Reads a list to its end.
async fn pages<T, F>(call: &Call, page: impl Fn(Option<String>) -> F) -> Result<Vec<T>, CloudError>
where
    F: Future<Output = Page<T>>,
{
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let (more, next) = page(token.clone()).await?;
        all.extend(more);
        match next.filter(|next| !next.is_empty()) {
            None => return Ok(all),
            same if same == token => return Err(call.nonsense("the list's next page is the same page")),
            next => token = next,
        }
    }
    Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
}

fn unsuited(operation: &'static str, asset: &AssetRef, why: &str) -> CloudError {
    let call = Call::change(operation).within(&asset.region);
    call.refusal("Unsuited", format!("{asset} {why}"))
}

/// Tags as a map, where the service gives them as pairs.
fn tags(pairs: impl Iterator<Item = (Option<String>, Option<String>)>) -> BTreeMap<String, String> {
    pairs
        .filter_map(|(key, value)| Some((key?, value.unwrap_or_default())))
        .collect()
}

fn timestamp(at: Option<DateTime>) -> Option<Timestamp> {
    let at = at?;
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).unwrap_or(0)).ok()
}

/// `count` thousandths per unit, rounded up: `per` of them are one unit of the rate.
fn thousandths(count: u64, per: u64) -> u64 {
    count.saturating_mul(1_000).div_ceil(per)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_kind_has_one_service_and_a_name_of_its_own() {
        let all = kinds();
        let distinct: BTreeSet<&Kind> = all.iter().collect();
        assert_eq!(all.len(), distinct.len());
        assert!(!all.contains(&Kind::INSTANCE), "instances have calls of their own");
        let names: Vec<&str> = all.iter().map(Kind::as_str).collect();
        assert_eq!(
            names,
            [
                "group",
                "ecs-service",
                "ecs-task",
                "function",
                "volume",
                "nat",
                "address",
                "balancer",
                "classic-balancer"
            ]
        );
        let choice: BTreeSet<&Kind> = Kind::CHOICE.iter().collect();
        assert_eq!(distinct, choice, "a config can name each");
    }

    #[tokio::test]
    async fn a_list_without_an_end_is_an_error() {
        let call = Call::read("ec2:DescribeVolumes");
        let asked = AtomicUsize::new(0);
        let endless = pages(&call, |_| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            async move { Ok((vec![n], Some(n.to_string()))) }
        });
        let told = endless.await.expect_err("it never ends");
        assert!(told.message.contains("does not end"), "{told}");
        assert_eq!(asked.load(Ordering::Relaxed), MAX_PAGES);

        let stuck = pages(&call, |_| async { Ok((vec![1], Some("again".to_owned()))) });
        let told = stuck.await.expect_err("it is the same page");
        assert!(told.message.contains("same page"), "{told}");

        let ends = pages(&call, |token| async move {
            match token.as_deref() {
                None => Ok((vec![1, 2], Some("b".to_owned()))),
                Some("b") => Ok((vec![3], Some(String::new()))),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(ends.await.expect("it ends"), [1, 2, 3]);
    }

    #[test]
    fn parts_of_a_unit_are_rounded_up() {
        assert_eq!(thousandths(256, 1_024), 250);
        assert_eq!(thousandths(1, 1_024), 1);
        assert_eq!(thousandths(0, 1_024), 0);
        assert_eq!(thousandths(8, 1), 8_000);
        assert_eq!(thousandths(u64::MAX, 1), u64::MAX);
    }
}
