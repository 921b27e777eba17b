//! The sums of every line, and what stands past its limit.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{Desk, Findings, Promise, line_name, nanos};
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::{Entry, PostingKind};

pub(super) fn check(desk: &Desk<'_>, findings: &mut Findings) {
    let mut held: HashMap<&LineKey, i128> = HashMap::new();
    for hold in desk.parts.holds.iter().filter(|hold| hold.state == HoldState::Open) {
        for line in &hold.lines {
            *held.entry(line).or_default() += nanos(hold.bound);
        }
    }
    findings.check(
        desk.lines.len() == desk.parts.lines.len(),
        Promise::L1,
        || "lines".to_owned(),
        || "one key has two rows".to_owned(),
    );
    for line in desk.parts.lines {
        let name = || line_name(&line.key);
        let entries = desk.by_line.get(&line.key).map_or(&[][..], Vec::as_slice);
        match line.rule.rolling {
            Some(rolling) => check_buckets(desk, line, rolling, entries, findings),
            None => {
                let rolled = desk.rolled.get(&line.key).copied().unwrap_or_default();
                let posted = rolled.0 + entries.iter().map(|e| nanos(e.amount)).sum::<i128>();
                let unresolved = rolled.1 + entries.iter().map(|e| nanos(e.unresolved)).sum::<i128>();
                check_sums(line, posted, unresolved, findings);
            }
        }
        let held = held.get(&line.key).copied().unwrap_or_default();
        findings.check(nanos(line.held) == held, Promise::L2, name, || {
            format!("holds {}, and its open holds {held} nano-dollars", line.held)
        });
        check_limit(desk, line, entries, findings);
    }
}

fn check_sums(line: &Line, posted: i128, unresolved: i128, findings: &mut Findings) {
    let name = || line_name(&line.key);
    findings.check(nanos(line.posted) == posted, Promise::L1, name, || {
        format!("says {} posted, and its entries {posted} nano-dollars", line.posted)
    });
    findings.check(nanos(line.unresolved) == unresolved, Promise::L3, name, || {
        format!(
            "says {} unresolved, and its entries {unresolved} nano-dollars",
            line.unresolved
        )
    });
    findings.check(unresolved >= 0, Promise::L3, name, || {
        format!("has {unresolved} unresolved")
    });
}

/// A rolling line is the sum of its buckets, each bucket the sum of its entries, and no bucket is
/// missing whose time is not over.
fn check_buckets(
    desk: &Desk<'_>,
    line: &Line,
    (length_s, bucket_s): (u32, u32),
    entries: &[&Entry],
    findings: &mut Findings,
) {
    let name = || line_name(&line.key);
    let mut sums: BTreeMap<Timestamp, (i128, i128)> = BTreeMap::new();
    for entry in entries {
        let Some(bucket) = entry.bucket else {
            findings.add(
                Promise::L1,
                name(),
                format!("has an entry of {} without a bucket", entry.posting),
            );
            continue;
        };
        let sum = sums.entry(bucket).or_default();
        sum.0 += nanos(entry.amount);
        sum.1 += nanos(entry.unresolved);
    }
    let ascending = line.buckets.windows(2).all(|pair| pair[0].start < pair[1].start);
    findings.check(ascending, Promise::L1, name, || {
        "has its buckets out of order".to_owned()
    });
    let (mut posted, mut unresolved) = (0, 0);
    for bucket in &line.buckets {
        let sum = sums.remove(&bucket.start).unwrap_or_default();
        posted += sum.0;
        unresolved += sum.1;
        let same = nanos(bucket.posted) == sum.0 && nanos(bucket.unresolved) == sum.1;
        findings.check(same, Promise::L1, name, || {
            format!("says {bucket:?}, and its entries {} and {} unresolved", sum.0, sum.1)
        });
    }
    check_sums(line, posted, unresolved, findings);
    // A changed rule may have made the window longer; what had left it by then does not come back.
    if line.revision == 1 {
        for start in sums.keys() {
            let seconds = desk.parts.now.as_second() - start.as_second();
            let over = seconds >= i64::from(length_s) + i64::from(bucket_s);
            findings.check(over, Promise::L1, name, || {
                format!("has dropped its bucket of {start} too early")
            });
        }
    }
}

/// L2: posted + held <= limit, except for the overage, which is owned up to and has its causes.
fn check_limit(desk: &Desk<'_>, line: &Line, entries: &[&Entry], findings: &mut Findings) {
    let name = || line_name(&line.key);
    let limit = nanos(line.rule.limit) + nanos(line.raise);
    let past_limit = (nanos(line.posted) + nanos(line.held) - limit).max(0);
    let overage = nanos(line.overage);
    findings.check(nanos(line.held) >= 0 && overage >= 0, Promise::L2, name, || {
        format!("holds {} with an overage of {}", line.held, line.overage)
    });
    findings.check(past_limit <= overage, Promise::L2, name, || {
        format!(
            "has {} posted and {} held of a limit of {limit} nano-dollars, and owns up to {}",
            line.posted, line.held, line.overage
        )
    });
    if desk.rolled.contains_key(&line.key) {
        return;
    }
    let causes = Causes::of(desk, line, entries);
    let past_bound = overage - past_limit;
    // A rolling line does not know which bucket took the excess with it, only that none is left with none.
    let most = match line.rule.rolling {
        Some(_) => nanos(line.posted).max(0),
        None => causes.past_bounds,
    };
    findings.check(past_bound <= most, Promise::L2, name, || {
        format!("says {past_bound} past bounds, and its postings at most {most}")
    });
    // The last hold that was admitted fitted, so only what came without one can stand past the limit.
    let changed = line.revision > 1 || line.lifted_until.is_some();
    let unheld = causes.past_bounds + causes.reports;
    findings.check(changed || past_limit <= unheld, Promise::L2, name, || {
        format!("is {past_limit} past its limit, with {unheld} that no hold had covered")
    });
}

/// What can bring a line past its limit while nobody changes the limit.
struct Causes {
    /// What captures and corrections posted past the bounds of their holds.
    past_bounds: i128,
    reports: i128,
}

impl Causes {
    fn of(desk: &Desk<'_>, line: &Line, entries: &[&Entry]) -> Self {
        let mut causes = Self {
            past_bounds: 0,
            reports: 0,
        };
        let listed = |start: Timestamp| line.buckets.iter().any(|bucket| bucket.start == start);
        for entry in entries {
            let Some(posting) = desk.postings.get(&entry.posting) else {
                continue;
            };
            if entry.bucket.is_some_and(|start| !listed(start)) {
                continue;
            }
            let amount = nanos(entry.amount);
            match posting.kind {
                PostingKind::Report => causes.reports += amount,
                PostingKind::Correction => causes.past_bounds += amount.max(0),
                PostingKind::Capture => {
                    let hold = posting.hold.and_then(|hold| desk.holds.get(&hold));
                    causes.past_bounds += hold.map_or(amount, |hold| amount - nanos(hold.bound)).max(0);
                }
                PostingKind::Unresolved => {}
            }
        }
        causes
    }
}
