//! The daemon, built of its rooms.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, UnixListener};

use super::addresses::Addresses;
use super::reload::Live;
use super::supervise::Supervisor;
use super::{catalogue, retention, settings};
use crate::audit::{self, AuditHealth, AuditTask, Cadence, Refusals, Signer};
use crate::config::LiveSettings;
use crate::config::settings::Settings;
use crate::doctor::Doctor;
use crate::domain::audit::NewAudit;
use crate::fleet::{Fleet, FleetDeps};
use crate::gateway::{Gateway, GatewayDeps};
use crate::http::admin::{self, AdminApi, AuditPlace, change_lines};
use crate::http::agent::{self, AgentApi};
use crate::http::auth::{AdminToken, KeyRing};
use crate::http::body::{Desk, Shelf};
use crate::http::seats::Seats;
use crate::http::serve::{Listener, serve};
use crate::intake::usage::Intake;
use crate::killswitch::{Creators, KillSwitch};
use crate::ledger::{self, Deps, Ledger};
use crate::ports::{Clock, Cloud, Entropy, LineQuery, Notifier, Store};
use crate::tools::Tools;
use crate::watch::Watch;

/// What the daemon stands on: the sides of the ports.
pub(super) struct Parts {
    pub(super) settings: Arc<LiveSettings>,
    pub(super) store: Arc<dyn Store>,
    pub(super) cloud: Arc<dyn Cloud>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) notifier: Arc<dyn Notifier>,
    pub(super) metrics: PrometheusHandle,
    /// The machine that the daemon runs on, as the cloud names it, if it runs on one.
    pub(super) own_instance: Option<String>,
    /// How much faster than the wall clock `clock` runs: 1 but for the demo. The disk does not run
    /// faster, so limits on commits are stretched by it.
    pub(super) pace: u32,
}

/// A daemon that listens, with everything that a person or a demo talks to.
pub(super) struct Daemon {
    pub(super) supervisor: Supervisor,
    pub(super) addresses: Addresses,
    pub(super) live: Arc<Live>,
    pub(super) ledger: Ledger,
}

/// How often the agents' keys are read again, so that a key which another process revoked is refused.
const KEYS_EVERY: Duration = Duration::from_secs(1);

/// How often the samples of the metrics are added up.
const METRICS_EVERY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Builds and starts every part. When it returns, the listeners are open.
    pub(super) async fn start(parts: Parts) -> anyhow::Result<Self> {
        let Parts {
            settings: live_settings,
            store,
            cloud,
            clock,
            entropy,
            notifier,
            metrics,
            own_instance,
            pace,
        } = parts;
        let current = live_settings.current();
        let catalogue = Arc::new(ArcSwap::from_pointee(catalogue::load(&current)?));
        let agents = Arc::new(ArcSwap::from_pointee(settings::agents(&current)));
        let intake_settings = Arc::new(ArcSwap::from_pointee(settings::intake(&current)));
        let kill_settings = Arc::new(ArcSwap::from_pointee(settings::kill(&current, own_instance.as_ref())));
        let fleet_settings = Arc::new(ArcSwap::from_pointee(settings::fleet(&current)));
        let watch_settings = Arc::new(ArcSwap::from_pointee(settings::watch(&current)));
        let gateway_settings = Arc::new(ArcSwap::from_pointee(settings::gateway(&current, None)?));
        let tool_settings = Arc::new(ArcSwap::from_pointee(settings::tools(&current)));
        let mut supervisor = Supervisor::new();

        let deps = Deps {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            notifier: Arc::clone(&notifier),
        };
        let budgets = settings::budgets(&current);
        audit_loosened(&*store, &current, &*clock).await?;
        let (ledger, ledger_task, dead) = ledger::open(deps, settings::ledger(&current, pace), budgets, &host_name())
            .await
            .context("the ledger cannot be opened")?;
        if dead.holds > 0 {
            tracing::warn!(
                epochs = dead.epochs.len(), holds = dead.holds, usd = %dead.amount,
                "an earlier run died with open holds; they are unresolved at their bounds"
            );
        }
        let drain = supervisor.back().stop.clone();
        supervisor
            .back()
            .add("the ledger", async move { Ok(ledger_task.run(drain).await?) });

        let audit = start_audit(&mut supervisor, &live_settings, &store, &clock, &*entropy)?;
        let keys = Arc::new(KeyRing::default());
        keys.refresh(&*store).await.context("the agents' keys cannot be read")?;
        refresh_keys(&mut supervisor, &keys, &store, &clock);

        let creators = Arc::new(Creators::default());
        let fleet = Fleet::new(FleetDeps {
            store: Arc::clone(&store),
            cloud: Arc::clone(&cloud),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            notifier: Arc::clone(&notifier),
            ledger: ledger.clone(),
            settings: Arc::clone(&fleet_settings),
            creators: {
                let creators = Arc::clone(&creators);
                Arc::new(move |made, readings| creators.set(made, readings))
            },
        });
        let fleet = Arc::new(fleet.in_epoch(ledger.epoch()));
        let (stop, watched) = (supervisor.front().stop.clone(), Arc::clone(&fleet));
        supervisor.front().add("the fleet's watcher", async move {
            watched.run(stop).await;
            Ok(())
        });
        let doctor = Arc::new(Doctor::new(Arc::clone(&cloud), Arc::clone(&clock)));
        let killswitch = KillSwitch::new(
            Arc::clone(&store),
            cloud,
            Arc::clone(&clock),
            Arc::clone(&entropy),
            Arc::clone(&kill_settings),
            Arc::clone(&notifier),
        );
        let killswitch = Arc::new(killswitch.in_epoch(ledger.epoch()).with_creators(creators));
        let (poked, told) = (Arc::clone(&killswitch), ledger.clone());
        let watch = Arc::new(Watch::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&entropy),
            Arc::clone(&notifier),
            Arc::clone(&watch_settings),
            Arc::new(move || {
                poked.poke();
                // Streams of an agent that was contained are cut now, and not at the next look.
                told.look_at_agents();
            }),
        ));
        let stop = supervisor.front().stop.clone();
        let (judge, lines) = (Arc::clone(&watch), ledger.clone());
        supervisor.front().add("judgement", async move {
            judge.run(stop, |changes| change_lines(lines.clone(), changes)).await;
            Ok(())
        });
        // The ledger pokes the judge, so that a breach does not wait for the next look.
        let stop = supervisor.front().stop.clone();
        let (triggers, judge) = (ledger.triggers(), Arc::clone(&watch));
        supervisor.front().add("the bell", async move {
            while stop.run_until_cancelled(triggers.notified()).await.is_some() {
                judge.poke();
            }
            Ok(())
        });
        let stop = supervisor.front().stop.clone();
        let driven = Arc::clone(&killswitch);
        supervisor.front().add("the kill switch", async move {
            driven.run(stop).await;
            Ok(())
        });

        // Samples of a histogram are kept until somebody adds them up, and nobody may ever ask for them.
        let (stop, kept, upkeep_clock) = (supervisor.front().stop.clone(), metrics.clone(), Arc::clone(&clock));
        supervisor.front().add("the metrics", async move {
            while stop
                .run_until_cancelled(upkeep_clock.sleep(METRICS_EVERY))
                .await
                .is_some()
            {
                kept.run_upkeep();
            }
            Ok(())
        });
        let stop = supervisor.front().stop.clone();
        supervisor.front().add("retention", {
            let (settings, ledger) = (Arc::clone(&live_settings), ledger.clone());
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            async move {
                retention::keep(settings, ledger, store, clock, stop).await;
                Ok(())
            }
        });
        let intake = Arc::new(Intake::new(
            ledger.clone(),
            Arc::clone(&catalogue),
            Arc::clone(&agents),
            Arc::clone(&intake_settings),
            Arc::clone(&clock),
            Arc::clone(&audit.refusals),
        ));
        let gateway = Gateway::new(GatewayDeps {
            ledger: ledger.clone(),
            intake: Arc::clone(&intake),
            catalogue: Arc::clone(&catalogue),
            settings: Arc::clone(&gateway_settings),
            refusals: Arc::clone(&audit.refusals),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            whose: {
                let keys = Arc::clone(&keys);
                Arc::new(move |headers| keys.agent(headers))
            },
        });
        let (calls, stop) = (gateway.clone(), supervisor.front().stop.clone());
        let drain = current.server.drain_timeout;
        supervisor.front().add("the gateway", async move {
            calls.run(stop, drain).await;
            Ok(())
        });
        let live = Arc::new(Live {
            settings: Arc::clone(&live_settings),
            catalogue: Arc::clone(&catalogue),
            agents: Arc::clone(&agents),
            intake: intake_settings,
            kill: kill_settings,
            fleet: fleet_settings,
            watch: watch_settings,
            tools: Arc::clone(&tool_settings),
            gateway: gateway_settings,
            own_instance,
            reloading: Arc::default(),
            ledger: ledger.clone(),
            store: Arc::clone(&store),
        });
        let limits = settings::body_limits(&current);
        let allowed_hosts = settings::hosts(&current);
        let agent_api = AgentApi {
            ledger: ledger.clone(),
            intake: Arc::clone(&intake),
            keys: Arc::clone(&keys),
            agents: Arc::clone(&agents),
            store: Arc::clone(&store),
            catalogue: Arc::clone(&catalogue),
            refusals: Arc::clone(&audit.refusals),
            gateway,
            tools: Tools::new(tool_settings, Arc::clone(&clock)),
            clock: Arc::clone(&clock),
            limits,
            desk: Desk::default(),
            shelf: Shelf::default(),
            seats: Seats::new(settings::serve_limits(&current).max_connections),
            allowed_hosts: allowed_hosts.clone(),
        };
        let (reloaded, reload_clock) = (Arc::clone(&live), Arc::clone(&clock));
        let examined = Arc::clone(&live);
        let admin_api = AdminApi {
            ledger: ledger.clone(),
            intake,
            keys,
            store,
            clock,
            entropy,
            catalogue,
            agents,
            settings: live_settings,
            watch,
            killswitch,
            fleet,
            doctor,
            case: Arc::new(move || settings::case(&examined.settings.current(), examined.own_instance.as_ref())),
            audit: audit.place,
            reload: Arc::new(move || Box::pin(Arc::clone(&reloaded).reload(reload_clock.now()))),
            metrics: Arc::new(move || metrics.render()),
            limits,
            desk: Desk::default(),
            allowed_hosts,
            token: current
                .admin
                .token
                .as_ref()
                .map(|token| AdminToken::new(token.expose())),
            peer_uids: peer_uids(&current.admin.peer_uids),
        };
        let addresses = listen(&mut supervisor, &live, Arc::new(agent_api), Arc::new(admin_api)).await?;
        Ok(Self {
            supervisor,
            addresses,
            live,
            ledger,
        })
    }
}

/// A limit that was raised while the daemon was down is an override too (D3): what the open lines have is
/// compared with the config before its rules are written into them.
async fn audit_loosened(store: &dyn Store, settings: &Settings, clock: &dyn Clock) -> anyhow::Result<()> {
    let now = clock.now();
    let query = LineQuery {
        open_at: Some(now),
        ..LineQuery::default()
    };
    let lines = store.lines(&query).await.context("the ledger's lines cannot be read")?;
    let loosened = settings.budgets.iter().filter_map(|rule| {
        let budget = &rule.budget;
        let lines = lines.iter().filter(|line| line.key.budget == budget.id);
        let least = lines.clone().map(|line| line.rule.limit).min()?;
        let hardest = lines.map(|line| line.rule.response).max()?;
        (least < budget.limit || hardest > budget.response).then(|| NewAudit {
            at: now,
            actor: "operator:config".to_owned(),
            action: "budget_loosened".to_owned(),
            agent: None,
            reason: format!("the budget {} was loosened while the daemon was not running", budget.id),
            evidence: serde_json::json!({
                "old_limit_usd": least.to_string(),
                "new_limit_usd": budget.limit.to_string(),
                "old_response": hardest,
                "new_response": budget.response,
            })
            .to_string(),
        })
    });
    let loosened: Vec<NewAudit> = loosened.collect();
    if !loosened.is_empty() {
        let written = store.append_audit(&loosened).await;
        written.context("loosened budgets cannot be recorded")?;
    }
    Ok(())
}

struct Audit {
    place: AuditPlace,
    refusals: Arc<Refusals>,
}

fn start_audit(
    supervisor: &mut Supervisor,
    settings: &LiveSettings,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> anyhow::Result<Audit> {
    let audit = settings.current().audit.clone();
    let key = audit::load_or_create(&audit.key_file, entropy).context("the audit log's key")?;
    let verifying = key.verifying_key();
    let cadence = Cadence::default();
    let signer = Signer::open(key, &audit.heads_file, cadence).context("the audit log's heads")?;
    let (refusals, health) = (Arc::new(Refusals::new()), Arc::new(AuditHealth::default()));
    let task = AuditTask {
        signer,
        refusals: Arc::clone(&refusals),
        health: Arc::clone(&health),
        store: Arc::clone(store),
        clock: Arc::clone(clock),
    };
    let stop = supervisor.back().stop.clone();
    supervisor.back().add("the audit log", async move {
        task.run(stop).await;
        Ok(())
    });
    let place = AuditPlace {
        heads: audit.heads_file,
        keys: vec![verifying],
        cadence,
        health,
    };
    Ok(Audit { place, refusals })
}

fn refresh_keys(supervisor: &mut Supervisor, keys: &Arc<KeyRing>, store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) {
    let (keys, store, clock) = (Arc::clone(keys), Arc::clone(store), Arc::clone(clock));
    let stop = supervisor.front().stop.clone();
    supervisor.front().add("the key ring", async move {
        while stop.run_until_cancelled(clock.sleep(KEYS_EVERY)).await.is_some() {
            // Keys that were valid stay so while the store cannot be read; spend fails closed there.
            if let Err(error) = keys.refresh(&*store).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the agents' keys cannot be read again"
                );
            }
        }
        Ok(())
    });
}

async fn listen(
    supervisor: &mut Supervisor,
    live: &Live,
    agent_api: Arc<AgentApi>,
    admin_api: Arc<AdminApi>,
) -> anyhow::Result<Addresses> {
    let settings = live.settings.current();
    let server = &settings.server;
    let agent = bind(server.agent_listen, "server.agent_listen").await?;
    let admin = bind(server.admin_listen, "server.admin_listen").await?;
    let socket = bind_socket(&server.admin_socket, &settings.admin.peer_uids)?;
    let addresses = Addresses {
        agent: agent.local_addr()?,
        admin: admin.local_addr()?,
        admin_socket: server.admin_socket.clone(),
    };
    let limits = settings::serve_limits(&settings);
    let admin_router = admin::router(admin_api);
    for (name, listener, router) in [
        ("the agent side", Listener::Tcp(agent), agent::router(agent_api)),
        ("the admin side", Listener::Tcp(admin), admin_router.clone()),
        ("the admin socket", Listener::Unix(socket), admin_router),
    ] {
        let stop = supervisor.front().stop.clone();
        supervisor.front().add(name, async move {
            serve(listener, router, limits, stop).await;
            Ok(())
        });
    }
    Ok(addresses)
}

async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{setting}: cannot listen on {address}"))
}

/// The admin socket, for its owner alone; if other users are named, anybody may connect and the kernel's
/// word on who it is decides. A socket file that an earlier run left behind is replaced;
/// one that still answers is another daemon's.
fn bind_socket(path: &Path, peers: &[u32]) -> anyhow::Result<UnixListener> {
    let what = || format!("server.admin_socket: cannot listen on {}", path.display());
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!("{}: another daemon answers there", what());
        }
        std::fs::remove_file(path).with_context(what)?;
    }
    let listener = UnixListener::bind(path).with_context(what)?;
    let mode = if peers.is_empty() { 0o600 } else { 0o666 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).with_context(what)?;
    Ok(listener)
}

/// Root and the daemon's own user may always use the socket: they could take the ledger itself.
fn peer_uids(configured: &[u32]) -> Vec<u32> {
    let mut uids = vec![0, rustix::process::geteuid().as_raw()];
    uids.extend_from_slice(configured);
    uids
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}, process {}", std::process::id())
}

/// A directory of our own, closed to others, if it is not there yet.
pub(super) fn make_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the directory {} cannot be made", path.display()))
}
