//! The group commit: read what the batch names, let the rules decide, write, sync.

use sqlx::SqliteConnection;

use super::SqliteStore;
use super::codec::Columns;
use super::error::store;
use super::load::load;
use super::save::{self, save};
use crate::domain::id::EpochId;
use crate::domain::ledger::apply::apply;
use crate::domain::ledger::batch::{Batch, LedgerRejection, LedgerRules, Op, Outcome};
use crate::ports::StoreError;

pub(super) async fn commit(
    store: &SqliteStore,
    batch: &Batch,
    rules: &LedgerRules,
) -> Result<Vec<Outcome>, StoreError> {
    if batch.ops.iter().any(|op| matches!(op, Op::Admit(_))) {
        store.check_reserve()?;
    }
    let mut tx = store.writer.begin("a ledger commit").await?;
    let work = async {
        let db = tx.connection()?;
        check_epoch(db, batch).await?;
        let (outcomes, changed) = run(db, batch, rules).await?;
        // A batch that changed nothing needs no sync, and no number: run again it changes nothing. But the
        // hold that was not there to be voided must not come after it.
        if changed || voided_nothing(batch, &outcomes) {
            save::advance(db, batch.epoch, batch.seq).await?;
        }
        Ok(outcomes)
    }
    .await;
    tx.end(work).await
}

/// Whether a hold was to be voided that is not there: a batch before this one may have it, and land yet.
fn voided_nothing(batch: &Batch, outcomes: &[Outcome]) -> bool {
    let unknown = Outcome::Rejected(LedgerRejection::UnknownHold);
    let mut pairs = batch.ops.iter().zip(outcomes);
    pairs.any(|(op, outcome)| matches!(op, Op::Void { .. }) && *outcome == unknown)
}

/// A closed epoch's writes are dropped, and so is a batch older than the last one. The last one again
/// is welcome: its operations are idempotent by their ids.
async fn check_epoch(db: &mut SqliteConnection, batch: &Batch) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT closed_at IS NOT NULL, last_seq FROM epoch WHERE id = ?1")
        .bind(batch.epoch.0)
        .fetch_optional(db)
        .await
        .map_err(store("reading the epoch"))?
        .ok_or(StoreError::NotFound { what: "the epoch" })?;
    let mut columns = Columns::of(&row, "an epoch");
    let closed: bool = columns.get()?;
    let last = columns.int()?;
    if closed {
        return Err(StoreError::EpochClosed(batch.epoch));
    }
    if batch.seq < last {
        return Err(StoreError::StaleBatch {
            epoch: batch.epoch,
            seq: batch.seq,
            last,
        });
    }
    Ok(())
}

/// Runs a batch inside a write transaction; says whether it changed anything.
pub(super) async fn run(
    db: &mut SqliteConnection,
    batch: &Batch,
    rules: &LedgerRules,
) -> Result<(Vec<Outcome>, bool), StoreError> {
    let mut loaded = load(db, batch).await?;
    let (outcomes, delta) = apply(&mut loaded.snapshot, batch, rules);
    let changed = !save::is_empty(&delta);
    if changed {
        save(db, &mut loaded, &delta).await?;
    }
    Ok((outcomes, changed))
}

/// The highest batch number of an epoch.
pub(super) async fn last_seq(db: &mut SqliteConnection, epoch: EpochId) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar("SELECT last_seq FROM epoch WHERE id = ?1 AND closed_at IS NULL")
        .bind(epoch.0)
        .fetch_optional(db)
        .await
        .map_err(store("reading the epoch"))
}
