//! A cloud that takes the daemon down at a chosen change: before it reaches AWS, or after, when nobody
//! is left to hear the answer.
//!
//! The call at which the fuse blows never returns. The test waits for `blown` beside the driver and drops
//! the driver then, which is as near to `kill -9` as one process comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use backstop::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState, Simulated};
use backstop::domain::containment::target::{Principal, Region};
use backstop::domain::drill::predict::Limits;
use backstop::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use backstop::domain::fleet::rate::RateKey;
use backstop::domain::money::Usd;
use backstop::ports::Health;
use backstop::ports::{Asking, Cloud, CloudError, InstanceFilter, LookUp, Permission, Recorded};
use std::collections::BTreeMap;
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    Never,
    /// At the change of that number, counted from 1; it does not happen.
    Before(usize),
    /// It happens.
    After(usize),
}

pub struct Fuse {
    cloud: Arc<dyn Cloud>,
    blow: Blow,
    changes: AtomicUsize,
    blown: Notify,
}

impl Fuse {
    pub fn new(cloud: Arc<dyn Cloud>, blow: Blow) -> Self {
        Self {
            cloud,
            blow,
            changes: AtomicUsize::new(0),
            blown: Notify::new(),
        }
    }

    /// Until the fuse blows.
    pub async fn blown(&self) {
        self.blown.notified().await;
    }

    /// Changes that were asked for.
    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    async fn change<T>(&self, call: impl Future<Output = Result<T, CloudError>> + Send) -> Result<T, CloudError> {
        let number = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        match self.blow {
            Blow::Before(at) if at == number => {}
            Blow::After(at) if at == number => {
                let _ = call.await;
            }
            _ => return call.await,
        }
        self.blown.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Cloud for Fuse {
    async fn identity(&self) -> Result<Identity, CloudError> {
        self.cloud.identity().await
    }
    async fn credentials_mark(&self) -> Option<String> {
        self.cloud.credentials_mark().await
    }
    async fn regions(&self) -> Result<Vec<Region>, CloudError> {
        self.cloud.regions().await
    }
    async fn instances(&self, region: &Region, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        self.cloud.instances(region, filter).await
    }
    async fn stop_protection(&self, region: &Region, instance: &str) -> Result<bool, CloudError> {
        self.cloud.stop_protection(region, instance).await
    }
    async fn principal(&self, principal: &Principal, policy_name: &str) -> Result<PrincipalState, CloudError> {
        self.cloud.principal(principal, policy_name).await
    }
    async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        self.cloud.trusting(principals).await
    }
    async fn may_stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.cloud.may_stop(region, ids).await
    }
    async fn inline_chars(&self, principal: &Principal, policy_name: &str) -> Result<usize, CloudError> {
        self.cloud.inline_chars(principal, policy_name).await
    }
    async fn put_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError> {
        self.change(self.cloud.put_deny(principal, policy_name, document)).await
    }
    async fn delete_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError> {
        self.change(self.cloud.delete_deny(principal, policy_name)).await
    }
    async fn set_access_key(&self, user: &str, key_id: &str, active: bool) -> Result<(), CloudError> {
        self.change(self.cloud.set_access_key(user, key_id, active)).await
    }
    async fn stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.change(self.cloud.stop(region, ids)).await
    }
    async fn start(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.change(self.cloud.start(region, ids)).await
    }
    async fn terminate(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.change(self.cloud.terminate(region, ids)).await
    }

    async fn attach_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError> {
        self.change(self.cloud.attach_deny(principal, policy_name, document))
            .await
    }

    async fn detach_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError> {
        self.change(self.cloud.detach_deny(principal, policy_name)).await
    }

    async fn set_service_credential(&self, user: &str, id: &str, active: bool) -> Result<(), CloudError> {
        self.change(self.cloud.set_service_credential(user, id, active)).await
    }

    async fn simulate(&self, principal: &Principal, actions: &[String]) -> Result<Vec<Simulated>, CloudError> {
        self.cloud.simulate(principal, actions).await
    }

    fn limits(&self) -> Limits {
        self.cloud.limits()
    }

    fn permission(&self, us: &str, asking: &Asking<'_>) -> Option<Permission> {
        self.cloud.permission(us, asking)
    }

    async fn simulate_each(&self, us: &str, asked: &[Permission]) -> Result<Vec<Option<bool>>, CloudError> {
        self.cloud.simulate_each(us, asked).await
    }

    async fn health(&self, region: &Region, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        self.cloud.health(region, ids).await
    }

    fn kinds(&self) -> Vec<Kind> {
        self.cloud.kinds()
    }

    async fn assets(&self, region: &Region, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        self.cloud.assets(region, kind).await
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        self.change(self.cloud.put_settings(asset, settings)).await
    }

    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError> {
        self.change(self.cloud.end(asset)).await
    }

    async fn creations(&self, region: &Region, wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        self.cloud.creations(region, wanted).await
    }

    async fn list_prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        self.cloud.list_prices(region, rates).await
    }
}
