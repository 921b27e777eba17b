//! Any chunking of a stream is metered alike: the same bytes to the client, the same fault, the same answer.

#![no_main]

use std::sync::Arc;

use backstop_fuzz::domain::call::{Answer, Route, StreamFault, StreamMeter, StreamRules, ToolGate};
use backstop_fuzz::{ROUTES, Steer, chunks};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fn meter(route: Route, rules: StreamRules, chunks: Vec<Bytes>, closes: bool) -> (Vec<u8>, Option<StreamFault>, Answer) {
    let mut meter = StreamMeter::new(route, rules);
    let mut forwarded = Vec::new();
    let mut fault = None;
    let closing = closes.then_some(None);
    for step in chunks.into_iter().map(Some).chain(closing) {
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

fuzz_target!(|input: &[u8]| {
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
        if fault.is_none() && closes {
            assert_eq!(forwarded, stream, "nothing is lost");
        }
    }
    assert!(forwarded.len() <= stream.len());
    assert!(answer.usage.is_none() || answer.fault.is_none());
    if gated && fault.is_none() && closes && route != Route::ChatCompletions {
        assert!(
            answer.tool_calls.iter().all(|tool| rules.gate.allows(tool)),
            "{answer:?}"
        );
    }
});
