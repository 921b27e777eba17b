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
//! made what. A page is all that is asked for at once: how far to go back, and where to go on after a failure, is
//! the watcher's business.

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
use crate::domain::fleet::creation_event;
use crate::ports::{CloudError, LookUp, Recorded};

/// A little less than two a second: people look things up, too.
const GAP: Duration = Duration::from_millis(600);

/// CloudTrail gives no more events in one page.
const PAGE: i32 = 50;

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

    /// One page, the newest first.
    pub(super) async fn creations(&self, wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        let call = Call::read("cloudtrail:LookupEvents").within(&self.region);
        let by_name = LookupAttribute::builder()
            .attribute_key(LookupAttributeKey::EventName)
            .attribute_value(wanted.call)
            .build()
            .map_err(|error| call.nonsense(error.to_string()))?;
        self.pace.turn().await;
        let request = self.client.lookup_events().lookup_attributes(by_name);
        // Whole seconds, as CloudTrail keeps them; both ends are within.
        let request = request
            .start_time(DateTime::from_secs(wanted.since.as_second()))
            .set_end_time(wanted.until.map(|until| DateTime::from_secs(until.as_second())))
            .max_results(PAGE);
        let page = request.set_next_token(wanted.page.clone()).send().await;
        let page = page.map_err(|e| call.failed(e))?;
        let mut recorded = Recorded {
            next: page.next_token.filter(|token| !token.is_empty()),
            ..Recorded::default()
        };
        for event in page.events.unwrap_or_default() {
            let at = event.event_time().and_then(|at| Timestamp::from_second(at.secs()).ok());
            recorded.oldest = match (recorded.oldest, at) {
                (Some(oldest), Some(at)) => Some(oldest.min(at)),
                (oldest, at) => oldest.or(at),
            };
            match self.read(&event) {
                Ok(creation) => recorded.creations.extend(creation),
                Err(why) => recorded.unread = Some(why),
            }
        }
        if recorded.next.is_some() && recorded.next == wanted.page {
            return Err(call.nonsense("the record's next page is the same page"));
        }
        Ok(recorded)
    }

    /// Who made what, or why that is not known.
    fn read(&self, event: &Event) -> Result<Option<Creation>, String> {
        let text = event.cloud_trail_event().unwrap_or_default();
        let subjects = event.resources().iter();
        let subjects = subjects.filter_map(|one| Some((one.resource_type()?, one.resource_name()?)));
        let subjects: Vec<(&str, &str)> = subjects.collect();
        match creation_event::read_about(text, &subjects) {
            // An event of another region's call would be read in that region, too.
            Ok(creation) => Ok(creation.filter(|creation| creation.region == self.region)),
            Err(error) => {
                tracing::warn!(
                    region = %self.region, event = event.event_id(), call = event.event_name(), %error,
                    "who made something is unknown: its event cannot be read"
                );
                let (name, id) = (event.event_name().unwrap_or("?"), event.event_id().unwrap_or("?"));
                Err(format!(
                    "who made something is unknown, by the event {id} of {name}: {error}"
                ))
            }
        }
    }
}
