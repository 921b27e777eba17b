//! One row of a report, read from JSON: every field is named, typed and bounded, and a field that is
//! not known is refused, because what it meant might have cost money (L7).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::domain::id::{AgentId, LabelKey, ModelId, ReportId, ServiceId, TaskId, ToolName};
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::domain::wire::UsageApi;

/// Labels on one row at most.
const MAX_LABELS: usize = 32;
/// Bytes of a label's value at most.
const MAX_LABEL_VALUE: usize = 256;
/// Bytes of an upstream request id at most.
const MAX_REQUEST_ID: usize = 200;

/// Bounds on the time of a row, seen from now.
#[derive(Debug, Clone, Copy)]
pub struct RowLimits {
    pub max_future: SignedDuration,
    pub max_age: SignedDuration,
}

/// What a row says was spent.
#[derive(Debug, Clone, PartialEq)]
pub enum Charge {
    Amount(Usd),
    /// A usage object, and which API returned it when the row says so.
    Usage {
        api: Option<UsageApi>,
        usage: Value,
    },
}

/// A row that is well formed; not priced yet.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportRow {
    pub id: ReportId,
    /// SHA-256 of the row's canonical JSON.
    pub digest: [u8; 32],
    pub agent: Option<AgentId>,
    pub occurred_at: Timestamp,
    pub task: TaskId,
    pub service: Option<ServiceId>,
    pub model: Option<ModelId>,
    pub tool: Option<ToolName>,
    pub labels: BTreeMap<LabelKey, String>,
    pub charge: Charge,
    pub upstream_request: Option<String>,
}

/// Reads a row. `now` stands in for a missing `occurred_at`.
pub fn parse(value: &Value, now: Timestamp, limits: RowLimits) -> Result<ReportRow, Rejection> {
    let Value::Object(map) = value else {
        return Err(Rejection::Malformed("a row is a JSON object".to_owned()));
    };
    let known = [
        "id",
        "agent",
        "occurred_at",
        "task",
        "service",
        "model",
        "tool",
        "labels",
        "api",
        "usage",
        "amount_usd",
        "upstream_request_id",
    ];
    if let Some(unknown) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(field(
            &shorten(unknown),
            format!("this field is not known; a row has {}", known.join(", ")),
        ));
    }
    let occurred_at = match text(map, "occurred_at")? {
        None => now,
        Some(text) => occurrence(text, now, limits)?,
    };
    Ok(ReportRow {
        id: name(map, "id")?.ok_or_else(|| {
            field(
                "id",
                "every report needs an id of its own: it is what makes sending it twice harmless",
            )
        })?,
        digest: digest(value),
        agent: name(map, "agent")?,
        occurred_at,
        task: name(map, "task")?.unwrap_or_else(TaskId::none),
        service: name(map, "service")?,
        model: name(map, "model")?,
        tool: name(map, "tool")?,
        labels: labels(map.get("labels"))?,
        charge: charge(map)?,
        upstream_request: match text(map, "upstream_request_id")? {
            Some(text) if text.is_empty() || text.len() > MAX_REQUEST_ID || text.chars().any(char::is_control) => {
                return Err(field(
                    "upstream_request_id",
                    format!("1 to {MAX_REQUEST_ID} bytes without control characters"),
                ));
            }
            text => text.map(str::to_owned),
        },
    })
}

fn occurrence(text: &str, now: Timestamp, limits: RowLimits) -> Result<Timestamp, Rejection> {
    let at: Timestamp = text.parse().map_err(|_| {
        field(
            "occurred_at",
            "not a time in RFC 3339 with a zone, such as 2026-11-20T02:00:00Z",
        )
    })?;
    let ahead = at.duration_since(now);
    if ahead > limits.max_future {
        return Err(field(
            "occurred_at",
            format!("lies {ahead:#} in the future; the clocks differ, or the time is wrong"),
        ));
    }
    if -ahead > limits.max_age {
        return Err(field(
            "occurred_at",
            format!(
                "is more than {:#} ago; an operator can raise reports.max_age",
                limits.max_age
            ),
        ));
    }
    Ok(at)
}

fn charge(map: &Map<String, Value>) -> Result<Charge, Rejection> {
    let api = match text(map, "api")? {
        None => None,
        Some(text) => Some(text.parse::<UsageApi>().map_err(|problem| field("api", problem))?),
    };
    match (map.get("usage"), map.get("amount_usd")) {
        (Some(_), Some(_)) => Err(field("amount_usd", "send either usage or amount_usd, not both")),
        (None, None) => Err(field(
            "usage",
            "missing: send the usage object of the API's response, or amount_usd",
        )),
        (None, Some(_)) if api.is_some() => Err(field("api", "says how to read usage, and there is none")),
        (None, Some(amount)) => amount_usd(amount).map(Charge::Amount),
        (Some(usage), None) => Ok(Charge::Usage {
            api,
            usage: usage.clone(),
        }),
    }
}

/// An amount as a decimal text or a JSON number. It may be absurd, which the ledger refuses to post,
/// but it cannot be negative: a correction is the operator's, with `ledger resolve`.
fn amount_usd(value: &Value) -> Result<Usd, Rejection> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(field("amount_usd", "a decimal number of dollars, such as \"0.25\"")),
    };
    let amount: Usd = text.parse().map_err(|problem| field("amount_usd", problem))?;
    if amount.is_negative() {
        Err(field("amount_usd", "an amount cannot be negative"))
    } else {
        Ok(amount)
    }
}

fn labels(value: Option<&Value>) -> Result<BTreeMap<LabelKey, String>, Rejection> {
    let map = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(field("labels", "an object of texts, such as {\"team\": \"search\"}")),
    };
    if map.len() > MAX_LABELS {
        return Err(field("labels", format!("at most {MAX_LABELS}")));
    }
    map.iter()
        .map(|(key, value)| {
            let key = LabelKey::new(key).map_err(|problem| field("labels", problem))?;
            match value.as_str() {
                Some(text) if text.len() <= MAX_LABEL_VALUE && !text.chars().any(char::is_control) => {
                    Ok((key, text.to_owned()))
                }
                _ => Err(field(
                    &format!("labels.{key}"),
                    format!("a text of at most {MAX_LABEL_VALUE} bytes without control characters"),
                )),
            }
        })
        .collect()
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Rejection> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(field(key, "must be a text")),
    }
}

fn name<T: FromStr<Err: Display>>(map: &Map<String, Value>, key: &str) -> Result<Option<T>, Rejection> {
    text(map, key)?
        .map(|text| text.parse().map_err(|problem| field(key, problem)))
        .transpose()
}

fn field(name: &str, problem: impl Display) -> Rejection {
    Rejection::Field {
        field: name.to_owned(),
        problem: problem.to_string(),
    }
}

/// A field's name comes from the sender and goes into an answer, so it is cut.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The digest of a row: its JSON with sorted keys and no white space, so that the same row written by
/// another serialiser is the same report.
fn digest(value: &Value) -> [u8; 32] {
    let mut canonical = String::new();
    write_canonical(value, &mut canonical);
    Sha256::digest(canonical.as_bytes()).into()
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T02:00:00Z".parse().expect("a time")
    }

    fn read(value: &Value) -> Result<ReportRow, Rejection> {
        let limits = RowLimits {
            max_future: SignedDuration::from_mins(5),
            max_age: SignedDuration::from_hours(24 * 90),
        };
        parse(value, now(), limits)
    }

    fn problem(value: &Value) -> String {
        read(value).expect_err("a bad row").to_string()
    }

    #[test]
    fn reads_an_amount_and_a_usage() {
        let row = read(&json!({"id": "r1", "amount_usd": 0.25, "labels": {"team": "x"}})).expect("a row");
        assert_eq!(row.charge, Charge::Amount(Usd::from_nanos(250_000_000)));
        assert_eq!((row.task, row.occurred_at), (TaskId::none(), now()));
        let row = read(&json!({"id": "r1", "usage": {"input_tokens": 1}, "model": "m"})).expect("a row");
        assert!(matches!(row.charge, Charge::Usage { api: None, .. }));
    }

    #[test]
    fn the_digest_ignores_the_order_of_keys_and_nothing_else() {
        let a = read(&json!({"id": "r", "amount_usd": "1", "labels": {"a": "1", "b": "2"}})).expect("a row");
        let b = serde_json::from_str(r#"{"labels":{"b":"2","a":"1"},"amount_usd":"1","id":"r"}"#).expect("JSON");
        assert_eq!(a.digest, read(&b).expect("a row").digest);
        let c = read(&json!({"id": "r", "amount_usd": "2", "labels": {"a": "1", "b": "2"}})).expect("a row");
        assert_ne!(a.digest, c.digest);
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let cases = [
            (json!([]), "object"),
            (json!({"amount_usd": 1}), "id"),
            (json!({"id": "r"}), "usage"),
            (json!({"id": "r", "amount_usd": -1}), "negative"),
            (json!({"id": "r", "amount_usd": 1e308}), "nine billion"),
            (json!({"id": "r", "amount_usd": "NaN"}), "decimal"),
            (json!({"id": "r", "amount_usd": true}), "decimal"),
            (json!({"id": "r", "amount_usd": 1, "usage": {}}), "not both"),
            (json!({"id": "r", "amount_usd": 1, "api": "openai_chat"}), "api"),
            (json!({"id": "r", "amount_usd": 1, "surprise": 1}), "surprise"),
            (
                json!({"id": "r", "amount_usd": 1, "occurred_at": "yesterday"}),
                "RFC 3339",
            ),
            (
                json!({"id": "r", "amount_usd": 1, "occurred_at": "2027-01-01T00:00:00Z"}),
                "future",
            ),
            (
                json!({"id": "r", "amount_usd": 1, "occurred_at": "1970-01-01T00:00:00Z"}),
                "ago",
            ),
            (json!({"id": "r", "amount_usd": 1, "labels": {"a": 1}}), "labels.a"),
            (json!({"id": "r", "amount_usd": 1, "task": "a\u{0}b"}), "task"),
            (json!({"id": "x".repeat(201), "amount_usd": 1}), "at most 200"),
        ];
        for (row, says) in cases {
            let sentence = problem(&row);
            assert!(sentence.contains(says), "{row} says {sentence:?}");
        }
    }
}
