//! What systemd is told: ready, reloading, stopping, and that the daemon lives.
//!
//! Without systemd (no `NOTIFY_SOCKET`) every message goes nowhere, which is fine. The watchdog is fed
//! by the runtime that everything runs on, until the ledger stops: one that hangs is started again.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// systemd wants the time at which the reload began, on its own clock.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd cannot be told"),
    }
}

/// Feeds the watchdog, if the unit has one, at half its interval while `alive`.
pub(super) async fn watch(stop: CancellationToken, alive: impl Fn() -> bool) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        stop.cancelled().await;
        return;
    };
    let every = (limit / 2).max(Duration::from_millis(100));
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        if alive() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
