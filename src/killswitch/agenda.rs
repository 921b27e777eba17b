//! Whose turn it is: which containments are driven now, and in which order.
//!
//! It is only about order and pace. What is to be done stands in the store, so an agenda that is lost
//! with its process costs nothing but an early look at everything.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::settings::KillSettings;
use crate::domain::containment::state::Containment;
use crate::domain::id::ContainmentId;

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Look again after this long.
    After(Duration),
    /// Somebody else drives it now.
    Elsewhere,
    /// It is closed.
    Over,
}

/// What a pass came to, and the containment's version after it, if the pass knows: any other one means
/// that somebody wrote to it since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    pub next: Next,
    pub version: Option<i64>,
}

/// When to look again.
struct Due {
    at: Duration,
    version: Option<i64>,
}

/// What the driver has under way, and when each containment is to be looked at again.
#[derive(Default)]
pub(super) struct Agenda {
    under_way: HashSet<ContainmentId>,
    due: HashMap<ContainmentId, Due>,
}

impl Agenda {
    /// Those to begin now, in the order in which they have a right to it: first what we have not driven
    /// yet, and of that what was never swept; then what has been due for longest (C2). By age alone, the
    /// oldest would take every place again and again while a region of theirs hangs, and a new
    /// containment would never be begun.
    pub fn next(&mut self, live: &[Containment], now: Duration) -> Vec<ContainmentId> {
        self.due
            .retain(|id, _| live.iter().any(|containment| containment.id == *id));
        let mut waiting = Vec::new();
        for containment in live {
            let due = self.due.get_mut(&containment.id).map(|due| {
                if due.version.is_some_and(|known| known != containment.version) {
                    // From here on it waits like the others, and ahead of who comes later.
                    due.at = due.at.min(now);
                    due.version = Some(containment.version);
                }
                due.at
            });
            if due.is_none_or(|at| at <= now) && !self.under_way.contains(&containment.id) {
                waiting.push((due, containment.sweeps > 0, containment.id));
            }
        }
        // Stable: what is equal stays oldest first.
        waiting.sort_by_key(|(due, swept, _)| (*due, *swept));
        waiting.into_iter().map(|(_, _, id)| id).collect()
    }

    pub fn began(&mut self, id: ContainmentId) {
        self.under_way.insert(id);
    }

    /// Makes everything due, and forgets nobody's place: what has waited stays ahead.
    pub fn hurry(&mut self, now: Duration) {
        for due in self.due.values_mut() {
            due.at = due.at.min(now);
        }
    }

    pub fn ended(&mut self, id: ContainmentId, passed: Passed, settings: &KillSettings, now: Duration) {
        self.under_way.remove(&id);
        let wait = match passed.next {
            Next::After(wait) => wait,
            Next::Elsewhere => settings.poll_every.saturating_mul(5),
            Next::Over => {
                self.due.remove(&id);
                return;
            }
        };
        let due = Due {
            at: now.saturating_add(wait),
            version: passed.version,
        };
        self.due.insert(id, due);
    }
}
