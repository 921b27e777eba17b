//! Reads an answer whole: within its bounds, within the memory that there is, and no longer than its call lasts.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::answers::Memory;
use super::failure::CallFailure;
use super::flight::{Flight, Pieces};
use super::shares::Share;
use crate::ports::{UpstreamError, UpstreamFault};

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Upstream,
    /// Memory of ours, or a turn.
    Room,
}

impl Flight {
    /// Waits for something, unless the call ends before it. `None`: it has, and so has its hold.
    pub(super) async fn wait<T>(&mut self, what: For, coming: impl Future<Output = T>) -> Option<T> {
        let mut coming = std::pin::pin!(coming);
        loop {
            tokio::select! {
                biased;
                came = &mut coming => return Some(came),
                end = self.ends.next() => {
                    if let Some(why) = self.ended(end, what).await {
                        self.unresolved(why);
                        return None;
                    }
                }
            }
        }
    }

    /// The memory that its answer has to fit into, with all others.
    pub(super) fn memory(&self) -> Memory {
        let limits = &self.target.limits;
        Memory {
            room: self.shared.room(limits.response_memory),
            // A stream may keep an event that has not ended, and events that wait for what comes after them.
            kept_back: u64::try_from(limits.max_response_bytes).map_or(u64::MAX, |most| most.saturating_mul(2)),
        }
    }

    /// Waits for memory for so many bytes more of its answer. `None`: the call has ended before.
    async fn room_for(&mut self, bytes: usize) -> Option<()> {
        let memory = self.memory();
        let (shared, agent) = (self.shared.clone(), self.target.head.agent.clone());
        if !shared.answers.try_grow(&mut self.kept, &agent, bytes, memory) {
            let kept = std::mem::take(&mut self.kept);
            let growing = shared.answers.grow(kept, &agent, bytes, memory);
            self.kept = self.wait(For::Room, growing).await?;
            self.ends.touch();
        }
        Some(())
    }

    /// Reads an answer whole. `None`: the call has ended otherwise.
    pub(super) async fn read(&mut self, mut body: Pieces) -> Option<Bytes> {
        let limit = self.target.limits.max_response_bytes;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            let piece = match self.wait(For::Upstream, body.next()).await? {
                None if rest.is_empty() => return Some(first),
                None => return Some(rest.freeze()),
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    self.broken(&error);
                    return None;
                }
            };
            self.ends.touch();
            if first.len().max(rest.len()) + piece.len() > limit {
                let error = UpstreamError {
                    upstream: self.target.upstream(),
                    what: UpstreamFault::TooLarge,
                    source: None,
                };
                self.broken(&error);
                return None;
            }
            self.room_for(piece.len()).await?;
            // Most answers come in one piece, which is then not copied.
            if first.is_empty() {
                first = piece;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&piece);
            }
        }
    }

    /// Reads an answer whole, and waits for the turn to work on it. `None`: the call has ended otherwise.
    pub(super) async fn read_for_work(&mut self, body: Pieces) -> Option<(Bytes, Option<Share>)> {
        let body = self.read(body).await?;
        let turn = self.turn(body.len()).await?;
        Some((body, turn))
    }

    /// Waits for the turn to work on so many bytes. `None`: the call has ended before.
    pub(super) async fn turn(&mut self, bytes: usize) -> Option<Option<Share>> {
        let (shared, agent) = (self.shared.clone(), self.target.head.agent.clone());
        let whose = (&agent, shared.room(0).shared);
        self.wait(For::Room, shared.work.turn(whose, bytes)).await
    }

    /// What the agent is told when there was no memory for its answer in time.
    pub(super) fn crowded(&self) -> CallFailure {
        CallFailure::Crowded {
            upstream: self.target.upstream(),
        }
    }
}
