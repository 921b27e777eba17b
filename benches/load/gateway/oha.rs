//! The load generator: `oha`, from the registry of Rust's packages (`cargo install oha`).
//!
//! At a fixed rate it is an open loop: requests are sent when they are due, and with `--latency-correction`
//! a latency counts from when the request was due, so that one slow answer is not one slow answer but all
//! that it delayed (coordinated omission).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

/// A generator that was found.
#[derive(Debug, Clone)]
pub struct Oha(PathBuf);

/// How the requests come.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many a second, whatever the answers take.
    Fixed(u64),
    /// As fast as so many connections go.
    Saturated(usize),
}

/// Where to, with what.
#[derive(Debug, Clone)]
pub struct Shot<'a> {
    pub url: String,
    pub token: &'a str,
    pub body: &'a str,
    pub pace: Pace,
    pub length: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Hits {
    pub calls: u64,
    pub a_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
}

#[derive(Deserialize)]
struct Report {
    summary: Summary,
    #[serde(rename = "latencyPercentiles")]
    percentiles: BTreeMap<String, f64>,
    #[serde(rename = "statusCodeDistribution")]
    statuses: BTreeMap<String, u64>,
    #[serde(rename = "errorDistribution")]
    errors: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(rename = "requestsPerSec")]
    a_second: f64,
}

/// Connections at a fixed rate: more than are ever needed, so that none waits for another.
const FIXED_CONNECTIONS: usize = 256;

impl Oha {
    pub async fn find(program: &Path) -> Result<Self> {
        let said = Command::new(program).arg("--version").output().await;
        let said = said.with_context(|| {
            format!(
                "{} cannot be started; it comes from the registry: cargo install oha --locked",
                program.display()
            )
        })?;
        ensure!(said.status.success(), "{} does not work", program.display());
        super::say(&format!("load: {}", String::from_utf8_lossy(&said.stdout).trim()));
        Ok(Self(program.to_owned()))
    }

    /// # Errors
    /// When a request failed: what was refused is no figure.
    pub async fn shoot(&self, shot: &Shot<'_>) -> Result<Hits> {
        let mut command = Command::new(&self.0);
        command.args(["--no-tui", "--output-format", "json", "--worker-threads", "1", "-w"]);
        command.args(["-z", &format!("{}s", shot.length.as_secs()), "-m", "POST"]);
        command.args(["-T", "application/json", "-d", shot.body]);
        command.args(["-H", &format!("Authorization: Bearer {}", shot.token)]);
        match shot.pace {
            Pace::Fixed(rate) => {
                command.args(["-q", &rate.to_string(), "--latency-correction"]);
                command.args(["-c", &FIXED_CONNECTIONS.to_string()]);
            }
            Pace::Saturated(connections) => {
                command.args(["-c", &connections.to_string()]);
            }
        }
        let done = command.arg(&shot.url).kill_on_drop(true).output().await?;
        let error = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "oha ended with {}: {error}", done.status);
        let report: Report = serde_json::from_slice(&done.stdout)
            .with_context(|| format!("{error}{}", String::from_utf8_lossy(&done.stdout)))?;
        let calls = report.statuses.get("200").copied().unwrap_or(0);
        let all: u64 = report.statuses.values().chain(report.errors.values()).sum();
        ensure!(
            calls == all && calls > 0,
            "not every call was answered: {:?} {:?}",
            report.statuses,
            report.errors
        );
        let at = |name: &str| {
            let seconds = report.percentiles.get(name).copied();
            let seconds = seconds.with_context(|| format!("oha says no {name}"))?;
            anyhow::Ok(Duration::try_from_secs_f64(seconds)?)
        };
        Ok(Hits {
            calls,
            a_second: report.summary.a_second,
            p50: at("p50")?,
            p99: at("p99")?,
            p999: at("p99.9")?,
        })
    }
}
