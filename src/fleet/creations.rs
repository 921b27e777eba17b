//! Reading who made what: a runaway agent launches without the tag, and the record names it.
//!
//! The record is minutes behind, and an event may come after a later one, so each reading begins a quarter
//! of an hour before the last one ended; an event that is known stays as it is.

use std::convert::Infallible;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Fleet;
use super::learn::text_of;
use crate::domain::containment::target::Region;
use crate::domain::fleet::creation::{Creation, Makers};

/// Creations in one write.
const WRITE: usize = 500;

impl Fleet {
    pub(super) async fn keep_reading(&self, region: &Region, look_now: &Notify) -> Infallible {
        loop {
            let asked_at = self.now();
            match self.read_creations(region, asked_at).await {
                Ok(news) => {
                    let mut state = self.state();
                    state.note_trouble("creations", None, asked_at);
                    state.read.insert(region.clone(), asked_at);
                    drop(state);
                    if news {
                        look_now.notify_one();
                    }
                }
                Err(why) => {
                    tracing::debug!(%region, why, "who made what could not be read");
                    let why = format!("{region}: {why}");
                    self.state().note_trouble("creations", Some(why), asked_at);
                }
            }
            self.clock.sleep(self.settings().creations_every).await;
        }
    }

    /// Reads on from where the last reading ended. Whether there was anything new.
    async fn read_creations(&self, region: &Region, now: Timestamp) -> Result<bool, String> {
        let since = self.since(region, now);
        let found = self.within(self.cloud.creations(region, since)).await?;
        let new: Vec<Creation> = {
            let state = self.state();
            found
                .into_iter()
                .filter(|creation| !state.makers.knows(creation))
                .collect()
        };
        for some in new.chunks(WRITE) {
            // In the store before in use: what is charged to somebody has its reason on record.
            let noted = self.store.note_creations(some, now).await;
            noted.map_err(|error| text_of(&error))?;
        }
        let mut state = self.state();
        for creation in &new {
            state.makers.note(creation);
        }
        drop(state);
        if !new.is_empty() {
            self.tell_creators();
        }
        Ok(!new.is_empty())
    }

    /// Tells the kill switch what each agent's principals made.
    pub(super) fn tell_creators(&self) {
        let settings = self.settings();
        let state = self.state();
        let created = settings.targets.iter();
        let created = created.map(|(agent, targets)| (agent.clone(), state.makers.created_by(&targets.principals)));
        let created = created.collect();
        drop(state);
        (self.creators)(created);
    }

    /// The same while another daemon watches, by what it noted: a containment may be driven here.
    pub(super) async fn follow_creators(&self, account: &str) {
        match self.store.creations(account, Timestamp::MIN).await {
            Ok(creations) => {
                self.state().makers = Makers::of(&creations);
                self.tell_creators();
            }
            Err(error) => self.store_trouble(&error),
        }
    }

    fn since(&self, region: &Region, now: Timestamp) -> Timestamp {
        let settings = self.settings();
        let back = |from: Timestamp, by: std::time::Duration| {
            let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
            from.checked_sub(by).unwrap_or(Timestamp::MIN)
        };
        let state = self.state();
        let newest = || state.makers.newest_in(region);
        let last = state.read.get(region).copied().or_else(newest);
        match last {
            Some(last) => back(last.min(now), settings.creations_overlap).max(back(now, settings.creations_most)),
            None => back(now, settings.creations_first),
        }
    }
}
