//! Reading who made what: a runaway agent launches without the tag, and the record names it.
//!
//! The record is minutes behind, and an event may come after a later one, so each reading begins a quarter
//! of an hour before the last one ended; an event that is known stays as it is.
//!
//! How far it was read is told to the kill switch with what was found (C3), and saved with the book: a
//! restarted daemon reads on from there, and one that does not watch goes by what the watching one saved.

use std::convert::Infallible;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Fleet;
use super::learn::text_of;
use crate::domain::containment::target::{CloudTargets, Region};
use crate::domain::fleet::creation::{Creation, Makers};

/// Creations in one write.
const WRITE: usize = 500;

impl Fleet {
    pub(super) async fn keep_reading(&self, region: &Region, look_now: &Notify) -> Infallible {
        loop {
            let asked_at = self.now();
            match self.read_creations(region, asked_at).await {
                Ok(news) => {
                    self.state().note_reading(region, Ok(()), asked_at);
                    self.tell_creators(news);
                    if news {
                        look_now.notify_one();
                    }
                }
                Err(why) => {
                    tracing::debug!(%region, why, "who made what could not be read");
                    self.state().note_reading(region, Err(why), asked_at);
                    self.tell_creators(false);
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
        Ok(!new.is_empty())
    }

    /// Tells the kill switch how far the record was read, and, if there is news, what each agent's principals
    /// made.
    pub(super) fn tell_creators(&self, news: bool) {
        let settings = self.settings();
        let state = self.state();
        let created = || {
            let own = |targets: &CloudTargets| state.makers.created_by(&targets.principals);
            let agents = settings.targets.iter();
            agents.map(|(agent, targets)| (agent.clone(), own(targets))).collect()
        };
        let made = news.then(created);
        let readings = state.read.clone();
        drop(state);
        (self.creators)(made, readings);
    }

    /// The same while another daemon watches, by what it noted: a containment may be driven here.
    pub(super) async fn follow_creators(&self, account: &str) {
        // How far it was read first: what it says is in the store by then.
        let read = match self.saved(account).await {
            Ok(saved) => saved.read,
            Err(why) => {
                tracing::warn!(why, "how far the record of calls was read cannot be told");
                return;
            }
        };
        match self.store.creations(account, Timestamp::MIN).await {
            Ok(creations) => {
                let mut state = self.state();
                state.makers = Makers::of(&creations);
                state.read = read;
                drop(state);
                self.tell_creators(true);
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
        let last = state.read.get(region).and_then(|reading| reading.until).or_else(newest);
        match last {
            Some(last) => back(last.min(now), settings.creations_overlap).max(back(now, settings.creations_most)),
            None => back(now, settings.creations_first),
        }
    }
}
