//! Virtual time: one thread runs a future, and whenever everything waits, time jumps to the next
//! sleeper. A run takes no real time, and the same run takes the same steps.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use backstop::ports::{Clock, Entropy};
use jiff::{SignedDuration, Timestamp};

/// Longer than any run: one that passes it hangs.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Default)]
pub struct VirtualClock(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    now: Duration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl VirtualClock {
    /// Goes to the next sleeper; false when nobody sleeps.
    fn advance(&self) -> bool {
        let mut inner = self.0.lock().unwrap();
        let Some(((at, _), waker)) = inner.sleepers.pop_first() else {
            return false;
        };
        inner.now = inner.now.max(at);
        assert!(inner.now < FOREVER, "the run does not end");
        drop(inner);
        waker.wake();
        true
    }
}

struct Sleep<'a> {
    clock: &'a VirtualClock,
    until: Duration,
    id: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.clock.0.lock().unwrap();
        if inner.now >= self.until {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            inner.next += 1;
            inner.next
        });
        inner.sleepers.insert((self.until, id), context.waker().clone());
        drop(inner);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.0.lock().unwrap().sleepers.remove(&(self.until, id));
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.monotonic()).unwrap();
        Timestamp::from_second(1_800_000_000)
            .unwrap()
            .checked_add(since)
            .unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.monotonic().saturating_add(duration);
        Sleep {
            clock: self,
            until,
            id: None,
        }
        .await;
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a future to its end in virtual time.
pub fn run<T>(clock: &VirtualClock, future: impl Future<Output = T>) -> T {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if flag.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
        } else {
            assert!(clock.advance(), "everything waits and nobody sleeps");
        }
    }
}

/// Counts up: ids differ and are the same in every run.
#[derive(Default)]
pub struct Counting(Mutex<u64>);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let mut count = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *count += 1;
            let mixed = count.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            chunk.copy_from_slice(&mixed[..chunk.len()]);
        }
    }
}

#[test]
fn time_jumps_to_the_next_sleeper() {
    let clock = VirtualClock::default();
    let order = run(&clock, async {
        let order = Mutex::new(Vec::new());
        let sleeper = |seconds: u64| {
            let (clock, order) = (&clock, &order);
            async move {
                clock.sleep(Duration::from_secs(seconds)).await;
                order.lock().unwrap().push((seconds, clock.monotonic().as_secs()));
            }
        };
        futures_util::join!(sleeper(3600), sleeper(5), sleeper(60));
        order.into_inner().unwrap()
    });
    assert_eq!(order, [(5, 5), (60, 60), (3600, 3600)]);
}
