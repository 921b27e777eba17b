//! What the SQLite store takes: holds on one hot line, reports in batches, commits, the spend report.
//!
//! `cargo bench --bench store` prints a table. Arguments after `--`: the number of postings under the
//! spend report (1,000,000), and a directory on the disk to measure (the system's temporary one).
//! Every commit is synced, so the disk's own sync time is printed first and bounds everything below.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backstop::domain::id::{
    AgentId, BudgetId, EpochId, HoldId, ModelId, PostingId, ReportId, ServiceId, TaskId, ToolName,
};
use backstop::domain::ledger::batch::{Admit, Batch, Capture, LedgerRules, Op, Outcome, Report};
use backstop::domain::ledger::line::{LineKey, LineRule, LineSpec, Response, Scope};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::WindowInstance;
use backstop::ports::{SpendBy, SpendQuery, Store};
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// The spend report is measured over these many postings by default.
const POSTINGS: u64 = 1_000_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn say(line: &str) {
    println!("{line}");
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let postings = args
        .next()
        .map_or(Ok(POSTINGS), |n| n.parse())
        .context("a number of postings")?;
    let dir = match args.next() {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(dir.path(), postings))
}

async fn run(dir: &Path, postings: u64) -> Result<()> {
    say(&format!(
        "| {:<52} | {:>12} | {:>10} | {:>10} |",
        "what", "a second", "p50", "p99"
    ));
    say(&format!("|{:-<54}|{:->14}|{:->12}|{:->12}|", "", ":", ":", ":"));
    sync_time(dir)?;
    let mut bench = Bench::open(dir).await?;
    for size in [1, 64, 512] {
        bench.holds(size).await?;
    }
    for size in [1, 64, 100, 512] {
        bench.reports(size).await?;
    }
    bench.spend(postings).await
}

fn row(what: &str, count: usize, times: &mut [Duration]) {
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let at = |percent: usize| {
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
    let rate = count as f64 / total.as_secs_f64();
    say(&format!(
        "| {what:<52} | {rate:>12.0} | {:>7.0} µs | {:>7.0} µs |",
        at(50).unwrap_or_default().as_secs_f64() * 1e6,
        at(99).unwrap_or_default().as_secs_f64() * 1e6,
    ));
}

/// What one append of a page and its sync takes here, without any store.
fn sync_time(dir: &Path) -> Result<()> {
    let mut file = std::fs::File::create(dir.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..300 {
        let start = clock();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    row("the disk: append 4 KiB and sync", times.len(), &mut times);
    Ok(())
}

struct Bench {
    store: SqliteStore,
    epoch: EpochId,
    seq: i64,
    id: u128,
    now: Timestamp,
}

impl Bench {
    async fn open(dir: &Path) -> Result<Self> {
        let mut options = SqliteOptions::new(dir.join("bench.db"));
        options.reserve_bytes = 0;
        let store = SqliteStore::open(options).await?;
        let now = "2026-01-15T12:00:00Z".parse()?;
        let epoch = store.open_epoch(now, "bench").await?;
        Ok(Self {
            store,
            epoch,
            seq: 0,
            id: 0,
            now,
        })
    }

    /// As a version 7 UUID: rising in time, random behind it.
    fn uuid(&mut self) -> Uuid {
        self.id += 1;
        let mut random = [0; 10];
        random.copy_from_slice(&(self.id.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C6D_1234_5679)).to_be_bytes()[..10]);
        let millis = 1_768_478_400_000 + u64::try_from(self.id / 10).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    async fn commit(&mut self, ops: Vec<Op>) -> Result<Duration> {
        self.seq += 1;
        let batch = Batch {
            epoch: self.epoch,
            seq: self.seq,
            now: self.now,
            ops,
        };
        let start = clock();
        let outcomes = self.store.commit(&batch, &LedgerRules::default()).await?;
        let took = start.elapsed();
        let good = |o: &Outcome| {
            matches!(
                o,
                Outcome::Admitted { .. } | Outcome::Ended { .. } | Outcome::Posted { .. }
            )
        };
        ensure!(outcomes.iter().all(good), "not everything was done: {outcomes:?}");
        Ok(took)
    }

    /// Holds on one hot line, with three more lines each, and their captures.
    async fn holds(&mut self, size: usize) -> Result<()> {
        let rounds = (6_000 / size).clamp(20, 600);
        let (mut admits, mut captures) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let ids: Vec<_> = (0..size).map(|_| HoldId(self.uuid())).collect();
            let ops = ids.iter().map(|id| self.admit(*id)).collect::<Result<_>>()?;
            admits.push(self.commit(ops).await?);
            let ops = ids.iter().map(|id| self.capture(*id)).collect();
            captures.push(self.commit(ops).await?);
        }
        row(
            &format!("holds, 4 lines each, one hot, commits of {size}"),
            size * rounds,
            &mut admits,
        );
        row(
            &format!("captures, 4 lines each, commits of {size}"),
            size * rounds,
            &mut captures,
        );
        Ok(())
    }

    fn admit(&self, hold: HoldId) -> Result<Op> {
        Ok(Op::Admit(Admit {
            hold,
            attribution: attribution("hot", 0, 0)?,
            trust: Trust::Gateway,
            bound: Usd::from_nanos(1_000_000).into(),
            lines: lines("hot")?,
            expires_at: self.now + SignedDuration::from_secs(60),
            blocks: false,
            tentative: false,
        }))
    }

    fn capture(&mut self, hold: HoldId) -> Op {
        Op::Capture(Capture {
            hold,
            posting: PostingId(self.uuid()),
            cost: Usd::from_nanos(700_000),
            trust: Trust::Gateway,
            occurred_at: self.now,
            upstream_request: Some(format!("req_{}", self.id)),
            detail: Some("{\"input\":1200,\"output\":300}".to_owned()),
        })
    }

    async fn reports(&mut self, size: usize) -> Result<()> {
        let rounds = (10_000 / size).clamp(40, 600);
        let mut times = Vec::new();
        for _ in 0..rounds {
            let ops = (0..size).map(|n| self.report(n, n % 2)).collect::<Result<_>>()?;
            times.push(self.commit(ops).await?);
        }
        row(
            &format!("reports, 4 lines each, commits of {size}"),
            size * rounds,
            &mut times,
        );
        Ok(())
    }

    /// Of one of 50 agents, `back` hours ago; an agent runs one task an hour, with some models and tools.
    fn report(&mut self, n: usize, back: usize) -> Result<Op> {
        let posting = PostingId(self.uuid());
        let mix = scatter(self.id, n)?;
        let agent = format!("agent-{}", mix % 50);
        Ok(Op::Report(Report {
            posting,
            report: ReportId::new(format!("report-{}", self.id))?,
            digest: [7; 32],
            attribution: attribution(&agent, back, mix / 50)?,
            amount: Usd::from_nanos(1_000_000),
            basis: Basis::Reported,
            trust: Trust::Provider,
            occurred_at: self.now - SignedDuration::from_hours(i64::try_from(back)?),
            lines: lines(&agent)?,
            upstream_request: None,
            detail: Some("{\"input\":1200,\"output\":300}".to_owned()),
        }))
    }

    async fn spend(&mut self, postings: u64) -> Result<()> {
        let have = u64::try_from(self.store.stats().await?.postings)?;
        let mut times = Vec::new();
        let missing = postings.saturating_sub(have);
        let rounds = usize::try_from(missing.div_ceil(512))?;
        for round in 0..rounds {
            // Thirty days in their order.
            let back = 720 - 720 * round / rounds;
            let ops = (0..512).map(|n| self.report(n, back)).collect::<Result<_>>()?;
            times.push(self.commit(ops).await?);
        }
        let count = times.len() * 512;
        row(
            &format!("reports up to {postings} postings, commits of 512"),
            count,
            &mut times,
        );
        let stats = self.store.stats().await?;
        let mut counted = Vec::new();
        for _ in 0..20 {
            let start = clock();
            self.store.stats().await?;
            counted.push(start.elapsed());
        }
        row("stats", counted.len(), &mut counted);
        let what = |by: &str| format!("spend by {by} over {} postings", stats.postings);
        for by in [
            SpendBy::Agent,
            SpendBy::Model,
            SpendBy::Service,
            SpendBy::Tool,
            SpendBy::Day,
            SpendBy::Task,
        ] {
            let query = SpendQuery {
                agent: None,
                task: None,
                by,
                since: None,
                until: None,
                limit: 1000,
            };
            self.time_spend(&what(&format!("{by:?}")), query).await?;
        }
        let week = SpendQuery {
            agent: Some(AgentId::new("agent-7")?),
            task: None,
            by: SpendBy::Task,
            since: Some(self.now - SignedDuration::from_hours(7 * 24)),
            until: None,
            limit: 1000,
        };
        self.time_spend(&what("task, one agent, a week,"), week.clone()).await?;
        let part = SpendQuery {
            by: SpendBy::Agent,
            agent: None,
            ..week
        };
        self.time_spend(&what("agent, a week,"), part).await
    }

    async fn time_spend(&self, what: &str, query: SpendQuery) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..20 {
            let start = clock();
            let rows = self.store.spend(&query).await?;
            times.push(start.elapsed());
            ensure!(!rows.is_empty(), "{what} is empty");
        }
        row(what, times.len(), &mut times);
        Ok(())
    }
}

/// A number without a pattern.
fn scatter(id: u128, n: usize) -> Result<usize> {
    let mut z = u64::try_from(id % (1 << 60))?
        .wrapping_add(u64::try_from(n)?)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Ok(usize::try_from((z ^ (z >> 31)) >> 8)?)
}

fn attribution(agent: &str, task: usize, mix: usize) -> Result<Attribution> {
    Ok(Attribution {
        agent: AgentId::new(agent)?,
        task: TaskId::new(format!("run-{task}"))?,
        service: Some(ServiceId::new(["openai", "anthropic"][mix % 2])?),
        model: Some(ModelId::new(["small", "large"][mix % 2])?),
        tool: Some(ToolName::new(["search", "shell", "mail", "none"][mix / 2 % 4])?),
        labels: std::collections::BTreeMap::new(),
    })
}

/// A day, all time and a rolling window of the agent, and the fleet.
fn lines(agent: &str) -> Result<Vec<LineSpec>> {
    let day = WindowInstance {
        start: Some("2026-01-15T00:00:00Z".parse()?),
        end: Some("2026-01-16T00:00:00Z".parse()?),
    };
    let spec = |budget: &str, agent: Option<&str>, window, rolling| -> Result<LineSpec> {
        Ok(LineSpec {
            key: LineKey {
                budget: BudgetId::new(budget)?,
                agent: agent.map(AgentId::new).transpose()?,
                value: String::new(),
                window,
            },
            rule: LineRule {
                scope: if agent.is_some() { Scope::Agent } else { Scope::Fleet },
                limit: Usd::from_dollars(100_000_000),
                alert_at: vec![50, 80],
                response: Response::Contain,
                rolling,
            },
        })
    };
    Ok(vec![
        spec("daily", Some(agent), day, None)?,
        spec("total", Some(agent), WindowInstance::UNBOUNDED, None)?,
        spec("rolling", Some(agent), WindowInstance::UNBOUNDED, Some((5 * 3600, 300)))?,
        spec("fleet", None, day, None)?,
    ])
}
