//! What goes back to the agent: the provider's answer as it is, less what is not the agent's business.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{
    ALT_SVC, CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use crate::domain::id::HoldId;
use crate::domain::money::Usd;

/// An answer on its way to the agent.
pub struct Reply {
    pub status: StatusCode,
    /// The provider's, as far as they are for the agent.
    pub headers: HeaderMap,
    pub told: Told,
    pub body: ReplyBody,
}

pub enum ReplyBody {
    Whole(Bytes),
    Pieces(Pieces),
}

/// The answer is not whole: what was handed on of it must not be taken for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut off")]
pub struct CutOff;

/// An answer that comes in pieces. Whoever drops it has gone away, and the call hears of it.
pub struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    whole: Arc<AtomicBool>,
    end: End,
    pub(super) here: Option<DropGuard>,
}

/// How far the end of an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    ToCome,
    /// It is cut off; what came before is being written.
    Cut,
    Said,
}

/// The other end of it.
pub(super) struct Sink {
    pub(super) pieces: mpsc::Sender<Bytes>,
    whole: Arc<AtomicBool>,
}

impl Sink {
    /// That was all of it. Without this word an answer has been cut off, however it came to its end.
    pub(super) fn is_whole(&self) {
        self.whole.store(true, Ordering::Release);
    }
}

impl Pieces {
    /// So many pieces wait at most.
    pub(super) fn new(waiting: usize) -> (Sink, Self) {
        let (sender, pieces) = mpsc::channel(waiting);
        let whole = Arc::new(AtomicBool::new(false));
        let sink = Sink {
            pieces: sender,
            whole: Arc::clone(&whole),
        };
        let pieces = Self {
            pieces,
            whole,
            end: End::ToCome,
            here: None,
        };
        (sink, pieces)
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, CutOff>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.end {
            End::Said => return Poll::Ready(None),
            End::Cut => {
                self.end = End::Said;
                return Poll::Ready(Some(Err(CutOff)));
            }
            End::ToCome => {}
        }
        if let Some(piece) = std::task::ready!(self.pieces.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(piece)));
        }
        if self.whole.load(Ordering::Acquire) {
            self.end = End::Said;
            return Poll::Ready(None);
        }
        // An error makes the server drop what it has not written yet, and with it the last word of the stream
        // or even the answer's head; a pause before it lets that be written.
        self.end = End::Cut;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What the agent is told of the call's money, in headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub call: Option<HoldId>,
    pub remaining: Option<Usd>,
    pub cost: Option<Usd>,
    /// The limit on its tokens that was set or lowered here.
    pub max_tokens: Option<u64>,
}

/// Headers that are about one connection, about this host, or a way around us.
const NOT_PASSED: [HeaderName; 10] = [
    CONNECTION,
    CONTENT_LENGTH,
    PROXY_AUTHENTICATE,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    ALT_SVC,
    HeaderName::from_static("keep-alive"),
];

/// The headers of a provider's answer that its agent may see.
pub(super) fn passed(mut headers: HeaderMap) -> HeaderMap {
    // What `Connection` names is about the connection too.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NOT_PASSED.iter().chain(&named) {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-backstop-"))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_connection_and_nothing_that_could_be_taken_for_ours_is_passed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-request-id", "req_1"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("x-backstop-cost-usd", "0"),
            ("transfer-encoding", "chunked"),
            ("alt-svc", "h3=\":443\""),
            ("keep-alive", "timeout=5"),
        ] {
            headers.append(name, value.parse().expect("a header value"));
        }
        let passed = passed(headers);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-request-id"]);
    }
}
