//! The spend report: kept added up at every commit, so that a report over a million postings reads
//! a few thousand rows.
//!
//! `spend_hour` has every dimension. `spend_day` is the same without tasks, whose number is the
//! agents' to choose: a report that is not about tasks takes whole days from it and only the hours
//! at both ends from `spend_hour`.

use std::collections::HashMap;

use sqlx::{SqliteConnection, SqlitePool};

use super::codec::{self, Columns};
use super::error::store;
use super::rows::Rows;
use crate::domain::ledger::batch::{Delta, Snapshot};
use crate::domain::ledger::posting::{Posting, PostingKind};
use crate::domain::money::Usd;
use crate::ports::{SpendBy, SpendQuery, SpendRow, StoreError};

const HOURS_PER_DAY: i64 = 24;
/// Ends of an open range of hours; days of them still fit into every product here.
const FIRST_HOUR: i64 = -24_000_000_000;
const LAST_HOUR: i64 = 24_000_000_000;

#[derive(Default)]
struct Sum {
    amount: Usd,
    unresolved: Usd,
    postings: i64,
}

impl Sum {
    fn add(&mut self, amount: Usd, unresolved: Usd) {
        self.amount = self.amount.saturating_add(amount);
        self.unresolved = self.unresolved.saturating_add(unresolved);
        self.postings += 1;
    }

    fn write(&self, rows: &mut Rows) {
        rows.usd(self.amount).usd(self.unresolved).int(self.postings);
    }
}

type Hour<'a> = (i64, &'a str, &'a str, &'a str, &'a str, &'a str);
type Day<'a> = (i64, &'a str, &'a str, &'a str, &'a str);

/// Adds the postings of a commit to the sums.
///
/// What a posting leaves unresolved is told from its kind, not from its entries: one that has left
/// every rolling window has no entry, and is unresolved all the same until evidence replaces it.
pub(super) async fn add(db: &mut SqliteConnection, delta: &Delta, snapshot: &Snapshot) -> Result<(), StoreError> {
    if delta.postings.is_empty() {
        return Ok(());
    }
    let mut hours: HashMap<Hour<'_>, Sum> = HashMap::new();
    let mut days: HashMap<Day<'_>, Sum> = HashMap::new();
    for posting in &delta.postings {
        let open = unresolved(posting, snapshot);
        let key = hour_key(posting);
        let (hour, agent, task, model, service, tool) = key;
        hours
            .entry((hour, agent, task, model, service, tool))
            .or_default()
            .add(posting.amount, open);
        let day = hour.div_euclid(HOURS_PER_DAY);
        days.entry((day, agent, model, service, tool))
            .or_default()
            .add(posting.amount, open);
    }
    add_hours(db, hours).await?;
    add_days(db, days).await
}

fn unresolved(posting: &Posting, snapshot: &Snapshot) -> Usd {
    match posting.kind {
        PostingKind::Unresolved => posting.amount,
        PostingKind::Correction => {
            // The rules keep those that this very batch made in the snapshot, too.
            let target = posting.corrects.and_then(|target| snapshot.postings.get(&target));
            match target {
                Some(target) if target.kind == PostingKind::Unresolved => Usd::ZERO.saturating_sub(target.amount),
                _ => Usd::ZERO,
            }
        }
        PostingKind::Report | PostingKind::Capture => Usd::ZERO,
    }
}

fn hour_key(posting: &Posting) -> Hour<'_> {
    let of = &posting.attribution;
    (
        codec::hour(posting.occurred_at),
        of.agent.as_str(),
        of.task.as_str(),
        of.model.as_ref().map_or("", AsRef::as_ref),
        of.service.as_ref().map_or("", AsRef::as_ref),
        of.tool.as_ref().map_or("", AsRef::as_ref),
    )
}

async fn add_hours(db: &mut SqliteConnection, sums: HashMap<Hour<'_>, Sum>) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for ((hour, agent, task, model, service, tool), sum) in sums {
        let row = rows.row();
        row.int(hour)
            .text(agent)
            .text(task)
            .text(model)
            .text(service)
            .text(tool);
        sum.write(row);
    }
    // A sum past the end of the range becomes a real number in SQLite, and the cast takes it back to
    // the end: the report saturates, and the commit does not fail for it.
    sqlx::query(
        "INSERT INTO spend_hour (hour, agent, task, model, service, tool, amount, unresolved, postings) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         value ->> 7, value ->> 8 FROM jsonb_each(?1) WHERE true \
         ON CONFLICT (hour, agent, task, model, service, tool) DO UPDATE SET \
         amount = CAST(spend_hour.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(spend_hour.unresolved + excluded.unresolved AS INTEGER), \
         postings = spend_hour.postings + excluded.postings",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("adding up hours"))?;
    Ok(())
}

async fn add_days(db: &mut SqliteConnection, sums: HashMap<Day<'_>, Sum>) -> Result<(), StoreError> {
    let mut rows = Rows::new();
    for ((day, agent, model, service, tool), sum) in sums {
        let row = rows.row();
        row.int(day).text(agent).text(model).text(service).text(tool);
        sum.write(row);
    }
    sqlx::query(
        "INSERT INTO spend_day (day, agent, model, service, tool, amount, unresolved, postings) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
         value ->> 7 FROM jsonb_each(?1) WHERE true \
         ON CONFLICT (day, agent, model, service, tool) DO UPDATE SET \
         amount = CAST(spend_day.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(spend_day.unresolved + excluded.unresolved AS INTEGER), \
         postings = spend_day.postings + excluded.postings",
    )
    .bind(rows.finish())
    .execute(db)
    .await
    .map_err(store("adding up days"))?;
    Ok(())
}

/// The sums in dollars and nano-dollars apart, since `sum` fails on an overflow.
macro_rules! sums {
    () => {
        ", sum(amount / 1000000000), sum(amount % 1000000000), sum(unresolved / 1000000000), \
         sum(unresolved % 1000000000), sum(postings)"
    };
}

/// Whole days ?1..?2, and the hours ?3..?4 and ?5..?6 around them, of one agent (?7) or all.
macro_rules! by_day {
    ($key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS key",
            sums!(),
            " FROM (SELECT day, agent, model, service, tool, amount, unresolved, postings FROM spend_day \
             WHERE day >= ?1 AND day < ?2 AND (?7 IS NULL OR agent = ?7) \
             UNION ALL SELECT (hour - ((hour % 24) + 24) % 24) / 24, agent, model, service, tool, amount, unresolved, \
             postings FROM spend_hour WHERE hour >= ?3 AND hour < ?4 AND (?7 IS NULL OR agent = ?7) \
             UNION ALL SELECT (hour - ((hour % 24) + 24) % 24) / 24, agent, model, service, tool, amount, unresolved, \
             postings FROM spend_hour WHERE hour >= ?5 AND hour < ?6 AND (?7 IS NULL OR agent = ?7)) \
             GROUP BY key"
        )
    };
}

/// The hours ?1..?2 of one agent (?3) or all, and one task (?4) or all.
macro_rules! by_hour {
    ($key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS key",
            sums!(),
            " FROM (SELECT (hour - ((hour % 24) + 24) % 24) / 24 AS day, agent, task, model, service, tool, amount, \
             unresolved, postings FROM spend_hour WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR agent = ?3) \
             AND (?4 IS NULL OR task = ?4)) GROUP BY key"
        )
    };
}

/// The same when the agent and the task are known, which have an index.
macro_rules! by_task_hour {
    ($key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS key",
            sums!(),
            " FROM (SELECT (hour - ((hour % 24) + 24) % 24) / 24 AS day, agent, task, model, service, tool, amount, \
             unresolved, postings FROM spend_hour INDEXED BY spend_hour_task WHERE hour >= ?1 AND hour < ?2 \
             AND agent = ?3 AND task = ?4) GROUP BY key"
        )
    };
}

fn day_sql(by: SpendBy) -> &'static str {
    match by {
        SpendBy::Agent => by_day!("agent"),
        // Tasks are not in the days; the caller reads hours for them.
        SpendBy::Task | SpendBy::Day => by_day!("day"),
        SpendBy::Model => by_day!("model"),
        SpendBy::Service => by_day!("service"),
        SpendBy::Tool => by_day!("tool"),
    }
}

fn hour_sql(by: SpendBy) -> &'static str {
    match by {
        SpendBy::Agent => by_hour!("agent"),
        SpendBy::Task => by_hour!("agent || '/' || task"),
        SpendBy::Model => by_hour!("model"),
        SpendBy::Service => by_hour!("service"),
        SpendBy::Tool => by_hour!("tool"),
        SpendBy::Day => by_hour!("day"),
    }
}

fn task_sql(by: SpendBy) -> &'static str {
    match by {
        SpendBy::Agent => by_task_hour!("agent"),
        SpendBy::Task => by_task_hour!("agent || '/' || task"),
        SpendBy::Model => by_task_hour!("model"),
        SpendBy::Service => by_task_hour!("service"),
        SpendBy::Tool => by_task_hour!("tool"),
        SpendBy::Day => by_task_hour!("day"),
    }
}

/// The largest amounts first; days in their order.
pub(super) async fn spend(readers: &SqlitePool, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError> {
    let since = query.since.map_or(FIRST_HOUR, codec::hour);
    let until = query.until.map_or(LAST_HOUR, |until| {
        codec::micros(until)
            .saturating_add(codec::MICROS_PER_HOUR - 1)
            .div_euclid(codec::MICROS_PER_HOUR)
    });
    let agent = query.agent.as_ref().map(|agent| agent.as_str().to_owned());
    let task = query.task.as_ref().map(|task| task.as_str().to_owned());
    let rows = if query.by == SpendBy::Task || task.is_some() {
        let sql = match (&agent, &task) {
            (Some(_), Some(_)) => task_sql(query.by),
            _ => hour_sql(query.by),
        };
        sqlx::query(sql)
            .bind(since)
            .bind(until)
            .bind(agent)
            .bind(task)
            .fetch_all(readers)
            .await
    } else {
        let first_day = since.div_euclid(HOURS_PER_DAY) + i64::from(since.rem_euclid(HOURS_PER_DAY) > 0);
        let end_day = until.div_euclid(HOURS_PER_DAY).max(first_day);
        // Within one day the first range is all of it and the second is empty.
        let before = (first_day * HOURS_PER_DAY).min(until);
        sqlx::query(day_sql(query.by))
            .bind(first_day)
            .bind(end_day)
            .bind(since)
            .bind(before)
            .bind((end_day * HOURS_PER_DAY).max(before))
            .bind(until)
            .bind(agent)
            .fetch_all(readers)
            .await
    };
    let rows = rows.map_err(store("adding up spend"))?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row, "spend");
        let key = match query.by {
            SpendBy::Day => {
                let day = columns.int()?;
                columns
                    .as_time(day.saturating_mul(HOURS_PER_DAY).saturating_mul(codec::MICROS_PER_HOUR))?
                    .strftime("%Y-%m-%d")
                    .to_string()
            }
            _ => match columns.text()? {
                "" => "-".to_owned(),
                key => key.to_owned(),
            },
        };
        found.push(SpendRow {
            key,
            amount: columns.split_usd()?,
            unresolved: columns.split_usd()?,
            postings: columns.int()?,
        });
    }
    match query.by {
        SpendBy::Day => found.sort_unstable_by(|a, b| a.key.cmp(&b.key)),
        _ => found.sort_unstable_by(|a, b| b.amount.cmp(&a.amount).then_with(|| a.key.cmp(&b.key))),
    }
    found.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
    Ok(found)
}
