//! CloudTrail: who made what, by its record of calls.
//!
//! A look-up goes through the region's management events of the last 90 days, which every account has
//! without setting anything up. It can be narrowed by one attribute, so each [call that makes
//! something](creation_event::CALLS) is asked for by itself. AWS allows two look-ups a second for an account
//! and region, whoever makes them ("Quotas in AWS CloudTrail", read 2026-11-20), so they are paced, a little
//! slower than that: a sweep of one region takes some seven seconds and more, and is for the background. An
//! event is there within about five minutes of its call on average, and nothing is promised; what is
//! not there yet is the coverage's *attribution pending* (C3). EventBridge brings the same events faster.
//!
//! An event that cannot be read is said aloud and left out: others of the same page may still tell who
//! made what.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudtrail::Client;
use aws_sdk_cloudtrail::config::Builder;
use aws_sdk_cloudtrail::config::retry::RetryPartition;
use aws_sdk_cloudtrail::types::{Event, LookupAttribute, LookupAttributeKey};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::error::Call;
use super::pace::Pace;
use crate::domain::containment::target::Region;
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::creation_event::{self, CALLS};
use crate::ports::CloudError;

/// A little less than two a second: people look things up, too.
const GAP: Duration = Duration::from_millis(600);

/// CloudTrail gives no more events in one page.
const PAGE: i32 = 50;

/// Five thousand events of one call, the newest first: a look-up of all calls takes eleven minutes at the most.
const MAX_PAGES: usize = 100;

#[derive(Debug)]
pub(super) struct CloudTrail {
    region: Region,
    client: Client,
    pace: Pace,
}

impl CloudTrail {
    pub(super) fn new(sdk: &SdkConfig, region: &Region) -> Self {
        let config = Builder::from(sdk)
            .region(aws_config::Region::new(region.0.clone()))
            .retry_partition(RetryPartition::new(format!("cloudtrail-{region}")));
        Self {
            region: region.clone(),
            client: Client::from_conf(config.build()),
            pace: Pace::new(GAP),
        }
    }

    /// What was made since then, oldest first, each event once.
    pub(super) async fn creations(&self, since: Timestamp) -> Result<Vec<Creation>, CloudError> {
        let mut found: BTreeMap<(Timestamp, String), Creation> = BTreeMap::new();
        for call in CALLS {
            for event in self.events(call, since).await? {
                if let Some(creation) = self.read(&event) {
                    found.insert((creation.at, creation.event.clone()), creation);
                }
            }
        }
        Ok(found.into_values().collect())
    }

    async fn events(&self, name: &str, since: Timestamp) -> Result<Vec<Event>, CloudError> {
        let call = Call::read("cloudtrail:LookupEvents").within(&self.region);
        let by_name = LookupAttribute::builder()
            .attribute_key(LookupAttributeKey::EventName)
            .attribute_value(name)
            .build()
            .map_err(|error| call.nonsense(error.to_string()))?;
        let mut events = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            self.pace.turn().await;
            let request = self.client.lookup_events().lookup_attributes(by_name.clone());
            // Whole seconds, as CloudTrail keeps them.
            let request = request
                .start_time(DateTime::from_secs(since.as_second()))
                .max_results(PAGE);
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            events.extend(page.events.unwrap_or_default());
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(events);
            }
        }
        tracing::warn!(
            region = %self.region, call = name, events = events.len(),
            "there are more events than are read; who made what the older ones made is unknown"
        );
        Ok(events)
    }

    fn read(&self, event: &Event) -> Option<Creation> {
        let text = event.cloud_trail_event().unwrap_or_default();
        match creation_event::read(text) {
            // An event of another region's call would be read in that region, too.
            Ok(creation) => creation.filter(|creation| creation.region == self.region),
            Err(error) => {
                tracing::warn!(
                    region = %self.region, event = event.event_id(), call = event.event_name(), %error,
                    "who made something is unknown: its event cannot be read"
                );
                None
            }
        }
    }
}
