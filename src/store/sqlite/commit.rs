//! The group commit: read what the batch names, let the rules decide, write, sync.

use super::SqliteStore;
use super::load::load;
use super::save::{self, save};
use super::statement::Db;
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
    let (batch, rules) = (batch.clone(), *rules);
    store
        .write("a ledger commit", move |db| {
            number(db, &batch)?;
            let (outcomes, changed) = run(db, &batch, &rules)?;
            // A batch that changed nothing needs no sync, and no number: run again it changes nothing. But the
            // hold that was not there to be voided must not come after it.
            if !changed && !voided_nothing(&batch, &outcomes) {
                db.discard();
            }
            Ok(outcomes)
        })
        .await
}

/// Whether a hold was to be voided that is not there: a batch before this one may have it, and land yet.
fn voided_nothing(batch: &Batch, outcomes: &[Outcome]) -> bool {
    let unknown = Outcome::Rejected(LedgerRejection::UnknownHold);
    let mut pairs = batch.ops.iter().zip(outcomes);
    pairs.any(|(op, outcome)| matches!(op, Op::Void { .. }) && *outcome == unknown)
}

/// Marks the batch as the last one of its epoch that is on disk. A closed epoch's writes are dropped, and
/// so is a batch older than the last one. The last one again is welcome: its operations are idempotent by
/// their ids.
fn number(db: &Db<'_>, batch: &Batch) -> Result<(), StoreError> {
    let numbered = db
        .statement(
            "numbering a batch",
            "UPDATE epoch SET last_seq = ?2 WHERE id = ?1 AND closed_at IS NULL AND last_seq <= ?2",
        )?
        .int(batch.epoch.0)
        .int(batch.seq)
        .run()?;
    if numbered == 1 {
        return Ok(());
    }
    let (closed, last) = db
        .statement(
            "reading the epoch",
            "SELECT closed_at IS NOT NULL, last_seq FROM epoch WHERE id = ?1",
        )?
        .int(batch.epoch.0)
        .row("an epoch", |columns| Ok((columns.flag()?, columns.int()?)))?
        .ok_or(StoreError::NotFound { what: "the epoch" })?;
    if closed {
        return Err(StoreError::EpochClosed(batch.epoch));
    }
    Err(StoreError::StaleBatch {
        epoch: batch.epoch,
        seq: batch.seq,
        last,
    })
}

/// Runs a batch inside a write transaction; says whether it changed anything.
pub(super) fn run(db: &Db<'_>, batch: &Batch, rules: &LedgerRules) -> Result<(Vec<Outcome>, bool), StoreError> {
    let mut loaded = load(db, batch)?;
    let (outcomes, delta) = apply(&mut loaded.snapshot, batch, rules);
    let changed = !save::is_empty(&delta);
    if changed {
        save(db, &mut loaded, &delta)?;
    }
    Ok((outcomes, changed))
}

/// The highest batch number of an epoch, if it is open.
pub(super) fn last_seq(db: &Db<'_>, epoch: EpochId) -> Result<Option<i64>, StoreError> {
    db.statement(
        "reading the epoch",
        "SELECT last_seq FROM epoch WHERE id = ?1 AND closed_at IS NULL",
    )?
    .int(epoch.0)
    .row("an epoch", |columns| columns.int())
}
