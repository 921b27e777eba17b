//! ECS: services, which start tasks and replace those that end, and the tasks themselves.
//!
//! A service is capped by a desired count of zero; then ECS ends its tasks itself. One that runs a task on
//! every machine (`DAEMON`) has no count to set, and its tasks are ended one by one. A task is ended by
//! `StopTask`, for good: what its service or a person starts anew is another task.
//!
//! Whose hands a task has says its definition, or the override it was started with. A definition by its ARN
//! never changes, so it is asked for once and remembered.

mod clusters;
mod tasks;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::Builder;
use aws_sdk_ecs::config::retry::RetryPartition;
use aws_sdk_ecs::types::{SchedulingStrategy, Service as Seen, ServiceField, Tag, TaskDefinition};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Offered, Place, Service, pages, tags, timestamp, unsuited};
use crate::cloud::aws::once;
use crate::cloud::aws::permission::Home;
use crate::domain::containment::state::Action;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::ports::CloudError;

const SERVICE: Kind = Kind::named("ecs-service");
const TASK: Kind = Kind::named("ecs-task");

/// As AWS's bills name it.
const BILLED: &str = "AmazonECS";

const DESIRED: &str = "desired";

/// ECS describes so many services in one call, and so many tasks.
const SERVICES: usize = 10;
const TASKS: usize = 100;

/// Definitions that are remembered; beyond that the memory starts anew.
const REMEMBERED: usize = 10_000;

/// What ECS keeps beside a task that we stopped: it must name us.
const REASON: &str = "stopped by Backstop: the agent that it belongs to is contained";

const DAEMON: &str = "it runs one task on every machine of its cluster and has no count to set; its tasks are ended, \
                      and to stop it for good is to delete the service or to stop the machines";

#[derive(Debug)]
pub(super) struct Ecs {
    place: Place,
    looks: Client,
    changes: Client,
    definitions: Mutex<BTreeMap<String, Arc<TaskDefinition>>>,
    /// Clusters in which the last whole look at a kind found something.
    in_use: Mutex<BTreeMap<Kind, BTreeSet<String>>>,
}

impl Offered for Ecs {
    const KINDS: &'static [Kind] = &[SERVICE, TASK];

    fn new(place: Place) -> Self {
        let partition = RetryPartition::new(place.partition("ecs"));
        let config = Builder::from(&place.sdk).retry_partition(partition);
        Self {
            changes: Client::from_conf(config.clone().retry_config(once()).build()),
            looks: Client::from_conf(config.build()),
            definitions: Mutex::default(),
            in_use: Mutex::default(),
            place,
        }
    }

    fn permission(action: Action, home: Home<'_>, asset: &AssetRef) -> Option<(&'static str, String)> {
        let (named, what) = match action {
            Action::Cap | Action::Uncap if asset.kind == SERVICE => ("ecs:UpdateService", "service"),
            Action::End if asset.kind == TASK => ("ecs:StopTask", "task"),
            _ => return None,
        };
        let (Home { partition, account }, AssetRef { region, id, .. }) = (home, asset);
        Some((named, format!("arn:{partition}:ecs:{region}:{account}:{what}/{id}")))
    }
}

#[async_trait]
impl Service for Ecs {
    async fn list(&self, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let clusters = self.clusters_to_look_at(kind).await?;
        let each = clusters.into_iter().map(|cluster| async move {
            let found = if *kind == TASK {
                self.tasks(&cluster).await?
            } else {
                self.services(&cluster).await?
            };
            Ok((cluster, found))
        });
        let lists: Vec<(String, Vec<Asset>)> = self.some_at_once(each).await?;
        self.note_in_use(kind, &lists);
        Ok(lists.into_iter().flat_map(|(_, found)| found).collect())
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        let call = self.place.change("ecs:UpdateService");
        let named = asset.id.split_once('/').filter(|_| asset.kind == SERVICE);
        let Some((cluster, service)) = named else {
            return Err(unsuited("ecs:UpdateService", asset, "is no service in a cluster"));
        };
        let mut desired = None;
        for (name, value) in settings {
            match (name.as_str(), value.parse::<i32>()) {
                (DESIRED, Ok(count)) if count >= 0 => desired = Some(count),
                _ => return Err(call.refusal("UnknownSetting", format!("{asset} has no setting {name}={value}"))),
            }
        }
        let Some(desired) = desired else { return Ok(()) };
        let _permit = self.place.turn().await;
        let request = self.changes.update_service().cluster(cluster).service(service);
        let answer = request.desired_count(desired).send().await;
        gone_is_fine(answer.map(drop).map_err(|e| call.failed(e)))
    }

    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError> {
        let call = self.place.change("ecs:StopTask");
        let named = asset.id.split_once('/').filter(|_| asset.kind == TASK);
        let Some((cluster, task)) = named else {
            return Err(unsuited("ecs:StopTask", asset, "is no task in a cluster"));
        };
        let _permit = self.place.turn().await;
        let request = self.changes.stop_task().cluster(cluster).task(task).reason(REASON);
        let answer = request.send().await;
        gone_is_fine(answer.map(drop).map_err(|e| call.failed(e)))
    }
}

impl Ecs {
    /// Runs as many at once as there are places for, and fails with the first that fails.
    async fn some_at_once<T, F>(&self, all: impl Iterator<Item = F>) -> Result<Vec<T>, CloudError>
    where
        F: Future<Output = Result<T, CloudError>>,
    {
        let all: Vec<F> = all.collect();
        stream::iter(all).buffered(self.place.parallel).try_collect().await
    }

    async fn services(&self, cluster: &str) -> Result<Vec<Asset>, CloudError> {
        let call = self.place.read("ecs:ListServices");
        let size = self.place.page(100);
        let arns = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.looks.list_services().cluster(cluster).max_results(size);
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.service_arns.unwrap_or_default(), page.next_token))
        });
        let arns = gone_is_nothing(arns.await)?;
        let chunks = arns.chunks(SERVICES).map(|some| self.described(cluster, some.to_vec()));
        let services = self.some_at_once(chunks).await?.into_iter().flatten();
        let assets = services.map(|service| self.service(cluster, service));
        let assets: Vec<Option<Asset>> = self.some_at_once(assets).await?;
        Ok(assets.into_iter().flatten().collect())
    }

    async fn described(&self, cluster: &str, services: Vec<String>) -> Result<Vec<Seen>, CloudError> {
        let call = self.place.read("ecs:DescribeServices");
        let _permit = self.place.look().await;
        let request = self.looks.describe_services().cluster(cluster);
        let request = request.set_services(Some(services)).include(ServiceField::Tags);
        let answer = request.send().await.map_err(|e| call.failed(e))?;
        // Failures are of services that went meanwhile.
        Ok(answer.services.unwrap_or_default())
    }

    /// `None` for one that is gone, which ECS goes on listing for a while.
    async fn service(&self, cluster: &str, service: Seen) -> Result<Option<Asset>, CloudError> {
        if service.status() == Some("INACTIVE") {
            return Ok(None);
        }
        let definition = self.definition(service.task_definition()).await;
        let role = definition
            .as_ref()
            .ok()
            .and_then(|definition| definition.as_deref()?.task_role_arn());
        let brake = if service.scheduling_strategy == Some(SchedulingStrategy::Daemon) {
            Brake::Blocked { why: DAEMON.to_owned() }
        } else {
            let count = |desired: i32| Settings::from([(DESIRED.to_owned(), desired.to_string())]);
            Brake::Cap {
                now: count(service.desired_count),
                capped: count(0),
            }
        };
        let Some(name) = service.service_name else {
            return Ok(None);
        };
        Ok(Some(Asset {
            what: self.place.asset(&SERVICE, format!("{}/{name}", short(cluster))),
            service: Cow::Borrowed(BILLED),
            tags: tagged(service.tags),
            acts_as: role.map(str::to_owned).into_iter().collect(),
            unread: definition.as_ref().err().cloned(),
            parent: None,
            created_at: timestamp(service.created_at),
            // Its tasks are charged for, and the service itself is not.
            meters: Vec::new(),
            brake,
        }))
    }

    /// A task's or service's definition, or why it cannot be had: then its owner may be known by other marks,
    /// and what it is charged for by a bound. The listing does not fail for it.
    async fn definition(&self, arn: Option<&str>) -> Result<Option<Arc<TaskDefinition>>, String> {
        let Some(arn) = arn else { return Ok(None) };
        if let Some(known) = self.definitions.lock().unwrap_or_else(PoisonError::into_inner).get(arn) {
            return Ok(Some(Arc::clone(known)));
        }
        let call = self.place.read("ecs:DescribeTaskDefinition");
        let answer = {
            let _permit = self.place.look().await;
            self.looks.describe_task_definition().task_definition(arn).send().await
        };
        let answer = answer.map_err(|e| call.failed(e)).and_then(|answer| {
            let definition = answer.task_definition;
            definition.ok_or_else(|| call.nonsense("the answer has no task definition in it"))
        });
        let definition = match answer {
            Ok(definition) => Arc::new(definition),
            Err(error) => {
                let region = &self.place.region;
                tracing::warn!(%region, definition = arn, %error, "whose hands a task has is unknown");
                return Err(error.to_string());
            }
        };
        let mut known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(arn.to_owned(), Arc::clone(&definition));
        Ok(Some(definition))
    }
}

/// `main` of `arn:aws:ecs:REGION:ACCOUNT:cluster/main`, `0abc` of `…:task/main/0abc`.
fn short(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, name)| name)
}

fn tagged(list: Option<Vec<Tag>>) -> BTreeMap<String, String> {
    tags(list.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)))
}

/// ECS has no code of its own for a task that is not there.
fn is_gone(error: &CloudError) -> bool {
    match error.code.as_deref() {
        Some("ServiceNotFoundException" | "ClusterNotFoundException") => true,
        Some("InvalidParameterException") => error.message.to_lowercase().contains("not found"),
        _ => false,
    }
}

fn gone_is_fine(answer: Result<(), CloudError>) -> Result<(), CloudError> {
    match answer {
        Err(error) if is_gone(&error) => Ok(()),
        answer => answer,
    }
}

/// What was in a cluster that was deleted since the clusters were listed.
fn gone_is_nothing<T>(answer: Result<Vec<T>, CloudError>) -> Result<Vec<T>, CloudError> {
    match answer {
        Err(error) if error.code.as_deref() == Some("ClusterNotFoundException") => Ok(Vec::new()),
        answer => answer,
    }
}
