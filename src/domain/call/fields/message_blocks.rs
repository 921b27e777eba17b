//! Messages and their blocks: `MessageParam` and `BetaMessageParam` of the `anthropic` SDK 2.10.0.
//!
//! Clients send back what the provider answered, block by block. Whatever a tool of the provider did, and
//! whatever is encrypted or only named, is bounded by the context window. A block of thinking shows a summary
//! and carries what was really thought in its signature; it came of one answer, and is no longer than that.

use super::super::picture::PictureAt;
use super::super::schema::Effect::{Elsewhere, Image, Message, Picture, Thought};
use super::super::schema::Rule::{Any, Flag, IfSet, Kinds, Label, List, Object, Text, TextOr, Tools};
use super::super::schema::{self, Field, kind};
use super::messages::{CACHE_CONTROL, TOOL};

const TEXT: schema::Kind = kind(
    &["text"],
    &[],
    &[Field("text", Text), Field("citations", Any), CACHE_CONTROL],
);

const IMAGE: schema::Kind = kind(
    &["image"],
    &[Picture(PictureAt::Source)],
    &[
        Field(
            "source",
            Object(&[
                Field("type", Label),
                Field("media_type", Label),
                Field("data", Label),
                Field("url", Label),
                Field("file_id", Label),
            ]),
        ),
        Field("transformations", Any),
        CACHE_CONTROL,
    ],
);

/// A text that may be cited is read in numbered pieces, which is longer than the text.
const CITATIONS: Field = Field("citations", Object(&[Field("enabled", IfSet(Elsewhere))]));

const SEARCH_RESULT: schema::Kind = kind(
    &["search_result"],
    &[],
    &[
        Field("content", List(&Kinds(&TEXT_BLOCKS))),
        Field("source", Text),
        Field("title", Text),
        CITATIONS,
        CACHE_CONTROL,
    ],
);

const SOURCE: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(&["text"], &[], &[Field("data", Text), Field("media_type", Label)]),
        kind(
            &["content"],
            &[],
            &[Field("content", TextOr(&List(&Kinds(&SIMPLE_BLOCKS))))],
        ),
        kind(
            &["base64"],
            &[Image],
            &[Field("data", Label), Field("media_type", Label)],
        ),
        kind(&["url"], &[Image], &[Field("url", Label)]),
        kind(&["file"], &[Image], &[Field("file_id", Label)]),
    ],
};

const DOCUMENT: schema::Kind = kind(
    &["document"],
    &[],
    &[
        Field("source", Kinds(&SOURCE)),
        Field("title", Text),
        Field("context", Text),
        CITATIONS,
        CACHE_CONTROL,
    ],
);

/// Names a tool whose whole definition is then read.
const TOOL_REFERENCE: schema::Kind = kind(
    &["tool_reference"],
    &[Elsewhere],
    &[Field("tool_name", Text), CACHE_CONTROL],
);

pub(super) const TEXT_BLOCKS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[TEXT],
};

const SIMPLE_BLOCKS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[TEXT, IMAGE],
};

const RESULT_BLOCKS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        TEXT,
        IMAGE,
        SEARCH_RESULT,
        DOCUMENT,
        TOOL_REFERENCE,
        kind(
            &["browser_state"],
            &[Elsewhere],
            &[Field("tabs", Any), Field("state_changes", Any), CACHE_CONTROL],
        ),
    ],
};

const CHANGED: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(&["tool_reference"], &[Elsewhere], &[Field("name", Text)]),
        kind(
            &["mcp_tool_reference", "mcp_toolset_reference"],
            &[Elsewhere],
            &[Field("name", Text), Field("server_name", Text)],
        ),
        kind(&["tool_definition"], &[], &[Field("definition", Tools(&TOOL))]),
    ],
};

const TOOL_ADDITION: schema::Kind = kind(
    &["tool_addition"],
    &[],
    &[Field("tool", Kinds(&CHANGED)), CACHE_CONTROL],
);

const TOOL_REMOVAL: schema::Kind = kind(&["tool_removal"], &[], &[Field("tool", Any), CACHE_CONTROL]);

const TOOL_CHANGES: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[TOOL_ADDITION, TOOL_REMOVAL],
};

const CONTENT: Field = Field("content", Any);
const TOOL_USE_ID: Field = Field("tool_use_id", Label);
const CALLER: Field = Field("caller", Any);
const IS_ERROR: Field = Field("is_error", Flag);
const ID: Field = Field("id", Label);
const INPUT: Field = Field("input", Any);
const NAME: Field = Field("name", Text);

const BLOCKS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        TEXT,
        IMAGE,
        DOCUMENT,
        SEARCH_RESULT,
        kind(
            &["tool_use"],
            &[],
            &[ID, INPUT, NAME, CALLER, Field("toolset_name", Text), CACHE_CONTROL],
        ),
        kind(
            &["tool_result"],
            &[],
            &[
                Field("content", TextOr(&List(&Kinds(&RESULT_BLOCKS)))),
                TOOL_USE_ID,
                IS_ERROR,
                Field("toolset_name", Text),
                CACHE_CONTROL,
            ],
        ),
        kind(
            &["thinking"],
            &[Thought],
            &[Field("thinking", Label), Field("signature", Label)],
        ),
        kind(&["redacted_thinking"], &[Thought], &[Field("data", Label)]),
        // What the provider's own tools did in an earlier turn.
        kind(
            &["server_tool_use"],
            &[Elsewhere],
            &[ID, INPUT, NAME, CALLER, CACHE_CONTROL],
        ),
        kind(
            &[
                "web_search_tool_result",
                "web_fetch_tool_result",
                "advisor_tool_result",
                "code_execution_tool_result",
                "bash_code_execution_tool_result",
                "text_editor_code_execution_tool_result",
                "tool_search_tool_result",
            ],
            &[Image],
            &[CONTENT, TOOL_USE_ID, CALLER, CACHE_CONTROL],
        ),
        kind(
            &["mcp_tool_use"],
            &[Elsewhere],
            &[ID, INPUT, NAME, Field("server_name", Text), CACHE_CONTROL],
        ),
        kind(
            &["mcp_tool_result"],
            &[Elsewhere],
            &[CONTENT, TOOL_USE_ID, IS_ERROR, CACHE_CONTROL],
        ),
        kind(
            &["mcp_tool_listing"],
            &[Elsewhere],
            &[Field("mcp_server_name", Text), Field("tools", Any)],
        ),
        kind(
            &["container_upload"],
            &[Image],
            &[Field("file_id", Label), CACHE_CONTROL],
        ),
        kind(
            &["compaction"],
            &[Elsewhere],
            &[
                Field("content", Text),
                Field("encrypted_content", Label),
                Field("signature", Label),
                Field("tool_changes", List(&Kinds(&TOOL_CHANGES))),
                CACHE_CONTROL,
            ],
        ),
        // Marks where another model took over; it is not read.
        kind(
            &["fallback"],
            &[],
            &[Field("from", Any), Field("to", Any), Field("trigger", Any)],
        ),
        TOOL_ADDITION,
        TOOL_REMOVAL,
    ],
};

const SYSTEM_BLOCKS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[TEXT, TOOL_ADDITION, TOOL_REMOVAL],
};

pub(super) const MESSAGE: schema::Kinds = schema::Kinds {
    tag: "role",
    untagged: &[],
    known: &[
        kind(
            &["user", "assistant"],
            &[Message],
            &[Field("content", TextOr(&List(&Kinds(&BLOCKS))))],
        ),
        kind(
            &["system"],
            &[Message],
            &[
                Field("content", TextOr(&List(&Kinds(&SYSTEM_BLOCKS)))),
                Field("clear_at", Label),
                Field("output_config", Object(&[Field("effort", Label)])),
            ],
        ),
    ],
};
