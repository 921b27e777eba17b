//! Waiting for something to become true, with an end.
//!
//! The one place of the tests that reads a clock: a test never sleeps for a fixed time and never
//! asserts a duration; it says what it waits for and after how long it gives up.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The moment at which a wait gives up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "the one clock of the tests")]
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    #[expect(clippy::disallowed_methods, reason = "the one clock of the tests")]
    pub fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Looks until `look` finds something; `None` when the limit has passed first.
pub async fn try_until<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if deadline.has_passed() {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks until `look` finds something, and fails the test when the limit has passed first.
pub async fn until<T>(what: &str, limit: Duration, look: impl AsyncFnMut() -> Option<T>) -> T {
    match try_until(limit, look).await {
        Some(found) => found,
        None => panic!("waited {} s for {what}", limit.as_secs()),
    }
}

/// The same for code that is not async, such as the preparation of the virtual environment.
#[expect(
    clippy::disallowed_methods,
    reason = "runs on a blocking thread; the pause is between two looks"
)]
pub fn try_until_blocking<T>(deadline: Deadline, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if deadline.has_passed() {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

#[tokio::test]
async fn a_wait_ends_with_what_it_found_or_at_its_limit() {
    let mut looks = 0;
    let found = until("the third look", Duration::from_secs(30), async || {
        looks += 1;
        (looks == 3).then_some(looks)
    })
    .await;
    assert_eq!(found, 3);
    assert_eq!(try_until(Duration::ZERO, async || None::<()>).await, None);
}
