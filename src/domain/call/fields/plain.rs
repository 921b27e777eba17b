//! `POST /v1/completions` and `POST /v1/embeddings`: `CompletionCreateParams` and `EmbeddingCreateParams`
//! of the `openai` SDK 3.51.0.

use super::super::schema::Field;
use super::super::schema::Rule::{Any, Flag, Label, List, Number, Object, Only, TextOr};
use super::chat::STREAM_OPTIONS;

pub(in super::super) const COMPLETIONS: &[Field] = &[
    // The reader counts the prompts in it.
    Field("prompt", Any),
    Field("suffix", Any),
    Field("model", Label),
    Field("stream", Flag),
    Field("stream_options", Object(STREAM_OPTIONS)),
    Field("max_tokens", Number),
    Field("n", Number),
    Field("best_of", Number),
    // What is echoed was not generated, so it is not billed as output.
    Field("echo", Flag),
    Field("frequency_penalty", Number),
    Field("logit_bias", Any),
    Field("logprobs", Number),
    Field("presence_penalty", Number),
    Field("seed", Number),
    Field("stop", TextOr(&List(&Label))),
    Field("temperature", Number),
    Field("top_p", Number),
    Field("user", Label),
];

pub(in super::super) const EMBEDDINGS: &[Field] = &[
    // The reader counts the texts in it.
    Field("input", Any),
    Field("model", Label),
    Field("dimensions", Number),
    Field("encoding_format", Only(&["float", "base64"])),
    Field("user", Label),
];
