//! Tools on offer: what they are called, and where they run.

use serde_json::{Map, Value};

use super::schema::NameAt;

/// Names of one and the same tool.
const PRICED_AS: &[(&str, &str)] = &[
    ("web_search_preview", "web_search"),
    ("mcp_toolset", "mcp"),
    ("tool_search_tool_bm25", "tool_search"),
    ("tool_search_tool_regex", "tool_search"),
];

/// The name under which config prices a tool that runs at the provider.
pub(super) fn priced_as(name: &str) -> &str {
    let priced = PRICED_AS.iter().find(|(alias, _)| *alias == name);
    priced.map_or(name, |(_, name)| name)
}

/// The names of a tool of this kind; `None` if one is missing.
pub(super) fn names_at(at: NameAt, kind: &str, object: &Map<String, Value>) -> Option<Vec<String>> {
    let name_in = |object: &Map<String, Value>| object.get("name").and_then(Value::as_str).map(str::to_owned);
    match at {
        NameAt::Here => Some(vec![name_in(object)?]),
        NameAt::In(field) => Some(vec![object.get(field).and_then(Value::as_object).and_then(name_in)?]),
        NameAt::Kind => Some(vec![name_in(object).unwrap_or_else(|| undated(kind).to_owned())]),
        NameAt::Each => {
            let tools = object.get("tools")?.as_array()?;
            tools.iter().map(|tool| tool.as_object().and_then(name_in)).collect()
        }
    }
}

/// The names under which a tool, of whatever API, is offered.
pub(super) fn names_of(tool: &Value) -> Vec<String> {
    let Some(object) = tool.as_object() else {
        return Vec::new();
    };
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    let at = match kind {
        "function" | "custom" if object.contains_key(kind) => {
            return [NameAt::In("function"), NameAt::In("custom")]
                .into_iter()
                .find_map(|at| names_at(at, kind, object))
                .unwrap_or_default();
        }
        "function" | "custom" | "" => NameAt::Here,
        "namespace" => NameAt::Each,
        _ => NameAt::Kind,
    };
    names_at(at, kind, object).unwrap_or_default()
}

/// Some tools run at the client or at the provider, as they are set.
pub(super) fn runs_at_the_provider(kind: &str, tool: &Map<String, Value>) -> bool {
    match kind {
        "shell" => {
            let environment = tool.get("environment").and_then(|value| value.get("type"));
            environment.and_then(Value::as_str) != Some("local")
        }
        "tool_search" => tool.get("execution").and_then(Value::as_str) != Some("client"),
        _ => false,
    }
}

/// A type without its date: `web_search_20250305` and `web_search_2025_08_26` are `web_search`.
pub(super) fn undated(name: &str) -> &str {
    let bytes = name.as_bytes();
    let ends_like = |shape: &[u8]| {
        bytes.len() > shape.len()
            && bytes[bytes.len() - shape.len()..]
                .iter()
                .zip(shape)
                .all(|(byte, like)| {
                    if *like == b'#' {
                        byte.is_ascii_digit()
                    } else {
                        byte == like
                    }
                })
    };
    for shape in [b"_####_##_##".as_slice(), b"_########".as_slice()] {
        if ends_like(shape) {
            return &name[..name.len() - shape.len()];
        }
    }
    name
}
