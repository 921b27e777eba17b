//! The body to forward: the client's own bytes, but for what must change.
//!
//! A body that is read and written again is another body: numbers lose digits, keys their order, escapes
//! their form, and a cache at the provider its prefix. So a request that needs no change is forwarded byte
//! for byte, and in one that does only the fields that change are written anew; the others keep their text
//! and their place.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::limit::Limit;

/// The body, and what must change in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) raw: Bytes,
    /// Tools to take out again.
    pub(super) stripped: BTreeSet<String>,
    /// Tools that cannot be taken out.
    pub(super) fixed_tools: BTreeSet<String>,
    /// Tools that can only be taken out together.
    pub(super) groups: Vec<BTreeSet<String>>,
    pub(super) limit: Option<Limit>,
    /// The stream must report its usage.
    pub(super) force_usage: bool,
}

/// Fields of offered tools.
const TOOL_LISTS: [&str; 2] = ["tools", "functions"];
/// Fields that say which of the offered tools to use. A provider refuses them when nothing is offered.
const TOOL_USE: [&str; 3] = ["tool_choice", "function_call", "parallel_tool_calls"];

impl Draft {
    /// A tool that is to go and cannot, if there is one.
    pub(super) fn cannot_strip<'n>(&'n self, names: &'n BTreeSet<String>) -> Option<&'n String> {
        let parted = |group: &&BTreeSet<String>| !group.is_subset(names);
        let parted = self
            .groups
            .iter()
            .filter(parted)
            .flat_map(|group| group.intersection(names));
        self.fixed_tools.intersection(names).chain(parted).next()
    }

    pub(super) fn render(&self, tokens: Option<u64>) -> Bytes {
        let limit = self.limit.as_ref();
        let limit = limit.and_then(|limit| Some((limit, limit.written(), limit.to_write(tokens)?.to_string())));
        if limit.is_none() && !self.force_usage && self.stripped.is_empty() {
            return self.raw.clone();
        }
        // The body was read before; should it not be read now, nothing can be changed in it either.
        let Ok(fields) = fields(&self.raw) else {
            return self.raw.clone();
        };
        let mut out = Writer::new(self.raw.len() + 64);
        let mut missing: Vec<(&str, String)> = Vec::new();
        // It stands where it stood, if it is stated in a field that is written; else it is added.
        if let Some((limit, written, most)) = &limit {
            let added = written.iter().filter(|name| !limit.stated.contains(name));
            missing.extend(added.map(|name| (*name, most.clone())));
        }
        if self.force_usage && !fields.iter().any(|(name, _)| name == "stream_options") {
            missing.push(("stream_options", r#"{"include_usage":true}"#.to_owned()));
        }
        let lists_are_empty = self.lists_are_empty(&fields);
        let states_limit = |name: &&str| self.limit.as_ref().is_some_and(|limit| limit.names.contains(name));
        for (name, raw) in &fields {
            match name.as_str() {
                name if states_limit(&name) && raw.get() == "null" => {}
                name if let Some((_, written, most)) = limit.as_ref().filter(|_| states_limit(&name)) => {
                    if written.contains(&name) {
                        out.field(name, most);
                    }
                }
                "stream_options" if self.force_usage => out.field(name, &with_usage(raw)),
                list if TOOL_LISTS.contains(&list) && !self.stripped.is_empty() => {
                    if let Some(kept) = self.keep(raw) {
                        out.field(list, &kept);
                    }
                }
                choice if TOOL_USE.contains(&choice) && !self.stripped.is_empty() => {
                    if !lists_are_empty && !self.chooses_stripped(raw) {
                        out.field(choice, raw.get());
                    }
                }
                name => out.field(name, raw.get()),
            }
        }
        for (name, value) in missing {
            out.field(name, &value);
        }
        out.end()
    }

    /// The list without what is stripped; `None` when nothing is left, since providers refuse an empty one.
    fn keep(&self, list: &RawValue) -> Option<String> {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
            return Some(list.get().to_owned());
        };
        let kept: Vec<&str> = items
            .into_iter()
            .map(RawValue::get)
            .filter(|item| !self.strips(item))
            .collect();
        (!kept.is_empty()).then(|| format!("[{}]", kept.join(",")))
    }

    fn strips(&self, item: &str) -> bool {
        let Ok(tool) = serde_json::from_str::<Value>(item) else {
            return false;
        };
        let names = super::tools::names_of(&tool);
        !names.is_empty() && names.iter().all(|name| self.stripped.contains(name))
    }

    fn lists_are_empty(&self, fields: &[(String, &RawValue)]) -> bool {
        let mut lists = fields.iter().filter(|(name, _)| TOOL_LISTS.contains(&name.as_str()));
        lists.all(|(_, raw)| raw.get() == "null" || self.keep(raw).is_none())
    }

    /// Whether a tool that is taken out is the one, or one of those, that shall be used.
    fn chooses_stripped(&self, choice: &RawValue) -> bool {
        serde_json::from_str::<Value>(choice.get()).is_ok_and(|choice| self.names_stripped(&choice))
    }

    fn names_stripped(&self, choice: &Value) -> bool {
        match choice {
            Value::Object(object) => object.iter().any(|(key, value)| match value {
                Value::String(text) if key == "name" || key == "type" => {
                    self.stripped.contains(text) || self.stripped.contains(super::tools::undated(text))
                }
                other => self.names_stripped(other),
            }),
            Value::Array(items) => items.iter().any(|item| self.names_stripped(item)),
            _ => false,
        }
    }
}

/// The options with `include_usage`, the others as they were.
fn with_usage(options: &RawValue) -> String {
    let mut options = match serde_json::from_str::<Value>(options.get()) {
        Ok(Value::Object(options)) => options,
        _ => serde_json::Map::new(),
    };
    options.insert("include_usage".to_owned(), Value::Bool(true));
    Value::Object(options).to_string()
}

/// The fields of the outermost object, in order, each value as it was written.
fn fields(raw: &[u8]) -> Result<Vec<(String, &RawValue)>, serde_json::Error> {
    struct Fields;

    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(entry) = map.next_entry()? {
                fields.push(entry);
            }
            Ok(fields)
        }
    }

    serde_json::Deserializer::from_slice(raw).deserialize_map(Fields)
}

/// Writes one object.
struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.push(b'{');
        Self { out }
    }

    fn field(&mut self, name: &str, value: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        self.out.extend_from_slice(Value::from(name).to_string().as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value.as_bytes());
    }

    fn end(mut self) -> Bytes {
        self.out.push(b'}');
        self.out.into()
    }
}
