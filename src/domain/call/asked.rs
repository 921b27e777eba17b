//! What a request asks for.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::draft::Draft;
use super::media::Media;
use super::rejection::CallRejection;
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

/// What a header widens for this call, whatever the price list says of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Widened {
    /// The context window may be as large as this.
    pub context: Option<u64>,
    /// The output may be as long as this.
    pub output: Option<u64>,
}

/// A request that was understood.
#[derive(Debug, Clone)]
pub struct Asked {
    pub route: Route,
    /// As the request names it. Routes without a model have none.
    pub model: Option<ModelId>,
    pub stream: bool,
    /// The most that it can use, but for the output tokens that its limit allows. `input_tokens` is the
    /// bound by bytes, [`overhead`](Self::overhead) included; `output_tokens` is what is billed as output
    /// beyond the limit.
    pub most: CallBound,
    pub content: ContentFrom,
    /// Separate inputs, each read by the model on its own: no more than a context window each.
    pub inputs: u64,
    /// Tokens that are read beside the text at most: what templates add for the call, its messages and its
    /// tools, and pictures whose size is known.
    pub overhead: u64,
    pub output: OutputLimit,
    /// What its server-side tools may cost, by the rules, over all that is in `most`.
    pub fees: Usd,
    /// The server-side tools that they are for, each once.
    pub server_tools: BTreeSet<String>,
    /// Web searches that the request allows at most, where it says so.
    pub searches: Option<u64>,
    /// Names of the tools that it offers to the model, each once.
    pub tools: Vec<String>,
    /// The text that the model will read, if that is all it reads: a tokenizer can count it, when the
    /// bound by bytes does not fit.
    pub text: Option<Vec<String>>,
    /// The usage event of its stream was not asked for by the client, so it is taken out again.
    pub strip_usage: bool,
    /// The request's own limit was above the rules' and is lowered to this.
    pub clamped: Option<u64>,
    pub widened: Widened,
    /// What a route that is no conversation is billed by.
    pub media: Option<Media>,
    pub(super) draft: Draft,
}

impl Asked {
    /// Takes offered tools out again.
    ///
    /// # Errors
    /// One of them is offered where it cannot be taken out (within a message, or beside others under one
    /// name), so the call is refused instead.
    pub fn strip(&mut self, names: &BTreeSet<String>) -> Result<(), CallRejection> {
        let stripped: BTreeSet<String> = self.draft.stripped.union(names).cloned().collect();
        if let Some(name) = self.draft.cannot_strip(&stripped) {
            return Err(CallRejection::ToolNotInManifest(name.clone()));
        }
        self.tools.retain(|tool| !names.contains(tool));
        self.draft.stripped = stripped;
        Ok(())
    }

    /// The limit is spelled in this way by the upstream, if it is ours to fill in: `max_tokens` instead of
    /// `max_completion_tokens` where only the older name is known.
    pub fn spell_limit(&mut self, name: &'static str) {
        self.draft.spell_limit(name);
    }

    /// What is forwarded, when the hold covers `tokens` for each output: the original, byte for byte, if
    /// nothing must change.
    pub fn body(&self, tokens: Option<u64>) -> Bytes {
        self.draft.render(tokens)
    }
}
