//! A clock that runs faster than the machine's: for demonstrations.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::SystemClock;
use crate::ports::Clock;

/// Starts at the wall clock's time and runs `factor` times as fast.
#[derive(Debug, Clone, Copy)]
pub struct AcceleratedClock {
    began_at: Timestamp,
    began: Duration,
    factor: u32,
}

impl AcceleratedClock {
    pub fn new(factor: u32) -> Self {
        Self {
            began_at: SystemClock.now(),
            began: SystemClock.monotonic(),
            factor: factor.max(1),
        }
    }

    fn elapsed(&self) -> Duration {
        SystemClock
            .monotonic()
            .saturating_sub(self.began)
            .saturating_mul(self.factor)
    }
}

#[async_trait]
impl Clock for AcceleratedClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or(SignedDuration::MAX);
        self.began_at.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration / self.factor).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_sleep_is_as_long_as_its_own_time_says() {
        let clock = AcceleratedClock::new(1_000);
        let (before, at) = (clock.monotonic(), clock.now());
        clock.sleep(Duration::from_secs(10)).await;
        assert!(clock.monotonic() - before >= Duration::from_secs(10));
        assert!(clock.now().duration_since(at) >= SignedDuration::from_secs(10));
    }
}
