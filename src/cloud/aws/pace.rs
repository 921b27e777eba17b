//! So many calls a second and no more, where AWS counts them for the whole account.

use std::time::Duration;

use tokio::sync::Mutex;

/// Lets callers through one by one, a gap apart. It needs no clock: whoever is through keeps the door
/// shut for the gap before going on, so no two go on within it.
#[derive(Debug)]
pub(super) struct Pace {
    door: Mutex<()>,
    gap: Duration,
}

impl Pace {
    pub(super) fn new(gap: Duration) -> Self {
        Self {
            door: Mutex::new(()),
            gap,
        }
    }

    /// Waits for a turn. Those who wait are let through in the order in which they came.
    pub(super) async fn turn(&self) {
        let _shut = self.door.lock().await;
        tokio::time::sleep(self.gap).await;
    }
}
