//! The kill switch with everything it stands on, in this process: a real store, the operator's side, a
//! cloud of the test's choice, and a clock that can be set forward.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use backstop::domain::containment::image::BeforeImage;
use backstop::domain::containment::state::{Containment, Mode, Phase};
use backstop::domain::id::AgentId;
use backstop::domain::judgement::reset::ResetOptions;
use backstop::killswitch::{KillSettings, KillSwitch, Next};
use backstop::ports::{Clock, Cloud, Notice, Notifier, Store};
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use backstop::system::{SystemClock, SystemEntropy};
use backstop::watch::{Watch, WatchSettings};
use jiff::Timestamp;

/// More passes than any test needs; one that needs more is stuck.
const PASSES: usize = 60;

/// The machine's clock, and how far it was set forward.
#[derive(Debug, Default)]
pub struct ForwardClock {
    ahead: AtomicU64,
}

impl ForwardClock {
    pub fn advance(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).expect("a test's time");
        self.ahead.fetch_add(millis, Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Clock for ForwardClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.ahead()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.ahead()
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

/// Keeps what people would be told.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<Notice>>);

impl Told {
    pub fn all(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Notifier for Told {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}

/// One run of the daemon's kill switch and operator's side. Dropping it is a crash.
pub struct Switch {
    pub store: Arc<dyn Store>,
    pub watch: Watch,
    pub kill: KillSwitch,
    pub told: Arc<Told>,
    agent: AgentId,
}

impl Switch {
    /// Over the store in `dir`, which outlives it.
    pub async fn start(
        dir: &Path,
        agent: &AgentId,
        cloud: Arc<dyn Cloud>,
        clock: Arc<ForwardClock>,
        settings: KillSettings,
    ) -> Self {
        let options = SqliteOptions {
            reserve_bytes: 0,
            ..SqliteOptions::new(dir.join("backstop.db"))
        };
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(options).await.expect("the directory is ours"));
        let clock: Arc<dyn Clock> = clock;
        let entropy = Arc::new(SystemEntropy);
        let told = Arc::new(Told::default());
        let watch = Watch::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            entropy.clone(),
            told.clone(),
            Arc::new(ArcSwap::from_pointee(WatchSettings {
                agents: vec![agent.clone()],
                ..WatchSettings::default()
            })),
            Arc::new(|| ()),
        );
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let kill = KillSwitch::new(Arc::clone(&store), cloud, clock, entropy, settings, told.clone());
        Self {
            store,
            watch,
            kill,
            told,
            agent: agent.clone(),
        }
    }

    pub async fn contain(&self) {
        let contained = self
            .watch
            .contain(&self.agent, Mode::Contain, "operator:test", "a test")
            .await;
        contained.expect("an agent can be contained");
    }

    /// Asks for a reset of everything, or of these machines only.
    pub async fn reset(&self, only: &[String]) {
        let options = ResetOptions {
            only: only.to_vec(),
            by: "operator:test".to_owned(),
            ..ResetOptions::default()
        };
        let begun = self.watch.reset(&self.agent, &options, async |_| Ok(())).await;
        begun.expect("a contained agent can be reset");
    }

    pub async fn live(&self) -> Option<Containment> {
        let live = self.store.live_containments().await.expect("the store reads");
        live.into_iter().find(|one| one.agent == self.agent)
    }

    /// Makes passes until the live containment is contained.
    pub async fn until_contained(&self) -> Containment {
        for _ in 0..PASSES {
            let live = self.live().await.expect("a containment lives");
            if live.phase == Phase::Contained {
                return live;
            }
            self.kill.pass(live.id).await.expect("a pass is made");
        }
        panic!("not contained after {PASSES} passes: {:#?}", self.live().await);
    }

    /// One more sweep of a containment that lives.
    pub async fn sweep(&self) -> Containment {
        let live = self.live().await.expect("a containment lives");
        self.kill.pass(live.id).await.expect("a pass is made");
        self.live().await.expect("it lives on")
    }

    /// Makes passes until no containment lives.
    pub async fn until_reset(&self) {
        for _ in 0..PASSES {
            let Some(live) = self.live().await else { return };
            let next = self.kill.pass(live.id).await.expect("a pass is made");
            assert_ne!(next, Next::Elsewhere, "nobody else drives it");
        }
        panic!("not reset after {PASSES} passes: {:#?}", self.live().await);
    }

    /// The before-images that are still owed.
    pub async fn images(&self) -> Vec<BeforeImage> {
        self.store.images(&self.agent).await.expect("the store reads")
    }
}
