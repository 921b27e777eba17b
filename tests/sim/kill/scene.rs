//! A scene: a fleet, a store, judgement and a kill switch that can die and be built anew.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use backstop::cloud::rehearsal::Rehearsal;
use backstop::cloud::rehearsal::fleet::FleetSpec;
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::image::Before;
use backstop::domain::containment::state::{Containment, Coverage, Mode, Phase};
use backstop::domain::containment::target::{CloudTargets, Guard, Principal, Region};
use backstop::domain::id::AgentId;
use backstop::domain::judgement::reset::ResetOptions;
use backstop::killswitch::{KillSettings, KillSwitch};
use backstop::ports::{Clock as _, Notice, Notifier, Store};
use backstop::store::memory::MemoryStore;
use backstop::watch::{Watch, WatchSettings};
use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::crash::{CrashCloud, CrashPoint, CrashStore};
use super::time::{Counting, VirtualClock, run};

pub const ACCOUNT: &str = "123456789012";
pub const TAG: &str = "backstop:agent";
pub const PROFILE: &str = "arn:aws:iam::123456789012:instance-profile/agent";

pub fn role() -> Principal {
    Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/agents/agent"))
}

pub fn user() -> Principal {
    Principal::User(format!("arn:aws:iam::{ACCOUNT}:user/agent"))
}

pub fn agent() -> AgentId {
    AgentId::new("agent").unwrap()
}

pub fn targets(regions: &[&str]) -> CloudTargets {
    CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![role(), user()],
        tags: BTreeMap::from([(TAG.to_owned(), "agent".to_owned())]),
        regions: regions.iter().map(|region| Region((*region).to_owned())).collect(),
    }
}

#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Notice>>);

impl Notifier for Heard {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

pub struct Scene {
    pub clock: Arc<VirtualClock>,
    pub entropy: Arc<Counting>,
    pub cloud: Arc<Rehearsal>,
    pub store: Arc<dyn Store>,
    /// The same, for what only the store in memory can.
    pub memory: Arc<MemoryStore>,
    pub heard: Arc<Heard>,
    pub settings: Arc<ArcSwap<KillSettings>>,
    pub watch_settings: Arc<ArcSwap<WatchSettings>>,
}

impl Scene {
    pub fn new(spec: FleetSpec, targets: CloudTargets) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let settings = KillSettings {
            targets: BTreeMap::from([(agent(), targets)]),
            guard: Guard {
                principals: Vec::new(),
                instances: vec!["i-guard".to_owned()],
            },
            ..KillSettings::default()
        };
        let memory = Arc::new(MemoryStore::new());
        Self {
            cloud: Arc::new(Rehearsal::new(spec, clock.clone())),
            store: memory.clone(),
            memory,
            entropy: Arc::new(Counting::default()),
            heard: Arc::new(Heard::default()),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            watch_settings: Arc::new(ArcSwap::from_pointee(WatchSettings {
                agents: vec![agent()],
                ..WatchSettings::default()
            })),
            clock,
        }
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        run(&self.clock, future)
    }

    pub fn watch(&self) -> Watch {
        Watch::new(
            self.store.clone(),
            self.clock.clone(),
            self.entropy.clone(),
            self.heard.clone(),
            self.watch_settings.clone(),
            Arc::new(|| {}),
        )
    }

    /// A kill switch as a daemon that may crash has it.
    pub fn switch_that(&self, crash: &Arc<CrashPoint>) -> KillSwitch {
        KillSwitch::new(
            Arc::new(CrashStore(self.store.clone(), crash.clone())),
            Arc::new(CrashCloud(self.cloud.clone(), crash.clone())),
            self.clock.clone(),
            self.entropy.clone(),
            self.settings.clone(),
            self.heard.clone(),
        )
    }

    pub fn switch(&self) -> KillSwitch {
        self.switch_that(&CrashPoint::never())
    }

    /// Runs the kill switch until the agent's containment is as wanted, or the daemon crashed. Whether
    /// it is as wanted.
    pub fn drive_that(&self, crash: &Arc<CrashPoint>, wanted: impl Fn(&Containment) -> bool) -> bool {
        let switch = self.switch_that(crash);
        self.run(async {
            let driver = pin!(switch.run(CancellationToken::new()));
            let crashed = pin!(crash.crashed());
            let reached = pin!(self.until(wanted));
            match select(select(driver, crashed), reached).await {
                Either::Left(_) => false,
                Either::Right(_) => true,
            }
        })
    }

    pub fn drive(&self, wanted: impl Fn(&Containment) -> bool) {
        assert!(self.drive_that(&CrashPoint::never(), wanted));
    }

    pub async fn until(&self, wanted: impl Fn(&Containment) -> bool) {
        for _ in 0..100_000 {
            if self.last().await.is_some_and(|last| wanted(&last)) {
                return;
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
        panic!("never as wanted: {:#?}", self.last().await);
    }

    pub async fn last(&self) -> Option<Containment> {
        self.store
            .containments_of(&agent(), 1)
            .await
            .unwrap()
            .into_iter()
            .next()
    }

    pub fn last_now(&self) -> Containment {
        self.run(self.last()).unwrap()
    }

    pub fn contain(&self, mode: Mode) {
        let watch = self.watch();
        self.run(watch.contain(&agent(), mode, "operator:test", "test"))
            .unwrap();
    }

    pub fn reset(&self, only: &[&str]) {
        let watch = self.watch();
        let options = ResetOptions {
            only: only.iter().map(|id| (*id).to_owned()).collect(),
            by: "operator:test".to_owned(),
            ..ResetOptions::default()
        };
        self.run(watch.reset(&agent(), &options, |_| async { Ok(()) })).unwrap();
    }

    pub fn contain_and_wait(&self) {
        self.contain(Mode::Contain);
        self.drive(is_contained);
    }

    pub fn reset_and_wait(&self, only: &[&str]) {
        self.reset(only);
        self.drive(is_closed);
    }

    pub fn status(&self) -> AgentStatus {
        self.run(self.store.agent(&agent())).unwrap().status
    }

    /// What was there before, by resource.
    pub fn images(&self) -> BTreeMap<String, Before> {
        let images = self.run(self.store.images(&agent())).unwrap();
        images
            .into_iter()
            .map(|image| (image.resource.to_string(), image.before))
            .collect()
    }

    pub fn actions(&self) -> Vec<String> {
        let entries = self.run(self.store.audit(1, 10_000)).unwrap();
        entries.into_iter().map(|entry| entry.entry.action).collect()
    }

    pub fn notices(&self) -> Vec<Notice> {
        self.heard.0.lock().unwrap().clone()
    }
}

pub fn is_contained(containment: &Containment) -> bool {
    containment.phase == Phase::Contained
}

pub fn is_closed(containment: &Containment) -> bool {
    containment.phase == Phase::Closed
}

/// Why something is still burning, as the coverage says.
pub fn why(coverage: &Coverage, id: &str) -> String {
    let line = coverage.still_burning.iter().find(|line| line.resource.ends_with(id));
    line.map(|line| line.why.clone()).unwrap_or_default()
}
