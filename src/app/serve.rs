//! `backstop serve`: the daemon on this machine.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::daemon::{Daemon, Parts, make_dir};
use super::reload::Live;
use super::supervise::Parts as Set;
use super::{settings, systemd};
use crate::cli::ServeOptions;
use crate::cloud::aws::Aws;
use crate::cloud::disabled::DisabledCloud;
use crate::config::LiveSettings;
use crate::config::settings::{LogFormat, Settings, StoreLocation};
use crate::hooks::LogNotifier;
use crate::ports::{Clock, Cloud, Store};
use crate::store::memory::MemoryStore;
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::system::{SystemClock, SystemEntropy};

/// How long what is left may take after the drain.
const AFTER_DRAIN: Duration = Duration::from_secs(15);

/// How long a starting daemon may look for the machine that it runs on.
const FIND_SELF: Duration = Duration::from_secs(6);

/// Runs the daemon until it is told to stop.
pub fn serve(options: ServeOptions) -> anyhow::Result<()> {
    let settings = options.loaded.settings.clone();
    start_log(&settings, options.verbose)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options, &settings))
}

async fn run(options: ServeOptions, settings: &Settings) -> anyhow::Result<()> {
    make_dir(&settings.server.state_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (cloud, own_instance) = cloud(settings).await;
    let parts = Parts {
        settings: Arc::new(LiveSettings::new(options.loaded, options.loader)),
        store: open_store(settings).await?,
        cloud,
        clock: Arc::clone(&clock),
        entropy: Arc::new(SystemEntropy),
        notifier: Arc::new(LogNotifier),
        metrics: PrometheusBuilder::new()
            .install_recorder()
            .context("the metrics cannot be set up")?,
        own_instance,
        pace: 1,
    };
    let Daemon {
        mut supervisor,
        addresses,
        live,
        ledger,
    } = Daemon::start(parts).await?;
    addresses.write(&settings.server.state_dir)?;
    tracing::info!(
        agents = %addresses.agent, admin = %addresses.admin, socket = %addresses.admin_socket.display(),
        epoch = %ledger.epoch(), "listening"
    );
    let front = supervisor.front();
    reload_on_hangup(front, &live, &clock)?;
    let (stop, watched) = (front.stop.clone(), ledger.clone());
    front.add("the watchdog", async move {
        systemd::watch(stop, move || !watched.status().draining).await;
        Ok(())
    });
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        systemd::stopping();
        tracing::info!("told to stop; draining");
    };
    systemd::ready();
    let ended = supervisor
        .run(stop, settings.server.drain_timeout.saturating_add(AFTER_DRAIN))
        .await;
    tracing::info!("stopped");
    ended
}

fn start_log(settings: &Settings, verbose: u8) -> anyhow::Result<()> {
    let filter = match verbose {
        0 => EnvFilter::try_new(&settings.log.filter).context("log.filter")?,
        1 => EnvFilter::new("info,backstop=debug"),
        _ => EnvFilter::new("info,backstop=trace"),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for a terminal; in a file or the journal they are noise.
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log.format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.try_init(),
    }
    .map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))
}

async fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    match &settings.storage.store {
        StoreLocation::Memory => {
            tracing::warn!("the ledger is kept in memory and forgotten at the end");
            Ok(Arc::new(MemoryStore::new()))
        }
        StoreLocation::Sqlite { path } => {
            // The epochs' locks lie beside the file: by whatever name it is opened, they must be the same.
            let path = &std::fs::canonicalize(path).unwrap_or_else(|_not_there_yet| path.clone());
            let options = SqliteOptions {
                reserve_bytes: settings.storage.reserve_bytes,
                ..SqliteOptions::new(path)
            };
            let store = SqliteStore::open(options).await;
            Ok(Arc::new(store.with_context(|| {
                format!("the ledger {} cannot be opened", path.display())
            })?))
        }
    }
}

/// The cloud side, and the machine that the daemon runs on as that side names it.
async fn cloud(settings: &Settings) -> (Arc<dyn Cloud>, Option<String>) {
    if !settings.aws.enabled {
        return (Arc::new(DisabledCloud), None);
    }
    let aws = Aws::connect(settings::aws(settings)).await;
    let own = tokio::time::timeout(FIND_SELF, aws.own_instance()).await.ok().flatten();
    match &own {
        Some(instance) => tracing::info!(%instance, "the daemon's own machine is guarded"),
        None => tracing::info!(
            "the daemon's own machine is not known; if it is an instance, name it in aws.guard_instances"
        ),
    }
    (Arc::new(aws), own)
}

/// SIGHUP loads the config again, and `systemctl reload` waits until it is in force or refused.
fn reload_on_hangup(front: &mut Set, live: &Arc<Live>, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (live, clock, stop) = (Arc::clone(live), Arc::clone(clock), front.stop.clone());
    front.add("reloads", async move {
        while let Some(Some(())) = stop.run_until_cancelled(hangup.recv()).await {
            systemd::reloading();
            match Arc::clone(&live).reload(clock.now()).await {
                Ok(change) => tracing::info!(change = %json!(change), "the config is loaded again"),
                Err(problems) => {
                    tracing::error!("the new config is wrong; the old one stays in force");
                    for problem in problems.0 {
                        tracing::error!("{problem}");
                    }
                }
            }
            systemd::ready();
        }
        Ok(())
    });
    Ok(())
}
