//! Server-sent events, read as they arrive and kept as they are.
//!
//! The format: the HTML standard, section "Server-sent events". Lines end with LF, CR or CRLF; a blank
//! line ends an event; lines that begin with a colon are comments; a byte order mark may come first.
//!
//! A relay must not change what it passes on, so an [`Event`] keeps its exact bytes, comments and blank
//! line with it. The raw bytes of all events and of the [rest](SseParser::rest) are what was fed, in
//! order, however it was cut into chunks. An event that lies within one chunk is a slice of it and costs
//! no copy; only one that crosses a border is put together. Each byte is looked at once for its event's
//! end, and an event that does not end is refused at a bound, so that memory has one too.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// An event of a stream, or comments and blank lines that ended like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// All of its bytes, its blank line included.
    pub raw: Bytes,
    /// It is the stream's first, where a byte order mark is no part of the first line.
    first: bool,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields<'a> {
    /// Its type, if it names one.
    pub name: Option<&'a [u8]>,
    /// Its data, several lines joined by LF; `None` if it has none.
    pub data: Option<Cow<'a, [u8]>>,
}

impl Event {
    /// Reads the fields that matter to a relay. `id` and `retry` are for whoever reconnects.
    pub fn fields(&self) -> Fields<'_> {
        let mut text: &[u8] = &self.raw;
        if self.first {
            text = text.strip_prefix(BOM).unwrap_or(text);
        }
        let mut fields = Fields::default();
        while !text.is_empty() {
            let end = memchr2(b'\n', b'\r', text).unwrap_or(text.len());
            let (line, rest) = text.split_at(end);
            fields.line(line);
            let ending = if rest.starts_with(b"\r\n") { 2 } else { 1 };
            text = rest.get(ending..).unwrap_or_default();
        }
        fields
    }
}

impl<'a> Fields<'a> {
    fn line(&mut self, line: &'a [u8]) {
        if let Some(value) = value_of(line, b"data") {
            match &mut self.data {
                None => self.data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        } else if let Some(value) = value_of(line, b"event") {
            self.name = Some(value);
        }
    }
}

/// The value of a line of this field: after its colon, less one space; a line without a colon has none.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(field)?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

/// An event is longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {max} bytes")]
pub struct EventTooLong {
    pub max: usize,
}

/// Cuts a stream into events.
#[derive(Debug)]
pub struct SseParser {
    max: usize,
    /// What came of the event that has not ended.
    partial: BytesMut,
    /// What was fed and not looked at yet.
    chunk: Bytes,
    /// No byte of the current line has been seen.
    at_line_start: bool,
    /// The last byte seen was a CR, so that an LF now belongs to it.
    after_cr: bool,
    first: bool,
    /// The bound was passed: what follows cannot be told apart any more.
    lost: bool,
}

impl SseParser {
    /// `max` bounds the bytes of one event.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            partial: BytesMut::new(),
            chunk: Bytes::new(),
            at_line_start: true,
            after_cr: false,
            first: true,
            lost: false,
        }
    }

    /// The bound on an event's bytes.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Bytes of the event that has not ended, once there is no next event.
    pub fn pending(&self) -> usize {
        self.partial.len()
    }

    /// Takes the next bytes; call [`next_event`](Self::next_event) until it has none. An event does not wait
    /// for the LF of a CRLF that ends it: one that comes late is given back here, as the last bytes of the
    /// last event.
    #[must_use]
    pub fn feed(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let is_between = self.partial.is_empty() && self.chunk.is_empty() && !self.lost;
        let mut late = None;
        if is_between && self.after_cr && chunk.first() == Some(&b'\n') {
            self.after_cr = false;
            late = Some(chunk.split_to(1));
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut both = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            both.extend_from_slice(&self.chunk);
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
        late
    }

    /// The next event that has ended.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLong> {
        if self.lost {
            return Err(EventTooLong { max: self.max });
        }
        let end = self.find_end();
        let len = self.partial.len() + end.unwrap_or(self.chunk.len());
        if len > self.max {
            self.lost = true;
            self.partial = BytesMut::new();
            self.chunk = Bytes::new();
            return Err(EventTooLong { max: self.max });
        }
        let Some(end) = end else {
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            return Ok(None);
        };
        let head = self.chunk.split_to(end);
        let raw = if self.partial.is_empty() {
            head
        } else {
            self.partial.extend_from_slice(&head);
            self.partial.split().freeze()
        };
        let event = Event {
            raw,
            first: std::mem::take(&mut self.first),
        };
        Ok(Some(event))
    }

    /// Where in the chunk the current event ends, after its blank line; looks at each byte once. A line of
    /// nothing but a byte order mark does not count as blank, which only joins it to the next event.
    fn find_end(&mut self) -> Option<usize> {
        let chunk = &self.chunk;
        let mut at = 0;
        while at < chunk.len() {
            if std::mem::take(&mut self.after_cr) && chunk[at] == b'\n' {
                at += 1;
                continue;
            }
            let Some(newline) = memchr2(b'\n', b'\r', &chunk[at..]).map(|offset| at + offset) else {
                self.at_line_start = false;
                return None;
            };
            let blank = newline == at && self.at_line_start;
            self.after_cr = chunk[newline] == b'\r';
            self.at_line_start = true;
            at = newline + 1;
            if blank {
                if self.after_cr && chunk.get(at) == Some(&b'\n') {
                    self.after_cr = false;
                    at += 1;
                }
                return Some(at);
            }
        }
        None
    }

    /// What is left when the stream has ended: an event without its blank line, which some clients still
    /// read, or nothing.
    pub fn rest(&mut self) -> Option<Event> {
        let raw = self.partial.split().freeze();
        (!raw.is_empty()).then(|| Event {
            raw,
            first: std::mem::take(&mut self.first),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = Vec<(Option<String>, Option<String>)>;

    /// The fields of all events, and all raw bytes.
    fn read(chunks: &[&[u8]]) -> (Read, Vec<u8>) {
        let mut parser = SseParser::new(1 << 20);
        let (mut events, mut raw) = (Vec::new(), Vec::new());
        for chunk in chunks {
            raw.extend(parser.feed(Bytes::copy_from_slice(chunk)).unwrap_or_default());
            while let Some(event) = parser.next_event().expect("within the bound") {
                raw.extend_from_slice(&event.raw);
                events.push(event);
            }
        }
        events.extend(parser.rest().inspect(|event| raw.extend_from_slice(&event.raw)));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let read = events.iter().map(|event| {
            let fields = event.fields();
            (fields.name.map(text), fields.data.as_deref().map(text))
        });
        // What says nothing is not an event to anybody, and where it is cut off does not matter.
        (read.filter(|fields| *fields != (None, None)).collect(), raw)
    }

    fn said(name: &str, data: &str) -> (Option<String>, Option<String>) {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        (some(name), some(data))
    }

    /// Examples of the HTML standard's section on event streams, and what browsers and SDKs meet.
    #[test]
    fn events_are_read_as_the_standard_says() {
        for (stream, expected) in [
            ("data: one\n\ndata: two\n\n", vec![said("-", "one"), said("-", "two")]),
            ("event: a\ndata: x\ndata: y\ndata\n\n", vec![said("a", "x\ny\n")]),
            (
                "data\n\ndata\ndata\n\ndata:",
                vec![said("-", ""), said("-", "\n"), said("-", "")],
            ),
            (
                "data:test\n\ndata: test\n\ndata:  test\n\n",
                vec![said("-", "test"), said("-", "test"), said("-", " test")],
            ),
            (": a comment\n\n: another\ndata: x\n\n", vec![said("-", "x")]),
            ("\u{feff}data: x\n\n", vec![said("-", "x")]),
            ("data: \u{feff}x\n\n\u{feff}data: y\n\n", vec![said("-", "\u{feff}x")]),
            (
                "data: a\rdata: b\r\rdata: c\r\n\r\ndata: d\n\r\n",
                vec![said("-", "a\nb"), said("-", "c"), said("-", "d")],
            ),
            (
                "id: 1\nretry: 5\ndatax: y\nevents: z\nevent: n\nevent: m\n\n",
                vec![said("m", "-")],
            ),
            (
                "data: {\"a\": \"b: c\"}\n\ndata: unfinished",
                vec![said("-", "{\"a\": \"b: c\"}"), said("-", "unfinished")],
            ),
            ("\n\n\n", vec![]),
            ("", vec![]),
        ] {
            let (events, raw) = read(&[stream.as_bytes()]);
            assert_eq!(events, expected, "{stream:?}");
            assert_eq!(raw, stream.as_bytes(), "{stream:?}");
        }
    }

    #[test]
    fn an_event_within_a_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from_static(b"data: one\n\ndata: two\n\nda");
        let mut parser = SseParser::new(100);
        assert_eq!(parser.feed(chunk.clone()), None);
        let mut at = chunk.as_ptr();
        for _ in 0..2 {
            let event = parser.next_event().expect("short").expect("an event");
            assert_eq!(event.raw.as_ptr(), at, "no copy");
            at = at.wrapping_add(event.raw.len());
        }
        assert_eq!(parser.next_event(), Ok(None));
        assert_eq!(parser.feed(Bytes::from_static(b"ta: three\n\n")), None);
        let event = parser.next_event().expect("short").expect("an event");
        assert_eq!(event.raw, "data: three\n\n");
    }

    /// The LF of a CRLF may arrive late: the event is not kept waiting for it.
    #[test]
    fn an_event_does_not_wait_for_the_end_of_its_line_end() {
        let mut parser = SseParser::new(100);
        assert_eq!(parser.feed(Bytes::from_static(b"data: a\r\n\r")), None);
        let event = parser.next_event().expect("short").expect("an event");
        assert_eq!(event.raw, "data: a\r\n\r");
        let late = parser.feed(Bytes::from_static(b"\ndata: b\r\n\r\n"));
        assert_eq!(late, Some(Bytes::from_static(b"\n")));
        let event = parser.next_event().expect("short").expect("an event");
        assert_eq!(event.raw, "data: b\r\n\r\n");
        assert_eq!(event.fields().data.as_deref(), Some(&b"b"[..]));
        assert_eq!(parser.feed(Bytes::from_static(b"\n")), None, "its CRLF is whole");
    }

    #[test]
    fn an_event_that_does_not_end_is_refused_at_the_bound() {
        for chunks in [vec![20], vec![1; 20], vec![11, 9]] {
            let mut parser = SseParser::new(10);
            let mut fed = 0;
            let mut refused = false;
            for len in chunks {
                assert_eq!(parser.feed(Bytes::from(vec![b'x'; len])), None);
                fed += len;
                let next = parser.next_event();
                assert_eq!(next.is_err(), fed > 10, "{fed}");
                refused |= next.is_err();
                assert!(parser.partial.len() <= 10);
            }
            assert!(refused);
        }
        let mut parser = SseParser::new(10);
        assert_eq!(parser.feed(Bytes::from_static(b"data: 12\n\n")), None);
        assert!(parser.next_event().is_ok_and(|event| event.is_some()), "ten bytes");
        assert_eq!(parser.feed(Bytes::from_static(b"data: 123\n\n")), None);
        assert_eq!(parser.next_event(), Err(EventTooLong { max: 10 }));
        assert_eq!(parser.feed(Bytes::from_static(b"data: 1\n\n")), None);
        assert_eq!(
            parser.next_event(),
            Err(EventTooLong { max: 10 }),
            "what follows cannot be told apart"
        );
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(&b"data: x"[..]),
            Just(&b"data"[..]),
            Just(&b"event: e"[..]),
            Just(&b": comment"[..]),
            Just(&b"\n"[..]),
            Just(&b"\n\n"[..]),
            Just(&b"\r"[..]),
            Just(&b"\r\n"[..]),
            Just(&b"\r\n\r\n"[..]),
            Just(BOM),
            Just(&b"\xff\x00"[..]),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// However a stream is cut, its events say the same and no byte is lost, added or moved.
        #[test]
        fn any_chunking_reads_alike(stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            let (events, raw) = read(&chunks);
            prop_assert_eq!(&raw, &stream);
            prop_assert_eq!(events, read(&[&stream]).0);
        }
    }
}
