//! The clock of one simulated process: virtual time, read with a skew that faults change.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop::ports::Clock;
use jiff::{SignedDuration, Timestamp};

use super::executor::Time;

pub(super) struct SimClock {
    time: Arc<Time>,
    start: Timestamp,
    skew: Mutex<SignedDuration>,
}

impl SimClock {
    pub(super) fn new(time: Arc<Time>, start: Timestamp, skew: SignedDuration) -> Self {
        Self {
            time,
            start,
            skew: Mutex::new(skew),
        }
    }

    pub(super) fn set_skew(&self, skew: SignedDuration) {
        *self.skew.lock().unwrap() = skew;
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.time.now()).unwrap();
        self.start + elapsed + *self.skew.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(10_000) + self.time.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.time.sleep(duration).await;
    }
}
