//! Reading the ledger: lines, holds, pages of postings, and the ledger's clock.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use super::SqliteStore;
use super::codec::{self, Columns};
use super::error::store;
use super::ledger_rows::{LineReader, RawHold, hold_columns, line_columns, posting, posting_columns};
use crate::domain::id::{AgentId, EpochId, HoldId};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::Posting;
use crate::ports::{LineQuery, PostingQuery, StoreError};

pub(super) async fn lines(readers: &SqlitePool, query: &LineQuery) -> Result<Vec<Line>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT ",
        line_columns!(),
        " FROM line l WHERE (?1 IS NULL OR l.agent = ?1) AND (?2 IS NULL OR l.budget = ?2) \
         AND (?3 IS NULL OR l.window_end > ?3) AND (?5 IS NULL OR l.lifted_until <= ?5) \
         AND (?6 IS NULL OR l.value = ?6) \
         ORDER BY l.budget, l.agent, l.value, l.window_start, l.window_end LIMIT ?4"
    ))
    .bind(query.agent.as_ref().map(AgentId::as_str))
    .bind(query.budget.as_ref().map(|budget| budget.as_str()))
    .bind(query.open_at.map(codec::micros))
    .bind(query.limit.map_or(-1, i64::from))
    .bind(query.lift_over.map(codec::micros))
    .bind(query.value.as_deref())
    .fetch_all(readers)
    .await
    .map_err(store("listing lines"))?;
    let mut reader = LineReader::default();
    rows.iter().map(|row| reader.read(row).map(|(_, line)| line)).collect()
}

/// The keys of lines by their numbers.
async fn keys(db: &mut SqliteConnection, ids: &BTreeSet<i64>) -> Result<HashMap<i64, LineKey>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.id, l.budget, l.agent, l.value, l.window_start, l.window_end \
         FROM jsonb_each(?1) k CROSS JOIN line l ON l.id = k.value",
    )
    .bind(codec::json(ids)?)
    .fetch_all(db)
    .await
    .map_err(store("reading the lines of a hold"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "a line");
            Ok((columns.int()?, columns.line_key()?))
        })
        .collect()
}

pub(super) async fn hold(readers: &SqlitePool, id: HoldId) -> Result<Option<Hold>, StoreError> {
    let mut db = readers.acquire().await.map_err(store("reading a hold"))?;
    let row = sqlx::query(concat!("SELECT ", hold_columns!(), " FROM hold h WHERE h.id = ?1"))
        .bind(&id.0.as_bytes()[..])
        .fetch_optional(&mut *db)
        .await
        .map_err(store("reading a hold"))?;
    let Some(row) = row else { return Ok(None) };
    let raw = RawHold::read(&row)?;
    // A line is never removed and never gets another key, so a second statement cannot disagree.
    let keys = keys(&mut db, &raw.lines.iter().copied().collect()).await?;
    raw.resolve(&keys).map(Some)
}

pub(super) async fn expiring_holds(
    readers: &SqlitePool,
    epoch: EpochId,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<HoldId>, StoreError> {
    let rows = sqlx::query(
        "SELECT id FROM hold WHERE epoch = ?1 AND state = 0 AND expires_at <= ?2 ORDER BY expires_at, id LIMIT ?3",
    )
    .bind(epoch.0)
    .bind(codec::micros(until))
    .bind(i64::from(limit))
    .fetch_all(readers)
    .await
    .map_err(store("reading expiring holds"))?;
    rows.iter()
        .map(|row| Columns::of(row, "a hold").uuid().map(HoldId))
        .collect()
}

/// The rest of the statements of [`postings`].
macro_rules! posting_page {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            posting_columns!(),
            " FROM posting p WHERE p.seq > ?1 AND (?2 IS NULL OR p.agent = ?2)",
            $condition,
            " ORDER BY p.seq LIMIT ?3"
        )
    };
}

pub(super) async fn postings(readers: &SqlitePool, query: &PostingQuery) -> Result<Vec<Posting>, StoreError> {
    let after: i64 = match query.after {
        None => 0,
        Some(id) => sqlx::query_scalar("SELECT seq FROM posting WHERE id = ?1")
            .bind(&id.0.as_bytes()[..])
            .fetch_optional(readers)
            .await
            .map_err(store("reading postings"))?
            .ok_or(StoreError::NotFound {
                what: "the posting to go on after",
            })?,
    };
    // A hold has its own statements, so that its index is used.
    let sql = match (query.hold, query.unresolved) {
        (None, false) => posting_page!(" AND ?4 IS NULL"),
        (None, true) => {
            posting_page!(
                " AND ?4 IS NULL AND p.kind = 2 AND NOT EXISTS (SELECT 1 FROM posting c WHERE c.corrects = p.id)"
            )
        }
        (Some(_), false) => posting_page!(" AND p.hold = ?4"),
        (Some(_), true) => {
            posting_page!(
                " AND p.hold = ?4 AND p.kind = 2 AND NOT EXISTS (SELECT 1 FROM posting c WHERE c.corrects = p.id)"
            )
        }
    };
    let rows = sqlx::query(sql)
        .bind(after)
        .bind(query.agent.as_ref().map(AgentId::as_str))
        .bind(i64::from(query.limit))
        .bind(query.hold.map(|hold| hold.0.as_bytes().to_vec()))
        .fetch_all(readers)
        .await
        .map_err(store("reading postings"))?;
    rows.iter()
        .map(|row| posting(row).map(|(_, posting)| posting))
        .collect()
}

pub(super) async fn advance_clock(store: &SqliteStore, now: Timestamp) -> Result<Timestamp, StoreError> {
    let mut tx = store.writer.begin("advancing the clock").await?;
    let work = async {
        let row = sqlx::query("UPDATE meta SET clock = max(coalesce(clock, ?1), ?1) WHERE id = 1 RETURNING clock")
            .bind(codec::micros(now))
            .fetch_one(tx.connection()?)
            .await
            .map_err(self::store("advancing the clock"))?;
        Columns::of(&row, "the clock").time()
    }
    .await;
    let mark = tx.end(work).await?;
    // The column has whole microseconds; the caller gets back what it gave unless the mark is later.
    Ok(if codec::micros(mark) == codec::micros(now) {
        now
    } else {
        mark
    })
}

pub(super) async fn set_clock(store: &SqliteStore, mark: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.writer.begin("setting the clock").await?;
    let work = async {
        sqlx::query("UPDATE meta SET clock = ?1 WHERE id = 1")
            .bind(codec::micros(mark))
            .execute(tx.connection()?)
            .await
            .map_err(self::store("setting the clock"))
            .map(|_| ())
    }
    .await;
    tx.end(work).await
}
