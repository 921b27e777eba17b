//! From the book into the ledger: taken out, saved, posted, in this order.

use std::collections::BTreeSet;
use std::time::Duration;

use super::learn::text_of;
use super::state::{SavedBook, SavedBookRef, Standing, State};
use super::{Fleet, Lost};
use crate::domain::fleet::creation::Makers;
use crate::ports::{FleetBook, Retry, StoreError};

/// Before the store or the ledger is asked again.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Fleet {
    /// Reads what was saved, and who made what as far as it was noted. A book that cannot be read is never
    /// written over: it holds what is not posted.
    pub(super) async fn load(&self, account: &str) -> Result<(), String> {
        let mut state = self.saved(account).await?;
        state.standing = Standing::Watching;
        // Before the first look: what an agent made is the agent's from the start.
        let noted = self.store.creations(account, jiff::Timestamp::MIN).await;
        state.makers = Makers::of(&noted.map_err(|error| text_of(&error))?);
        state.told = state.book.orphans().into_iter().map(|(what, _)| what.clone()).collect();
        *self.state() = state;
        self.tell_creators(true);
        Ok(())
    }

    pub(super) async fn saved(&self, account: &str) -> Result<State, String> {
        let saved = self.store.fleet_book(account).await.map_err(|error| text_of(&error))?;
        let mut state = State {
            account: Some(account.to_owned()),
            ..State::default()
        };
        if let Some(saved) = saved {
            let book: SavedBook =
                serde_json::from_str(&saved.book).map_err(|error| format!("the fleet's book: {error}"))?;
            state.read = book.readings();
            state.book = book.book;
            state.outbox = serde_json::from_str(&saved.outbox).map_err(|error| format!("the outbox: {error}"))?;
            state.handed = !state.outbox.is_empty();
        }
        Ok(state)
    }

    /// While nothing is watched: posts what an earlier run left, and forgets what ran, so that the time for
    /// which nobody looks is not charged when somebody looks again. Whether nothing is left.
    pub(super) async fn put_away(&self) -> bool {
        let settings = self.settings();
        let accounts: BTreeSet<&String> = settings.targets.values().map(|targets| &targets.account).collect();
        let mut is_done = true;
        for account in accounts {
            match self.put_away_book(account).await {
                Ok(done) => is_done &= done,
                Err(why) => {
                    tracing::warn!(account, why, "what the fleet cost before cannot be posted yet");
                    is_done = false;
                }
            }
        }
        is_done
    }

    async fn put_away_book(&self, account: &str) -> Result<bool, String> {
        let is_settled = |state: &State| state.outbox.is_empty() && state.book.is_settled();
        if is_settled(&self.saved(account).await?) {
            return Ok(true);
        }
        if !self.take_lease(account).await.map_err(|error| text_of(&error))? {
            return Ok(false);
        }
        let mut state = self.saved(account).await?;
        state.forget_all(None);
        *self.state() = state;
        self.post_all(account).await;
        let is_done = is_settled(&self.state());
        self.give_back().await;
        *self.state() = State::default();
        Ok(is_done)
    }

    /// Posts what is on its way, and then what has gathered meanwhile, as far as that can be done now.
    pub(super) async fn post_all(&self, account: &str) {
        for _ in 0..2 {
            if !matches!(self.post(account).await, Ok(true)) {
                break;
            }
        }
        // So that the next start has nothing to post again.
        drop(self.save(account).await);
    }

    pub(super) async fn keep_posting(&self, account: &str) -> Lost {
        // What an earlier run took out goes first, and what burnt since belongs on the lines of its hours.
        let mut is_due = true;
        loop {
            let begun = self.clock.monotonic();
            let done = if is_due {
                self.post(account).await
            } else {
                self.save(account).await.map(|()| true)
            };
            match done {
                Ok(true) => {}
                // What became of it is asked at once: until it is known it is in no forecast.
                Ok(false) => {
                    self.clock.sleep(AT_ONCE).await;
                    continue;
                }
                Err(StoreError::Conflict { .. }) => return Lost::Lease,
                Err(error) => {
                    self.store_trouble(&error);
                    let wait = match error.retry() {
                        Retry::After(wait) => wait,
                        _ => AT_ONCE,
                    };
                    self.clock.sleep(wait).await;
                    continue;
                }
            }
            self.state().note_trouble("store", None, self.now());
            is_due = self.until_due(begun).await;
        }
    }

    /// Waits until the book is to be posted (true) or saved.
    async fn until_due(&self, begun: Duration) -> bool {
        let accrue_every = self.settings().accrue_every;
        let until = self.last_post().saturating_add(accrue_every).max(begun);
        let wait = until.saturating_sub(self.clock.monotonic());
        tokio::select! {
            biased;
            () = self.post_now.notified() => true,
            () = self.clock.sleep(wait) => true,
            () = self.save_now.notified() => false,
        }
    }

    fn last_post(&self) -> Duration {
        self.state().posted_since
    }

    /// Saves the book with the outbox.
    pub(super) async fn save(&self, account: &str) -> Result<(), StoreError> {
        let saved = {
            let state = self.state();
            let text = |json: serde_json::Result<String>| {
                json.map_err(|error| StoreError::Other {
                    context: "the fleet's book has no text",
                    source: Box::new(error),
                })
            };
            FleetBook {
                book: text(serde_json::to_string(&SavedBookRef::of(&state)))?,
                outbox: text(serde_json::to_string(&state.outbox))?,
            }
        };
        let lease = self.held().clone().ok_or(StoreError::Conflict { what: "the lease" })?;
        self.store.save_fleet_book(&lease, account, &saved).await?;
        self.state().saved_at = Some(self.now());
        Ok(())
    }

    /// Takes out, saves, posts. What is not known to be posted stays in the outbox and goes first the next
    /// time; whether nothing is.
    pub(super) async fn post(&self, account: &str) -> Result<bool, StoreError> {
        self.state().take_out(self.now());
        self.save(account).await?;
        let rows = self.state().outbox.clone();
        self.state().posted_since = self.clock.monotonic();
        let (mut sent, mut requests) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            match row.report(account) {
                Ok(request) => {
                    requests.push(request);
                    sent.push(row);
                }
                Err(error) => tracing::error!(%error, usd = %row.amount(), "a charge of the fleet has no id"),
            }
        }
        if requests.is_empty() {
            return Ok(true);
        }
        let _settling = self.settling.lock().await;
        self.state().handed = true;
        match self.ledger.report(requests).await {
            Ok(reported) => {
                for (row, reported) in sent.iter().zip(reported) {
                    match reported {
                        Ok(_) => posted(row.amount().as_f64_lossy()),
                        Err(rejection) => {
                            metrics::counter!("backstop_fleet_refused_total").increment(1);
                            tracing::error!(
                                agent = %row.agent(), usd = %row.amount(), %rejection,
                                "the ledger refused what the fleet cost; it is not counted"
                            );
                        }
                    }
                }
                let mut state = self.state();
                state.outbox.clear();
                state.handed = false;
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(%error, "what the fleet cost is not known to be posted yet");
                Ok(false)
            }
        }
    }
}

fn posted(dollars: f64) {
    metrics::counter!("backstop_fleet_postings_total").increment(1);
    metrics::histogram!("backstop_fleet_posted_usd").record(dollars);
}
