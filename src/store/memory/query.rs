//! Reading the ledger.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::disk::{Cell, Disk, Sum, hour_of};
use super::entries;
use crate::domain::id::AgentId;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::{Posting, PostingKind};
use crate::domain::money::Usd;
use crate::ports::{AuditView, LineQuery, PostingQuery, SpendBy, SpendQuery, SpendRow, StoreError, StoreStats};

const HOURS_PER_DAY: i64 = 24;

impl Disk {
    pub(super) fn lines(&self, query: &LineQuery) -> Vec<Line> {
        let lines = self.lines.values().filter(|line| {
            query.agent.is_none_or_eq(line.key.agent.as_ref())
                && query.budget.as_ref().is_none_or(|budget| line.key.budget == *budget)
                && query.value.as_ref().is_none_or(|value| line.key.value == *value)
                && query.open_at.is_none_or(|at| !line.key.window.is_closed(at))
                && query
                    .lift_over
                    .is_none_or(|at| line.lifted_until.is_some_and(|until| until <= at))
        });
        lines.take(query.limit.map_or(usize::MAX, entries)).cloned().collect()
    }

    pub(super) fn page(&self, query: &PostingQuery) -> Result<Vec<Posting>, StoreError> {
        let after = match query.after {
            None => 0,
            Some(id) => *self.posting_seq.get(&id).ok_or(StoreError::NotFound {
                what: "the posting to go on after",
            })?,
        };
        let postings = self.postings.range(after + 1..).map(|(_, posting)| posting);
        let postings = postings.filter(|posting| {
            let open = posting.kind == PostingKind::Unresolved && !self.corrected.contains_key(&posting.id);
            query
                .agent
                .as_ref()
                .is_none_or(|agent| posting.attribution.agent == *agent)
                && query.hold.is_none_or(|hold| posting.hold == Some(hold))
                && (!query.unresolved || open)
        });
        Ok(postings.take(entries(query.limit)).cloned().collect())
    }

    /// The largest amounts first; days in their order.
    pub(super) fn spend(&self, query: &SpendQuery) -> Vec<SpendRow> {
        let since = query.since.map_or(i64::MIN, hour_of);
        // Rounded up: the hour of the last nanosecond before it, and one more.
        let until = query.until.map_or(i64::MAX, |until| {
            let whole = hour_of(until);
            whole + i64::from(until.as_nanosecond().rem_euclid(3_600_000_000_000) > 0)
        });
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        for (cell, sum) in &self.spend {
            let chosen = (since..until).contains(&cell.hour)
                && query.agent.as_ref().is_none_or(|agent| cell.agent == *agent)
                && query.task.as_ref().is_none_or(|task| cell.task == *task);
            if chosen {
                let total = sums.entry(key_of(cell, query.by)).or_default();
                total.amount += sum.amount;
                total.unresolved += sum.unresolved;
                total.postings += sum.postings;
            }
        }
        let row = |(key, sum): (String, Sum)| SpendRow {
            key,
            amount: narrow(sum.amount),
            unresolved: narrow(sum.unresolved),
            postings: sum.postings,
        };
        let mut rows: Vec<SpendRow> = sums.into_iter().map(row).collect();
        if query.by != SpendBy::Day {
            rows.sort_by(|a, b| b.amount.cmp(&a.amount).then_with(|| a.key.cmp(&b.key)));
        }
        rows.truncate(entries(query.limit));
        rows
    }

    /// What each agent spent on a line, without what is unresolved, the largest first.
    pub(super) fn spenders(&self, key: &LineKey, limit: u32) -> Vec<(AgentId, Usd)> {
        let line = self.lines.get(key);
        let counts = |bucket: Option<Timestamp>| match bucket {
            Some(start) => line.is_some_and(|line| line.buckets.iter().any(|bucket| bucket.start == start)),
            None => true,
        };
        let mut sums: BTreeMap<&AgentId, i128> = BTreeMap::new();
        for posting in self.postings.values() {
            let entries = self.entries.get(&posting.id).into_iter().flatten();
            for entry in entries.filter(|entry| entry.line == *key && counts(entry.bucket)) {
                let settled = i128::from(entry.amount.nanos()) - i128::from(entry.unresolved.nanos());
                *sums.entry(&posting.attribution.agent).or_default() += settled;
            }
        }
        let mut spenders: Vec<_> = sums
            .into_iter()
            .map(|(agent, sum)| (agent.clone(), narrow(sum)))
            .collect();
        spenders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        spenders.truncate(entries(limit));
        spenders
    }

    pub(super) fn audit_view(&self) -> AuditView {
        let rolled = self.rolled.iter();
        AuditView {
            lines: self.lines.values().cloned().collect(),
            holds: self.holds.values().cloned().collect(),
            postings: self.postings.values().cloned().collect(),
            entries: self
                .postings
                .values()
                .filter_map(|posting| self.entries.get(&posting.id))
                .flatten()
                .cloned()
                .collect(),
            rolled: rolled
                .map(|((line, hour), (sum, unresolved))| (line.clone(), *hour, *sum, *unresolved))
                .collect(),
        }
    }

    pub(super) fn stats(&self) -> StoreStats {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        StoreStats {
            postings: count(self.postings.len()),
            open_holds: count(self.open.len()),
            lines: count(self.lines.len()),
            bytes: 0,
            free_bytes: None,
        }
    }
}

fn key_of(cell: &Cell, by: SpendBy) -> String {
    fn name<T: AsRef<str>>(name: Option<&T>) -> String {
        name.map_or("-", AsRef::as_ref).to_owned()
    }
    match by {
        SpendBy::Agent => name(Some(&cell.agent)),
        SpendBy::Task => format!("{}/{}", cell.agent, cell.task),
        SpendBy::Model => name(cell.model.as_ref()),
        SpendBy::Service => name(cell.service.as_ref()),
        SpendBy::Tool => name(cell.tool.as_ref()),
        SpendBy::Day => {
            let second = cell.hour.div_euclid(HOURS_PER_DAY) * HOURS_PER_DAY * 3600;
            let day = Timestamp::from_second(second).unwrap_or(Timestamp::MIN);
            day.strftime("%Y-%m-%d").to_string()
        }
    }
}

/// Past the range it is the range's end: a report saturates.
fn narrow(nanos: i128) -> Usd {
    let end = if nanos < 0 { Usd::from_nanos(i64::MIN) } else { Usd::MAX };
    Usd::from_i128(nanos).unwrap_or(end)
}

/// `None` asks for everything.
trait NoneOrEq<T> {
    fn is_none_or_eq(&self, other: Option<&T>) -> bool;
}

impl<T: PartialEq> NoneOrEq<T> for Option<T> {
    fn is_none_or_eq(&self, other: Option<&T>) -> bool {
        self.as_ref().is_none_or(|wanted| other == Some(wanted))
    }
}
