//! Work on large bodies: done beside the workers of the runtime, and bounded in all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::failure::CallFailure;
use crate::domain::rejection::Rejection;
use crate::ports::Clock;

/// A body that is worked on elsewhere than on a worker of the runtime, in bytes: it takes milliseconds.
const LARGE: usize = 128 * 1024;
/// Bodies that are worked on at once, in all, in kilobytes: parsed JSON takes many times its text.
const AT_WORK_KB: u32 = 64 * 1024;
/// How long a body waits for its turn.
const TURN: Duration = Duration::from_secs(10);

pub(super) struct Work {
    room: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl Work {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            room: Arc::new(Semaphore::new(AT_WORK_KB as usize)),
            clock,
        }
    }

    /// Works on a body of this size. The room for it is taken until the work is done, and not only for as
    /// long as somebody waits for it: a client that goes away stops nothing that has begun.
    pub(super) async fn on<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
    ) -> Result<T, CallFailure> {
        if bytes <= LARGE {
            return Ok(work()?);
        }
        let kilobytes = u32::try_from(bytes / 1024 + 1).unwrap_or(AT_WORK_KB).min(AT_WORK_KB);
        let room = tokio::select! {
            biased;
            // It is never closed.
            room = Arc::clone(&self.room).acquire_many_owned(kilobytes) => room.map_err(|_| CallFailure::Internal)?,
            () = self.clock.sleep(TURN) => return Err(CallFailure::Overloaded),
        };
        let working = tokio::task::spawn_blocking(move || {
            let _room = room;
            work()
        });
        match working.await {
            Ok(done) => Ok(done?),
            Err(panicked) => {
                tracing::error!(%panicked, "the work on a request failed");
                Err(CallFailure::Internal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::system::SystemClock;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_room() {
        let work = Work::new(Arc::new(SystemClock));
        let room = Arc::clone(&work.room);
        let (go_on, waits) = mpsc::channel::<()>();
        let mut left = Box::pin(work.on(8 << 20, move || Ok(waits.recv().is_ok())));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        assert!(room.available_permits() < AT_WORK_KB as usize, "it is worked on");
        go_on.send(()).expect("it still works");
        drop(room.acquire_many(AT_WORK_KB).await.expect("never closed"));
    }
}
