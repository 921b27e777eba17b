//! From the book into the ledger: taken out, saved, posted, in this order.

use jiff::Timestamp;

use super::learn::text_of;
use super::outbox::Owed;
use super::state::{SavedBook, SavedBookRef, Standing, State};
use super::{Fleet, Lost};
use crate::domain::fleet::creation::Makers;
use crate::ports::{FleetBook, Retry, StoreError};

impl Fleet {
    /// Reads what was saved. A book that cannot be read is never written over: it holds what is not posted.
    pub(super) async fn load(&self, account: &str) -> Result<(), String> {
        let saved = self.saved(account).await?;
        // What the record of calls said up to where it was read: both are told as one.
        let creations = self.store.creations(account, Timestamp::MIN).await;
        let creations = creations.map_err(|error| text_of(&error))?;
        let mut state = State {
            account: Some(account.to_owned()),
            standing: Standing::Watching,
            ..State::default()
        };
        state.makers = Makers::of(&creations);
        if let Some((saved, outbox)) = saved {
            state.read = saved.readings();
            (state.book, state.outbox) = (saved.book, outbox);
        }
        state.told = state.book.orphans().into_iter().map(|(what, _)| what.clone()).collect();
        *self.state() = state;
        self.tell_creators(true);
        Ok(())
    }

    pub(super) async fn saved(&self, account: &str) -> Result<Option<(SavedBook, Vec<Owed>)>, String> {
        let saved = self.store.fleet_book(account).await.map_err(|error| text_of(&error))?;
        let Some(saved) = saved else { return Ok(None) };
        let book = serde_json::from_str(&saved.book).map_err(|error| format!("the fleet's book: {error}"))?;
        let outbox = serde_json::from_str(&saved.outbox).map_err(|error| format!("the outbox: {error}"))?;
        Ok(Some((book, outbox)))
    }

    pub(super) async fn keep_posting(&self, account: &str) -> Lost {
        // What an earlier run took out goes first.
        let mut is_due = !self.state().outbox.is_empty();
        loop {
            let begun = self.clock.monotonic();
            let done = if is_due {
                self.post(account).await
            } else {
                self.save(account).await
            };
            if let Err(error) = done {
                if matches!(error, StoreError::Conflict { .. }) {
                    return Lost::Lease;
                }
                self.store_trouble(&error);
                let wait = match error.retry() {
                    Retry::After(wait) => wait,
                    _ => std::time::Duration::from_secs(1),
                };
                self.clock.sleep(wait).await;
                continue;
            }
            self.state().note_trouble("store", None, self.clock.now());
            is_due = self.until_due(begun).await;
        }
    }

    /// Waits until the book is to be posted (true) or saved.
    async fn until_due(&self, begun: std::time::Duration) -> bool {
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

    fn last_post(&self) -> std::time::Duration {
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
        self.state().saved_at = Some(self.clock.now());
        Ok(())
    }

    /// Takes out, saves, posts. What is not posted stays in the outbox and goes first the next time.
    pub(super) async fn post(&self, account: &str) -> Result<(), StoreError> {
        self.state().take_out(self.clock.now());
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
            return Ok(());
        }
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
                self.state().outbox.clear();
            }
            Err(error) => tracing::warn!(%error, "what the fleet cost is not posted yet"),
        }
        Ok(())
    }
}

fn posted(dollars: f64) {
    metrics::counter!("backstop_fleet_postings_total").increment(1);
    metrics::histogram!("backstop_fleet_posted_usd").record(dollars);
}
