//! Retention: old postings become hourly sums.
//!
//! A posting goes when nothing that is still judged needs it: it was recorded before the retention
//! time, no entry of it lies in an open window or a live bucket, and it is not an unresolved one that
//! waits for evidence. An unresolved posting and its correction go together: apart, the one would
//! look open again and the other would correct nothing. Lines of the whole time (`total`) never
//! close, so their entries may go into sums at any age; their `posted` is unchanged by it.
//!
//! Report ids and metered requests stay, and so do the sums of the spend report. A hold goes with the
//! last posting that names it.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::SqliteStore;
use super::codec::{self, from_json};
use super::statement::Db;
use crate::ports::StoreError;

pub(super) async fn roll_up(
    store: &SqliteStore,
    before: Timestamp,
    now: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    store
        .write("a roll-up", move |db| {
            let postings = candidates(db, before, now, limit)?;
            let mut rolled = 0;
            if !postings.is_empty() {
                let list = codec::json(&postings)?;
                add_up(db, &list)?;
                rolled = delete(db, &list)?;
            }
            forget_voided(db, before, limit)?;
            Ok(u64::try_from(rolled).unwrap_or(u64::MAX))
        })
        .await
}

/// Whether posting `$p` was recorded before ?1 and has no entry that is still live at ?2.
macro_rules! settled {
    ($p:literal) => {
        concat!(
            $p,
            ".recorded_at < ?1 AND NOT EXISTS (SELECT 1 FROM entry e CROSS JOIN line l ON l.id = e.line \
             WHERE e.posting = ",
            $p,
            ".seq AND CASE WHEN l.window_end < 1000000000000000000 THEN l.window_end > ?2 \
             WHEN e.bucket IS NULL THEN 0 \
             ELSE e.bucket + 1000000 * ((l.rule ->> '$.rolling[0]') + (l.rule ->> '$.rolling[1]')) > ?2 END)"
        )
    };
}

/// The oldest postings that may go, each with what corrects it; `limit` of them, or one more when a
/// correction comes with the last.
fn candidates(db: &Db<'_>, before: Timestamp, now: Timestamp, limit: u32) -> Result<Vec<i64>, StoreError> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    db.statement(
        "looking for old postings",
        concat!(
            "SELECT p.seq, (SELECT json_group_array(c.seq) FROM posting c WHERE c.corrects = p.id) \
             FROM posting p WHERE ",
            settled!("p"),
            " AND (p.kind <> 2 OR EXISTS (SELECT 1 FROM posting c WHERE c.corrects = p.id)) \
             AND NOT EXISTS (SELECT 1 FROM posting c WHERE c.corrects = p.id AND NOT (",
            settled!("c"),
            ")) AND (p.corrects IS NULL OR NOT EXISTS (SELECT 1 FROM posting t WHERE t.id = p.corrects)) \
             ORDER BY p.seq LIMIT ?3",
        ),
    )?
    .time(before)
    .time(now)
    .int(limit.into())
    .walk("an old posting", |columns| {
        let posting = columns.int()?;
        let corrections: Vec<i64> = from_json("corrections", columns.text()?)?;
        if !found.is_empty() && found.len() + 1 + corrections.len() > most {
            return Ok(ControlFlow::Break(()));
        }
        found.push(posting);
        found.extend(corrections);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Row by row rather than by `sum`, which fails on an overflow; here the sum ends at the range's end.
fn add_up(db: &Db<'_>, list: &str) -> Result<(), StoreError> {
    db.statement(
        "adding up old entries",
        "INSERT INTO entry_hour (line, hour, amount, unresolved) \
         SELECT e.line, p.occurred_at - ((p.occurred_at % 3600000000) + 3600000000) % 3600000000, e.amount, \
         e.unresolved FROM jsonb_each(?1) k CROSS JOIN posting p ON p.seq = k.value \
         CROSS JOIN entry e ON e.posting = p.seq WHERE true \
         ON CONFLICT (line, hour) DO UPDATE SET amount = CAST(entry_hour.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(entry_hour.unresolved + excluded.unresolved AS INTEGER)",
    )?
    .text(list)
    .run()
    .map(|_| ())
}

fn delete(db: &Db<'_>, list: &str) -> Result<usize, StoreError> {
    let holds = db
        .statement(
            "reading the holds of old postings",
            "SELECT json_group_array(hex(p.hold)) FROM jsonb_each(?1) k CROSS JOIN posting p ON p.seq = k.value \
             WHERE p.hold IS NOT NULL",
        )?
        .text(list)
        .row("holds", |columns| columns.text().map(str::to_owned))?
        .unwrap_or_else(|| "[]".to_owned());
    // The triggers of the schema let nothing be deleted unless this flag is up, in this transaction.
    set_flag(db, true)?;
    db.statement(
        "deleting old entries",
        "DELETE FROM entry WHERE posting IN (SELECT value FROM jsonb_each(?1))",
    )?
    .text(list)
    .run()?;
    let gone = db
        .statement(
            "deleting old postings",
            "DELETE FROM posting WHERE seq IN (SELECT value FROM jsonb_each(?1))",
        )?
        .text(list)
        .run()?;
    set_flag(db, false)?;
    db.statement(
        "deleting old holds",
        "DELETE FROM hold WHERE id IN (SELECT unhex(value) FROM jsonb_each(?1)) AND state <> 0 \
         AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.hold = hold.id)",
    )?
    .text(&holds)
    .run()?;
    Ok(gone)
}

fn set_flag(db: &Db<'_>, up: bool) -> Result<(), StoreError> {
    db.statement("opening the roll-up", "UPDATE meta SET rolling_up = ?1 WHERE id = 1")?
        .flag(up)
        .run()
        .map(|_| ())
}

/// Voided holds have no posting to go with.
fn forget_voided(db: &Db<'_>, before: Timestamp, limit: u32) -> Result<(), StoreError> {
    db.statement(
        "deleting old holds",
        "DELETE FROM hold WHERE id IN (SELECT id FROM hold WHERE state = 2 AND ended_at < ?1 LIMIT ?2) \
         AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.hold = hold.id)",
    )?
    .time(before)
    .int(limit.into())
    .run()
    .map(|_| ())
}
