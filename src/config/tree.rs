//! The raw shape: a tree of values that remember where they were written.
//!
//! It is kept apart from `serde` on purpose. A derived deserializer stops at the first mistake and
//! knows a number only after it went through a float; here numbers stay text until somebody says what
//! they are, and a mistake in one place hides none in another.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::report::Report;

/// Where a value was written. Later layers win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    BuiltIn,
    File,
    Environment,
    /// A file that a setting names, such as a manifest: no layer of settings, but it has problems.
    Named,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) layer: Layer,
    /// The file as it was named, or `env NAME`.
    pub(super) source: Arc<str>,
    /// Counts from 1.
    pub(super) line: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// From the environment: what it is depends on who reads it.
    Text(String),
    String(String),
    /// Digits in the given radix, as written.
    Integer(String, u32),
    /// As written.
    Float(String),
    Boolean(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// For "must be …, not …".
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::String(_) => "text",
            Self::Integer(..) => "a whole number",
            Self::Float(_) => "a decimal number",
            Self::Boolean(_) => "true or false",
            Self::Datetime => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

pub(super) type Table = BTreeMap<String, Node>;

/// The prefix of environment variables that override settings.
pub(super) const ENV_PREFIX: &str = "BACKSTOP__";

/// Sections whose entries are lists and so cannot be addressed from the environment.
const LISTS: [&str; 2] = ["agent", "budget"];

/// Parses TOML, going on after syntax errors, which go to the report.
pub(super) fn parse(layer: Layer, source: &str, text: &str, report: &Report) -> Node {
    let source: Arc<str> = source.into();
    let lines = LineIndex::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map(|span| lines.line(span.start));
        let origin = Origin {
            layer,
            source: source.clone(),
            line,
        };
        // The message alone: the parser's own rendering quotes the line, which could hold a secret.
        report.syntax(&origin, error.message());
    }
    let at = |offset: usize| Origin {
        layer,
        source: source.clone(),
        line: Some(lines.line(offset)),
    };
    let span = root.span();
    let mut node = Node {
        origin: at(span.start),
        value: Value::Table(table(root.get_ref(), &at)),
    };
    node.origin.line = None;
    node
}

fn table(raw: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) -> Table {
    raw.iter()
        .map(|(key, item)| (key.get_ref().to_string(), node(key.span().start, item, at)))
        .collect()
}

/// A value in a table stands where its key does; an element of a list where it begins itself.
fn node(start: usize, item: &Spanned<DeValue<'_>>, at: &dyn Fn(usize) -> Origin) -> Node {
    let value = match item.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => Value::Integer(number.as_str().to_owned(), number.radix()),
        DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(items.iter().map(|item| node(item.span().start, item, at)).collect()),
        DeValue::Table(items) => Value::Table(table(items, at)),
    };
    Node {
        origin: at(start),
        value,
    }
}

/// Lays `over` on `base`: tables are merged key by key, anything else is replaced.
pub(super) fn merge(base: &mut Node, over: Node) {
    match (&mut base.value, over.value) {
        (Value::Table(base_table), Value::Table(over_table)) => {
            base.origin = over.origin;
            for (key, node) in over_table {
                match base_table.get_mut(&key) {
                    Some(slot) => merge(slot, node),
                    None => {
                        base_table.insert(key, node);
                    }
                }
            }
        }
        (_, value) => {
            *base = Node {
                origin: over.origin,
                value,
            }
        }
    }
}

/// Lays `BACKSTOP__SECTION__KEY` variables over the tree.
pub(super) fn overlay(root: &mut Node, environment: &Environment, report: &Report) {
    for (name, text) in environment.iter() {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let origin = Origin {
            layer: Layer::Environment,
            source: format!("env {name}").into(),
            line: None,
        };
        let path = rest.to_ascii_lowercase();
        let Some((section, key)) = path
            .split_once("__")
            .filter(|(section, key)| !section.is_empty() && !key.is_empty() && !key.contains("__"))
        else {
            report.error(
                &origin,
                "",
                "does not name a setting",
                Some("the form is BACKSTOP__SECTION__KEY".to_owned()),
            );
            continue;
        };
        if LISTS.contains(&section) {
            let hint = format!("write it under [[{section}]] in the config file");
            report.error(
                &origin,
                section,
                "entries of a list cannot be set from the environment",
                Some(hint),
            );
            continue;
        }
        let over = Node {
            origin: origin.clone(),
            value: Value::Text(text.to_owned()),
        };
        let Value::Table(sections) = &mut root.value else {
            return;
        };
        let slot = sections.entry(section.to_owned()).or_insert_with(|| Node {
            origin: origin.clone(),
            value: Value::Table(Table::new()),
        });
        // A section that is no table is reported by its reader.
        if let Value::Table(keys) = &mut slot.value {
            keys.insert(key.to_owned(), over);
        }
    }
}

/// Byte offsets of line starts.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> Self {
        Self(
            std::iter::once(0)
                .chain(text.match_indices('\n').map(|(at, _)| at + 1))
                .collect(),
        )
    }

    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|&start| start <= offset).max(1)
    }
}
