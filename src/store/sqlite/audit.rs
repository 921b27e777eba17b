//! The audit log: a hash chain that only grows (D3). The head is read and the entries are chained in
//! the transaction that writes them, so two processes never fork it.

use super::SqliteStore;
use super::codec::{self, from_json};
use super::statement::Db;
use crate::domain::audit::{AuditEntry, Head, NewAudit, chain};
use crate::ports::StoreError;

pub(super) async fn append(store: &SqliteStore, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let entries = entries.to_vec();
    store
        .write("appending to the audit log", move |db| append_in(db, entries))
        .await
}

pub(super) fn append_in(db: &Db<'_>, entries: Vec<NewAudit>) -> Result<Vec<AuditEntry>, StoreError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let mut head = head(db)?;
    let mut chained = Vec::with_capacity(entries.len());
    let mut insert = db.statement(
        "appending to the audit log",
        "INSERT INTO audit (seq, body, hash) VALUES (?1, ?2, ?3)",
    )?;
    for entry in entries {
        let entry = chain(head, entry);
        head = entry.head();
        insert
            .int(entry.seq)
            .text(&codec::json(&entry.entry)?)
            .bytes(&entry.hash)
            .run()?;
        chained.push(entry);
    }
    Ok(chained)
}

fn head(db: &Db<'_>) -> Result<Head, StoreError> {
    let head = db
        .statement(
            "reading the audit log's head",
            "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
        )?
        .row("the audit log's head", |columns| {
            Ok(Head {
                seq: columns.int()?,
                hash: columns.digest()?,
            })
        })?;
    Ok(head.unwrap_or(Head::GENESIS))
}

/// Entries from `from_seq` on, in order.
pub(super) async fn read(store: &SqliteStore, from_seq: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
    let context = "reading the audit log";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT seq, body, hash FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
            )?
            .int(from_seq)
            .int(limit.into())
            .rows("an audit entry", |columns| {
                Ok(AuditEntry {
                    seq: columns.int()?,
                    entry: from_json("an audit entry", columns.text()?)?,
                    hash: columns.digest()?,
                })
            })
        })
        .await
}
