//! The auditor: recomputes the ledger from its postings, entries and holds, and believes no sum.
//!
//! It shares the row types with [`apply`](super::apply) and nothing else: no rule, no helper, no
//! arithmetic. So a fault in the rules and the same fault in their check would have to be made twice.
//! It runs in tests after every step, in the simulation, and over a whole store by `ledger verify`.
//!
//! What it proves of each line: posted, unresolved and held are the sums of their rows (L1, L3);
//! posted + held is within the limit except for the overage that the line owns up to; and that overage
//! has a cause among the rows (L2). A line whose limit changed or was lifted is excused from the last,
//! and one whose entries were rolled up from whatever would need the rows behind them.

mod lines;
mod rows;

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::line::{Line, LineKey};
use super::posting::{Entry, Posting};
use crate::domain::id::{HoldId, PostingId};
use crate::domain::money::Usd;

/// The rows of a whole store, read in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct AuditParts<'a> {
    pub lines: &'a [Line],
    pub holds: &'a [Hold],
    pub postings: &'a [Posting],
    pub entries: &'a [Entry],
    /// (line, hour, sum, unresolved) of entries that were rolled up.
    pub rolled: &'a [(LineKey, Timestamp, Usd, Usd)],
    pub now: Timestamp,
}

/// Which promise a finding breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Promise {
    L1,
    L2,
    L3,
    L6,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub promise: Promise,
    /// The line, hold or posting, for a person.
    pub subject: String,
    /// What is wrong, with the numbers.
    pub what: String,
}

/// Everything that is wrong; empty when the ledger keeps its promises.
pub fn audit(parts: &AuditParts<'_>) -> Vec<Finding> {
    let desk = Desk::new(parts);
    let mut findings = Findings::default();
    rows::check_holds(&desk, &mut findings);
    rows::check_postings(&desk, &mut findings);
    rows::check_entries(&desk, &mut findings);
    lines::check(&desk, &mut findings);
    findings.0
}

/// The rows, indexed.
struct Desk<'a> {
    parts: &'a AuditParts<'a>,
    lines: HashMap<&'a LineKey, &'a Line>,
    holds: HashMap<HoldId, &'a Hold>,
    postings: HashMap<PostingId, &'a Posting>,
    by_hold: HashMap<HoldId, Vec<&'a Posting>>,
    by_line: HashMap<&'a LineKey, Vec<&'a Entry>>,
    rolled: HashMap<&'a LineKey, (i128, i128)>,
}

impl<'a> Desk<'a> {
    fn new(parts: &'a AuditParts<'a>) -> Self {
        let mut by_hold: HashMap<_, Vec<_>> = HashMap::new();
        for posting in parts.postings {
            if let Some(hold) = posting.hold {
                by_hold.entry(hold).or_default().push(posting);
            }
        }
        let mut by_line: HashMap<_, Vec<_>> = HashMap::new();
        for entry in parts.entries {
            by_line.entry(&entry.line).or_default().push(entry);
        }
        let mut rolled: HashMap<_, (i128, i128)> = HashMap::new();
        for (line, _, sum, unresolved) in parts.rolled {
            let sums = rolled.entry(line).or_default();
            sums.0 += nanos(*sum);
            sums.1 += nanos(*unresolved);
        }
        Self {
            parts,
            lines: parts.lines.iter().map(|line| (&line.key, line)).collect(),
            holds: parts.holds.iter().map(|hold| (hold.id, hold)).collect(),
            postings: parts.postings.iter().map(|posting| (posting.id, posting)).collect(),
            by_hold,
            by_line,
            rolled,
        }
    }

    /// Whether postings of this hold may have been rolled up.
    fn may_be_rolled(&self, hold: &Hold) -> bool {
        hold.lines.is_empty() || hold.lines.iter().any(|line| self.rolled.contains_key(line))
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, promise: Promise, subject: impl Into<String>, what: impl Into<String>) {
        self.0.push(Finding {
            promise,
            subject: subject.into(),
            what: what.into(),
        });
    }

    /// A finding unless `holds`.
    fn check(
        &mut self,
        holds: bool,
        promise: Promise,
        subject: impl FnOnce() -> String,
        what: impl FnOnce() -> String,
    ) {
        if !holds {
            self.add(promise, subject(), what());
        }
    }
}

fn nanos(usd: Usd) -> i128 {
    i128::from(usd.nanos())
}

fn line_name(key: &LineKey) -> String {
    let agent = key.agent.as_ref().map_or("fleet", |agent| agent.as_str());
    let start = key
        .window
        .start
        .map(|start| format!(" from {start}"))
        .unwrap_or_default();
    format!("line {}/{agent}/{}{start}", key.budget, key.value)
}

fn hold_name(hold: &Hold) -> String {
    format!("hold {} of {}", hold.id, hold.attribution.agent)
}

fn posting_name(posting: &Posting) -> String {
    format!("posting {} of {}", posting.id, posting.attribution.agent)
}

#[cfg(test)]
mod tests;
