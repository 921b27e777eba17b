//! Everything that an independent auditor needs, as of one moment.

use std::collections::HashMap;

use sqlx::SqlitePool;

use super::codec::{Columns, corrupt};
use super::error::store;
use super::ledger_rows::{LineReader, RawEntry, RawHold, hold_columns, key_of, line_columns, posting, posting_columns};
use crate::domain::ledger::line::LineKey;
use crate::ports::{AuditView, StoreError};

pub(super) async fn audit_view(readers: &SqlitePool) -> Result<AuditView, StoreError> {
    // A deferred transaction that only reads: one snapshot of the file for all of it.
    let mut tx = readers.begin().await.map_err(store("reading the ledger"))?;
    let mut view = AuditView::default();

    let rows = sqlx::query(concat!("SELECT ", line_columns!(), " FROM line l ORDER BY l.id"))
        .fetch_all(&mut *tx)
        .await
        .map_err(store("reading lines"))?;
    let mut reader = LineReader::default();
    let mut keys: HashMap<i64, LineKey> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let (id, line) = reader.read(row)?;
        keys.insert(id, line.key.clone());
        view.lines.push(line);
    }
    drop(rows);

    let rows = sqlx::query(concat!("SELECT ", hold_columns!(), " FROM hold h"))
        .fetch_all(&mut *tx)
        .await
        .map_err(store("reading holds"))?;
    for row in &rows {
        view.holds.push(RawHold::read(row)?.resolve(&keys)?);
    }
    drop(rows);

    let rows = sqlx::query(concat!("SELECT ", posting_columns!(), " FROM posting p ORDER BY p.seq"))
        .fetch_all(&mut *tx)
        .await
        .map_err(store("reading postings"))?;
    for row in &rows {
        view.postings.push(posting(row)?.1);
    }
    drop(rows);

    let rows = sqlx::query(
        "SELECT p.id, e.line, e.amount, e.unresolved, e.bucket FROM posting p \
         CROSS JOIN entry e ON e.posting = p.seq ORDER BY p.seq, e.line",
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(store("reading entries"))?;
    for row in &rows {
        view.entries.push(RawEntry::read(row)?.resolve(&keys)?);
    }
    drop(rows);

    let stray: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM entry e WHERE NOT EXISTS (SELECT 1 FROM posting p WHERE p.seq = e.posting)",
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(store("reading entries"))?;
    if stray > 0 {
        return Err(corrupt("the ledger", format!("{stray} entries have no posting")));
    }

    let rows = sqlx::query("SELECT line, hour, amount, unresolved FROM entry_hour ORDER BY line, hour")
        .fetch_all(&mut *tx)
        .await
        .map_err(store("reading hourly entries"))?;
    for row in &rows {
        let mut columns = Columns::of(row, "an hourly entry");
        let line = key_of(&keys, columns.int()?)?;
        view.rolled
            .push((line, columns.time()?, columns.usd()?, columns.usd()?));
    }
    tx.commit().await.map_err(store("reading the ledger"))?;
    Ok(view)
}
