//! What an answer says.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::price::Usage;

/// Which tools a model may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolGate {
    /// The agent has no manifest: its tools are not gated here.
    #[default]
    All,
    /// Those that its manifest lists.
    Only(Arc<BTreeSet<String>>),
}

impl ToolGate {
    pub fn allows(&self, tool: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(tools) => tools.contains(tool),
        }
    }
}

/// What a provider's answer says, whole or at the end of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What it says was used. `None`: it did not say, which is not nothing (**L7**).
    pub usage: Option<Usage>,
    /// The model that it says answered.
    pub model: Option<String>,
    /// The provider's id of the answer, by which a later report of it is recognised (L6).
    pub id: Option<String>,
    /// It ended because the limit on its tokens was reached.
    pub on_limit: bool,
    /// Tools that the model called, in order, each name once.
    pub tool_calls: Vec<String>,
}
