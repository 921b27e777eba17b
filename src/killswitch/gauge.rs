//! The cloud as a drill has it: it can be looked at and asked, and not changed.
//!
//! A drill goes through the same code as a containment, so what keeps it from changing anything must not be
//! that code's good will. This handle answers every look, counts and times it, and refuses every call that
//! would change something: there is none in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState, Simulated};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::drill::predict::{Limits, Tempo};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;
use crate::ports::{Asking, Clock, Cloud, CloudError, Health, InstanceFilter, LookUp, Permission, Recorded, Retry};

/// What was counted and timed.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// Calls by operation.
    pub calls: BTreeMap<String, u64>,
    /// IAM's calls.
    pub iam: Tempo,
    /// Calls to each region.
    pub regions: BTreeMap<Region, Tempo>,
}

pub(super) struct Gauge {
    cloud: Arc<dyn Cloud>,
    clock: Arc<dyn Clock>,
    measured: Mutex<Measured>,
}

/// Whose limits a call counts towards.
enum Class<'a> {
    Iam,
    Region(&'a Region),
    Other,
}

impl Gauge {
    pub fn new(cloud: Arc<dyn Cloud>, clock: Arc<dyn Clock>) -> Self {
        Self {
            cloud,
            clock,
            measured: Mutex::default(),
        }
    }

    pub fn measured(&self) -> Measured {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look<T>(
        &self,
        operation: &str,
        class: Class<'_>,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, CloudError> {
        let began = self.clock.monotonic();
        let answer = call.await;
        let took = self.clock.monotonic().saturating_sub(began);
        let mut measured = self.locked();
        *measured.calls.entry(operation.to_owned()).or_default() += 1;
        match class {
            Class::Iam => measured.iam.add(took),
            Class::Region(region) => measured.regions.entry(region.clone()).or_default().add(took),
            Class::Other => {}
        }
        answer
    }
}

fn refused<T>(operation: &'static str) -> Result<T, CloudError> {
    Err(CloudError {
        operation,
        region: None,
        code: None,
        message: "a drill changes nothing".to_owned(),
        retry: Retry::Never,
        source: None,
    })
}

#[async_trait]
impl Cloud for Gauge {
    async fn identity(&self) -> Result<Identity, CloudError> {
        let call = self.cloud.identity();
        self.look("sts:GetCallerIdentity", Class::Other, call).await
    }
    async fn credentials_mark(&self) -> Option<String> {
        self.cloud.credentials_mark().await
    }
    async fn regions(&self) -> Result<Vec<Region>, CloudError> {
        let call = self.cloud.regions();
        self.look("ec2:DescribeRegions", Class::Other, call).await
    }
    async fn instances(&self, region: &Region, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        let call = self.cloud.instances(region, filter);
        self.look("ec2:DescribeInstances", Class::Region(region), call).await
    }
    async fn stop_protection(&self, region: &Region, instance: &str) -> Result<bool, CloudError> {
        let call = self.cloud.stop_protection(region, instance);
        self.look("ec2:DescribeInstanceAttribute", Class::Region(region), call)
            .await
    }
    async fn principal(&self, principal: &Principal, policy_name: &str) -> Result<PrincipalState, CloudError> {
        let call = self.cloud.principal(principal, policy_name);
        self.look("the look at a role or user (iam:Get*, iam:List*)", Class::Iam, call)
            .await
    }
    async fn inline_chars(&self, principal: &Principal, policy_name: &str) -> Result<usize, CloudError> {
        let call = self.cloud.inline_chars(principal, policy_name);
        self.look(
            "the room for a deny (iam:List*Policies, iam:Get*Policy)",
            Class::Iam,
            call,
        )
        .await
    }
    async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        let call = self.cloud.trusting(principals);
        self.look("iam:ListRoles", Class::Other, call).await
    }
    async fn simulate(&self, principal: &Principal, actions: &[String]) -> Result<Vec<Simulated>, CloudError> {
        let call = self.cloud.simulate(principal, actions);
        self.look("iam:SimulatePrincipalPolicy", Class::Iam, call).await
    }
    async fn may_stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        let call = self.cloud.may_stop(region, ids);
        self.look("ec2:StopInstances (DryRun)", Class::Region(region), call)
            .await
    }
    async fn health(&self, region: &Region, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        let call = self.cloud.health(region, ids);
        self.look("ec2:DescribeInstanceStatus", Class::Region(region), call)
            .await
    }
    fn limits(&self) -> Limits {
        self.cloud.limits()
    }
    fn permission(&self, us: &str, asking: &Asking<'_>) -> Option<Permission> {
        self.cloud.permission(us, asking)
    }
    async fn simulate_each(&self, us: &str, asked: &[Permission]) -> Result<Vec<Option<bool>>, CloudError> {
        let call = self.cloud.simulate_each(us, asked);
        self.look("iam:SimulatePrincipalPolicy", Class::Other, call).await
    }
    fn kinds(&self) -> Vec<Kind> {
        self.cloud.kinds()
    }
    async fn assets(&self, region: &Region, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let call = self.cloud.assets(region, kind);
        let operation = format!("the listing of every {kind}");
        self.look(&operation, Class::Region(region), call).await
    }
    async fn creations(&self, region: &Region, wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        let call = self.cloud.creations(region, wanted);
        self.look("cloudtrail:LookupEvents", Class::Other, call).await
    }
    async fn list_prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        let call = self.cloud.list_prices(region, rates);
        self.look("pricing:GetProducts", Class::Other, call).await
    }

    // --- what would change something ----------------------------------------------------------------
    async fn put_deny(&self, _: &Principal, _: &str, _: &str) -> Result<(), CloudError> {
        refused("the deny")
    }
    async fn delete_deny(&self, _: &Principal, _: &str) -> Result<(), CloudError> {
        refused("the lifting of a deny")
    }
    async fn attach_deny(&self, _: &Principal, _: &str, _: &str) -> Result<(), CloudError> {
        refused("the attached deny")
    }
    async fn detach_deny(&self, _: &Principal, _: &str) -> Result<(), CloudError> {
        refused("the detaching of a deny")
    }
    async fn set_service_credential(&self, _: &str, _: &str, _: bool) -> Result<(), CloudError> {
        refused("the change of a credential")
    }
    async fn set_access_key(&self, _: &str, _: &str, _: bool) -> Result<(), CloudError> {
        refused("the change of a key")
    }
    async fn stop(&self, _: &Region, _: &[String]) -> Result<BatchResult, CloudError> {
        refused("ec2:StopInstances")
    }
    async fn start(&self, _: &Region, _: &[String]) -> Result<BatchResult, CloudError> {
        refused("ec2:StartInstances")
    }
    async fn terminate(&self, _: &Region, _: &[String]) -> Result<BatchResult, CloudError> {
        refused("ec2:TerminateInstances")
    }
    async fn put_settings(&self, _: &AssetRef, _: &Settings) -> Result<(), CloudError> {
        refused("the change of settings")
    }
    async fn end(&self, _: &AssetRef) -> Result<(), CloudError> {
        refused("the end of an asset")
    }
}
