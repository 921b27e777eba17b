//! Reading the spend report.
//!
//! A range of hours is cut into whole days, which `spend_day` and `spend_task` have added up, and the
//! hours at both ends. Only a report on one task, or on one task's name of every agent, reads hours
//! alone. The largest are picked by SQLite, so that a report by task of thousands carries only what
//! is asked for.

use super::SqliteStore;
use super::codec::{self, Columns};
use super::spend::HOURS_PER_DAY;
use super::statement::Db;
use crate::ports::{SpendBy, SpendQuery, SpendRow, StoreError};

/// Ends of an open range of hours; days of them still fit into every product here.
const FIRST_HOUR: i64 = -24_000_000_000;
const LAST_HOUR: i64 = 24_000_000_000;

/// The sums in dollars and nano-dollars apart, since `sum` fails on an overflow.
macro_rules! sums {
    () => {
        ", sum(amount / 1000000000), sum(amount % 1000000000), sum(unresolved / 1000000000), \
         sum(unresolved % 1000000000), sum(postings)"
    };
}

/// The largest first: by a floating sum, which tells amounts apart up to nine million dollars; the rows
/// that are picked are put in their exact order afterwards.
macro_rules! largest {
    () => {
        " ORDER BY total(amount) DESC, key"
    };
}

/// The days of the hours in `spend_hour`.
macro_rules! day {
    () => {
        "(hour - ((hour % 24) + 24) % 24) / 24"
    };
}

/// Whole days ?1..?2, and the hours ?3..?4 and ?5..?6 around them, of one agent (?7) or all.
macro_rules! by_day {
    ($key:literal, $order:expr) => {
        concat!(
            "SELECT ",
            $key,
            " AS key",
            sums!(),
            " FROM (SELECT day, agent, model, service, tool, amount, unresolved, postings FROM spend_day \
             WHERE day >= ?1 AND day < ?2 AND (?7 IS NULL OR agent = ?7) UNION ALL SELECT ",
            day!(),
            ", agent, model, service, tool, amount, unresolved, postings FROM spend_hour \
             WHERE hour >= ?3 AND hour < ?4 AND (?7 IS NULL OR agent = ?7) UNION ALL SELECT ",
            day!(),
            ", agent, model, service, tool, amount, unresolved, postings FROM spend_hour \
             WHERE hour >= ?5 AND hour < ?6 AND (?7 IS NULL OR agent = ?7)) GROUP BY key",
            $order,
            " LIMIT ?8"
        )
    };
}

/// The same by task.
const TASKS: &str = concat!(
    "SELECT agent || '/' || task AS key",
    sums!(),
    " FROM (SELECT agent, task, amount, unresolved, postings FROM spend_task \
     WHERE day >= ?1 AND day < ?2 AND (?7 IS NULL OR agent = ?7) \
     UNION ALL SELECT agent, task, amount, unresolved, postings FROM spend_hour \
     WHERE hour >= ?3 AND hour < ?4 AND (?7 IS NULL OR agent = ?7) \
     UNION ALL SELECT agent, task, amount, unresolved, postings FROM spend_hour \
     WHERE hour >= ?5 AND hour < ?6 AND (?7 IS NULL OR agent = ?7)) GROUP BY agent, task",
    largest!(),
    " LIMIT ?8"
);

/// The same of whole days alone (?3 to ?6 mean nothing), grouped in the order of the rows.
const TASKS_OF_DAYS: &str = concat!(
    "SELECT agent || '/' || task AS key",
    sums!(),
    " FROM spend_task WHERE day >= ?1 AND day < ?2 AND (?7 IS NULL OR agent = ?7) GROUP BY agent, task",
    largest!(),
    " LIMIT ?8"
);

/// The hours ?1..?2 of one agent (?3) or all, and one task (?4).
macro_rules! of_task {
    ($key:expr, $index:literal, $agent:literal, $order:expr) => {
        concat!(
            "SELECT ",
            $key,
            " AS key",
            sums!(),
            " FROM spend_hour ",
            $index,
            " WHERE hour >= ?1 AND hour < ?2 AND ",
            $agent,
            " AND task = ?4 GROUP BY key",
            $order,
            " LIMIT ?5"
        )
    };
}

/// With the agent known there is an index.
macro_rules! of_task_sql {
    ($by:expr, $index:literal, $agent:literal) => {
        match $by {
            SpendBy::Agent => of_task!("agent", $index, $agent, largest!()),
            SpendBy::Task => of_task!("agent || '/' || task", $index, $agent, largest!()),
            SpendBy::Model => of_task!("model", $index, $agent, largest!()),
            SpendBy::Service => of_task!("service", $index, $agent, largest!()),
            SpendBy::Tool => of_task!("tool", $index, $agent, largest!()),
            SpendBy::Day => of_task!(day!(), $index, $agent, " ORDER BY key"),
        }
    };
}

fn of_task_sql(by: SpendBy, agent_known: bool) -> &'static str {
    if agent_known {
        of_task_sql!(by, "INDEXED BY spend_hour_task", "agent = ?3")
    } else {
        of_task_sql!(by, "", "?3 IS NULL")
    }
}

fn of_days_sql(by: SpendBy, has_edges: bool) -> &'static str {
    match by {
        SpendBy::Task if has_edges => TASKS,
        SpendBy::Task => TASKS_OF_DAYS,
        SpendBy::Agent => by_day!("agent", largest!()),
        SpendBy::Model => by_day!("model", largest!()),
        SpendBy::Service => by_day!("service", largest!()),
        SpendBy::Tool => by_day!("tool", largest!()),
        SpendBy::Day => by_day!("day", " ORDER BY key"),
    }
}

/// The largest amounts first; days in their order.
pub(super) async fn spend(store: &SqliteStore, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError> {
    let query = query.clone();
    store.read("adding up spend", move |db| read(db, &query)).await
}

fn read(db: &Db<'_>, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError> {
    let context = "adding up spend";
    let since = query.since.map_or(FIRST_HOUR, codec::hour);
    let until = query.until.map_or(LAST_HOUR, |until| {
        codec::micros(until)
            .saturating_add(codec::MICROS_PER_HOUR - 1)
            .div_euclid(codec::MICROS_PER_HOUR)
    });
    let agent = query.agent.as_ref().map(|agent| agent.as_str());
    let row = |columns: &mut Columns<'_>| row(columns, query.by);
    let mut found = if let Some(task) = &query.task {
        db.statement(context, of_task_sql(query.by, agent.is_some()))?
            .int(since)
            .int(until)
            .opt_text(agent)
            .text(task.as_str())
            .int(query.limit.into())
            .rows("spend", row)?
    } else {
        let first_day = since.div_euclid(HOURS_PER_DAY) + i64::from(since.rem_euclid(HOURS_PER_DAY) > 0);
        let end_day = until.div_euclid(HOURS_PER_DAY).max(first_day);
        // Within one day the first range is all of it and the second is empty.
        let before = (first_day * HOURS_PER_DAY).min(until);
        let after = (end_day * HOURS_PER_DAY).max(before);
        db.statement(context, of_days_sql(query.by, since < before || after < until))?
            .int(first_day)
            .int(end_day)
            .int(since)
            .int(before)
            .int(after)
            .int(until)
            .opt_text(agent)
            .int(query.limit.into())
            .rows("spend", row)?
    };
    if query.by != SpendBy::Day {
        found.sort_unstable_by(|a, b| b.amount.cmp(&a.amount).then_with(|| a.key.cmp(&b.key)));
    }
    Ok(found)
}

fn row(columns: &mut Columns<'_>, by: SpendBy) -> Result<SpendRow, StoreError> {
    let key = match by {
        SpendBy::Day => {
            let hour = columns.int()?.saturating_mul(HOURS_PER_DAY);
            columns
                .as_time(hour.saturating_mul(codec::MICROS_PER_HOUR))?
                .strftime("%Y-%m-%d")
                .to_string()
        }
        _ => match columns.text()? {
            "" => "-".to_owned(),
            key => key.to_owned(),
        },
    };
    Ok(SpendRow {
        key,
        amount: columns.split_usd()?,
        unresolved: columns.split_usd()?,
        postings: columns.int()?,
    })
}
