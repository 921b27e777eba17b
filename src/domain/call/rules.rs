//! What the config and the agent's manifest say to every call.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::money::Usd;

/// What becomes of an offered tool that the agent's manifest does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unlisted {
    /// The call is refused.
    #[default]
    Refuse,
    /// The tool is taken out of the request, which then goes on.
    Strip,
}

/// The rules of a call: made once for each agent when settings are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRules {
    /// Output tokens of one call at most: the smaller of the config's and the manifest's.
    pub max_tokens: Option<u64>,
    /// Filled in where a request sets no limit; lowered by what the budget has left.
    pub default_max_tokens: u64,
    /// A limit that is filled in is never lowered below this.
    pub least_tokens: u64,
    /// `route:field` of request fields that the operator declares to bear no cost, such as
    /// `chat/completions:vendor_hint`; nested fields with dots.
    pub free_fields: BTreeSet<String>,
    /// Values of `anthropic-beta` and `OpenAI-Beta` headers that the operator declares to bear no cost
    /// beyond what is listed here.
    pub free_betas: BTreeSet<String>,
    /// Tools that run at the provider, by their type without its date (`web_search`), and the most that
    /// all their uses in one call may cost. One that is not here is refused.
    pub server_tools: BTreeMap<String, Usd>,
    /// Web searches that one call of the tool is taken for where only its calls can be limited (Responses).
    pub searches_per_call: u64,
    pub unlisted_tools: Unlisted,
}

impl Default for CallRules {
    fn default() -> Self {
        Self {
            max_tokens: None,
            default_max_tokens: 4_096,
            least_tokens: 256,
            free_fields: BTreeSet::new(),
            free_betas: BTreeSet::new(),
            server_tools: BTreeMap::new(),
            searches_per_call: 5,
            unlisted_tools: Unlisted::default(),
        }
    }
}
