//! What `apply` decided, written: one statement a table, one row that changed a step. A hot line is one row
//! a commit, whatever the size of the batch.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::codec::{self, corrupt};
use super::ledger_rows::labels;
use super::load::Loaded;
use super::statement::{Db, Statement};
use super::{share, spend};
use crate::domain::id::PostingId;
use crate::domain::ledger::batch::{Delta, NewTrigger};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Bucket, Line, LineKey};
use crate::domain::ledger::posting::{Attribution, Basis};
use crate::ports::StoreError;

/// The highest numbers in use; new rows are numbered by us, since entries must name them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) line: i64,
    pub(super) posting: i64,
}

impl Numbers {
    pub(super) fn read(db: &Db<'_>) -> Result<Self, StoreError> {
        // `sqlite_sequence` remembers numbers whose rows were rolled up.
        let numbers = db
            .statement(
                "reading the last numbers",
                "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'line'), 0), \
                 coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'posting'), 0)",
            )?
            .row("the last numbers", |columns| {
                Ok(Self {
                    line: columns.int()?,
                    posting: columns.int()?,
                })
            })?;
        numbers.ok_or_else(|| corrupt("the last numbers", "there are none"))
    }
}

pub(super) fn is_empty(delta: &Delta) -> bool {
    delta.lines.is_empty()
        && delta.holds.is_empty()
        && delta.postings.is_empty()
        && delta.reports.is_empty()
        && delta.triggers.is_empty()
}

pub(super) fn save(db: &Db<'_>, loaded: &mut Loaded, delta: &Delta) -> Result<(), StoreError> {
    let new_lines: Vec<&LineKey> = delta
        .lines
        .keys()
        .filter(|key| !loaded.line_ids.contains_key(key))
        .collect();
    let mut numbers = Numbers { line: 0, posting: 0 };
    if !new_lines.is_empty() || !delta.postings.is_empty() {
        numbers = Numbers::read(db)?;
    }
    let first_new = match new_lines.is_empty() {
        true => i64::MAX,
        false => numbers.line + 1,
    };
    for (key, id) in new_lines.into_iter().zip(first_new..) {
        loaded.line_ids.insert(key.clone(), id);
    }
    lines(db, delta, &loaded.line_ids, first_new)?;
    buckets(db, delta, loaded)?;
    share::add(db, delta, &loaded.line_ids)?;
    holds(db, delta, loaded)?;
    let seqs = postings(db, delta, numbers.posting)?;
    entries(db, delta, &loaded.line_ids, &seqs)?;
    reports(db, delta)?;
    metered(db, delta)?;
    triggers(db, delta, loaded)?;
    spend::add(db, delta, &loaded.snapshot)
}

pub(super) fn line_id(ids: &HashMap<LineKey, i64>, key: &LineKey) -> Result<i64, StoreError> {
    ids.get(key)
        .copied()
        .ok_or_else(|| corrupt("a commit", "it names a line that it neither read nor made"))
}

/// Those numbered from `first_new` on are new; of the others, what a commit can change is written.
fn lines(db: &Db<'_>, delta: &Delta, ids: &HashMap<LineKey, i64>, first_new: i64) -> Result<(), StoreError> {
    let (mut insert, mut update) = (None, None);
    for (key, line) in &delta.lines {
        let id = line_id(ids, key)?;
        let rule = codec::json(&line.rule)?;
        let written = if id >= first_new {
            let statement = db.once(
                &mut insert,
                "writing new lines",
                "INSERT INTO line (rule, raise, revision, lifted_until, posted, held, unresolved, overage, alerted, \
                 breached, id, budget, agent, value, window_start, window_end) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?;
            let (budget, agent, value, start, end) = codec::line_key(key);
            state(statement, line, &rule).int(id);
            statement
                .text(budget)
                .text(agent)
                .text(value)
                .int(start)
                .int(end)
                .run()?
        } else {
            let statement = db.once(
                &mut update,
                "writing lines",
                "UPDATE line SET rule = ?1, raise = ?2, revision = ?3, lifted_until = ?4, posted = ?5, held = ?6, \
                 unresolved = ?7, overage = ?8, alerted = ?9, breached = ?10 WHERE id = ?11",
            )?;
            state(statement, line, &rule).int(id).run()?
        };
        if written != 1 {
            return Err(corrupt("a line", format!("number {id} is not there any more")));
        }
    }
    Ok(())
}

/// What of a line a commit can change.
fn state<'s, 'c>(statement: &'s mut Statement<'c>, line: &Line, rule: &str) -> &'s mut Statement<'c> {
    statement
        .text(rule)
        .usd(line.raise)
        .int(line.revision)
        .opt_time(line.lifted_until)
        .usd(line.posted)
        .usd(line.held)
        .usd(line.unresolved)
        .usd(line.overage)
        .int(line.alerted.into())
        .opt_int(line.breached)
}

/// Writes the buckets that changed and drops those that are no longer live.
fn buckets(db: &Db<'_>, delta: &Delta, loaded: &Loaded) -> Result<(), StoreError> {
    let mut changed = Vec::new();
    let mut dropped = Vec::new();
    let none: Vec<Bucket> = Vec::new();
    for (key, line) in &delta.lines {
        let id = line_id(&loaded.line_ids, key)?;
        let before = loaded.buckets.get(&id).unwrap_or(&none);
        compare(id, before, line, &mut changed, &mut dropped);
    }
    if !dropped.is_empty() {
        let mut delete = db.statement("dropping buckets", "DELETE FROM bucket WHERE line = ?1 AND start = ?2")?;
        for (line, start) in &dropped {
            delete.int(*line).time(*start).run()?;
        }
        share::drop_buckets(db, &dropped)?;
    }
    if !changed.is_empty() {
        let mut put = db.statement(
            "writing buckets",
            "INSERT INTO bucket (line, start, posted, unresolved) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (line, start) DO UPDATE SET posted = excluded.posted, unresolved = excluded.unresolved",
        )?;
        for (line, bucket) in changed {
            put.int(line)
                .time(bucket.start)
                .usd(bucket.posted)
                .usd(bucket.unresolved)
                .run()?;
        }
    }
    Ok(())
}

fn compare<'l>(
    id: i64,
    before: &[Bucket],
    line: &'l Line,
    changed: &mut Vec<(i64, &'l Bucket)>,
    dropped: &mut Vec<(i64, Timestamp)>,
) {
    if before.is_empty() && line.buckets.is_empty() {
        return;
    }
    let old: HashMap<_, _> = before.iter().map(|bucket| (bucket.start, bucket)).collect();
    let live: HashSet<_> = line.buckets.iter().map(|bucket| bucket.start).collect();
    let new = line.buckets.iter().filter(|b| old.get(&b.start) != Some(b));
    changed.extend(new.map(|bucket| (id, bucket)));
    let gone = before.iter().filter(|b| !live.contains(&b.start));
    dropped.extend(gone.map(|bucket| (id, bucket.start)));
}

fn holds(db: &Db<'_>, delta: &Delta, loaded: &Loaded) -> Result<(), StoreError> {
    // In the order of their ids, which is nearly that of time: neighbours go to one page.
    let mut holds: Vec<_> = delta.holds.values().collect();
    holds.sort_unstable_by_key(|hold| hold.id);
    let (mut insert, mut update) = (None, None);
    for hold in holds {
        let lines = hold.lines.iter().map(|key| line_id(&loaded.line_ids, key));
        let lines = codec::json(&lines.collect::<Result<Vec<_>, _>>()?)?;
        let written = if loaded.holds.contains(&hold.id) {
            let statement = db.once(
                &mut update,
                "writing holds",
                "UPDATE hold SET bound = ?2, lines = ?3, state = ?4, expires_at = ?5, ended_at = ?6 WHERE id = ?1",
            )?;
            statement
                .uuid(hold.id.0)
                .usd(hold.bound)
                .text(&lines)
                .int(codec::hold_state(hold.state))
                .time(hold.expires_at)
                .opt_time(hold.ended_at)
                .run()?
        } else {
            let statement = db.once(
                &mut insert,
                "writing new holds",
                "INSERT INTO hold (id, epoch, agent, task, service, model, tool, labels, trust, bound, lines, state, \
                 opened_at, expires_at, ended_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?;
            new_hold(statement, hold, &lines)?
        };
        if written != 1 {
            return Err(corrupt("a hold", format!("{} is not there any more", hold.id)));
        }
    }
    Ok(())
}

fn new_hold(statement: &mut Statement<'_>, hold: &Hold, lines: &str) -> Result<usize, StoreError> {
    attribution(statement.uuid(hold.id.0).int(hold.epoch.0), &hold.attribution)?
        .int(codec::trust(hold.trust))
        .usd(hold.bound)
        .text(lines)
        .int(codec::hold_state(hold.state))
        .time(hold.opened_at)
        .time(hold.expires_at)
        .opt_time(hold.ended_at)
        .run()
}

/// To whom it is put down: agent, task, service, model, tool, labels.
fn attribution<'s, 'c>(
    statement: &'s mut Statement<'c>,
    of: &Attribution,
) -> Result<&'s mut Statement<'c>, StoreError> {
    Ok(statement
        .text(of.agent.as_str())
        .text(of.task.as_str())
        .opt_text(of.service.as_ref().map(AsRef::as_ref))
        .opt_text(of.model.as_ref().map(AsRef::as_ref))
        .opt_text(of.tool.as_ref().map(AsRef::as_ref))
        .opt_text(labels(of)?.as_deref()))
}

/// Inserts the postings and returns their numbers. One that is there already fails the commit: the
/// lines in the delta count it, so leaving only its row out would break their sums (L1).
fn postings(db: &Db<'_>, delta: &Delta, last: i64) -> Result<HashMap<PostingId, i64>, StoreError> {
    let mut seqs = HashMap::with_capacity(delta.postings.len());
    if delta.postings.is_empty() {
        return Ok(seqs);
    }
    let mut insert = db.statement(
        "writing postings",
        "INSERT INTO posting (seq, id, kind, agent, task, service, model, tool, labels, amount, basis, trust, \
         occurred_at, recorded_at, report, hold, corrects, upstream_request, epoch, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?;
    for (seq, posting) in (last + 1..).zip(&delta.postings) {
        seqs.insert(posting.id, seq);
        insert
            .int(seq)
            .uuid(posting.id.0)
            .int(codec::posting_kind(posting.kind));
        attribution(&mut insert, &posting.attribution)?
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
            .opt_text(posting.detail.as_deref())
            .run_unless_taken(corrupt("a commit", "the id of one of its postings is in use"))?;
    }
    Ok(seqs)
}

fn entries(
    db: &Db<'_>,
    delta: &Delta,
    ids: &HashMap<LineKey, i64>,
    seqs: &HashMap<PostingId, i64>,
) -> Result<(), StoreError> {
    if delta.entries.is_empty() {
        return Ok(());
    }
    let mut insert = db.statement(
        "writing entries",
        "INSERT INTO entry (posting, line, amount, unresolved, bucket) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for entry in &delta.entries {
        let seq = seqs
            .get(&entry.posting)
            .ok_or_else(|| corrupt("a commit", "an entry names a posting that is not in it"))?;
        insert
            .int(*seq)
            .int(line_id(ids, &entry.line)?)
            .usd(entry.amount)
            .usd(entry.unresolved)
            .opt_time(entry.bucket)
            .run()?;
    }
    Ok(())
}

fn reports(db: &Db<'_>, delta: &Delta) -> Result<(), StoreError> {
    if delta.reports.is_empty() {
        return Ok(());
    }
    let mut insert = db.statement(
        "writing report ids",
        "INSERT INTO report (agent, evidence, report, digest, posting) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for seen in &delta.reports {
        insert
            .text(seen.key.agent.as_str())
            .flag(seen.key.evidence)
            .text(seen.key.report.as_str())
            .bytes(&seen.digest)
            .opt_uuid(seen.posting.map(|id| id.0))
            .run()?;
    }
    Ok(())
}

/// Remembers the upstream requests that were metered here; the first posting of one keeps its place.
fn metered(db: &Db<'_>, delta: &Delta) -> Result<(), StoreError> {
    let mut insert = None;
    for posting in delta.postings.iter().filter(|p| p.basis == Basis::Metered) {
        let Some(request) = &posting.upstream_request else {
            continue;
        };
        let statement = db.once(
            &mut insert,
            "writing metered requests",
            "INSERT INTO metered (agent, request, posting) VALUES (?1, ?2, ?3) \
             ON CONFLICT (agent, request) DO NOTHING",
        )?;
        statement
            .text(posting.attribution.agent.as_str())
            .text(request)
            .uuid(posting.id.0)
            .run()?;
    }
    Ok(())
}

fn triggers(db: &Db<'_>, delta: &Delta, loaded: &Loaded) -> Result<(), StoreError> {
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
    let mut insert = db.statement(
        "writing triggers",
        "INSERT INTO pending_trigger (response, body) VALUES (?1, ?2)",
    )?;
    for trigger in &delta.triggers {
        insert.text(&response(trigger)?).text(&codec::json(trigger)?).run()?;
    }
    Ok(())
}
