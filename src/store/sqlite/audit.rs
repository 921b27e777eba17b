//! The audit log: a hash chain that only grows (D3). The head is read and the entries are chained in
//! the transaction that writes them, so two processes never fork it.

use sqlx::{SqliteConnection, SqlitePool};

use super::SqliteStore;
use super::codec::{self, Columns, from_json};
use super::error::store;
use super::rows::Rows;
use crate::domain::audit::{AuditEntry, Head, NewAudit, chain};
use crate::ports::StoreError;

pub(super) async fn append(store: &SqliteStore, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = store.writer.begin("appending to the audit log").await?;
    let work = async { append_in(tx.connection()?, entries).await }.await;
    tx.end(work).await
}

pub(super) async fn append_in(db: &mut SqliteConnection, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let mut head = head(db).await?;
    let mut chained = Vec::with_capacity(entries.len());
    let mut rows = Rows::new();
    for entry in entries {
        let entry = chain(head, entry.clone());
        head = entry.head();
        rows.row()
            .int(entry.seq)
            .text(&codec::json(&entry.entry)?)
            .bytes(&entry.hash);
        chained.push(entry);
    }
    sqlx::query(
        "INSERT INTO audit (seq, body, hash) SELECT value ->> 0, value ->> 1, unhex(value ->> 2) FROM jsonb_each(?1)",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("appending to the audit log"))?;
    Ok(chained)
}

async fn head(db: &mut SqliteConnection) -> Result<Head, StoreError> {
    let row = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(db)
        .await
        .map_err(store("reading the audit log's head"))?;
    let Some(row) = row else { return Ok(Head::GENESIS) };
    let mut columns = Columns::of(&row, "the audit log's head");
    Ok(Head {
        seq: columns.int()?,
        hash: columns.digest()?,
    })
}

/// Entries from `from_seq` on, in order.
pub(super) async fn read(readers: &SqlitePool, from_seq: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = sqlx::query("SELECT seq, body, hash FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2")
        .bind(from_seq)
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await
        .map_err(store("reading the audit log"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "an audit entry");
            Ok(AuditEntry {
                seq: columns.int()?,
                entry: from_json("an audit entry", columns.text()?)?,
                hash: columns.digest()?,
            })
        })
        .collect()
}
