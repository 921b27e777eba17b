//! Usage objects as the APIs return them.
//!
//! The shapes are documented: the types of the `openai` Python SDK 3.51.0 and the `anthropic` one 2.10.0,
//! and the Bedrock Runtime service model (botocore 1.44.5). The numbers are synthetic, and small enough
//! that each sum can be done by hand.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{UsageApi as Api, UsageRejection as No, usage_from};
use crate::domain::price::{Region, ServiceTier, TokenClass as C, Usage};

/// The classes that a usage counts, without the zeros.
fn counted(usage: &Usage) -> Vec<(C, u64)> {
    usage.tokens.iter().collect()
}

fn read(api: Api, usage: &Value) -> Usage {
    usage_from(api, usage).unwrap_or_else(|why| panic!("{usage}: {why}"))
}

fn no(api: Api, usage: Value) -> No {
    usage_from(api, &usage).expect_err("it is refused")
}

#[test]
fn openai_parts_are_inside_their_totals() {
    let chat = json!({
        "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 64, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 10
        }
    });
    let usage = read(Api::OpenaiChat, &chat);
    assert_eq!(
        counted(&usage),
        [
            (C::Input, 86),
            (C::CacheRead, 1920),
            (C::Output, 236),
            (C::Reasoning, 64)
        ]
    );
    assert_eq!(
        (usage.tokens.input(), usage.tokens.output(), usage.requests),
        (2006, 300, 1)
    );

    let responses = json!({
        "input_tokens": 5000, "output_tokens": 120, "total_tokens": 5120,
        "input_tokens_details": {
            "cached_tokens": 1000, "cache_write_tokens": 3000,
            "cache_write_tokens_details": {"ttl_30m_tokens": 1800, "ttl_12h_tokens": 700}
        },
        "output_tokens_details": {"reasoning_tokens": 100}
    });
    assert_eq!(
        counted(&read(Api::OpenaiResponses, &responses)),
        [
            (C::Input, 1000),
            (C::CacheRead, 1000),
            (C::CacheWrite, 1800),
            (C::CacheWrite12h, 700),
            (C::CacheWriteUnstated, 500),
            (C::Output, 20),
            (C::Reasoning, 100),
        ]
    );
    let bare = json!({"input_tokens": 36, "output_tokens": 87});
    assert_eq!(
        counted(&read(Api::OpenaiResponses, &bare)),
        [(C::Input, 36), (C::Output, 87)]
    );
}

/// What is cached comes out of the text first, then the images, the audio last: never too cheap.
#[test]
fn overlapping_parts_go_where_they_cost_most() {
    let chat = |details: Value| {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": details});
        counted(&read(Api::OpenaiChat, &usage))
    };
    assert_eq!(
        chat(json!({"audio_tokens": 60, "cached_tokens": 50})),
        [(C::CacheRead, 40), (C::InputAudio, 50), (C::CacheReadAudio, 10)]
    );
    assert_eq!(
        chat(json!({"image_tokens": 80, "text_tokens": 20, "cached_tokens": 50})),
        [(C::CacheRead, 20), (C::InputImage, 50), (C::CacheReadImage, 30)]
    );
    assert_eq!(
        chat(json!({"image_tokens": 80, "cache_write_tokens": 90})),
        [(C::CacheWriteUnstated, 90), (C::InputImage, 10)]
    );
    assert_eq!(
        chat(json!({"cached_tokens": 80, "cache_write_tokens": 100})),
        [(C::CacheWriteUnstated, 100)]
    );
}

#[test]
fn a_total_above_its_parts_is_charged_and_one_below_refused() {
    let hidden = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115});
    assert_eq!(
        counted(&read(Api::OpenaiChat, &hidden)),
        [(C::Input, 10), (C::Output, 5), (C::Reasoning, 100)]
    );
    let short = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 14});
    assert_eq!(no(Api::OpenaiChat, short), No::PartsDiffer { total: "total_tokens" });
    let converse = json!({"inputTokens": 10, "outputTokens": 5, "totalTokens": 14});
    assert_eq!(
        no(Api::BedrockConverse, converse),
        No::PartsDiffer { total: "totalTokens" }
    );
}

#[test]
fn openai_embeddings_transcriptions_and_images() {
    let embedded = json!({"prompt_tokens": 8, "total_tokens": 8});
    assert_eq!(counted(&read(Api::OpenaiEmbeddings, &embedded)), [(C::Input, 8)]);

    let spoken = json!({
        "type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59,
        "input_token_details": {"text_tokens": 3, "audio_tokens": 11}
    });
    let classes = [(C::Input, 3), (C::InputAudio, 11), (C::Output, 45)];
    assert_eq!(counted(&read(Api::OpenaiTranscription, &spoken)), classes);
    let unsplit = json!({"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59});
    assert_eq!(
        counted(&read(Api::OpenaiTranscription, &unsplit)),
        [(C::InputAudio, 14), (C::Output, 45)]
    );

    for (usage, micros) in [
        (json!({"type": "duration", "seconds": 9}), 9_000_000),
        (json!({"type": "duration", "seconds": 8.47}), 8_470_000),
        (json!({"duration": 8.470_000_267_028_809}), 8_470_001),
        (json!({"duration": "29.5"}), 29_500_000),
        (json!({"type": "duration", "seconds": 9, "duration": 8.5}), 9_000_000),
        (json!({"type": "duration", "seconds": 0}), 0),
    ] {
        let read = read(Api::OpenaiTranscription, &usage);
        assert_eq!((read.micros, counted(&read)), (micros, vec![]), "{usage}");
    }
    assert_eq!(
        no(Api::OpenaiTranscription, json!({"type": "duration"})),
        No::Missing { field: "seconds" }
    );
    assert_eq!(
        no(Api::OpenaiTranscription, json!({"type": "words", "seconds": 1})),
        No::UnknownValue {
            field: "type",
            value: "words".into()
        }
    );

    let image = json!({
        "input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}
    });
    let classes = [(C::Input, 10), (C::InputImage, 40), (C::OutputImage, 1056)];
    assert_eq!(counted(&read(Api::OpenaiImages, &image)), classes);
    let split = json!({
        "input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106,
        "output_tokens_details": {"text_tokens": 56, "image_tokens": 1000}
    });
    let classes = [(C::InputImage, 50), (C::Output, 56), (C::OutputImage, 1000)];
    assert_eq!(counted(&read(Api::OpenaiImages, &split)), classes);
}

#[test]
fn anthropic_parts_are_beside_each_other() {
    let message = json!({
        "input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
        "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        "output_tokens": 503, "output_tokens_details": {"thinking_tokens": 100},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        "service_tier": "batch", "inference_geo": "us", "speed": "fast"
    });
    let usage = read(Api::AnthropicMessages, &message);
    assert_eq!(
        counted(&usage),
        [
            (C::Input, 2048),
            (C::CacheRead, 1800),
            (C::CacheWrite, 148),
            (C::CacheWrite1h, 100),
            (C::Output, 503)
        ]
    );
    assert_eq!(
        (usage.web_searches, usage.tier, usage.region, usage.fast),
        (2, ServiceTier::Batch, Region::Us, true)
    );

    // An older version does not say for how long it wrote.
    let older = json!({
        "input_tokens": 5, "output_tokens": 7, "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": null, "server_tool_use": null, "service_tier": "standard"
    });
    let classes = [(C::Input, 5), (C::CacheWriteUnstated, 100), (C::Output, 7)];
    assert_eq!(counted(&read(Api::AnthropicMessages, &older)), classes);
    for (geo, region) in [
        ("global", Region::Global),
        ("not_available", Region::Global),
        ("mars", Region::Other),
    ] {
        let usage = json!({"input_tokens": 5, "output_tokens": 7, "inference_geo": geo});
        assert_eq!(read(Api::AnthropicMessages, &usage).region, region);
    }
    let more = json!({
        "input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 10,
        "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 5}
    });
    let expected = No::SubsetLarger {
        part: "cache_creation",
        total: "cache_creation_input_tokens",
    };
    assert_eq!(no(Api::AnthropicMessages, more), expected);
}

/// Sampling iterations are in the totals, a compaction is beside them, and another model's are refused.
#[test]
fn anthropic_iterations() {
    let step = |kind: &str, sent: u64, made: u64| {
        json!({"type": kind, "input_tokens": sent, "output_tokens": made,
               "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0})
    };
    let message = |steps: Value| json!({"input_tokens": 300, "output_tokens": 30, "iterations": steps});
    let looped = message(json!([step("message", 100, 10), step("message", 200, 20)]));
    assert_eq!(
        counted(&read(Api::AnthropicMessages, &looped)),
        [(C::Input, 300), (C::Output, 30)]
    );
    let compacted = message(json!([step("compaction", 5000, 400), step("message", 300, 30)]));
    assert_eq!(
        counted(&read(Api::AnthropicMessages, &compacted)),
        [(C::Input, 5300), (C::Output, 430)]
    );
    let more = message(json!([step("message", 200, 30), step("message", 200, 30)]));
    assert_eq!(
        counted(&read(Api::AnthropicMessages, &more)),
        [(C::Input, 400), (C::Output, 60)]
    );
    for other in ["advisor_message", "fallback_message"] {
        let refused = no(Api::AnthropicMessages, message(json!([step(other, 1, 1)])));
        assert_eq!(refused, No::OtherModel { field: "iterations" });
    }
    let refused = no(Api::AnthropicMessages, message(json!([step("dream", 1, 1)])));
    assert_eq!(
        refused,
        No::UnknownValue {
            field: "iterations",
            value: "dream".into()
        }
    );
}

#[test]
fn bedrock_converse_and_invoke() {
    let converse = json!({
        "inputTokens": 30, "outputTokens": 628, "totalTokens": 658,
        "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 500,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 300}, {"ttl": "5m", "inputTokens": 150}],
        "serverToolUsage": {}
    });
    assert_eq!(
        counted(&read(Api::BedrockConverse, &converse)),
        [
            (C::Input, 30),
            (C::CacheRead, 1000),
            (C::CacheWrite, 150),
            (C::CacheWrite1h, 300),
            (C::CacheWriteUnstated, 50),
            (C::Output, 628),
        ]
    );
    let inclusive = json!({
        "inputTokens": 30, "outputTokens": 628, "totalTokens": 1658, "cacheReadInputTokens": 1000,
        "cacheReadInputTokenCount": 1000, "cacheWriteInputTokenCount": 0
    });
    let classes = [(C::Input, 30), (C::CacheRead, 1000), (C::Output, 628)];
    assert_eq!(counted(&read(Api::BedrockConverse, &inclusive)), classes);
    let over = json!({
        "inputTokens": 1, "outputTokens": 1, "cacheWriteInputTokens": 10,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 11}]
    });
    let expected = No::SubsetLarger {
        part: "inputTokens",
        total: "cacheWriteInputTokens",
    };
    assert_eq!(no(Api::BedrockConverse, over), expected);

    for (body, classes) in [
        (
            json!({"input_tokens": 3, "output_tokens": 4}),
            vec![(C::Input, 3), (C::Output, 4)],
        ),
        (
            json!({"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}),
            vec![(C::Input, 3), (C::Output, 4)],
        ),
        (json!({"inputTextTokenCount": 3}), vec![(C::Input, 3)]),
        (
            json!({"inputTextTokenCount": 3, "results": [{"tokenCount": 4, "outputText": "x", "completionReason": "FINISH"}]}),
            vec![(C::Input, 3), (C::Output, 4)],
        ),
        (
            json!({"prompt_token_count": 3, "generation_token_count": 4}),
            vec![(C::Input, 3), (C::Output, 4)],
        ),
        (
            json!({"inputTokenCount": 3, "outputTokenCount": 4, "invocationLatency": 900, "firstByteLatency": 90,
                   "cacheReadInputTokenCount": 5, "cacheWriteInputTokenCount": 6}),
            vec![
                (C::Input, 3),
                (C::CacheRead, 5),
                (C::CacheWriteUnstated, 6),
                (C::Output, 4),
            ],
        ),
    ] {
        assert_eq!(counted(&read(Api::BedrockInvoke, &body)), classes, "{body}");
    }
}

#[test]
fn tiers_by_their_names() {
    for (api, name, tier) in [
        (Api::OpenaiChat, "default", ServiceTier::Standard),
        (Api::OpenaiChat, "fast", ServiceTier::Priority),
        (Api::OpenaiResponses, "flex", ServiceTier::Flex),
        (Api::OpenaiResponses, "ultrafast", ServiceTier::Ultrafast),
        (Api::AnthropicMessages, "priority", ServiceTier::Standard),
        (Api::AnthropicMessages, "batch", ServiceTier::Batch),
        (Api::BedrockConverse, "reserved", ServiceTier::Standard),
        (Api::BedrockInvoke, "priority", ServiceTier::Priority),
    ] {
        assert_eq!(super::tier_from(api, name), Ok(tier), "{api} {name}");
    }
    let chat = json!({"prompt_tokens": 1, "completion_tokens": 1, "service_tier": "hyper"});
    let expected = No::UnknownValue {
        field: "service_tier",
        value: "hyper".into(),
    };
    assert_eq!(no(Api::OpenaiChat, chat), expected.clone());
    assert_eq!(super::tier_from(Api::BedrockConverse, "hyper"), Err(expected));
}

/// Everything that could bear cost and is not understood is refused, by name.
#[test]
fn bad_usage_is_refused_by_name() {
    use Api::{AnthropicMessages, BedrockConverse, OpenaiChat, OpenaiEmbeddings, OpenaiResponses};
    let chat = |prompt: Value| json!({"prompt_tokens": prompt, "completion_tokens": 1});
    let field = "prompt_tokens";
    for (api, usage, expected) in [
        (OpenaiChat, json!(null), No::NotAnObject),
        (OpenaiChat, json!([1]), No::NotAnObject),
        (OpenaiChat, json!({}), No::Missing { field }),
        (
            OpenaiChat,
            json!({"prompt_tokens": 1}),
            No::Missing {
                field: "completion_tokens",
            },
        ),
        (OpenaiChat, chat(json!(-1)), No::Negative { field }),
        (OpenaiChat, chat(json!(1.5)), No::Fractional { field }),
        (OpenaiChat, chat(json!(1e308)), No::Absurd { field }),
        (OpenaiChat, chat(json!(u64::MAX)), No::Absurd { field }),
        (
            OpenaiChat,
            chat(json!("9")),
            No::WrongType {
                field,
                expected: "a whole number",
            },
        ),
        (
            OpenaiChat,
            json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}}),
            No::SubsetLarger {
                part: "cached_tokens",
                total: field,
            },
        ),
        (
            OpenaiChat,
            json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"audio_tokens": 6, "image_tokens": 5}}),
            No::SubsetLarger {
                part: "image_tokens",
                total: field,
            },
        ),
        (
            OpenaiResponses,
            json!({"input_tokens": 10, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 4}}),
            No::SubsetLarger {
                part: "reasoning_tokens",
                total: "output_tokens",
            },
        ),
        (
            OpenaiChat,
            json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"video_tokens": 4}}),
            No::UnknownField {
                field: "video_tokens".into(),
            },
        ),
        (
            OpenaiChat,
            json!({"prompt_tokens": 10, "completion_tokens": 1, "tool_fees_usd": 4}),
            No::UnknownField {
                field: "tool_fees_usd".into(),
            },
        ),
        (
            OpenaiChat,
            json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": 3}),
            No::WrongType {
                field: "prompt_tokens_details",
                expected: "an object",
            },
        ),
        (OpenaiEmbeddings, json!({"total_tokens": 8}), No::Missing { field }),
        (
            AnthropicMessages,
            json!({"input_tokens": 8}),
            No::Missing { field: "output_tokens" },
        ),
        (
            AnthropicMessages,
            json!({"input_tokens": 8, "output_tokens": 1, "server_tool_use": {"code_execution_requests": 1}}),
            No::UnknownField {
                field: "code_execution_requests".into(),
            },
        ),
        (
            AnthropicMessages,
            json!({"input_tokens": 8, "output_tokens": 1, "speed": "warp"}),
            No::UnknownValue {
                field: "speed",
                value: "warp".into(),
            },
        ),
        (
            BedrockConverse,
            json!({"inputTokens": 8}),
            No::Missing { field: "outputTokens" },
        ),
        (
            BedrockConverse,
            json!({"inputTokens": 8, "outputTokens": 1, "cacheDetails": {"ttl": "5m"}}),
            No::WrongType {
                field: "cacheDetails",
                expected: "a list",
            },
        ),
    ] {
        assert_eq!(no(api, usage.clone()), expected, "{api} {usage}");
    }
}

proptest! {
    /// Each token of a prompt and of a completion ends in exactly one class, whatever its details say.
    #[test]
    fn no_token_is_lost_or_counted_twice(
        prompt in 0_u64..100_000, made in 0_u64..100_000,
        parts in prop::collection::vec(0_u64..100_000, 7),
    ) {
        let usage = json!({
            "input_tokens": prompt, "output_tokens": made,
            "input_tokens_details": {
                "cached_tokens": parts[0], "audio_tokens": parts[1], "image_tokens": parts[2],
                "cache_write_tokens": parts[3], "cache_write_tokens_details": {"ttl_30m_tokens": parts[4]}
            },
            "output_tokens_details": {"reasoning_tokens": parts[5], "audio_tokens": parts[6]}
        });
        let fits = parts[0] <= prompt && parts[1] + parts[2] <= prompt && parts[3] <= prompt && parts[4] <= parts[3]
            && parts[5] + parts[6] <= made;
        match usage_from(Api::OpenaiResponses, &usage) {
            Ok(read) => {
                prop_assert!(fits);
                prop_assert_eq!((read.tokens.input(), read.tokens.output()), (prompt, made));
            }
            Err(why) => prop_assert!(!fits, "{why}"),
        }
    }
}

/// What others that copy OpenAI's form say beside the counts: names as their documentation has them.
#[test]
fn what_only_describes_a_call_does_not_make_it_unresolved() {
    let deepseek = json!({
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36
    });
    let usage = read(Api::OpenaiChat, &deepseek);
    assert_eq!(counted(&usage), [(C::Input, 36), (C::CacheRead, 64), (C::Output, 20)]);
    let mut both = deepseek.clone();
    both["prompt_tokens_details"] = json!({"cached_tokens": 10});
    assert_eq!(
        read(Api::OpenaiChat, &both).tokens.get(C::CacheRead),
        10,
        "what costs more"
    );
    for (field, odd) in [("prompt_cache_hit_tokens", 65), ("prompt_cache_miss_tokens", 35)] {
        let mut odd_one = deepseek.clone();
        odd_one[field] = json!(odd);
        assert_eq!(no(Api::OpenaiChat, odd_one), No::PartsDiffer { total: "prompt_tokens" });
    }

    let groq = json!({
        "queue_time": 0.02, "prompt_tokens": 10, "prompt_time": 0.001, "completion_tokens": 5,
        "completion_time": 0.1, "total_tokens": 15, "total_time": 0.101
    });
    assert_eq!(counted(&read(Api::OpenaiChat, &groq)), [(C::Input, 10), (C::Output, 5)]);

    let openrouter = json!({
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.00014, "is_byok": false,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
        "cost_details": {"upstream_inference_cost": null, "upstream_inference_prompt_cost": 0.0001},
        "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0}
    });
    assert_eq!(
        counted(&read(Api::OpenaiChat, &openrouter)),
        [(C::Input, 10), (C::Output, 5)]
    );

    // The reasoning is beside the completion, as the grand total tells.
    let xai = json!({
        "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "num_sources_used": 0,
        "prompt_tokens_details": {"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 94, "audio_tokens": 0}
    });
    assert_eq!(
        counted(&read(Api::OpenaiChat, &xai)),
        [(C::Input, 26), (C::CacheRead, 6), (C::Output, 9), (C::Reasoning, 94)]
    );
    let mut silent = xai.clone();
    silent["total_tokens"] = json!(41);
    assert!(matches!(no(Api::OpenaiChat, silent), No::SubsetLarger { .. }));
    // Its searches are billed by the source.
    let mut searched = xai;
    searched["num_sources_used"] = json!(3);
    assert_eq!(
        no(Api::OpenaiChat, searched),
        No::UnknownField {
            field: "num_sources_used".into()
        }
    );
}
