//! A response of the Responses API, and the events of its stream.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Count, Length, List, Object, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    pub sequence_number: Count,
    pub delta: Option<&'a RawValue>,
    pub item: Object<Item<'a>>,
    pub response: Object<Response<'a>>,
    /// Of a function whose arguments are complete, in some versions.
    pub name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Response<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    pub model: Text<'a>,
    pub status: Text<'a>,
    pub service_tier: Text<'a>,
    pub incomplete_details: Object<Incomplete<'a>>,
    pub output: List<Item<'a>>,
    pub usage: Option<&'a RawValue>,
    pub tool_usage: Option<&'a RawValue>,
}

impl Response<'_> {
    /// Whether nothing more will be used for it.
    pub fn is_over(&self) -> bool {
        matches!(
            self.status.get(),
            Some("completed" | "incomplete" | "failed" | "cancelled")
        )
    }

    pub fn is_on_limit(&self) -> bool {
        let details = self.incomplete_details.0.as_ref();
        details.and_then(|details| details.reason.get()) == Some("max_output_tokens")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Incomplete<'a> {
    #[serde(borrow)]
    pub reason: Text<'a>,
}

/// An item of the output.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Item<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    pub name: Text<'a>,
    pub action: Object<Action<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Action<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// What it searches for: one action may be several searches.
    pub queries: Length,
}

impl Item<'_> {
    /// The tool that it calls: by its name, or by its kind if its provider made it (`shell_call` calls
    /// `shell`). A kind that is not known and has a name counts as a call.
    pub fn tool(&self) -> Option<Cow<'_, str>> {
        let kind = self.kind.get().unwrap_or_default();
        match (self.name.get(), kind.strip_suffix("_call")) {
            _ if kind.ends_with("_output") || kind == "message" => None,
            (Some(name), _) => Some(Cow::Borrowed(name)),
            (None, _) if kind == "program" => Some(Cow::Borrowed("programmatic_tool_calling")),
            (None, Some(tool)) => Some(Cow::Borrowed(tool)),
            (None, None) => (kind == "mcp_approval_request").then_some(Cow::Borrowed("")),
        }
    }

    /// Whether it is a run of a remote server's tool.
    pub fn is_remote(&self) -> bool {
        self.kind.get() == Some("mcp_call")
    }

    /// How many web searches it shows: one for each query, and one where none is told. Opening a page that was
    /// found is none.
    pub fn searches(&self) -> u64 {
        let action = self.action.0.as_ref();
        match action.and_then(|action| action.kind.get()) {
            _ if self.kind.get() != Some("web_search_call") => 0,
            Some("open_page" | "find_in_page") => 0,
            _ => action.map_or(1, |action| action.queries.0.max(1)),
        }
    }
}
