//! However a stream is cut into chunks, it is metered alike; and how a cut one ends.

use super::messages::{message_delta, message_start, text_block};
use super::responses::responses_stream;
use super::tools::tool;
use super::*;

#[test]
fn an_event_has_a_bound() {
    let rules = StreamRules {
        max_event: Some(1_000),
        ..StreamRules::default()
    };
    let hi = delta(json!({"content": "hi"}));
    let stream = [hi.clone(), delta(json!({"content": "x".repeat(2_000)})), hi.clone()].concat();
    let outcome = whole(Route::ChatCompletions, rules, &stream);
    assert_eq!(
        outcome.fault,
        Some(StreamFault::EventTooLong(EventTooLong { max: 1_000 }))
    );
    assert_eq!(outcome.forwarded, hi);
}

#[test]
fn a_cut_stream_ends_with_an_error_that_the_sdks_raise() {
    let text = |route: Route| {
        let meter = StreamMeter::new(route, StreamRules::default());
        String::from_utf8_lossy(&meter.error_event("output_limit", "too \"much\"\n")).into_owned()
    };
    let error = json!({"message": "too \"much\"\n", "type": "backstop_error", "param": null, "code": "output_limit"});
    assert_eq!(
        text(Route::ChatCompletions),
        format!("data: {}\n\n", json!({ "error": error }))
    );
    assert_eq!(
        text(Route::Transcriptions),
        format!("event: error\ndata: {}\n\n", json!({ "error": error }))
    );
    let expected = json!({"type": "error", "code": "output_limit", "message": "too \"much\"\n", "param": null, "sequence_number": 1, "error": error});
    assert_eq!(text(Route::Responses), format!("event: error\ndata: {expected}\n\n"));
    let error = json!({"type": "api_error", "message": "too \"much\"\n", "code": "output_limit"});
    assert_eq!(
        text(Route::Messages),
        format!("event: error\ndata: {}\n\n", json!({"type": "error", "error": error}))
    );
}

fn streams() -> impl Strategy<Value = (Route, String)> {
    let usage = json!({"input_tokens": 36, "output_tokens": 87, "total_tokens": 123});
    let tools = [
        delta(tool(0, json!("a"), json!("re"), "")),
        delta(json!({"tool_calls": [{"index": 0, "function": {"name": "ad", "arguments": "{}"}}]})),
        delta(tool(1, json!("b"), json!("drop"), "")),
        finish("tool_calls"),
        usage_chunk(3, 3),
        DONE.to_owned(),
    ];
    let message = [
        message_start(json!({"input_tokens": 25, "output_tokens": 1})),
        text_block(),
        message_delta(json!("end_turn"), json!({"output_tokens": 15})),
    ];
    let stream = prop_oneof![
        Just((Route::ChatCompletions, hello())),
        Just((Route::ChatCompletions, tools.concat())),
        Just((Route::Responses, responses_stream("completed", usage))),
        Just((Route::Messages, message.concat())),
    ];
    (stream, prop_oneof![Just("\n"), Just("\r\n"), Just("\r")])
        .prop_map(|((route, stream), newline)| (route, stream.replace('\n', newline)))
}

proptest! {
    /// However a stream is cut into chunks, the client gets the same bytes and the meter reads the same.
    #[test]
    fn any_chunking_is_metered_alike(
        (route, stream) in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        strip_usage: bool, gated: bool, limit in prop::option::of(0_u64..8),
    ) {
        let rules = StreamRules {
            strip_usage,
            gate: if gated { gate(&["read"]) } else { ToolGate::All },
            output_limit: limit,
            max_event: None,
            ..StreamRules::default()
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream.as_bytes()[cut[0]..cut[1]]).collect();
        let one = whole(route, rules.clone(), &stream);
        let many = feed(route, rules, &chunks, true);
        prop_assert_eq!(one.fault, many.fault);
        prop_assert_eq!(one.forwarded, many.forwarded);
        prop_assert_eq!(one.answer, many.answer);
    }
}
