//! Epochs: one run of the daemon, its lock, and the burial of those that died.
//!
//! The lock is taken inside the transaction that makes the epoch, so that no other process can see an
//! open epoch whose lock is still free. An epoch is dead if its lock can be taken; burying it keeps
//! that lock, so that two processes never bury the same one at once, and looks at the row again
//! inside each transaction, since its owner may have closed it in the meantime.
//!
//! Whoever deletes the lock file of a running daemon makes it look dead: its holds are then charged at
//! their bounds and its next commit is told that the epoch is closed. That costs money and a restart,
//! and never lets spend through.

use jiff::Timestamp;

use super::SqliteStore;
use super::codec::corrupt;
use super::commit;
use super::lock::FileLock;
use super::options::SqliteOptions;
use super::statement::Db;
use crate::domain::id::{EpochId, HoldId};
use crate::domain::ledger::batch::{Batch, LedgerRules, MAX_BATCH, Op};
use crate::domain::ledger::hold::posting_of_dead;
use crate::domain::money::Usd;
use crate::ports::{DeadEpochs, StoreError};

/// Bytes of a host's name that are kept.
const HOST_BYTES: usize = 255;

fn lock_failed(source: std::io::Error) -> StoreError {
    StoreError::Other {
        context: "locking an epoch",
        source: Box::new(source),
    }
}

fn try_lock(options: &SqliteOptions, epoch: EpochId) -> Result<Option<FileLock>, StoreError> {
    FileLock::try_take(&options.beside(&format!("epoch-{epoch}.lock"))).map_err(lock_failed)
}

impl SqliteStore {
    fn keep_lock(&self, epoch: EpochId, lock: FileLock) {
        self.locks().insert(epoch, lock);
    }

    fn drop_lock(&self, epoch: EpochId) {
        if let Some(lock) = self.locks().remove(&epoch) {
            lock.remove();
        }
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<EpochId, FileLock>> {
        // A map of locks is whole after every operation, so a panic elsewhere leaves nothing half done.
        self.epoch_locks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(super) async fn open(store: &SqliteStore, now: Timestamp, host: &str) -> Result<EpochId, StoreError> {
    let host: String = host.chars().take(HOST_BYTES).collect();
    let options = store.options.clone();
    let context = "opening an epoch";
    let (epoch, lock) = store
        .write(context, move |db| {
            let id = db
                .statement(
                    context,
                    "INSERT INTO epoch (host, opened_at) VALUES (?1, ?2) RETURNING id",
                )?
                .text(&host)
                .time(now)
                .row("an epoch", |columns| columns.int())?;
            let epoch = EpochId(id.ok_or_else(|| corrupt("an epoch", "it got no number"))?);
            let lock = try_lock(&options, epoch)?.ok_or(StoreError::Conflict {
                what: "the lock of a new epoch",
            })?;
            Ok((epoch, lock))
        })
        .await?;
    store.keep_lock(epoch, lock);
    Ok(epoch)
}

pub(super) async fn close(store: &SqliteStore, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
    let context = "closing an epoch";
    let closed = store
        .write(context, move |db| {
            let closed = db
                .statement(context, "SELECT closed_at IS NOT NULL FROM epoch WHERE id = ?1")?
                .int(epoch.0)
                .row("an epoch", |columns| columns.flag())?
                .ok_or(StoreError::NotFound { what: "the epoch" })?;
            if closed {
                return Err(StoreError::EpochClosed(epoch));
            }
            if !open_holds(db, epoch, 1)?.is_empty() {
                return Err(StoreError::Conflict {
                    what: "an epoch with open holds",
                });
            }
            mark_closed(db, epoch, now)
        })
        .await;
    if matches!(closed, Ok(()) | Err(StoreError::EpochClosed(_))) {
        store.drop_lock(epoch);
    }
    closed
}

fn mark_closed(db: &Db<'_>, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
    db.statement(
        "closing an epoch",
        "UPDATE epoch SET closed_at = ?2 WHERE id = ?1 AND closed_at IS NULL",
    )?
    .int(epoch.0)
    .time(now)
    .run()
    .map(|_| ())
}

fn open_holds(db: &Db<'_>, epoch: EpochId, limit: usize) -> Result<Vec<(HoldId, Usd)>, StoreError> {
    db.statement(
        "reading open holds",
        "SELECT id, bound FROM hold WHERE epoch = ?1 AND state = 0 ORDER BY expires_at LIMIT ?2",
    )?
    .int(epoch.0)
    .count(limit)
    .rows("a hold", |columns| Ok((HoldId(columns.uuid()?), columns.usd()?)))
}

pub(super) async fn bury(store: &SqliteStore, now: Timestamp, rules: &LedgerRules) -> Result<DeadEpochs, StoreError> {
    let context = "reading epochs";
    let open = store
        .read(context, move |db| {
            db.statement(context, "SELECT id FROM epoch WHERE closed_at IS NULL ORDER BY id")?
                .rows("an epoch", |columns| columns.int().map(EpochId))
        })
        .await?;
    let mut dead = DeadEpochs::default();
    for epoch in open {
        // Our own is among those whose lock cannot be taken.
        let Some(lock) = try_lock(&store.options, epoch)? else {
            continue;
        };
        bury_one(store, epoch, now, rules, &mut dead).await?;
        lock.remove();
    }
    Ok(dead)
}

/// In steps of bounded size; a crash in between leaves an open epoch with fewer open holds.
async fn bury_one(
    store: &SqliteStore,
    epoch: EpochId,
    now: Timestamp,
    rules: &LedgerRules,
    dead: &mut DeadEpochs,
) -> Result<(), StoreError> {
    loop {
        let rules = *rules;
        let step = store
            .write("burying an epoch", move |db| bury_some(db, epoch, now, &rules))
            .await?;
        match step {
            Step::ClosedByOthers => return Ok(()),
            Step::Closed => {
                dead.epochs.push(epoch);
                return Ok(());
            }
            Step::Expired(holds) => {
                dead.holds += u64::try_from(holds.len()).unwrap_or(u64::MAX);
                dead.amount = holds
                    .iter()
                    .fold(dead.amount, |sum, (_, bound)| sum.saturating_add(*bound));
            }
        }
    }
}

enum Step {
    ClosedByOthers,
    Closed,
    Expired(Vec<(HoldId, Usd)>),
}

fn bury_some(db: &Db<'_>, epoch: EpochId, now: Timestamp, rules: &LedgerRules) -> Result<Step, StoreError> {
    let Some(seq) = commit::last_seq(db, epoch)? else {
        return Ok(Step::ClosedByOthers);
    };
    let holds = open_holds(db, epoch, MAX_BATCH)?;
    if holds.is_empty() {
        mark_closed(db, epoch, now)?;
        return Ok(Step::Closed);
    }
    let ops = holds
        .iter()
        .map(|(hold, _)| Op::Expire {
            hold: *hold,
            posting: posting_of_dead(*hold),
            detail: None,
        })
        .collect();
    let batch = Batch { epoch, seq, now, ops };
    commit::run(db, &batch, rules)?;
    let left = open_holds(db, epoch, MAX_BATCH)?;
    if left.iter().any(|hold| holds.contains(hold)) {
        return Err(corrupt("a dead epoch", "an open hold of it cannot be ended"));
    }
    Ok(Step::Expired(holds))
}
