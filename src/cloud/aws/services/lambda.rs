//! Lambda functions: each run may call, start and spend; a reserved concurrency of zero lets none begin.
//!
//! A function is capped by `reserved` = `0` and put back by the number that it had, or by taking the
//! reservation away where it had `none`. By the hour it costs nothing, but for provisioned concurrency,
//! which is charged for whether it is used or not.
//!
//! AWS allows a hundred GetFunction calls a second, and fifteen of the others together ("Lambda quotas",
//! read 2026-11-20). So the others are paced, and asked for provisioned concurrency are only
//! functions that have published a version: no other can have any. The list of all versions says which do.
//! A look asks about those that it never asked about, and of the others about a few, the longest ago first: no cap
//! waits for the prices of hundreds. What cannot be learnt costs what it cost, or a bound (L7).
//!
//! What the answers hold beside that (environment variables, the address of the code) is dropped where it
//! is read: nothing of it is kept, logged or shown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::config::retry::RetryPartition;
use aws_sdk_lambda::types::{
    Architecture, FunctionConfiguration, FunctionVersion, ProvisionedConcurrencyConfigListItem as Provisioned,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Offered, Place, Service, pages, thousandths};
use crate::cloud::aws::once;
use crate::cloud::aws::pace::Pace;
use crate::cloud::aws::permission::Home;
use crate::domain::containment::state::Action;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::domain::fleet::rate::Meter;
use crate::ports::CloudError;

const FUNCTION: Kind = Kind::named("function");

const RESERVED: &str = "reserved";
const NONE: &str = "none";

/// Between calls that share the quota of fifteen a second, of which others want some too.
pub(super) const GAP: Duration = Duration::from_millis(100);

/// Functions whose provisioned concurrency is asked for anew in one look: three seconds at that pace.
const ASKED_ANEW: usize = 30;

/// The most that can be provisioned of a function without a reservation: what AWS gives an account at first, less
/// the hundred that have to stay unreserved ("Lambda quotas", read 2026-11-20).
const MOST_PROVISIONED: u64 = 900;

/// The version that is no publication.
const LATEST: &str = "$LATEST";

#[derive(Debug)]
pub(super) struct Lambda {
    place: Place,
    looks: Client,
    changes: Client,
    pace: Pace,
    provisioned: Mutex<Asked>,
}

/// What was learnt of provisioned concurrency, by function.
#[derive(Debug, Default)]
struct Asked {
    /// Counts the looks.
    turn: u64,
    known: BTreeMap<String, Learnt>,
}

#[derive(Debug, Clone)]
struct Learnt {
    /// In which look.
    turn: u64,
    /// `None`: it was asked for and could not be had.
    meters: Option<Vec<Meter>>,
}

impl Asked {
    /// Begins a look: which of these functions it is to ask about.
    fn begin<'a>(&mut self, published: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        self.turn += 1;
        let published: BTreeSet<&str> = published.collect();
        self.known.retain(|name, _| published.contains(name.as_str()));
        let (old, mut asked): (Vec<&str>, Vec<&str>) =
            published.into_iter().partition(|name| self.known.contains_key(*name));
        let mut old: Vec<(u64, &str)> = old.iter().map(|name| (self.known[*name].turn, *name)).collect();
        old.sort_unstable();
        asked.extend(old.into_iter().take(ASKED_ANEW).map(|(_, name)| name));
        asked.into_iter().map(str::to_owned).collect()
    }

    /// Keeps an answer. A failure does not make what was known unknown.
    fn note(&mut self, name: &str, meters: Option<Vec<Meter>>) {
        let before = self.known.remove(name).and_then(|learnt| learnt.meters);
        let meters = meters.or(before);
        let turn = self.turn;
        self.known.insert(name.to_owned(), Learnt { turn, meters });
    }
}

impl Offered for Lambda {
    const KINDS: &'static [Kind] = &[FUNCTION];

    fn new(place: Place) -> Self {
        let partition = RetryPartition::new(place.partition("lambda"));
        let config = Builder::from(&place.sdk).retry_partition(partition);
        Self {
            changes: Client::from_conf(config.clone().retry_config(once()).build()),
            looks: Client::from_conf(config.build()),
            pace: Pace::new(GAP),
            provisioned: Mutex::default(),
            place,
        }
    }

    fn permission(action: Action, home: Home<'_>, asset: &AssetRef) -> Option<(&'static str, String)> {
        let named = match action {
            Action::Cap => "lambda:PutFunctionConcurrency",
            // What had a limit of its own gets it by the call that caps.
            Action::Uncap => "lambda:DeleteFunctionConcurrency",
            _ => return None,
        };
        let (Home { partition, account }, AssetRef { region, id, .. }) = (home, asset);
        Some((
            named,
            format!("arn:{partition}:lambda:{region}:{account}:function:{id}"),
        ))
    }
}

#[async_trait]
impl Service for Lambda {
    async fn list(&self, _kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let functions = Listed::from_versions(self.versions().await?);
        let published = functions.values().filter(|listed| listed.is_published);
        let asked = self.asked().begin(published.map(|listed| listed.name.as_str()));
        let assets = functions.into_values().map(|listed| {
            let asks = asked.contains(&listed.name);
            self.asset(listed, asks)
        });
        let assets: Vec<_> = assets.collect();
        let assets: Vec<Option<Asset>> = stream::iter(assets).buffered(self.place.parallel).try_collect().await?;
        Ok(assets.into_iter().flatten().collect())
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        let call = self.place.change("lambda:PutFunctionConcurrency");
        for (name, value) in settings {
            if name != RESERVED {
                return Err(call.refusal("UnknownSetting", format!("{asset} has no setting {name}={value}")));
            }
            let answer = if value == NONE {
                self.unreserve(&asset.id).await
            } else {
                let Some(count) = value.parse().ok().filter(|count: &i32| *count >= 0) else {
                    return Err(call.refusal("UnknownSetting", format!("{asset} has no setting {name}={value}")));
                };
                self.reserve(&asset.id, count).await
            };
            gone_is_fine(answer)?;
        }
        Ok(())
    }
}

impl Lambda {
    /// Every version of every function.
    async fn versions(&self) -> Result<Vec<FunctionConfiguration>, CloudError> {
        let call = self.place.read("lambda:ListFunctions");
        // Lambda gives no more than 50 in a page, whatever is asked for.
        let size = self.place.page(50);
        let versions = pages(&call, |marker| async {
            self.pace.turn().await;
            let _permit = self.place.look().await;
            let request = self.looks.list_functions().max_items(size);
            let request = request.function_version(FunctionVersion::All).set_marker(marker);
            let page = request.send().await.map_err(|e| call.failed(e))?;
            Ok((page.functions.unwrap_or_default(), page.next_marker))
        });
        versions.await
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.provisioned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` for one that went meanwhile.
    async fn asset(&self, listed: Listed, asks: bool) -> Result<Option<Asset>, CloudError> {
        let call = self.place.read("lambda:GetFunction");
        let answer = {
            let _permit = self.place.look().await;
            self.looks.get_function().function_name(&listed.name).send().await
        };
        let answer = match answer.map_err(|e| call.failed(e)) {
            Err(error) if error.code.as_deref() == Some("ResourceNotFoundException") => return Ok(None),
            answer => answer?,
        };
        let mut unread = None;
        if let Some(error) = answer.tags_error() {
            // Without them it may be taken for nobody's, which must be seen.
            let code = error.error_code();
            unread = Some(format!(
                "the tags of functions are not told ({code}); allow lambda:ListTags"
            ));
            tracing::warn!(
                region = %self.place.region, function = listed.name, code = error.error_code(),
                "the tags of a function are not told; allow lambda:ListTags"
            );
        }
        let reserved = answer
            .concurrency()
            .and_then(|one| one.reserved_concurrent_executions());
        let bound = reserved
            .and_then(|count| u64::try_from(count).ok())
            .filter(|count| *count > 0);
        let reserved = reserved.map_or_else(|| NONE.to_owned(), |count| count.to_string());
        let setting = |value: String| Settings::from([(RESERVED.to_owned(), value)]);
        let role = answer
            .configuration()
            .and_then(|one| one.role())
            .or(listed.role.as_deref());
        let acts_as = role.map(str::to_owned).into_iter().collect();
        let tags = answer.tags.unwrap_or_default().into_iter().collect();
        let meters = if listed.is_published {
            if asks {
                self.ask_provisioned(&listed).await;
            }
            let learnt = self
                .asked()
                .known
                .get(&listed.name)
                .and_then(|learnt| learnt.meters.clone());
            learnt.unwrap_or_else(|| listed.bound(bound.unwrap_or(MOST_PROVISIONED)))
        } else {
            Vec::new()
        };
        Ok(Some(Asset {
            what: self.place.asset(&FUNCTION, &listed.name),
            service: Cow::Borrowed("AWSLambda"),
            tags,
            acts_as,
            unread,
            parent: None,
            // Lambda tells when it was last changed, and not when it was made.
            created_at: None,
            meters,
            brake: Brake::Cap {
                now: setting(reserved),
                capped: setting("0".to_owned()),
            },
        }))
    }

    /// If it cannot be learnt that is said: the function can be capped without it.
    async fn ask_provisioned(&self, listed: &Listed) {
        let call = self.place.read("lambda:ListProvisionedConcurrencyConfigs");
        let size = self.place.page(50);
        let configs = pages(&call, |marker| async {
            self.pace.turn().await;
            let _permit = self.place.look().await;
            let request = self.looks.list_provisioned_concurrency_configs();
            let request = request.function_name(&listed.name).max_items(size);
            let page = request.set_marker(marker).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((
                page.provisioned_concurrency_configs.unwrap_or_default(),
                page.next_marker,
            ))
        });
        let meters = match configs.await {
            Ok(configs) => Some(listed.meters(&configs)),
            Err(error) => {
                tracing::warn!(
                    region = %self.place.region, function = listed.name, %error,
                    "what a function's provisioned concurrency costs is unknown; it costs what it cost, or a bound"
                );
                None
            }
        };
        self.asked().note(&listed.name, meters);
    }

    async fn reserve(&self, function: &str, count: i32) -> Result<(), CloudError> {
        let call = self.place.change("lambda:PutFunctionConcurrency");
        let _permit = self.place.turn().await;
        let request = self.changes.put_function_concurrency().function_name(function);
        let answer = request.reserved_concurrent_executions(count).send().await;
        answer.map(drop).map_err(|e| call.failed(e))
    }

    async fn unreserve(&self, function: &str) -> Result<(), CloudError> {
        let call = self.place.change("lambda:DeleteFunctionConcurrency");
        let _permit = self.place.turn().await;
        let request = self.changes.delete_function_concurrency().function_name(function);
        request.send().await.map(drop).map_err(|e| call.failed(e))
    }
}

fn gone_is_fine(answer: Result<(), CloudError>) -> Result<(), CloudError> {
    match answer {
        Err(error) if error.code.as_deref() == Some("ResourceNotFoundException") => Ok(()),
        answer => answer,
    }
}

/// A function with what its versions say.
#[derive(Debug, Default)]
struct Listed {
    name: String,
    role: Option<String>,
    is_published: bool,
    is_arm: bool,
    /// The memory of each version, in MiB. Behind an alias there may be any of them, so the largest counts.
    memory: BTreeMap<String, u64>,
}

impl Listed {
    fn from_versions(versions: Vec<FunctionConfiguration>) -> BTreeMap<String, Self> {
        let mut functions: BTreeMap<String, Self> = BTreeMap::new();
        for one in versions {
            let Some(name) = one.function_name else { continue };
            let version = one.version.unwrap_or_else(|| LATEST.to_owned());
            let listed = functions.entry(name.clone()).or_default();
            listed.name = name;
            if version == LATEST || listed.role.is_none() {
                listed.role = one.role;
            }
            listed.is_published |= version != LATEST;
            listed.is_arm = one.architectures.unwrap_or_default().contains(&Architecture::Arm64);
            let memory = u64::try_from(one.memory_size.unwrap_or(0)).unwrap_or(0);
            // The least that a function has.
            listed.memory.insert(version, memory.max(128));
        }
        functions
    }

    fn meters(&self, configs: &[Provisioned]) -> Vec<Meter> {
        let mib = configs.iter().map(|config| {
            let counts = [
                config.requested_provisioned_concurrent_executions,
                config.allocated_provisioned_concurrent_executions,
            ];
            let count = counts.into_iter().flatten().max().unwrap_or(0);
            let qualifier = config
                .function_arn()
                .and_then(|arn| arn.rsplit(':').next())
                .unwrap_or_default();
            let memory = self.memory.get(qualifier).or_else(|| self.memory.values().max());
            u64::try_from(count)
                .unwrap_or(0)
                .saturating_mul(memory.copied().unwrap_or(128))
        });
        self.charged(mib.fold(0, u64::saturating_add))
    }

    /// What it is charged for at the most.
    fn bound(&self, count: u64) -> Vec<Meter> {
        let memory = self.memory.values().max().copied().unwrap_or(128);
        self.charged(memory.saturating_mul(count))
    }

    fn charged(&self, mib: u64) -> Vec<Meter> {
        let kind = if self.is_arm { "arm" } else { "x86" };
        let meter = Meter::of(format!("lambda-provisioned/{kind}"), thousandths(mib, 1_024));
        if mib > 0 { vec![meter] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, version: &str, memory: i32, architecture: Architecture) -> FunctionConfiguration {
        let one = FunctionConfiguration::builder().function_name(name).version(version);
        let one = one.memory_size(memory).architectures(architecture);
        one.role(format!("arn:aws:iam::123456789012:role/{version}")).build()
    }

    #[test]
    fn provisioned_concurrency_is_charged_for_by_its_versions_memory() {
        let arm = Architecture::Arm64;
        let functions = Listed::from_versions(vec![
            version("f", "1", 2_048, arm.clone()),
            version("f", LATEST, 128, arm.clone()),
            version("f", "2", 512, arm),
            version("g", LATEST, 128, Architecture::X8664),
        ]);
        assert_eq!(functions.len(), 2);
        let f = &functions["f"];
        assert!(f.is_published && f.is_arm && !functions["g"].is_published);
        assert_eq!(f.role.as_deref(), Some("arn:aws:iam::123456789012:role/$LATEST"));
        let provisioned = |qualifier: &str, requested: i32, allocated: i32| {
            let arn = format!("arn:aws:lambda:eu-west-1:123456789012:function:f:{qualifier}");
            let one = Provisioned::builder().function_arn(arn);
            let one = one.requested_provisioned_concurrent_executions(requested);
            one.allocated_provisioned_concurrent_executions(allocated).build()
        };
        assert_eq!(
            f.meters(&[provisioned("2", 10, 4)]),
            [Meter::of("lambda-provisioned/arm", 5_000)]
        );
        // Behind an alias there may be any version.
        assert_eq!(
            f.meters(&[provisioned("live", 1, 1)]),
            [Meter::of("lambda-provisioned/arm", 2_000)]
        );
        assert_eq!(
            f.meters(&[provisioned("2", 2, 2), provisioned("1", 0, 3)]),
            [Meter::of("lambda-provisioned/arm", 7_000)]
        );
        assert_eq!(f.meters(&[]), []);
    }

    #[test]
    fn a_look_asks_about_what_is_new_and_about_a_few_of_the_others() {
        let mut asked = Asked::default();
        let names: Vec<String> = (0..100).map(|n| format!("f-{n:03}")).collect();
        let all = || names.iter().map(String::as_str);
        assert_eq!(asked.begin(all()).len(), 100, "of these nothing is known");
        let meter = |mib| vec![Meter::of("lambda-provisioned/x86", mib)];
        for name in &names {
            asked.note(name, Some(meter(1)));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let some = asked.begin(all());
            assert_eq!(some.len(), ASKED_ANEW);
            for name in some {
                // A failure takes its turn as well, and forgets nothing.
                asked.note(&name, None);
                seen.insert(name);
            }
        }
        assert_eq!(seen.len(), 100, "each comes in its turn");
        assert!(asked.known.values().all(|learnt| learnt.meters == Some(meter(1))));
        asked.begin(["f-000"].into_iter());
        assert_eq!(asked.known.len(), 1, "what is gone is forgotten");
    }

    #[test]
    fn what_nobody_tells_costs_a_bound() {
        let functions = Listed::from_versions(vec![version("f", "1", 2_048, Architecture::X8664)]);
        assert_eq!(functions["f"].bound(50), [Meter::of("lambda-provisioned/x86", 100_000)]);
    }
}
