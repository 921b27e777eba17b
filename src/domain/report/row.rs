//! One row of a report, read from JSON: every field is named, typed and bounded, and a field that is
//! not known is refused, because what it meant might have cost money (L7).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::fields::{amount, field, labels, name, object, text, upstream_request};
use crate::domain::id::{AgentId, LabelKey, ModelId, ReportId, ServiceId, TaskId, ToolName};
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::domain::wire::UsageApi;

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
    let map = object(value, &known)?;
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
        charge: charge(map, "amount_usd")?,
        upstream_request: upstream_request(map)?,
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

/// What was spent: a usage object, or an amount under `key`.
pub(super) fn charge(map: &Map<String, Value>, key: &str) -> Result<Charge, Rejection> {
    let api = match text(map, "api")? {
        None => None,
        Some(text) => Some(text.parse::<UsageApi>().map_err(|problem| field("api", problem))?),
    };
    match (map.get("usage"), amount(map, key)?) {
        (Some(_), Some(_)) => Err(field(key, format!("send either usage or {key}, not both"))),
        (None, None) => Err(field(
            "usage",
            format!("missing: send the usage object of the API's response, or {key}"),
        )),
        (None, Some(_)) if api.is_some() => Err(field("api", "says how to read usage, and there is none")),
        (None, Some(amount)) => Ok(Charge::Amount(amount)),
        (Some(usage), None) => Ok(Charge::Usage {
            api,
            usage: usage.clone(),
        }),
    }
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
            (json!({"id": "r", "amount_usd": 1e308}), "one billion"),
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
