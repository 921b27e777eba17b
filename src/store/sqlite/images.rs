//! Before-images and steps of containments, all fenced by the driver's lease.

use jiff::Timestamp;

use super::SqliteStore;
use super::codec::{self, body};
use super::lease;
use super::statement::Db;
use crate::domain::containment::folding::Folded;
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
    let (fence, new) = (lease.clone(), images.to_vec());
    store
        .write("recording before-images", move |db| {
            lease::check(db, &fence)?;
            insert(db, &new)
        })
        .await?;
    read_back(store, images).await
}

/// Ends some and records others in one transaction.
pub(super) async fn supersede(
    store: &SqliteStore,
    lease: &Lease,
    ended: &[BeforeImage],
    images: &[BeforeImage],
) -> Result<Vec<BeforeImage>, StoreError> {
    let (fence, ended, new) = (lease.clone(), ended.to_vec(), images.to_vec());
    store
        .write("superseding before-images", move |db| {
            lease::check(db, &fence)?;
            write_outcomes(db, ended)?;
            insert(db, &new)
        })
        .await?;
    read_back(store, images).await
}

fn insert(db: &Db<'_>, images: &[BeforeImage]) -> Result<(), StoreError> {
    let mut insert = db.statement(
        "recording before-images",
        "INSERT INTO image (agent, resource, restored, body) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (agent, resource) WHERE restored = 0 DO NOTHING",
    )?;
    for image in images {
        insert
            .text(image.agent.as_str())
            .text(&image.resource.to_string())
            .flag(image.restored_at.is_some())
            .text(&codec::json(image)?)
            .run()?;
    }
    Ok(())
}

async fn read_back(store: &SqliteStore, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, StoreError> {
    let named: Vec<(AgentId, String)> = images
        .iter()
        .map(|image| (image.agent.clone(), image.resource.to_string()))
        .collect();
    let context = "reading before-images back";
    store
        .read(context, move |db| {
            let mut select = db.statement(
                context,
                "SELECT body FROM image WHERE agent = ?1 AND resource = ?2 AND restored = 0",
            )?;
            let found = named.iter().map(|(agent, resource)| {
                select
                    .text(agent.as_str())
                    .text(resource)
                    .row("a before-image", body)?
                    .ok_or(StoreError::Conflict { what: "a before-image" })
            });
            found.collect()
        })
        .await
}

/// What was ended and is gone: its open before-image and its step go.
pub(super) fn fold(db: &Db<'_>, folded: &[Folded]) -> Result<(), StoreError> {
    let mut image = db.statement(
        "folding before-images",
        "DELETE FROM image WHERE agent = ?1 AND resource = ?2 AND restored = 0",
    )?;
    let mut step = db.statement("folding steps", "DELETE FROM step WHERE containment = ?1 AND id = ?2")?;
    for one in folded {
        image.text(one.agent.as_str()).text(&one.resource.to_string()).run()?;
        step.uuid(one.containment.0).text(&one.step_id()).run()?;
    }
    Ok(())
}

pub(super) async fn of_agent(store: &SqliteStore, agent: &AgentId) -> Result<Vec<BeforeImage>, StoreError> {
    let agent = agent.clone();
    let context = "reading before-images";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT body FROM image WHERE agent = ?1 AND restored = 0 ORDER BY seq",
            )?
            .text(agent.as_str())
            .rows("a before-image", body)
        })
        .await
}

/// What was settled at that time or later.
pub(super) async fn restored(
    store: &SqliteStore,
    agent: &AgentId,
    since: Timestamp,
) -> Result<Vec<BeforeImage>, StoreError> {
    let agent = agent.clone();
    let context = "reading before-images that were put back";
    let all: Vec<BeforeImage> = store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT body FROM image WHERE agent = ?1 AND restored = 1 ORDER BY seq",
            )?
            .text(agent.as_str())
            .rows("a before-image", body)
        })
        .await?;
    let settled = |image: &BeforeImage| image.restored_at.is_some_and(|at| at >= since);
    Ok(all.into_iter().filter(settled).collect())
}

/// What was there before is never written again: only what became of it.
pub(super) async fn update(store: &SqliteStore, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
    let (lease, images) = (lease.clone(), images.to_vec());
    store
        .write("updating before-images", move |db| {
            lease::check(db, &lease)?;
            write_outcomes(db, images)
        })
        .await
}

fn write_outcomes(db: &Db<'_>, images: Vec<BeforeImage>) -> Result<(), StoreError> {
    let mut select = db.statement(
        "reading a before-image",
        "SELECT seq, body FROM image WHERE agent = ?1 AND resource = ?2 AND restored = 0",
    )?;
    let mut write = db.statement(
        "updating a before-image",
        "UPDATE image SET restored = ?2, body = ?3 WHERE seq = ?1",
    )?;
    for image in images {
        let read = select
            .text(image.agent.as_str())
            .text(&image.resource.to_string())
            .row("a before-image", |columns| Ok((columns.int()?, body(columns)?)))?;
        let (seq, mut stored): (i64, BeforeImage) = read.ok_or(StoreError::NotFound {
            what: "the before-image",
        })?;
        stored.changed_at = image.changed_at;
        stored.restored_at = image.restored_at;
        stored.outcome = image.outcome;
        write
            .int(seq)
            .flag(stored.restored_at.is_some())
            .text(&codec::json(&stored)?)
            .run()?;
    }
    Ok(())
}

pub(super) async fn record_steps(store: &SqliteStore, lease: &Lease, steps: &[Step]) -> Result<(), StoreError> {
    let (lease, steps) = (lease.clone(), steps.to_vec());
    let context = "recording steps";
    store
        .write(context, move |db| {
            lease::check(db, &lease)?;
            let mut put = db.statement(
                context,
                "INSERT INTO step (containment, id, body) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (containment, id) DO UPDATE SET body = excluded.body",
            )?;
            for step in &steps {
                put.uuid(step.containment.0)
                    .text(&step.id)
                    .text(&codec::json(step)?)
                    .run()?;
            }
            Ok(())
        })
        .await
}

/// In the order in which they were first recorded.
pub(super) async fn steps(store: &SqliteStore, containment: ContainmentId) -> Result<Vec<Step>, StoreError> {
    let context = "reading steps";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT body FROM step WHERE containment = ?1 ORDER BY seq")?
                .uuid(containment.0)
                .rows("a step", body)
        })
        .await
}
