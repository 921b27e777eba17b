//! Leases: one driver at a time, with a fencing token (C6).
//!
//! A token never falls, even when a lease is released: its row stays. The fence is the token, not the
//! time: a driver whose lease ran out and was taken by nobody may still write, and one that was
//! overtaken may not.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::codec::{self, Columns};
use super::error::store;
use crate::ports::{Lease, StoreError};

pub(super) async fn take(
    store: &SqliteStore,
    name: &str,
    holder: &str,
    now: Timestamp,
    ttl: Duration,
) -> Result<Option<Lease>, StoreError> {
    // A lease past the end of time has no end.
    let expires_at = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
    let mut tx = store.writer.begin("taking a lease").await?;
    let work = async {
        // Nobody's name is empty, so a released lease always changes hands. The name of one who lives in
        // an epoch is `Lease::holder_in`'s.
        let row = sqlx::query(
            "INSERT INTO lease (name, holder, token, expires_at) VALUES (?1, ?2, 1, ?3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at, \
             token = lease.token + (lease.holder <> excluded.holder) \
             WHERE lease.holder = excluded.holder OR lease.expires_at <= ?4 OR EXISTS ( \
             SELECT 1 FROM epoch WHERE id = CAST(substr(lease.holder, 7) AS INTEGER) \
             AND lease.holder = 'epoch:' || id AND closed_at IS NOT NULL) RETURNING token",
        )
        .bind(name)
        .bind(holder)
        .bind(codec::micros(expires_at))
        .bind(codec::micros(now))
        .fetch_optional(tx.connection()?)
        .await
        .map_err(self::store("taking a lease"))?;
        row.map(|row| Columns::of(&row, "a lease").int()).transpose()
    }
    .await;
    let token = tx.end(work).await?;
    Ok(token.map(|token| Lease {
        name: name.to_owned(),
        holder: holder.to_owned(),
        token,
        expires_at,
    }))
}

/// Gives a lease back; one that has passed on is not ours to give.
pub(super) async fn release(store: &SqliteStore, lease: &Lease) -> Result<(), StoreError> {
    let mut tx = store.writer.begin("releasing a lease").await?;
    let work = async {
        sqlx::query(
            "UPDATE lease SET holder = '', expires_at = -1000000000000000000 \
             WHERE name = ?1 AND holder = ?2 AND token = ?3",
        )
        .bind(&lease.name)
        .bind(&lease.holder)
        .bind(lease.token)
        .execute(tx.connection()?)
        .await
        .map_err(self::store("releasing a lease"))
        .map(|_| ())
    }
    .await;
    tx.end(work).await
}

/// The fence: fails if the lease has passed on.
pub(super) async fn check(db: &mut SqliteConnection, lease: &Lease) -> Result<(), StoreError> {
    let held: Option<i64> = sqlx::query_scalar("SELECT 1 FROM lease WHERE name = ?1 AND holder = ?2 AND token = ?3")
        .bind(&lease.name)
        .bind(&lease.holder)
        .bind(lease.token)
        .fetch_optional(db)
        .await
        .map_err(store("checking a lease"))?;
    held.map(|_| ()).ok_or(StoreError::Conflict { what: "the lease" })
}
