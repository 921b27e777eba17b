//! Many postings for the spend report, written through the store itself while no daemon runs: fifty
//! agents, forty tasks each, a month, three models.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use backstop::domain::id::{AgentId, BudgetId, ModelId, PostingId, ReportId, ServiceId, TaskId, ToolName};
use backstop::domain::ledger::batch::{Batch, LedgerRules, Op, Outcome, Report};
use backstop::domain::ledger::line::{LineKey, LineRule, LineSpec, Response, Scope};
use backstop::domain::ledger::posting::{Attribution, Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::WindowInstance;
use backstop::ports::{Clock as _, Entropy as _, Store as _};
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use backstop::system::{SystemClock, SystemEntropy};
use jiff::{SignedDuration, Timestamp};

use super::clock;

/// Brings the ledger up to so many postings. Returns how many were written, and the time it took.
pub async fn fill(database: &Path, postings: u64) -> Result<(u64, Duration)> {
    let options = SqliteOptions {
        reserve_bytes: 0,
        ..SqliteOptions::new(database)
    };
    let store = SqliteStore::open(options).await?;
    let now = SystemClock.now();
    let epoch = store.open_epoch(now, "the load script").await?;
    let have = u64::try_from(store.stats().await?.postings)?;
    let missing = postings.saturating_sub(have);
    let (start, mut written, mut seq) = (clock(), 0, 0);
    while written < missing {
        let size = (missing - written).min(512);
        seq += 1;
        let ops: Result<Vec<Op>> = (written..written + size).map(|n| report(n, now)).collect();
        let batch = Batch {
            epoch,
            seq,
            now,
            ops: ops?,
        };
        let outcomes = store.commit(&batch, &LedgerRules::default()).await?;
        let all = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Posted { .. }));
        ensure!(all, "not everything was posted");
        written += size;
    }
    let took = start.elapsed();
    store.close_epoch(epoch, now).await?;
    store.close().await?;
    Ok((written, took))
}

fn report(n: u64, now: Timestamp) -> Result<Op> {
    let mix = usize::try_from(n.wrapping_mul(7_919) % 1_000_003)?;
    let agent = AgentId::new(format!("agent-{}", mix % 50))?;
    let spec = LineSpec {
        key: LineKey {
            budget: BudgetId::new("total")?,
            agent: Some(agent.clone()),
            value: String::new(),
            window: WindowInstance::UNBOUNDED,
        },
        rule: LineRule {
            scope: Scope::Agent,
            limit: Usd::from_dollars(100_000_000),
            alert_at: vec![50, 80],
            response: Response::Alert,
            rolling: None,
        },
    };
    Ok(Op::Report(Report {
        posting: PostingId(SystemEntropy.id(now)),
        report: ReportId::new(format!("filled-{n}"))?,
        digest: [7; 32],
        attribution: Attribution {
            agent,
            task: TaskId::new(format!("run-{}", mix / 50 % 40))?,
            service: Some(ServiceId::new(["openai", "anthropic"][mix % 2])?),
            model: Some(ModelId::new(["small", "large", "embedding"][mix % 3])?),
            tool: Some(ToolName::new(["search", "shell", "mail", "none"][mix % 4])?),
            labels: std::collections::BTreeMap::new(),
        },
        amount: Usd::from_nanos(1_000_000),
        basis: Basis::Reported,
        trust: Trust::Provider,
        occurred_at: now - SignedDuration::from_hours(i64::try_from(mix % (30 * 24))?),
        lines: vec![spec],
        upstream_request: None,
        detail: None,
    }))
}
