//! Agents' credentials: hashes of random secrets.

use jiff::Timestamp;

use super::SqliteStore;
use crate::domain::id::KeyId;
use crate::ports::{AgentKey, StoreError};

pub(super) async fn add(store: &SqliteStore, key: &AgentKey) -> Result<(), StoreError> {
    let key = key.clone();
    let context = "adding a key";
    store
        .write(context, move |db| {
            db.statement(
                context,
                "INSERT INTO agent_key (id, agent, hash, created_at, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .uuid(key.id.0)
            .text(key.agent.as_str())
            .bytes(&key.hash)
            .time(key.created_at)
            .opt_time(key.revoked_at)
            .run_unless_taken(StoreError::Conflict { what: "the key" })
            .map(|_| ())
        })
        .await
}

pub(super) async fn all(store: &SqliteStore) -> Result<Vec<AgentKey>, StoreError> {
    let context = "reading keys";
    store
        .read(context, move |db| {
            db.statement(
                context,
                "SELECT id, agent, hash, created_at, revoked_at FROM agent_key ORDER BY seq",
            )?
            .rows("a key", |columns| {
                Ok(AgentKey {
                    id: KeyId(columns.uuid()?),
                    agent: columns.name()?,
                    hash: columns.digest()?,
                    created_at: columns.time()?,
                    revoked_at: columns.opt_time()?,
                })
            })
        })
        .await
}

/// A key that was revoked stays revoked since the first time.
pub(super) async fn revoke(store: &SqliteStore, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
    let context = "revoking a key";
    store
        .write(context, move |db| {
            let revoked = db
                .statement(
                    context,
                    "UPDATE agent_key SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1",
                )?
                .uuid(id.0)
                .time(now)
                .run()?;
            match revoked {
                1 => Ok(()),
                _ => Err(StoreError::NotFound { what: "the key" }),
            }
        })
        .await
}
