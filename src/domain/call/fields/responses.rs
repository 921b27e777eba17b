//! `POST /v1/responses`: `ResponseCreateParams` of the `openai` SDK 3.51.0.

use super::super::schema::Effect::{Elsewhere, Image, Priced, Tool};
use super::super::schema::NameAt::{Each, Here, Kind};
use super::super::schema::Rule::{
    Any, Flag, Kinds, Label, List, Marked, Number, Object, Only, Text, TextOr, Tools, Unset,
};
use super::super::schema::{self, Field, kind};
use super::chat::{MODERATION, TIERS};
use super::response_items::ITEM;

pub(in super::super) const FIELDS: &[Field] = &[
    // Read by the model.
    Field("input", TextOr(&List(&Kinds(&ITEM)))),
    Field("instructions", Text),
    Field("tools", List(&Tools(&TOOL))),
    Field("text", Object(&[Field("format", Any), Field("verbosity", Label)])),
    // Brings what is kept at the provider.
    Field("previous_response_id", Marked(Elsewhere, &Label)),
    Field("conversation", Marked(Elsewhere, &Any)),
    // A stored prompt may bring tools and limits of its own, which nobody here sees.
    Field("prompt", Marked(Priced("prompt"), &Any)),
    // The conversation is summed up by one more run of the model, beside the answer.
    Field("context_management", Marked(Priced("compaction"), &Any)),
    // Limits and multipliers, which the reader takes.
    Field("model", Label),
    Field("stream", Flag),
    Field("stream_options", Object(&[Field("include_obfuscation", Flag)])),
    Field("max_output_tokens", Number),
    Field("service_tier", Only(TIERS)),
    Field(
        "background",
        Unset("cannot be true: the answer, and with it the usage, would come to somebody else"),
    ),
    Field(
        "reasoning",
        Object(&[
            Field("context", Label),
            Field("effort", Label),
            Field("generate_summary", Label),
            // Another mode may think more than once for one answer.
            Field("mode", Only(&["standard"])),
            Field("summary", Label),
        ]),
    ),
    Field("access_programs", Object(&[Field("cyber", Only(&["standard"]))])),
    Field("moderation", Object(MODERATION)),
    // Bear no cost.
    Field("image", Any),
    Field("include", List(&Label)),
    Field("max_tool_calls", Number),
    Field("metadata", Any),
    Field("parallel_tool_calls", Flag),
    Field("prompt_cache_key", Label),
    Field(
        "prompt_cache_options",
        Object(&[
            Field("comparison_response_id", Label),
            Field("mode", Only(&["implicit", "explicit"])),
            Field("prewarm", Flag),
            Field("ttl", Only(&["30m", "12h"])),
        ]),
    ),
    Field("prompt_cache_retention", Only(&["in_memory", "in-memory", "24h"])),
    Field("safety_identifier", Label),
    Field("store", Flag),
    Field("temperature", Number),
    Field("tool_choice", Any),
    Field("top_logprobs", Number),
    Field("top_p", Number),
    Field("truncation", Label),
    Field("user", Label),
];

/// What the model reads.
pub(in super::super) const READ: &[&str] = &["input", "instructions", "tools", "text"];

const FUNCTION: &[Field] = &[
    Field("name", Text),
    Field("description", Text),
    Field("parameters", Any),
    Field("output_schema", Any),
    Field("strict", Flag),
    Field("async", Flag),
    Field("allowed_callers", List(&Label)),
    Field("defer_loading", Flag),
];

const CUSTOM: &[Field] = &[
    Field("name", Text),
    Field("description", Text),
    Field("format", Any),
    Field("async", Flag),
    Field("allowed_callers", List(&Label)),
    Field("defer_loading", Flag),
];

const IN_A_NAMESPACE: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[kind(&["function"], &[], FUNCTION), kind(&["custom"], &[], CUSTOM)],
};

/// Tools that the client runs. Whatever is not here runs at the provider, and needs a price.
pub(super) const TOOL: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(&["function"], &[Tool(Here)], FUNCTION),
        kind(&["custom"], &[Tool(Here)], CUSTOM),
        kind(
            &["namespace"],
            &[Tool(Each)],
            &[
                Field("name", Text),
                Field("description", Text),
                Field("tools", List(&Kinds(&IN_A_NAMESPACE))),
            ],
        ),
        kind(&["local_shell"], &[Tool(Kind)], &[]),
        kind(
            &["apply_patch"],
            &[Tool(Kind)],
            &[Field("allowed_callers", List(&Label))],
        ),
        // The client's own shell; one in a container is the provider's.
        kind(
            &["shell"],
            &[Tool(Kind)],
            &[Field("environment", Any), Field("allowed_callers", List(&Label))],
        ),
        kind(&["computer"], &[Tool(Kind), Image], &[]),
        kind(
            &["computer_use_preview"],
            &[Tool(Kind), Image],
            &[
                Field("display_height", Number),
                Field("display_width", Number),
                Field("environment", Label),
            ],
        ),
        // The client's own search; one that the provider runs is the provider's.
        kind(
            &["tool_search"],
            &[Tool(Kind)],
            &[
                Field("execution", Label),
                Field("description", Text),
                Field("parameters", Any),
            ],
        ),
    ],
};
