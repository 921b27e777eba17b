use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;

/// A clock that stands until it is set.
#[derive(Debug, Default)]
struct Stopped(AtomicU64);

#[async_trait]
impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, _duration: Duration) {}
}

fn agent() -> AgentId {
    AgentId::new("support").expect("an agent id")
}

fn settings(rate_limit: &str, default: (u32, u32)) -> ToolSettings {
    let manifest = format!(
        r#"{{"schema_version": "v1", "agent_id": "support", "blacklisted_tools": ["shell"],
             "allowed_tools": [{{"tool_name": "search", "read_only": true, "rate_limit": {rate_limit}}},
                               {{"tool_name": "refund"}}]}}"#
    );
    let manifest = Manifest::parse(manifest.as_bytes()).expect("sound");
    ToolSettings {
        manifests: BTreeMap::from([(agent(), Arc::new(manifest))]),
        default_rate: Rate::new(default.0, default.1).expect("within bounds"),
    }
}

struct Bench {
    clock: Arc<Stopped>,
    settings: Arc<ArcSwap<ToolSettings>>,
    tools: Tools,
}

fn bench(rate_limit: &str) -> Bench {
    let clock = Arc::new(Stopped::default());
    let settings = Arc::new(ArcSwap::from_pointee(settings(rate_limit, (1, 60))));
    let tools = Tools::new(Arc::clone(&settings), Arc::clone(&clock) as Arc<dyn Clock>);
    Bench { clock, settings, tools }
}

impl Bench {
    fn at(&self, millis: u64) {
        self.clock.0.store(millis, Ordering::SeqCst);
    }

    /// What remains, or in how many seconds to ask again.
    fn search(&self) -> Result<u32, u64> {
        match self.tools.take(&agent(), "search") {
            Ok(permit) => Ok(permit.remaining),
            Err(CallRejection::ToolRate { retry_after_s, .. }) => Err(retry_after_s),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn each_tool_has_its_own_rate() {
    let bench = bench(r#"{"requests": 2, "per_seconds": 10}"#);
    let permit = bench.tools.take(&agent(), "search").expect("granted");
    assert_eq!(
        (permit.tool.as_str(), permit.read_only, permit.remaining),
        ("search", true, 1)
    );
    assert_eq!(bench.search(), Ok(0));
    bench.at(2_500);
    assert_eq!(
        bench.search(),
        Err(8),
        "7.5 s, and a second less would be refused again"
    );
    let refund = bench.tools.take(&agent(), "refund").expect("another tool");
    assert_eq!(
        (refund.read_only, refund.remaining, refund.rate.per_seconds()),
        (false, 0, 60)
    );
    assert!(bench.tools.take(&agent(), "refund").is_err(), "the config's default");
    bench.at(10_000);
    assert_eq!(bench.search(), Ok(1));
}

#[test]
fn what_is_not_listed_is_refused_and_uses_nothing() {
    let bench = bench(r#"{"requests": 1, "per_seconds": 10}"#);
    let stranger = AgentId::new("stranger").expect("an agent id");
    assert_eq!(
        bench.tools.take(&stranger, "search").err(),
        Some(CallRejection::NoManifest)
    );
    let unlisted = Some(CallRejection::ToolNotInManifest("Search".to_owned()));
    assert_eq!(bench.tools.check(&agent(), "Search").err(), unlisted);
    assert_eq!(bench.tools.take(&agent(), "Search").err(), unlisted);
    let blacklisted = Some(CallRejection::ToolBlacklisted("SHELL".to_owned()));
    assert_eq!(bench.tools.take(&agent(), "SHELL").err(), blacklisted);
    assert_eq!(bench.tools.check(&agent(), "search"), Ok(()));
    assert_eq!(bench.search(), Ok(0));
}

#[test]
fn uses_outlive_a_reload() {
    let bench = bench(r#"{"requests": 2, "per_seconds": 10}"#);
    assert_eq!((bench.search(), bench.search()), (Ok(1), Ok(0)));
    let new = |rate_limit: &str| bench.settings.store(Arc::new(settings(rate_limit, (1, 60))));
    new(r#"{"requests": 2, "per_seconds": 10}"#);
    assert_eq!(bench.search(), Err(10));
    // Gone and back again.
    let none = ToolSettings {
        manifests: BTreeMap::new(),
        ..settings(r#"{"requests": 2, "per_seconds": 10}"#, (1, 60))
    };
    bench.settings.store(Arc::new(none));
    assert_eq!(
        bench.tools.take(&agent(), "search").err(),
        Some(CallRejection::NoManifest)
    );
    new(r#"{"requests": 3, "per_seconds": 10}"#);
    assert_eq!((bench.search(), bench.search()), (Ok(0), Err(10)));
}

#[test]
fn many_at_once_get_exactly_the_limit() {
    let bench = bench(r#"{"requests": 50, "per_seconds": 10}"#);
    let granted = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..50).filter(|_| bench.search().is_ok()).count()))
            .collect();
        let counts = asking.into_iter().map(|thread| thread.join().expect("no panic"));
        counts.sum::<usize>()
    });
    assert_eq!(granted, 50);
}

#[test]
fn what_no_rate_could_see_is_forgotten() {
    let bench = bench(r#"{"requests": 2, "per_seconds": 10}"#);
    assert_eq!(bench.search(), Ok(1));
    bench.tools.lock().sweep(Duration::from_secs(86_399));
    assert_eq!(bench.tools.lock().logs.len(), 1);
    bench.tools.lock().sweep(Duration::from_secs(86_400));
    assert!(bench.tools.lock().logs.is_empty());
}
