//! What can go wrong with a store, by chance or on demand, and the same way for the same seed.

use std::collections::VecDeque;

/// What happens to one write, or to a read, which can only be busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was written, and the caller knows.
    Busy,
    /// Nothing was written, and the caller knows.
    Full,
    /// Nothing was written, and the caller does not know.
    Lost,
    /// All of it was written and synced, and the caller does not know.
    Unanswered,
    /// All of it was written and every process sees it, but a crash loses it unless a later write is
    /// synced. The caller does not know.
    Unsynced,
}

/// How often, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odds {
    pub busy: u16,
    pub full: u16,
    pub lost: u16,
    pub unanswered: u16,
    pub unsynced: u16,
}

/// A plan of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    pub seed: u64,
    /// Group commits.
    pub commit: Odds,
    /// Every other write.
    pub write: Odds,
    /// Reads that find the store busy, in thousandths.
    pub read_busy: u16,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Commit,
    Write,
    Read,
}

/// Draws the faults.
#[derive(Default)]
pub(super) struct Injector {
    faults: Faults,
    state: u64,
    next: VecDeque<Fault>,
}

impl Injector {
    pub(super) fn set(&mut self, faults: Faults) {
        self.faults = faults;
        self.state = faults.seed;
    }

    pub(super) fn push(&mut self, fault: Fault) {
        self.next.push_back(fault);
    }

    pub(super) fn roll(&mut self, kind: Kind) -> Option<Fault> {
        let odds = match kind {
            Kind::Commit => self.faults.commit,
            Kind::Write => self.faults.write,
            Kind::Read => Odds {
                busy: self.faults.read_busy,
                ..Odds::default()
            },
        };
        if !matches!(kind, Kind::Read)
            && let Some(fault) = self.next.pop_front()
        {
            return Some(fault);
        }
        let kinds = [
            (odds.busy, Fault::Busy),
            (odds.full, Fault::Full),
            (odds.lost, Fault::Lost),
            (odds.unanswered, Fault::Unanswered),
            (odds.unsynced, Fault::Unsynced),
        ];
        if kinds.iter().all(|(odds, _)| *odds == 0) {
            return None;
        }
        let mut drawn = self.draw() % 1000;
        for (odds, fault) in kinds {
            if drawn < u64::from(odds) {
                return Some(fault);
            }
            drawn -= u64::from(odds);
        }
        None
    }

    /// SplitMix64: small, and good enough to choose faults.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
