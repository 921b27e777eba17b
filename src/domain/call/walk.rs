//! Walks a request along its field list: refuses by name what is not in it, and gathers what bears on
//! the cost.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::picture::{PictureAt, picture};
use super::rejection::CallRejection;
use super::route::Route;
use super::rules::CallRules;
use super::schema::{Effect, Field, Kind, Kinds, NameAt, Rule};
use super::tools::{names_at, priced_as, runs_at_the_provider, undated};
use crate::domain::money::Usd;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) elsewhere: bool,
    pub(super) image: bool,
    pub(super) audio: bool,
    pub(super) messages: u64,
    /// Blocks of what was thought for earlier answers.
    pub(super) thoughts: u64,
    /// Tools on offer, in order, each name once.
    pub(super) tools: Vec<String>,
    /// Of these, the ones that are offered where they cannot be taken out again.
    pub(super) fixed_tools: BTreeSet<String>,
    /// Names that are offered together under one.
    pub(super) groups: Vec<BTreeSet<String>>,
    /// How many definitions of tools there are, built-in ones apart.
    pub(super) definitions: u64,
    pub(super) builtin: u64,
    /// What runs at the provider, each once.
    pub(super) server_tools: BTreeSet<String>,
    pub(super) fees: Usd,
    /// What the model reads as it stands, to be counted.
    pub(super) texts: Vec<String>,
    /// Bytes of what it reads in another form: schemas and arguments, which a provider writes out in its own way.
    pub(super) uncounted: u64,
    /// How many values those have: between any two of them there may be a space or a line.
    pub(super) values: u64,
    /// Tokens of the pictures whose rule is known, and the bytes that they are.
    pub(super) picture_tokens: u64,
    pub(super) picture_bytes: u64,
    /// Some of what is read is tokens already: their number is bounded by their digits, but there is no
    /// text to count.
    pub(super) tokens: bool,
}

impl Found {
    pub(super) fn offer(&mut self, name: &str) {
        if !self.tools.iter().any(|known| known == name) {
            self.tools.push(name.to_owned());
        }
    }
}

pub(super) struct Walk<'v> {
    route: Route,
    rules: &'v CallRules,
    path: Vec<&'v str>,
    /// As the request names it, if it does.
    model: &'v str,
    /// Whether the model reads what is being walked.
    reads: bool,
    /// Whether it reads it as a conversation, whose texts stay as they are.
    verbatim: bool,
    /// Objects and lists that are open, the outermost one left out.
    nested: usize,
    pub(super) found: Found,
}

/// Fields whose texts are read as they are. Tools and forms of the output are not: OpenAI writes them out anew,
/// as TypeScript for one, with titles, choices and examples.
const VERBATIM: [&str; 3] = ["messages", "input", "instructions"];

/// Names that a client wrote are shown up to here.
const SHOWN: usize = 128;

pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl<'v> Walk<'v> {
    pub(super) fn new(route: Route, rules: &'v CallRules, model: Option<&'v str>) -> Self {
        Self {
            route,
            rules,
            path: Vec::new(),
            model: model.unwrap_or_default(),
            reads: false,
            verbatim: false,
            nested: 0,
            found: Found::default(),
        }
    }

    /// The whole request. The model reads the fields in `read`.
    pub(super) fn request(
        &mut self,
        body: &'v Map<String, Value>,
        fields: &'static [Field],
        read: &[&str],
    ) -> Result<(), CallRejection> {
        for (name, value) in body {
            self.reads = read.contains(&name.as_str());
            self.verbatim = VERBATIM.contains(&name.as_str());
            self.field(name, value, fields)?;
        }
        Ok(())
    }

    fn field(&mut self, name: &'v str, value: &'v Value, fields: &'static [Field]) -> Result<(), CallRejection> {
        self.path.push(name);
        match fields.iter().find(|field| field.0 == name) {
            Some(_) if value.is_null() => {}
            Some(field) => self.value(&field.1, value)?,
            None => {
                self.admit(None)?;
                self.read_any(value);
            }
        }
        self.path.pop();
        Ok(())
    }

    /// Whether config declares this field, or this value of it, to bear no cost.
    fn admit(&self, value: Option<&str>) -> Result<(), CallRejection> {
        let field = self.named(value);
        if self.is_declared_free(&field) {
            return Ok(());
        }
        Err(CallRejection::FieldUnknown {
            route: self.route.name(),
            field: shown(&field),
        })
    }

    fn is_declared_free(&self, field: &str) -> bool {
        let free = &self.rules.free_fields;
        !free.is_empty() && free.contains(&format!("{}:{field}", self.route.name()))
    }

    /// Where the walk is, as config names it.
    fn named(&self, value: Option<&str>) -> String {
        let mut field = self.path.join(".");
        if let Some(value) = value {
            field.push('=');
            field.push_str(value);
        }
        field
    }

    /// Whether config declares what is known to bring content from elsewhere to bring no more than its bytes.
    fn is_bounded_by_declaration(&self, effect: Effect, kind: Option<(&str, &str)>) -> bool {
        let is_elsewhere = matches!(effect, Effect::Elsewhere | Effect::Thought);
        if !is_elsewhere || self.rules.free_fields.is_empty() {
            return false;
        }
        let field = self.named(None);
        match kind {
            Some((tag, name)) => self.is_declared_free(&format!("{field}.{tag}={name}")),
            None => self.is_declared_free(&field),
        }
    }

    fn wrong(&self, problem: &str) -> CallRejection {
        CallRejection::Field {
            field: shown(&self.path.join(".")),
            problem: problem.to_owned(),
        }
    }

    fn value(&mut self, rule: &'static Rule, value: &'v Value) -> Result<(), CallRejection> {
        match rule {
            Rule::Any => self.read_any(value),
            Rule::Text => self.text(value)?,
            Rule::Label if value.is_string() => {}
            Rule::Label => return Err(self.wrong("must be a text")),
            Rule::Unset(problem) if value.as_bool() == Some(true) => return Err(self.wrong(problem)),
            Rule::Flag | Rule::Unset(_) if value.is_boolean() => {}
            Rule::Flag | Rule::Unset(_) => return Err(self.wrong("must be true or false")),
            Rule::Number if value.is_number() => {}
            Rule::Number => return Err(self.wrong("must be a number")),
            Rule::Only(known) => {
                let text = value.as_str().ok_or_else(|| self.wrong("must be a text"))?;
                if !known.contains(&text) {
                    self.admit(Some(text))?;
                }
            }
            Rule::Object(fields) => self.object(fields, value)?,
            Rule::List(rule) => self.list(rule, value)?,
            Rule::TextOr(_) if value.is_string() => self.text(value)?,
            Rule::TextOr(rule) => self.value(rule, value)?,
            Rule::Kinds(kinds) => {
                let (object, name) = self.kind_of(kinds, value)?;
                match known(kinds, name) {
                    Some(kind) => self.kind(kind, kinds.tag, name, object)?,
                    None => {
                        self.admit_kind(kinds.tag, name)?;
                        // Config says that it costs nothing by itself; what the model makes of it is not known.
                        self.found.elsewhere = true;
                    }
                }
            }
            Rule::Marked(effect, rule) => {
                if !self.is_bounded_by_declaration(*effect, None) {
                    self.effect(*effect)?;
                }
                self.value(rule, value)?;
            }
            Rule::IfSet(effect) => match value.as_bool() {
                Some(true) => self.effect(*effect)?,
                Some(false) => {}
                None => return Err(self.wrong("must be true or false")),
            },
            Rule::Tools(kinds) => {
                let verbatim = std::mem::take(&mut self.verbatim);
                self.tool(kinds, value)?;
                self.verbatim = verbatim;
            }
            Rule::Refused(problem) => return Err(self.wrong(problem)),
        }
        Ok(())
    }

    fn text(&mut self, value: &Value) -> Result<(), CallRejection> {
        let text = value.as_str().ok_or_else(|| self.wrong("must be a text"))?;
        if !self.verbatim {
            self.read_any(value);
        } else if self.collects() {
            self.found.texts.push(text.to_owned());
        }
        Ok(())
    }

    /// Text is only of use if it is all that is read.
    fn collects(&self) -> bool {
        self.reads && !self.found.elsewhere
    }

    fn read_any(&mut self, value: &Value) {
        if self.reads {
            let bytes = u64::try_from(value.to_string().len()).unwrap_or(u64::MAX);
            self.found.uncounted = self.found.uncounted.saturating_add(bytes);
            self.found.values = self.found.values.saturating_add(values(value));
        }
    }

    fn object(&mut self, fields: &'static [Field], value: &'v Value) -> Result<(), CallRejection> {
        let object = value.as_object().ok_or_else(|| self.wrong("must be an object"))?;
        self.nested += 1;
        for (name, value) in object {
            self.field(name, value, fields)?;
        }
        self.nested -= 1;
        Ok(())
    }

    fn list(&mut self, rule: &'static Rule, value: &'v Value) -> Result<(), CallRejection> {
        let items = value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        for item in items {
            self.value(rule, item)?;
        }
        Ok(())
    }

    /// The object and its kind.
    fn kind_of(
        &self,
        kinds: &'static Kinds,
        value: &'v Value,
    ) -> Result<(&'v Map<String, Value>, &'v str), CallRejection> {
        let object = value.as_object().ok_or_else(|| self.wrong("must be an object"))?;
        let name = match object.get(kinds.tag) {
            Some(Value::String(name)) => name.as_str(),
            None | Some(Value::Null) => kinds
                .untagged
                .iter()
                .find(|(telling, _)| object.contains_key(*telling))
                .map(|(_, name)| *name)
                .ok_or_else(|| self.wrong(&format!("must have a {}", kinds.tag)))?,
            Some(_) => return Err(self.wrong(&format!("must have a text as its {}", kinds.tag))),
        };
        Ok((object, name))
    }

    fn admit_kind(&mut self, tag: &'static str, name: &str) -> Result<(), CallRejection> {
        self.path.push(tag);
        self.admit(Some(name))?;
        self.path.pop();
        Ok(())
    }

    fn kind(
        &mut self,
        kind: &'static Kind,
        tag: &'static str,
        name: &'v str,
        object: &'v Map<String, Value>,
    ) -> Result<(), CallRejection> {
        for effect in kind.effects {
            match effect {
                Effect::Tool(at) => self.client_tool(*at, name, object)?,
                Effect::Picture(at) => self.picture(*at, object),
                effect if self.is_bounded_by_declaration(*effect, Some((tag, name))) => {}
                other => self.effect(*other)?,
            }
        }
        self.nested += 1;
        for (name, value) in object.iter().filter(|(name, _)| *name != tag) {
            self.field(name, value, kind.fields)?;
        }
        self.nested -= 1;
        Ok(())
    }

    fn effect(&mut self, effect: Effect) -> Result<(), CallRejection> {
        match effect {
            Effect::Elsewhere => self.found.elsewhere = true,
            Effect::Thought => self.found.thoughts += 1,
            Effect::Image => {
                self.found.elsewhere = true;
                self.found.image = true;
            }
            Effect::Audio => {
                self.found.elsewhere = true;
                self.found.audio = true;
            }
            Effect::Message => self.found.messages += 1,
            Effect::Priced(name) => self.server_tool(name)?,
            // Only kinds have these, and they are seen to where their object is at hand.
            Effect::Tool(_) | Effect::Picture(_) => {}
        }
        Ok(())
    }

    fn picture(&mut self, at: PictureAt, part: &Map<String, Value>) {
        self.found.image = true;
        match picture(self.route.api(), self.model, at, part) {
            Some(picture) => {
                self.found.picture_tokens = self.found.picture_tokens.saturating_add(picture.tokens);
                self.found.picture_bytes = self.found.picture_bytes.saturating_add(picture.bytes);
            }
            None => self.found.elsewhere = true,
        }
    }

    fn tool(&mut self, kinds: &'static Kinds, value: &'v Value) -> Result<(), CallRejection> {
        let (object, name) = self.kind_of(kinds, value)?;
        match known(kinds, name) {
            Some(kind) if !runs_at_the_provider(name, object) => self.kind(kind, kinds.tag, name, object),
            _ => {
                let name = undated(name);
                // It is called by its own name, and a manifest lists it under that.
                let named = object.get("name").filter(|value| !value.is_null());
                if named.is_some_and(|named| named.as_str() != Some(name)) {
                    return Err(self.wrong(&format!("must have the name {} for a tool of that type", shown(name))));
                }
                self.offer(name);
                self.server_tool(name)
            }
        }
    }

    fn client_tool(&mut self, at: NameAt, kind: &str, object: &Map<String, Value>) -> Result<(), CallRejection> {
        if at == NameAt::Kind {
            self.found.builtin += 1;
        }
        let names = names_at(at, kind, object);
        let names = names.ok_or_else(|| self.wrong("must have a name for each tool"))?;
        for name in &names {
            self.offer(name);
            self.found.definitions += 1;
        }
        if at == NameAt::Each {
            self.found.groups.push(names.into_iter().collect());
        }
        Ok(())
    }

    fn offer(&mut self, name: &str) {
        self.found.offer(name);
        let at_the_top = self.nested == 0 && matches!(self.path[..], ["tools" | "functions"]);
        if !at_the_top {
            self.found.fixed_tools.insert(name.to_owned());
        }
    }

    /// Something that runs at the provider, by its name in config.
    pub(super) fn server_tool(&mut self, name: &str) -> Result<(), CallRejection> {
        let name = priced_as(name);
        let Some(fee) = self.rules.server_tools.get(name) else {
            return Err(CallRejection::ServerTool { tool: shown(name) });
        };
        if self.found.server_tools.insert(name.to_owned()) {
            self.found.fees = self.found.fees.saturating_add(*fee);
        }
        // What it finds is read by the model, and may be of any kind.
        self.found.elsewhere = true;
        self.found.image = true;
        Ok(())
    }
}

fn known(kinds: &'static Kinds, name: &str) -> Option<&'static Kind> {
    kinds.known.iter().find(|kind| kind.names.contains(&name))
}

fn values(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(values).fold(1, u64::saturating_add),
        Value::Object(fields) => fields.values().map(values).fold(1, u64::saturating_add),
        _ => 1,
    }
}
