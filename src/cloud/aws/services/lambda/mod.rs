//! Lambda functions: each run may call, start and spend; a reserved concurrency of zero lets none begin.
//!
//! A function is capped by `reserved` = `0` and put back by the number that it had, or by taking the
//! reservation away where it had `none`. By the hour it costs nothing, but for provisioned concurrency, which is
//! charged for whether it is used or not. So that is a setting as well: `provisioned`, such as `live=10,3=2`, is
//! brought to `none` by deleting its configurations, which hold nothing but these numbers, and put back by the
//! same. AWS keeps the provisioned concurrency of a function within its reserved one ("Configuring reserved
//! concurrency", Lambda Developer Guide), so what is taken away goes before the reservation and what is put
//! back comes after it.
//!
//! GetFunction would tell all of it in one call, and with it an address from which anybody can load the code. The
//! guard has no need to be able to read what it guards, so tags and concurrency are asked for by calls that tell
//! nothing else. Those share AWS's fifteen a second ("Lambda quotas", read 2026-11-20) and are paced; `answers`
//! says whom they are spent on. Asked for provisioned concurrency are only functions that have published a
//! version: no other can have any. The list of all versions says which do. What cannot be learnt costs what it cost,
//! or a bound (L7).
//!
//! What the answers hold beside that (environment variables) is dropped where it is read: nothing of it is
//! kept, logged or shown.

mod answers;
mod listed;
mod settings;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::config::retry::RetryPartition;
use aws_sdk_lambda::types::{
    FunctionConfiguration, FunctionVersion, ProvisionedConcurrencyConfigListItem as Provisioned,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Offered, Place, Service, pages};
use crate::cloud::aws::once;
use crate::cloud::aws::pace::Pace;
use crate::cloud::aws::permission::Home;
use crate::domain::containment::state::Action;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::ports::CloudError;
use answers::{Answers, Ask};
use listed::Listed;
use settings::{NONE, PROVISIONED, RESERVED, Wanted};

const FUNCTION: Kind = Kind::named("function");

/// Between calls that share the quota of fifteen a second, of which others want some too.
pub(super) const GAP: Duration = Duration::from_millis(100);

const GONE: &str = "ResourceNotFoundException";
const DENIED: &str = "AccessDeniedException";

/// The most that can be provisioned of a function without a reservation: what AWS gives an account at first, less
/// the hundred that have to stay unreserved ("Lambda quotas", read 2026-11-20).
const MOST_PROVISIONED: u64 = 900;

#[derive(Debug)]
pub(super) struct Lambda {
    place: Place,
    looks: Client,
    changes: Client,
    pace: Pace,
    answers: Answers,
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
            answers: Answers::default(),
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
        let names = functions.iter().map(|(name, listed)| (name, listed.is_published));
        let asks = self.answers.begin(names);
        let assets: Vec<_> = functions
            .into_values()
            .map(|listed| {
                let ask = asks.get(&listed.name).copied().unwrap_or_default();
                self.asset(listed, ask)
            })
            .collect();
        let assets: Vec<Option<Asset>> = stream::iter(assets).buffered(self.place.parallel).try_collect().await?;
        Ok(assets.into_iter().flatten().collect())
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        let wanted = Wanted::of(settings).map_err(|(name, value)| {
            let call = self.place.change("lambda:PutFunctionConcurrency");
            call.refusal("UnknownSetting", format!("{asset} has no setting {name}={value}"))
        })?;
        // What was known of it is no more, whatever becomes of this.
        self.answers.forget(&asset.id);
        let answer = self.put(&asset.id, wanted).await;
        self.answers.forget(&asset.id);
        gone_is_fine(answer)
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

    /// `None` for one that went meanwhile.
    async fn asset(&self, listed: Listed, ask: Ask) -> Result<Option<Asset>, CloudError> {
        let Some(reserved) = there(self.reserved(&listed, ask).await)? else {
            return Ok(None);
        };
        let Some((tags, unread)) = there(self.tags(&listed, ask).await)? else {
            return Ok(None);
        };
        let bound = reserved.parse().ok().filter(|count: &u64| *count > 0);
        let mut now = Settings::from([(RESERVED.to_owned(), reserved)]);
        let mut meters = Vec::new();
        if listed.is_published {
            if ask.provisioned {
                self.ask_provisioned(&listed).await;
            }
            match self.answers.provisioned(&listed.name) {
                Some(learnt) => {
                    now.insert(PROVISIONED.to_owned(), learnt.setting);
                    meters = learnt.meters;
                }
                None => meters = listed.bound(bound.unwrap_or(MOST_PROVISIONED)),
            }
        }
        let capped = now.keys().map(|name| (name.clone(), settings::capped(name).to_owned()));
        Ok(Some(Asset {
            what: self.place.asset(&FUNCTION, &listed.name),
            service: Cow::Borrowed("AWSLambda"),
            tags,
            acts_as: listed.role.into_iter().collect(),
            unread,
            parent: None,
            // Lambda tells when it was last changed, and not when it was made.
            created_at: None,
            meters,
            brake: Brake::Cap {
                capped: capped.collect(),
                now,
            },
        }))
    }

    /// The reservation as a setting.
    async fn reserved(&self, listed: &Listed, ask: Ask) -> Result<String, CloudError> {
        if let Some(known) = self.answers.reserved(&listed.name).filter(|_| !ask.reserved) {
            return Ok(known);
        }
        let call = self.place.read("lambda:GetFunctionConcurrency");
        self.pace.turn().await;
        let _permit = self.place.look().await;
        let request = self.looks.get_function_concurrency().function_name(&listed.name);
        let answer = request.send().await.map_err(|e| call.failed(e))?;
        let reserved = answer.reserved_concurrent_executions();
        let reserved = reserved.map_or_else(|| NONE.to_owned(), |count| count.to_string());
        self.answers.note_reserved(&listed.name, &reserved);
        Ok(reserved)
    }

    /// Tags, and why they are not told: without them it may be taken for nobody's, which must be seen.
    async fn tags(&self, listed: &Listed, ask: Ask) -> Result<(BTreeMap<String, String>, Option<String>), CloudError> {
        if let Some(known) = self.answers.tags(&listed.name).filter(|_| !ask.tags) {
            return Ok((known, None));
        }
        let call = self.place.read("lambda:ListTags");
        self.pace.turn().await;
        let _permit = self.place.look().await;
        let answer = self.looks.list_tags().resource(&listed.arn).send().await;
        match answer.map_err(|e| call.failed(e)) {
            Ok(answer) => {
                let tags: BTreeMap<String, String> = answer.tags.unwrap_or_default().into_iter().collect();
                self.answers.note_tags(&listed.name, &tags);
                Ok((tags, None))
            }
            Err(error) if error.code.as_deref() == Some(DENIED) => {
                tracing::warn!(
                    region = %self.place.region, function = listed.name, %error,
                    "the tags of a function are not told; allow lambda:ListTags"
                );
                let why = format!("the tags of functions are not told ({DENIED}); allow lambda:ListTags");
                Ok((BTreeMap::new(), Some(why)))
            }
            Err(error) => Err(error),
        }
    }

    /// If it cannot be learnt that is said: the function can be capped without it, where there is none.
    async fn ask_provisioned(&self, listed: &Listed) {
        let learnt = match self.provisioned(&listed.name).await {
            Ok(configs) => Some(answers::Provisioned {
                setting: settings::text(&configs),
                meters: listed.meters(&configs),
            }),
            Err(error) => {
                tracing::warn!(
                    region = %self.place.region, function = listed.name, %error,
                    "what a function's provisioned concurrency costs is unknown; it costs what it cost, or a bound"
                );
                None
            }
        };
        self.answers.note_provisioned(&listed.name, learnt);
    }

    async fn provisioned(&self, function: &str) -> Result<Vec<Provisioned>, CloudError> {
        let call = self.place.read("lambda:ListProvisionedConcurrencyConfigs");
        let size = self.place.page(50);
        let configs = pages(&call, |marker| async {
            self.pace.turn().await;
            let _permit = self.place.look().await;
            let request = self.looks.list_provisioned_concurrency_configs();
            let request = request.function_name(function).max_items(size);
            let page = request.set_marker(marker).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((
                page.provisioned_concurrency_configs.unwrap_or_default(),
                page.next_marker,
            ))
        });
        configs.await
    }

    /// What is taken away goes first, what is given comes last: the reservation has to have room for it.
    async fn put(&self, function: &str, wanted: Wanted) -> Result<(), CloudError> {
        if let Some(provisioned) = &wanted.provisioned {
            for config in self.provisioned(function).await? {
                if let Some(qualifier) = settings::qualifier(&config).filter(|one| !provisioned.contains_key(*one)) {
                    self.deprovision(function, qualifier).await?;
                }
            }
        }
        match wanted.reserved {
            Some(Some(count)) => self.reserve(function, count).await?,
            Some(None) => self.unreserve(function).await?,
            None => {}
        }
        for (qualifier, count) in wanted.provisioned.unwrap_or_default() {
            self.provision(function, &qualifier, count).await?;
        }
        Ok(())
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

    async fn provision(&self, function: &str, qualifier: &str, count: i32) -> Result<(), CloudError> {
        let call = self.place.change("lambda:PutProvisionedConcurrencyConfig");
        let _permit = self.place.turn().await;
        let request = self.changes.put_provisioned_concurrency_config();
        let request = request.function_name(function).qualifier(qualifier);
        let answer = request.provisioned_concurrent_executions(count).send().await;
        answer.map(drop).map_err(|e| call.failed(e))
    }

    async fn deprovision(&self, function: &str, qualifier: &str) -> Result<(), CloudError> {
        let call = self.place.change("lambda:DeleteProvisionedConcurrencyConfig");
        let _permit = self.place.turn().await;
        let request = self.changes.delete_provisioned_concurrency_config();
        let answer = request.function_name(function).qualifier(qualifier).send().await;
        gone_is_fine(answer.map(drop).map_err(|e| call.failed(e)))
    }
}

fn gone_is_fine(answer: Result<(), CloudError>) -> Result<(), CloudError> {
    there(answer).map(drop)
}

/// `None` for what is not there.
fn there<T>(answer: Result<T, CloudError>) -> Result<Option<T>, CloudError> {
    match answer {
        Err(error) if error.code.as_deref() == Some(GONE) => Ok(None),
        answer => answer.map(Some),
    }
}
