//! Chat: the usage that counts, what is taken out, where it is cut.

use super::*;

#[test]
fn chat_passes_untouched_and_is_metered_by_its_last_chunk() {
    let outcome = whole(Route::ChatCompletions, StreamRules::default(), &hello());
    assert_eq!((outcome.forwarded, outcome.fault), (hello(), None));
    let answer = outcome.answer;
    assert_eq!(counted(&answer), [(C::Input, 9), (C::Output, 2)]);
    assert_eq!(
        (answer.id.as_deref(), answer.model.as_deref()),
        (Some("chatcmpl-1"), Some("gpt-5-mini"))
    );
    assert!(!answer.on_limit);
}

#[test]
fn what_passes_is_the_chunk_itself() {
    let chunk = Bytes::from(hello());
    let mut meter = StreamMeter::new(Route::ChatCompletions, StreamRules::default());
    let passed = meter.feed(chunk.clone()).expect("it passes");
    assert_eq!(passed.len(), 1, "one slice");
    assert_eq!(
        (passed[0].as_ptr(), passed[0].len()),
        (chunk.as_ptr(), chunk.len()),
        "no copy"
    );
}

#[test]
fn a_usage_chunk_that_the_client_did_not_ask_for_is_taken_out() {
    let rules = StreamRules {
        strip_usage: true,
        ..StreamRules::default()
    };
    for newline in ["\n", "\r\n", "\r"] {
        let stream = hello().replace('\n', newline);
        let expected = stream.replace(&usage_chunk(9, 2).replace('\n', newline), "");
        assert_ne!(stream, expected);
        let outcome = whole(Route::ChatCompletions, rules.clone(), &stream);
        assert_eq!(outcome.forwarded, expected);
        assert_eq!(counted(&outcome.answer), [(C::Input, 9), (C::Output, 2)]);
    }
    // A usage in a chunk that also says something else stays.
    let both = chat_chunk(
        json!([{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]),
        chat_usage(9, 2),
    );
    let outcome = whole(Route::ChatCompletions, rules.clone(), &both);
    assert_eq!(outcome.forwarded, both);
    // So does a chunk without choices that has none.
    let filter = chat_chunk(json!([]), Value::Null);
    assert_eq!(whole(Route::ChatCompletions, rules, &filter).forwarded, filter);
}

#[test]
fn a_usage_counts_if_it_is_the_last_word() {
    let used = |stream: &[&str], closes: bool| {
        let stream = stream.concat();
        let outcome = feed(
            Route::ChatCompletions,
            StreamRules::default(),
            &[stream.as_bytes()],
            closes,
        );
        assert_eq!(outcome.forwarded, stream);
        counted(&outcome.answer)
    };
    let with_usage = |content: &str, reason: Value, completion: u64| {
        let choices = json!([{"index": 0, "delta": {"content": content}, "finish_reason": reason}]);
        chat_chunk(choices, chat_usage(9, completion))
    };
    let (hi, stop, alone) = (delta(json!({"content": "hi"})), finish("stop"), usage_chunk(9, 2));
    let full = [(C::Input, 9), (C::Output, 2)];
    assert_eq!(used(&[&hi, &stop, &alone], false), full, "cut off after the usage");
    assert_eq!(used(&[&hi, &stop], false), []);
    assert_eq!(used(&[&hi, &stop, DONE], true), [], "none was given");
    // Copies: in the last delta, or growing in each.
    let last = with_usage("hi", json!("stop"), 2);
    assert_eq!(used(&[&last, DONE], true), full);
    assert_eq!(used(&[&last], true), full);
    assert_eq!(used(&[&last], false), [], "another choice may have been on its way");
    let growing = [with_usage("h", Value::Null, 1), with_usage("i", Value::Null, 2)];
    assert_eq!(used(&[&growing[0], &growing[1], &stop, DONE], true), full);
    assert_eq!(used(&[&growing[0], &growing[1]], false), [], "it was broken off");
    assert_eq!(
        used(&[&growing[0], &hi, &stop, DONE], true),
        [],
        "more was written since"
    );
    // Zero is what the provider says.
    let zero = usage_chunk(0, 0);
    let outcome = whole(
        Route::ChatCompletions,
        StreamRules::default(),
        &[zero.as_str(), DONE].concat(),
    );
    assert_eq!(outcome.answer.usage, Some(Usage::one_call()));
}

#[test]
fn a_usage_that_is_not_understood_is_a_fault_and_not_nothing() {
    let used = |usage: Value| {
        let stream = [chat_chunk(json!([]), usage), DONE.to_owned()].concat();
        let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream).answer;
        (answer.usage, answer.fault.map(|fault| fault.to_string()))
    };
    assert_eq!(
        used(json!({"prompt_tokens": -1, "completion_tokens": 2})),
        (None, Some("prompt_tokens is negative".into()))
    );
    let unknown = json!({"prompt_tokens": 1, "completion_tokens": 2, "video_tokens": 3});
    assert!(used(unknown).1.is_some_and(|why| why.contains("video_tokens")));
    let twice =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"prompt_tokens\":2,\"completion_tokens\":1}}\n\n";
    let answer = whole(Route::ChatCompletions, StreamRules::default(), twice).answer;
    assert!(matches!(answer.fault, Some(UsageFault::Json(_))), "{answer:?}");
}

#[test]
fn the_tier_that_served_a_stream_prices_it() {
    let chunk =
        |tier: Value, usage: Value| data(&json!({"id": "c", "choices": [], "service_tier": tier, "usage": usage}));
    let stream = [
        chunk(json!("priority"), Value::Null),
        chunk(Value::Null, chat_usage(1, 1)),
        DONE.into(),
    ]
    .concat();
    let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream).answer;
    assert_eq!(answer.usage.map(|usage| usage.tier), Some(ServiceTier::Priority));
    let stream = [chunk(json!("hyper"), chat_usage(1, 1)), DONE.into()].concat();
    let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream).answer;
    assert!(answer.usage.is_none() && answer.fault.is_some());
}

#[test]
fn a_stream_of_groq_is_metered() {
    let chunk = |choices: Value, usage: Value| {
        data(
            &json!({"id": "chatcmpl-g", "object": "chat.completion.chunk", "created": 1_795_000_000,
                     "model": "llama-3.3-70b-versatile", "system_fingerprint": "fp_1", "service_tier": "on_demand",
                     "choices": choices, "usage": usage, "x_groq": {"id": "req_1"}}),
        )
    };
    let usage = json!({"queue_time": 0.037, "prompt_tokens": 18, "prompt_time": 0.0007, "completion_tokens": 5,
                       "completion_time": 0.46, "total_tokens": 23, "total_time": 0.46});
    let said = json!([{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": null}]);
    let ended = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    let stream = [
        chunk(said, Value::Null),
        chunk(ended, Value::Null),
        chunk(json!([]), usage),
        DONE.into(),
    ];
    let answer = whole(Route::ChatCompletions, StreamRules::default(), &stream.concat()).answer;
    assert_eq!(counted(&answer), [(C::Input, 18), (C::Output, 5)]);
    assert_eq!(answer.usage.map(|usage| usage.tier), Some(ServiceTier::Standard));
}

#[test]
fn output_past_the_hold_cuts_the_stream() {
    let limit = |limit: u64| StreamRules {
        output_limit: Some(limit),
        ..StreamRules::default()
    };
    let word = || delta(json!({"content": "word "}));
    let stream = [
        delta(json!({"role": "assistant", "content": ""})),
        word(),
        word(),
        word(),
        finish("stop"),
        usage_chunk(9, 3),
        DONE.into(),
    ];
    let outcome = whole(Route::ChatCompletions, limit(3), &stream.concat());
    assert_eq!(
        (outcome.fault, outcome.forwarded),
        (None, stream.concat()),
        "the hold covers it"
    );
    let outcome = whole(Route::ChatCompletions, limit(2), &stream.concat());
    assert_eq!(outcome.fault, Some(StreamFault::PastLimit { limit: 2 }));
    assert_eq!(outcome.forwarded, stream[..3].concat());
    // A long piece is many tokens; no token has a thousand bytes.
    let long = delta(json!({"content": "x".repeat(10_000)}));
    assert!(whole(Route::ChatCompletions, limit(9), &long).fault.is_none());
    assert_eq!(
        whole(Route::ChatCompletions, limit(8), &long).fault,
        Some(StreamFault::PastLimit { limit: 8 })
    );
    // The provider's own count is better than ours, both ways.
    let grown = |completion: u64| {
        chat_chunk(
            json!([{"index": 0, "delta": {"content": "x"}}]),
            chat_usage(9, completion),
        )
    };
    assert!(
        whole(Route::ChatCompletions, limit(4), &[grown(5), word()].concat())
            .fault
            .is_some()
    );
    let pieces = [word(), word(), grown(1), word()].concat();
    assert!(whole(Route::ChatCompletions, limit(3), &pieces).fault.is_none());
    assert!(
        whole(Route::ChatCompletions, limit(1), &[grown(1), word()].concat())
            .fault
            .is_some()
    );
    // What is over is not cut: it would only hide its usage.
    let outcome = whole(
        Route::ChatCompletions,
        limit(2),
        &[word(), finish("length"), usage_chunk(9, 7), DONE.into()].concat(),
    );
    assert_eq!(outcome.fault, None);
    assert!(outcome.answer.on_limit);
    assert_eq!(counted(&outcome.answer), [(C::Input, 9), (C::Output, 7)]);
}

#[test]
fn an_error_in_the_middle_passes_and_leaves_the_usage_unknown() {
    let error = data(&json!({"error": {"message": "overloaded", "type": "server_error", "code": null, "param": null}}));
    let stream = [delta(json!({"content": "hi"})), error].concat();
    let rules = StreamRules {
        gate: gate(&[]),
        strip_usage: true,
        output_limit: Some(5),
        ..StreamRules::default()
    };
    let outcome = whole(Route::ChatCompletions, rules, &stream);
    assert_eq!((outcome.forwarded, outcome.fault), (stream, None));
    assert_eq!((outcome.answer.usage, outcome.answer.fault), (None, None));
}
