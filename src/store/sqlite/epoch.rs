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
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::codec::{self, Columns};
use super::commit;
use super::error::store;
use super::lock::FileLock;
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

impl SqliteStore {
    fn try_epoch_lock(&self, epoch: EpochId) -> Result<Option<FileLock>, StoreError> {
        FileLock::try_take(&self.options.beside(&format!("epoch-{epoch}.lock"))).map_err(lock_failed)
    }

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
    let mut tx = store.writer.begin("opening an epoch").await?;
    let work = async {
        let db = tx.connection()?;
        let id: i64 = sqlx::query_scalar("INSERT INTO epoch (host, opened_at) VALUES (?1, ?2) RETURNING id")
            .bind(&host)
            .bind(codec::micros(now))
            .fetch_one(db)
            .await
            .map_err(self::store("opening an epoch"))?;
        let epoch = EpochId(id);
        let lock = store.try_epoch_lock(epoch)?.ok_or(StoreError::Conflict {
            what: "the lock of a new epoch",
        })?;
        Ok((epoch, lock))
    }
    .await;
    let (epoch, lock) = tx.end(work).await?;
    store.keep_lock(epoch, lock);
    Ok(epoch)
}

pub(super) async fn close(store: &SqliteStore, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.writer.begin("closing an epoch").await?;
    let work = async {
        let db = tx.connection()?;
        let closed: bool = sqlx::query_scalar("SELECT closed_at IS NOT NULL FROM epoch WHERE id = ?1")
            .bind(epoch.0)
            .fetch_optional(&mut *db)
            .await
            .map_err(self::store("closing an epoch"))?
            .ok_or(StoreError::NotFound { what: "the epoch" })?;
        if closed {
            return Err(StoreError::EpochClosed(epoch));
        }
        if !open_holds(db, epoch, 1).await?.is_empty() {
            return Err(StoreError::Conflict {
                what: "an epoch with open holds",
            });
        }
        mark_closed(db, epoch, now).await
    }
    .await;
    let ended = tx.end(work).await;
    if matches!(ended, Ok(()) | Err(StoreError::EpochClosed(_))) {
        store.drop_lock(epoch);
    }
    ended
}

async fn mark_closed(db: &mut SqliteConnection, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE epoch SET closed_at = ?2 WHERE id = ?1 AND closed_at IS NULL")
        .bind(epoch.0)
        .bind(codec::micros(now))
        .execute(db)
        .await
        .map_err(store("closing an epoch"))?;
    Ok(())
}

async fn open_holds(db: &mut SqliteConnection, epoch: EpochId, limit: usize) -> Result<Vec<(HoldId, Usd)>, StoreError> {
    let rows = sqlx::query("SELECT id, bound FROM hold WHERE epoch = ?1 AND state = 0 ORDER BY expires_at LIMIT ?2")
        .bind(epoch.0)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await
        .map_err(store("reading open holds"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "a hold");
            Ok((HoldId(columns.uuid()?), columns.usd()?))
        })
        .collect()
}

pub(super) async fn bury(store: &SqliteStore, now: Timestamp, rules: &LedgerRules) -> Result<DeadEpochs, StoreError> {
    let open: Vec<i64> = sqlx::query_scalar("SELECT id FROM epoch WHERE closed_at IS NULL ORDER BY id")
        .fetch_all(&store.readers)
        .await
        .map_err(self::store("reading epochs"))?;
    let mut dead = DeadEpochs::default();
    for epoch in open.into_iter().map(EpochId) {
        // Our own is among those whose lock cannot be taken.
        let Some(lock) = store.try_epoch_lock(epoch)? else {
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
        let mut tx = store.writer.begin("burying an epoch").await?;
        let work = async {
            let db = tx.connection()?;
            let Some(seq) = commit::last_seq(db, epoch).await? else {
                return Ok(Step::ClosedByOthers);
            };
            let holds = open_holds(db, epoch, MAX_BATCH).await?;
            if holds.is_empty() {
                mark_closed(db, epoch, now).await?;
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
            commit::run(db, &batch, rules).await?;
            let left = open_holds(db, epoch, MAX_BATCH).await?;
            if left.iter().any(|hold| holds.contains(hold)) {
                return Err(codec::corrupt("a dead epoch", "an open hold of it cannot be ended"));
            }
            Ok(Step::Expired(holds))
        }
        .await;
        match tx.end(work).await? {
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
