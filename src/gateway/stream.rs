//! Answers that pass through while they arrive.
//!
//! Each piece is handed on as it comes, metered on the way; nothing is kept back but an event that has not
//! ended. A slow client slows the reading, and one that takes nothing for too long counts as gone. When it
//! has gone the rest is read for what the call used, for a bounded time. A stream is cut where going on
//! would break a promise (a tool that was not declared, more output than the hold covers, a containment):
//! the upstream's connection is closed, so that it stops writing, and nobody learns what it used.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use super::ends::End;
use super::flight::{Flight, Pieces};
use super::reply::ReplyBody;
use crate::domain::call::{Route, StreamMeter, StreamRules};
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
    pieces: mpsc::Sender<Bytes>,
    gone: bool,
}

impl Flight {
    /// A stream of events.
    pub(super) async fn stream(mut self, route: Route, status: StatusCode, headers: HeaderMap, body: Pieces) {
        let (pieces, reading) = mpsc::channel(WAITING);
        self.give(status, headers, ReplyBody::pieces(reading));
        let mut client = Client { pieces, gone: false };
        let mut meter = StreamMeter::new(
            route,
            StreamRules {
                strip_usage: self.stream.strip_usage,
                gate: self.gate(),
                output_limit: self.stream.output_limit,
            },
        );
        let read = self.pass(body, &mut client, |chunk| {
            meter.feed(chunk).map_err(|fault| Cut {
                why: fault.to_string(),
                code: "stream_cut",
                message: fault.to_string(),
            })
        });
        match read.await {
            Read::ToItsEnd => {
                let answer = meter.end();
                self.settle(&answer);
            }
            Read::Broken(cut) => {
                // The usage may have been among what came.
                let event = meter.error_event(cut.code, &cut.message);
                let answer = meter.end();
                if answer.usage.is_some() {
                    self.settle(&answer);
                } else {
                    self.unresolved(&cut.why);
                }
                self.last(&client, event).await;
            }
            Read::Cut(cut) => {
                self.unresolved(&cut.why);
                self.last(&client, meter.error_event(cut.code, &cut.message)).await;
            }
        }
    }

    /// An answer that nobody here reads.
    pub(super) async fn opaque(mut self, status: StatusCode, headers: HeaderMap, body: Pieces, plain: bool) {
        let (pieces, reading) = mpsc::channel(WAITING);
        self.give(status, headers, ReplyBody::pieces(reading));
        let mut client = Client { pieces, gone: false };
        let charged = self.charged_by_head().filter(|_| status.is_success());
        if let Some(answer) = &charged {
            self.settle(answer);
        }
        let read = self.pass(body, &mut client, |chunk| Ok(vec![chunk])).await;
        match read {
            _ if charged.is_some() => {}
            Read::ToItsEnd if plain => self.unresolved("the answer does not say what it used"),
            Read::ToItsEnd => self.unresolved("the answer is encoded, so that its usage cannot be read"),
            Read::Broken(cut) | Read::Cut(cut) => self.unresolved(&cut.why),
        }
    }

    /// Hands every piece on that `meter` makes of what arrives.
    async fn pass(
        &mut self,
        mut body: Pieces,
        client: &mut Client,
        mut meter: impl FnMut(Bytes) -> Result<Vec<Bytes>, Cut>,
    ) -> Read {
        loop {
            tokio::select! {
                piece = body.next() => match piece {
                    None => return Read::ToItsEnd,
                    Some(Err(error)) => {
                        return Read::Broken(Cut {
                            why: error.to_string(),
                            code: "upstream_broken",
                            message: error.to_string(),
                        });
                    }
                    Some(Ok(chunk)) => {
                        self.ends.touch();
                        match meter(chunk) {
                            Ok(pieces) => {
                                for piece in pieces {
                                    if let Some(cut) = self.hand(client, piece).await {
                                        return cut;
                                    }
                                }
                            }
                            Err(cut) => return Read::Cut(cut),
                        }
                    }
                },
                end = self.ends.next() => {
                    if let Some(read) = self.ended_streaming(end, client).await {
                        return read;
                    }
                }
            }
        }
    }

    async fn ended_streaming(&mut self, end: End, client: &mut Client) -> Option<Read> {
        let (why, code, message) = match end {
            End::Gone => {
                self.leave(client);
                return None;
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
        Some(Read::Cut(Cut { why, code, message }))
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
        let piece = match client.pieces.try_send(piece) {
            Ok(()) => return None,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.leave(client);
                return None;
            }
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        let pieces = client.pieces.clone();
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
        let soon = self.shared.clock.sleep(super::LAST_WORD);
        tokio::select! {
            sent = client.pieces.send(event) => drop(sent),
            () = soon => {}
        }
    }
}
