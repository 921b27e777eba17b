//! `POST /v1/chat/completions`: `CompletionCreateParams` of the `openai` SDK 3.51.0.

use super::super::picture::PictureAt;
use super::super::schema::Effect::{Audio, Image, Message, Picture, Priced, Tool};
use super::super::schema::NameAt::{Here, In};
use super::super::schema::Rule::{Any, Flag, Kinds, Label, List, Marked, Number, Object, Only, Text, TextOr, Tools};
use super::super::schema::{self, Field, kind};

pub(in super::super) const FIELDS: &[Field] = &[
    // Read by the model.
    Field("messages", List(&Kinds(&MESSAGE))),
    Field("tools", List(&Tools(&TOOL))),
    Field("functions", List(&Tools(&OLD_FUNCTION))),
    Field("response_format", Any),
    // What is predicted wrongly is billed as output; the reader adds it there.
    Field("prediction", Any),
    // Limits and multipliers, which the reader takes.
    Field("model", Label),
    Field("stream", Flag),
    Field("stream_options", Object(STREAM_OPTIONS)),
    Field("max_tokens", Number),
    Field("max_completion_tokens", Number),
    Field("n", Number),
    Field("service_tier", Only(TIERS)),
    Field("modalities", List(&Only(&["text", "audio"]))),
    Field("audio", Object(&[Field("format", Label), Field("voice", Any)])),
    Field("web_search_options", Marked(Priced("web_search"), &Any)),
    Field("moderation", Object(MODERATION)),
    // Bear no cost: how the answer is drawn, and who asked.
    Field("frequency_penalty", Number),
    Field("function_call", Any),
    Field("logit_bias", Any),
    Field("logprobs", Flag),
    Field("metadata", Any),
    Field("parallel_tool_calls", Flag),
    Field("presence_penalty", Number),
    Field("prompt_cache_key", Label),
    Field(
        "prompt_cache_options",
        Object(&[
            Field("mode", Only(&["implicit", "explicit"])),
            Field("ttl", Only(&["30m", "12h"])),
        ]),
    ),
    Field("prompt_cache_retention", Only(&["in_memory", "in-memory", "24h"])),
    Field("reasoning_effort", Label),
    Field("safety_identifier", Label),
    Field("seed", Number),
    Field("stop", TextOr(&List(&Label))),
    Field("store", Flag),
    Field("temperature", Number),
    Field("tool_choice", Any),
    Field("top_logprobs", Number),
    Field("top_p", Number),
    Field("user", Label),
    Field("verbosity", Label),
];

/// What the model reads.
pub(in super::super) const READ: &[&str] = &["messages", "tools", "functions", "response_format", "prediction"];

/// Tiers that have a price of their own, or that stand for one that has; `on_demand` is Groq's usual one.
pub(super) const TIERS: &[&str] = &[
    "auto",
    "default",
    "on_demand",
    "flex",
    "scale",
    "priority",
    "fast",
    "ultrafast",
];

pub(super) const STREAM_OPTIONS: &[Field] = &[Field("include_usage", Flag), Field("include_obfuscation", Flag)];

/// The provider's own moderation models are free; another model would have a price.
pub(super) const MODERATION: &[Field] = &[
    Field(
        "model",
        Only(&[
            "omni-moderation-latest",
            "omni-moderation-2024-09-26",
            "text-moderation-latest",
        ]),
    ),
    Field("policy", Any),
];

/// Cache writes are reckoned at the dearest rate that is listed, which covers these times.
pub(super) const BREAKPOINT: Field = Field(
    "prompt_cache_breakpoint",
    Object(&[Field("mode", Only(&["explicit"])), Field("ttl", Only(&["30m", "12h"]))]),
);

const FUNCTION: &[Field] = &[
    Field("name", Text),
    Field("description", Text),
    Field("parameters", Any),
    Field("strict", Flag),
];

/// The form before tools: functions without a type.
const OLD_FUNCTION: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[("name", "function")],
    known: &[kind(&["function"], &[Tool(Here)], FUNCTION)],
};

const TOOL: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(
            &["function"],
            &[Tool(In("function"))],
            &[Field("function", Object(FUNCTION))],
        ),
        kind(
            &["custom"],
            &[Tool(In("custom"))],
            &[Field(
                "custom",
                Object(&[Field("name", Text), Field("description", Text), Field("format", Any)]),
            )],
        ),
    ],
};

const TEXT_PART: schema::Kind = kind(&["text"], &[], &[Field("text", Text), BREAKPOINT]);
const REFUSAL_PART: schema::Kind = kind(&["refusal"], &[], &[Field("refusal", Text)]);

const TEXT_PARTS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[TEXT_PART],
};

const PARTS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        TEXT_PART,
        kind(
            &["image_url"],
            &[Picture(PictureAt::Nested)],
            &[
                Field("image_url", Object(&[Field("url", Label), Field("detail", Label)])),
                BREAKPOINT,
            ],
        ),
        kind(
            &["input_audio"],
            &[Audio],
            &[
                Field("input_audio", Object(&[Field("data", Label), Field("format", Label)])),
                BREAKPOINT,
            ],
        ),
        kind(
            &["file"],
            &[Image],
            &[
                Field(
                    "file",
                    Object(&[
                        Field("file_data", Label),
                        Field("file_id", Label),
                        Field("filename", Label),
                    ]),
                ),
                BREAKPOINT,
            ],
        ),
    ],
};

const ANSWER_PARTS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[TEXT_PART, REFUSAL_PART],
};

/// Each call of a tool is a message of its own in the published rendering.
const CALLED: &[Field] = &[Field("name", Text), Field("arguments", Text)];

const TOOL_CALL: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(
            &["function"],
            &[Message],
            &[
                Field("id", Label),
                Field("index", Number),
                Field("function", Object(CALLED)),
            ],
        ),
        kind(
            &["custom"],
            &[Message],
            &[
                Field("id", Label),
                Field("index", Number),
                Field("custom", Object(&[Field("name", Text), Field("input", Text)])),
            ],
        ),
    ],
};

const MESSAGE: schema::Kinds = schema::Kinds {
    tag: "role",
    untagged: &[],
    known: &[
        kind(
            &["system", "developer"],
            &[Message],
            &[
                Field("content", TextOr(&List(&Kinds(&TEXT_PARTS)))),
                Field("name", Text),
            ],
        ),
        kind(
            &["user"],
            &[Message],
            &[Field("content", TextOr(&List(&Kinds(&PARTS)))), Field("name", Text)],
        ),
        kind(
            &["assistant"],
            &[Message],
            &[
                Field("content", TextOr(&List(&Kinds(&ANSWER_PARTS)))),
                Field("name", Text),
                Field("refusal", Text),
                Field("tool_calls", List(&Kinds(&TOOL_CALL))),
                Field("function_call", Marked(Message, &Object(CALLED))),
                // An earlier answer that was spoken: its id stands for the sound.
                Field("audio", Marked(Audio, &Any)),
                // Comes with an answer, and goes back when a client appends it as it was.
                Field("annotations", Any),
            ],
        ),
        kind(
            &["tool"],
            &[Message],
            &[
                Field("content", TextOr(&List(&Kinds(&TEXT_PARTS)))),
                Field("tool_call_id", Label),
                Field("name", Text),
            ],
        ),
        kind(
            &["function"],
            &[Message],
            &[Field("content", Text), Field("name", Text)],
        ),
    ],
};
