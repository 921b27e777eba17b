//! Watching: from the ledger's triggers to decisions about agents, and what people decide about them.
//!
//! The rules are in `domain::judgement`. This room reads what they need, and writes each decision with
//! everything that belongs to it (the agent's state, its containment, reviews, the audit entries, the
//! trigger that is settled by it) in one transaction, so that it happens once or not at all. It never
//! touches the cloud: the kill switch finds the containment in the store.
//!
//! - [`judge`] settles triggers.
//! - [`lifecycle`] is what an operator does: pause, resume, contain, reset.
//! - [`reviews`] is what a person answers.
//! - `drill` opens canary drills.

mod draft;
mod drill;
pub mod judge;
pub mod lifecycle;
pub mod reviews;
pub mod settings;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::ports::{Clock, Entropy, Notifier, Store, StoreError};

pub use lifecycle::{Acted, LifecycleRejection};
pub use settings::WatchSettings;

/// Called when there is news for the kill switch: a containment was opened or changed.
pub type OnNews = Arc<dyn Fn() + Send + Sync>;

/// Judgement and people's decisions, over one store.
pub struct Watch {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    notifier: Arc<dyn Notifier>,
    settings: Arc<ArcSwap<WatchSettings>>,
    on_news: OnNews,
    poke: Notify,
}

impl Watch {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        notifier: Arc<dyn Notifier>,
        settings: Arc<ArcSwap<WatchSettings>>,
        on_news: OnNews,
    ) -> Self {
        Self {
            store,
            clock,
            entropy,
            notifier,
            settings,
            on_news,
            poke: Notify::new(),
        }
    }

    /// Makes the judge look now: a commit left triggers.
    pub fn poke(&self) {
        self.poke.notify_one();
    }

    /// Runs a decision again when what it was made from was changed meanwhile.
    async fn again_on_conflict<T, E, F>(&self, mut decide: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<StoreError> + AsStoreError,
    {
        let attempts = self.settings.load().attempts.max(1);
        for _ in 1..attempts {
            match decide().await {
                Err(error) if matches!(error.as_store_error(), Some(StoreError::Conflict { .. })) => {}
                other => return other,
            }
        }
        decide().await
    }
}

/// Errors that may hold a store's.
trait AsStoreError {
    fn as_store_error(&self) -> Option<&StoreError>;
}

impl AsStoreError for StoreError {
    fn as_store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}
