//! What `apply` decided, written: one statement a table.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;

use super::codec::{self, corrupt};
use super::error::{self, store};
use super::ledger_rows::labels;
use super::load::Loaded;
use super::rows::Rows;
use super::{share, spend};
use crate::domain::id::{EpochId, PostingId};
use crate::domain::ledger::batch::{Delta, NewTrigger};
use crate::domain::ledger::line::{Bucket, Line, LineKey};
use crate::domain::ledger::posting::Basis;
use crate::ports::StoreError;

/// The highest numbers in use; new rows are numbered by us, since entries must name them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) line: i64,
    pub(super) posting: i64,
}

impl Numbers {
    pub(super) async fn read(db: &mut SqliteConnection) -> Result<Self, StoreError> {
        // `sqlite_sequence` remembers numbers whose rows were rolled up.
        let row: (i64, i64) = sqlx::query_as(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'line'), 0), \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'posting'), 0)",
        )
        .fetch_one(db)
        .await
        .map_err(store("reading the last numbers"))?;
        Ok(Self {
            line: row.0,
            posting: row.1,
        })
    }
}

pub(super) fn is_empty(delta: &Delta) -> bool {
    delta.lines.is_empty()
        && delta.holds.is_empty()
        && delta.postings.is_empty()
        && delta.reports.is_empty()
        && delta.triggers.is_empty()
}

pub(super) async fn save(db: &mut SqliteConnection, loaded: &mut Loaded, delta: &Delta) -> Result<(), StoreError> {
    let mut numbers = Numbers { line: 0, posting: 0 };
    let has_new_line = delta.lines.keys().any(|key| !loaded.line_ids.contains_key(key));
    if has_new_line || !delta.postings.is_empty() {
        numbers = Numbers::read(db).await?;
    }
    for key in delta.lines.keys() {
        if !loaded.line_ids.contains_key(key) {
            numbers.line += 1;
            loaded.line_ids.insert(key.clone(), numbers.line);
        }
    }
    lines(db, delta, loaded).await?;
    buckets(db, delta, loaded).await?;
    share::add(db, delta, &loaded.line_ids).await?;
    holds(db, delta, &loaded.line_ids).await?;
    let seqs = postings(db, delta, numbers.posting).await?;
    entries(db, delta, &loaded.line_ids, &seqs).await?;
    reports(db, delta).await?;
    metered(db, delta).await?;
    triggers(db, delta, loaded).await?;
    spend::add(db, delta, &loaded.snapshot).await
}

pub(super) fn line_id(ids: &HashMap<LineKey, i64>, key: &LineKey) -> Result<i64, StoreError> {
    ids.get(key)
        .copied()
        .ok_or_else(|| corrupt("a commit", "it names a line that it neither read nor made"))
}

async fn lines(db: &mut SqliteConnection, delta: &Delta, loaded: &Loaded) -> Result<(), StoreError> {
    if delta.lines.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new();
    for (key, line) in &delta.lines {
        let (budget, agent, value, start, end) = codec::line_key(key);
        rows.row()
            .int(line_id(&loaded.line_ids, key)?)
            .text(budget)
            .text(agent)
            .text(value)
            .int(start)
            .int(end)
            .text(&codec::json(&line.rule)?)
            .usd(line.raise)
            .int(line.revision)
            .opt_time(line.lifted_until)
            .usd(line.posted)
            .usd(line.held)
            .usd(line.unresolved)
            .usd(line.overage)
            .int(line.alerted.into())
            .opt_int(line.breached);
    }
    sqlx::query(
        "INSERT INTO line (id, budget, agent, value, window_start, window_end, rule, raise, revision, lifted_until, \
         posted, held, unresolved, overage, alerted, breached) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, \
         value ->> 15 FROM jsonb_each(?1) WHERE true \
         ON CONFLICT (id) DO UPDATE SET rule = excluded.rule, raise = excluded.raise, revision = excluded.revision, \
         lifted_until = excluded.lifted_until, posted = excluded.posted, held = excluded.held, \
         unresolved = excluded.unresolved, overage = excluded.overage, alerted = excluded.alerted, \
         breached = excluded.breached",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("writing lines"))?;
    Ok(())
}

/// Writes the buckets that changed and drops those that are no longer live.
async fn buckets(db: &mut SqliteConnection, delta: &Delta, loaded: &Loaded) -> Result<(), StoreError> {
    let mut changed = Rows::new();
    let mut dropped = Rows::new();
    let none: Vec<Bucket> = Vec::new();
    for (key, line) in &delta.lines {
        let id = line_id(&loaded.line_ids, key)?;
        let before = loaded.buckets.get(&id).unwrap_or(&none);
        compare(id, before, line, &mut changed, &mut dropped);
    }
    if !dropped.is_empty() {
        let dropped = dropped.finish();
        sqlx::query("DELETE FROM bucket WHERE (line, start) IN (SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1))")
            .bind(&dropped)
            .execute(&mut *db)
            .await
            .map_err(store("dropping buckets"))?;
        share::drop_buckets(db, &dropped).await?;
    }
    if !changed.is_empty() {
        sqlx::query(
            "INSERT INTO bucket (line, start, posted, unresolved) \
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(?1) WHERE true \
             ON CONFLICT (line, start) DO UPDATE SET posted = excluded.posted, unresolved = excluded.unresolved",
        )
        .bind(changed.finish())
        .execute(db)
        .await
        .map_err(store("writing buckets"))?;
    }
    Ok(())
}

fn compare(id: i64, before: &[Bucket], line: &Line, changed: &mut Rows, dropped: &mut Rows) {
    if before.is_empty() && line.buckets.is_empty() {
        return;
    }
    let old: HashMap<_, _> = before.iter().map(|bucket| (bucket.start, bucket)).collect();
    let live: HashSet<_> = line.buckets.iter().map(|bucket| bucket.start).collect();
    for bucket in line.buckets.iter().filter(|b| old.get(&b.start) != Some(b)) {
        changed
            .row()
            .int(id)
            .time(bucket.start)
            .usd(bucket.posted)
            .usd(bucket.unresolved);
    }
    for bucket in before.iter().filter(|b| !live.contains(&b.start)) {
        dropped.row().int(id).time(bucket.start);
    }
}

async fn holds(db: &mut SqliteConnection, delta: &Delta, ids: &HashMap<LineKey, i64>) -> Result<(), StoreError> {
    if delta.holds.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new();
    // In the order of their ids, which is nearly that of time: neighbours go to one page.
    let mut holds: Vec<_> = delta.holds.values().collect();
    holds.sort_unstable_by_key(|hold| hold.id);
    for hold in holds {
        let lines = hold
            .lines
            .iter()
            .map(|key| line_id(ids, key))
            .collect::<Result<Vec<_>, _>>()?;
        let of = &hold.attribution;
        rows.row()
            .uuid(hold.id.0)
            .int(hold.epoch.0)
            .text(of.agent.as_str())
            .text(of.task.as_str())
            .opt_text(of.service.as_ref().map(AsRef::as_ref))
            .opt_text(of.model.as_ref().map(AsRef::as_ref))
            .opt_text(of.tool.as_ref().map(AsRef::as_ref))
            .opt_text(labels(of)?.as_deref())
            .int(codec::trust(hold.trust))
            .usd(hold.bound)
            .text(&codec::json(&lines)?)
            .int(codec::hold_state(hold.state))
            .time(hold.opened_at)
            .time(hold.expires_at)
            .opt_time(hold.ended_at);
    }
    sqlx::query(
        "INSERT INTO hold (id, epoch, agent, task, service, model, tool, labels, trust, bound, lines, state, \
         opened_at, expires_at, ended_at) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14 \
         FROM jsonb_each(?1) WHERE true \
         ON CONFLICT (id) DO UPDATE SET bound = excluded.bound, lines = excluded.lines, state = excluded.state, \
         expires_at = excluded.expires_at, ended_at = excluded.ended_at",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("writing holds"))?;
    Ok(())
}

/// Inserts the postings and returns their numbers. One that is there already fails the commit: the
/// lines in the delta count it, so leaving only its row out would break their sums (L1).
async fn postings(db: &mut SqliteConnection, delta: &Delta, last: i64) -> Result<HashMap<PostingId, i64>, StoreError> {
    let mut seqs = HashMap::with_capacity(delta.postings.len());
    if delta.postings.is_empty() {
        return Ok(seqs);
    }
    let mut rows = Rows::new();
    for (seq, posting) in (last + 1..).zip(&delta.postings) {
        seqs.insert(posting.id, seq);
        let of = &posting.attribution;
        rows.row()
            .int(seq)
            .uuid(posting.id.0)
            .int(codec::posting_kind(posting.kind))
            .text(of.agent.as_str())
            .text(of.task.as_str())
            .opt_text(of.service.as_ref().map(AsRef::as_ref))
            .opt_text(of.model.as_ref().map(AsRef::as_ref))
            .opt_text(of.tool.as_ref().map(AsRef::as_ref))
            .opt_text(labels(of)?.as_deref())
            .usd(posting.amount)
            .int(codec::basis(posting.basis))
            .int(codec::trust(posting.trust))
            .time(posting.occurred_at)
            .time(posting.recorded_at)
            .opt_text(posting.report.as_ref().map(AsRef::as_ref))
            .opt_uuid(posting.hold.map(|id| id.0))
            .opt_uuid(posting.corrects.map(|id| id.0))
            .opt_text(posting.upstream_request.as_deref())
            .int(posting.epoch.0)
            .opt_text(posting.detail.as_deref());
    }
    sqlx::query(
        "INSERT INTO posting (seq, id, kind, agent, task, service, model, tool, labels, amount, basis, trust, \
         occurred_at, recorded_at, report, hold, corrects, upstream_request, epoch, detail) \
         SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14, \
         unhex(value ->> 15), unhex(value ->> 16), value ->> 17, value ->> 18, value ->> 19 FROM jsonb_each(?1)",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(|error| {
        if error::is_unique_violation(&error) {
            corrupt("a commit", "the id of one of its postings is in use")
        } else {
            error::of_statement("writing postings", error)
        }
    })?;
    Ok(seqs)
}

async fn entries(
    db: &mut SqliteConnection,
    delta: &Delta,
    ids: &HashMap<LineKey, i64>,
    seqs: &HashMap<PostingId, i64>,
) -> Result<(), StoreError> {
    if delta.entries.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new();
    for entry in &delta.entries {
        let seq = seqs
            .get(&entry.posting)
            .ok_or_else(|| corrupt("a commit", "an entry names a posting that is not in it"))?;
        rows.row()
            .int(*seq)
            .int(line_id(ids, &entry.line)?)
            .usd(entry.amount)
            .usd(entry.unresolved)
            .opt_time(entry.bucket);
    }
    sqlx::query(
        "INSERT INTO entry (posting, line, amount, unresolved, bucket) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM jsonb_each(?1)",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("writing entries"))?;
    Ok(())
}

async fn reports(db: &mut SqliteConnection, delta: &Delta) -> Result<(), StoreError> {
    if delta.reports.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new();
    for seen in &delta.reports {
        rows.row()
            .text(seen.key.agent.as_str())
            .int(i64::from(seen.key.evidence))
            .text(seen.key.report.as_str())
            .bytes(&seen.digest)
            .opt_uuid(seen.posting.map(|id| id.0));
    }
    sqlx::query(
        "INSERT INTO report (agent, evidence, report, digest, posting) \
         SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), unhex(value ->> 4) \
         FROM jsonb_each(?1)",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("writing report ids"))?;
    Ok(())
}

/// Remembers the upstream requests that were metered here; the first posting of one keeps its place.
async fn metered(db: &mut SqliteConnection, delta: &Delta) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for posting in delta.postings.iter().filter(|p| p.basis == Basis::Metered) {
        if let Some(request) = &posting.upstream_request {
            rows.row()
                .text(posting.attribution.agent.as_str())
                .text(request)
                .uuid(posting.id.0);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO metered (agent, request, posting) \
         SELECT value ->> 0, value ->> 1, unhex(value ->> 2) FROM jsonb_each(?1) WHERE true \
         ON CONFLICT (agent, request) DO NOTHING",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("writing metered requests"))?;
    Ok(())
}

async fn triggers(db: &mut SqliteConnection, delta: &Delta, loaded: &Loaded) -> Result<(), StoreError> {
    if delta.triggers.is_empty() {
        return Ok(());
    }
    let response = |trigger: &NewTrigger| {
        let line = delta
            .lines
            .get(&trigger.line)
            .or_else(|| loaded.snapshot.lines.get(&trigger.line))
            .ok_or_else(|| corrupt("a commit", "a trigger names a line that is not in it"))?;
        codec::json(&line.rule.response)
    };
    let mut rows = Rows::new();
    for trigger in &delta.triggers {
        rows.row().text(&response(trigger)?).text(&codec::json(trigger)?);
    }
    sqlx::query(
        "INSERT INTO pending_trigger (response, body) \
         SELECT value ->> 0, value ->> 1 FROM jsonb_each(?1) ORDER BY key",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("writing triggers"))?;
    Ok(())
}

/// Marks the batch as the last one of its epoch that is on disk.
pub(super) async fn advance(db: &mut SqliteConnection, epoch: EpochId, seq: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE epoch SET last_seq = ?2 WHERE id = ?1")
        .bind(epoch.0)
        .bind(seq)
        .execute(db)
        .await
        .map_err(store("numbering a batch"))?;
    Ok(())
}
