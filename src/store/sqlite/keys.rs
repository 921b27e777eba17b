//! Agents' credentials: hashes of random secrets.

use jiff::Timestamp;
use sqlx::SqlitePool;

use super::SqliteStore;
use super::codec::{self, Columns};
use super::error::{self, store};
use crate::domain::id::KeyId;
use crate::ports::{AgentKey, StoreError};

pub(super) async fn add(store: &SqliteStore, key: &AgentKey) -> Result<(), StoreError> {
    let mut tx = store.writer.begin("adding a key").await?;
    let work = async {
        sqlx::query("INSERT INTO agent_key (id, agent, hash, created_at, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(&key.id.0.as_bytes()[..])
            .bind(key.agent.as_str())
            .bind(&key.hash[..])
            .bind(codec::micros(key.created_at))
            .bind(key.revoked_at.map(codec::micros))
            .execute(tx.connection()?)
            .await
            .map_err(|error| match error::is_unique_violation(&error) {
                true => StoreError::Conflict { what: "the key" },
                false => error::of_statement("adding a key", error),
            })
            .map(|_| ())
    }
    .await;
    tx.end(work).await
}

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<AgentKey>, StoreError> {
    let rows = sqlx::query("SELECT id, agent, hash, created_at, revoked_at FROM agent_key ORDER BY seq")
        .fetch_all(readers)
        .await
        .map_err(store("reading keys"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "a key");
            Ok(AgentKey {
                id: KeyId(columns.uuid()?),
                agent: columns.name()?,
                hash: columns.digest()?,
                created_at: columns.time()?,
                revoked_at: columns.opt_time()?,
            })
        })
        .collect()
}

/// A key that was revoked stays revoked since the first time.
pub(super) async fn revoke(store: &SqliteStore, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.writer.begin("revoking a key").await?;
    let work = async {
        let done = sqlx::query("UPDATE agent_key SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1")
            .bind(&id.0.as_bytes()[..])
            .bind(codec::micros(now))
            .execute(tx.connection()?)
            .await
            .map_err(self::store("revoking a key"))?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError::NotFound { what: "the key" }),
        }
    }
    .await;
    tx.end(work).await
}
