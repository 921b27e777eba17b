//! Items of a response's `input`: `ResponseInputParam` of the `openai` SDK 3.51.0.
//!
//! Clients send back what the provider answered, item by item. Whatever a tool of the provider did, and
//! whatever is encrypted or only named by an id, is bounded by the context window; what it thought for an
//! answer, by the longest answer.

use super::super::picture::PictureAt;
use super::super::schema::Effect::{Elsewhere, Image, Message, Picture, Priced, Thought};
use super::super::schema::Rule::{Any, Flag, Kinds, Label, List, Number, Object, Text, TextOr, Tools};
use super::super::schema::{self, Field, kind};
use super::chat::BREAKPOINT;
use super::responses::TOOL;

const PARTS: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[],
    known: &[
        kind(&["input_text"], &[], &[Field("text", Text), BREAKPOINT]),
        kind(
            &["output_text"],
            &[],
            &[
                Field("text", Text),
                Field("annotations", Any),
                Field("logprobs", Any),
                Field("parsed", Any),
            ],
        ),
        kind(&["refusal"], &[], &[Field("refusal", Text)]),
        kind(
            &["input_image"],
            &[Picture(PictureAt::Flat)],
            &[
                Field("image_url", Label),
                Field("file_id", Label),
                Field("detail", Label),
                BREAKPOINT,
            ],
        ),
        kind(
            &["input_file"],
            &[Image],
            &[
                Field("file_data", Label),
                Field("file_id", Label),
                Field("file_url", Label),
                Field("filename", Label),
                Field("detail", Label),
                BREAKPOINT,
            ],
        ),
    ],
};

const ID: Field = Field("id", Label);
const CALL_ID: Field = Field("call_id", Label);
const STATUS: Field = Field("status", Label);
const NAME: Field = Field("name", Text);
const CALLER: Field = Field("caller", Any);
const NAMESPACE: Field = Field("namespace", Text);
const CREATED_BY: Field = Field("created_by", Label);
const OUTPUT: Field = Field("output", TextOr(&List(&Kinds(&PARTS))));
const ENCRYPTED: Field = Field("encrypted_content", Label);

pub(super) const ITEM: schema::Kinds = schema::Kinds {
    tag: "type",
    untagged: &[("role", "message"), ("id", "item_reference")],
    known: &[
        kind(
            &["message"],
            &[Message],
            &[
                Field("content", TextOr(&List(&Kinds(&PARTS)))),
                Field("role", Label),
                Field("phase", Label),
                ID,
                STATUS,
            ],
        ),
        kind(
            &["function_call"],
            &[Message],
            &[
                Field("arguments", Text),
                Field("async", Flag),
                Field("parsed_arguments", Any),
                NAME,
                NAMESPACE,
                CALLER,
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        kind(
            &["function_call_output"],
            &[Message],
            &[OUTPUT, NAME, NAMESPACE, CALLER, CALL_ID, ID, STATUS, CREATED_BY],
        ),
        kind(
            &["custom_tool_call"],
            &[Message],
            &[
                Field("input", Text),
                Field("async", Flag),
                NAME,
                NAMESPACE,
                CALLER,
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        kind(
            &["custom_tool_call_output"],
            &[Message],
            &[OUTPUT, CALLER, CALL_ID, ID, STATUS, CREATED_BY],
        ),
        // What it thought is encrypted, or kept at the provider under the item's id.
        kind(
            &["reasoning"],
            &[Message, Thought],
            &[Field("summary", Any), Field("content", Any), ENCRYPTED, ID, STATUS],
        ),
        kind(&["compaction"], &[Message, Elsewhere], &[ENCRYPTED, ID, CREATED_BY]),
        kind(&["compaction_trigger"], &[Priced("compaction")], &[ID]),
        kind(&["item_reference"], &[Message, Elsewhere], &[ID]),
        kind(
            &["additional_tools"],
            &[Message],
            &[Field("role", Label), Field("tools", List(&Tools(&TOOL))), ID],
        ),
        kind(
            &["configuration_update"],
            &[Message],
            &[
                Field("reasoning", Object(&[Field("effort", Label)])),
                Field("text", Object(&[Field("format", Any)])),
                ID,
            ],
        ),
        // The client's own tools of the provider's making.
        kind(
            &["local_shell_call"],
            &[Message],
            &[Field("action", Any), CALL_ID, ID, STATUS],
        ),
        kind(
            &["local_shell_call_output"],
            &[Message],
            &[Field("output", Text), CALL_ID, ID, STATUS],
        ),
        kind(
            &["shell_call"],
            &[Message, Elsewhere],
            &[
                Field("action", Any),
                Field("environment", Any),
                CALLER,
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        kind(
            &["shell_call_output"],
            &[Message, Elsewhere],
            &[
                Field("output", Any),
                Field("max_output_length", Number),
                CALLER,
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        kind(
            &["apply_patch_call"],
            &[Message],
            &[Field("operation", Any), CALLER, CALL_ID, ID, STATUS, CREATED_BY],
        ),
        kind(
            &["apply_patch_call_output"],
            &[Message],
            &[Field("output", Text), CALLER, CALL_ID, ID, STATUS, CREATED_BY],
        ),
        kind(
            &["computer_call"],
            &[Message],
            &[
                Field("action", Any),
                Field("actions", Any),
                Field("pending_safety_checks", Any),
                CALL_ID,
                ID,
                STATUS,
            ],
        ),
        kind(
            &["computer_call_output"],
            &[Message, Image],
            &[
                Field("output", Any),
                Field("acknowledged_safety_checks", Any),
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        kind(
            &["tool_search_call"],
            &[Message, Elsewhere],
            &[
                Field("arguments", Any),
                Field("execution", Label),
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        kind(
            &["tool_search_output"],
            &[Message, Elsewhere],
            &[
                Field("tools", List(&Tools(&TOOL))),
                Field("execution", Label),
                CALL_ID,
                ID,
                STATUS,
                CREATED_BY,
            ],
        ),
        // What the provider's own tools did in an earlier turn.
        kind(
            &["file_search_call"],
            &[Message, Elsewhere],
            &[Field("queries", Any), Field("results", Any), ID, STATUS],
        ),
        kind(
            &["web_search_call"],
            &[Message, Elsewhere],
            &[Field("action", Any), ID, STATUS],
        ),
        kind(
            &["image_generation_call"],
            &[Message, Image],
            &[
                Field("result", Label),
                Field("action", Label),
                Field("background", Label),
                Field("error", Any),
                Field("output_format", Label),
                Field("quality", Label),
                Field("revised_prompt", Text),
                Field("size", Label),
                Field("svg_usage", Any),
                ID,
                STATUS,
            ],
        ),
        kind(
            &["code_interpreter_call"],
            &[Message, Image],
            &[
                Field("code", Text),
                Field("container_id", Label),
                Field("outputs", Any),
                ID,
                STATUS,
            ],
        ),
        kind(
            &["mcp_list_tools"],
            &[Message, Elsewhere],
            &[
                Field("server_label", Label),
                Field("tools", Any),
                Field("error", Any),
                ID,
            ],
        ),
        kind(
            &["mcp_approval_request"],
            &[Message, Elsewhere],
            &[Field("arguments", Text), Field("server_label", Label), NAME, ID],
        ),
        // Lets a call go on that the provider makes, so it is one.
        kind(
            &["mcp_approval_response"],
            &[Message, Priced("mcp")],
            &[
                Field("approval_request_id", Label),
                Field("approve", Flag),
                Field("reason", Text),
                ID,
            ],
        ),
        kind(
            &["mcp_call"],
            &[Message, Elsewhere],
            &[
                Field("arguments", Text),
                Field("server_label", Label),
                Field("approval_request_id", Label),
                Field("error", Any),
                Field("output", Text),
                NAME,
                ID,
                STATUS,
            ],
        ),
        kind(
            &["program"],
            &[Message, Elsewhere],
            &[Field("code", Text), Field("fingerprint", Label), CALL_ID, ID],
        ),
        kind(
            &["program_output"],
            &[Message, Elsewhere],
            &[Field("result", Text), CALL_ID, ID, STATUS],
        ),
    ],
};
