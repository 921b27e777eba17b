//! What must hold for every input. The fuzzer looks for one for which it does not; the house's own tests
//! hold it for the seeds, among which is whatever a fuzzer once found.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::domain::call::{
    Answer, CallRules, Metering, OutputLimit, Route, StreamFault, StreamMeter, StreamRules, ToolGate, audio, form,
    read, read_answer, read_form,
};
use super::domain::wire::json::{JsonLimits, JsonRejection, check, parse_strict};
use super::domain::wire::sse::{Event, SseParser};

/// All routes, those with the richest forms first.
const ROUTES: [Route; 15] = [
    Route::ChatCompletions,
    Route::Responses,
    Route::Messages,
    Route::Completions,
    Route::Transcriptions,
    Route::Translations,
    Route::Speech,
    Route::ImageGenerations,
    Route::ImageEdits,
    Route::ImageVariations,
    Route::Embeddings,
    Route::Moderations,
    Route::OpenaiModels,
    Route::CountTokens,
    Route::AnthropicModels,
];

/// Takes what steers off the end of an input, so that the rest stays what it is: a file of the corpus is a
/// stream or a body with a few bytes after it.
struct Steer<'a> {
    rest: &'a [u8],
}

impl Steer<'_> {
    fn byte(&mut self) -> u8 {
        match self.rest.split_last() {
            Some((last, rest)) => {
                self.rest = rest;
                *last
            }
            None => 0,
        }
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

/// Cuts bytes into chunks whose lengths come from a small generator, so that a cut can fall anywhere.
fn chunks(bytes: &[u8], seed: u8) -> Vec<Bytes> {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761) | 1;
    let mut rest = bytes;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = 1 + usize::from(seed >> 3) * 4;
        let len = (1 + (state >> 16) as usize % longest).min(rest.len());
        let (chunk, after) = rest.split_at(len);
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = after;
    }
    chunks
}

// --- events ---------------------------------------------------------------------------------------

type Said = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What the events say, all bytes, and whether an event was too long.
fn read_events(chunks: Vec<Bytes>, max: usize) -> (Vec<Said>, Vec<u8>, bool) {
    let mut parser = SseParser::new(max);
    let (mut said, mut raw) = (Vec::new(), Vec::new());
    let mut note = |event: &Event, raw: &mut Vec<u8>| {
        assert!(event.raw.len() <= max);
        let fields = event.fields();
        let fields = (
            fields.name.map(<[u8]>::to_vec),
            fields.data.map(std::borrow::Cow::into_owned),
        );
        if fields != (None, None) {
            said.push(fields);
        }
        raw.extend_from_slice(&event.raw);
    };
    for chunk in chunks {
        raw.extend(parser.feed(chunk).unwrap_or_default());
        loop {
            match parser.next_event() {
                Ok(Some(event)) => note(&event, &mut raw),
                Ok(None) => break,
                Err(_) => return (said, raw, true),
            }
        }
        assert!(parser.pending() <= max);
    }
    if let Some(event) = parser.rest() {
        note(&event, &mut raw);
    }
    (said, raw, false)
}

/// Any chunking of a stream gives the same events, and all bytes back in order.
pub fn sse(input: &[u8]) {
    let mut steer = Steer { rest: input };
    let (seed, max) = (steer.byte(), steer.one_of(&[1 << 20, 64, 17]));
    let stream = steer.rest;
    let (said, raw, was_long) = read_events(chunks(stream, seed), max);
    let (said_whole, raw_whole, was_long_whole) = read_events(vec![Bytes::copy_from_slice(stream)], max);
    // With a CR at a chunk's end the LF of its CRLF is not in the event, whose length then differs.
    if was_long || was_long_whole {
        assert!(stream.starts_with(&raw) && stream.starts_with(&raw_whole));
    } else {
        assert_eq!(said, said_whole);
        assert_eq!(raw, stream);
        assert_eq!(raw_whole, stream);
    }
}

// --- JSON -----------------------------------------------------------------------------------------

/// The strict reader accepts what `serde_json` accepts, less repeated keys and what is past its bounds.
pub fn json(input: &[u8]) {
    let limits = JsonLimits::default();
    let strict = parse_strict(input, &limits);
    let lax = serde_json::from_slice::<Value>(input);
    match (&strict, &lax) {
        (Ok(strict), Ok(lax)) => assert_eq!(strict, lax),
        (Ok(_), Err(error)) => panic!("accepted, and serde_json says {error}"),
        (Err(JsonRejection::Syntax { .. }), Ok(_)) => panic!("refused what serde_json reads: {strict:?}"),
        (Err(_), _) => {}
    }
    assert_eq!(check(input, &limits), strict.map(|_| ()));
    let small = JsonLimits {
        bytes: 512,
        depth: 3,
        values: 20,
    };
    if let Ok(value) = parse_strict(input, &small) {
        assert_eq!(lax.ok(), Some(value));
    }
}

// --- answers --------------------------------------------------------------------------------------

fn holds(value: &Value, text: &str) -> bool {
    match value {
        // A kind of call may stand for its tool's name.
        Value::String(string) => string.starts_with(text) || text == "programmatic_tool_calling" && string == "program",
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}

/// No answer makes the reader panic, grow, or say of a tool or a usage what is not in it.
pub fn answer(input: &[u8]) {
    let mut steer = Steer { rest: input };
    let route = steer.one_of(&ROUTES);
    let body = steer.rest;
    let Ok(answer) = read_answer(route, body) else { return };
    assert!(answer.usage.is_none() || answer.fault.is_none());
    assert!(answer.tool_calls.iter().all(|tool| tool.len() <= 256));
    // What nobody reads is skipped, so it may hold what another reader refuses; and of a key that repeats
    // there, another reader takes one.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        for name in answer.tool_calls.iter().chain(&answer.id).chain(&answer.model) {
            assert!(holds(&value, name), "{name:?}");
        }
    }
}

// --- streams --------------------------------------------------------------------------------------

fn meter(route: Route, rules: StreamRules, chunks: Vec<Bytes>, closes: bool) -> (Vec<u8>, Option<StreamFault>, Answer) {
    let mut meter = StreamMeter::new(route, rules);
    let mut forwarded = Vec::new();
    let mut fault = None;
    for step in chunks.into_iter().map(Some).chain(closes.then_some(None)) {
        let fed = match step {
            Some(chunk) => meter.feed(chunk),
            None => meter.close(),
        };
        match fed {
            Ok(passed) => {
                assert!(fault.is_none() || passed.is_empty(), "nothing passes after a cut");
                forwarded.extend(passed.concat());
            }
            Err(why) => {
                assert!(fault.is_none(), "a stream is cut once");
                forwarded.extend(meter.passed().concat());
                fault = Some(why);
            }
        }
    }
    (forwarded, fault, meter.end())
}

/// Any chunking of a stream is metered alike: the same bytes to the client, the same fault, the same answer.
pub fn stream(input: &[u8]) {
    let mut steer = Steer { rest: input };
    let seed = steer.byte();
    let route = steer.one_of(&ROUTES[..9]);
    let flags = steer.byte();
    let tools = ["read", "get_weather", "get_time", "web_search"].map(str::to_owned);
    let gated = flags & 2 != 0;
    let rules = StreamRules {
        strip_usage: flags & 1 != 0,
        gate: if gated {
            ToolGate::Only(Arc::new(tools.into()))
        } else {
            ToolGate::All
        },
        output_limit: (flags & 4 != 0).then_some(u64::from(flags >> 4)),
        max_event: None,
        ..StreamRules::default()
    };
    let (closes, stream) = (flags & 8 == 0, steer.rest);
    let one = meter(route, rules.clone(), vec![Bytes::copy_from_slice(stream)], closes);
    let many = meter(route, rules.clone(), chunks(stream, seed), closes);
    assert_eq!(one.0, many.0);
    assert_eq!(one.1, many.1);
    assert_eq!(one.2, many.2);
    let (forwarded, fault, answer) = one;
    if !rules.strip_usage {
        assert!(stream.starts_with(&forwarded), "nothing is changed");
        assert!(fault.is_some() || !closes || forwarded == stream, "nothing is lost");
    }
    assert!(forwarded.len() <= stream.len());
    assert!(answer.usage.is_none() || answer.fault.is_none());
    if gated && fault.is_none() && closes && route != Route::ChatCompletions {
        assert!(
            answer.tool_calls.iter().all(|tool| rules.gate.allows(tool)),
            "{answer:?}"
        );
    }
}

// --- requests -------------------------------------------------------------------------------------

/// No body makes the reader of requests panic or grow, and what it renders it reads again.
pub fn request(input: &[u8]) {
    let mut steer = Steer { rest: input };
    let route = steer.one_of(&ROUTES);
    let flags = steer.byte();
    let rules = CallRules {
        max_tokens: (flags & 1 != 0).then_some(100),
        ..CallRules::default()
    };
    let body = Bytes::copy_from_slice(steer.rest);
    let Ok(mut asked) = read(route, &body, &rules) else {
        return;
    };
    if flags & 2 != 0
        && let Some(tool) = asked.tools.first().cloned()
    {
        // A tool that cannot be taken out leaves the request as it was.
        let _ = asked.strip(&[tool].into());
    }
    if let OutputLimit::Tokens {
        asked: Some(tokens), ..
    } = asked.output
        && rules.max_tokens.is_some()
    {
        assert!(tokens <= 100, "clamped to the rules");
    }
    let rendered = asked.body((flags & 4 != 0).then_some(50));
    if route.metering() == Metering::Free || body.is_empty() {
        return;
    }
    let again = read(route, &rendered, &rules).expect("what is forwarded can be read");
    assert_eq!(again.model, asked.model);
    assert_eq!(again.stream, asked.stream);
    assert_eq!(again.tools, asked.tools);
}

/// No form makes the splitter panic; what it splits are slices of the body.
pub fn form(input: &[u8]) {
    let mut steer = Steer { rest: input };
    let route = steer.one_of(&[
        Route::Transcriptions,
        Route::Translations,
        Route::ImageEdits,
        Route::ImageVariations,
    ]);
    let body = Bytes::copy_from_slice(steer.rest);
    let Ok(parts) = form::split("b", &body) else { return };
    let range = body.as_ptr_range();
    for part in &parts {
        assert!(
            part.bytes.is_empty() || range.contains(&part.bytes.as_ptr()),
            "a slice, no copy"
        );
    }
    let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
    assert!(total <= body.len());
    let _ = read_form(route, &body, &parts, &CallRules::default());
}

// --- recordings -----------------------------------------------------------------------------------

/// No recording makes the reader panic, wait or grow, and none is measured longer than its bound.
pub fn audio(input: &[u8]) {
    let _ = audio::unbounded(input);
    let length = audio::measure(input);
    assert!(length.bound_micros > 0);
    if let Some(measured) = length.measured_micros {
        assert!(measured <= length.bound_micros);
        assert!(measured > 0);
    }
}
