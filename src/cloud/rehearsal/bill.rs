//! What one thing has cost, by the second that it ran.

use jiff::{SignedDuration, Timestamp};

use crate::domain::money::Usd;

#[derive(Debug, Clone, Default)]
pub(super) struct Bill {
    /// `None` for what has no price in this fleet: it costs nothing here.
    pub hourly: Option<Usd>,
    since: Option<Timestamp>,
    spent: Usd,
}

impl Bill {
    pub fn of(hourly: Option<Usd>) -> Self {
        Self {
            hourly,
            since: None,
            spent: Usd::ZERO,
        }
    }

    /// Runs from then on, or not.
    pub fn turn(&mut self, runs: bool, at: Timestamp) {
        self.spent = self.total(at);
        self.since = runs.then_some(at);
    }

    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Dollars an hour now.
    pub fn burn(&self) -> Usd {
        self.since.and(self.hourly).unwrap_or(Usd::ZERO)
    }

    pub fn total(&self, now: Timestamp) -> Usd {
        let (Some(since), Some(hourly)) = (self.since, self.hourly) else {
            return self.spent;
        };
        let nanos = now.duration_since(since).as_nanos().max(0);
        let hour = SignedDuration::from_hours(1).as_nanos();
        let more = i128::from(hourly.nanos()).saturating_mul(nanos) / hour;
        self.spent.saturating_add(Usd::from_i128(more).unwrap_or(Usd::MAX))
    }
}
