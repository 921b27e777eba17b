//! Load balancers of both generations: charged for by the hour for as long as they exist.
//!
//! What they are charged for by traffic (capacity units, gigabytes) is not a matter of time and is left to
//! the bill. Their addresses are [listed by themselves](super::address).

use std::borrow::Cow;
use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancing as v1;
use aws_sdk_elasticloadbalancingv2 as v2;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::{Offered, Place, Service, pages, tags, timestamp};
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};
use crate::domain::fleet::rate::Meter;
use crate::ports::CloudError;

const BALANCER: Kind = Kind::named("balancer");
const CLASSIC: Kind = Kind::named("classic-balancer");

const HOW: &str = "delete it once nothing is reached through it";

/// Both services tell the tags of so many in one call.
const TAGGED: usize = 20;

/// Both give no more in a page.
const PAGE: u16 = 400;

type Tags = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Debug)]
pub(super) struct Balancers {
    place: Place,
    v1: v1::Client,
    v2: v2::Client,
}

impl Offered for Balancers {
    const KINDS: &'static [Kind] = &[BALANCER, CLASSIC];

    fn new(place: Place) -> Self {
        let v1_of = v1::config::Builder::from(&place.sdk);
        let v2_of = v2::config::Builder::from(&place.sdk);
        let v1_part = v1::config::retry::RetryPartition::new(place.partition("elb"));
        let v2_part = v2::config::retry::RetryPartition::new(place.partition("elbv2"));
        Self {
            v1: v1::Client::from_conf(v1_of.retry_partition(v1_part).build()),
            v2: v2::Client::from_conf(v2_of.retry_partition(v2_part).build()),
            place,
        }
    }
}

#[async_trait]
impl Service for Balancers {
    async fn list(&self, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        if *kind == CLASSIC {
            self.classic().await
        } else {
            self.newer().await
        }
    }
}

impl Balancers {
    async fn newer(&self) -> Result<Vec<Asset>, CloudError> {
        let call = self.place.read("elasticloadbalancing:DescribeLoadBalancers");
        let size = self.place.page(PAGE);
        let all = pages(&call, |marker| async {
            let _permit = self.place.look().await;
            let request = self.v2.describe_load_balancers().page_size(size);
            let page = request.set_marker(marker).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.load_balancers.unwrap_or_default(), page.next_marker))
        });
        let all = all.await?;
        let arns: Vec<String> = all.iter().filter_map(|one| one.load_balancer_arn.clone()).collect();
        let mut tags = self.tags(&arns, |arns| self.newer_tags(arns)).await?;
        let assets = all.into_iter().filter_map(|one| {
            // One of a type that is new to us has no rate of its own, and is priced by the nearest.
            let kind = one.r#type.as_ref().map_or("unknown", |kind| kind.as_str());
            let meter = Meter::one(format!("balancer/{kind}"));
            let tags = tags.remove(&one.load_balancer_arn.unwrap_or_default());
            let what = self.place.asset(&BALANCER, one.load_balancer_name?);
            Some(asset(what, tags, timestamp(one.created_time), meter))
        });
        Ok(assets.collect())
    }

    async fn classic(&self) -> Result<Vec<Asset>, CloudError> {
        let call = self.place.read("elasticloadbalancing:DescribeLoadBalancers");
        let size = self.place.page(PAGE);
        let all = pages(&call, |marker| async {
            let _permit = self.place.look().await;
            let request = self.v1.describe_load_balancers().page_size(size);
            let page = request.set_marker(marker).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.load_balancer_descriptions.unwrap_or_default(), page.next_marker))
        });
        let all = all.await?;
        let names: Vec<String> = all.iter().filter_map(|one| one.load_balancer_name.clone()).collect();
        let mut tags = self.tags(&names, |names| self.classic_tags(names)).await?;
        let assets = all.into_iter().filter_map(|one| {
            let name = one.load_balancer_name?;
            let tags = tags.remove(&name);
            let meter = Meter::one("balancer/classic");
            let what = self.place.asset(&CLASSIC, name);
            Some(asset(what, tags, timestamp(one.created_time), meter))
        });
        Ok(assets.collect())
    }

    /// The tags of all, some at a time. One that went meanwhile has its whole call refused, so its
    /// neighbours are asked for one by one.
    async fn tags<F>(&self, ids: &[String], ask: impl Fn(Vec<String>) -> F) -> Result<Tags, CloudError>
    where
        F: Future<Output = Result<Tags, CloudError>>,
    {
        let ask = &ask;
        let some = |ids: Vec<String>| async move {
            match ask(ids.clone()).await {
                Err(error) if is_gone(&error) => {}
                answer => return answer,
            }
            let mut all = Tags::new();
            for id in ids {
                match ask(vec![id]).await {
                    Ok(one) => all.extend(one),
                    Err(error) if is_gone(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(all)
        };
        let chunks: Vec<_> = ids.chunks(TAGGED).map(|chunk| some(chunk.to_vec())).collect();
        let answers: Vec<Tags> = stream::iter(chunks)
            .buffer_unordered(self.place.parallel)
            .try_collect()
            .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    async fn newer_tags(&self, arns: Vec<String>) -> Result<Tags, CloudError> {
        let call = self.place.read("elasticloadbalancing:DescribeTags");
        let _permit = self.place.look().await;
        let answer = self.v2.describe_tags().set_resource_arns(Some(arns)).send().await;
        let answer = answer.map_err(|e| call.failed(e))?;
        let described = answer.tag_descriptions.unwrap_or_default().into_iter();
        let described = described.filter_map(|one| {
            let of = one.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value));
            Some((one.resource_arn?, tags(of)))
        });
        Ok(described.collect())
    }

    async fn classic_tags(&self, names: Vec<String>) -> Result<Tags, CloudError> {
        let call = self.place.read("elasticloadbalancing:DescribeTags");
        let _permit = self.place.look().await;
        let answer = self
            .v1
            .describe_tags()
            .set_load_balancer_names(Some(names))
            .send()
            .await;
        let answer = answer.map_err(|e| call.failed(e))?;
        let described = answer.tag_descriptions.unwrap_or_default().into_iter();
        let described = described.filter_map(|one| {
            let of = one.tags.unwrap_or_default().into_iter();
            Some((one.load_balancer_name?, tags(of.map(|tag| (Some(tag.key), tag.value)))))
        });
        Ok(described.collect())
    }
}

fn asset(what: AssetRef, tags: Option<BTreeMap<String, String>>, since: Option<Timestamp>, meter: Meter) -> Asset {
    Asset {
        what,
        service: Cow::Borrowed("AWSELB"),
        tags: tags.unwrap_or_default(),
        acts_as: Vec::new(),
        unread: None,
        parent: None,
        created_at: since,
        meters: vec![meter],
        brake: Brake::Deletion { how: HOW.into() },
    }
}

fn is_gone(error: &CloudError) -> bool {
    matches!(
        error.code.as_deref(),
        Some(
            "LoadBalancerNotFound"
                | "LoadBalancerNotFoundException"
                | "AccessPointNotFound"
                | "AccessPointNotFoundException"
        )
    )
}
