//! The agent: workers that transcribe recordings and report what that used, each on a machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cloud::rehearsal::Rehearsal;
use crate::domain::containment::observed::InstanceState;
use crate::domain::money::Usd;
use crate::ports::Clock;

/// Seconds of audio in one recording. At whisper-1's $0.006 a minute one attempt costs $0.15.
const RECORDING_S: u64 = 25 * 60;
/// How often a worker in the loop sends the same recording again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Recordings in one report of the loop.
const IN_ONE_REPORT: u64 = 6;

pub(super) struct Workers {
    http: reqwest::Client,
    url: String,
    key: String,
    fleet: Arc<Rehearsal>,
    machines: Vec<String>,
    next: AtomicU64,
    /// Nano-dollars of reports that the daemon has acknowledged.
    acknowledged: AtomicI64,
}

impl Workers {
    pub(super) fn new(
        http: reqwest::Client,
        agent: SocketAddr,
        key: String,
        fleet: Arc<Rehearsal>,
        machines: &[String],
    ) -> Self {
        Self {
            http,
            url: format!("http://{agent}/v1/usage"),
            key,
            fleet,
            machines: machines.to_vec(),
            next: AtomicU64::new(1),
            acknowledged: AtomicI64::new(0),
        }
    }

    pub(super) fn acknowledged(&self) -> Usd {
        Usd::from_nanos(self.acknowledged.load(Ordering::Relaxed))
    }

    /// What the loop spends in an hour with every machine running: each second each of them transcribes
    /// the same recording again.
    pub(super) fn usd_per_hour(&self) -> Usd {
        let attempts = 3_600 / RETRY_EVERY.as_secs() * u64::try_from(self.machines.len()).unwrap_or(0);
        // $0.006 a minute is 100,000 nano-dollars a second.
        Usd::from_nanos(i64::try_from(attempts * RECORDING_S * 100_000).unwrap_or(i64::MAX))
    }

    /// Ordinary work: so many recordings every so often.
    pub(super) async fn work(
        &self,
        clock: &dyn Clock,
        length: Duration,
        every: Duration,
        recordings: u64,
    ) -> anyhow::Result<()> {
        let until = clock.monotonic() + length;
        while clock.monotonic() < until {
            self.report(recordings).await?;
            clock.sleep(every).await;
        }
        Ok(())
    }

    /// The loop: every worker retries for as long as its machine runs.
    pub(super) async fn retry_until_stopped(&self, clock: &dyn Clock, patience: Duration) -> anyhow::Result<()> {
        let workers = self.machines.iter().map(async |machine| -> anyhow::Result<()> {
            let until = clock.monotonic() + patience;
            let mut reported = clock.monotonic();
            while self.runs(machine) {
                if clock.monotonic() > until {
                    bail!("{machine} was not stopped within {patience:?}");
                }
                clock
                    .sleep(RETRY_EVERY * u32::try_from(IN_ONE_REPORT).unwrap_or(1))
                    .await;
                // As many attempts as time has passed for, so that a slow computer shows the same loop.
                let passed = clock.monotonic().saturating_sub(reported).as_secs() / RETRY_EVERY.as_secs();
                reported += RETRY_EVERY * u32::try_from(passed).unwrap_or(u32::MAX);
                self.report(passed).await?;
            }
            Ok(())
        });
        futures_util::future::try_join_all(workers).await.map(|_| ())
    }

    fn runs(&self, machine: &str) -> bool {
        self.fleet
            .machine(machine)
            .is_some_and(|seen| seen.state == InstanceState::Running)
    }

    async fn report(&self, recordings: u64) -> anyhow::Result<()> {
        if recordings == 0 {
            return Ok(());
        }
        let id = format!("rec-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let row = json!({
            "id": id,
            "service": "openai",
            "model": "whisper-1",
            "api": "openai_transcription",
            "usage": { "type": "duration", "seconds": RECORDING_S * recordings },
        });
        let answer = self
            .http
            .post(&self.url)
            .bearer_auth(&self.key)
            .json(&row)
            .send()
            .await?;
        let (status, body) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("a report was answered with {status}: {body}");
        }
        let body: Value = serde_json::from_str(&body)?;
        let amount: Usd = body["amount_usd"]
            .as_str()
            .context("an answer without an amount")?
            .parse()?;
        self.acknowledged.fetch_add(amount.nanos(), Ordering::Relaxed);
        Ok(())
    }
}
