//! What an answer says.
//!
//! A provider's word is what a call is settled by, so it is taken strictly or not at all: a usage that
//! is missing, unfinished or not understood is no usage, and its call is charged at its bound (**L7**).
//! All else about the answer is the client's: fields that nobody here knows pass, and so do types that
//! are not those that the provider documents. Only what two readers could read differently is refused.

mod media;
mod openai;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::domain::price::Usage;
use crate::domain::wire::UsageRejection;
use crate::domain::wire::answer::Text;
use crate::domain::wire::json::JsonRejection;

pub(super) use read::{merged_usage, response, strict, usage_of};
pub use read::{read_answer, read_answer_with};

/// Which tools a model may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolGate {
    /// The agent has no manifest: its tools are not gated here.
    #[default]
    All,
    /// Those that its manifest lists.
    Only(Arc<BTreeSet<String>>),
}

/// Tools of providers that are called by another name than they may be offered by, and listed under.
const ALIASES: &[(&str, &[&str])] = &[
    ("bash_code_execution", &["code_execution"]),
    ("computer", &["computer_use_preview"]),
    ("text_editor_code_execution", &["code_execution"]),
    ("web_search", &["web_search_preview"]),
];

impl ToolGate {
    pub fn allows(&self, tool: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(tools) => {
                let aliases = ALIASES.iter().find(|(name, _)| *name == tool);
                let aliases = aliases.map_or(&[][..], |(_, aliases)| aliases);
                tools.contains(tool) || aliases.iter().any(|alias| tools.contains(*alias))
            }
        }
    }

    /// Whether more letters could make it the name of a tool that is allowed.
    pub(super) fn may_become(&self, beginning: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(tools) => {
                let mut from = tools.range::<str, _>((Bound::Included(beginning), Bound::Unbounded));
                from.next().is_some_and(|tool| tool.starts_with(beginning))
            }
        }
    }
}

/// What a provider's answer says, whole or at the end of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What it says was used. `None`: it did not say, which is not nothing (**L7**).
    pub usage: Option<Usage>,
    pub stated: Stated,
    /// Why what it says was used is not taken for it.
    pub fault: Option<UsageFault>,
    /// The model that it says answered.
    pub model: Option<String>,
    /// The provider's id of the answer, by which a later report of it is recognised (L6).
    pub id: Option<String>,
    /// It ended because the limit on its tokens was reached.
    pub on_limit: bool,
    /// Tools that the model called, in order, each name once: the client's and the provider's own.
    pub tool_calls: Vec<String>,
    /// It calls tools beyond these: without a name, by one that is too long, or more than are kept. A gate
    /// lets none of them pass.
    pub calls_others: bool,
    /// A tool of a remote server ran, whatever its name: the client may have one of its own that is called alike.
    pub calls_remote: bool,
}

/// What moves the price that an answer says in so many words. Where it is silent, its usage has what is normal,
/// and what was asked for may be dearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stated {
    /// The tier that served it.
    pub tier: bool,
    /// Whether its provider's fast mode did.
    pub fast: bool,
    pub region: bool,
    /// How many web searches are billed; else they are those that were seen.
    pub searches: bool,
}

/// A usage, and how much of it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) usage: Usage,
    pub(super) stated: Stated,
}

impl From<Usage> for Told {
    fn from(usage: Usage) -> Self {
        let stated = Stated::default();
        Self { usage, stated }
    }
}

/// Why a usage that an answer gives cannot be settled by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageFault {
    #[error("the usage is {0}")]
    Json(#[from] JsonRejection),
    #[error(transparent)]
    Usage(#[from] UsageRejection),
    #[error("the stream gave more than one usage, and whether they add up is not known")]
    Several,
}

/// The answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRejection {
    #[error("the upstream's answer is no JSON that can be read in one way only")]
    Unreadable,
}

/// More names than any answer calls.
const MAX_TOOL_CALLS: usize = 1_000;
/// A longer name, model or id is none.
const MAX_NAME: usize = 256;

impl Answer {
    /// Takes over what an answer or an event says of itself; the first word on each counts.
    pub(super) fn says(&mut self, id: &Text<'_>, model: &Text<'_>) {
        for (own, said) in [(&mut self.id, id), (&mut self.model, model)] {
            if own.is_none() {
                *own = said.get().filter(|text| text.len() <= MAX_NAME).map(str::to_owned);
            }
        }
    }

    pub(super) fn calls(&mut self, tool: &str) {
        if self.tool_calls.iter().any(|name| name == tool) {
            return;
        }
        if tool.is_empty() || tool.len() > MAX_NAME || self.tool_calls.len() == MAX_TOOL_CALLS {
            self.calls_others = true;
        } else {
            self.tool_calls.push(tool.to_owned());
        }
    }

    pub(super) fn settle_by(&mut self, told: Result<Option<Told>, UsageFault>) {
        match told {
            Ok(told) => {
                self.usage = told.map(|told| told.usage);
                self.stated = told.map(|told| told.stated).unwrap_or_default();
            }
            Err(fault) => self.fault = Some(fault),
        }
    }
}
