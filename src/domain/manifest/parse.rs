//! From bytes to a manifest, or to everything that is wrong with them.
//!
//! Every reader here answers `None` after it has said what was wrong, so that a part with a mistake hides
//! none of the others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use globset::{Glob, GlobSetBuilder};
use serde_json::{Map, Value};

use super::place::Place;
use super::rate::{MAX_PER_SECONDS, MAX_REQUESTS, Rate};
use super::{Declared, Manifest, Models, Tool, folded};
use crate::domain::id::{AgentId, NameError, ToolName};
use crate::domain::wire::json::{JsonLimits, parse_strict};

/// Bytes of a manifest at most.
pub const MAX_BYTES: usize = 1 << 20;
/// Tools in either list.
const MAX_TOOLS: usize = 1_000;
const MAX_MODELS: usize = 100;
/// Bytes of a glob.
const MAX_GLOB: usize = 256;
/// Output tokens that a manifest may allow.
const MAX_TOKENS: u64 = 100_000_000;
/// Problems that are told; a file with more is not a manifest with mistakes but something else.
const MAX_PROBLEMS: usize = 100;

const LIMITS: JsonLimits = JsonLimits {
    bytes: MAX_BYTES,
    depth: 8,
    values: 50_000,
};

/// One mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `allowed_tools[2].rate_limit.requests`; empty for the file as a whole.
    pub place: String,
    /// Counts from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, Vec<Problem>> {
    let document = parse_strict(bytes, &LIMITS).map_err(|why| {
        vec![Problem {
            place: String::new(),
            line: None,
            message: why.to_string(),
            hint: None,
        }]
    })?;
    let reader = Reader {
        bytes,
        problems: RefCell::default(),
    };
    let declared = reader.manifest(&document);
    let mut problems = reader.problems.into_inner();
    match declared {
        Some(declared) if problems.is_empty() => Ok(declared.into()),
        _ => {
            problems.sort_by_key(|problem| problem.line);
            Err(problems)
        }
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    problems: RefCell<Vec<Problem>>,
}

impl Reader<'_> {
    fn manifest(&self, document: &Value) -> Option<Declared> {
        const KNOWN: [&str; 6] = [
            "schema_version",
            "agent_id",
            "allowed_tools",
            "blacklisted_tools",
            "models",
            "max_tokens",
        ];
        let root = Place::default();
        let fields = self.object(&root, document, &KNOWN)?;
        let version = self
            .required(&root, fields, "schema_version", "\"v1\"")
            .and_then(|(place, value)| {
                let sound = value == "v1";
                if !sound {
                    self.tell(&place, "is not a version that is known here", Some("write \"v1\""));
                }
                sound.then_some(())
            });
        let agent = self
            .required(&root, fields, "agent_id", "the id of the [[agent]] that it is for")
            .and_then(|(place, value)| self.name::<AgentId>(&place, value));
        let tools = self
            .required(
                &root,
                fields,
                "allowed_tools",
                "a list of { \"tool_name\": \"…\" }; [] allows none",
            )
            .and_then(|(place, value)| self.tools(&place, value));
        let names: BTreeMap<String, (ToolName, Place)> = tools.as_ref().map_or_else(BTreeMap::new, |tools| {
            let by_fold = |(name, (_, place)): (&ToolName, &(Tool, Place))| {
                (folded(name.as_str()), (name.clone(), place.clone()))
            };
            tools.iter().map(by_fold).collect()
        });
        let blacklisted = self.optional(&root, fields, "blacklisted_tools", |place, value| {
            self.blacklist(place, value, &names)
        });
        let models = self.optional(&root, fields, "models", |place, value| self.models(place, value));
        let max_tokens = self.optional(&root, fields, "max_tokens", |place, value| {
            self.whole(place, value, 1..=MAX_TOKENS)
        });
        version?;
        Some(Declared {
            agent: agent?,
            tools: tools?.into_iter().map(|(name, (tool, _))| (name, tool)).collect(),
            blacklisted: blacklisted?.unwrap_or_default(),
            models: models?,
            max_tokens: max_tokens?,
        })
    }

    fn tools(&self, place: &Place, value: &Value) -> Option<BTreeMap<ToolName, (Tool, Place)>> {
        let items = self.list(place, value, MAX_TOOLS)?;
        let mut seen = Seen::default();
        let mut tools = BTreeMap::new();
        let mut whole = true;
        for (index, item) in items.iter().enumerate() {
            match self.tool(&place.index(index), item, &mut seen) {
                Some((name, tool)) => {
                    tools.insert(name, (tool, place.index(index)));
                }
                None => whole = false,
            }
        }
        whole.then_some(tools)
    }

    fn tool(&self, place: &Place, value: &Value, seen: &mut Seen) -> Option<(ToolName, Tool)> {
        let fields = self.object(place, value, &["tool_name", "rate_limit", "read_only"])?;
        let name = self
            .required(place, fields, "tool_name", "the name by which the model calls it")
            .and_then(|(place, value)| {
                let name = self.name::<ToolName>(&place, value)?;
                self.once(&place, &name, seen).then_some(name)
            });
        let rate = self.optional(place, fields, "rate_limit", |place, value| self.rate(place, value));
        let read_only = self.optional(place, fields, "read_only", |place, value| {
            if !value.is_boolean() {
                self.tell(place, "must be true or false", Some("without quotes"));
            }
            value.as_bool()
        });
        let tool = Tool {
            rate: rate?,
            read_only: read_only?.unwrap_or(false),
        };
        Some((name?, tool))
    }

    fn rate(&self, place: &Place, value: &Value) -> Option<Rate> {
        let fields = self.object(place, value, &["requests", "per_seconds"])?;
        let number = |key: &str, max: u32, hint: &str| {
            let (place, value) = self.required(place, fields, key, hint)?;
            let number = self.whole(&place, value, 1..=u64::from(max))?;
            u32::try_from(number).ok()
        };
        let requests = number("requests", MAX_REQUESTS, "how many uses are granted in the window");
        let per_seconds = number("per_seconds", MAX_PER_SECONDS, "the length of the window in seconds");
        Rate::new(requests?, per_seconds?)
    }

    fn blacklist(
        &self,
        place: &Place,
        value: &Value,
        allowed: &BTreeMap<String, (ToolName, Place)>,
    ) -> Option<BTreeSet<ToolName>> {
        let items = self.list(place, value, MAX_TOOLS)?;
        let mut seen = Seen::default();
        let read = |(index, item): (usize, &Value)| {
            let place = place.index(index);
            let name = self.name::<ToolName>(&place, item)?;
            if !self.once(&place, &name, &mut seen) {
                return None;
            }
            let Some((other, first)) = allowed.get(&folded(name.as_str())) else {
                return Some(name);
            };
            let message = if *other == name {
                format!("{name} is allowed as well, at {first}")
            } else {
                format!("{name} differs only in case from {other}, which is allowed at {first}")
            };
            self.tell(&place, &message, Some("a tool is allowed or blacklisted, not both"));
            None
        };
        let names: Vec<Option<ToolName>> = items.iter().enumerate().map(read).collect();
        names.into_iter().collect()
    }

    fn models(&self, place: &Place, value: &Value) -> Option<Models> {
        let items = self.list(place, value, MAX_MODELS)?;
        if items.is_empty() {
            self.tell(place, "allows no model", Some("leave it out to allow all"));
            return None;
        }
        let mut seen = BTreeSet::new();
        let read = |(index, item): (usize, &Value)| {
            const FORM: &str = "a glob over ASCII names, such as \"gpt-5*\" or \"claude-*\"";
            let place = place.index(index);
            let text = self.text(&place, item)?;
            let glob = Some(text).filter(|text| !text.is_empty() && text.len() <= MAX_GLOB && text.is_ascii());
            let Some(glob) = glob.and_then(|text| Glob::new(text).ok()) else {
                self.tell(&place, &format!("{} is not a glob", shown(text)), Some(FORM));
                return None;
            };
            if !seen.insert(text.to_owned()) {
                self.tell(&place, &format!("{} is there twice", shown(text)), None);
                return None;
            }
            Some((text.to_owned(), glob))
        };
        let globs: Vec<Option<(String, Glob)>> = items.iter().enumerate().map(read).collect();
        let globs: Option<Vec<(String, Glob)>> = globs.into_iter().collect();
        let (patterns, globs): (Vec<String>, Vec<Glob>) = globs?.into_iter().unzip();
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(glob);
        }
        let Ok(set) = set.build() else {
            self.tell(place, "its globs are too large together", None);
            return None;
        };
        Some(Models { patterns, set })
    }

    /// Whether a name is new in its list, in whatever case.
    fn once(&self, place: &Place, name: &ToolName, seen: &mut Seen) -> bool {
        let Some((first, first_place)) = seen.0.get(&folded(name.as_str())) else {
            seen.0.insert(folded(name.as_str()), (name.clone(), place.clone()));
            return true;
        };
        let message = if first == name {
            format!("{name} is there twice, first at {first_place}")
        } else {
            format!("{name} differs only in case from {first} at {first_place}")
        };
        self.tell(place, &message, Some("a name means one tool to every reader"));
        false
    }

    fn name<T: FromStr<Err = NameError>>(&self, place: &Place, value: &Value) -> Option<T> {
        let text = self.text(place, value)?;
        let error = match text.parse() {
            Ok(name) => return Some(name),
            Err(error) => error,
        };
        let hint = match &error {
            NameError::Character { found, .. } if found.is_whitespace() => Some(format!(
                "without white space: {}",
                shown(&text.split_whitespace().collect::<String>())
            )),
            NameError::Character { found, .. } if !found.is_ascii() => Some(format!(
                "it is U+{:04X}, which may look like an ASCII character and is none: type the name anew",
                u32::from(*found)
            )),
            _ => None,
        };
        self.tell(place, &error.to_string(), hint.as_deref());
        None
    }

    /// An object whose every key is known. Unknown ones are told, and the rest is still read.
    fn object<'v>(&self, place: &Place, value: &'v Value, known: &[&str]) -> Option<&'v Map<String, Value>> {
        let Value::Object(fields) = value else {
            self.wrong_type(place, value, "an object");
            return None;
        };
        for key in fields.keys().filter(|key| !known.contains(&key.as_str())) {
            let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', ' '], "");
            let meant = known.iter().find(|known| plain(known) == plain(key));
            let hint = meant.map_or_else(
                || format!("known here: {}", known.join(", ")),
                |meant| format!("did you mean {meant}?"),
            );
            self.tell(&place.key(key), "unknown field", Some(&hint));
        }
        Some(fields)
    }

    fn required<'v>(
        &self,
        place: &Place,
        fields: &'v Map<String, Value>,
        key: &str,
        hint: &str,
    ) -> Option<(Place, &'v Value)> {
        let value = fields.get(key);
        if value.is_none() {
            self.tell(place, &format!("{key} is missing"), Some(hint));
        }
        Some((place.key(key), value?))
    }

    /// `Some(None)` when it is left out. `null` is not: some readers take it for nothing, some for all.
    fn optional<T>(
        &self,
        place: &Place,
        fields: &Map<String, Value>,
        key: &str,
        read: impl FnOnce(&Place, &Value) -> Option<T>,
    ) -> Option<Option<T>> {
        match fields.get(key) {
            None => Some(None),
            Some(Value::Null) => {
                self.tell(&place.key(key), "cannot be null", Some("leave it out instead"));
                None
            }
            Some(value) => read(&place.key(key), value).map(Some),
        }
    }

    fn list<'v>(&self, place: &Place, value: &'v Value, max: usize) -> Option<&'v [Value]> {
        let Value::Array(items) = value else {
            self.wrong_type(place, value, "a list");
            return None;
        };
        if items.len() > max {
            let message = format!("has {} entries, and at most {max} are taken", items.len());
            self.tell(place, &message, None);
            return None;
        }
        Some(items)
    }

    fn text<'v>(&self, place: &Place, value: &'v Value) -> Option<&'v str> {
        if !value.is_string() {
            self.wrong_type(place, value, "text");
        }
        value.as_str()
    }

    fn whole(&self, place: &Place, value: &Value, range: RangeInclusive<u64>) -> Option<u64> {
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!("must be a whole number from {} to {}", range.start(), range.end());
            let hint = value.is_string().then_some("without quotes");
            self.tell(place, &message, hint);
        }
        number
    }

    fn wrong_type(&self, place: &Place, value: &Value, wanted: &str) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.tell(place, &format!("must be {wanted}, not {found}"), None);
    }

    fn tell(&self, place: &Place, message: &str, hint: Option<&str>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS {
            problems.push(Problem {
                place: place.to_string(),
                line: place.line(self.bytes),
                message: message.to_owned(),
                hint: hint.map(str::to_owned),
            });
        }
    }
}

/// Names of one list by how a careless reader sees them, and where each was first.
#[derive(Default)]
struct Seen(BTreeMap<String, (ToolName, Place)>);

/// A text of the file for a message: quoted, escaped and bounded.
fn shown(text: &str) -> String {
    const MAX: usize = 60;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
