//! Before-images and steps of containments, all fenced by the driver's lease.

use sqlx::SqlitePool;

use super::SqliteStore;
use super::codec::{self, Columns, from_json};
use super::error::store;
use super::lease;
use super::rows::Rows;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::state::Step;
use crate::domain::id::{AgentId, ContainmentId};
use crate::ports::{Lease, StoreError};

/// Records what nobody has recorded yet, then reads all of it back from what was committed (C1).
pub(super) async fn record(
    store: &SqliteStore,
    lease: &Lease,
    images: &[BeforeImage],
) -> Result<Vec<BeforeImage>, StoreError> {
    let mut rows = Rows::new();
    let mut keys = Rows::new();
    for image in images {
        let resource = image.resource.to_string();
        rows.row()
            .text(image.agent.as_str())
            .text(&resource)
            .int(image.restored_at.is_some().into())
            .text(&codec::json(image)?);
        keys.row().text(image.agent.as_str()).text(&resource);
    }
    let mut tx = store.writer.begin("recording before-images").await?;
    let work = async {
        let db = tx.connection()?;
        lease::check(db, lease).await?;
        sqlx::query(
            "INSERT INTO image (agent, resource, restored, body) \
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(?1) WHERE true ORDER BY key \
             ON CONFLICT (agent, resource) WHERE restored = 0 DO NOTHING",
        )
        .bind(rows.finish())
        .execute(db)
        .await
        .map_err(self::store("recording before-images"))
        .map(|_| ())
    }
    .await;
    tx.end(work).await?;

    let found = sqlx::query(
        "SELECT i.body FROM jsonb_each(?1) k CROSS JOIN image i \
         ON i.agent = k.value ->> 0 AND i.resource = k.value ->> 1 AND i.restored = 0 ORDER BY k.key",
    )
    .bind(keys.finish())
    .fetch_all(&store.readers)
    .await
    .map_err(self::store("reading before-images back"))?;
    if found.len() != images.len() {
        return Err(StoreError::Conflict { what: "a before-image" });
    }
    read(&found)
}

fn read(rows: &[sqlx::sqlite::SqliteRow]) -> Result<Vec<BeforeImage>, StoreError> {
    rows.iter()
        .map(|row| from_json("a before-image", Columns::of(row, "a before-image").text()?))
        .collect()
}

pub(super) async fn of_agent(readers: &SqlitePool, agent: &AgentId) -> Result<Vec<BeforeImage>, StoreError> {
    let rows = sqlx::query("SELECT body FROM image WHERE agent = ?1 AND restored = 0 ORDER BY seq")
        .bind(agent.as_str())
        .fetch_all(readers)
        .await
        .map_err(store("reading before-images"))?;
    read(&rows)
}

/// What was there before is never written again: only what became of it.
pub(super) async fn update(store: &SqliteStore, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
    let mut tx = store.writer.begin("updating before-images").await?;
    let work = async {
        let db = tx.connection()?;
        lease::check(db, lease).await?;
        for image in images {
            let resource = image.resource.to_string();
            let row = sqlx::query("SELECT seq, body FROM image WHERE agent = ?1 AND resource = ?2 AND restored = 0")
                .bind(image.agent.as_str())
                .bind(&resource)
                .fetch_optional(&mut *db)
                .await
                .map_err(self::store("reading a before-image"))?
                .ok_or(StoreError::NotFound {
                    what: "the before-image",
                })?;
            let mut columns = Columns::of(&row, "a before-image");
            let seq = columns.int()?;
            let mut stored: BeforeImage = from_json("a before-image", columns.text()?)?;
            stored.changed_at = image.changed_at;
            stored.restored_at = image.restored_at;
            stored.outcome.clone_from(&image.outcome);
            sqlx::query("UPDATE image SET restored = ?2, body = ?3 WHERE seq = ?1")
                .bind(seq)
                .bind(stored.restored_at.is_some())
                .bind(codec::json(&stored)?)
                .execute(&mut *db)
                .await
                .map_err(self::store("updating a before-image"))?;
        }
        Ok(())
    }
    .await;
    tx.end(work).await
}

pub(super) async fn record_steps(store: &SqliteStore, lease: &Lease, steps: &[Step]) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for step in steps {
        rows.row()
            .uuid(step.containment.0)
            .text(&step.id)
            .text(&codec::json(step)?);
    }
    let mut tx = store.writer.begin("recording steps").await?;
    let work = async {
        let db = tx.connection()?;
        lease::check(db, lease).await?;
        sqlx::query(
            "INSERT INTO step (containment, id, body) \
             SELECT unhex(value ->> 0), value ->> 1, value ->> 2 FROM jsonb_each(?1) WHERE true ORDER BY key \
             ON CONFLICT (containment, id) DO UPDATE SET body = excluded.body",
        )
        .bind(rows.finish())
        .execute(db)
        .await
        .map_err(self::store("recording steps"))
        .map(|_| ())
    }
    .await;
    tx.end(work).await
}

/// In the order in which they were first recorded.
pub(super) async fn steps(readers: &SqlitePool, containment: ContainmentId) -> Result<Vec<Step>, StoreError> {
    let rows = sqlx::query("SELECT body FROM step WHERE containment = ?1 ORDER BY seq")
        .bind(&containment.0.as_bytes()[..])
        .fetch_all(readers)
        .await
        .map_err(store("reading steps"))?;
    rows.iter()
        .map(|row| from_json("a step", Columns::of(row, "a step").text()?))
        .collect()
}
