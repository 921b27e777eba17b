//! `POST /v1/messages`: `MessageCreateParams` of the `anthropic` SDK 2.10.0, its beta form included.

use super::super::schema::Effect::{Elsewhere, Priced, Tool};
use super::super::schema::NameAt::{Here, Kind};
use super::super::schema::Rule::{
    Any, Flag, Kinds, Label, List, Marked, Number, Object, Only, Refused, Text, TextOr, Tools,
};
use super::super::schema::{self, Field, kind};
use super::message_blocks::{MESSAGE, TEXT_BLOCKS};

pub(in super::super) const FIELDS: &[Field] = &[
    // Read by the model.
    Field("system", TextOr(&List(&Kinds(&TEXT_BLOCKS)))),
    Field("messages", List(&Kinds(&MESSAGE))),
    Field("tools", List(&Tools(&TOOL))),
    Field("output_config", Object(OUTPUT_CONFIG)),
    Field("output_format", Any),
    // Brings what is kept at the provider.
    Field("container", Marked(Elsewhere, &Any)),
    Field("thread", Marked(Elsewhere, &Any)),
    Field("mcp_servers", Marked(Priced("mcp"), &Any)),
    // The conversation is summed up by one more run of the model, beside the answer.
    Field("compaction", Marked(Priced("compact"), &Any)),
    Field("context_management", Object(&[Field("edits", List(&Kinds(&EDIT)))])),
    // Limits and multipliers, which the reader takes.
    Field("model", Label),
    Field("stream", Flag),
    Field("max_tokens", Number),
    Field(
        "thinking",
        Object(&[
            Field("type", Label),
            Field("budget_tokens", Number),
            Field("display", Label),
            Field("block_binding", Any),
        ]),
    ),
    Field("service_tier", Only(&["auto", "standard_only"])),
    Field("inference_geo", Label),
    Field("speed", Only(&["standard", "fast"])),
    Field(
        "fallbacks",
        Refused("cannot be set: another model may answer, at another price"),
    ),
    Field(
        "billing_policy",
        Refused("cannot be set: whose account is charged is set by the gateway"),
    ),
    // Bear no cost: cache writes are reckoned at the dearest rate, a credit only lowers the price.
    CACHE_CONTROL,
    Field("diagnostics", Any),
    Field("fallback_credit_token", Any),
    Field("metadata", Any),
    Field("stop_sequences", List(&Label)),
    Field("temperature", Number),
    Field("tool_choice", Any),
    Field("top_k", Number),
    Field("top_p", Number),
];

/// What the model reads.
pub(in super::super) const READ: &[&str] = &["system", "messages", "tools", "output_config", "output_format"];

/// Times that have a rate; a write is reckoned at the dearest of them.
pub(super) const CACHE_CONTROL: Field = Field("cache_control", CACHE);

const CACHE: schema::Rule = Object(&[
    Field("type", Only(&["ephemeral"])),
    Field("ttl", Only(&["5m", "1h"])),
    // Claude Code's: a prefix that is the same for all its users is shared among them.
    Field("scope", Only(&["global"])),
]);

const OUTPUT_CONFIG: &[Field] = &[
    Field("effort", Label),
    Field("format", Any),
    // Only tells the model what it should make do with.
    Field("task_budget", Any),
];

const EDIT: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(
            &["clear_tool_uses_20250919"],
            &[],
            &[
                Field("clear_at_least", Any),
                Field("clear_tool_inputs", Any),
                Field("exclude_tools", Any),
                Field("keep", Any),
                Field("trigger", Any),
            ],
        ),
        kind(&["clear_thinking_20251015"], &[], &[Field("keep", Any)]),
        kind(
            &["compact_20260112"],
            &[Priced("compact")],
            &[
                Field("instructions", Text),
                Field("pause_after_compaction", Flag),
                Field("trigger", Any),
            ],
        ),
    ],
};

const NAME: Field = Field("name", Text);
const CALLERS: Field = Field("allowed_callers", List(&Label));
const DEFER: Field = Field("defer_loading", Flag);
const EXAMPLES: Field = Field("input_examples", Any);
const STRICT: Field = Field("strict", Flag);

/// Tools that the client runs. Whatever is not here runs at the provider, and needs a price.
pub(super) const TOOL: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[("input_schema", "custom")],
    known: &[
        kind(
            &["custom"],
            &[Tool(Here)],
            &[
                NAME,
                Field("description", Text),
                Field("input_schema", Any),
                Field("eager_input_streaming", Flag),
                CACHE_CONTROL,
                CALLERS,
                DEFER,
                EXAMPLES,
                STRICT,
            ],
        ),
        kind(
            &[
                "bash_20241022",
                "bash_20250124",
                "text_editor_20241022",
                "text_editor_20250124",
                "text_editor_20250429",
                "text_editor_20250728",
                "memory_20250818",
                "computer_20241022",
                "computer_20250124",
                "computer_20251124",
            ],
            &[Tool(Kind)],
            &[
                NAME,
                Field("max_characters", Number),
                Field("display_height_px", Number),
                Field("display_width_px", Number),
                Field("display_number", Number),
                Field("enable_zoom", Flag),
                CACHE_CONTROL,
                CALLERS,
                DEFER,
                EXAMPLES,
                STRICT,
            ],
        ),
        // Thirty tools in one, whose definitions the provider writes out.
        kind(
            &["browser_toolset_20260801", "computer_toolset_20260801"],
            &[Tool(Kind), Elsewhere],
            &[Field("configs", Any), CACHE_CONTROL],
        ),
    ],
};
