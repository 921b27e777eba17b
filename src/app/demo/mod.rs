//! `backstop demo`: one of the four real incidents, on an invented fleet, stopped by the real daemon.
//!
//! The incidents in the cloud are in [`super::incidents`]. The transcription loop is here: it is the same daemon code as `serve`: the SQLite ledger, the listeners on real sockets, judgement,
//! the kill switch. Only two sides of the ports are others: a clock that runs faster, and the rehearsal
//! fleet instead of AWS. The agent's workers send their usage reports over HTTP with the agent's own
//! key, and a worker lives exactly as long as the machine that it runs on.
//!
//! At the end the demo checks the promises it has just shown, and fails if one is broken.

mod checks;
mod scene;
mod timeline;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

use self::checks::Checks;
use self::scene::{AGENT, LIMIT_USD, Scene};
use self::timeline::{Moment, Timeline};
use self::workers::Workers;
use super::daemon::{Daemon, Parts};
use super::incidents;
use crate::cli::DemoOptions;
use crate::cli::demo::Incident;
use crate::cloud::rehearsal::incident;
use crate::domain::agent::AgentStatus;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;
use crate::ports::{Clock, Entropy, Store};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::system::{AcceleratedClock, SystemEntropy};

/// How much faster than the wall clock the incident goes by.
const FACTOR: u32 = 40;
/// The longest that the demo waits for anything, in its own time.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Runs the demo; an error if one of its own checks fails.
pub fn demo(options: DemoOptions) -> anyhow::Result<()> {
    if options.verbose > 0 {
        let log = tracing_subscriber::fmt()
            .with_env_filter("info")
            .with_writer(std::io::stderr);
        log.try_init()
            .map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))?;
    }
    match options.incident {
        Incident::TranscriptionLoop => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run(&options))
        }
        Incident::FiveHundredServices => incidents::demo(incident::FIVE_HUNDRED_SERVICES, options.json),
        Incident::NetworkScan => incidents::demo(incident::NETWORK_SCAN, options.json),
    }
}

async fn run(options: &DemoOptions) -> anyhow::Result<()> {
    let clock: Arc<AcceleratedClock> = Arc::new(AcceleratedClock::new(FACTOR));
    let scene = Scene::new(Arc::clone(&clock) as Arc<dyn Clock>, &SystemEntropy)?;
    let timeline = Arc::new(Timeline::new(Arc::clone(&clock) as Arc<dyn Clock>, options.json));
    let store = SqliteStore::open(SqliteOptions::new(scene.directory.join("ledger.db"))).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let daemon = Daemon::start(Parts {
        settings: scene.settings()?,
        store: Arc::clone(&store),
        cloud: Arc::clone(&scene.fleet) as Arc<dyn crate::ports::Cloud>,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        entropy: Arc::new(SystemEntropy) as Arc<dyn Entropy>,
        notifier: Arc::clone(&timeline) as Arc<dyn crate::ports::Notifier>,
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        own_instance: None,
        pace: FACTOR,
    })
    .await?;
    let (admin, agent) = (daemon.addresses.admin, daemon.addresses.agent);
    let (told_to_stop, stop) = tokio::sync::oneshot::channel::<()>();
    let supervised = daemon.supervisor.run(
        async {
            let _ = stop.await;
        },
        Duration::from_secs(30),
    );
    let play = async {
        let played = Play {
            scene: &scene,
            timeline: &timeline,
            clock: &clock,
            store: &store,
            admin,
            agent,
        };
        let result = played.act(options).await;
        let _ = told_to_stop.send(());
        result
    };
    let (ended, result) = tokio::join!(supervised, play);
    result?;
    ended
}

/// The actors of the demo, and what they talk to.
struct Play<'a> {
    scene: &'a Scene,
    timeline: &'a Arc<Timeline>,
    clock: &'a AcceleratedClock,
    store: &'a Arc<dyn Store>,
    admin: std::net::SocketAddr,
    agent: std::net::SocketAddr,
}

impl Play<'_> {
    async fn act(&self, options: &DemoOptions) -> anyhow::Result<()> {
        let id = AgentId::new(AGENT)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let key = self.post(&http, &format!("agents/{AGENT}/keys"), &json!({})).await?;
        let key = key["key"].as_str().context("the daemon made no key")?.to_owned();
        let before = self.scene.fleet.snapshot();
        self.timeline.title(&format!(
            "{AGENT} transcribes support calls on {} machines; its budget is ${LIMIT_USD} a day, response: contain",
            self.scene.owned.len()
        ));
        let workers = Workers::new(
            http.clone(),
            self.agent,
            key,
            Arc::clone(&self.scene.fleet),
            &self.scene.owned,
        );

        self.timeline.add(
            self.moment("normal", "a recording now and then, as on any night")
                .await?,
        );
        workers
            .work(self.clock, Duration::from_secs(240), Duration::from_secs(60), 1)
            .await?;
        self.timeline.add(
            self.moment("loop", "the API returns an empty file, and the agent retries for ever")
                .await?,
        );
        workers.retry_until_stopped(self.clock, PATIENCE).await?;
        self.wait("the containment", async |play| {
            let containments = play.store.live_containments().await?;
            Ok(containments
                .first()
                .is_some_and(|containment| containment.contained_at.is_some()))
        })
        .await?;
        let stopped = self.scene.fleet.snapshot();
        self.timeline.add(
            self.moment("contained", "observed twice: denied, and nothing of the agent's runs")
                .await?,
        );
        let refused = self.scene.agent_launches();
        let says = refused
            .as_ref()
            .map_or_else(|refused| refused.clone(), |id| format!("it got {id}"));
        self.timeline.add(
            self.moment("relaunch", &format!("the agent tries to start another machine: {says}"))
                .await?,
        );

        let reset = json!({ "raise_usd": LIMIT_USD.to_string(), "note": "the loop is fixed" });
        self.post(&http, &format!("agents/{AGENT}/reset"), &reset).await?;
        self.wait("the reset", async |play| {
            Ok(play.store.agent(&id).await?.status == AgentStatus::Active)
        })
        .await?;
        self.timeline
            .add(self.moment("active", "everything is as it was before").await?);
        let after = self.scene.fleet.snapshot();

        let posted = self.posted().await?;
        self.timeline.compare(posted, workers.usd_per_hour());
        let mut checks = Checks::default();
        checks.ledger(&self.post(&http, "ledger/verify", &json!({})).await?);
        checks.audit_log(&self.post(&http, "audit/verify", &json!({})).await?);
        checks.sum(posted, workers.acknowledged());
        checks.stopped(&stopped, self.scene);
        checks.restored(&before, &after);
        checks.refused(refused.is_err());
        checks.told_once(self.timeline);
        let kept = self.timeline.verdict(&checks);
        self.timeline.finish(options.json, &checks)?;
        if kept {
            Ok(())
        } else {
            bail!("the demo broke a promise; see above")
        }
    }

    async fn posted(&self) -> anyhow::Result<Usd> {
        let lines = self.store.lines(&crate::ports::LineQuery::default()).await?;
        Ok(lines.iter().map(|line| line.posted).sum())
    }

    async fn moment(&self, what: &'static str, text: &str) -> anyhow::Result<Moment> {
        Ok(Moment {
            at: self.clock.now(),
            what: what.to_owned(),
            text: text.to_owned(),
            spent: Some(self.posted().await?),
            burn: Some(self.scene.fleet.burn()),
        })
    }

    async fn wait(&self, what: &str, mut done: impl AsyncFnMut(&Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let until = self.clock.monotonic() + PATIENCE;
        while !done(self).await? {
            if self.clock.monotonic() > until {
                bail!("{what} did not come within {PATIENCE:?}");
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    async fn post(&self, http: &reqwest::Client, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("http://{}/api/v1/{path}", self.admin);
        let answer = http
            .post(url)
            .bearer_auth(&self.scene.admin_token)
            .json(body)
            .send()
            .await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{path} answered {status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}
