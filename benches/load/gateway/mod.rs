//! The gateway under load: each phase once straight to the provider and once through Backstop, in turn, in
//! one run on one machine, and what is told are ratios and differences of the two.
//!
//! An open loop at a fixed rate says what a call takes longer: the percentiles beside those of the group
//! commit in the same run, since a durable hold is a sync of the disk and nothing can be faster. Saturated
//! phases say how many calls a second two cores make, and what one costs of the processor and of memory.
//! The generator, the mock and the daemon share the machine: what one takes, the others lack, and direct
//! figures suffer least.

pub mod mock;
mod oha;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Args;
use super::daemon::{self, Daemon, Side};
use super::table::{micros, say};
use mock::Mock;
use oha::{Hits, Oha, Pace, Shot};

/// A call with a stated limit, as most SDKs send it.
const WHOLE: &str = r#"{"model":"gpt-5-mini","max_completion_tokens":256,"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Hello! What can you do for me today?"}]}"#;
const STREAM: &str = r#"{"model":"gpt-5-mini","max_completion_tokens":256,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Hello! What can you do for me today?"}]}"#;

/// Connections of the saturated phases.
const CONNECTIONS: [usize; 3] = [1, 64, 512];

/// One phase through Backstop.
struct Through {
    hits: Hits,
    side: Side,
    resident: u64,
}

pub async fn run(args: &Args, dir: &Path) -> Result<()> {
    let oha = Oha::find(&args.oha).await?;
    let mock = Mock::start(dir)?;
    daemon::prepare_gateway(dir, mock.address)?;
    let field = Field { args, dir, oha, mock };
    say("");
    say(&format!("fixed at {} calls/s, an open loop:", args.rate));
    for (what, body) in [("whole answers", WHOLE), ("streams", STREAM)] {
        field.fixed(what, body).await?;
    }
    say("");
    head();
    for (what, body) in [("whole", WHOLE), ("stream", STREAM)] {
        for connections in CONNECTIONS {
            let pace = Pace::Saturated(connections);
            let (direct, through) = field.both(body, pace).await?;
            row(&format!("{what}, {connections} connections"), &direct, &through);
        }
    }
    Ok(())
}

struct Field<'a> {
    args: &'a Args,
    dir: &'a Path,
    oha: Oha,
    mock: Mock,
}

impl Field<'_> {
    /// Straight to the provider, then through a daemon of its own.
    async fn both(&self, body: &str, pace: Pace) -> Result<(Hits, Through)> {
        let length = Duration::from_secs(self.args.seconds);
        let direct = Shot {
            url: format!("http://{}/v1/chat/completions", self.mock.address),
            token: "sk-of-the-mock",
            body,
            pace,
            length,
        };
        let direct = self.oha.shoot(&direct).await?;
        let daemon = Daemon::start(&self.args.binary, self.dir).await?;
        let shot = Shot {
            url: format!("http://{}/mock/v1/chat/completions", daemon.agent.address),
            token: &daemon.agent.token,
            body,
            pace,
            length,
        };
        let cpu = daemon.cpu()?;
        let hits = self.oha.shoot(&shot).await?;
        let side = daemon.side(u32::try_from(hits.calls)?, cpu).await?;
        let resident = daemon.resident()?;
        daemon.assert_nothing_unresolved().await?;
        daemon.stop().await?;
        Ok((direct, Through { hits, side, resident }))
    }

    async fn fixed(&self, what: &str, body: &str) -> Result<()> {
        let (direct, through) = self.both(body, Pace::Fixed(self.args.rate)).await?;
        let Through { hits, side, resident } = through;
        let rate = f64::from(u32::try_from(self.args.rate)?);
        ensure!(
            hits.a_second > 0.95 * rate,
            "{what}: only {:.0} calls/s of {rate}",
            hits.a_second
        );
        let budget = |commit: Duration, halves: u32, more: Duration| commit * halves / 2 + more;
        say(&format!(
            "  {what}: {:.0} calls/s direct, {:.0} through",
            direct.a_second, hits.a_second
        ));
        for (name, direct, through, commit, budget) in [
            (
                "p50",
                direct.p50,
                hits.p50,
                side.commit_p50,
                Some(budget(side.commit_p50, 3, Duration::from_micros(150))),
            ),
            (
                "p99",
                direct.p99,
                hits.p99,
                side.commit_p99,
                Some(budget(side.commit_p99, 6, Duration::from_millis(1))),
            ),
            ("p99.9", direct.p999, hits.p999, side.commit_p999, None),
        ] {
            let added = through.saturating_sub(direct);
            let budget = budget.map_or(String::new(), |budget| {
                let verdict = if added <= budget { "met" } else { "missed" };
                format!(", budget {} {verdict}", micros(budget))
            });
            say(&format!(
                "    {name:<5} adds {} ({} direct, {} through); a commit takes {}{budget}",
                micros(added),
                micros(direct),
                micros(through),
                micros(commit),
            ));
        }
        say(&format!(
            "    CPU a call {}, {:.1} operations in a commit, memory {:.1} MiB",
            micros(side.cpu_a_call),
            side.operations_a_commit,
            mebibytes(resident)
        ));
        Ok(())
    }
}

fn mebibytes(kilobytes: u64) -> f64 {
    f64::from(u32::try_from(kilobytes).unwrap_or(u32::MAX)) / 1024.0
}

fn head() {
    say(&format!(
        "| {:<24} | {:>9} | {:>9} | {:>7} | {:>19} | {:>19} | {:>10} | {:>9} |",
        "saturated",
        "direct/s",
        "through/s",
        "ratio",
        "p50 direct, through",
        "p99 direct, through",
        "CPU a call",
        "memory"
    ));
    say(&format!(
        "|{:-<26}|{:->11}|{:->11}|{:->9}|{:->21}|{:->21}|{:->12}|{:->11}|",
        "", ":", ":", ":", ":", ":", ":", ":"
    ));
}

fn row(what: &str, direct: &Hits, through: &Through) {
    let hits = &through.hits;
    let pair = |one: Duration, two: Duration| format!("{}, {}", micros(one), micros(two));
    say(&format!(
        "| {what:<24} | {:>9.0} | {:>9.0} | {:>7.3} | {:>19} | {:>19} | {:>10} | {:>5.1} MiB |",
        direct.a_second,
        hits.a_second,
        hits.a_second / direct.a_second,
        pair(direct.p50, hits.p50),
        pair(direct.p99, hits.p99),
        micros(through.side.cpu_a_call),
        mebibytes(through.resident),
    ));
}
