//! Drills: the newest of each agent, with their reports.

use super::SqliteStore;
use super::codec::{self, body, from_json};
use super::statement::Db;
use crate::domain::drill::{Drill, DrillHead, KEPT};
use crate::domain::id::{AgentId, DrillId};
use crate::ports::StoreError;

/// Inside the transaction of its judgement: the audit entry with the digest is written with it or not at all.
pub(super) fn keep(db: &Db<'_>, drill: &Drill) -> Result<(), StoreError> {
    let head = &drill.head;
    db.statement(
        "keeping a drill",
        "INSERT INTO drill (id, agent, kind, head, report) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .uuid(head.id.0)
    .text(head.agent.as_str())
    .text(head.kind.as_str())
    .text(&codec::json(head)?)
    .text(&drill.report)
    .run_unless_taken(StoreError::Conflict { what: "the drill" })?;
    db.statement(
        "forgetting old drills",
        "DELETE FROM drill WHERE agent = ?1 AND seq NOT IN \
         (SELECT seq FROM drill WHERE agent = ?1 ORDER BY seq DESC LIMIT ?2)",
    )?
    .text(head.agent.as_str())
    .count(KEPT)
    .run()
    .map(|_| ())
}

/// The newest first.
pub(super) async fn of_agent(store: &SqliteStore, agent: &AgentId, limit: u32) -> Result<Vec<DrillHead>, StoreError> {
    let agent = agent.clone();
    let context = "reading drills";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT head FROM drill WHERE agent = ?1 ORDER BY seq DESC LIMIT ?2",
            )?
            .text(agent.as_str())
            .int(limit.into())
            .rows("a drill", body)
        })
        .await
}

pub(super) async fn one(store: &SqliteStore, id: DrillId) -> Result<Option<Drill>, StoreError> {
    let context = "reading a drill";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT head, report FROM drill WHERE id = ?1")?
                .uuid(id.0)
                .row("a drill", |columns| {
                    Ok(Drill {
                        head: from_json("a drill", columns.text()?)?,
                        report: columns.text()?.to_owned(),
                    })
                })
        })
        .await
}

pub(super) async fn last(store: &SqliteStore) -> Result<Vec<DrillHead>, StoreError> {
    let context = "reading the last drills";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT head FROM drill WHERE seq IN (SELECT max(seq) FROM drill GROUP BY agent, kind) \
                 ORDER BY agent, kind",
            )?
            .rows("a drill", body)
        })
        .await
}
