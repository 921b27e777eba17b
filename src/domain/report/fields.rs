//! Reading one field of a JSON object: typed, bounded, and refused by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::domain::id::LabelKey;
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::money::{ParseUsdError, Usd};
use crate::domain::rejection::Rejection;

/// Labels on one row at most.
const MAX_LABELS: usize = 32;
/// Bytes of a label's value at most.
const MAX_LABEL_VALUE: usize = 256;
/// Bytes of an upstream request id at most.
const MAX_REQUEST_ID: usize = 200;

/// The object, if every key of it is known. A field that is not known is refused: what it meant might
/// have cost money (L7).
pub(super) fn object<'a>(value: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, Rejection> {
    let Value::Object(map) = value else {
        return Err(Rejection::Malformed("a row is a JSON object".to_owned()));
    };
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        // The name comes from the sender and goes into an answer, so it is cut.
        Some(unknown) => {
            let unknown: String = unknown.chars().take(64).collect();
            Err(field(
                &unknown,
                format!("this field is not known; there are {}", known.join(", ")),
            ))
        }
        None => Ok(map),
    }
}

pub(super) fn upstream_request(map: &Map<String, Value>) -> Result<Option<String>, Rejection> {
    match text(map, "upstream_request_id")? {
        Some(text) if text.is_empty() || text.len() > MAX_REQUEST_ID || text.chars().any(char::is_control) => {
            Err(field(
                "upstream_request_id",
                format!("1 to {MAX_REQUEST_ID} bytes without control characters"),
            ))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

/// A whole number within bounds, if it is there.
pub(super) fn whole(map: &Map<String, Value>, key: &str, max: u64) -> Result<Option<u64>, Rejection> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number <= max => Ok(Some(number)),
            _ => Err(field(key, format!("must be a whole number from 0 to {max}"))),
        },
    }
}

/// The amount in this field, if it is there.
pub(super) fn amount(map: &Map<String, Value>, key: &str) -> Result<Option<Usd>, Rejection> {
    map.get(key).map(|value| usd(key, value)).transpose()
}

/// An amount as a decimal text or a JSON number. It may be absurd, which the ledger refuses to post,
/// but it cannot be negative: a correction is the operator's, with `ledger resolve`.
pub(super) fn usd(key: &str, value: &Value) -> Result<Usd, Rejection> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(field(key, "a decimal number of dollars, such as \"0.25\"")),
    };
    let amount: Usd = text.parse().map_err(|problem| match problem {
        // What no amount can hold is as absurd as what no posting may be.
        ParseUsdError::OutOfRange => Rejection::Ledger(LedgerRejection::Absurd),
        ParseUsdError::NotDecimal => field(key, problem),
    })?;
    if amount.is_negative() {
        Err(field(key, "an amount cannot be negative"))
    } else {
        Ok(amount)
    }
}

pub(super) fn labels(value: Option<&Value>) -> Result<BTreeMap<LabelKey, String>, Rejection> {
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

pub(super) fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Rejection> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(field(key, "must be a text")),
    }
}

pub(super) fn name<T: FromStr<Err: Display>>(map: &Map<String, Value>, key: &str) -> Result<Option<T>, Rejection> {
    text(map, key)?
        .map(|text| text.parse().map_err(|problem| field(key, problem)))
        .transpose()
}

pub(super) fn field(name: &str, problem: impl Display) -> Rejection {
    Rejection::Field {
        field: name.to_owned(),
        problem: problem.to_string(),
    }
}
