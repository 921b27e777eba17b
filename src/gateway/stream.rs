//! Answers that pass through while they arrive.
//!
//! Each piece is handed on as it comes, metered on the way; nothing is kept back but an event that has not
//! ended. A slow client slows the reading, and one that takes nothing for too long counts as gone. When it
//! has gone the rest is read for what the call used, for a bounded time. A stream is cut where going on
//! would break a promise (a tool that was not declared, more output than the hold covers, a containment):
//! the upstream's connection is closed, so that it stops writing, and nobody learns what it used. The client
//! sees that its answer is not whole, by an event where there are any, and always by a connection that ends
//! without the answer's end.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use super::ends::End;
use super::flight::{Flight, NO_ROOM, Pieces};
use super::reply::{self, ReplyBody, Sink};
use super::shares::with_owner;
use super::veil::Veil;
use super::work::beside;
use crate::domain::call::{Answer, Route, StreamFault, StreamMeter, StreamRules};
use crate::domain::rejection::Rejection;

/// Pieces that wait for a slow client.
const WAITING: usize = 8;

/// Why a stream ended before its end.
struct Cut {
    /// For the ledger.
    why: String,
    /// For the agent.
    code: &'static str,
    message: String,
    /// What the answer did that it may not.
    fault: Option<StreamFault>,
}

/// How the reading ended.
enum Read {
    ToItsEnd,
    /// It broke off, or took too long.
    Broken(Cut),
    /// We ended it.
    Cut(Cut),
}

/// The agent's side of a stream.
struct Client {
    sink: Sink,
    gone: bool,
}

/// How pieces are read on their way.
enum Passing {
    Metered(Box<StreamMeter>),
    /// Not read, but kept, where the whole of it can be measured.
    Opaque {
        kept: Option<BytesMut>,
        /// More than this is not kept.
        most: usize,
        veil: Veil,
    },
    /// It is worked on elsewhere, and stays there only if that panics.
    Away,
}

impl Client {
    /// It has been handed all there is, unless it has missed something.
    fn end(&self) {
        if !self.gone {
            self.sink.is_whole();
        }
    }
}

impl From<StreamFault> for Cut {
    fn from(fault: StreamFault) -> Self {
        Self {
            why: fault.to_string(),
            code: fault.code(),
            message: fault.to_string(),
            fault: Some(fault),
        }
    }
}

impl Passing {
    /// What goes to the client now, and why nothing more does. Without a chunk the upstream has ended its answer.
    fn feed(&mut self, chunk: Option<Bytes>) -> (Vec<Bytes>, Option<Cut>) {
        match (self, chunk) {
            (Self::Metered(meter), chunk) => {
                let fed = match chunk {
                    Some(chunk) => meter.feed(chunk),
                    None => meter.close(),
                };
                match fed {
                    Ok(pieces) => (pieces, None),
                    Err(fault) => (meter.passed(), Some(fault.into())),
                }
            }
            (Self::Opaque { kept, most, veil }, Some(chunk)) => {
                match kept {
                    Some(bytes) if bytes.len() + chunk.len() <= *most => bytes.extend_from_slice(&chunk),
                    _ => *kept = None,
                }
                (vec![veil.pass(chunk)], None)
            }
            (Self::Opaque { veil, .. }, None) => (vec![veil.rest()], None),
            (Self::Away, _) => (Vec::new(), None),
        }
    }

    /// Bytes that are looked through when it is fed so many.
    fn work(&self, bytes: usize) -> usize {
        match self {
            Self::Metered(meter) => meter.kept() + bytes,
            _ => 0,
        }
    }

    /// Bytes that it takes to feed it so many.
    fn needs(&self, bytes: usize) -> usize {
        match self {
            // One that is kept is copied.
            Self::Opaque { kept: Some(_), .. } => bytes.saturating_mul(2),
            _ => bytes,
        }
    }

    /// Bytes that stay here.
    fn kept(&self) -> usize {
        match self {
            Self::Metered(meter) => meter.kept(),
            Self::Opaque { kept, .. } => kept.as_ref().map_or(0, BytesMut::len),
            Self::Away => 0,
        }
    }
}

impl Flight {
    /// A stream of events.
    pub(super) async fn stream(mut self, route: Route, status: StatusCode, headers: HeaderMap, body: Pieces) {
        let (sink, pieces) = reply::Pieces::new(WAITING);
        self.give(status, headers, ReplyBody::Pieces(pieces));
        let mut client = Client { sink, gone: false };
        let meter = StreamMeter::new(
            route,
            StreamRules {
                strip_usage: self.stream.strip_usage,
                gate: self.gate(),
                output_limit: self.stream.output_limit,
                free_usage: Arc::clone(&self.target.provider.free_usage),
                max_event: Some(self.target.limits.max_response_bytes),
            },
        );
        let mut passing = Passing::Metered(Box::new(meter));
        let mut read = self.pass(body, &mut client, &mut passing).await;
        if let Read::Cut(cut) = &mut read {
            self.note_cut(cut);
        }
        let Passing::Metered(meter) = passing else { return };
        let event = |cut: &Cut| meter.error_event(cut.code, &cut.message);
        let (cut, event) = match read {
            Read::ToItsEnd => (None, None),
            // What broke off may have said what it used before.
            Read::Broken(cut) => (None, Some((event(&cut), cut))),
            Read::Cut(cut) => (Some(cut.why.clone()), Some((event(&cut), cut))),
        };
        let answer = meter.end();
        match (cut, &event) {
            (Some(why), _) => self.unresolved(&why),
            (None, Some((_, broken))) if answer.usage.is_none() => self.unresolved(&broken.why),
            (None, _) => self.settle(&answer, &[]),
        }
        if let Some((event, _)) = event {
            self.last(&client, event).await;
        }
    }

    /// A stream that we end is a decision (D3): a tool that was not declared is refused as in a whole answer,
    /// and a model that writes past its limit is told of.
    fn note_cut(&self, cut: &mut Cut) {
        match &cut.fault {
            Some(StreamFault::ToolNotListed(called)) => {
                let Some(why) = self.not_declared(called) else { return };
                (cut.code, cut.message) = (why.code(), why.to_string());
                let agent = &self.target.head.agent;
                self.shared.note_refusal(agent, &why.into(), None);
            }
            Some(StreamFault::PastLimit { limit }) => self.shared.past_limit(&self.target, *limit),
            Some(StreamFault::EventTooLong(_) | StreamFault::Unreadable) | None => {}
        }
    }

    /// An answer that is not read on its way.
    pub(super) async fn opaque(mut self, status: StatusCode, headers: HeaderMap, body: Pieces, plain: bool) {
        let (sink, pieces) = reply::Pieces::new(WAITING);
        self.give(status, headers, ReplyBody::Pieces(pieces));
        let mut client = Client { sink, gone: false };
        let charged = self.charged_by_head().filter(|_| status.is_success());
        if let Some(answer) = &charged {
            self.settle(answer, &[]);
        }
        let measured = plain && charged.is_none() && self.bill.is_measured();
        let mut passing = Passing::Opaque {
            kept: measured.then(BytesMut::new),
            most: self.target.limits.max_response_bytes,
            veil: Veil::new(&self.target.provider),
        };
        let read = self.pass(body, &mut client, &mut passing).await;
        if charged.is_some() {
            return;
        }
        drop(client);
        match (read, passing) {
            (Read::Broken(cut) | Read::Cut(cut), _) => self.unresolved(&cut.why),
            (Read::ToItsEnd, Passing::Opaque { kept: Some(all), .. }) => self.measure(all.freeze()).await,
            (Read::ToItsEnd, _) if plain => self.unresolved("the answer does not say what it used"),
            (Read::ToItsEnd, _) => self.unresolved("the answer is encoded, so that its usage cannot be read"),
        }
    }

    /// Settles by the answer itself, which takes a while to look through.
    async fn measure(mut self, all: Bytes) {
        let Some(turn) = self.turn(all.len()).await else { return };
        beside(turn, move || self.settle(&Answer::default(), &all)).await;
    }

    /// Feeds what passes; a large event is read where it holds up nobody. `None`: that panicked.
    async fn feed(&mut self, passing: &mut Passing, chunk: Option<Bytes>) -> Option<(Vec<Bytes>, Option<Cut>)> {
        let bytes = passing.work(chunk.as_ref().map_or(0, Bytes::len));
        let whose = (&self.target.head.agent, self.shared.room(0).shared);
        let Some(turn) = self.shared.work.turn(whose, bytes).await else {
            return Some(passing.feed(chunk));
        };
        let mut away = std::mem::replace(passing, Passing::Away);
        let worked = beside(Some(turn), move || (away.feed(chunk), away)).await;
        let (fed, back) = worked?;
        *passing = back;
        Some(fed)
    }

    /// Hands every piece on as it comes.
    async fn pass(&mut self, mut body: Pieces, client: &mut Client, passing: &mut Passing) -> Read {
        loop {
            tokio::select! {
                piece = body.next() => {
                    let chunk = match piece {
                        Some(Ok(chunk)) => {
                            self.ends.touch();
                            if let Some(read) = self.room_to_pass(client, passing.needs(chunk.len())).await {
                                return read;
                            }
                            Some(chunk)
                        }
                        Some(Err(error)) => {
                            return Read::Broken(Cut {
                                why: error.to_string(),
                                code: "upstream_broken",
                                message: error.to_string(),
                                fault: None,
                            });
                        }
                        None => None,
                    };
                    let is_end = chunk.is_none();
                    let Some((pieces, cut)) = self.feed(passing, chunk).await else {
                        let why = "reading the stream failed";
                        return Read::Broken(Cut { why: why.to_owned(), code: "internal", message: why.to_owned(), fault: None });
                    };
                    for piece in pieces {
                        if let Some(read) = self.hand(client, piece).await {
                            return read;
                        }
                    }
                    self.kept.shrink(passing.kept());
                    match cut {
                        Some(cut) => return Read::Cut(cut),
                        None if is_end => {
                            client.end();
                            return Read::ToItsEnd;
                        }
                        None => {}
                    }
                }
                end = self.ends.next() => {
                    if let Some(read) = self.ended_streaming(end, client).await {
                        return read;
                    }
                }
            }
        }
    }

    /// Waits for memory for so many bytes more, which have come.
    async fn room_to_pass(&mut self, client: &mut Client, bytes: usize) -> Option<Read> {
        let memory = self.memory();
        let (shared, agent) = (Arc::clone(&self.shared), self.target.head.agent.clone());
        if shared.answers.try_grow(&mut self.kept, &agent, bytes, memory) {
            return None;
        }
        let kept = std::mem::take(&mut self.kept);
        let mut growing = std::pin::pin!(shared.answers.grow(kept, &agent, bytes, memory));
        loop {
            tokio::select! {
                biased;
                kept = &mut growing => {
                    self.kept = kept;
                    self.ends.touch();
                    return None;
                }
                end = self.ends.next() => {
                    if end == End::TimedOut && !client.gone {
                        return Some(Read::Broken(Cut {
                            why: NO_ROOM.to_owned(),
                            code: "no_memory_for_answer",
                            message: self.crowded().to_string(),
                            fault: None,
                        }));
                    }
                    if let Some(read) = self.ended_streaming(end, client).await {
                        return Some(read);
                    }
                }
            }
        }
    }

    async fn ended_streaming(&mut self, end: End, client: &mut Client) -> Option<Read> {
        let (why, code, message) = match end {
            End::Gone => {
                self.leave(client);
                if self.hold.is_some() {
                    return None;
                }
                let why = "the client went away";
                (why.to_owned(), "client_gone", why.to_owned())
            }
            End::TimedOut if client.gone => {
                let why = "the client went away, and the answer did not end within gateway.drain";
                (why.to_owned(), "client_gone", why.to_owned())
            }
            End::TimedOut => {
                let why = "the upstream did not go on in time".to_owned();
                return Some(Read::Broken(Cut {
                    message: why.clone(),
                    code: "upstream_timeout",
                    why,
                    fault: None,
                }));
            }
            End::Stopped => {
                let why = "the daemon stopped before the answer was whole";
                (why.to_owned(), "stopping", why.to_owned())
            }
            End::Contained => {
                let rejection: Rejection = self.shared.contained(&self.target.head.agent).await;
                let why = "the agent was contained while the answer was under way";
                (why.to_owned(), rejection.code(), rejection.to_string())
            }
        };
        let fault = None;
        Some(Read::Cut(Cut {
            why,
            code,
            message,
            fault,
        }))
    }

    /// The client is gone: the rest is read for its usage alone.
    fn leave(&mut self, client: &mut Client) {
        if !client.gone {
            client.gone = true;
            self.ends.end_within(self.target.limits.drain);
        }
    }

    /// Hands a piece to the client, at its pace.
    async fn hand(&mut self, client: &mut Client, piece: Bytes) -> Option<Read> {
        if client.gone || piece.is_empty() {
            return None;
        }
        let piece = self.target.provider.veiled(piece);
        let piece = match self.kept.part(piece.len()) {
            // It counts until its agent has taken it.
            Some(share) => with_owner(piece, share),
            None => piece,
        };
        let piece = match client.sink.pieces.try_send(piece) {
            Ok(()) => return None,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.leave(client);
                return None;
            }
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        let pieces = client.sink.pieces.clone();
        loop {
            tokio::select! {
                room = pieces.reserve() => {
                    match room {
                        Ok(room) => room.send(piece),
                        Err(_closed) => self.leave(client),
                    }
                    self.ends.touch();
                    return None;
                }
                end = self.ends.next() => {
                    // Nothing came because nothing was read: it is the client that is too slow.
                    if end == End::TimedOut && !self.ends.is_over() {
                        self.leave(client);
                        self.ends.touch();
                        return None;
                    }
                    if let Some(read) = self.ended_streaming(end, client).await {
                        return Some(read);
                    }
                    if client.gone {
                        return None;
                    }
                }
            }
        }
    }

    /// A last event, for a client that takes it soon.
    async fn last(&mut self, client: &Client, event: Bytes) {
        if client.gone {
            return;
        }
        let soon = self.shared.deps.clock.sleep(super::LAST_WORD);
        tokio::select! {
            sent = client.sink.pieces.send(event) => drop(sent),
            () = soon => {}
        }
    }
}
