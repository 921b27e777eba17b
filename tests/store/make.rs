//! Short ways to say what a test is about.

use std::collections::BTreeMap;

use backstop::domain::id::{
    AgentId, BudgetId, HoldId, LabelKey, ModelId, PostingId, ReportId, ServiceId, TaskId, ToolName,
};
use backstop::domain::ledger::batch::{Admit, Capture, Op, Report, Resolve, ResolveTarget};
use backstop::domain::ledger::line::{LineKey, LineRule, LineSpec, Response, Scope};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::WindowInstance;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// The middle of the day that most tests live in.
pub fn now() -> Timestamp {
    "2026-01-15T12:00:00Z".parse().unwrap()
}

pub fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub fn usd(dollars: i64) -> Usd {
    Usd::from_dollars(dollars)
}

pub fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub fn hold_id(n: u128) -> HoldId {
    HoldId(Uuid::from_u128(0x1000_0000 + n))
}

pub fn posting_id(n: u128) -> PostingId {
    PostingId(Uuid::from_u128(0x2000_0000 + n))
}

/// The day of [`now`].
pub fn day() -> WindowInstance {
    WindowInstance {
        start: Some("2026-01-15T00:00:00Z".parse().unwrap()),
        end: Some("2026-01-16T00:00:00Z".parse().unwrap()),
    }
}

pub fn rule(limit: Usd) -> LineRule {
    LineRule {
        scope: Scope::Agent,
        limit,
        alert_at: vec![50, 80],
        response: Response::Contain,
        rolling: None,
    }
}

/// An agent's line of today.
pub fn spec(budget: &str, of: &str, limit: Usd) -> LineSpec {
    LineSpec {
        key: LineKey {
            budget: BudgetId::new(budget).unwrap(),
            agent: Some(agent(of)),
            value: String::new(),
            window: day(),
        },
        rule: rule(limit),
    }
}

pub fn total(budget: &str, of: &str, limit: Usd) -> LineSpec {
    let mut spec = spec(budget, of, limit);
    spec.key.window = WindowInstance::UNBOUNDED;
    spec
}

pub fn fleet(budget: &str, limit: Usd) -> LineSpec {
    let mut spec = spec(budget, "x", limit);
    spec.key.agent = None;
    spec.rule.scope = Scope::Fleet;
    spec
}

/// A window of the last `length_s` seconds.
pub fn rolling(budget: &str, of: &str, limit: Usd, length_s: u32, bucket_s: u32) -> LineSpec {
    let mut spec = total(budget, of, limit);
    spec.key.window = WindowInstance::ROLLING;
    spec.rule.rolling = Some((length_s, bucket_s));
    spec
}

pub fn of(name: &str) -> Attribution {
    Attribution {
        agent: agent(name),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: BTreeMap::new(),
    }
}

/// Every dimension, and labels that a careless encoding would trip over.
pub fn full(name: &str) -> Attribution {
    Attribution {
        agent: agent(name),
        task: TaskId::new("run#7").unwrap(),
        service: Some(ServiceId::new("openai").unwrap()),
        model: Some(ModelId::new("gpt-5-mini").unwrap()),
        tool: Some(ToolName::new("web/search").unwrap()),
        labels: BTreeMap::from([
            (
                LabelKey::new("team").unwrap(),
                "it's \"quoted\" \\ and\n\ttabbed".to_owned(),
            ),
            (LabelKey::new("city").unwrap(), "Z\u{fc}rich \u{1F600} \u{1}".to_owned()),
        ]),
    }
}

pub fn admit(n: u128, of: Attribution, bound: Usd, lines: Vec<LineSpec>) -> Op {
    Op::Admit(Admit {
        hold: hold_id(n),
        attribution: of,
        trust: Trust::Gateway,
        bound: bound.into(),
        lines,
        expires_at: later(60),
        blocks: false,
        tentative: false,
    })
}

pub fn capture(n: u128, cost: Usd) -> Op {
    Op::Capture(Capture {
        hold: hold_id(n),
        posting: posting_id(n),
        cost,
        trust: Trust::Gateway,
        occurred_at: now(),
        upstream_request: Some(format!("req-{n}")),
        detail: Some("{\"input\":12}".to_owned()),
    })
}

pub fn expire(n: u128) -> Op {
    Op::Expire {
        hold: hold_id(n),
        posting: posting_id(n),
        detail: None,
    }
}

pub fn resolve(n: u128, by: u128, cost: Usd) -> Op {
    Op::Resolve(Resolve {
        target: ResolveTarget::Hold(hold_id(n)),
        posting: posting_id(by),
        cost,
        trust: Trust::Operator,
        detail: None,
    })
}

pub fn report(n: u128, of: Attribution, amount: Usd, lines: Vec<LineSpec>) -> Report {
    Report {
        posting: posting_id(n),
        report: ReportId::new(format!("report-{n}")).unwrap(),
        digest: [u8::try_from(n % 251).unwrap(); 32],
        attribution: of,
        amount,
        basis: Basis::Reported,
        trust: Trust::Provider,
        occurred_at: now(),
        lines,
        upstream_request: None,
        detail: None,
    }
}

/// A small reproducible source of numbers.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let len = u64::try_from(from.len()).unwrap();
        &from[usize::try_from(self.roll(len)).unwrap()]
    }
}
