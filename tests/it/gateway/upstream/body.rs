//! Bodies that come in pieces, stop where they are told to, and tell how far they came.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;

pub type Body = UnsyncBoxBody<Bytes, Dropped>;

/// The connection ends without an answer, or in the midst of one.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
pub struct Dropped;

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Piece {
    Data(Bytes),
    /// Until the gate is open.
    Wait,
    Drop,
}

/// What became of bodies in pieces.
#[derive(Debug, Default)]
pub struct Ends {
    pub whole: AtomicU64,
    /// Nobody read them to their end.
    pub cut: AtomicU64,
}

/// Counts the end of one body.
struct End {
    ends: Arc<Ends>,
    is_whole: bool,
}

impl End {
    fn is_reached(&mut self) {
        self.is_whole = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let counter = match self.is_whole {
            true => &self.ends.whole,
            false => &self.ends.cut,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

/// A body of these pieces.
pub fn in_pieces(pieces: Vec<Piece>, gate: watch::Receiver<bool>, ends: &Arc<Ends>) -> Body {
    let end = End {
        ends: Arc::clone(ends),
        is_whole: false,
    };
    let start = (pieces.into_iter(), gate, end);
    let frames = stream::unfold(start, |(mut pieces, mut gate, mut end)| async move {
        loop {
            match pieces.next() {
                Some(Piece::Data(data)) => return Some((Ok(Frame::data(data)), (pieces, gate, end))),
                Some(Piece::Wait) => {
                    // A gate that is gone is open: the test is over.
                    let _ = gate.wait_for(|open| *open).await;
                }
                Some(Piece::Drop) => return Some((Err(Dropped), (pieces, gate, end))),
                None => {
                    end.is_reached();
                    return None;
                }
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
