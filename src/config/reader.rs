//! A small typed reader over the raw tree that collects problems instead of stopping at the first.
//!
//! Every getter answers `None` after it has reported what was wrong, so a section reads all of its
//! fields before it gives up, and [`Table::finish`] reports the keys that nobody asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::report::Report;
use super::suggest;
use super::tree::{self, Layer, Node, Origin, Value};
use super::values;
use crate::domain::id::NameError;
use crate::domain::money::Usd;

/// A table that is being read.
pub(super) struct Table<'a> {
    path: String,
    origin: &'a Origin,
    entries: &'a tree::Table,
    report: &'a Report,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The root of the tree, which is a table whatever the text says.
    pub(super) fn root(node: &'a Node, empty: &'a tree::Table, report: &'a Report) -> Self {
        let entries = if let Value::Table(entries) = &node.value {
            entries
        } else {
            empty
        };
        Self {
            path: String::new(),
            origin: &node.origin,
            entries,
            report,
            asked: RefCell::default(),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    pub(super) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let node = self.entries.get(key)?;
        Some(Item {
            path: self.path_of(key),
            node,
            report: self.report,
        })
    }

    /// A key without which the table means nothing.
    pub(super) fn required(&self, key: &'static str, hint: &str) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            self.missing(key, hint);
        }
        item
    }

    pub(super) fn missing(&self, key: &str, hint: &str) {
        if !self.report.is_broken() {
            let message = format!("{key} is missing");
            self.report
                .error(self.origin, &self.path, &message, Some(hint.to_owned()));
        }
    }

    pub(super) fn error(&self, message: &str, hint: Option<String>) {
        self.report.error(self.origin, &self.path, message, hint);
    }

    pub(super) fn warning(&self, message: &str, hint: Option<String>) {
        self.report.warning(self.origin, &self.path, message, hint);
    }

    pub(super) fn origin(&self) -> &'a Origin {
        self.origin
    }

    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(&self) {
        let known = self.asked.borrow();
        for (key, node) in self.entries {
            if known.contains(&key.as_str()) {
                continue;
            }
            let path = self.path_of(&suggest::shown_key(key));
            if suggest::is_secret(key) {
                let message = "a secret is never written in the config (its value is not shown here)";
                self.report
                    .error(&node.origin, &path, message, Some(suggest::secret_hint(key, &known)));
            } else {
                let message = if self.path.is_empty() {
                    "unknown section"
                } else {
                    "unknown key"
                };
                self.report
                    .error(&node.origin, &path, message, Some(suggest::key_hint(key, &known)));
            }
        }
    }

    /// The entries of a table whose keys are the user's own, such as tags.
    pub(super) fn items(&self) -> Vec<(&'a str, Item<'a>)> {
        let item = |(key, node): (&'a String, &'a Node)| {
            (
                key.as_str(),
                Item {
                    path: self.path_of(&suggest::shown_key(key)),
                    node,
                    report: self.report,
                },
            )
        };
        self.entries.iter().map(item).collect()
    }
}

/// One value that is being read.
#[derive(Clone)]
pub(super) struct Item<'a> {
    path: String,
    node: &'a Node,
    report: &'a Report,
}

impl<'a> Item<'a> {
    pub(super) fn origin(&self) -> &'a Origin {
        &self.node.origin
    }

    /// Whether nobody has set it and the value is the built-in one.
    pub(super) fn is_built_in(&self) -> bool {
        self.node.origin.layer == Layer::BuiltIn
    }

    pub(super) fn is_environment(&self) -> bool {
        self.node.origin.layer == Layer::Environment
    }

    pub(super) fn text_is(&self, wanted: &str) -> bool {
        self.plain_text() == Some(wanted)
    }

    /// The text, if it is one; nothing is reported.
    pub(super) fn plain_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::String(text) | Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn error(&self, message: &str, hint: impl Into<Option<&'static str>>) {
        self.report
            .error(&self.node.origin, &self.path, message, hint.into().map(str::to_owned));
    }

    pub(super) fn error_hint(&self, message: &str, hint: String) {
        self.report.error(&self.node.origin, &self.path, message, Some(hint));
    }

    /// A text that is no name, and one like it that would be.
    pub(super) fn no_name(&self, error: &NameError) {
        let text = match &self.node.value {
            Value::String(text) | Value::Text(text) => text.as_str(),
            _ => "",
        };
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        };
        let like: String = text.trim().chars().map(plain).take(64).collect();
        let like = if like.is_empty() { "support-bot" } else { &like };
        self.error_hint(&error.to_string(), format!("such as \"{like}\""));
    }

    pub(super) fn warning(&self, message: &str, hint: impl Into<Option<&'static str>>) {
        self.report
            .warning(&self.node.origin, &self.path, message, hint.into().map(str::to_owned));
    }

    fn wrong_type<T>(&self, wanted: &str, hint: impl Into<Option<&'static str>>) -> Option<T> {
        self.error(&format!("must be {wanted}, not {}", self.node.value.what()), hint);
        None
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::String(text) | Value::Text(text) => Some(text),
            _ => self.wrong_type("text", "put it in quotes"),
        }
    }

    /// Text, with a hint of its own for who forgot the quotes.
    pub(super) fn quoted(&self, hint: &'static str) -> Option<&'a str> {
        match &self.node.value {
            Value::String(text) | Value::Text(text) => Some(text),
            _ => self.wrong_type("text", hint),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Text(text) if text == "true" => Some(true),
            Value::Text(text) if text == "false" => Some(false),
            _ => self.wrong_type("true or false", "without quotes"),
        }
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i128> + std::fmt::Display,
    {
        let number = match &self.node.value {
            Value::Integer(digits, radix) => i128::from_str_radix(digits, *radix).ok(),
            Value::Text(text) => match text.trim().parse() {
                Ok(number) => Some(number),
                Err(_) => return self.wrong_type("a whole number", None),
            },
            _ => return self.wrong_type("a whole number", "without quotes and decimals"),
        };
        let fits = number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        if fits.is_none() {
            let nearest = match number {
                Some(number) if T::try_from(number).is_ok_and(|number| number > *range.end()) => range.end(),
                // What no number of this kind can hold is beyond the end, unless it is negative.
                Some(number) if number > 0 && T::try_from(number).is_err() => range.end(),
                None => range.end(),
                Some(_) => range.start(),
            };
            self.error_hint(
                &format!("must be {} to {}", range.start(), range.end()),
                format!("the nearest is {nearest}"),
            );
        }
        fits
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        const FORM: &str = "a number with a unit, such as \"500ms\", \"10s\", \"5m\", \"24h\" or \"90d\"";
        let (Value::String(text) | Value::Text(text)) = &self.node.value else {
            return self.wrong_type("a duration in quotes", FORM);
        };
        let Some(duration) = values::duration(text) else {
            self.error(&format!("{} is not a duration", values::shown(text)), FORM);
            return None;
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (
            values::show_duration(*range.start()),
            values::show_duration(*range.end()),
        );
        let nearest = if duration < *range.start() { &low } else { &high };
        self.error_hint(&format!("must be {low} to {high}"), format!("the nearest is {nearest}"));
        None
    }

    /// Dollars, exactly as written: a number's own digits are read, never a float.
    pub(super) fn usd(&self) -> Option<Usd> {
        const FORM: &str = "dollars as a decimal, such as \"12.50\"";
        let text = match &self.node.value {
            Value::String(text) | Value::Text(text) | Value::Float(text) | Value::Integer(text, 10) => text,
            _ => return self.wrong_type("an amount in dollars", FORM),
        };
        match values::exact_usd(text) {
            Ok(amount) => Some(amount),
            Err(why) => {
                self.error(&format!("{} is {why}", values::shown(text)), FORM);
                None
            }
        }
    }

    /// One of a closed set of words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let list = || {
            words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (Value::String(text) | Value::Text(text)) = &self.node.value else {
            self.error_hint(
                &format!("must be text, not {}", self.node.value.what()),
                format!("one of {}", list()),
            );
            return None;
        };
        let found = words.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        if found.is_none() {
            let near = suggest::nearest(text, words.iter().map(|(word, _)| *word));
            let hint = near.map_or_else(
                || format!("one of {}", list()),
                |near| format!("did you mean \"{near}\"?"),
            );
            self.error_hint(&format!("{} is not one of {}", values::shown(text), list()), hint);
        }
        found
    }

    /// The elements of a list; a text of the environment is split at commas.
    pub(super) fn list(&self, max: usize) -> Option<Vec<Element>> {
        let elements: Vec<Element> = match &self.node.value {
            Value::Array(items) => {
                let element = |(index, node): (usize, &Node)| Element {
                    path: format!("{}[{index}]", self.path),
                    node: node.clone(),
                };
                items.iter().enumerate().map(element).collect()
            }
            Value::Text(text) => self.split(text)?,
            _ => return self.wrong_type("a list", "such as [\"a\", \"b\"]"),
        };
        if elements.len() > max {
            self.error(
                &format!("has {} elements, and at most {max} are taken", elements.len()),
                None,
            );
            return None;
        }
        Some(elements)
    }

    /// `a, b` or, as in TOML, `["a", "b"]`.
    fn split(&self, text: &str) -> Option<Vec<Element>> {
        let element = |index: usize, value: Value| Element {
            path: format!("{}[{index}]", self.path),
            node: Node {
                origin: self.node.origin.clone(),
                value,
            },
        };
        if text.trim_start().starts_with('[') {
            let parsed = toml::de::DeValue::parse(text.trim())
                .ok()
                .map(toml::Spanned::into_inner);
            let Some(toml::de::DeValue::Array(items)) = parsed else {
                self.error("is not a list as TOML writes it", "such as [\"a\", \"b\"], or a,b");
                return None;
            };
            let value = |item: &toml::Spanned<toml::de::DeValue<'_>>| match item.get_ref() {
                toml::de::DeValue::String(text) => Value::Text(text.to_string()),
                toml::de::DeValue::Integer(number) => Value::Integer(number.as_str().to_owned(), number.radix()),
                _ => Value::Datetime,
            };
            return Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| element(index, value(item)))
                    .collect(),
            );
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Some(
            parts
                .enumerate()
                .map(|(index, part)| element(index, Value::Text(part.to_owned())))
                .collect(),
        )
    }

    /// A list of texts, each read by `read`, which reports what it refuses. `None` if any is wrong.
    pub(super) fn texts<T>(&self, max: usize, read: impl Fn(&Item<'_>, &str) -> Option<T>) -> Option<Vec<T>> {
        let elements = self.list(max)?;
        let read_one = |element: &Element| {
            let item = Item {
                path: element.path.clone(),
                node: &element.node,
                report: self.report,
            };
            let text = match &element.node.value {
                Value::String(text) | Value::Text(text) => text,
                _ => return item.wrong_type("text", "put it in quotes"),
            };
            read(&item, text)
        };
        let read: Vec<Option<T>> = elements.iter().map(read_one).collect();
        read.into_iter().collect()
    }

    pub(super) fn integers<T>(&self, max: usize, range: &RangeInclusive<T>) -> Option<Vec<T>>
    where
        T: Copy + PartialOrd + TryFrom<i128> + std::fmt::Display,
    {
        let elements = self.list(max)?;
        let read_one = |element: &Element| {
            Item {
                path: element.path.clone(),
                node: &element.node,
                report: self.report,
            }
            .integer(range.clone())
        };
        let read: Vec<Option<T>> = elements.iter().map(read_one).collect();
        read.into_iter().collect()
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        match &self.node.value {
            Value::Table(entries) => Some(Table {
                path: self.path.clone(),
                origin: &self.node.origin,
                entries,
                report: self.report,
                asked: RefCell::default(),
            }),
            _ => self.wrong_type("a table", None),
        }
    }

    /// The entries of `[[name]]`.
    pub(super) fn tables(&self) -> Option<Vec<Table<'a>>> {
        let Value::Array(items) = &self.node.value else {
            let hint = format!("write [[{}]], with two brackets, for each one", self.path);
            self.error_hint(
                &format!("must be a list of tables, not {}", self.node.value.what()),
                hint,
            );
            return None;
        };
        let item = |(index, node): (usize, &'a Node)| {
            Item {
                path: format!("{}[{index}]", self.path),
                node,
                report: self.report,
            }
            .table()
        };
        Some(items.iter().enumerate().filter_map(item).collect())
    }

    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// The elements of a list; zero for anything else.
    pub(super) fn len(&self) -> usize {
        if let Value::Array(items) = &self.node.value {
            items.len()
        } else {
            0
        }
    }
}

/// An element of a list; it owns its node, since one of the environment has none in the tree.
pub(super) struct Element {
    path: String,
    node: Node,
}

/// An empty table, for a section that is not one.
pub(super) static EMPTY: BTreeMap<String, Node> = BTreeMap::new();
