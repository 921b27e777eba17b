//! Places that are bounded in all, and of which no agent takes so many that none is left for another.
//!
//! While several agents share them, an agent may take as much as it leaves free: alone it gets half, and
//! each of two greedy ones a third. Whoever has nothing yet is served as long as anything is free. A fixed
//! part each would be too small for many agents, and of no use with one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::domain::id::AgentId;

/// The places.
#[derive(Debug, Clone, Default)]
pub struct Shares(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    by: HashMap<AgentId, u64>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub most: u64,
    /// Whether there is anybody to share them with.
    pub shared: bool,
}

/// Some of them, until it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    agent: AgentId,
    amount: u64,
}

impl Taken {
    fn has_room(&self, agent: &AgentId, amount: u64, room: Room) -> bool {
        let Some(free) = room.most.checked_sub(self.all.saturating_add(amount)) else {
            return false;
        };
        let own = self.by.get(agent).copied().unwrap_or_default();
        !room.shared || own == 0 || own.saturating_add(amount) <= free
    }

    fn give_back(&mut self, agent: &AgentId, amount: u64) {
        self.all = self.all.saturating_sub(amount);
        if let Some(own) = self.by.get_mut(agent) {
            *own = own.saturating_sub(amount);
            if *own == 0 {
                self.by.remove(agent);
            }
        }
    }
}

impl Shares {
    fn with<T>(&self, look: impl FnOnce(&mut Taken) -> T) -> T {
        look(&mut self.0.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is taken in all.
    pub fn taken(&self) -> u64 {
        self.with(|taken| taken.all)
    }

    /// Takes `amount` for an agent, if there is room now.
    pub fn take(&self, agent: &AgentId, amount: u64, room: Room) -> Option<Share> {
        let has_room = self.with(|taken| {
            let has_room = taken.has_room(agent, amount, room);
            if has_room {
                taken.all += amount;
                *taken.by.entry(agent.clone()).or_default() += amount;
            }
            has_room
        });
        has_room.then(|| Share {
            of: self.clone(),
            agent: agent.clone(),
            amount,
        })
    }

    /// The same, as soon as there is room. The caller's own time limit bounds the wait.
    pub async fn wait(&self, agent: &AgentId, amount: u64, room: Room) -> Share {
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            if let Some(share) = self.take(agent, amount, room) {
                return share;
            }
            freed.await;
        }
    }
}

impl Share {
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Adds what the same agent took later.
    pub fn join(&mut self, mut later: Self) {
        debug_assert_eq!(self.agent, later.agent);
        self.amount = self.amount.saturating_add(std::mem::take(&mut later.amount));
    }

    /// So much of it, or all that there is, as a share of its own.
    pub fn split(&mut self, amount: u64) -> Self {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Self {
            of: self.of.clone(),
            agent: self.agent.clone(),
            amount,
        }
    }

    /// Gives back what is above this.
    pub fn shrink(&mut self, to: u64) {
        let surplus = self.amount.saturating_sub(to);
        if surplus > 0 {
            self.of.with(|taken| taken.give_back(&self.agent, surplus));
            self.amount = to;
            self.of.0.freed.notify_waiters();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        self.of.with(|taken| taken.give_back(&self.agent, self.amount));
        self.of.0.freed.notify_waiters();
    }
}

/// Bytes with what must last as long as anything of them does, such as their share.
pub fn with_owner<T: Send + 'static>(bytes: Bytes, owner: T) -> Bytes {
    struct Owned<T> {
        bytes: Bytes,
        _owner: T,
    }
    impl<T> AsRef<[u8]> for Owned<T> {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Owned { bytes, _owner: owner })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::new(name).expect("a name")
    }

    fn fill(shares: &Shares, name: &str, room: Room) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(&agent(name), 1, room)).collect()
    }

    #[test]
    fn no_agent_takes_what_others_need() {
        let (shares, room) = (Shares::default(), Room { most: 12, shared: true });
        let greedy = fill(&shares, "greedy", room);
        assert_eq!(greedy.len(), 6);
        let second = fill(&shares, "second", room);
        assert_eq!(second.len(), 3);
        assert!(shares.take(&agent("third"), 1, room).is_some());
        drop(greedy);
        assert_eq!(shares.taken(), 3);
        drop(second);
        assert_eq!(shares.taken(), 0);
        assert!(
            shares.with(|taken| taken.by.is_empty()),
            "nobody is remembered for ever"
        );
    }

    #[test]
    fn an_agent_alone_takes_all_and_the_last_place_goes_to_whoever_has_none() {
        let alone = Room { most: 3, shared: false };
        let shares = Shares::default();
        let all = fill(&shares, "a", alone);
        assert_eq!(all.len(), 3);
        drop(all);
        let one = Room { most: 1, shared: true };
        let only = shares.take(&agent("a"), 1, one);
        assert!(only.is_some() && shares.take(&agent("b"), 1, one).is_none());
    }

    #[test]
    fn what_is_split_and_joined_is_given_back_once() {
        let room = Room {
            most: 10,
            shared: false,
        };
        let shares = Shares::default();
        let mut first = shares.take(&agent("a"), 4, room).expect("room");
        first.join(shares.take(&agent("a"), 3, room).expect("room"));
        let part = first.split(5);
        assert_eq!((first.amount(), part.amount(), shares.taken()), (2, 5, 7));
        assert_eq!(first.split(9).amount(), 2, "no more than there is");
        assert_eq!((first.amount(), shares.taken()), (0, 5));
        let bytes = with_owner(Bytes::from_static(b"text"), part);
        let slice = bytes.slice(1..2);
        drop((first, bytes));
        assert_eq!(shares.taken(), 5, "a part of it is still there");
        drop(slice);
        assert_eq!(shares.taken(), 0);
    }

    #[test]
    fn what_is_given_back_goes_to_whoever_waits() {
        let room = Room { most: 10, shared: true };
        let shares = Shares::default();
        let mut large = shares.take(&agent("a"), 10, room).expect("an empty room");
        let b = agent("b");
        let mut waiting = Box::pin(shares.wait(&b, 4, room));
        assert!((&mut waiting).now_or_never().is_none());
        large.shrink(7);
        assert!((&mut waiting).now_or_never().is_none());
        large.shrink(6);
        assert!((&mut waiting).now_or_never().is_some());
        assert_eq!(shares.taken(), 6, "what was got and dropped is free again");
    }
}
