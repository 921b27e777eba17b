//! The Price List Query API: what things cost on demand.
//!
//! It is served in three regions of the public cloud, for the prices of all ("AWS Price List endpoints",
//! Billing User Guide, read 2026-11-20), and is asked in another when the first does not answer. China has
//! its own, in another currency, and the closed partitions have none. [`price_list`] knows what to ask and
//! what an answer means; here it is only asked.
//!
//! Prices are a comfort, not a condition: a rate that could not be had is left out and has a built-in
//! price, or a ceiling. So one question that fails costs the answers of no other; only if none could be had is
//! that a failure. A rate that the list does not have is told apart from one that could not be asked for: the one
//! is not there next time either.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::SdkConfig;
use aws_sdk_pricing::Client;
use aws_sdk_pricing::config::Builder;
use aws_sdk_pricing::config::retry::RetryPartition;
use aws_sdk_pricing::types::{Filter, FilterType};
use futures_util::{StreamExt as _, stream};

use super::elsewhere;
use super::error::Call;
use crate::domain::containment::target::Region;
use crate::domain::fleet::price_list::{self, PriceRejection, Query};
use crate::domain::fleet::rate::RateKey;
use crate::domain::money::Usd;
use crate::ports::CloudError;

const SERVED: &[&str] = &["us-east-1", "eu-central-1", "ap-south-1"];
const SERVED_IN_CHINA: &[&str] = &["cn-northwest-1"];

/// The list gives no more products in a page.
const PAGE: i32 = 100;

/// All that is sold of one family in one region has a few pages.
const MAX_PAGES: usize = 50;

#[derive(Debug)]
pub(super) struct Pricing {
    sdk: SdkConfig,
    parallel: usize,
}

impl Pricing {
    pub(super) fn new(sdk: &SdkConfig, parallel: usize) -> Self {
        Self {
            sdk: sdk.clone(),
            parallel: parallel.max(1),
        }
    }

    /// The prices of these rates in a region, by the hour.
    pub(super) async fn prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        let served = served(region);
        if served.is_empty() {
            let call = Call::read("pricing:GetProducts").within(region);
            return Err(call.refusal("NoPriceList", "this partition of AWS has no price list"));
        }
        // Asked once a day or so: clients that live for that long would be kept for nothing.
        let clients: Vec<(Region, Client)> = served.iter().map(|name| self.client(name)).collect();
        let clients = &clients;
        let questions: Vec<_> = price_list::queries(rates, region)
            .into_iter()
            .map(|query| async move {
                let places = clients.iter().map(|(place, _)| place.clone()).collect();
                let asked = &query;
                let answer = elsewhere::first_answer(places, |place| async move {
                    let (_, client) = clients
                        .iter()
                        .find(|(of, _)| *of == place)
                        .ok_or_else(|| Call::read("pricing:GetProducts").nonsense("it has no client"))?;
                    products(client, &place, asked).await
                })
                .await;
                (query, answer)
            })
            .collect();
        let asked = questions.len();
        let answers: Vec<_> = stream::iter(questions).buffer_unordered(self.parallel).collect().await;
        let mut prices: BTreeMap<RateKey, Usd> = BTreeMap::new();
        let mut failures = Vec::new();
        let mut failed = BTreeSet::new();
        for (query, answer) in answers {
            match answer {
                Ok(documents) => read(&documents, region, rates, &mut prices),
                Err(error) => {
                    failures.push(error);
                    failed.insert(query);
                }
            }
        }
        for error in &failures {
            tracing::warn!(%region, %error, "some prices could not be had");
        }
        match failures.pop() {
            Some(error) if failures.len() + 1 == asked => Err(error),
            _ => {
                let was_asked = |rate: &&RateKey| {
                    let query = price_list::query(rate, region);
                    query.is_none_or(|query| !failed.contains(&query))
                };
                let told = rates
                    .iter()
                    .filter(|rate| prices.contains_key(*rate) || was_asked(rate));
                Ok(told.map(|rate| (rate.clone(), prices.get(rate).copied())).collect())
            }
        }
    }

    fn client(&self, place: &str) -> (Region, Client) {
        let config = Builder::from(&self.sdk)
            .region(aws_config::Region::new(place.to_owned()))
            .retry_partition(RetryPartition::new(format!("pricing-{place}")));
        (Region(place.to_owned()), Client::from_conf(config.build()))
    }
}

/// Where the prices of a region are asked for first; `None` in a partition that has no list.
pub(super) fn first_place(region: &Region) -> Option<Region> {
    served(region).first().map(|place| Region((*place).to_owned()))
}

/// Where the prices of a region are served.
fn served(region: &Region) -> &'static [&'static str] {
    match region.0.split('-').collect::<Vec<_>>().as_slice() {
        ["cn", ..] => SERVED_IN_CHINA,
        ["us", "gov", ..] | ["eusc", ..] => &[],
        [_, name, _, ..] if name.starts_with("iso") => &[],
        _ => SERVED,
    }
}

/// The documents that answer a question, all pages.
async fn products(client: &Client, place: &Region, query: &Query) -> Result<Vec<String>, CloudError> {
    let call = Call::read("pricing:GetProducts").within(place);
    let mut filters = Vec::with_capacity(query.filters.len());
    for (field, value) in &query.filters {
        let filter = Filter::builder()
            .r#type(FilterType::TermMatch)
            .field(*field)
            .value(value);
        filters.push(filter.build().map_err(|error| call.nonsense(error.to_string()))?);
    }
    let mut documents = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let request = client.get_products().service_code(query.service).max_results(PAGE);
        let request = request.set_filters(Some(filters.clone())).format_version("aws_v1");
        let page = request.set_next_token(token).send().await;
        let page = page.map_err(|e| call.failed(e))?;
        documents.extend(page.price_list.unwrap_or_default());
        token = page.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(documents);
        }
    }
    Err(call.nonsense(format!("the list does not end after {MAX_PAGES} pages")))
}

/// Keeps the prices of what was asked for; of two for one rate the higher.
fn read(documents: &[String], region: &Region, rates: &[RateKey], prices: &mut BTreeMap<RateKey, Usd>) {
    for document in documents {
        match price_list::read(document, region) {
            Ok(Some((rate, price))) if rates.contains(&rate) => {
                let kept = prices.entry(rate).or_insert(price);
                *kept = price.max(*kept);
            }
            Ok(_) => {}
            // A product that is not sold by the hour says nothing about the rate's other products.
            Err(error @ PriceRejection::NoPrice { .. }) => tracing::debug!(%region, %error, "a price is left out"),
            Err(error) => tracing::warn!(%region, %error, "a price is left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_asked_for_where_they_are_served() {
        let of = |region: &str| served(&Region(region.to_owned()));
        assert_eq!(of("eu-west-1"), SERVED);
        assert_eq!(of("cn-north-1"), SERVED_IN_CHINA);
        for closed in ["us-gov-west-1", "us-iso-east-1", "eu-isoe-west-1", "eusc-de-east-1"] {
            assert!(of(closed).is_empty(), "{closed}");
        }
    }
}
