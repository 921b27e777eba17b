//! Reading the ledger: lines, holds, pages of postings, and the ledger's clock.

use std::collections::HashMap;

use jiff::Timestamp;

use super::SqliteStore;
use super::codec::{self, corrupt};
use super::ledger_rows::{LineReader, RawHold, hold_columns, line_columns, posting, posting_columns};
use super::statement::Db;
use crate::domain::id::{AgentId, EpochId, HoldId};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::Posting;
use crate::ports::{LineQuery, PostingQuery, StoreError};

pub(super) async fn lines(store: &SqliteStore, query: &LineQuery) -> Result<Vec<Line>, StoreError> {
    let query = query.clone();
    let context = "listing lines";
    store
        .read(context, move |db| {
            let mut reader = LineReader::default();
            db.statement(
                context,
                concat!(
                    "SELECT ",
                    line_columns!(),
                    " FROM line l WHERE (?1 IS NULL OR l.agent = ?1) AND (?2 IS NULL OR l.budget = ?2) \
                     AND (?3 IS NULL OR l.window_end > ?3) AND (?5 IS NULL OR l.lifted_until <= ?5) \
                     AND (?6 IS NULL OR l.value = ?6) \
                     ORDER BY l.budget, l.agent, l.value, l.window_start, l.window_end LIMIT ?4"
                ),
            )?
            .opt_text(query.agent.as_ref().map(AgentId::as_str))
            .opt_text(query.budget.as_ref().map(|budget| budget.as_str()))
            .opt_time(query.open_at)
            .int(query.limit.map_or(-1, i64::from))
            .opt_time(query.lift_over)
            .opt_text(query.value.as_deref())
            .rows("a line", |columns| reader.read(columns).map(|(_, line)| line))
        })
        .await
}

/// The keys of lines by their numbers.
fn keys(db: &Db<'_>, ids: &[i64]) -> Result<HashMap<i64, LineKey>, StoreError> {
    let mut select = db.statement(
        "reading the lines of a hold",
        "SELECT budget, agent, value, window_start, window_end FROM line WHERE id = ?1",
    )?;
    let mut keys = HashMap::with_capacity(ids.len());
    for id in ids {
        let key = select.int(*id).row("a line", |columns| columns.line_key())?;
        keys.extend(key.map(|key| (*id, key)));
    }
    Ok(keys)
}

pub(super) async fn hold(store: &SqliteStore, id: HoldId) -> Result<Option<Hold>, StoreError> {
    let context = "reading a hold";
    store
        .read(context, move |db| {
            let raw = db
                .statement(
                    context,
                    concat!("SELECT ", hold_columns!(), " FROM hold h WHERE h.id = ?1"),
                )?
                .uuid(id.0)
                .row("a hold", RawHold::read)?;
            let Some(raw) = raw else { return Ok(None) };
            let keys = keys(db, &raw.lines)?;
            raw.resolve(&keys).map(Some)
        })
        .await
}

pub(super) async fn expiring_holds(
    store: &SqliteStore,
    epoch: EpochId,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<HoldId>, StoreError> {
    let context = "reading expiring holds";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT id FROM hold WHERE epoch = ?1 AND state = 0 AND expires_at <= ?2 \
                 ORDER BY expires_at, id LIMIT ?3",
            )?
            .int(epoch.0)
            .time(until)
            .int(limit.into())
            .rows("a hold", |columns| columns.uuid().map(HoldId))
        })
        .await
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

pub(super) async fn postings(store: &SqliteStore, query: &PostingQuery) -> Result<Vec<Posting>, StoreError> {
    let query = query.clone();
    let context = "reading postings";
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
    store
        .read(context, move |db| {
            let after = match query.after {
                None => 0,
                Some(id) => db
                    .statement(context, "SELECT seq FROM posting WHERE id = ?1")?
                    .uuid(id.0)
                    .row("a posting", |columns| columns.int())?
                    .ok_or(StoreError::NotFound {
                        what: "the posting to go on after",
                    })?,
            };
            db.statement(context, sql)?
                .int(after)
                .opt_text(query.agent.as_ref().map(AgentId::as_str))
                .int(query.limit.into())
                .opt_uuid(query.hold.map(|hold| hold.0))
                .rows("a posting", |columns| posting(columns).map(|(_, posting)| posting))
        })
        .await
}

pub(super) async fn advance_clock(store: &SqliteStore, now: Timestamp) -> Result<Timestamp, StoreError> {
    let context = "advancing the clock";
    let mark = store
        .write(context, move |db| {
            db.statement(
                context,
                "UPDATE meta SET clock = max(coalesce(clock, ?1), ?1) WHERE id = 1 RETURNING clock",
            )?
            .time(now)
            .row("the clock", |columns| columns.time())?
            .ok_or_else(|| corrupt("the clock", "its row is not there"))
        })
        .await?;
    // The column has whole microseconds; the caller gets back what it gave unless the mark is later.
    Ok(if codec::micros(mark) == codec::micros(now) {
        now
    } else {
        mark
    })
}

pub(super) async fn set_clock(store: &SqliteStore, mark: Timestamp) -> Result<(), StoreError> {
    let context = "setting the clock";
    store
        .write(context, move |db| {
            db.statement(context, "UPDATE meta SET clock = ?1 WHERE id = 1")?
                .time(mark)
                .run()
                .map(|_| ())
        })
        .await
}
