//! Retention: old postings roll up into hourly sums, a little at a time.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::config::LiveSettings;
use crate::ledger::Ledger;
use crate::ports::{Clock, Store};

const EVERY: Duration = Duration::from_secs(3_600);
/// Postings in one transaction: few enough that no commit waits long behind it.
const PIECE: u32 = 1_000;
/// Between two pieces, for the commits that gathered meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until `stop`. A roll-up that fails is tried again at the next turn; nothing depends on it but
/// the size of the file.
pub(super) async fn keep(
    settings: Arc<LiveSettings>,
    ledger: Ledger,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(clock.sleep(EVERY)).await.is_some() {
        let days = settings.current().storage.retention_days;
        let now = ledger.now();
        let Some(before) = horizon(now, days) else { continue };
        let mut rolled = 0;
        loop {
            match store.roll_up(before, now, PIECE).await {
                Ok(0) => break,
                Ok(more) => rolled += more,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "old postings were not rolled up"
                    );
                    break;
                }
            }
            if stop.run_until_cancelled(clock.sleep(PAUSE)).await.is_none() {
                return;
            }
        }
        if rolled > 0 {
            tracing::info!(postings = rolled, %before, "old postings were rolled up into hourly sums");
        }
    }
}

/// What was recorded before this time may roll up; `None` when everything is kept.
fn horizon(now: Timestamp, days: u32) -> Option<Timestamp> {
    (days > 0)
        .then(|| now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_days_keep_everything() {
        let now: Timestamp = "2026-11-20T00:00:00Z".parse().expect("a time");
        assert_eq!(horizon(now, 0), None);
        assert_eq!(horizon(now, 1), "2026-11-19T00:00:00Z".parse().ok());
    }
}
