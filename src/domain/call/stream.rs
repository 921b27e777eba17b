//! Metering an answer while it passes.
//!
//! Every event is read before it is forwarded, and forwarded before the next one is waited for: whole
//! events, byte for byte, those of one chunk as one slice of it. Three things interfere. The usage event
//! that the gateway asked for and the client did not is taken out. A call of a tool that the agent's
//! manifest does not list cuts the stream before the client has its name. And output past what the hold
//! covers cuts it where it is certain: tokens are counted from below, so that no rightful stream is cut.
//!
//! After a cut nothing more is forwarded but [`StreamMeter::error_event`]; what still comes may be fed, so
//! that an upstream that is read to its end gives its usage. A stream that ends without its last word has
//! no usage, however much it has said: what it wrote after that is unknown (**L7**).

mod calls;
mod chat;
mod error;
mod media;
mod messages;
mod responses;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use self::chat::ChatStream;
use self::media::MediaStream;
use self::messages::MessagesStream;
use self::responses::ResponsesStream;
use self::seen::{Seen, Verdict};
use super::answer::{Answer, ToolGate};
use super::route::Route;
use crate::domain::wire::answer::Unreadable;
use crate::domain::wire::sse::{Event, EventTooLong, SseParser};

pub use error::error_event;

/// An event of text.
const MAX_TEXT_EVENT: usize = 4 << 20;
/// An event that brings a whole image or a piece of sound.
const MAX_MEDIA_EVENT: usize = 32 << 20;

/// Events that wait for a name to go on.
const MAX_HELD: usize = 1_000;

/// How a stream is metered.
#[derive(Debug, Clone, Default)]
pub struct StreamRules {
    /// The client did not ask for the event with the usage.
    pub strip_usage: bool,
    pub gate: ToolGate,
    /// Output tokens that the hold covers, those of all choices together.
    pub output_limit: Option<u64>,
    /// Fields of its usage that its operator declares to bear no cost.
    pub free_usage: Arc<BTreeSet<String>>,
    /// Bytes of one event, within the route's own bound.
    pub max_event: Option<usize>,
}

/// Why a stream must be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    #[error("the model called the tool {0:?}, which the agent's manifest does not list")]
    ToolNotListed(String),
    #[error("the answer went past {limit} output tokens, which is all that its hold covers")]
    PastLimit { limit: u64 },
    #[error(transparent)]
    EventTooLong(#[from] EventTooLong),
    #[error("an event of the stream could not be read, so the tools that it may call could not be checked")]
    Unreadable,
}

impl StreamFault {
    /// The stable code that clients may match on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ToolNotListed(_) => "tool_not_in_manifest",
            Self::PastLimit { .. } => "output_limit",
            Self::EventTooLong(_) => "event_too_long",
            Self::Unreadable => "event_unreadable",
        }
    }
}

impl From<Unreadable> for StreamFault {
    fn from(_: Unreadable) -> Self {
        Self::Unreadable
    }
}

/// What an event of this route's stream means.
#[derive(Debug)]
enum Reader {
    Chat(ChatStream),
    Responses(ResponsesStream),
    Messages(MessagesStream),
    Media(MediaStream),
}

/// Reads one stream.
#[derive(Debug)]
pub struct StreamMeter {
    route: Route,
    rules: StreamRules,
    parser: SseParser,
    reader: Reader,
    seen: Seen,
    /// To be forwarded now.
    ready: Vec<Bytes>,
    /// To be forwarded once a name is complete.
    held: Vec<Bytes>,
    is_cut: bool,
    /// The last event was taken out, so the LF that may still end its CRLF goes too.
    stripped_last: bool,
}

/// A run of the chunk's bytes that is forwarded as one slice.
struct Run {
    chunk: Bytes,
    /// Where the next event begins.
    at: usize,
    /// Where the run begins.
    from: usize,
}

impl StreamMeter {
    pub fn new(route: Route, rules: StreamRules) -> Self {
        let reader = match route {
            Route::ChatCompletions | Route::Completions => Reader::Chat(ChatStream::new(route)),
            Route::Responses => Reader::Responses(ResponsesStream::default()),
            Route::Messages => Reader::Messages(MessagesStream::default()),
            _ => Reader::Media(MediaStream::new(route)),
        };
        let max = match reader {
            Reader::Media(_) | Reader::Responses(_) => MAX_MEDIA_EVENT,
            Reader::Chat(_) | Reader::Messages(_) => MAX_TEXT_EVENT,
        };
        Self {
            route,
            parser: SseParser::new(rules.max_event.map_or(max, |most| most.min(max))),
            rules,
            reader,
            seen: Seen::default(),
            ready: Vec::new(),
            held: Vec::new(),
            is_cut: false,
            stripped_last: false,
        }
    }

    /// Takes what the upstream sent and gives what the client gets now. After a fault, [`passed`](Self::passed)
    /// has what goes before the error, and from then on nothing is forwarded.
    pub fn feed(&mut self, chunk: Bytes) -> Result<Vec<Bytes>, StreamFault> {
        // What the parser still has in parts comes first, and is no slice of this chunk.
        let mut partial = self.parser.pending();
        let mut run = Run {
            at: 0,
            from: 0,
            chunk: chunk.clone(),
        };
        if let Some(end_of_last) = self.parser.feed(chunk) {
            (run.at, run.from) = (end_of_last.len(), end_of_last.len());
            if !self.stripped_last {
                self.keep(end_of_last, false);
            }
        }
        loop {
            let event = match self.parser.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(fault) => return self.cut(&mut run, fault.into()),
            };
            let is_in_chunk = partial == 0;
            let end = run.at + (event.raw.len() - partial);
            partial = 0;
            match self.judge(&event) {
                Ok(Verdict::Pass) if is_in_chunk && self.held.is_empty() => {
                    run.at = end;
                    self.stripped_last = false;
                }
                Ok(verdict) => {
                    self.flush(&mut run);
                    (run.at, run.from) = (end, end);
                    if let Err(fault) = self.apply(event, verdict) {
                        return self.cut(&mut run, fault);
                    }
                }
                Err(fault) => return self.cut(&mut run, fault),
            }
        }
        self.flush(&mut run);
        Ok(self.passed())
    }

    /// Bytes that are kept: of an event that has not ended, and of those that wait for what comes after them.
    pub fn kept(&self) -> usize {
        self.parser.pending() + self.held.iter().map(Bytes::len).sum::<usize>()
    }

    /// What may be forwarded before the error of a fault.
    pub fn passed(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.ready)
    }

    /// The upstream has ended its stream, as opposed to breaking it off. Gives what it sent last without
    /// ending it.
    pub fn close(&mut self) -> Result<Vec<Bytes>, StreamFault> {
        self.seen.is_closed = true;
        match self.last_event() {
            Ok(()) => Ok(self.passed()),
            Err(_) if self.is_cut => Ok(Vec::new()),
            Err(fault) => {
                self.stop();
                Err(fault)
            }
        }
    }

    fn last_event(&mut self) -> Result<(), StreamFault> {
        if let Some(event) = self.parser.rest() {
            let verdict = self.judge(&event)?;
            self.apply(event, verdict)?;
        }
        match &self.reader {
            Reader::Chat(chat) => chat.close(),
            Reader::Responses(_) | Reader::Messages(_) | Reader::Media(_) => Ok(()),
        }
    }

    /// What the answer has said, however it ended.
    pub fn end(mut self) -> Answer {
        let free = &*self.rules.free_usage;
        let usage = match &mut self.reader {
            Reader::Chat(chat) => chat.usage(&mut self.seen, free),
            Reader::Messages(messages) => messages.usage(free),
            Reader::Media(media) => media.usage(&self.seen, free),
            Reader::Responses(responses) => {
                responses.tell(&mut self.seen.answer);
                return self.seen.answer;
            }
        };
        self.seen.answer.settle_by(usage);
        self.seen.answer
    }

    /// The event that tells the client why its stream was cut.
    pub fn error_event(&self, code: &str, message: &str) -> Bytes {
        let sequence = match &self.reader {
            Reader::Responses(responses) => responses.sequence.saturating_add(1),
            _ => 0,
        };
        error_event(self.route, code, message, sequence)
    }

    /// Reads an event, and says what becomes of it.
    fn judge(&mut self, event: &Event) -> Result<Verdict, StreamFault> {
        let fields = event.fields();
        let Some(data) = fields.data.filter(|data| !data.is_empty()) else {
            return Ok(self.in_its_turn());
        };
        if data.starts_with(b"[DONE]") {
            return self.done();
        }
        let judged = match &mut self.reader {
            Reader::Chat(chat) => chat.event(&data, &self.rules, &mut self.seen),
            Reader::Responses(responses) => responses.event(&data, &self.rules, &mut self.seen),
            Reader::Messages(messages) => messages.event(&data, &self.rules, &mut self.seen),
            Reader::Media(media) => media.event(&data, &mut self.seen),
        };
        match judged {
            // What has no gate may send what nobody understands.
            Err(StreamFault::Unreadable) if self.rules.gate == ToolGate::All => Ok(Verdict::Pass),
            judged => judged,
        }
    }

    /// What says nothing passes, but not before what waits.
    fn in_its_turn(&self) -> Verdict {
        if self.held.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Hold
        }
    }

    /// OpenAI's last word.
    fn done(&mut self) -> Result<Verdict, StreamFault> {
        match &mut self.reader {
            Reader::Chat(chat) => {
                chat.done();
                if !self.is_cut {
                    chat.close()?;
                }
            }
            Reader::Media(media) => media.done(),
            Reader::Responses(_) | Reader::Messages(_) => {}
        }
        Ok(self.in_its_turn())
    }

    fn apply(&mut self, event: Event, verdict: Verdict) -> Result<(), StreamFault> {
        match verdict {
            Verdict::Pass => self.keep(event.raw, true),
            Verdict::Hold if !self.is_cut => self.held.push(event.raw),
            Verdict::Hold | Verdict::Strip => {}
        }
        self.stripped_last = verdict == Verdict::Strip;
        if self.held.iter().map(Bytes::len).sum::<usize>() > self.parser.max() || self.held.len() > MAX_HELD {
            return Err(EventTooLong { max: self.parser.max() }.into());
        }
        Ok(())
    }

    /// Forwards bytes, after what was held back.
    fn keep(&mut self, raw: Bytes, releases: bool) {
        if self.is_cut || raw.is_empty() {
            return;
        }
        if releases {
            self.ready.append(&mut self.held);
            self.ready.push(raw);
        } else if self.held.is_empty() {
            self.ready.push(raw);
        } else {
            self.held.push(raw);
        }
    }

    /// Forwards the run up to here.
    fn flush(&mut self, run: &mut Run) {
        if run.from < run.at && !self.is_cut {
            self.ready.push(run.chunk.slice(run.from..run.at));
        }
        run.from = run.at;
    }

    fn cut(&mut self, run: &mut Run, fault: StreamFault) -> Result<Vec<Bytes>, StreamFault> {
        self.flush(run);
        if self.is_cut {
            return Ok(Vec::new());
        }
        self.stop();
        self.read_on();
        Err(fault)
    }

    /// Reads the rest of the chunk for what it says of the usage.
    fn read_on(&mut self) {
        while let Ok(Some(event)) = self.parser.next_event() {
            // A fault is for the client, who gets nothing any more.
            let _ = self.judge(&event);
        }
    }

    /// From here on nothing is forwarded, so nothing is refused: what comes is only read for its usage.
    fn stop(&mut self) {
        self.is_cut = true;
        self.held = Vec::new();
        self.rules.gate = ToolGate::All;
        self.rules.output_limit = None;
    }
}
