//! Everything that an independent auditor needs, as of one moment.

use std::collections::HashMap;

use super::SqliteStore;
use super::codec::corrupt;
use super::ledger_rows::{LineReader, RawEntry, RawHold, hold_columns, key_of, line_columns, posting, posting_columns};
use super::statement::Db;
use crate::domain::ledger::line::LineKey;
use crate::ports::{AuditView, StoreError};

pub(super) async fn audit_view(store: &SqliteStore) -> Result<AuditView, StoreError> {
    store.read("reading the ledger", read).await
}

fn read(db: &Db<'_>) -> Result<AuditView, StoreError> {
    let mut view = AuditView::default();
    let mut reader = LineReader::default();
    let lines = db
        .statement(
            "reading lines",
            concat!("SELECT ", line_columns!(), " FROM line l ORDER BY l.id"),
        )?
        .rows("a line", |columns| reader.read(columns))?;
    let mut keys: HashMap<i64, LineKey> = HashMap::with_capacity(lines.len());
    for (id, line) in lines {
        keys.insert(id, line.key.clone());
        view.lines.push(line);
    }
    view.holds = db
        .statement("reading holds", concat!("SELECT ", hold_columns!(), " FROM hold h"))?
        .rows("a hold", |columns| RawHold::read(columns)?.resolve(&keys))?;
    view.postings = db
        .statement(
            "reading postings",
            concat!("SELECT ", posting_columns!(), " FROM posting p ORDER BY p.seq"),
        )?
        .rows("a posting", |columns| posting(columns).map(|(_, posting)| posting))?;
    view.entries = db
        .statement(
            "reading entries",
            "SELECT p.id, e.line, e.amount, e.unresolved, e.bucket FROM posting p \
             CROSS JOIN entry e ON e.posting = p.seq ORDER BY p.seq, e.line",
        )?
        .rows("an entry", |columns| RawEntry::read(columns)?.resolve(&keys))?;
    let stray = db
        .statement(
            "reading entries",
            "SELECT count(*) FROM entry e WHERE NOT EXISTS (SELECT 1 FROM posting p WHERE p.seq = e.posting)",
        )?
        .row("a count", |columns| columns.int())?;
    if let Some(stray) = stray.filter(|stray| *stray > 0) {
        return Err(corrupt("the ledger", format!("{stray} entries have no posting")));
    }
    view.rolled = db
        .statement(
            "reading hourly entries",
            "SELECT line, hour, amount, unresolved FROM entry_hour ORDER BY line, hour",
        )?
        .rows("an hourly entry", |columns| {
            let line = key_of(&keys, columns.int()?)?;
            Ok((line, columns.time()?, columns.usd()?, columns.usd()?))
        })?;
    Ok(view)
}
