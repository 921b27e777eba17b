//! The `Cloud` port on AWS: IAM, EC2, STS, CloudTrail, the price list, and the [services] whose things cost
//! money or start what does, through the official SDK.
//!
//! Credentials, region and endpoints come from the usual AWS places (environment, profile, web identity,
//! container, instance role; `AWS_ENDPOINT_URL` and its per-service forms), so that nothing about AWS
//! secrets is ever in our own config. Every call is bounded in time and attempts.
//!
//! A look is repeated by the SDK, up to `max_attempts` times. A change is attempted once: a repetition
//! that is refused or throttled would hide that the first attempt was carried out, and a machine that
//! stopped without our knowing is one that no reset starts again. What was throttled or left without an
//! answer is told as such, and the kill switch, which looks before it acts, comes back to it.
//!
//! Regions share nothing but credentials: each has its own client, its own retry budget and its own
//! bound on calls in flight, so that one that is down cannot starve the others. It must never filter by
//! what AWS alone decided: ownership is checked again here on what came back. What is the same in every
//! region is asked of [another](elsewhere) when the home region is down.

mod cloudtrail;
mod ec2;
mod elsewhere;
mod error;
mod iam;
mod imds;
mod pace;
mod permission;
mod pricing;
mod probe;
mod services;
mod sts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_sts::config::ProvideCredentials as _;
use futures_util::future::join;

use self::cloudtrail::CloudTrail;
use self::ec2::{Ec2, batch};
use self::error::Call;
use self::iam::Iam;
use self::pricing::Pricing;
use self::services::{Place, Service, Services};
use self::sts::Sts;
use crate::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState, Simulated};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::drill::predict::Limits;
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::instance::GROUP;
use crate::domain::fleet::rate::RateKey;
use crate::domain::iam::simulation::{Question, Ruling};
use crate::domain::money::Usd;
use crate::ports::{Answered, Asking, Cloud, CloudError, Health, InstanceFilter, LookUp, Permission, Probe, Recorded};

/// Asked when neither the settings nor the AWS places name a region.
const FALLBACK_REGION: &str = "us-east-1";

/// How to reach AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsSettings {
    /// The regions to look after; empty for every region that is enabled for the account.
    pub regions: Vec<Region>,
    /// The kinds besides instances to look for; `None` for all.
    pub kinds: Option<BTreeSet<Kind>>,
    /// Where the services without regions are asked. `None`: as the usual AWS places say, else the first
    /// of `regions`, else `us-east-1`.
    pub home_region: Option<Region>,
    /// One endpoint for every service, above what the AWS places say.
    pub endpoint_url: Option<String>,
    /// The profile of the AWS config files.
    pub profile: Option<String>,
    pub connect_timeout: Duration,
    /// For one attempt.
    pub attempt_timeout: Duration,
    /// For one call with its repetitions.
    pub operation_timeout: Duration,
    /// Of a look; a change is attempted once.
    pub max_attempts: u32,
    /// Calls in flight at once, of each service in each region and in IAM.
    pub parallel: usize,
    /// Instances in one stop, start or terminate call.
    pub batch: usize,
    /// Entries in one page of a listing: of instances 5 to 1,000, elsewhere as many of them as a service gives.
    pub page: u16,
}

impl Default for AwsSettings {
    fn default() -> Self {
        Self {
            regions: Vec::new(),
            kinds: None,
            home_region: None,
            endpoint_url: None,
            profile: None,
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(9),
            max_attempts: 3,
            parallel: 4,
            batch: 50,
            page: 1_000,
        }
    }
}

/// AWS, as one account's credentials see it.
#[derive(Debug)]
pub struct Aws {
    settings: AwsSettings,
    sdk: SdkConfig,
    home: Region,
    iam: Iam,
    sts: Sts,
    ec2: Mutex<BTreeMap<Region, Arc<Ec2>>>,
    trails: Mutex<BTreeMap<Region, Arc<CloudTrail>>>,
    services: Services,
    pricing: Pricing,
}

impl Aws {
    /// Finds credentials and region in the usual AWS places. It calls nothing yet (except an instance's
    /// metadata, if the region is to be had nowhere else): what is wrong shows at the first call.
    pub async fn connect(settings: AwsSettings) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(retries(&settings))
            .timeout_config(timeouts(&settings));
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some(region) = &settings.home_region {
            loader = loader.region(aws_config::Region::new(region.0.clone()));
        }
        Self::new(loader.load().await, settings)
    }

    /// With credentials, region and endpoint that the caller chose; attempts and time limits are always
    /// those of the settings.
    pub fn new(sdk: SdkConfig, settings: AwsSettings) -> Self {
        let home = settings
            .home_region
            .clone()
            .or_else(|| sdk.region().map(|region| Region(region.as_ref().to_owned())))
            .or_else(|| settings.regions.first().cloned())
            .unwrap_or_else(|| Region(FALLBACK_REGION.to_owned()));
        let mut builder = sdk
            .into_builder()
            .region(aws_config::Region::new(home.0.clone()))
            .retry_config(retries(&settings))
            .timeout_config(timeouts(&settings));
        if let Some(url) = &settings.endpoint_url {
            builder = builder.endpoint_url(url);
        }
        let sdk = builder.build();
        Self {
            iam: Iam::new(&sdk, settings.parallel),
            sts: Sts::new(&sdk, &home),
            ec2: Mutex::new(BTreeMap::new()),
            trails: Mutex::new(BTreeMap::new()),
            services: Services::default(),
            pricing: Pricing::new(&sdk, settings.parallel),
            settings,
            sdk,
            home,
        }
    }

    /// The instance that this process runs on, if it runs on one: it belongs to the guard (C5). Asked of
    /// the instance metadata service, for a few seconds at most.
    /// Where that does not answer, the session of an instance's role still bears its name.
    pub async fn own_instance(&self) -> Option<String> {
        if let Some(instance) = imds::own_instance().await {
            return Some(instance);
        }
        let caller = self.sts.caller().await.ok()?;
        sts::session_instance(&caller.arn).map(str::to_owned)
    }

    fn looks_for(&self, kind: &Kind) -> bool {
        self.settings.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
    }

    /// The client of a region, made at its first use.
    fn ec2(&self, region: &Region) -> Arc<Ec2> {
        let mut clients = self.ec2.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients
            .entry(region.clone())
            .or_insert_with(|| Arc::new(Ec2::new(&self.sdk, region, &self.settings)));
        Arc::clone(client)
    }

    /// The record of calls of a region, with a client made at its first use.
    fn trail(&self, region: &Region) -> Arc<CloudTrail> {
        let mut trails = self.trails.lock().unwrap_or_else(PoisonError::into_inner);
        let trail = trails
            .entry(region.clone())
            .or_insert_with(|| Arc::new(CloudTrail::new(&self.sdk, region)));
        Arc::clone(trail)
    }

    /// What a client of a region is made of.
    fn sdk_in(&self, region: &Region) -> SdkConfig {
        let here = self.sdk.clone().into_builder();
        here.region(aws_config::Region::new(region.0.clone())).build()
    }

    /// The service that knows a kind, in a region.
    fn service(&self, region: &Region, kind: &Kind) -> Result<Arc<dyn Service>, CloudError> {
        let place = || {
            let AwsSettings { parallel, page, .. } = self.settings;
            Place::new(&self.sdk, region, self.ec2(region), parallel, page)
        };
        self.services.of(kind, region, place).ok_or_else(|| {
            let call = Call::read("the listing of assets").within(region);
            call.refusal("UnknownKind", format!("no service here knows what {kind} is"))
        })
    }

    async fn batch(&self, region: &Region, ids: &[String], change: ec2::Change) -> Result<BatchResult, CloudError> {
        let ec2 = self.ec2(region);
        let limits = batch::Limits {
            size: self.settings.batch,
            parallel: self.settings.parallel,
        };
        let result = batch::run(ids, limits, |ids| {
            let ec2 = Arc::clone(&ec2);
            async move { ec2.change(change, ids).await }
        })
        .await;
        match &result {
            Ok(done) => tracing::debug!(
                operation = change.operation(), %region,
                accepted = done.accepted.len(), refused = done.refused.len(), "instances"
            ),
            Err(error) => tracing::debug!(operation = change.operation(), %region, %error, "instances"),
        }
        result
    }
}

/// For clients that change something.
fn once() -> RetryConfig {
    RetryConfig::disabled()
}

fn retries(settings: &AwsSettings) -> RetryConfig {
    // A kill switch has less patience than the SDK's first pause of up to a second.
    RetryConfig::standard()
        .with_max_attempts(settings.max_attempts.max(1))
        .with_initial_backoff(Duration::from_millis(200))
        .with_max_backoff(Duration::from_secs(5))
}

fn timeouts(settings: &AwsSettings) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .read_timeout(settings.attempt_timeout)
        .operation_attempt_timeout(settings.attempt_timeout)
        .operation_timeout(settings.operation_timeout)
        .build()
}

#[async_trait]
impl Cloud for Aws {
    async fn identity(&self) -> Result<Identity, CloudError> {
        let identity = self.sts.caller().await?;
        let Some(role) = sts::session_role(&identity.arn) else {
            return Ok(identity);
        };
        // A session's ARN has lost the path of its role, and the guard needs the whole (C5).
        let arn = match self.iam.role_arn(role.name).await {
            Ok(arn) if sts::is_same_role(&arn, &role) => arn,
            Ok(other) => {
                tracing::warn!(
                    session = identity.arn,
                    role = other,
                    "the role behind our credentials is not the account's role of that name; its path stays unknown"
                );
                role.pathless_arn()
            }
            Err(error) => {
                tracing::warn!(
                    session = identity.arn, %error,
                    "the path of the role behind our credentials stays unknown; allow iam:GetRole on it"
                );
                role.pathless_arn()
            }
        };
        Ok(Identity { arn, ..identity })
    }

    async fn credentials_mark(&self) -> Option<String> {
        let source = self.sdk.credentials_provider()?;
        let asked = tokio::time::timeout(self.settings.operation_timeout, source.provide_credentials()).await;
        let credentials = match asked {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(error)) => {
                tracing::debug!(%error, "there are no credentials to tell apart");
                return None;
            }
            Err(_) => return None,
        };
        Some(sts::mark(credentials.access_key_id()))
    }

    async fn regions(&self) -> Result<Vec<Region>, CloudError> {
        if self.settings.regions.is_empty() {
            let ask = |region| {
                let ec2 = self.ec2(&region);
                async move { ec2.enabled_regions().await }
            };
            elsewhere::first_answer(elsewhere::candidates(&self.home), ask).await
        } else {
            Ok(self.settings.regions.clone())
        }
    }

    async fn instances(&self, region: &Region, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        self.ec2(region).instances(filter).await
    }

    async fn stop_protection(&self, region: &Region, instance: &str) -> Result<bool, CloudError> {
        self.ec2(region).stop_protection(instance).await
    }

    async fn principal(&self, principal: &Principal, policy_name: &str) -> Result<PrincipalState, CloudError> {
        self.iam.principal(principal, policy_name).await
    }

    async fn put_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError> {
        self.iam.put_deny(principal, policy_name, document).await
    }

    async fn delete_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError> {
        self.iam.delete_deny(principal, policy_name).await
    }

    async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        if principals.is_empty() {
            return Ok(Vec::new());
        }
        self.iam.trusting(principals).await
    }

    async fn set_access_key(&self, user: &str, key_id: &str, active: bool) -> Result<(), CloudError> {
        self.iam.set_access_key(user, key_id, active).await
    }

    async fn stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.batch(region, ids, ec2::Change::Stop).await
    }

    async fn start(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.batch(region, ids, ec2::Change::Start).await
    }

    async fn may_stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.batch(region, ids, ec2::Change::TryStop).await
    }

    async fn terminate(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.batch(region, ids, ec2::Change::Terminate).await
    }

    async fn attach_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError> {
        self.iam.attach_deny(principal, policy_name, document).await
    }

    async fn detach_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError> {
        self.iam.detach_deny(principal, policy_name).await
    }

    async fn set_service_credential(&self, user: &str, id: &str, active: bool) -> Result<(), CloudError> {
        self.iam.set_service_credential(user, id, active).await
    }

    async fn simulate(&self, principal: &Principal, actions: &[String]) -> Result<Vec<Simulated>, CloudError> {
        self.iam.simulate(principal, actions).await
    }

    async fn rule(&self, principal: &Principal, question: &Question) -> Result<Vec<Ruling>, CloudError> {
        self.iam.rule(principal, question).await
    }

    fn probes(&self) -> &'static [Probe] {
        probe::PROBES
    }

    async fn probe(&self, region: &Region, action: &'static str) -> Result<Answered, CloudError> {
        self.try_probe(region, action).await
    }

    fn limits(&self) -> Limits {
        Limits {
            in_flight: self.settings.parallel.max(1),
            gap: services::LAMBDA_GAP,
        }
    }

    fn permission(&self, us: &str, asking: &Asking<'_>) -> Option<Permission> {
        permission::needed(us, asking)
    }

    async fn simulate_each(&self, us: &str, asked: &[Permission]) -> Result<Vec<Option<bool>>, CloudError> {
        self.iam.simulate_each(us, asked).await
    }

    async fn inline_chars(&self, principal: &Principal, policy_name: &str) -> Result<usize, CloudError> {
        self.iam.inline_chars(principal, policy_name).await
    }

    async fn health(&self, region: &Region, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        let ec2 = self.ec2(region);
        let group = self.service(region, &GROUP)?;
        let (own, theirs) = join(ec2.health(ids), group.health(ids)).await;
        let (mut health, theirs) = (own?, theirs?);
        for (id, judged) in theirs {
            if let Some(known) = health.get_mut(&id) {
                *known = judged.max(*known);
            }
        }
        Ok(health)
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = services::kinds();
        kinds.retain(|kind| self.looks_for(kind));
        kinds
    }

    fn kinds_off(&self) -> Vec<Kind> {
        let mut kinds = services::kinds();
        kinds.retain(|kind| !self.looks_for(kind));
        kinds
    }

    async fn assets(&self, region: &Region, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        self.service(region, kind)?.list(kind).await
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        let done = self
            .service(&asset.region, &asset.kind)?
            .put_settings(asset, settings)
            .await;
        tracing::debug!(%asset, ?settings, error = done.as_ref().err().map(tracing::field::display), "settings");
        done
    }

    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError> {
        let done = self.service(&asset.region, &asset.kind)?.end(asset).await;
        tracing::debug!(%asset, error = done.as_ref().err().map(tracing::field::display), "end");
        done
    }

    async fn creations(&self, region: &Region, wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        self.trail(region).creations(wanted).await
    }

    async fn list_prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        self.pricing.prices(region, rates).await
    }
}
