//! Reading who made what: a runaway agent launches without the tag, and the record names it.
//!
//! The record is minutes behind, and an event may come after a later one, so each reading begins a quarter
//! of an hour before the last one ended; an event that is known stays as it is.
//!
//! Each name of a call is read on its own, page by page, and each page is used as soon as it is there: one that
//! fails, or is full of an agent's noise, takes nothing away from the others. How far each was read is its
//! [cursor's](super::reading) business, and the record of a region was read as far as that of every name.
//!
//! How far that is is told to the kill switch with what was found (C3), and saved with the book: a restarted
//! daemon reads on from there, and one that does not watch goes by what the watching one saved.

use std::collections::BTreeMap;
use std::convert::Infallible;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Fleet;
use super::learn::text_of;
use super::reading::{Cursor, Read, Span};
use crate::domain::containment::target::{CloudTargets, Region};
use crate::domain::fleet::creation::{Creation, Makers};
use crate::domain::fleet::creation_event::CALLS;
use crate::ports::LookUp;

/// Creations in one write.
const WRITE: usize = 500;

/// Pages of one name in one reading, of what is new and of what is missing: fifty events each, and two a second
/// for the whole account.
const PAGES: usize = 30;

/// The cursors of a region, by the name of the call.
type Cursors = BTreeMap<&'static str, Cursor>;

/// What became of reading a region's record.
#[derive(Debug, Default)]
struct Reading {
    /// Something is known that was not.
    news: bool,
    /// What went wrong last.
    why: Option<String>,
}

impl Fleet {
    pub(super) async fn keep_reading(&self, region: &Region, look_now: &Notify) -> Infallible {
        let mut cursors: Cursors = CALLS.iter().map(|call| (*call, Cursor::default())).collect();
        loop {
            let asked_at = self.now();
            let reading = self.read_creations(region, &mut cursors, asked_at).await;
            // As far as the least far; none while a name was never read.
            let until = cursors.values().map(Cursor::until).min().flatten();
            if let Some(why) = &reading.why {
                tracing::debug!(%region, why, "who made what could not be read whole");
            }
            self.state().note_reading(region, until, reading.why, asked_at);
            self.tell_creators(reading.news);
            if reading.news {
                look_now.notify_one();
            }
            self.clock.sleep(self.settings().creations_every).await;
        }
    }

    /// Reads on from where the last reading ended: of every name first what is new, then what is missing.
    async fn read_creations(&self, region: &Region, cursors: &mut Cursors, now: Timestamp) -> Reading {
        let mut reading = Reading::default();
        for (call, cursor) in cursors.iter_mut() {
            let new = Span {
                since: self.since(region, cursor, now),
                until: None,
            };
            let read = self.read_span(region, call, new, &mut reading).await;
            cursor.note_new(new.since, now, read);
        }
        for (call, cursor) in cursors.iter_mut() {
            if let Some(gap) = cursor.gap() {
                let read = self.read_span(region, call, gap, &mut reading).await;
                cursor.note_gap(read);
                if cursor.gap().is_some() && reading.why.is_none() {
                    reading.why = Some(format!("there is more of {call} than could be read by now"));
                }
            }
        }
        reading
    }

    async fn read_span(&self, region: &Region, call: &str, span: Span, reading: &mut Reading) -> Read {
        let mut wanted = LookUp {
            call,
            since: span.since,
            until: span.until,
            page: None,
        };
        let mut oldest = None;
        for _ in 0..PAGES {
            let page = match self.within(self.cloud.creations(region, &wanted)).await {
                Ok(page) => page,
                Err(why) => {
                    reading.why = Some(why);
                    return Read::DownTo(oldest);
                }
            };
            match self.use_creations(page.creations).await {
                Ok(news) => reading.news |= news,
                Err(why) => {
                    // What is not kept counts as not read.
                    reading.why = Some(why);
                    return Read::DownTo(oldest);
                }
            }
            if page.unread.is_some() {
                reading.why = page.unread;
            }
            oldest = page.oldest.or(oldest);
            wanted.page = page.next;
            if wanted.page.is_none() {
                return Read::Whole;
            }
        }
        Read::DownTo(oldest)
    }

    /// Notes what a page gave. Whether there was anything new.
    async fn use_creations(&self, found: Vec<Creation>) -> Result<bool, String> {
        let new: Vec<Creation> = {
            let state = self.state();
            let new = found.into_iter().filter(|creation| !state.makers.knows(creation));
            new.collect()
        };
        for some in new.chunks(WRITE) {
            // In the store before in use: what is charged to somebody has its reason on record.
            let noted = self.store.note_creations(some, self.now()).await;
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

    fn since(&self, region: &Region, cursor: &Cursor, now: Timestamp) -> Timestamp {
        let settings = self.settings();
        let back = |from: Timestamp, by: std::time::Duration| {
            let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
            from.checked_sub(by).unwrap_or(Timestamp::MIN)
        };
        let state = self.state();
        let newest = || state.makers.newest_in(region);
        // What is missing below its top is read as a gap.
        let read = || state.read.get(region).and_then(|reading| reading.until);
        let last = cursor.top().or_else(read).or_else(newest);
        match last {
            Some(last) => back(last.min(now), settings.creations_overlap).max(back(now, settings.creations_most)),
            None => back(now, settings.creations_first),
        }
    }
}
