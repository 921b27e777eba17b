//! The part of the daemon that stands against an incident in the cloud: the watcher, the ledger, judgement
//! and the kill switch, wired as the daemon wires them, on a store in memory.
//!
//! There are no listeners and no files, so it can live in virtual time on one thread.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::cloud::rehearsal::incident::Incident;
use crate::domain::budget::{Budget, Selector};
use crate::domain::containment::plan::PlanRules;
use crate::domain::containment::state::Phase;
use crate::domain::containment::target::{CloudTargets, Guard as Guarded};
use crate::domain::id::{AgentId, BudgetId};
use crate::domain::ledger::line::{Response, Scope};
use crate::domain::money::Usd;
use crate::domain::window::Window;
use crate::fleet::{Fleet, FleetDeps, FleetSettings};
use crate::killswitch::{Creators, KillSettings, KillSwitch};
use crate::ledger::{self, Deps, LedgerSettings};
use crate::ports::{Clock, Cloud, Entropy, Notice, NoticeKind, Notifier, Store};
use crate::store::memory::MemoryStore;
use crate::watch::{Watch, WatchSettings};

/// Whom it watches, how often, and up to what.
pub struct Setup {
    pub targets: BTreeMap<AgentId, CloudTargets>,
    pub budgets: Vec<Budget>,
    pub poll_every: Duration,
}

impl Setup {
    /// The agent of an incident, with its limit a day.
    pub fn of(incident: &Incident, poll_every: Duration) -> Self {
        Self {
            targets: [(incident.agent.clone(), incident.targets())].into(),
            budgets: daily(incident.limit_usd).into_iter().collect(),
            poll_every,
        }
    }
}

/// A budget of each agent for a day, with `contain`.
pub fn daily(limit: Usd) -> Option<Budget> {
    Some(Budget {
        id: BudgetId::new("daily").ok()?,
        scope: Scope::Agent,
        label: None,
        selector: Selector::default(),
        window: Window::Day {
            timezone: "UTC".to_owned(),
        },
        limit,
        alert_at: vec![50, 80],
        response: Response::Contain,
    })
}

pub struct Guard {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    cloud: Arc<dyn Cloud>,
    pub store: Arc<MemoryStore>,
    told: Arc<Told>,
    kill: Arc<ArcSwap<KillSettings>>,
    setup: Setup,
}

/// What people were told.
#[derive(Default)]
struct Told(Mutex<Vec<Notice>>);

impl Notifier for Told {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}

/// Parts that run beside each other. Each is looked at only when it has something to do: in virtual time a
/// day is a million wakings.
type Parts<'a> = FuturesUnordered<LocalBoxFuture<'a, ()>>;

async fn all(mut parts: Parts<'_>) {
    while parts.next().await.is_some() {}
}

impl Guard {
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, cloud: Arc<dyn Cloud>, setup: Setup) -> Self {
        Self {
            clock,
            entropy,
            cloud,
            store: Arc::new(MemoryStore::new()),
            told: Arc::default(),
            kill: Arc::new(ArcSwap::from_pointee(kill_settings(&setup))),
            setup,
        }
    }

    /// Sweeps every ten minutes from now on, and not every one: a day of sweeps that find nothing is a long
    /// wait for whoever watches a simulation. What comes up is found later for it, and costs more.
    pub fn relax(&self) {
        let calm = KillSettings {
            poll_every: Duration::from_secs(60),
            hold_sweep_every: Duration::from_mins(10),
            ..(**self.kill.load()).clone()
        };
        self.kill.store(Arc::new(calm));
    }

    /// Runs while `play` does, and ends cleanly after it.
    pub async fn live<T>(&self, play: impl Future<Output = T>) -> anyhow::Result<T> {
        let store: Arc<dyn Store> = self.store.clone();
        let deps = Deps {
            store: store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            notifier: self.told.clone(),
        };
        let budgets = self.setup.budgets.clone();
        let opened = ledger::open(deps, LedgerSettings::default(), budgets, "simulation").await;
        let (ledger, task, _) = opened.context("the ledger cannot be opened")?;
        let creators = Arc::new(Creators::default());
        let made = creators.clone();
        let fleet = Fleet::new(FleetDeps {
            store: store.clone(),
            cloud: self.cloud.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            notifier: self.told.clone(),
            ledger: ledger.clone(),
            settings: Arc::new(ArcSwap::from_pointee(self.fleet_settings())),
            creators: Arc::new(move |by, read| made.set(by, read)),
        });
        let fleet = fleet.in_epoch(ledger.epoch());
        let killswitch = KillSwitch::new(
            store.clone(),
            self.cloud.clone(),
            self.clock.clone(),
            self.entropy.clone(),
            self.kill.clone(),
            self.told.clone(),
        );
        let killswitch = Arc::new(killswitch.in_epoch(ledger.epoch()).with_creators(creators));
        let (poked, told) = (killswitch.clone(), ledger.clone());
        let agents = self.setup.targets.keys().cloned().collect();
        let watch = Watch::new(
            store,
            self.clock.clone(),
            self.entropy.clone(),
            self.told.clone(),
            Arc::new(ArcSwap::from_pointee(WatchSettings {
                agents,
                // The bell rings for every trigger; looking anyway is for the news of other daemons.
                poll_every: Duration::from_secs(60),
                ..WatchSettings::default()
            })),
            Arc::new(move || {
                poked.poke();
                told.look_at_agents();
            }),
        );
        let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
        let (mut played, mut ended) = (None, None);
        {
            let triggers = ledger.triggers();
            let bell = async {
                while stop.run_until_cancelled(triggers.notified()).await.is_some() {
                    watch.poke();
                }
            };
            let plays = async {
                played = Some(play.await);
                stop.cancel();
            };
            // Nobody resets in an incident, so no line is armed again.
            let judges = watch.run(stop.clone(), |_| async { Ok(()) });
            let front: Parts<'_> = [
                plays.boxed_local(),
                fleet.run(stop.clone()).boxed_local(),
                judges.boxed_local(),
                killswitch.run(stop.clone()).boxed_local(),
                bell.boxed_local(),
            ]
            .into_iter()
            .collect();
            let front = async {
                all(front).await;
                drain.cancel();
            };
            let commits = async { ended = Some(task.run(drain.clone()).await) };
            all([front.boxed_local(), commits.boxed_local()].into_iter().collect()).await;
        }
        ended.transpose().context("the ledger did not end well")?;
        played.context("the play did not end")
    }

    fn fleet_settings(&self) -> FleetSettings {
        FleetSettings {
            targets: self.setup.targets.clone(),
            poll_every: self.setup.poll_every,
            ..FleetSettings::default()
        }
    }

    /// Whether an agent is contained now, as far as was observed.
    pub async fn is_contained(&self, agent: &AgentId) -> anyhow::Result<bool> {
        let last = self.store.containments_of(agent, 1).await?;
        Ok(last.first().is_some_and(|last| last.phase == Phase::Contained))
    }

    /// When it was first told that somebody is contained.
    pub fn contained_at(&self) -> Option<Timestamp> {
        let told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
        let contained = told.iter().find(|notice| notice.kind == NoticeKind::Contained);
        contained.map(|notice| notice.at)
    }
}

fn kill_settings(setup: &Setup) -> KillSettings {
    KillSettings {
        targets: setup.targets.clone(),
        guard: Guarded::default(),
        rules: PlanRules {
            // Creations are read, as late as CloudTrail tells of them.
            attribution_lag: Some(SignedDuration::from_mins(15)),
            ..PlanRules::default()
        },
        ..KillSettings::default()
    }
}
