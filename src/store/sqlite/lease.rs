//! Leases: one driver at a time, with a fencing token (C6).
//!
//! A token never falls, even when a lease is released: its row stays. The fence is the token, not the
//! time: a driver whose lease ran out and was taken by nobody may still write, and one that was
//! overtaken may not.

use std::time::Duration;

use jiff::Timestamp;

use super::SqliteStore;
use super::statement::Db;
use crate::ports::{Lease, StoreError};

pub(super) async fn take(
    store: &SqliteStore,
    name: &str,
    holder: &str,
    now: Timestamp,
    ttl: Duration,
) -> Result<Option<Lease>, StoreError> {
    let mut lease = Lease {
        name: name.to_owned(),
        holder: holder.to_owned(),
        token: 0,
        // A lease past the end of time has no end.
        expires_at: now.checked_add(ttl).unwrap_or(Timestamp::MAX),
    };
    let context = "taking a lease";
    store
        .write(context, move |db| {
            // Nobody's name is empty, so a released lease always changes hands. The name of one who lives in
            // an epoch is `Lease::holder_in`'s.
            let token = db
                .statement(
                    context,
                    "INSERT INTO lease (name, holder, token, expires_at) VALUES (?1, ?2, 1, ?3) \
                     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at, \
                     token = lease.token + (lease.holder <> excluded.holder) \
                     WHERE lease.holder = excluded.holder OR lease.expires_at <= ?4 OR EXISTS ( \
                     SELECT 1 FROM epoch WHERE id = CAST(substr(lease.holder, 7) AS INTEGER) \
                     AND lease.holder = 'epoch:' || id AND closed_at IS NOT NULL) RETURNING token",
                )?
                .text(&lease.name)
                .text(&lease.holder)
                .time(lease.expires_at)
                .time(now)
                .row("a lease", |columns| columns.int())?;
            Ok(token.map(|token| {
                lease.token = token;
                lease
            }))
        })
        .await
}

/// Gives a lease back; one that has passed on is not ours to give.
pub(super) async fn release(store: &SqliteStore, lease: &Lease) -> Result<(), StoreError> {
    let lease = lease.clone();
    let context = "releasing a lease";
    store
        .write(context, move |db| {
            db.statement(
                context,
                "UPDATE lease SET holder = '', expires_at = -1000000000000000000 \
                 WHERE name = ?1 AND holder = ?2 AND token = ?3",
            )?
            .text(&lease.name)
            .text(&lease.holder)
            .int(lease.token)
            .run()
            .map(|_| ())
        })
        .await
}

/// The fence: fails if the lease has passed on.
pub(super) fn check(db: &Db<'_>, lease: &Lease) -> Result<(), StoreError> {
    db.statement(
        "checking a lease",
        "SELECT 1 FROM lease WHERE name = ?1 AND holder = ?2 AND token = ?3",
    )?
    .text(&lease.name)
    .text(&lease.holder)
    .int(lease.token)
    .row("a lease", |columns| columns.int())?
    .map(|_| ())
    .ok_or(StoreError::Conflict { what: "the lease" })
}
