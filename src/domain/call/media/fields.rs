//! The fields of a request that is not a conversation, from JSON or from a form.
//!
//! Both become one map, which is read against the route's list: a field that is not on it is refused by
//! name (**L7**). A form has no types, so its numbers and flags are read in the one spelling that every
//! server reads alike: `true`, not `True`; `3`, not `+3` or `3.0`.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::domain::call::form::FormPart;
use crate::domain::call::rejection::CallRejection;
use crate::domain::call::route::Route;
use crate::domain::call::rules::CallRules;
use crate::domain::id::ModelId;
use crate::domain::rejection::Rejection;
use crate::domain::wire::json::{JsonLimits, parse_strict};

/// Images may be in the text itself, which makes it long but neither deep nor of many parts.
const LIMITS: JsonLimits = JsonLimits {
    bytes: 64 << 20,
    depth: 8,
    values: 10_000,
};

/// How a field may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Once.
    One,
    /// As a list; in a form, as `name[]`.
    List,
    /// As an object; in a form, as `name[key]`.
    Object,
    /// A file, which only a form carries.
    File,
    /// One file or several.
    Files,
}

/// The fields of a request.
#[derive(Debug)]
pub(super) struct Fields {
    route: Route,
    is_form: bool,
    values: Map<String, Value>,
    files: BTreeMap<&'static str, Vec<Bytes>>,
}

fn problem(field: &str, problem: impl Into<String>) -> Rejection {
    CallRejection::Field {
        field: field.to_owned(),
        problem: problem.into(),
    }
    .into()
}

/// Long names are cut: they come from the client and go into messages.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

fn find(list: &'static [(&'static str, Shape)], name: &str) -> Option<(&'static str, Shape)> {
    list.iter().copied().find(|(listed, _)| *listed == name)
}

fn unknown(route: Route, name: &str, rules: &CallRules) -> Result<(), Rejection> {
    if rules.free_fields.contains(&format!("{}:{name}", route.name())) {
        return Ok(());
    }
    Err(CallRejection::FieldUnknown {
        route: route.name(),
        field: shown(name),
    }
    .into())
}

impl Fields {
    /// Reads a JSON body whose top level has only fields of this list.
    pub(super) fn json(
        route: Route,
        body: &Bytes,
        list: &'static [(&'static str, Shape)],
        rules: &CallRules,
    ) -> Result<Self, Rejection> {
        let document = parse_strict(body, &LIMITS).map_err(|error| Rejection::Malformed(error.to_string()))?;
        let Value::Object(values) = document else {
            return Err(Rejection::Malformed("it is not a JSON object".to_owned()));
        };
        for (name, value) in &values {
            match (find(list, name), value) {
                (None, _) => unknown(route, name, rules)?,
                (Some(_), Value::Null) => {}
                (Some((_, Shape::List)), Value::Array(_)) | (Some((_, Shape::Object)), Value::Object(_)) => {}
                // Some lists and objects may be given as one value: `"chunking_strategy": "auto"`.
                (Some((_, Shape::One | Shape::List | Shape::Object)), value)
                    if !value.is_array() && !value.is_object() => {}
                (Some(_), _) => return Err(problem(name, "it has a type that this field does not take")),
            }
        }
        let mut values = values;
        values.retain(|_, value| !value.is_null());
        Ok(Self {
            route,
            is_form: false,
            values,
            files: BTreeMap::new(),
        })
    }

    /// Reads the parts of a form which has only fields of this list.
    pub(super) fn form(
        route: Route,
        parts: &[FormPart],
        list: &'static [(&'static str, Shape)],
        rules: &CallRules,
    ) -> Result<Self, Rejection> {
        let mut fields = Self {
            route,
            is_form: true,
            values: Map::new(),
            files: BTreeMap::new(),
        };
        let mut spelt: BTreeMap<String, &str> = BTreeMap::new();
        for part in parts {
            let (base, rest) = match part.name.find('[') {
                Some(at) => part.name.split_at(at),
                None => (part.name.as_str(), ""),
            };
            // `include` and `include[]` in one form: some servers take the first, some the last, some both.
            let style = if rest.is_empty() || rest == "[]" { rest } else { "[key]" };
            if spelt
                .insert(base.to_owned(), style)
                .is_some_and(|before| before != style)
            {
                return Err(problem(&shown(base), "it is given in two ways in one form"));
            }
            let Some((name, shape)) = find(list, base) else {
                unknown(route, base, rules)?;
                continue;
            };
            fields.take(part, name, shape, rest)?;
        }
        Ok(fields)
    }

    fn take(&mut self, part: &FormPart, name: &'static str, shape: Shape, rest: &str) -> Result<(), Rejection> {
        let twice = || problem(&shown(&part.name), "it is there twice");
        if matches!(shape, Shape::File | Shape::Files) {
            if part.filename.is_none() {
                return Err(problem(name, "it must be a file: its part has no filename"));
            }
            if !(rest.is_empty() || rest == "[]" && shape == Shape::Files) {
                return Err(problem(&shown(&part.name), "this field takes no keys"));
            }
            let files = self.files.entry(name).or_default();
            if rest.is_empty() && !files.is_empty() {
                return Err(twice());
            }
            files.push(part.bytes.clone());
            return Ok(());
        }
        if part.filename.is_some() {
            return Err(problem(name, "it must be text: its part has a filename"));
        }
        let text = std::str::from_utf8(&part.bytes).map_err(|_| problem(name, "it is not UTF-8"))?;
        let value = Value::String(text.to_owned());
        match (shape, rest) {
            (Shape::List, "[]") => match self.values.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(items) => items.push(value),
                _ => return Err(twice()),
            },
            (_, "") => {
                if self.values.insert(name.to_owned(), value).is_some() {
                    return Err(twice());
                }
            }
            (Shape::Object, rest) if is_key(rest) => {
                if self.values.insert(part.name.clone(), value).is_some() {
                    return Err(twice());
                }
            }
            _ => return Err(problem(&shown(&part.name), "this field takes no keys")),
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.files.contains_key(name)
    }

    /// The keys of an object: `["type"]` for `name[type]=…` or `"name": {"type": …}`.
    pub(super) fn keys(&self, name: &str) -> Vec<String> {
        if let Some(Value::Object(object)) = self.values.get(name) {
            return object.keys().cloned().collect();
        }
        let nested = self.values.keys().filter_map(|key| {
            let rest = key.strip_prefix(name)?.strip_prefix('[')?;
            Some(rest.trim_end_matches(']').to_owned())
        });
        nested.collect()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Rejection> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(problem(name, "it must be text")),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&str, Rejection> {
        self.text(name)?.ok_or_else(|| problem(name, "it is missing"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Rejection> {
        match self.values.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if self.is_form && text == "true" => Ok(true),
            Some(Value::String(text)) if self.is_form && text == "false" => Ok(false),
            Some(_) => Err(problem(name, "it must be true or false")),
        }
    }

    /// A whole number within these bounds.
    pub(super) fn whole(&self, name: &str, bounds: (u64, u64)) -> Result<Option<u64>, Rejection> {
        let found = match self.values.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) if self.is_form => plain_whole(text),
            Some(_) => None,
        };
        match found {
            Some(number) if (bounds.0..=bounds.1).contains(&number) => Ok(Some(number)),
            _ => Err(problem(
                name,
                format!("it must be a whole number from {} to {}", bounds.0, bounds.1),
            )),
        }
    }

    /// A number within these bounds.
    pub(super) fn number(&self, name: &str, bounds: (f64, f64)) -> Result<Option<f64>, Rejection> {
        let found = match self.values.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            _ => None,
        };
        match found {
            Some(number) if number >= bounds.0 && number <= bounds.1 => Ok(Some(number)),
            _ => Err(problem(
                name,
                format!("it must be a number from {} to {}", bounds.0, bounds.1),
            )),
        }
    }

    /// One of these words.
    pub(super) fn one_of(&self, name: &str, words: &'static [&'static str]) -> Result<Option<&'static str>, Rejection> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(problem(name, format!("it must be one of {}", words.join(", ")))),
        }
    }

    /// The items of a list, or the one that was given without one.
    pub(super) fn list(&self, name: &str) -> &[Value] {
        match self.values.get(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(one) => std::slice::from_ref(one),
        }
    }

    /// Bytes of all text in a field, lists and objects included.
    pub(super) fn text_bytes(&self, name: &str) -> u64 {
        self.values.get(name).map_or(0, bytes_of)
    }

    pub(super) fn files(&self, name: &str) -> &[Bytes] {
        self.files.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn required_file(&self, name: &'static str) -> Result<&Bytes, Rejection> {
        self.files(name).first().ok_or_else(|| problem(name, "it is missing"))
    }

    pub(super) fn model(&self) -> Result<Option<ModelId>, Rejection> {
        let Some(name) = self.text("model")? else {
            return Ok(None);
        };
        ModelId::new(name)
            .map(Some)
            .map_err(|error| problem("model", error.to_string()))
    }

    pub(super) fn required_model(&self) -> Result<ModelId, Rejection> {
        self.model()?.ok_or_else(|| problem("model", "it is missing"))
    }

    pub(super) fn refuse<T>(&self, field: &str, why: impl Into<String>) -> Result<T, Rejection> {
        Err(problem(field, why))
    }

    /// Nested fields of an object, against a list of their own.
    pub(super) fn only_keys(&self, name: &str, known: &[&str], rules: &CallRules) -> Result<(), Rejection> {
        for key in self.keys(name) {
            if !known.contains(&key.as_str()) {
                unknown(self.route, &format!("{name}.{key}"), rules)?;
            }
        }
        Ok(())
    }
}

/// Whether it is `[key]` or `[key][key]`, of plain letters.
fn is_key(rest: &str) -> bool {
    rest.len() <= 64
        && rest.ends_with(']')
        && rest.split_inclusive(']').all(
            |key| match key.strip_prefix('[').and_then(|key| key.strip_suffix(']')) {
                Some(key) => !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                None => false,
            },
        )
}

/// A whole number in the one spelling that every reader of a form takes for the same.
pub(super) fn plain_whole(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(|item| bytes_of(item).saturating_add(1)).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, item)| bytes_of(item).saturating_add(key.len() as u64 + 1))
            .sum(),
        _ => 8,
    }
}
