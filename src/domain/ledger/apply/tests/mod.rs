//! The rules under test: a ledger of plain rows that does what a store does, audited after every batch.

mod admission;
mod bounds;
mod foresee;
mod prop;
mod reports;
mod rolling;
mod rules;
mod settlement;
mod told_twice;
mod triggers;

use std::collections::{BTreeMap, HashMap};

use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

use super::apply;
use crate::domain::agent::AgentStatus;
use crate::domain::id::{AgentId, BudgetId, EpochId, HoldId, PostingId, ReportId, TaskId};
use crate::domain::ledger::auditor::{AuditParts, audit};
use crate::domain::ledger::batch::{
    Admit, Batch, Capture, Delta, LedgerRules, NewTrigger, Op, Outcome, Report, ReportKey, Resolve, ResolveTarget,
    ShortLine, Snapshot, TriggerCause,
};
use crate::domain::ledger::bound::{Bound, TokenBound};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey, LineRule, LineSpec, Response, Scope};
use crate::domain::ledger::posting::{Attribution, Basis, Entry, Posting, PostingKind, Trust};
use crate::domain::money::Usd;
use crate::domain::window::WindowInstance;

/// Seconds after the start of the day that the tests play on.
pub(super) fn at(second: i64) -> Timestamp {
    "2026-11-20T00:00Z"
        .parse::<Timestamp>()
        .unwrap()
        .checked_add(second.seconds())
        .unwrap()
}

pub(super) const DAY: i64 = 86_400;

pub(super) fn usd(dollars: i64) -> Usd {
    Usd::from_dollars(dollars)
}

pub(super) fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub(super) fn hold_id(n: u128) -> HoldId {
    HoldId(Uuid::from_u128(n))
}

pub(super) fn posting_id(n: u128) -> PostingId {
    PostingId(Uuid::from_u128(1_000_000 + n))
}

pub(super) fn spend_of(name: &str) -> Attribution {
    Attribution {
        agent: agent(name),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: BTreeMap::new(),
    }
}

/// A line of agent `a` (of nobody, for a budget whose name starts with `fleet`) for the day.
pub(super) fn line(budget: &str, limit: i64) -> LineSpec {
    let fleet = budget.starts_with("fleet");
    LineSpec {
        key: LineKey {
            budget: BudgetId::new(budget).unwrap(),
            agent: (!fleet).then(|| agent("a")),
            value: String::new(),
            window: WindowInstance {
                start: Some(at(0)),
                end: Some(at(DAY)),
            },
        },
        rule: LineRule {
            scope: if fleet { Scope::Fleet } else { Scope::Agent },
            limit: usd(limit),
            alert_at: vec![50, 80],
            response: Response::Contain,
            rolling: None,
        },
    }
}

pub(super) fn rolling(budget: &str, limit: i64, length_s: u32, bucket_s: u32) -> LineSpec {
    let mut spec = line(budget, limit);
    spec.key.window = WindowInstance::ROLLING;
    spec.rule.rolling = Some((length_s, bucket_s));
    spec
}

pub(super) fn admit(hold: u128, bound: i64, lines: &[LineSpec]) -> Admit {
    Admit {
        hold: hold_id(hold),
        attribution: spend_of("a"),
        trust: Trust::Gateway,
        bound: usd(bound).into(),
        lines: lines.to_vec(),
        expires_at: at(600),
        blocks: false,
        tentative: false,
    }
}

pub(super) fn capture(hold: u128, cost: i64) -> Capture {
    Capture {
        hold: hold_id(hold),
        posting: posting_id(hold),
        cost: usd(cost),
        trust: Trust::Gateway,
        occurred_at: at(0),
        upstream_request: None,
        detail: None,
    }
}

pub(super) fn expire(hold: u128) -> Op {
    Op::Expire {
        hold: hold_id(hold),
        posting: posting_id(hold),
        detail: None,
    }
}

pub(super) fn void(hold: u128) -> Op {
    Op::Void { hold: hold_id(hold) }
}

pub(super) fn report(n: u128, amount: i64, lines: &[LineSpec]) -> Report {
    Report {
        posting: posting_id(500_000 + n),
        report: ReportId::new(format!("r{n}")).unwrap(),
        digest: [7; 32],
        attribution: spend_of("a"),
        amount: usd(amount),
        basis: Basis::Reported,
        trust: Trust::Provider,
        occurred_at: at(0),
        lines: lines.to_vec(),
        upstream_request: None,
        detail: None,
    }
}

pub(super) fn resolve(hold: u128, cost: i64) -> Resolve {
    Resolve {
        target: ResolveTarget::Hold(hold_id(hold)),
        posting: posting_id(700_000 + hold),
        cost: usd(cost),
        trust: Trust::Operator,
        detail: None,
    }
}

/// The answer to a hold of so many dollars that waits for this line, with (limit, posted, held).
pub(super) fn waits(bound: i64, short: &LineSpec, (limit, posted, held): (i64, i64, i64)) -> Outcome {
    Outcome::Wait {
        bound: usd(bound),
        short: vec![ShortLine {
            line: short.key.clone(),
            limit: usd(limit),
            posted: usd(posted),
            held: usd(held),
        }],
    }
}

pub(super) fn admitted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Admitted { .. })
}

/// Everything that a store keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) lines: BTreeMap<LineKey, Line>,
    pub(super) holds: HashMap<HoldId, Hold>,
    pub(super) postings: Vec<Posting>,
    pub(super) entries: Vec<Entry>,
    pub(super) reports: HashMap<ReportKey, ([u8; 32], Option<PostingId>)>,
    pub(super) agents: HashMap<AgentId, AgentStatus>,
    pub(super) triggers: Vec<NewTrigger>,
    pub(super) seq: i64,
}

impl Ledger {
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            lines: self.lines.clone(),
            holds: self.holds.clone(),
            reports: self.reports.clone(),
            agents: self.agents.clone(),
            ..Snapshot::default()
        };
        for posting in &self.postings {
            snapshot.postings.insert(posting.id, posting.clone());
            if let Some(target) = posting.corrects {
                snapshot.corrected.insert(target, posting.id);
            }
            if let (Basis::Metered, Some(request)) = (posting.basis, &posting.upstream_request) {
                snapshot
                    .metered
                    .insert((posting.attribution.agent.clone(), request.clone()), posting.id);
            }
        }
        for entry in &self.entries {
            snapshot.entries.entry(entry.posting).or_default().push(entry.clone());
        }
        snapshot
    }

    pub(super) fn write(&mut self, delta: Delta) {
        self.lines.extend(delta.lines);
        self.holds.extend(delta.holds);
        self.postings.extend(delta.postings);
        self.entries.extend(delta.entries);
        for seen in delta.reports {
            self.reports.insert(seen.key, (seen.digest, seen.posting));
        }
        self.triggers.extend(delta.triggers);
    }

    /// Applies a batch at a second of the day, without looking at the result.
    pub(super) fn commit(&mut self, second: i64, ops: Vec<Op>) -> Vec<Outcome> {
        self.seq += 1;
        let batch = Batch {
            epoch: EpochId(1),
            seq: self.seq,
            now: at(second),
            ops,
        };
        let (outcomes, delta) = apply(&mut self.snapshot(), &batch, &LedgerRules::default());
        assert_eq!(outcomes.len(), batch.ops.len());
        self.write(delta);
        outcomes
    }

    pub(super) fn findings(&self, second: i64) -> Vec<crate::domain::ledger::auditor::Finding> {
        let lines: Vec<_> = self.lines.values().cloned().collect();
        let holds: Vec<_> = self.holds.values().cloned().collect();
        audit(&AuditParts {
            lines: &lines,
            holds: &holds,
            postings: &self.postings,
            entries: &self.entries,
            rolled: &[],
            now: at(second),
        })
    }

    /// Applies a batch and has the ledger audited.
    pub(super) fn run(&mut self, second: i64, ops: Vec<Op>) -> Vec<Outcome> {
        let outcomes = self.commit(second, ops);
        assert_eq!(self.findings(second), []);
        outcomes
    }

    pub(super) fn one(&mut self, second: i64, op: Op) -> Outcome {
        self.run(second, vec![op]).remove(0)
    }

    pub(super) fn line(&self, spec: &LineSpec) -> &Line {
        &self.lines[&spec.key]
    }

    /// (posted, held, unresolved, overage) in dollars.
    pub(super) fn sums(&self, spec: &LineSpec) -> (i64, i64, i64, i64) {
        let line = self.line(spec);
        let dollars = |usd: Usd| usd.nanos() / 1_000_000_000;
        (
            dollars(line.posted),
            dollars(line.held),
            dollars(line.unresolved),
            dollars(line.overage),
        )
    }

    /// The causes of the triggers since the last call.
    pub(super) fn fired(&mut self) -> Vec<TriggerCause> {
        self.triggers.drain(..).map(|trigger| trigger.cause).collect()
    }

    pub(super) fn kinds(&self) -> Vec<PostingKind> {
        self.postings.iter().map(|posting| posting.kind).collect()
    }
}
