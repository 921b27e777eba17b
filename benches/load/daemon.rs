//! The daemon under load: started on a ledger, asked for its own figures, stopped by its handle.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::client::{Connection, Target};
use super::machine;

pub const AGENT: &str = "load";
const TOKEN: &str = "token-for-the-load-script";
const COMMIT_SECONDS: &str = "backstop_ledger_commit_seconds";
const START_LIMIT: Duration = Duration::from_secs(60);

/// Four budgets that every call counts on: the agent's total is the hot line.
const CONFIG: &str = r#"
[server]
agent_listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
state_dir = "state"
[storage]
reserve_mb = 0
[log]
filter = "warn"
[admin]
token_file = "token"
[[agent]]
id = "load"
[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "100000000"
response = "alert"
[[budget]]
name = "day"
scope = "agent"
window = "day"
limit_usd = "100000000"
response = "alert"
[[budget]]
name = "rolling"
scope = "agent"
rolling = "5h"
limit_usd = "100000000"
response = "alert"
[[budget]]
name = "model"
scope = "model"
window = "month"
limit_usd = "100000000"
response = "alert"
"#;

#[derive(Deserialize)]
struct Addresses {
    agent: SocketAddr,
    admin: SocketAddr,
}

pub struct Daemon {
    child: Child,
    pub agent: Target,
    pub admin: Target,
}

/// The daemon's own figures over a phase.
#[derive(Debug, Default)]
pub struct Side {
    pub commit_p50: Duration,
    pub commit_p99: Duration,
    pub commit_p999: Duration,
    pub operations_a_commit: f64,
    pub cpu_a_call: Duration,
}

/// Writes the configuration of every daemon that is started in `dir`.
pub fn prepare(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("state"))?;
    fs::write(dir.join("config.toml"), CONFIG)?;
    fs::write(dir.join("token"), TOKEN)?;
    Ok(())
}

/// The same, with a provider behind it.
pub fn prepare_gateway(dir: &Path, upstream: SocketAddr) -> Result<()> {
    prepare(dir)?;
    let more = format!(
        "[[upstream]]\nname = \"mock\"\nkind = \"openai\"\nbase_url = \"http://{upstream}\"\napi_key_file = \"key\"\n"
    );
    fs::write(dir.join("key"), "sk-of-the-mock")?;
    fs::write(dir.join("config.toml"), format!("{CONFIG}{more}"))?;
    Ok(())
}

impl Daemon {
    pub async fn start(binary: &Path, dir: &Path) -> Result<Self> {
        let file = dir.join("state/backstop.addresses.json");
        let _ = fs::remove_file(&file);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("daemon.log"))?;
        let child = Command::new(binary)
            .args(["serve", "--config", "config.toml"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let target = |address| Target {
            address,
            token: TOKEN.to_owned(),
        };
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut daemon = Self {
            child,
            agent: target(nowhere),
            admin: target(nowhere),
        };
        let listening = async {
            loop {
                let said = fs::read(&file).ok();
                if let Some(addresses) = said.and_then(|said| serde_json::from_slice::<Addresses>(&said).ok()) {
                    return Ok(addresses);
                }
                let log = || fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
                ensure!(daemon.child.try_wait()?.is_none(), "the daemon ended:\n{}", log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let addresses = tokio::time::timeout(START_LIMIT, listening)
            .await
            .context("the daemon does not listen")??;
        daemon.agent.address = addresses.agent;
        daemon.admin.address = addresses.admin;
        let key = daemon.new_key().await?;
        daemon.agent.token = key;
        daemon.see_first_commit().await?;
        Ok(daemon)
    }

    /// Waits until the metrics know a commit: the rules, which every start writes. The exporter's
    /// percentiles leave out what came before the first block of samples that it looks at, and looks at
    /// the newest first; so it has to have looked once before the load begins.
    async fn see_first_commit(&self) -> Result<()> {
        let mut admin = Connection::open(&self.admin).await?;
        let seen = async {
            while !admin.must(200, "GET", "/metrics", "").await?.contains(COMMIT_SECONDS) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(START_LIMIT, seen)
            .await
            .context("no commit is seen")?
    }

    async fn new_key(&self) -> Result<String> {
        let mut admin = Connection::open(&self.admin).await?;
        let path = format!("/api/v1/agents/{AGENT}/keys");
        let (status, answer) = admin.send("POST", &path, "{}").await?;
        ensure!((200..300).contains(&status), "{path}: {status} {answer}");
        let answer: serde_json::Value = serde_json::from_str(answer)?;
        Ok(answer["key"].as_str().context("a key")?.to_owned())
    }

    /// Resident memory in kilobytes.
    pub fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = machine::field(&path, "VmRSS").context("a process has memory")?;
        Ok(text.trim_end_matches("kB").trim().parse()?)
    }

    /// Processor time of its threads that live.
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos += stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0_u64);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The group commit's own percentiles since the start.
    pub async fn side(&self, calls: u32, cpu_before: Duration) -> Result<Side> {
        let cpu = self.cpu()?.saturating_sub(cpu_before);
        let mut admin = Connection::open(&self.admin).await?;
        let text = admin.must(200, "GET", "/metrics", "").await?;
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            value.with_context(|| format!("/metrics has no {name}:\n{text}"))
        };
        let quantile = |q: &str| {
            let seconds = value(&format!("{COMMIT_SECONDS}{{quantile=\"{q}\"}}"))?;
            anyhow::Ok(Duration::try_from_secs_f64(seconds)?)
        };
        Ok(Side {
            commit_p50: quantile("0.5")?,
            commit_p99: quantile("0.99")?,
            commit_p999: quantile("0.999")?,
            operations_a_commit: value("backstop_ledger_batch_operations_sum")?
                / value("backstop_ledger_batch_operations_count")?,
            cpu_a_call: cpu / calls.max(1),
        })
    }

    /// A figure of calls whose cost was never known would be a figure of something else.
    pub async fn assert_nothing_unresolved(&self) -> Result<()> {
        let mut agent = Connection::open(&self.agent).await?;
        let budget: serde_json::Value = serde_json::from_str(agent.must(200, "GET", "/v1/budget", "").await?)?;
        let line = &budget["lines"][0];
        ensure!(
            line["unresolved_usd"] == "0.00" && line["posted_usd"] != "0.00",
            "{line:#}"
        );
        Ok(())
    }

    /// SIGTERM, and waits for the drained end.
    pub async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return anyhow::Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let status = tokio::time::timeout(START_LIMIT, ended)
            .await
            .context("it does not end")??;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
