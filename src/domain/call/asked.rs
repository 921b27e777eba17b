//! What a request asks for.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::bound::longest;
use super::draft::Draft;
use super::limit::LimitField;
use super::media::Media;
use super::rejection::CallRejection;
use super::route::Route;
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::money::Usd;
use crate::domain::price::{CallBound, PriceEntry};

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

/// The field that says how much of the limit is for thinking.
pub(super) const THINKING_BUDGET: &str = "thinking.budget_tokens";

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
    /// Whose models answer, as the upstream is configured. What only one provider promises is taken for
    /// nothing until it is known to be that one.
    pub service: Option<ServiceId>,
    /// As the request names it. Routes without a model have none.
    pub model: Option<ModelId>,
    pub stream: bool,
    /// The most that it can use, but for the output tokens that its limit allows. `input_tokens` is the
    /// bound by bytes, with the [`overhead`](Self::overhead) and without the [`growth`](Self::growth);
    /// `output_tokens` is what is billed as output beyond the limit.
    pub most: CallBound,
    pub content: ContentFrom,
    /// Blocks of what a model thought for earlier answers, which its text does not show: each is no longer than
    /// an answer, and counts beside all else that is read.
    pub thoughts: u64,
    /// Separate inputs, each read by the model on its own: no more than a context window each.
    pub inputs: u64,
    /// Tokens that are read beside the text at most: what templates add for the call, its messages and its
    /// tools, and pictures whose size is known.
    pub overhead: u64,
    /// Bytes that a normal form could add to its texts: tokens at most, unless its tokenizer is known to take a
    /// text as it is.
    pub growth: u64,
    pub output: OutputLimit,
    /// What its server-side tools may cost, by the rules, over all that is in `most`.
    pub fees: Usd,
    /// The server-side tools that they are for, each once.
    pub server_tools: BTreeSet<String>,
    /// Web searches that the request allows at most, or calls of tools, where it says so.
    pub searches: Option<u64>,
    /// Names of the tools that it offers to the model, each once.
    pub tools: Vec<String>,
    /// The text that the model will read, if that is all it reads: a tokenizer can count it, when the
    /// bound by bytes does not fit.
    pub text: Option<Vec<String>>,
    /// Messages, items and calls of tools: around the text of each its template writes some tokens more.
    pub messages: u64,
    /// Bytes of what it reads beside that text in a form of the provider's: no tokenizer sees it.
    pub uncounted: u64,
    /// The usage event of its stream was not asked for by the client, so it is taken out again.
    pub strip_usage: bool,
    /// The request's own limit was above the rules', or above what its model writes, and is lowered to this.
    pub clamped: Option<u64>,
    pub widened: Widened,
    /// How many tokens of its limit are for thinking, where the request says so.
    pub thinking_budget: Option<u64>,
    /// What a route that is no conversation is billed by.
    pub media: Option<Media>,
    pub(super) draft: Draft,
}

impl Asked {
    /// One that uses nothing yet, and is forwarded as it came.
    pub(super) fn new(route: Route, raw: &Bytes, model: Option<ModelId>) -> Self {
        Self {
            route,
            service: None,
            model,
            stream: false,
            most: CallBound::default(),
            content: ContentFrom::Request,
            thoughts: 0,
            inputs: 1,
            overhead: 0,
            growth: 0,
            output: OutputLimit::None,
            fees: Usd::ZERO,
            server_tools: BTreeSet::new(),
            searches: None,
            tools: Vec::new(),
            text: None,
            messages: 0,
            uncounted: 0,
            strip_usage: false,
            clamped: None,
            widened: Widened::default(),
            thinking_budget: None,
            media: None,
            draft: Draft {
                raw: raw.clone(),
                ..Draft::default()
            },
        }
    }

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

    /// The upstream heeds the limit of a chat completion in this field: it is written there, a limit of the
    /// request's own too.
    pub fn spell_limit(&mut self, field: LimitField) {
        if let Some(limit) = &mut self.draft.limit {
            limit.spell(field);
        }
    }

    /// Brings a limit of the request's own down to the most that the model writes by its entry: what is
    /// bounded is what is forwarded, so that a list that is out of date lets nothing through unheld (**L4**).
    ///
    /// # Errors
    /// The request's budget for thinking does not fit into what is left of its limit.
    pub fn fit(&mut self, entry: &PriceEntry) -> Result<(), CallRejection> {
        let OutputLimit::Tokens { asked: Some(limit), .. } = &mut self.output else {
            return Ok(());
        };
        let Some(longest) = longest(entry, self.widened).filter(|longest| longest < limit) else {
            return Ok(());
        };
        if let Some(budget) = self.thinking_budget.filter(|&budget| budget >= longest) {
            return Err(CallRejection::Field {
                field: THINKING_BUDGET.to_owned(),
                problem: format!(
                    "is {budget} and must be below {longest}, the most that {} writes by the price list",
                    entry.model
                ),
            });
        }
        *limit = longest;
        self.clamped = Some(longest);
        if let Some(limit) = &mut self.draft.limit {
            limit.most = Some(limit.most.map_or(longest, |most| most.min(longest)));
        }
        Ok(())
    }

    /// What is forwarded, when the hold covers `tokens` for each output: the original, byte for byte, if
    /// nothing must change.
    pub fn body(&self, tokens: Option<u64>) -> Bytes {
        self.draft.render(tokens)
    }
}
