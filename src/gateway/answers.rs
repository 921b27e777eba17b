//! The memory that answers take, bounded in all.
//!
//! The bytes of an answer count from when they came until its agent has taken them. Where there is no room,
//! no more of the answer is read, so that its provider waits as well.
//!
//! Answers that each have a part of the room and need more of it would wait for one another for ever. So
//! room for a whole answer is kept back, and one of those that wait may use it: that one comes to its end, and
//! what its agent takes of it is free again.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shares::{Room, Share, Shares};
use crate::domain::id::AgentId;

/// The memory.
#[derive(Debug)]
pub(super) struct Answers {
    bytes: Shares,
    /// Whose turn it is to use what is kept back.
    last: Arc<Semaphore>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            bytes: Shares::default(),
            last: Arc::new(Semaphore::new(1)),
        }
    }
}

/// How much of it there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) room: Room,
    /// Of that, what is kept back.
    pub(super) kept_back: u64,
}

/// What one answer has of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    share: Option<Share>,
    last: Option<OwnedSemaphorePermit>,
}

impl Answers {
    pub(super) fn taken(&self) -> u64 {
        self.bytes.taken()
    }

    /// So many bytes more for an answer, if there is room now.
    pub(super) fn try_grow(&self, kept: &mut Kept, agent: &AgentId, bytes: usize, memory: Memory) -> bool {
        let room = Room {
            most: memory.room.most.saturating_sub(memory.kept_back),
            ..memory.room
        };
        let share = self.bytes.take(agent, amount(bytes), room);
        let has_room = share.is_some();
        if let Some(share) = share {
            // What was kept back is whole again.
            kept.last = None;
            kept.add(share);
        }
        has_room
    }

    /// The same, as soon as there is room. The caller's own time limit bounds the wait.
    pub(super) async fn grow(&self, mut kept: Kept, agent: &AgentId, bytes: usize, memory: Memory) -> Kept {
        if self.try_grow(&mut kept, agent, bytes, memory) {
            return kept;
        }
        let bytes = amount(bytes);
        let room = Room {
            most: memory.room.most.saturating_sub(memory.kept_back),
            ..memory.room
        };
        let share = if kept.last.is_none() {
            tokio::select! {
                biased;
                share = self.bytes.wait(agent, bytes, room) => Some(share),
                last = Arc::clone(&self.last).acquire_owned() => {
                    kept.last = last.ok();
                    None
                }
            }
        } else {
            None
        };
        let share = match share {
            Some(share) => share,
            // It is this one's turn, whoever has how much.
            None => {
                let all = Room {
                    shared: false,
                    ..memory.room
                };
                self.bytes.wait(agent, bytes, all).await
            }
        };
        kept.add(share);
        kept
    }
}

impl Kept {
    fn add(&mut self, share: Share) {
        match &mut self.share {
            None => self.share = Some(share),
            Some(own) => own.join(share),
        }
    }

    /// The share of bytes that go on, as far as it goes.
    pub(super) fn part(&mut self, bytes: usize) -> Option<Share> {
        self.share.as_mut().map(|share| share.split(amount(bytes)))
    }

    /// Gives back what is above this.
    pub(super) fn shrink(&mut self, bytes: usize) {
        if bytes == 0 {
            *self = Self::default();
        } else if let Some(share) = &mut self.share {
            share.shrink(amount(bytes));
        }
    }
}

fn amount(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MEMORY: Memory = Memory {
        room: Room {
            most: 10,
            shared: false,
        },
        kept_back: 4,
    };

    /// Three that each have a part, and need as much again.
    #[test]
    fn one_of_those_that_wait_for_one_another_goes_on() {
        let (answers, a) = (Answers::default(), AgentId::new("a").expect("a name"));
        let mut parts: Vec<Kept> = (0..3)
            .map(|_| {
                let mut kept = Kept::default();
                assert!(answers.try_grow(&mut kept, &a, 2, MEMORY));
                kept
            })
            .collect();
        assert!(!answers.try_grow(&mut Kept::default(), &a, 1, MEMORY));
        let mut waiting: Vec<_> = parts
            .drain(..)
            .map(|kept| Box::pin(answers.grow(kept, &a, 2, MEMORY)))
            .collect();
        let mut first = (&mut waiting[0]).now_or_never().expect("its turn");
        assert_eq!(answers.taken(), 8);
        assert!((&mut waiting[1]).now_or_never().is_none(), "not the turn of two");
        first = answers
            .grow(first, &a, 2, MEMORY)
            .now_or_never()
            .expect("still its turn");
        assert_eq!(answers.taken(), 10);
        let taken = first.part(6);
        drop(first);
        // Its turn is over, and what its agent has not taken yet still counts.
        assert!((&mut waiting[1]).now_or_never().is_none());
        drop(taken);
        drop((&mut waiting[1]).now_or_never().expect("room again"));
        drop((&mut waiting[2]).now_or_never().expect("room again"));
        assert_eq!(answers.taken(), 0);
    }

    #[test]
    fn what_is_kept_back_is_given_back_with_the_need_for_it() {
        let (answers, a) = (Answers::default(), AgentId::new("a").expect("a name"));
        let mut most = Kept::default();
        assert!(answers.try_grow(&mut most, &a, 6, MEMORY));
        let one = answers
            .grow(Kept::default(), &a, 2, MEMORY)
            .now_or_never()
            .expect("its turn");
        most.shrink(0);
        let one = answers.grow(one, &a, 1, MEMORY).now_or_never().expect("room");
        let mut filling = Kept::default();
        assert!(answers.try_grow(&mut filling, &a, 3, MEMORY));
        assert!(
            answers.grow(Kept::default(), &a, 1, MEMORY).now_or_never().is_some(),
            "it is another's turn"
        );
        drop((one, filling));
        assert_eq!(answers.taken(), 0);
    }
}
