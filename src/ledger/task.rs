//! Opening the ledger, and the future that does its work.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Ledger;
use super::agents::{Agents, follow_agents};
use super::budgets::Budgets;
use super::committer::{Committer, Fatal};
use super::housekeeper::{keep_house, raise_mark};
use super::open_holds::OpenHolds;
use super::settings::LedgerSettings;
use super::shared::{CHANNEL, Gauges, Later, Shared, lock};
use crate::domain::budget::Budget;
use crate::domain::clock::ClockGuard;
use crate::ports::{Clock, DeadEpochs, Entropy, Notifier, Store, StoreError};

/// What the ledger needs of the world.
#[derive(Clone)]
pub struct Deps {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Who is told when the store or the clock stops new spend.
    pub notifier: Arc<dyn Notifier>,
}

/// The work behind a [`Ledger`]. Nothing is committed unless somebody polls it.
pub struct LedgerTask {
    shared: Arc<Shared>,
    committer: Committer,
}

/// Opens an epoch: first the clock's mark, then the dead are buried, so that what they left open counts
/// before anything new is admitted. `host` names this process for a person. The task writes the rules
/// of `budgets` before anything else.
pub async fn open(
    deps: Deps,
    settings: LedgerSettings,
    budgets: Vec<Budget>,
    host: &str,
) -> Result<(Ledger, LedgerTask, DeadEpochs), StoreError> {
    let Deps {
        store,
        clock,
        entropy,
        notifier,
    } = deps;
    let mark = store.advance_clock(clock.now()).await?;
    let mut guard = ClockGuard::new(clock.now(), clock.monotonic(), mark);
    let now = guard.observe(clock.now(), clock.monotonic()).ledger_now;
    let dead = store.bury_dead_epochs(now, &settings.rules).await?;
    let epoch = store.open_epoch(now, host).await?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let shared = Arc::new(Shared {
        store,
        clock,
        entropy,
        notifier,
        settings,
        epoch,
        budgets: Budgets::new(budgets),
        guard: Mutex::new(guard),
        open: Mutex::new(OpenHolds::default()),
        places: Arc::default(),
        triggers: Arc::new(Notify::new()),
        later: Arc::new(Later::default()),
        agents: Agents::default(),
        commands: sender,
        gauges: Gauges::default(),
    });
    // What a dead epoch left behind may be waiting for judgement.
    shared.triggers.notify_one();
    let committer = Committer::new(Arc::clone(&shared), receiver);
    let ledger = Ledger {
        shared: Arc::clone(&shared),
    };
    Ok((ledger, LedgerTask { shared, committer }, dead))
}

impl LedgerTask {
    /// Runs until it was told to drain and has, or cannot go on; then the process must end.
    ///
    /// Draining admits nothing new and waits a bounded time for open holds to end. If all have, the
    /// epoch is closed. If some have not, it is left, and the next start makes them unresolved (L3).
    pub async fn run(self, drain: CancellationToken) -> Result<(), Fatal> {
        let Self { shared, committer } = self;
        let end = tokio::select! {
            biased;
            end = committer.run(&drain) => end,
            () = keep_house(Arc::clone(&shared)) => Ok(()),
            () = follow_agents(Arc::clone(&shared)) => Ok(()),
        };
        shared.gauges.draining.store(true, Ordering::Relaxed);
        if end.is_ok() {
            raise_mark(&shared).await;
            close(&shared).await;
        }
        end
    }
}

async fn close(shared: &Shared) {
    let open = lock(&shared.open).len();
    if open > 0 {
        tracing::warn!(open, "holds are still open; the next start makes them unresolved");
        return;
    }
    let now = shared.read_clock().ledger_now;
    tokio::select! {
        biased;
        closed = shared.store.close_epoch(shared.epoch, now) => match closed {
            Ok(()) => tracing::info!(epoch = %shared.epoch, "the epoch is closed"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the epoch cannot be closed; the next start will");
            }
        },
        () = shared.clock.sleep(shared.settings.commit_limit) => {}
    }
}
