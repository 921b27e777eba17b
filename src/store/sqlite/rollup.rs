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

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::codec::{self, Columns, from_json};
use super::error::store;
use crate::ports::StoreError;

pub(super) async fn roll_up(
    store: &SqliteStore,
    before: Timestamp,
    now: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let mut tx = store.writer.begin("a roll-up").await?;
    let work = async {
        let db = tx.connection()?;
        let postings = candidates(db, before, now, limit).await?;
        let mut rolled = 0;
        if !postings.is_empty() {
            let list = codec::json(&postings)?;
            add_up(db, &list).await?;
            rolled = delete(db, &list).await?;
        }
        forget_voided(db, before, limit).await?;
        Ok(rolled)
    }
    .await;
    tx.end(work).await
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
async fn candidates(
    db: &mut SqliteConnection,
    before: Timestamp,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT p.seq, (SELECT json_group_array(c.seq) FROM posting c WHERE c.corrects = p.id) FROM posting p WHERE ",
        settled!("p"),
        " AND (p.kind <> 2 OR EXISTS (SELECT 1 FROM posting c WHERE c.corrects = p.id)) \
         AND NOT EXISTS (SELECT 1 FROM posting c WHERE c.corrects = p.id AND NOT (",
        settled!("c"),
        ")) AND (p.corrects IS NULL OR NOT EXISTS (SELECT 1 FROM posting t WHERE t.id = p.corrects)) \
         ORDER BY p.seq LIMIT ?3",
    ))
    .bind(codec::micros(before))
    .bind(codec::micros(now))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
    .map_err(store("looking for old postings"))?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row, "an old posting");
        let posting = columns.int()?;
        let corrections: Vec<i64> = from_json("corrections", columns.text()?)?;
        if !found.is_empty() && found.len() + 1 + corrections.len() > most {
            break;
        }
        found.push(posting);
        found.extend(corrections);
    }
    Ok(found)
}

/// Row by row rather than by `sum`, which fails on an overflow; here the sum ends at the range's end.
async fn add_up(db: &mut SqliteConnection, list: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO entry_hour (line, hour, amount, unresolved) \
         SELECT e.line, p.occurred_at - ((p.occurred_at % 3600000000) + 3600000000) % 3600000000, e.amount, \
         e.unresolved FROM jsonb_each(?1) k CROSS JOIN posting p ON p.seq = k.value \
         CROSS JOIN entry e ON e.posting = p.seq WHERE true \
         ON CONFLICT (line, hour) DO UPDATE SET amount = CAST(entry_hour.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(entry_hour.unresolved + excluded.unresolved AS INTEGER)",
    )
    .bind(list)
    .execute(db)
    .await
    .map_err(store("adding up old entries"))?;
    Ok(())
}

async fn delete(db: &mut SqliteConnection, list: &str) -> Result<u64, StoreError> {
    let holds: String = sqlx::query_scalar(
        "SELECT json_group_array(hex(p.hold)) FROM jsonb_each(?1) k CROSS JOIN posting p ON p.seq = k.value \
         WHERE p.hold IS NOT NULL",
    )
    .bind(list)
    .fetch_one(&mut *db)
    .await
    .map_err(store("reading the holds of old postings"))?;
    // The triggers of the schema let nothing be deleted unless this flag is up, in this transaction.
    set_flag(db, true).await?;
    sqlx::query("DELETE FROM entry WHERE posting IN (SELECT value FROM jsonb_each(?1))")
        .bind(list)
        .execute(&mut *db)
        .await
        .map_err(store("deleting old entries"))?;
    let gone = sqlx::query("DELETE FROM posting WHERE seq IN (SELECT value FROM jsonb_each(?1))")
        .bind(list)
        .execute(&mut *db)
        .await
        .map_err(store("deleting old postings"))?;
    set_flag(db, false).await?;
    sqlx::query(
        "DELETE FROM hold WHERE id IN (SELECT unhex(value) FROM jsonb_each(?1)) AND state <> 0 \
         AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.hold = hold.id)",
    )
    .bind(holds)
    .execute(db)
    .await
    .map_err(store("deleting old holds"))?;
    Ok(gone.rows_affected())
}

async fn set_flag(db: &mut SqliteConnection, up: bool) -> Result<(), StoreError> {
    sqlx::query("UPDATE meta SET rolling_up = ?1 WHERE id = 1")
        .bind(up)
        .execute(db)
        .await
        .map_err(store("opening the roll-up"))?;
    Ok(())
}

/// Voided holds have no posting to go with.
async fn forget_voided(db: &mut SqliteConnection, before: Timestamp, limit: u32) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM hold WHERE id IN (SELECT id FROM hold WHERE state = 2 AND ended_at < ?1 LIMIT ?2) \
         AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.hold = hold.id)",
    )
    .bind(codec::micros(before))
    .bind(i64::from(limit))
    .execute(db)
    .await
    .map_err(store("deleting old holds"))?;
    Ok(())
}
