//! The manifest: which tools an agent declares, how often it may use each, and which models it may ask.
//!
//! It is a file beside the config, so that whoever builds the agent can write it and whoever runs it can
//! review it. It is a list of what is allowed (**D1**): a tool that is not in it does not exist for the
//! agent, be it offered to a model, called by one, or asked for with `POST /v1/tools/authorize`. The
//! blacklist adds nothing to what is refused; it says that a name was meant to be, so that nobody
//! allows it later in passing, and an offer of it is refused even where unlisted tools are only stripped.
//!
//! Names are compared exactly, byte for byte. Whoever runs the tool may be less exact, so two names that
//! such a reader could take for one another are refused when the file is read: names that differ only in
//! case, and every character that is no plain ASCII, white space included.
//!
//! What it must never do: be half read. A field that is not known here is refused, since it may have been
//! meant as a limit; so is a file with any mistake, and all its mistakes are told at once.

mod change;
mod parse;
mod place;
mod rate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use globset::GlobSet;

pub use change::changes;
pub use parse::{MAX_BYTES, Problem};
pub use rate::{Granted, MAX_PER_SECONDS, MAX_REQUESTS, Rate, RateLog};

use crate::domain::call::{CallRejection, ToolGate, Unlisted};
use crate::domain::id::{AgentId, ModelId, ToolName};

/// What an agent declared, checked.
#[derive(Debug, Clone)]
pub struct Manifest {
    agent: AgentId,
    tools: BTreeMap<ToolName, Tool>,
    blacklisted: BTreeSet<ToolName>,
    /// The blacklist by [`folded`] names.
    folded: BTreeSet<String>,
    models: Option<Models>,
    max_tokens: Option<u64>,
    gate: ToolGate,
}

/// A tool that the agent may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// `None`: the config's default.
    pub rate: Option<Rate>,
    /// It changes nothing in the world, says the manifest.
    pub read_only: bool,
}

/// Globs, and the text they were made of.
#[derive(Debug, Clone)]
struct Models {
    patterns: Vec<String>,
    set: GlobSet,
}

/// Compiled globs cannot be compared, and what is derived from the rest need not be.
impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.agent == other.agent
            && self.tools == other.tools
            && self.blacklisted == other.blacklisted
            && self.models() == other.models()
            && self.max_tokens == other.max_tokens
    }
}

impl Eq for Manifest {}

impl Manifest {
    /// Reads a manifest, or says everything that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        parse::parse(bytes)
    }

    /// Whose it is.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    pub fn tools(&self) -> &BTreeMap<ToolName, Tool> {
        &self.tools
    }

    pub fn blacklisted(&self) -> &BTreeSet<ToolName> {
        &self.blacklisted
    }

    /// The globs of its models, as they were written; `None` when every model is fine.
    pub fn models(&self) -> Option<&[String]> {
        self.models.as_ref().map(|models| models.patterns.as_slice())
    }

    /// Output tokens of one call at most.
    pub fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    pub fn allows(&self, tool: &str) -> bool {
        self.tools.contains_key(tool)
    }

    /// The tool of this very name, or why the agent may not use it.
    pub fn tool(&self, name: &str) -> Result<(&ToolName, &Tool), CallRejection> {
        self.tools.get_key_value(name).ok_or_else(|| {
            // Cut, since it comes from a client and goes into an answer and the audit log.
            let shown = name.chars().take(MAX_SHOWN).collect();
            if self.blacklists(name) {
                CallRejection::ToolBlacklisted(shown)
            } else {
                CallRejection::ToolNotInManifest(shown)
            }
        })
    }

    /// For answers: the tools that a model may call.
    pub fn gate(&self) -> ToolGate {
        self.gate.clone()
    }

    /// A request offers these tools to a model: the names to take out of it, or why it is refused. A
    /// blacklisted tool is always refused: the rule for unlisted ones is not about it.
    pub fn offer(&self, tools: &[String], unlisted: Unlisted) -> Result<BTreeSet<String>, CallRejection> {
        let refused = || tools.iter().filter_map(|name| self.tool(name).err());
        let blacklisted = |why: &CallRejection| matches!(why, CallRejection::ToolBlacklisted(_));
        if let Some(why) = refused().find(blacklisted) {
            return Err(why);
        }
        match unlisted {
            Unlisted::Refuse => refused().next().map_or_else(|| Ok(BTreeSet::new()), Err),
            Unlisted::Strip => Ok(tools.iter().filter(|name| !self.allows(name)).cloned().collect()),
        }
    }

    pub fn check_model(&self, model: &ModelId) -> Result<(), CallRejection> {
        match &self.models {
            Some(models) if !models.set.is_match(model.as_str()) => {
                Err(CallRejection::ModelNotInManifest(model.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a name is meant by the blacklist, however it is written.
    fn blacklists(&self, name: &str) -> bool {
        name.len() <= MAX_FOLDED && self.folded.contains(&folded(name))
    }
}

/// Characters of a client's name that are shown.
const MAX_SHOWN: usize = 64;
/// Bytes of a name that are looked at; no name in a manifest is as long.
const MAX_FOLDED: usize = 1024;

/// A name as a careless reader sees it: without regard to case and white space.
fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect()
}

/// What makes a manifest, once every part of it is sound.
struct Declared {
    agent: AgentId,
    tools: BTreeMap<ToolName, Tool>,
    blacklisted: BTreeSet<ToolName>,
    models: Option<Models>,
    max_tokens: Option<u64>,
}

impl From<Declared> for Manifest {
    fn from(declared: Declared) -> Self {
        let Declared {
            agent,
            tools,
            blacklisted,
            models,
            max_tokens,
        } = declared;
        let names = tools.keys().map(ToString::to_string).collect();
        Self {
            folded: blacklisted.iter().map(|name| folded(name.as_str())).collect(),
            gate: ToolGate::Only(Arc::new(names)),
            agent,
            tools,
            blacklisted,
            models,
            max_tokens,
        }
    }
}
