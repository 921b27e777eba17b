//! A daemon's part that watches: a ledger, a watcher, and a fleet that somebody plays with.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use backstop::cloud::rehearsal::Rehearsal;
use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec, PrincipalSpec};
use backstop::domain::budget::{Budget, Selector};
use backstop::domain::containment::attribution::Readings;
use backstop::domain::containment::hourly::hourly;
use backstop::domain::containment::target::{CloudTargets, Principal, Region};
use backstop::domain::fleet::asset::AssetRef;
use backstop::domain::id::{AgentId, BudgetId};
use backstop::domain::ledger::auditor::audit;
use backstop::domain::ledger::line::{Response, Scope};
use backstop::domain::ledger::posting::{Basis, Trust};
use backstop::domain::money::Usd;
use backstop::domain::window::Window;
use backstop::fleet::{Fleet, FleetDeps, FleetSettings};
use backstop::ledger::{self, Deps, LedgerSettings};
use backstop::ports::{Clock, Cloud, Notice, Notifier, Store, Trigger};
use backstop::store::memory::MemoryStore;
use futures_util::future::{Either, select};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::kill::{Counting, CrashCloud, CrashPoint, CrashStore, VirtualClock, run};

pub const ACCOUNT: &str = "123456789012";
pub const TAG: &str = "backstop:agent";
pub const HERE: &str = "us-east-1";
pub const THERE: &str = "us-west-2";
pub const POLL: Duration = Duration::from_secs(15);

pub fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/agents/{name}")
}

pub fn profile(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}")
}

pub fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Notice>>);

impl Notifier for Heard {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

/// The daemon's clock: somebody may set it, and the world goes on all the same.
pub struct Wall {
    pub world: Arc<VirtualClock>,
    pub off_by: Mutex<SignedDuration>,
}

#[async_trait]
impl Clock for Wall {
    fn now(&self) -> Timestamp {
        self.world.now().checked_add(*self.off_by.lock().unwrap()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.world.monotonic()
    }

    async fn sleep(&self, duration: Duration) {
        self.world.sleep(duration).await;
    }
}

pub struct Lab {
    pub clock: Arc<VirtualClock>,
    pub wall: Arc<Wall>,
    pub cloud: Arc<Rehearsal>,
    pub store: Arc<MemoryStore>,
    pub heard: Arc<Heard>,
    /// What each agent's principals made, as the kill switch is told.
    pub created: Arc<Mutex<BTreeMap<AgentId, BTreeSet<AssetRef>>>>,
    /// How far the record of it was read, as it is told with that.
    pub readings: Arc<Mutex<Readings>>,
    pub entropy: Arc<Counting>,
    pub settings: Arc<ArcSwap<FleetSettings>>,
    pub budgets: Vec<Budget>,
}

/// A budget of each agent for all time.
pub fn cap(limit: &str) -> Budget {
    Budget {
        id: BudgetId::new("cap").unwrap(),
        scope: Scope::Agent,
        label: None,
        selector: Selector::default(),
        window: Window::Total,
        limit: usd(limit),
        alert_at: vec![],
        response: Response::Contain,
    }
}

/// Dearer than most, so that seconds show.
pub const TYPE: &str = "m7i.48xlarge";

/// What one costs an hour, here as there.
pub fn price() -> Usd {
    hourly(TYPE, &Region(HERE.to_owned())).usd
}

pub fn machine(region: &str, owner: Option<&str>) -> MachineSpec {
    let machine = MachineSpec::new(region, TYPE);
    match owner {
        Some(name) => machine.tag(TAG, name),
        None => machine,
    }
}

impl Lab {
    /// Two agents, two regions, and nothing that runs yet.
    pub fn new(budgets: Vec<Budget>) -> Self {
        let mut spec = FleetSpec::new(ACCOUNT, &[HERE, THERE]);
        for name in ["a", "b"] {
            let mut principal = PrincipalSpec::role(&role(name));
            principal.profile_arns = vec![profile(name)];
            spec = spec.principal(principal);
        }
        spec.prices = BTreeMap::from([(TYPE.to_owned(), price())]);
        let clock = Arc::new(VirtualClock::default());
        let targets = |name: &str| CloudTargets {
            account: ACCOUNT.to_owned(),
            principals: vec![Principal::Role(role(name))],
            tags: BTreeMap::from([(TAG.to_owned(), name.to_owned())]),
            regions: Vec::new(),
        };
        let settings = FleetSettings {
            targets: ["a", "b"].map(|name| (agent(name), targets(name))).into(),
            poll_every: POLL,
            ..FleetSettings::default()
        };
        Self {
            cloud: Arc::new(Rehearsal::new(spec, clock.clone())),
            store: Arc::new(MemoryStore::new()),
            heard: Arc::default(),
            created: Arc::default(),
            readings: Arc::default(),
            entropy: Arc::default(),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            budgets,
            wall: Arc::new(Wall {
                world: clock.clone(),
                off_by: Mutex::default(),
            }),
            clock,
        }
    }

    /// Another daemon's view of the same world.
    pub fn twin(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            wall: self.wall.clone(),
            cloud: self.cloud.clone(),
            store: self.store.clone(),
            heard: self.heard.clone(),
            created: self.created.clone(),
            readings: self.readings.clone(),
            entropy: self.entropy.clone(),
            settings: self.settings.clone(),
            budgets: self.budgets.clone(),
        }
    }

    /// A daemon from its start to its clean end, while `play` runs; false if it crashed before that.
    pub async fn live_that(&self, crash: &Arc<CrashPoint>, play: impl Future<Output = ()>) -> bool {
        let store: Arc<dyn Store> = Arc::new(CrashStore(self.store.clone(), crash.clone()));
        let cloud: Arc<dyn Cloud> = Arc::new(CrashCloud(self.cloud.clone(), crash.clone()));
        self.daemon(store, cloud, crash, play).await
    }

    /// One that does not crash. What the fleet had spent when it was told to end.
    pub async fn live(&self, play: impl Future<Output = ()>) -> Usd {
        let spent = std::cell::Cell::new(Usd::ZERO);
        let play = async {
            play.await;
            spent.set(self.cloud.spent());
        };
        assert!(self.live_that(&CrashPoint::never(), play).await);
        spent.get()
    }

    pub async fn daemon(
        &self,
        store: Arc<dyn Store>,
        cloud: Arc<dyn Cloud>,
        crash: &Arc<CrashPoint>,
        play: impl Future<Output = ()>,
    ) -> bool {
        let whole = async {
            let deps = Deps {
                store: store.clone(),
                clock: self.wall.clone(),
                entropy: self.entropy.clone(),
                notifier: self.heard.clone(),
            };
            let opened = ledger::open(deps, LedgerSettings::default(), self.budgets.clone(), "lab").await;
            let (ledger, task, _) = opened.unwrap();
            let fleet = Fleet::new(FleetDeps {
                store,
                cloud,
                clock: self.wall.clone(),
                entropy: self.entropy.clone(),
                notifier: self.heard.clone(),
                ledger: ledger.clone(),
                settings: self.settings.clone(),
                creators: {
                    let created = self.created.clone();
                    let readings = self.readings.clone();
                    Arc::new(move |made, read| {
                        if let Some(made) = made {
                            *created.lock().unwrap() = made;
                        }
                        *readings.lock().unwrap() = read;
                    })
                },
            });
            let fleet = fleet.in_epoch(ledger.epoch());
            let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
            let front = async {
                let played = async {
                    play.await;
                    stop.cancel();
                };
                futures_util::join!(fleet.run(stop.clone()), played);
                drain.cancel();
            };
            let (ended, ()) = futures_util::join!(task.run(drain.clone()), front);
            ended.unwrap();
        };
        let crashed = pin!(crash.crashed());
        matches!(select(pin!(whole), crashed).await, Either::Left(_))
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(&self.clock, future)
    }

    pub async fn wait(&self, seconds: u64) {
        self.clock.sleep(secs(seconds)).await;
    }

    /// What was posted for an agent, or for all; every posting must be an estimate of ours, and the books
    /// in order.
    pub async fn posted(&self, of: Option<&str>) -> Usd {
        let view = self.store.audit_view().await.unwrap();
        assert_eq!(audit(&view.parts(self.clock.now())), []);
        let ours = |one: &backstop::domain::ledger::posting::Posting| {
            (one.trust, one.basis) == (Trust::Cloud, Basis::Estimated)
        };
        assert!(view.postings.iter().all(ours), "{:#?}", view.postings);
        let own = view.postings.iter();
        let own = own.filter(|one| of.is_none_or(|name| one.attribution.agent == agent(name)));
        own.map(|one| one.amount).sum()
    }

    pub async fn triggers(&self) -> Vec<Trigger> {
        self.store.pending_triggers(100).await.unwrap()
    }

    /// Sets the daemon's clock so far off.
    pub fn set_clock(&self, off_by: SignedDuration) {
        *self.wall.off_by.lock().unwrap() = off_by;
    }

    pub fn set_watch(&self, watch: bool) {
        let settings = FleetSettings {
            watch,
            ..(*self.settings.load_full()).clone()
        };
        self.settings.store(Arc::new(settings));
    }

    /// Waits until a trigger is there, and says when that was.
    pub async fn until_triggered(&self, at_most: u64) -> Timestamp {
        for _ in 0..at_most * 10 {
            if !self.triggers().await.is_empty() {
                return self.clock.now();
            }
            self.clock.sleep(Duration::from_millis(100)).await;
        }
        panic!("nothing was triggered in {at_most} s");
    }
}

/// Posted is what was spent, and at most so many seconds of one machine more. What is posted is rounded up
/// once a posting, so a millionth of a dollar is nothing.
pub fn assert_charged(posted: Usd, spent: Usd, seconds: u64) {
    let hair = usd("0.000001");
    let more = price().nanos() / 3_600 * i64::try_from(seconds).unwrap();
    assert!(
        posted.saturating_add(hair) >= spent,
        "posted {posted}, and {spent} was spent"
    );
    let most = spent.saturating_add(Usd::from_nanos(more)).saturating_add(hair);
    assert!(
        posted <= most,
        "posted {posted}, and {spent} was spent; {most} is allowed"
    );
}
