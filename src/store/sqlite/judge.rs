//! Judgement: triggers, agents' states, containments and reviews, all of it or none of it.

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use super::SqliteStore;
use super::audit::append_in;
use super::codec::{self, Columns, from_json};
use super::error::{self, store};
use super::lease;
use crate::domain::agent::AgentState;
use crate::domain::audit::AuditEntry;
use crate::domain::containment::state::{Containment, Phase};
use crate::domain::id::{AgentId, ContainmentId, ReviewId};
use crate::domain::review::{Decision, Review};
use crate::ports::{Judgement, Lease, StoreError, Trigger};

pub(super) async fn pending_triggers(readers: &SqlitePool, limit: u32) -> Result<Vec<Trigger>, StoreError> {
    let rows = sqlx::query("SELECT id, body, response FROM pending_trigger WHERE settled = 0 ORDER BY id LIMIT ?1")
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await
        .map_err(store("reading triggers"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "a trigger");
            Ok(Trigger {
                id: columns.int()?,
                trigger: from_json("a trigger", columns.text()?)?,
                response: from_json("a trigger's response", columns.text()?)?,
            })
        })
        .collect()
}

pub(super) async fn judge(
    store: &SqliteStore,
    fence: Option<&Lease>,
    judgement: &Judgement,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut tx = store.writer.begin("a judgement").await?;
    let work = async {
        let db = tx.connection()?;
        if let Some(held) = fence {
            lease::check(db, held).await?;
        }
        write(db, judgement).await
    }
    .await;
    tx.end(work).await
}

async fn write(db: &mut SqliteConnection, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
    for id in &judgement.settle {
        settle(db, *id).await?;
    }
    for state in &judgement.agents {
        put_agent(db, state).await?;
    }
    for containment in &judgement.update {
        update_containment(db, containment).await?;
    }
    for containment in &judgement.open {
        open_containment(db, containment).await?;
    }
    for review in &judgement.reviews {
        open_review(db, review).await?;
    }
    for (id, decision) in &judgement.decide {
        decide(db, *id, decision).await?;
    }
    append_in(db, &judgement.audit).await
}

/// A trigger is settled once, so that its response happens once.
async fn settle(db: &mut SqliteConnection, id: i64) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE pending_trigger SET settled = 1 WHERE id = ?1 AND settled = 0")
        .bind(id)
        .execute(db)
        .await
        .map_err(store("settling a trigger"))?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Conflict { what: "a trigger" }),
    }
}

async fn put_agent(db: &mut SqliteConnection, state: &AgentState) -> Result<(), StoreError> {
    // An agent about which nothing was written has version 0.
    let done = sqlx::query(
        "INSERT INTO agent (id, status, version, body) SELECT ?1, ?2, ?3, ?4 \
         WHERE ?3 - 1 = coalesce((SELECT version FROM agent WHERE id = ?1), 0) \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, version = excluded.version, body = excluded.body",
    )
    .bind(state.id.as_str())
    .bind(codec::agent_status(state.status))
    .bind(state.version)
    .bind(codec::json(state)?)
    .execute(db)
    .await
    .map_err(store("writing an agent's state"))?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Conflict { what: "the agent" }),
    }
}

async fn open_containment(db: &mut SqliteConnection, containment: &Containment) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO containment (id, agent, closed, version, body) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(&containment.id.0.as_bytes()[..])
        .bind(containment.agent.as_str())
        .bind(containment.phase == Phase::Closed)
        .bind(containment.version)
        .bind(codec::json(containment)?)
        .execute(db)
        .await
        .map_err(|error| match error::is_unique_violation(&error) {
            true => StoreError::Conflict {
                what: "the agent's containment",
            },
            false => error::of_statement("opening a containment", error),
        })?;
    Ok(())
}

async fn update_containment(db: &mut SqliteConnection, containment: &Containment) -> Result<(), StoreError> {
    let done =
        sqlx::query("UPDATE containment SET closed = ?2, version = ?3, body = ?4 WHERE id = ?1 AND version = ?3 - 1")
            .bind(&containment.id.0.as_bytes()[..])
            .bind(containment.phase == Phase::Closed)
            .bind(containment.version)
            .bind(codec::json(containment)?)
            .execute(db)
            .await
            .map_err(store("writing a containment"))?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Conflict {
            what: "the containment",
        }),
    }
}

/// A question that is open already is not asked again.
async fn open_review(db: &mut SqliteConnection, review: &Review) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO review (id, agent, dedupe, decided, body) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )
    .bind(&review.id.0.as_bytes()[..])
    .bind(review.agent.as_str())
    .bind(review.question.dedupe_key())
    .bind(review.decision.is_some())
    .bind(codec::json(review)?)
    .execute(db)
    .await
    .map_err(store("opening a review"))?;
    Ok(())
}

async fn decide(db: &mut SqliteConnection, id: ReviewId, decision: &Decision) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT body FROM review WHERE id = ?1")
        .bind(&id.0.as_bytes()[..])
        .fetch_optional(&mut *db)
        .await
        .map_err(store("reading a review"))?
        .ok_or(StoreError::NotFound { what: "the review" })?;
    let mut review: Review = from_json("a review", Columns::of(&row, "a review").text()?)?;
    if review.decision.is_some() {
        return Err(StoreError::Conflict { what: "the review" });
    }
    review.decision = Some(decision.clone());
    sqlx::query("UPDATE review SET decided = 1, body = ?2 WHERE id = ?1")
        .bind(&id.0.as_bytes()[..])
        .bind(codec::json(&review)?)
        .execute(db)
        .await
        .map_err(store("deciding a review"))?;
    Ok(())
}

pub(super) async fn agent(readers: &SqlitePool, id: &AgentId) -> Result<AgentState, StoreError> {
    let row = sqlx::query("SELECT body FROM agent WHERE id = ?1")
        .bind(id.as_str())
        .fetch_optional(readers)
        .await
        .map_err(store("reading an agent"))?;
    match row {
        Some(row) => from_json("an agent", Columns::of(&row, "an agent").text()?),
        None => Ok(AgentState::initial(id.clone())),
    }
}

/// One JSON column, row by row.
fn bodies<T: serde::de::DeserializeOwned>(
    what: &'static str,
    rows: &[sqlx::sqlite::SqliteRow],
) -> Result<Vec<T>, StoreError> {
    rows.iter()
        .map(|row| from_json(what, Columns::of(row, what).text()?))
        .collect()
}

pub(super) async fn agents(readers: &SqlitePool) -> Result<Vec<AgentState>, StoreError> {
    let rows = sqlx::query("SELECT body FROM agent ORDER BY id")
        .fetch_all(readers)
        .await
        .map_err(store("reading agents"))?;
    bodies("an agent", &rows)
}

/// The oldest first.
pub(super) async fn reviews(readers: &SqlitePool, open_only: bool, limit: u32) -> Result<Vec<Review>, StoreError> {
    let rows = sqlx::query("SELECT body FROM review WHERE NOT ?1 OR decided = 0 ORDER BY seq LIMIT ?2")
        .bind(open_only)
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await
        .map_err(store("reading reviews"))?;
    bodies("a review", &rows)
}

/// The newest first. What is open is found by its index; what was decided is walked through from the
/// newest on, and the walk ends at the first that is older.
pub(super) async fn reviews_of(
    readers: &SqlitePool,
    agent: &AgentId,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<Review>, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<(i64, Review)> = Vec::new();
    for decided in [false, true] {
        let mut rows = sqlx::query("SELECT seq, body FROM review WHERE agent = ?1 AND decided = ?2 ORDER BY seq DESC")
            .bind(agent.as_str())
            .bind(decided)
            .fetch(readers);
        let mut taken = 0;
        while let Some(row) = rows.try_next().await.map_err(store("reading reviews"))? {
            let mut columns = Columns::of(&row, "a review");
            let (seq, review) = (columns.int()?, from_json::<Review>("a review", columns.text()?)?);
            if taken == limit || (decided && review.opened_at < since) {
                break;
            }
            taken += 1;
            found.push((seq, review));
        }
    }
    found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    found.truncate(limit);
    Ok(found.into_iter().map(|(_, review)| review).collect())
}

pub(super) async fn review(readers: &SqlitePool, id: ReviewId) -> Result<Option<Review>, StoreError> {
    let row = sqlx::query("SELECT body FROM review WHERE id = ?1")
        .bind(&id.0.as_bytes()[..])
        .fetch_all(readers)
        .await
        .map_err(store("reading a review"))?;
    Ok(bodies("a review", &row)?.pop())
}

pub(super) async fn containment(readers: &SqlitePool, id: ContainmentId) -> Result<Option<Containment>, StoreError> {
    let rows = sqlx::query("SELECT body FROM containment WHERE id = ?1")
        .bind(&id.0.as_bytes()[..])
        .fetch_all(readers)
        .await
        .map_err(store("reading a containment"))?;
    Ok(bodies("a containment", &rows)?.pop())
}

pub(super) async fn live_containments(readers: &SqlitePool) -> Result<Vec<Containment>, StoreError> {
    let rows = sqlx::query("SELECT body FROM containment WHERE closed = 0 ORDER BY seq")
        .fetch_all(readers)
        .await
        .map_err(store("reading containments"))?;
    bodies("a containment", &rows)
}

/// The newest first.
pub(super) async fn containments_of(
    readers: &SqlitePool,
    agent: &AgentId,
    limit: u32,
) -> Result<Vec<Containment>, StoreError> {
    let rows = sqlx::query("SELECT body FROM containment WHERE agent = ?1 ORDER BY seq DESC LIMIT ?2")
        .bind(agent.as_str())
        .bind(i64::from(limit))
        .fetch_all(readers)
        .await
        .map_err(store("reading containments"))?;
    bodies("a containment", &rows)
}
