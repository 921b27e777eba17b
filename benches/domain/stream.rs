//! What metering costs an event of a stream, with everything on: gate, limit and usage.
//!
//! The events are those of a long answer as its API sends them (shapes documented by the providers'
//! SDKs, texts synthetic), one event in a chunk and sixteen in one. Criterion's throughput is events a
//! second.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use backstop::domain::call::{Route, StreamMeter, StreamRules, ToolGate};
use bytes::Bytes;
use criterion::{Criterion, Throughput};

const EVENTS: usize = 4_096;

fn chat(n: usize) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-CfJ8pC0iF1m4mLhTn0bq3vY2kXwZe\",\"object\":\"chat.completion.chunk\",\
         \"created\":1795000000,\"model\":\"gpt-5-mini-2025-08-07\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_50906f2aac\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}},\
         \"logprobs\":null,\"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"mXh7Qk\"}}\n\n"
    )
}

fn responses(n: usize) -> String {
    format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\
         \"sequence_number\":{n},\"item_id\":\"msg_68af4030baa48193b0b43b4c2a176a1a0d6c0f0f\",\"output_index\":0,\
         \"content_index\":0,\"delta\":\" word{n}\",\"logprobs\":[],\"obfuscation\":\"mXh7Qk\"}}\n\n"
    )
}

fn messages(n: usize) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{{\"type\":\"text_delta\",\"text\":\" word{n} and what follows it\"}}}}\n\n"
    )
}

fn rules() -> StreamRules {
    let tools = ["get_weather", "read_file", "search"].map(str::to_owned);
    StreamRules {
        strip_usage: true,
        gate: ToolGate::Only(Arc::new(BTreeSet::from(tools))),
        output_limit: Some(1_000_000),
        max_event: None,
        free_usage: Arc::default(),
    }
}

pub fn meter(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meter_stream");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, route, event) in [
        ("chat", Route::ChatCompletions, chat as fn(usize) -> String),
        ("responses", Route::Responses, responses),
        ("messages", Route::Messages, messages),
    ] {
        for a_chunk in [1, 16] {
            let events: Vec<String> = (0..EVENTS).map(event).collect();
            let chunks: Vec<Bytes> = events
                .chunks(a_chunk)
                .map(|events| Bytes::from(events.concat()))
                .collect();
            group.bench_function(format!("{name}_{a_chunk}_in_a_chunk"), |bencher| {
                // The time that this thread was running, so that a busy machine does not count its other work in.
                bencher.iter_custom(|times| {
                    let mut taken = Duration::ZERO;
                    for _ in 0..times {
                        let mut meter = StreamMeter::new(route, rules());
                        let start = crate::running();
                        for chunk in &chunks {
                            black_box(meter.feed(chunk.clone()).expect("it passes"));
                        }
                        taken += crate::running().saturating_sub(start);
                    }
                    taken
                });
            });
        }
    }
    group.finish();
}
