//! What every stream keeps of what it has seen.

use super::StreamFault;
use crate::domain::call::answer::{Answer, ToolGate};

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// It is not for the client, who did not ask for it.
    Strip,
    /// It must wait for what comes next.
    Hold,
}

/// The fewest output tokens that have been made for certain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Made {
    counted: u64,
    reported: u64,
}

impl Made {
    /// These were seen.
    pub(super) fn wrote(&mut self, tokens: u64) {
        self.counted = self.counted.saturating_add(tokens);
    }

    /// The provider says that it is this many so far. If that is fewer than were counted, a token was
    /// sent in pieces, and the count goes on from its word.
    pub(super) fn reported(&mut self, tokens: u64) {
        self.counted = self.counted.min(tokens);
        self.reported = self.reported.max(tokens);
    }

    pub(super) fn at_least(self) -> u64 {
        self.counted.max(self.reported)
    }

    pub(super) fn check(self, limit: Option<u64>) -> Result<(), StreamFault> {
        match limit {
            Some(limit) if self.at_least() > limit => Err(StreamFault::PastLimit { limit }),
            _ => Ok(()),
        }
    }
}

/// What is known of the answer so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) answer: Answer,
    pub(super) made: Made,
    /// The upstream ended its stream; it was not cut off.
    pub(super) is_closed: bool,
}

impl Seen {
    /// A tool was called by its whole name.
    pub(super) fn called(&mut self, tool: &str, gate: &ToolGate) -> Result<(), StreamFault> {
        self.answer.calls(tool);
        if gate.allows(tool) {
            Ok(())
        } else {
            Err(StreamFault::ToolNotListed(tool.chars().take(256).collect()))
        }
    }
}
