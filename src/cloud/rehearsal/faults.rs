//! What goes wrong, by a seed: the same seed and the same calls in the same order fail alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::Kind;

/// Percentages are of calls. Nothing goes wrong by default.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Answered with `RequestLimitExceeded`, and not applied.
    pub throttle: u8,
    /// Answered with `InternalError`, and not applied.
    pub fail: u8,
    /// Applied, but the reply is lost.
    pub lose_reply: u8,
    /// Reads that show what was there up to `stale_for` ago.
    pub stale: u8,
    pub stale_for: Duration,
    /// Each call takes up to this long.
    pub delay: Duration,
    /// Regions that answer nothing but errors.
    pub outages: BTreeSet<Region>,
    /// Regions that do not answer at all.
    pub hangs: BTreeSet<Region>,
    /// Kinds of assets whose listings do not answer at all.
    pub hangs_kind: BTreeSet<Kind>,
    /// Kinds of assets whose listings take so long.
    pub slow_kind: BTreeMap<Kind, Duration>,
    /// IAM answers nothing but errors.
    pub iam_down: bool,
    /// Who the caller is cannot be learnt.
    pub sts_down: bool,
    /// The regions cannot be listed.
    pub unlisted: bool,
    /// The record of calls answers nothing but errors.
    pub record_down: bool,
    /// What things act with cannot be read.
    pub unread: bool,
    /// IAM's policy simulation answers nothing but errors.
    pub simulation_down: bool,
    random: Random,
}

impl Default for Faults {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Faults {
    pub fn seeded(seed: u64) -> Self {
        Self {
            throttle: 0,
            fail: 0,
            lose_reply: 0,
            stale: 0,
            stale_for: Duration::ZERO,
            delay: Duration::ZERO,
            outages: BTreeSet::new(),
            hangs: BTreeSet::new(),
            hangs_kind: BTreeSet::new(),
            slow_kind: BTreeMap::new(),
            iam_down: false,
            sts_down: false,
            unlisted: false,
            record_down: false,
            unread: false,
            simulation_down: false,
            random: Random(seed),
        }
    }

    /// Draws what becomes of one call.
    pub(super) fn draw(&mut self, region: Option<&Region>, listed: Option<&Kind>) -> Fate {
        let span = u64::try_from(self.delay.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(if span == 0 { 0 } else { self.random.next() % span });
        let is_down = match region {
            Some(region) => self.outages.contains(region),
            None => self.iam_down,
        };
        let hangs = region.is_some_and(|region| self.hangs.contains(region));
        Fate {
            delay: delay
                + listed
                    .and_then(|kind| self.slow_kind.get(kind))
                    .copied()
                    .unwrap_or_default(),
            hangs: hangs || listed.is_some_and(|kind| self.hangs_kind.contains(kind)),
            is_down,
            throttled: self.random.hits(self.throttle),
            fails: self.random.hits(self.fail),
            reply_lost: self.random.hits(self.lose_reply),
            stale: self.random.hits(self.stale).then_some(self.stale_for),
        }
    }
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    pub delay: Duration,
    pub hangs: bool,
    pub is_down: bool,
    pub throttled: bool,
    pub fails: bool,
    pub reply_lost: bool,
    /// A read shows what was there up to this long ago.
    pub stale: Option<Duration>,
}

/// SplitMix64: small, and good enough to choose what fails.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn hits(&mut self, percent: u8) -> bool {
        self.next() % 100 < u64::from(percent)
    }
}
