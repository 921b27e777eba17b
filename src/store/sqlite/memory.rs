//! What was learnt of the cloud: a few notes, a later one in place of an earlier.

use sqlx::SqlitePool;

use super::SqliteStore;
use super::codec::{self, Columns, from_json};
use super::error::store;
use super::rows::Rows;
use crate::domain::containment::memory::{MAX_NOTES, Note};
use crate::ports::StoreError;

pub(super) async fn remember(store: &SqliteStore, notes: &[Note]) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for note in notes {
        rows.row()
            .text(&note.fact.key())
            .int(codec::micros(note.learnt_at))
            .text(&codec::json(note)?);
    }
    let mut tx = store.writer.begin("remembering the cloud").await?;
    let work = async {
        let db = tx.connection()?;
        sqlx::query(
            "INSERT INTO cloud_memory (key, learnt_at, body) \
             SELECT value ->> 0, value ->> 1, value ->> 2 FROM jsonb_each(?1) WHERE true ORDER BY key \
             ON CONFLICT (key) DO UPDATE SET learnt_at = excluded.learnt_at, body = excluded.body",
        )
        .bind(rows.finish())
        .execute(&mut *db)
        .await
        .map_err(self::store("remembering the cloud"))?;
        sqlx::query(
            "DELETE FROM cloud_memory WHERE key NOT IN \
             (SELECT key FROM cloud_memory ORDER BY learnt_at DESC, key LIMIT ?1)",
        )
        .bind(i64::try_from(MAX_NOTES).unwrap_or(i64::MAX))
        .execute(db)
        .await
        .map_err(self::store("forgetting old notes"))
        .map(|_| ())
    }
    .await;
    tx.end(work).await
}

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<Note>, StoreError> {
    let rows = sqlx::query("SELECT body FROM cloud_memory ORDER BY learnt_at DESC, key")
        .fetch_all(readers)
        .await
        .map_err(store("reading what was learnt of the cloud"))?;
    rows.iter()
        .map(|row| from_json("a note", Columns::of(row, "a note").text()?))
        .collect()
}
