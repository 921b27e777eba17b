//! Places on the wait list and among the open holds, counted by agent: what is there for all must not be
//! used up by one, or an agent that has run wild shuts every other one out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::shared::lock;
use crate::domain::id::AgentId;

/// One agent may have a tenth of the places, and this many in any case if there are as many.
const LEAST: usize = 512;

/// How many of `all` places one agent may have.
pub(super) fn share(all: usize) -> usize {
    (all / 10).max(LEAST).min(all)
}

/// Who has how many places on the wait list.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<HashMap<AgentId, usize>>,
}

impl Places {
    /// Takes one for this agent, unless it has `most`.
    pub(super) fn take(self: &Arc<Self>, agent: &AgentId, most: usize) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let count = taken.get(agent).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        taken.insert(agent.clone(), count + 1);
        Some(Place {
            agent: agent.clone(),
            places: Arc::clone(self),
        })
    }
}

/// A place that is taken; dropping it gives it back, however its waiter went.
#[derive(Debug)]
pub(super) struct Place {
    agent: AgentId,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_tenth_and_never_more_than_there_is() {
        assert_eq!([4, 512, 4_096, 100_000].map(share), [4, 512, 512, 10_000]);
    }

    #[test]
    fn places_are_counted_by_agent_and_come_back() {
        let places = Arc::new(Places::default());
        let (a, b) = (AgentId::new("a").expect("a name"), AgentId::new("b").expect("a name"));
        let first = places.take(&a, 2).expect("room");
        let _second = places.take(&a, 2).expect("room");
        assert!(places.take(&a, 2).is_none());
        assert!(places.take(&b, 2).is_some(), "another agent has its own");
        drop(first);
        assert!(places.take(&a, 2).is_some());
    }
}
