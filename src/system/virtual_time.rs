//! Virtual time: one thread runs a future, and whenever everything waits, time jumps to the next sleeper.
//!
//! A day of an incident goes by in a second, and the same run takes the same steps: sleepers wake in the
//! order of their times, and those of the same time in the order in which they came. For the incidents of
//! `backstop demo` and for simulations; nothing here asks the machine's clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::ports::{Clock, Entropy};

/// Longer than any run: one that passes it hangs.
const FOREVER: Duration = Duration::from_hours(30 * 24);

/// When a clock begins that nobody gave a time to.
const BEGINS: i64 = 1_800_000_000;

/// Why a run did not come to its end. It is a mistake of what was run, and no state of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    #[error("everything waits, and nobody for a time")]
    NobodySleeps,
    #[error("the run does not end")]
    ForEver,
}

/// A clock that stands still while anything can be done.
pub struct VirtualClock {
    began: Timestamp,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    now: Duration,
    next: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::starting_at(Timestamp::from_second(BEGINS).unwrap_or_default())
    }
}

impl VirtualClock {
    pub fn starting_at(began: Timestamp) -> Self {
        Self {
            began,
            inner: Mutex::default(),
        }
    }

    /// Goes to the next sleeper.
    fn advance(&self) -> Result<(), Stuck> {
        let mut inner = self.inner();
        let ((at, _), waker) = inner.sleepers.pop_first().ok_or(Stuck::NobodySleeps)?;
        inner.now = inner.now.max(at);
        let ends = inner.now < FOREVER;
        drop(inner);
        waker.wake();
        if ends { Ok(()) } else { Err(Stuck::ForEver) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut inner = self.clock.inner();
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
            self.clock.inner().sleepers.remove(&(self.until, id));
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.monotonic()).unwrap_or(SignedDuration::MAX);
        self.began.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.inner().now
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
pub fn run<T>(clock: &VirtualClock, future: impl Future<Output = T>) -> Result<T, Stuck> {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if flag.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Ok(value);
            }
        } else {
            clock.advance()?;
        }
    }
}

/// Counts up: ids differ and are the same in every run. Never where an id has to be hard to guess.
#[derive(Default)]
pub struct Counting(Mutex<u64>);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *count += 1;
            let mixed = count.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            for (byte, mixed) in chunk.iter_mut().zip(mixed) {
                *byte = mixed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(order.unwrap(), [(5, 5), (60, 60), (3600, 3600)]);
        assert_eq!(clock.now().as_second(), BEGINS + 3_600);
    }

    #[test]
    fn a_run_that_cannot_end_says_so() {
        let clock = VirtualClock::default();
        assert_eq!(run(&clock, std::future::pending::<()>()), Err(Stuck::NobodySleeps));
        let for_ever = run(&clock, async {
            loop {
                clock.sleep(Duration::from_hours(24)).await;
            }
        });
        assert_eq!(for_ever, Err::<(), _>(Stuck::ForEver));
    }
}
