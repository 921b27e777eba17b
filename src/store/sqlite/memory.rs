//! What was learnt of the cloud: a few notes, a later one in place of an earlier.

use super::SqliteStore;
use super::codec::{self, body};
use crate::domain::containment::memory::{MAX_NOTES, Note};
use crate::ports::StoreError;

pub(super) async fn remember(store: &SqliteStore, notes: &[Note]) -> Result<(), StoreError> {
    let notes = notes.to_vec();
    let context = "remembering the cloud";
    store
        .write(context, move |db| {
            let mut put = db.statement(
                context,
                "INSERT INTO cloud_memory (key, learnt_at, body) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (key) DO UPDATE SET learnt_at = excluded.learnt_at, body = excluded.body",
            )?;
            for note in &notes {
                put.text(&note.fact.key())
                    .time(note.learnt_at)
                    .text(&codec::json(note)?)
                    .run()?;
            }
            db.statement(
                "forgetting old notes",
                "DELETE FROM cloud_memory WHERE key NOT IN \
                 (SELECT key FROM cloud_memory ORDER BY learnt_at DESC, key LIMIT ?1)",
            )?
            .count(MAX_NOTES)
            .run()
            .map(|_| ())
        })
        .await
}

pub(super) async fn all(store: &SqliteStore) -> Result<Vec<Note>, StoreError> {
    let context = "reading what was learnt of the cloud";
    store
        .read(context, move |db| {
            db.statement(context, "SELECT body FROM cloud_memory ORDER BY learnt_at DESC, key")?
                .rows("a note", body)
        })
        .await
}
