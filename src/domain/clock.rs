//! The ledger's clock (section 6.8 of the design, D4).
//!
//! The wall clock can be set, and a window is a promise about time: a clock that goes back would open
//! yesterday's window again, and one that jumps ahead would open tomorrow's budget today. So:
//! - the ledger's time never goes back: it stands still at its mark (the durable high-water mark) until
//!   the wall clock has caught up;
//! - a forward jump of more than an hour against the monotonic clock is not believed: the ledger's time
//!   goes on at the monotonic clock's pace, and new spend stops, until the wall clock returns or an
//!   operator accepts it. Smaller forward steps are believed, but they draw on an allowance of one hour
//!   that refills over a day, so a jump cannot be made of many small steps;
//! - a suspend is no jump, since the monotonic clock is the boot-time one, which counts it.
//!
//! The reference is the highest line of (wall, monotonic) that was ever believed, so a clock that went
//! back may return without being taken for a jump. Across a restart nothing can be told from a long
//! stop, so the first observation is believed, and only the mark binds it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Forward steps that are believed: this much at once, refilled over [`REFILL`].
pub const MAX_STEP: SignedDuration = SignedDuration::from_hours(1);

/// How long the allowance takes to refill from empty.
pub const REFILL: SignedDuration = SignedDuration::from_hours(24);

/// How far behind the wall clock may be before anybody is told: small steps of a clock that is kept true,
/// and other daemons on the same ledger, put it behind by this much every day.
pub const MAX_LAG: SignedDuration = SignedDuration::from_secs(5);

/// What an observation of the clocks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Steady,
    /// The wall clock is behind the mark; the ledger's time stands still.
    Behind {
        by: SignedDuration,
    },
    /// The wall clock is ahead of what the monotonic clock allows: no new spend.
    Jumped {
        by: SignedDuration,
    },
}

impl Verdict {
    /// Whether new holds may be admitted.
    pub fn admits(self) -> bool {
        !matches!(self, Self::Jumped { .. })
    }

    /// Whether all is well. A clock that is behind admits spend, but windows do not close and holds do
    /// not expire until it has caught up, so a person should know.
    pub fn is_ok(self) -> bool {
        match self {
            Self::Steady => true,
            Self::Behind { by } => by <= MAX_LAG,
            Self::Jumped { .. } => false,
        }
    }

    /// Its name, for status and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Behind { .. } => "behind",
            Self::Jumped { .. } => "jumped",
        }
    }

    /// How far the wall clock is from the ledger's time, either way.
    pub const fn off_by(self) -> SignedDuration {
        match self {
            Self::Steady => SignedDuration::ZERO,
            Self::Behind { by } | Self::Jumped { by } => by,
        }
    }
}

/// The ledger's time, and whether to trust it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub ledger_now: Timestamp,
    pub verdict: Verdict,
}

/// The rules' state.
#[derive(Debug, Clone)]
pub struct ClockGuard {
    /// The reference line: at `base_mono` it was `base_wall`.
    base_wall: Timestamp,
    base_mono: Duration,
    /// Forward steps that were believed and have not been refilled.
    used: SignedDuration,
    mark: Timestamp,
}

impl ClockGuard {
    /// Starts from the first observation and the durable mark.
    pub fn new(wall: Timestamp, mono: Duration, mark: Timestamp) -> Self {
        Self {
            base_wall: wall,
            base_mono: mono,
            used: SignedDuration::ZERO,
            mark: mark.max(wall),
        }
    }

    /// The highest time that the ledger has used.
    pub fn mark(&self) -> Timestamp {
        self.mark
    }

    /// Another process may have raised the durable mark.
    pub fn raise_mark(&mut self, mark: Timestamp) {
        self.mark = self.mark.max(mark);
    }

    pub fn observe(&mut self, wall: Timestamp, mono: Duration) -> Reading {
        let elapsed = signed(mono.saturating_sub(self.base_mono));
        let expected = add(self.base_wall, elapsed);
        let refill = refilled(elapsed);
        let used = if self.used > refill {
            self.used - refill
        } else {
            SignedDuration::ZERO
        };
        let step = wall.duration_since(expected);
        let verdict = if step > MAX_STEP - used {
            self.mark = self.mark.max(expected);
            Verdict::Jumped { by: step }
        } else {
            if step > SignedDuration::ZERO {
                self.base_wall = wall;
                self.used = used + step;
            } else {
                self.base_wall = expected;
                self.used = used;
            }
            self.base_mono = self.base_mono.max(mono);
            let by = self.mark.duration_since(wall);
            if by > SignedDuration::ZERO {
                Verdict::Behind { by }
            } else {
                self.mark = wall;
                Verdict::Steady
            }
        };
        Reading {
            ledger_now: self.mark,
            verdict,
        }
    }

    /// An operator says that the wall clock is right. The mark is set to it, even back.
    pub fn accept(&mut self, wall: Timestamp, mono: Duration) {
        *self = Self {
            base_wall: wall,
            base_mono: mono,
            used: SignedDuration::ZERO,
            mark: wall,
        };
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn refilled(elapsed: SignedDuration) -> SignedDuration {
    let ratio = i32::try_from(REFILL.as_secs() / MAX_STEP.as_secs()).unwrap_or(i32::MAX);
    elapsed / ratio
}

fn add(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(START + second).unwrap()
    }

    fn mono(second: u64) -> Duration {
        Duration::from_secs(1_000 + second)
    }

    fn guard() -> ClockGuard {
        ClockGuard::new(at(0), mono(0), at(-100))
    }

    #[test]
    fn a_steady_clock_is_followed() {
        let mut guard = guard();
        for second in 1..100 {
            let reading = guard.observe(at(second), mono(second.unsigned_abs()));
            assert_eq!(reading.verdict, Verdict::Steady);
            assert_eq!(reading.ledger_now, at(second));
        }
    }

    #[test]
    fn time_stands_still_until_a_clock_that_went_back_has_caught_up() {
        let mut guard = guard();
        guard.observe(at(50), mono(50));
        let back = guard.observe(at(-7000), mono(60));
        assert_eq!(back.ledger_now, at(50));
        assert!(matches!(back.verdict, Verdict::Behind { .. }));
        assert!(back.verdict.admits());
        // It returns to where it was: two hours forward, and no jump.
        let returned = guard.observe(at(70), mono(70));
        assert_eq!((returned.ledger_now, returned.verdict), (at(70), Verdict::Steady));
    }

    #[test]
    fn the_durable_mark_binds_the_first_observation() {
        let mut guard = ClockGuard::new(at(0), mono(0), at(500));
        assert_eq!(guard.observe(at(1), mono(1)).ledger_now, at(500));
        assert_eq!(guard.observe(at(501), mono(501)).ledger_now, at(501));
    }

    #[test]
    fn a_jump_of_more_than_an_hour_stops_spend_until_the_clock_returns() {
        let mut guard = guard();
        let jumped = guard.observe(at(3_600 + 12), mono(10));
        assert_eq!(
            jumped.verdict,
            Verdict::Jumped {
                by: SignedDuration::from_secs(3_602)
            }
        );
        assert!(!jumped.verdict.admits());
        assert_eq!(jumped.ledger_now, at(10));
        assert_eq!(guard.observe(at(7_200), mono(20)).ledger_now, at(20));
        let returned = guard.observe(at(30), mono(30));
        assert_eq!((returned.ledger_now, returned.verdict), (at(30), Verdict::Steady));
    }

    #[test]
    fn an_operator_may_accept_a_jump_and_a_way_back() {
        let mut guard = guard();
        assert!(!guard.observe(at(90_000), mono(10)).verdict.admits());
        guard.accept(at(90_000), mono(11));
        let reading = guard.observe(at(90_001), mono(12));
        assert_eq!((reading.ledger_now, reading.verdict), (at(90_001), Verdict::Steady));
        guard.accept(at(20), mono(20));
        assert_eq!(guard.observe(at(21), mono(21)).ledger_now, at(21));
    }

    #[test]
    fn a_suspend_is_no_jump_since_the_boot_time_clock_counts_it() {
        let mut guard = guard();
        let reading = guard.observe(at(8 * 3_600), mono(8 * 3_600));
        assert_eq!(reading.verdict, Verdict::Steady);
    }

    #[test]
    fn a_jump_cannot_be_made_of_small_steps() {
        let mut guard = guard();
        let mut wall = 0;
        let stopped = (1..100_u64).any(|second| {
            wall += 600;
            !guard.observe(at(wall), mono(second)).verdict.admits()
        });
        assert!(stopped);
        assert!(guard.mark() <= at(3_600 + 100));
    }

    #[test]
    fn small_corrections_over_days_are_believed() {
        let mut guard = guard();
        let mut wall = 0;
        for day in 1..30_u64 {
            wall += 86_400 + 1_800;
            assert!(
                guard.observe(at(wall), mono(day * 86_400)).verdict.admits(),
                "day {day}"
            );
        }
    }

    proptest! {
        #[test]
        fn it_never_goes_back_and_never_outruns_its_allowance(
            steps in prop::collection::vec((-20_000_i64..20_000, 0_u64..5_000), 1..60)
        ) {
            let mut guard = guard();
            let (mut wall, mut elapsed, mut last) = (0_i64, 0_u64, guard.mark());
            for (jump, passed) in steps {
                wall += jump + i64::try_from(passed).unwrap();
                elapsed += passed;
                let reading = guard.observe(at(wall), mono(elapsed));
                prop_assert!(reading.ledger_now >= last);
                last = reading.ledger_now;
                // One hour at once and one an elapsed day.
                let allowed = i64::try_from(elapsed + elapsed / 24).unwrap() + 3_600 + 60;
                prop_assert!(reading.ledger_now <= at(allowed), "{reading:?} after {elapsed} s");
            }
        }
    }
}
