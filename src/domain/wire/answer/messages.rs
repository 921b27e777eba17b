//! A message of Anthropic's Messages API, and the events of its stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{List, Object, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    pub message: Object<Message<'a>>,
    pub content_block: Object<Block<'a>>,
    pub delta: Object<Delta<'a>>,
    pub usage: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    pub model: Text<'a>,
    pub content: List<Block<'a>>,
    pub stop_reason: Text<'a>,
    pub usage: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    pub name: Text<'a>,
    /// The tool that was offered, where it brought several of its own.
    pub toolset_name: Text<'a>,
}

impl Block<'_> {
    /// The tool that it calls: the client's, the provider's or one of a remote server.
    pub fn tool(&self) -> Option<&str> {
        let is_call = self.kind.get().is_some_and(|kind| kind.ends_with("tool_use"));
        is_call.then(|| self.toolset_name.get().or(self.name.get()).unwrap_or_default())
    }

    /// Whether it is a run of a remote server's tool.
    pub fn is_remote(&self) -> bool {
        self.kind.get() == Some("mcp_tool_use")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Delta<'a> {
    #[serde(borrow)]
    pub text: Option<&'a RawValue>,
    pub thinking: Option<&'a RawValue>,
    pub stop_reason: Text<'a>,
}
