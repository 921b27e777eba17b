//! Judgement: triggers, agents' states, containments and reviews, all of it or none of it.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::SqliteStore;
use super::audit::append_in;
use super::codec::{self, body, from_json};
use super::statement::Db;
use super::{drills, images, lease};
use crate::domain::agent::AgentState;
use crate::domain::audit::AuditEntry;
use crate::domain::containment::state::{Containment, Phase};
use crate::domain::id::{AgentId, ContainmentId, ReviewId};
use crate::domain::review::{Decision, Review};
use crate::ports::{Judgement, Lease, StoreError, Trigger};

pub(super) async fn pending_triggers(store: &SqliteStore, limit: u32) -> Result<Vec<Trigger>, StoreError> {
    let context = "reading triggers";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT id, body, response FROM pending_trigger WHERE settled = 0 ORDER BY id LIMIT ?1",
            )?
            .int(limit.into())
            .rows("a trigger", |columns| {
                Ok(Trigger {
                    id: columns.int()?,
                    trigger: from_json("a trigger", columns.text()?)?,
                    response: from_json("a trigger's response", columns.text()?)?,
                })
            })
        })
        .await
}

pub(super) async fn judge(
    store: &SqliteStore,
    fence: Option<&Lease>,
    judgement: &Judgement,
) -> Result<Vec<AuditEntry>, StoreError> {
    let (fence, judgement) = (fence.cloned(), judgement.clone());
    store
        .write("a judgement", move |db| {
            if let Some(held) = &fence {
                lease::check(db, held)?;
            }
            write(db, judgement)
        })
        .await
}

fn write(db: &Db<'_>, judgement: Judgement) -> Result<Vec<AuditEntry>, StoreError> {
    for id in judgement.settle {
        settle(db, id)?;
    }
    for state in &judgement.agents {
        put_agent(db, state)?;
    }
    for containment in &judgement.update {
        update_containment(db, containment)?;
    }
    for containment in &judgement.open {
        open_containment(db, containment)?;
    }
    for review in &judgement.reviews {
        open_review(db, review)?;
    }
    for (id, decision) in judgement.decide {
        decide(db, id, decision)?;
    }
    images::fold(db, &judgement.fold)?;
    for drill in &judgement.drills {
        drills::keep(db, drill)?;
    }
    append_in(db, judgement.audit)
}

/// A trigger is settled once, so that its response happens once.
fn settle(db: &Db<'_>, id: i64) -> Result<(), StoreError> {
    let settled = db
        .statement(
            "settling a trigger",
            "UPDATE pending_trigger SET settled = 1 WHERE id = ?1 AND settled = 0",
        )?
        .int(id)
        .run()?;
    match settled {
        1 => Ok(()),
        _ => Err(StoreError::Conflict { what: "a trigger" }),
    }
}

fn put_agent(db: &Db<'_>, state: &AgentState) -> Result<(), StoreError> {
    // An agent about which nothing was written has version 0.
    let put = db
        .statement(
            "writing an agent's state",
            "INSERT INTO agent (id, status, version, body) SELECT ?1, ?2, ?3, ?4 \
             WHERE ?3 - 1 = coalesce((SELECT version FROM agent WHERE id = ?1), 0) \
             ON CONFLICT (id) DO UPDATE SET status = excluded.status, version = excluded.version, \
             body = excluded.body",
        )?
        .text(state.id.as_str())
        .int(codec::agent_status(state.status))
        .int(state.version)
        .text(&codec::json(state)?)
        .run()?;
    match put {
        1 => Ok(()),
        _ => Err(StoreError::Conflict { what: "the agent" }),
    }
}

fn open_containment(db: &Db<'_>, containment: &Containment) -> Result<(), StoreError> {
    db.statement(
        "opening a containment",
        "INSERT INTO containment (id, agent, closed, version, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .uuid(containment.id.0)
    .text(containment.agent.as_str())
    .flag(containment.phase == Phase::Closed)
    .int(containment.version)
    .text(&codec::json(containment)?)
    .run_unless_taken(StoreError::Conflict {
        what: "the agent's containment",
    })
    .map(|_| ())
}

fn update_containment(db: &Db<'_>, containment: &Containment) -> Result<(), StoreError> {
    let updated = db
        .statement(
            "writing a containment",
            "UPDATE containment SET closed = ?2, version = ?3, body = ?4 WHERE id = ?1 AND version = ?3 - 1",
        )?
        .uuid(containment.id.0)
        .flag(containment.phase == Phase::Closed)
        .int(containment.version)
        .text(&codec::json(containment)?)
        .run()?;
    match updated {
        1 => Ok(()),
        _ => Err(StoreError::Conflict {
            what: "the containment",
        }),
    }
}

/// A question that is open already is not asked again.
fn open_review(db: &Db<'_>, review: &Review) -> Result<(), StoreError> {
    db.statement(
        "opening a review",
        "INSERT INTO review (id, agent, dedupe, decided, body) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?
    .uuid(review.id.0)
    .text(review.agent.as_str())
    .text(&review.question.dedupe_key())
    .flag(review.decision.is_some())
    .text(&codec::json(review)?)
    .run()
    .map(|_| ())
}

fn decide(db: &Db<'_>, id: ReviewId, decision: Decision) -> Result<(), StoreError> {
    let mut review: Review = db
        .statement("reading a review", "SELECT body FROM review WHERE id = ?1")?
        .uuid(id.0)
        .row("a review", body)?
        .ok_or(StoreError::NotFound { what: "the review" })?;
    if review.decision.is_some() {
        return Err(StoreError::Conflict { what: "the review" });
    }
    review.decision = Some(decision);
    db.statement(
        "deciding a review",
        "UPDATE review SET decided = 1, body = ?2 WHERE id = ?1",
    )?
    .uuid(id.0)
    .text(&codec::json(&review)?)
    .run()
    .map(|_| ())
}

pub(super) async fn agent(store: &SqliteStore, id: &AgentId) -> Result<AgentState, StoreError> {
    let id = id.clone();
    let context = "reading an agent";
    store
        .read(context, move |db| {
            let known = db
                .statement(context, "SELECT body FROM agent WHERE id = ?1")?
                .text(id.as_str())
                .row("an agent", body)?;
            Ok(known.unwrap_or_else(|| AgentState::initial(id)))
        })
        .await
}

pub(super) async fn agents(store: &SqliteStore) -> Result<Vec<AgentState>, StoreError> {
    let context = "reading agents";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT body FROM agent ORDER BY id")?
                .rows("an agent", body)
        })
        .await
}

/// The oldest first.
pub(super) async fn reviews(store: &SqliteStore, open_only: bool, limit: u32) -> Result<Vec<Review>, StoreError> {
    let context = "reading reviews";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT body FROM review WHERE NOT ?1 OR decided = 0 ORDER BY seq LIMIT ?2",
            )?
            .flag(open_only)
            .int(limit.into())
            .rows("a review", body)
        })
        .await
}

/// The newest first. What is open is found by its index; what was decided is walked through from the
/// newest on, and the walk ends at the first that is older.
pub(super) async fn reviews_of(
    store: &SqliteStore,
    agent: &AgentId,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<Review>, StoreError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let agent = agent.clone();
    let context = "reading reviews";
    let mut found = store
        .read(context, move |db| {
            let mut select = db.statement(
                context,
                "SELECT seq, body FROM review WHERE agent = ?1 AND decided = ?2 ORDER BY seq DESC",
            )?;
            let mut found: Vec<(i64, Review)> = Vec::new();
            for decided in [false, true] {
                let most = found.len().saturating_add(limit);
                select.text(agent.as_str()).flag(decided).walk("a review", |columns| {
                    let (seq, review) = (columns.int()?, body::<Review>(columns)?);
                    if found.len() == most || (decided && review.opened_at < since) {
                        return Ok(ControlFlow::Break(()));
                    }
                    found.push((seq, review));
                    Ok(ControlFlow::Continue(()))
                })?;
            }
            Ok(found)
        })
        .await?;
    found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
    found.truncate(limit);
    Ok(found.into_iter().map(|(_, review)| review).collect())
}

pub(super) async fn review(store: &SqliteStore, id: ReviewId) -> Result<Option<Review>, StoreError> {
    let context = "reading a review";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT body FROM review WHERE id = ?1")?
                .uuid(id.0)
                .row("a review", body)
        })
        .await
}

pub(super) async fn containment(store: &SqliteStore, id: ContainmentId) -> Result<Option<Containment>, StoreError> {
    let context = "reading a containment";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT body FROM containment WHERE id = ?1")?
                .uuid(id.0)
                .row("a containment", body)
        })
        .await
}

pub(super) async fn live_containments(store: &SqliteStore) -> Result<Vec<Containment>, StoreError> {
    let context = "reading containments";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT body FROM containment WHERE closed = 0 ORDER BY seq")?
                .rows("a containment", body)
        })
        .await
}

/// The newest first.
pub(super) async fn containments_of(
    store: &SqliteStore,
    agent: &AgentId,
    limit: u32,
) -> Result<Vec<Containment>, StoreError> {
    let agent = agent.clone();
    let context = "reading containments";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT body FROM containment WHERE agent = ?1 ORDER BY seq DESC LIMIT ?2",
            )?
            .text(agent.as_str())
            .int(limit.into())
            .rows("a containment", body)
        })
        .await
}
