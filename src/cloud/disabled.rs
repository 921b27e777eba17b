//! The cloud of a daemon that was not given one (`aws.enabled = false`).
//!
//! Every call fails and says why. An agent that declares a cloud side is then never reported as
//! *contained*: what cannot be observed is *still burning* (C3), and its coverage names the setting.

use async_trait::async_trait;

use crate::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState, Simulated};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;
use crate::ports::Health;
use crate::ports::{Cloud, CloudError, InstanceFilter, LookUp, Recorded, Retry};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct DisabledCloud;

fn disabled<T>(operation: &'static str) -> Result<T, CloudError> {
    Err(CloudError {
        operation,
        region: None,
        code: None,
        message: "the kill switch has no access to AWS: set aws.enabled = true".to_owned(),
        retry: Retry::Never,
        source: None,
    })
}

#[async_trait]
impl Cloud for DisabledCloud {
    async fn identity(&self) -> Result<Identity, CloudError> {
        disabled("sts:GetCallerIdentity")
    }

    async fn credentials_mark(&self) -> Option<String> {
        None
    }

    async fn regions(&self) -> Result<Vec<Region>, CloudError> {
        disabled("ec2:DescribeRegions")
    }

    async fn instances(&self, _region: &Region, _filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        disabled("ec2:DescribeInstances")
    }

    async fn stop_protection(&self, _region: &Region, _instance: &str) -> Result<bool, CloudError> {
        disabled("ec2:DescribeInstanceAttribute")
    }

    async fn principal(&self, _principal: &Principal, _policy_name: &str) -> Result<PrincipalState, CloudError> {
        disabled("iam:GetRole")
    }

    async fn inline_chars(&self, _principal: &Principal, _policy_name: &str) -> Result<usize, CloudError> {
        disabled("iam:ListRolePolicies")
    }

    async fn put_deny(&self, _principal: &Principal, _policy_name: &str, _document: &str) -> Result<(), CloudError> {
        disabled("iam:PutRolePolicy")
    }

    async fn delete_deny(&self, _principal: &Principal, _policy_name: &str) -> Result<(), CloudError> {
        disabled("iam:DeleteRolePolicy")
    }

    async fn trusting(&self, _principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        disabled("iam:ListRoles")
    }

    async fn set_access_key(&self, _user: &str, _key_id: &str, _active: bool) -> Result<(), CloudError> {
        disabled("iam:UpdateAccessKey")
    }

    async fn stop(&self, _region: &Region, _ids: &[String]) -> Result<BatchResult, CloudError> {
        disabled("ec2:StopInstances")
    }

    async fn start(&self, _region: &Region, _ids: &[String]) -> Result<BatchResult, CloudError> {
        disabled("ec2:StartInstances")
    }

    async fn may_stop(&self, _region: &Region, _ids: &[String]) -> Result<BatchResult, CloudError> {
        disabled("ec2:StopInstances")
    }

    async fn terminate(&self, _region: &Region, _ids: &[String]) -> Result<BatchResult, CloudError> {
        disabled("ec2:TerminateInstances")
    }

    async fn attach_deny(&self, _principal: &Principal, _policy_name: &str, _document: &str) -> Result<(), CloudError> {
        disabled("iam:AttachRolePolicy")
    }

    async fn detach_deny(&self, _principal: &Principal, _policy_name: &str) -> Result<(), CloudError> {
        disabled("iam:DetachRolePolicy")
    }

    async fn set_service_credential(&self, _user: &str, _id: &str, _active: bool) -> Result<(), CloudError> {
        disabled("iam:UpdateServiceSpecificCredential")
    }

    async fn simulate(&self, _principal: &Principal, _actions: &[String]) -> Result<Vec<Simulated>, CloudError> {
        disabled("iam:SimulatePrincipalPolicy")
    }

    async fn health(&self, _region: &Region, _ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        disabled("ec2:DescribeInstanceStatus")
    }

    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    async fn assets(&self, _region: &Region, _kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        disabled("the listing of assets")
    }

    async fn put_settings(&self, _asset: &AssetRef, _settings: &Settings) -> Result<(), CloudError> {
        disabled("the change of settings")
    }

    async fn end(&self, _asset: &AssetRef) -> Result<(), CloudError> {
        disabled("the end of an asset")
    }

    async fn creations(&self, _region: &Region, _wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        disabled("cloudtrail:LookupEvents")
    }

    async fn list_prices(
        &self,
        _region: &Region,
        _rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        disabled("pricing:GetProducts")
    }
}
