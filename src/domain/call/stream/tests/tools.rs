//! No call of an unlisted tool passes, however its name is sent.

use super::*;

pub(super) fn tool(index: u64, id: Value, name: Value, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]})
}

#[test]
fn a_call_of_an_unlisted_tool_does_not_reach_the_client() {
    let begin = delta(json!({"role": "assistant", "content": null}));
    let listed = [
        delta(tool(0, json!("a"), json!("read"), "")),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})),
    ]
    .concat();
    let rules = StreamRules {
        gate: gate(&["read", "get_weather"]),
        ..StreamRules::default()
    };
    let good = [begin.as_str(), &listed, &finish("tool_calls"), &usage_chunk(5, 5), DONE].concat();
    let outcome = whole(Route::ChatCompletions, rules.clone(), &good);
    assert_eq!((outcome.forwarded, outcome.fault), (good, None));
    assert_eq!(outcome.answer.tool_calls, ["read"]);

    for bad in [
        tool(1, json!("b"), json!("delete_all"), ""),
        tool(0, json!("b"), json!("delete_all"), ""),
        tool(0, Value::Null, json!("delete_all"), ""),
        json!({"function_call": {"name": "delete_all", "arguments": ""}}),
        json!({"tool_calls": [{"index": 1, "id": "x", "type": "custom", "custom": {"name": "delete_all", "input": ""}}]}),
        json!({"tool_calls": [{"id": "x", "function": {"name": "delete_all"}}]}),
    ] {
        let stream = [
            begin.as_str(),
            &listed,
            &delta(bad.clone()),
            &finish("tool_calls"),
            &usage_chunk(5, 5),
            DONE,
        ]
        .concat();
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        let called = match &outcome.fault {
            Some(StreamFault::ToolNotListed(name)) => name.clone(),
            fault => panic!("{bad}: {fault:?}"),
        };
        assert!(called.ends_with("delete_all"), "{called}");
        assert_eq!(outcome.forwarded, [begin.as_str(), listed.as_str()].concat(), "{bad}");
        assert_eq!(
            counted(&outcome.answer),
            [(C::Input, 5), (C::Output, 5)],
            "what came after is still metered"
        );
    }
}

#[test]
fn a_name_in_pieces_is_held_back_until_it_is_whole() {
    let rules = StreamRules {
        gate: gate(&["get_weather", "get_time"]),
        ..StreamRules::default()
    };
    let piece = |name: &str| delta(json!({"tool_calls": [{"index": 0, "function": {"name": name}}]}));
    let first = delta(tool(0, json!("a"), json!("get_"), ""));
    let arguments = delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}));

    // Piece by piece: nothing passes before the name is one that is listed.
    let mut meter = StreamMeter::new(Route::ChatCompletions, rules.clone());
    assert_eq!(meter.feed(Bytes::from(first.clone())), Ok(vec![]));
    assert_eq!(meter.feed(Bytes::from(piece("wea"))), Ok(vec![]));
    let passed = meter.feed(Bytes::from(piece("ther"))).expect("listed").concat();
    assert_eq!(
        String::from_utf8_lossy(&passed),
        [first.clone(), piece("wea"), piece("ther")].concat()
    );
    assert_eq!(meter.end().tool_calls, ["get_weather"]);

    for (stream, called) in [
        (vec![first.clone(), piece("secret")], "get_secret"),
        (vec![first.clone(), arguments.clone()], "get_"),
        (vec![first.clone(), finish("tool_calls")], "get_"),
        (vec![first.clone()], "get_"),
        (vec![first.clone(), ": ping\n\n".into(), DONE.into()], "get_"),
        (
            vec![first.clone(), piece("wea"), delta(json!({"content": "x"}))],
            "get_wea",
        ),
    ] {
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream.concat());
        assert_eq!(outcome.fault, Some(StreamFault::ToolNotListed(called.into())));
        assert_eq!(outcome.forwarded, "");
    }
    // A name that is listed may not grow into one that is not.
    let stream = [delta(tool(0, json!("a"), json!("get_time"), "")), piece("_machine")];
    let outcome = whole(Route::ChatCompletions, rules.clone(), &stream.concat());
    assert_eq!(
        outcome.fault,
        Some(StreamFault::ToolNotListed("get_time_machine".into()))
    );
    assert_eq!(outcome.forwarded, stream[0]);
    // Copies: the whole name in every piece; the same index for each of several whole calls.
    let again =
        delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "get_time", "arguments": "{}"}}]}));
    for second in [
        again,
        delta(tool(0, json!(""), json!("get_weather"), "{}")),
        delta(tool(0, json!("b"), json!("get_weather"), "{}")),
    ] {
        let stream = [delta(tool(0, json!("a"), json!("get_time"), "")), second].concat();
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        assert_eq!((outcome.fault, outcome.forwarded), (None, stream));
    }
}

#[test]
fn what_cannot_be_read_passes_no_gate() {
    for event in [
        "data: {\"choices\": [\n\n",
        "data: hello\n\n",
        "data: [1]\n\n",
        "data: {\"choices\":[],\"choices\":[]}\n\n",
    ] {
        let outcome = whole(Route::ChatCompletions, StreamRules::default(), event);
        assert_eq!((outcome.forwarded.as_str(), outcome.fault), (event, None));
        let rules = StreamRules {
            gate: gate(&["read"]),
            ..StreamRules::default()
        };
        let outcome = whole(Route::ChatCompletions, rules, event);
        assert_eq!(
            (outcome.forwarded.as_str(), outcome.fault),
            ("", Some(StreamFault::Unreadable))
        );
    }
}

/// A whole answer with such a call is withheld, so its stream is cut: nothing is listed under no name.
#[test]
fn a_call_without_a_name_passes_no_gate() {
    let arguments = || json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]});
    let nameless = [
        arguments(),
        json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "", "arguments": "{}"}}]}),
        json!({"tool_calls": [{"index": 0, "id": "a", "type": "function"}]}),
        json!({"tool_calls": [{"index": 0, "custom": {"input": "rm"}}]}),
        json!({"function_call": {"arguments": "{}"}}),
        json!({"function_call": {"name": "", "arguments": "{}"}}),
    ];
    let begin = delta(json!({"role": "assistant", "content": null}));
    for call in &nameless {
        for then in [
            &[delta(call.clone()), finish("tool_calls")].concat(),
            &delta(json!({"content": "x"})),
            "",
        ] {
            let stream = [&begin, &delta(call.clone()), then, &usage_chunk(5, 5), DONE].concat();
            let outcome = whole(Route::ChatCompletions, StreamRules::default(), &stream);
            assert_eq!((&outcome.forwarded, outcome.fault), (&stream, None), "nothing is gated");
            assert!(outcome.answer.calls_others, "as a whole answer has it: {call}");
            for listed in [&["read"][..], &[]] {
                let rules = StreamRules {
                    gate: gate(listed),
                    ..StreamRules::default()
                };
                let outcome = whole(Route::ChatCompletions, rules, &stream);
                let unnamed = StreamFault::ToolNotListed(String::new());
                assert_eq!(outcome.fault, Some(unnamed), "{call} {then}");
                assert_eq!(outcome.forwarded, begin, "{call} {then}");
            }
        }
    }
    // A name may come after its call has begun; what goes on is no call of its own, whatever it repeats.
    let rules = StreamRules {
        gate: gate(&["read"]),
        ..StreamRules::default()
    };
    let first = delta(json!({"tool_calls": [{"index": 0, "id": "a", "type": "function"}]}));
    let named = delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "read"}}]}));
    let begun = delta(tool(0, json!("a"), json!("read"), ""));
    for stream in [
        [first, named.clone(), delta(arguments())].concat(),
        [begun.clone(), delta(tool(0, json!("b"), Value::Null, "{}"))].concat(),
        [begun.clone(), delta(tool(0, Value::Null, json!(""), "{}"))].concat(),
        [begun, delta(arguments()), finish("tool_calls")].concat(),
    ] {
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        assert_eq!((outcome.forwarded, outcome.fault), (stream, None));
        assert!(!outcome.answer.calls_others);
    }
}
