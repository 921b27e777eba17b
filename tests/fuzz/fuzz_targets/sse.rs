//! Any chunking of a stream gives the same events, and all bytes back in order.

#![no_main]

use backstop_fuzz::domain::wire::sse::SseParser;
use backstop_fuzz::{Steer, chunks};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

type Said = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What the events say, all bytes, and whether an event was too long.
fn read(chunks: Vec<Bytes>, max: usize) -> (Vec<Said>, Vec<u8>, bool) {
    let mut parser = SseParser::new(max);
    let (mut said, mut raw) = (Vec::new(), Vec::new());
    let mut note = |event: &backstop_fuzz::domain::wire::sse::Event| {
        assert!(event.raw.len() <= max);
        let fields = event.fields();
        let fields = (
            fields.name.map(<[u8]>::to_vec),
            fields.data.map(|data| data.into_owned()),
        );
        if fields != (None, None) {
            said.push(fields);
        }
        raw.extend_from_slice(&event.raw);
    };
    for chunk in chunks {
        parser.feed(chunk);
        loop {
            match parser.next_event() {
                Ok(Some(event)) => note(&event),
                Ok(None) => break,
                Err(_) => return (said, raw, true),
            }
        }
        assert!(parser.pending() <= max);
    }
    if let Some(event) = parser.rest() {
        note(&event);
    }
    (said, raw, false)
}

fuzz_target!(|input: &[u8]| {
    let mut steer = Steer { rest: input };
    let (seed, max) = (steer.byte(), steer.one_of(&[1 << 20, 64, 17]));
    let stream = steer.rest;
    let (said, raw, was_long) = read(chunks(stream, seed), max);
    let (said_whole, raw_whole, was_long_whole) = read(vec![Bytes::copy_from_slice(stream)], max);
    // With a CR at a chunk's end the LF of its CRLF moves to the next event, whose length then differs.
    if !was_long && !was_long_whole {
        assert_eq!(said, said_whole);
        assert_eq!(raw, stream);
        assert_eq!(raw_whole, stream);
    } else {
        assert!(stream.starts_with(&raw) && stream.starts_with(&raw_whole));
    }
});
