//! Exact rate limits: never more than `requests` uses in any window of `per_seconds`.
//!
//! A bucket that refills, or a counter that starts anew at fixed times, lets nearly twice the limit
//! through around the turn. Here the times of the last `requests` uses are kept, and a use is granted when
//! the one that is `requests` uses ago has left the window: that is the definition itself, at the price
//! of eight bytes a use, which the cap on `requests` bounds. By the same list the wait is exact.
//!
//! Times are monotonic, given by the caller. One that is earlier than the last one (two callers that
//! looked at the clock at once) counts as the last one, which can only make the limit stricter.
//!
//! Old times are not dropped when they leave the window but when newer ones take their place, so that a
//! reload which lowers the limit or lengthens its window judges by what was really used. A refused use
//! is not recorded: asking too often does not push the next grant away.
//!
//! Windows are half open. A use at 0 s and one at exactly `per_seconds` are in no window together.

use std::collections::VecDeque;
use std::time::Duration;

/// Uses in a window at most: their times are kept.
pub const MAX_REQUESTS: u32 = 10_000;
/// The longest window, a day.
pub const MAX_PER_SECONDS: u32 = 86_400;

/// So many uses in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    requests: u32,
    per_seconds: u32,
}

impl Rate {
    /// `None` when either is zero or above its bound.
    pub const fn new(requests: u32, per_seconds: u32) -> Option<Self> {
        let sound = requests >= 1 && requests <= MAX_REQUESTS && per_seconds >= 1 && per_seconds <= MAX_PER_SECONDS;
        if sound {
            Some(Self { requests, per_seconds })
        } else {
            None
        }
    }

    pub const fn requests(self) -> u32 {
        self.requests
    }

    pub const fn per_seconds(self) -> u32 {
        self.per_seconds
    }

    fn window(self) -> Duration {
        Duration::from_secs(u64::from(self.per_seconds))
    }
}

/// A use that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// How many more would be granted at the same moment.
    pub remaining: u32,
}

/// When a tool was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLog {
    /// In their order; at most as many as the last rate allows.
    uses: VecDeque<Duration>,
}

impl RateLog {
    /// Records a use, or says how long it is until one is granted.
    pub fn take(&mut self, rate: Rate, now: Duration) -> Result<Granted, Duration> {
        let at = self.uses.back().map_or(now, |last| now.max(*last));
        let requests = usize::try_from(rate.requests).unwrap_or(usize::MAX);
        if let Some(index) = self.uses.len().checked_sub(requests)
            && let Some(oldest) = self.uses.get(index)
        {
            let free = oldest.saturating_add(rate.window());
            if at < free {
                return Err(free.saturating_sub(now));
            }
        }
        while self.uses.len() >= requests {
            self.uses.pop_front();
        }
        self.uses.push_back(at);
        // The first that is still in the window with this one.
        let left = self
            .uses
            .partition_point(|used| used.saturating_add(rate.window()) <= at);
        let in_window = u32::try_from(self.uses.len() - left).unwrap_or(u32::MAX);
        Ok(Granted {
            remaining: rate.requests.saturating_sub(in_window),
        })
    }

    /// Whether no rate could be judged by it any more, so that it may be forgotten.
    pub fn is_over(&self, now: Duration) -> bool {
        let longest = Duration::from_secs(u64::from(MAX_PER_SECONDS));
        self.uses.back().is_none_or(|last| last.saturating_add(longest) <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn rate(requests: u32, per_seconds: u32) -> Rate {
        Rate::new(requests, per_seconds).expect("within bounds")
    }

    #[test]
    fn the_wait_is_exact_and_a_refusal_costs_nothing() {
        let mut log = RateLog::default();
        let two = rate(2, 10);
        assert_eq!(log.take(two, ms(0)), Ok(Granted { remaining: 1 }));
        assert_eq!(log.take(two, ms(4_000)), Ok(Granted { remaining: 0 }));
        for asked in [4_000, 5_000, 9_999] {
            assert_eq!(log.take(two, ms(asked)), Err(ms(10_000 - asked)), "at {asked} ms");
        }
        assert_eq!(log.take(two, ms(10_000)), Ok(Granted { remaining: 0 }));
        assert_eq!(log.take(two, ms(10_000)), Err(ms(4_000)));
        assert_eq!(log.take(two, ms(24_000)), Ok(Granted { remaining: 1 }));
    }

    #[test]
    fn a_new_rate_judges_by_what_was_used_before_it() {
        let mut log = RateLog::default();
        for at in 0..5 {
            assert!(log.take(rate(5, 10), ms(at * 1_000)).is_ok());
        }
        // Lowered to two in ten seconds: the uses at 3 s and 4 s are in the way until the first is out.
        assert_eq!(log.take(rate(2, 10), ms(5_000)), Err(ms(8_000)));
        assert_eq!(log.take(rate(2, 10), ms(13_000)), Ok(Granted { remaining: 0 }));
        // A longer window sees further back than the old one did.
        let mut log = RateLog::default();
        assert!(log.take(rate(1, 1), ms(0)).is_ok());
        assert_eq!(log.take(rate(1, 60), ms(30_000)), Err(ms(30_000)));
        // A raised one grants at once.
        assert_eq!(log.take(rate(2, 60), ms(30_000)), Ok(Granted { remaining: 0 }));
    }

    #[test]
    fn a_clock_reading_that_is_late_is_no_way_around() {
        let mut log = RateLog::default();
        let one = rate(1, 10);
        assert!(log.take(one, ms(9_000)).is_ok());
        assert_eq!(log.take(one, ms(8_000)), Err(ms(11_000)));
        assert!(log.take(rate(2, 10), ms(8_000)).is_ok(), "counted as at 9 s");
        assert_eq!(log.take(rate(2, 10), ms(18_500)), Err(ms(500)));
    }

    #[test]
    fn it_is_forgotten_only_when_no_rate_could_see_it() {
        let mut log = RateLog::default();
        assert!(log.is_over(ms(0)));
        assert!(log.take(rate(1, 1), ms(1_000)).is_ok());
        assert!(!log.is_over(ms(86_400_999)));
        assert!(log.is_over(ms(86_401_000)));
    }

    #[test]
    fn rates_are_bounded() {
        for (requests, per_seconds) in [(0, 1), (1, 0), (MAX_REQUESTS + 1, 1), (1, MAX_PER_SECONDS + 1)] {
            assert_eq!(Rate::new(requests, per_seconds), None);
        }
        assert!(Rate::new(MAX_REQUESTS, MAX_PER_SECONDS).is_some());
    }

    proptest! {
        /// Whatever is asked when: no window holds more than the limit, nothing is refused that would
        /// have fitted, the wait is exact, and memory is bounded.
        #[test]
        fn never_more_than_the_limit_in_any_window(
            requests in 1_u32..6, per_seconds in 1_u32..4, gaps in prop::collection::vec(0_u64..1_500, 1..120)
        ) {
            let rate = rate(requests, per_seconds);
            let window = rate.window();
            let (mut log, mut granted, mut now) = (RateLog::default(), Vec::<Duration>::new(), ms(0));
            for gap in gaps {
                now += ms(gap);
                let within = |at: Duration| {
                    granted.iter().filter(|used| **used <= at && at < **used + window).count()
                };
                let fits = within(now) < requests as usize;
                match log.take(rate, now) {
                    Ok(grant) => {
                        prop_assert!(fits);
                        prop_assert_eq!(grant.remaining as usize, requests as usize - within(now) - 1);
                        granted.push(now);
                    }
                    Err(wait) => {
                        prop_assert!(!fits && wait > Duration::ZERO);
                        prop_assert!(within(now + wait) < requests as usize, "it would be granted then");
                        let almost = now + wait - Duration::from_nanos(1);
                        prop_assert!(within(almost) >= requests as usize, "and not before");
                    }
                }
                prop_assert!(log.uses.len() <= requests as usize);
            }
            for start in &granted {
                let together = granted.iter().filter(|used| *start <= **used && **used < *start + window).count();
                prop_assert!(together <= requests as usize);
            }
        }
    }
}
