//! The spend report: kept added up at every commit, so that a report over a million postings reads
//! a few thousand rows.
//!
//! `spend_hour` has every dimension. `spend_day` is the same without tasks, whose number is the
//! agents' to choose, and `spend_task` has nothing but tasks. [`spend_query`](super::spend_query) takes
//! whole days from these two and only the hours at both ends of a range from `spend_hour`.

use std::collections::HashMap;

use super::codec;
use super::statement::{Db, Statement};
use crate::domain::ledger::batch::{Delta, Snapshot};
use crate::domain::ledger::posting::{Posting, PostingKind};
use crate::domain::money::Usd;
use crate::ports::StoreError;

pub(super) const HOURS_PER_DAY: i64 = 24;

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

    /// Adds it to what is there: the last three parameters of each statement here.
    fn run(&self, statement: &mut Statement<'_>) -> Result<(), StoreError> {
        let statement = statement.usd(self.amount).usd(self.unresolved).int(self.postings);
        statement.run().map(|_| ())
    }
}

type Hour<'a> = (i64, &'a str, &'a str, &'a str, &'a str, &'a str);
type Day<'a> = (i64, &'a str, &'a str, &'a str, &'a str);
type TaskDay<'a> = (&'a str, &'a str, i64);

/// Adds the postings of a commit to the sums.
///
/// What a posting leaves unresolved is told from its kind, not from its entries: one that has left
/// every rolling window has no entry, and is unresolved all the same until evidence replaces it.
pub(super) fn add(db: &Db<'_>, delta: &Delta, snapshot: &Snapshot) -> Result<(), StoreError> {
    if delta.postings.is_empty() {
        return Ok(());
    }
    let mut hours: HashMap<Hour<'_>, Sum> = HashMap::new();
    let mut days: HashMap<Day<'_>, Sum> = HashMap::new();
    let mut tasks: HashMap<TaskDay<'_>, Sum> = HashMap::new();
    for posting in &delta.postings {
        let open = unresolved(posting, snapshot);
        let key = hour_key(posting);
        let (hour, agent, task, model, service, tool) = key;
        let day = hour.div_euclid(HOURS_PER_DAY);
        hours.entry(key).or_default().add(posting.amount, open);
        days.entry((day, agent, model, service, tool))
            .or_default()
            .add(posting.amount, open);
        tasks.entry((agent, task, day)).or_default().add(posting.amount, open);
    }
    add_hours(db, hours)?;
    add_days(db, days)?;
    add_tasks(db, tasks)
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

// A sum past the end of the range becomes a real number in SQLite, and the cast takes it back to the end:
// the report saturates, and the commit does not fail for it.

fn add_hours(db: &Db<'_>, sums: HashMap<Hour<'_>, Sum>) -> Result<(), StoreError> {
    let mut add = db.statement(
        "adding up hours",
        "INSERT INTO spend_hour (hour, agent, task, model, service, tool, amount, unresolved, postings) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (hour, agent, task, model, service, tool) DO UPDATE SET \
         amount = CAST(spend_hour.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(spend_hour.unresolved + excluded.unresolved AS INTEGER), \
         postings = spend_hour.postings + excluded.postings",
    )?;
    for ((hour, agent, task, model, service, tool), sum) in sums {
        add.int(hour)
            .text(agent)
            .text(task)
            .text(model)
            .text(service)
            .text(tool);
        sum.run(&mut add)?;
    }
    Ok(())
}

fn add_days(db: &Db<'_>, sums: HashMap<Day<'_>, Sum>) -> Result<(), StoreError> {
    let mut add = db.statement(
        "adding up days",
        "INSERT INTO spend_day (day, agent, model, service, tool, amount, unresolved, postings) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (day, agent, model, service, tool) DO UPDATE SET \
         amount = CAST(spend_day.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(spend_day.unresolved + excluded.unresolved AS INTEGER), \
         postings = spend_day.postings + excluded.postings",
    )?;
    for ((day, agent, model, service, tool), sum) in sums {
        add.int(day).text(agent).text(model).text(service).text(tool);
        sum.run(&mut add)?;
    }
    Ok(())
}

fn add_tasks(db: &Db<'_>, sums: HashMap<TaskDay<'_>, Sum>) -> Result<(), StoreError> {
    let mut add = db.statement(
        "adding up tasks",
        "INSERT INTO spend_task (agent, task, day, amount, unresolved, postings) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (agent, task, day) DO UPDATE SET \
         amount = CAST(spend_task.amount + excluded.amount AS INTEGER), \
         unresolved = CAST(spend_task.unresolved + excluded.unresolved AS INTEGER), \
         postings = spend_task.postings + excluded.postings",
    )?;
    for ((agent, task, day), sum) in sums {
        add.text(agent).text(task).int(day);
        sum.run(&mut add)?;
    }
    Ok(())
}
