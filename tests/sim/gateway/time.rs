//! Virtual time for what spawns: a runtime of one thread, whose clock goes to the next sleeper whenever
//! nothing else is ready.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use backstop::ports::Clock;
use jiff::{SignedDuration, Timestamp};

/// Longer than any run: one that passes it hangs.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Default)]
pub(super) struct Time(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    now: Duration,
    /// How far the wall clock is off.
    skew: SignedDuration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl Time {
    fn advance(&self) {
        let first = {
            let mut inner = self.0.lock().unwrap();
            let Some(((at, _), waker)) = inner.sleepers.pop_first() else {
                return;
            };
            inner.now = inner.now.max(at);
            assert!(inner.now < FOREVER, "the run does not end");
            waker
        };
        first.wake();
    }
}

struct Sleep {
    time: Arc<Time>,
    until: Duration,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let time = Arc::clone(&self.time);
        let mut inner = time.0.lock().unwrap();
        if inner.now >= self.until {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            inner.next += 1;
            inner.next
        });
        inner.sleepers.insert((self.until, id), context.waker().clone());
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.time.0.lock().unwrap().sleepers.remove(&(self.until, id));
        }
    }
}

/// A clock on that time.
#[derive(Clone, Default)]
pub(super) struct SimClock(Arc<Time>);

impl SimClock {
    /// From now on the wall clock is so far off.
    pub(super) fn set_skew(&self, skew: SignedDuration) {
        self.0.0.lock().unwrap().skew = skew;
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let inner = self.0.0.lock().unwrap();
        let since = SignedDuration::try_from(inner.now).unwrap();
        Timestamp::from_second(1_800_000_000).unwrap() + since + inner.skew
    }

    fn monotonic(&self) -> Duration {
        self.0.0.lock().unwrap().now
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.monotonic().saturating_add(duration);
        let time = Arc::clone(&self.0);
        Sleep { time, until, id: None }.await;
    }
}

/// Runs to the end of the future in virtual time; what it spawned and left is dropped with the runtime.
pub(super) fn run<T>(clock: &SimClock, future: impl Future<Output = T>) -> T {
    let time = Arc::clone(&clock.0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .on_thread_park(move || time.advance())
        .build()
        .unwrap();
    runtime.block_on(future)
}

#[test]
fn time_jumps_to_the_next_sleeper() {
    let clock = SimClock::default();
    let at = run(&clock, async {
        let other = clock.clone();
        let sleeper = tokio::task::JoinSet::from_iter([async move {
            other.sleep(Duration::from_secs(3600)).await;
            other.monotonic()
        }]);
        clock.sleep(Duration::from_secs(5)).await;
        let first = clock.monotonic();
        (first, sleeper.join_all().await)
    });
    assert_eq!(at, (Duration::from_secs(5), vec![Duration::from_secs(3600)]));
}
