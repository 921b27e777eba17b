//! What a decision costs, without a store: `cargo bench --bench domain`.
//!
//! A commit decides up to 512 operations. The lines are the worst common case: four for each call, one
//! of them hot for everybody. Criterion reports the time of a batch and, as its throughput, decisions a
//! second; the last lines are the percentiles of a batch's running time over its decisions (section 10 of the
//! design asks for a p99 of at most 2 µs).

#[path = "domain/stream.rs"]
mod stream;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use backstop::domain::budget::{Budget, Selector, lines_for};
use backstop::domain::id::{AgentId, BudgetId, EpochId, HoldId, ModelId, PostingId, ReportId, TaskId};
use backstop::domain::ledger::apply::apply;
use backstop::domain::ledger::batch::{Admit, Batch, Capture, LedgerRules, MAX_BATCH, Op, Report, Snapshot};
use backstop::domain::ledger::line::{Line, LineSpec, Response, Scope};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::Window;
use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

const CALLS: u128 = MAX_BATCH as u128;
const AGENTS: u128 = 8;

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).expect("a time in this century")
}

/// The fleet's day, an agent's day, a task's, and a model's last five hours.
fn budgets() -> Vec<Budget> {
    let day = || Window::Day {
        timezone: "Europe/Vienna".to_owned(),
    };
    let rolling = Window::Rolling {
        length_s: 18_000,
        bucket_s: 300,
    };
    let budget = |name: &str, scope, window| Budget {
        id: BudgetId::new(name).expect("a name"),
        scope,
        label: None,
        selector: Selector::default(),
        window,
        limit: Usd::from_dollars(1_000_000),
        alert_at: vec![50, 80],
        response: Response::Contain,
    };
    vec![
        budget("fleet-daily", Scope::Fleet, day()),
        budget("agent-daily", Scope::Agent, day()),
        budget("task-total", Scope::Task, Window::Total),
        budget("model-burst", Scope::Model, rolling),
    ]
}

fn spend(n: u128) -> Attribution {
    Attribution {
        agent: AgentId::new(format!("support-transcriber-{}", n % AGENTS)).expect("a name"),
        task: TaskId::new(format!("run-{}", n % (4 * AGENTS))).expect("a name"),
        service: None,
        model: Some(ModelId::new("gpt-5-mini").expect("a name")),
        tool: None,
        labels: BTreeMap::new(),
    }
}

fn lines(n: u128, budgets: &[Budget]) -> Vec<LineSpec> {
    lines_for(budgets, &spend(n), Trust::Gateway, now()).expect("a window")
}

fn batch(ops: Vec<Op>) -> Batch {
    Batch {
        epoch: EpochId(1),
        seq: 1,
        now: now(),
        ops,
    }
}

fn admits(budgets: &[Budget]) -> Batch {
    let admit = |n| {
        Op::Admit(Admit {
            hold: HoldId(Uuid::from_u128(n)),
            attribution: spend(n),
            trust: Trust::Gateway,
            bound: Usd::from_dollars(1).into(),
            lines: lines(n, budgets),
            expires_at: now(),
            blocks: false,
            tentative: false,
        })
    };
    batch((0..CALLS).map(admit).collect())
}

fn captures() -> Batch {
    let capture = |n| {
        Op::Capture(Capture {
            hold: HoldId(Uuid::from_u128(n)),
            posting: PostingId(Uuid::from_u128(n)),
            cost: Usd::from_nanos(500_000_000),
            trust: Trust::Gateway,
            occurred_at: now(),
            upstream_request: Some(format!("req_{n}")),
            detail: None,
        })
    };
    batch((0..CALLS).map(capture).collect())
}

fn reports(budgets: &[Budget]) -> Batch {
    let report = |n| {
        Op::Report(Report {
            posting: PostingId(Uuid::from_u128(n)),
            report: ReportId::new(format!("report-{n}")).expect("a name"),
            digest: [7; 32],
            attribution: spend(n),
            amount: Usd::from_nanos(500_000_000),
            basis: Basis::Reported,
            trust: Trust::Provider,
            occurred_at: now(),
            lines: lines(n, budgets),
            upstream_request: None,
            detail: None,
        })
    };
    batch((0..CALLS).map(report).collect())
}

/// The rows of the lines that all of these calls name.
fn loaded(budgets: &[Budget]) -> Snapshot {
    let specs = (0..CALLS).flat_map(|n| lines(n, budgets));
    Snapshot {
        lines: specs.map(|spec| (spec.key.clone(), Line::new(&spec))).collect(),
        ..Snapshot::default()
    }
}

/// The same with every call's hold open.
fn held(budgets: &[Budget]) -> Snapshot {
    let mut snapshot = loaded(budgets);
    let (_, delta) = apply(&mut snapshot, &admits(budgets), &LedgerRules::default());
    Snapshot {
        lines: delta.lines,
        holds: delta.holds,
        ..Snapshot::default()
    }
}

fn full(budgets: &[Budget]) -> Snapshot {
    let mut snapshot = loaded(budgets);
    for line in snapshot.lines.values_mut() {
        line.held = line.rule.limit;
    }
    snapshot
}

type Case = (&'static str, Snapshot, Batch);

fn cases() -> Vec<Case> {
    let budgets = budgets();
    vec![
        ("admit", loaded(&budgets), admits(&budgets)),
        ("admit_all_wait", full(&budgets), admits(&budgets)),
        ("capture", held(&budgets), captures()),
        ("report", loaded(&budgets), reports(&budgets)),
    ]
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply_512_on_4_lines");
    group.throughput(Throughput::Elements(MAX_BATCH as u64));
    for (name, snapshot, batch) in cases() {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || snapshot.clone(),
                |snapshot| apply(snapshot, black_box(&batch), &LedgerRules::default()),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    let budgets = budgets();
    let (spend, now) = (spend(1), now());
    criterion.bench_function("lines_for_4_budgets", |bencher| {
        bencher.iter(|| lines_for(black_box(&budgets), black_box(&spend), Trust::Gateway, now));
    });
}

/// The time that this thread was running, so that a busy machine does not count its other work in.
fn running() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time of a batch over its decisions: a decision never waits for less than its batch.
#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn percentiles() {
    for (name, snapshot, batch) in cases() {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..2_000 {
            let mut snapshot = snapshot.clone();
            let start = running();
            let decided = apply(&mut snapshot, black_box(&batch), &LedgerRules::default());
            times.push(running().saturating_sub(start));
            drop(black_box(decided));
        }
        times.sort_unstable();
        let decisions = u32::try_from(MAX_BATCH).unwrap_or(u32::MAX);
        let at = |percent: usize| times[times.len() * percent / 100] / decisions;
        println!("{name}: a decision takes p50 {:?}, p99 {:?}", at(50), at(99));
    }
}

criterion_group!(benches, decide, stream::meter);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` runs this too, to see that it runs.
    if std::env::args().any(|arg| arg == "--bench") {
        percentiles();
    }
}
