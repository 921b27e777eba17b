//! Reloads on real rooms over a store in memory: recorded before in force, one after another, and whole.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Environment, Loader};
use crate::domain::id::TaskId;
use crate::domain::ledger::posting::Attribution;
use crate::hooks::LogNotifier;
use crate::ledger::{self, Deps};
use crate::ports::Clock;
use crate::store::memory::MemoryStore;
use crate::store::memory::faults::{Faults, Odds};
use crate::system::{SystemClock, SystemEntropy};

/// How long a test waits for what takes a moment.
const SOON: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
    store: Arc<MemoryStore>,
    live: Arc<Live>,
    _ledger_task: JoinSet<()>,
}

/// `agents` agents and a budget for each with this limit.
fn config(agents: usize, limit: u32) -> String {
    let agents: String = (0..agents)
        .map(|index| format!("[[agent]]\nid = \"a{index}\"\n"))
        .collect();
    format!(
        "{agents}[[budget]]\nname = \"pocket\"\nscope = \"agent\"\nwindow = \"total\"\nlimit_usd = {limit}\n\
         response = \"pause\"\n"
    )
}

impl Bench {
    async fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("the directory is ours");
        let loader = Loader::for_daemon(Environment::default());
        let loaded = loader.load(Some(&path)).unwrap_or_else(|problems| panic!("{problems}"));
        let current = loaded.settings.clone();
        let store = Arc::new(MemoryStore::new());
        let deps = Deps {
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            notifier: Arc::new(LogNotifier),
        };
        let opened = ledger::open(deps, settings::ledger(&current, 1), settings::budgets(&current), "test").await;
        let (ledger, task, _) = opened.expect("a store in memory opens");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { task.run(CancellationToken::new()).await.expect("the ledger goes on") });
        let live = Arc::new(Live {
            catalogue: Arc::new(ArcSwap::from_pointee(catalogue::load(&current).expect("built in"))),
            agents: Arc::new(ArcSwap::from_pointee(settings::agents(&current))),
            intake: Arc::new(ArcSwap::from_pointee(settings::intake(&current))),
            kill: Arc::new(ArcSwap::from_pointee(settings::kill(&current, None))),
            fleet: Arc::new(ArcSwap::from_pointee(settings::fleet(&current))),
            watch: Arc::new(ArcSwap::from_pointee(settings::watch(&current))),
            tools: Arc::new(ArcSwap::from_pointee(settings::tools(&current))),
            gateway: Arc::new(ArcSwap::from_pointee(
                settings::gateway(&current, None).expect("no upstream, so nothing to set up"),
            )),
            settings: Arc::new(LiveSettings::new(loaded, loader)),
            own_instance: None,
            ledger,
            store: Arc::clone(&store) as Arc<dyn Store>,
            reloading: Arc::default(),
        });
        Self {
            dir,
            store,
            live,
            _ledger_task: tasks,
        }
    }

    /// Replaces the config in one step: a reload never sees half of it.
    fn configure(&self, text: &str) {
        let (path, new) = (self.dir.path().join("config.toml"), self.dir.path().join("new"));
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .expect("the directory is ours");
    }

    fn reload(&self) -> impl Future<Output = Result<Change, Problems>> + Send + 'static {
        Arc::clone(&self.live).reload(SystemClock.now())
    }

    fn limit_in_settings(&self) -> String {
        self.live.settings.current().budgets[0].budget.limit.to_string()
    }

    /// What the ledger would hold a call of the first agent to.
    async fn limit_in_force(&self) -> String {
        let call = Attribution {
            agent: AgentId::new("a0").expect("an agent id"),
            task: TaskId::none(),
            service: None,
            model: None,
            tool: None,
            labels: BTreeMap::new(),
        };
        let lines = self.live.ledger.budget_view(&call).await.expect("the store answers");
        lines[0].line.limit().to_string()
    }

    async fn recorded(&self) -> Vec<String> {
        let entries = self.store.audit(1, 1_000).await.expect("the store answers");
        entries.into_iter().map(|entry| entry.entry.reason).collect()
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_in_force() {
    let bench = Bench::new(&config(1, 10)).await;
    bench.configure(&config(2, 20));
    let full = Odds {
        full: 1_000,
        ..Odds::default()
    };
    bench.store.set_faults(Faults {
        write: full,
        ..Faults::default()
    });
    let problems = bench.reload().await.expect_err("it cannot be recorded");
    assert!(problems.to_string().contains("cannot be recorded"), "{problems}");
    assert_eq!(bench.limit_in_settings(), "10.00");
    assert_eq!(bench.limit_in_force().await, "10.00");
    assert_eq!(bench.live.agents.load().len(), 1, "nothing of it is in force");
    assert_eq!(bench.recorded().await, [""; 0]);

    // What loosens nothing needs no record, and goes through.
    bench.configure(&config(2, 10));
    bench.reload().await.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(bench.live.agents.load().len(), 2);

    bench.store.set_faults(Faults::default());
    bench.configure(&config(2, 20));
    bench.reload().await.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(bench.limit_in_force().await, "20.00");
    assert_eq!(
        bench.recorded().await,
        ["budget pocket: its limit is raised from $10.00 to $20.00"]
    );
}

/// Whoever asked for it may be gone; the rooms must agree with the settings all the same.
#[tokio::test]
async fn a_reload_that_nobody_waits_for_is_still_whole() {
    let bench = Bench::new(&config(1, 10)).await;
    bench.configure(&config(2, 20));
    let mut reload = Box::pin(bench.reload());
    assert!((&mut reload).now_or_never().is_none(), "it has begun, and is not done");
    drop(reload);
    let whole = async {
        while bench.live.agents.load().len() != 2 || bench.limit_in_force().await != "20.00" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::time::timeout(SOON, whole).await;
    assert!(
        done.is_ok(),
        "the settings have {}, the ledger {}, and there are {} agents",
        bench.limit_in_settings(),
        bench.limit_in_force().await,
        bench.live.agents.load().len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_at_once_apply_in_order() {
    let bench = Bench::new(&config(1, 1)).await;
    for round in 1..60_usize {
        let mut reloads = JoinSet::new();
        for step in 0..4 {
            // Sizes far apart: what one room is given takes longer for some than for others.
            let agents = if step % 2 == 0 { 400 } else { 1 };
            bench.configure(&config(agents, u32::try_from(round * 4 + step).expect("small")));
            reloads.spawn(bench.reload());
        }
        while let Some(done) = reloads.join_next().await {
            let done = done.expect("no panic");
            done.unwrap_or_else(|problems| panic!("{problems}"));
        }
        let current = bench.live.settings.current();
        assert_eq!(**bench.live.agents.load(), settings::agents(&current), "round {round}");
        assert_eq!(bench.limit_in_force().await, bench.limit_in_settings(), "round {round}");
    }
}
