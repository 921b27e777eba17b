//! The places of a listener among the agents that it serves.
//!
//! A request that waits (for room in a budget, for a provider, for its agent to be resumed) keeps its
//! connection. Connections are bounded before anybody knows whose they are, so no agent may have so many
//! requests open that no connection is left for another.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::error::Failure;
use crate::domain::id::AgentId;
use crate::gateway::{Room, Share, Shares};

/// What an agent is told that has all of its seats taken. Its connection is closed, so that it has no more.
pub const FULL: Failure = Failure::Unavailable {
    code: "overloaded",
    message: "too many of this agent's requests are open: nothing was done",
    retry_after_s: 2,
};

/// The seats of a listener: as many as it takes connections.
#[derive(Debug)]
pub struct Seats {
    requests: Shares,
    most: usize,
}

impl Seats {
    pub fn new(max_connections: usize) -> Self {
        Self {
            requests: Shares::default(),
            most: max_connections,
        }
    }

    /// A seat for a request of this agent.
    pub fn take(&self, agent: &AgentId, shared: bool) -> Option<Share> {
        let most = u64::try_from(self.most).unwrap_or(u64::MAX);
        self.requests.take(agent, 1, Room { most, shared })
    }
}

/// The connection ends with this answer.
pub fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer with its seat, which is taken until all of it is written.
pub fn seated(response: Response, seat: Share) -> Response {
    response.map(|body| Body::new(Seated { body, _seat: seat }))
}

struct Seated {
    body: Body,
    _seat: Share,
}

impl HttpBody for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_taken_until_its_answer_is_gone_and_none_takes_all() {
        let (seats, a, b) = (Seats::new(8), AgentId::new("a").unwrap(), AgentId::new("b").unwrap());
        let mut taken: Vec<Share> = std::iter::from_fn(|| seats.take(&a, true)).collect();
        assert_eq!(taken.len(), 4);
        assert!(seats.take(&b, true).is_some());
        let answer = seated(Response::new(Body::from("all of it")), taken.pop().unwrap());
        assert_eq!(answer.body().size_hint().exact(), Some(9), "it keeps its length");
        assert!(seats.take(&a, true).is_none());
        drop(answer);
        assert!(seats.take(&a, true).is_some());
    }
}
