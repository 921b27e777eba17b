//! What a request asks for.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::route::Route;
use crate::domain::id::ModelId;
use crate::domain::money::Usd;
use crate::domain::price::CallBound;

/// Whether all that the model will read is in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentFrom {
    /// All of it: its bytes bound its tokens.
    #[default]
    Request,
    /// Some of it is elsewhere (a file id, a URL, an earlier response, a stored prompt) or encoded so
    /// that its units cannot be told: only the model's context window bounds it.
    Elsewhere,
}

/// How many tokens may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLimit {
    /// The route writes no tokens, or none that are priced.
    None,
    /// `asked` by the request for each of `times` outputs (`n`, `best_of`, an array of prompts), already
    /// clamped to the rules; nothing asked is filled in.
    Tokens { asked: Option<u64>, times: u64 },
}

/// A request that was understood.
#[derive(Debug, Clone)]
pub struct Asked {
    pub route: Route,
    /// As the request names it. Routes without a model have none.
    pub model: Option<ModelId>,
    pub stream: bool,
    /// The most that it can use, but for its output tokens. `input_tokens` is the bound by bytes.
    pub most: CallBound,
    pub content: ContentFrom,
    pub output: OutputLimit,
    /// What its server-side tools may cost, by the rules, over all that is in `most`.
    pub fees: Usd,
    /// Names of the tools that it offers to the model, each once.
    pub tools: Vec<String>,
    /// The text that the model will read, if that is all it reads: a tokenizer can count it, when the
    /// bound by bytes does not fit.
    pub text: Option<Vec<String>>,
    /// The usage event of its stream was not asked for by the client, so it is taken out again.
    pub strip_usage: bool,
    /// The request's own limit was above the rules' and is lowered to this.
    pub clamped: Option<u64>,
    pub(super) draft: Draft,
}

/// The body, and what must change in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) raw: Bytes,
    /// Tools to take out again.
    pub(super) stripped: BTreeSet<String>,
}
