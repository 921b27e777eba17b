//! Reading counts, and why a usage object is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use crate::domain::price::MICROS_PER_SECOND;

/// More tokens than this in one report is a fault in the report: at a thousandth of a cent each it is
/// ten million dollars.
pub const MAX_TOKENS: u64 = 1_000_000_000_000;
/// Thirty-one years of audio.
pub const MAX_SECONDS: u64 = 1_000_000_000;
/// Entries of a list in a usage object.
pub(super) const MAX_PARTS: usize = 10_000;

/// Why a usage object is refused. A sentence for the client that sent it; the field is named as it was
/// written, within the names that the parsers know, so that nothing a client wrote is echoed unbounded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageRejection {
    #[error("usage must be a JSON object, as the provider's API returns it")]
    NotAnObject,
    #[error("usage has only input_tokens and output_tokens, which providers mean differently; name the API")]
    Ambiguous,
    #[error("usage counts nothing that is known, so it cannot be priced")]
    NothingCounted,
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field} must be {expected}")]
    WrongType {
        field: &'static str,
        expected: &'static str,
    },
    #[error("{field} is negative")]
    Negative { field: &'static str },
    #[error("{field} must be a whole number")]
    Fractional { field: &'static str },
    #[error("{field} is absurdly large")]
    Absurd { field: &'static str },
    #[error("{part} is larger than {total}, which it is a part of")]
    SubsetLarger { part: &'static str, total: &'static str },
    #[error("the parts of {total} add up to more or less than it")]
    PartsDiffer { total: &'static str },
    #[error("{field:?} is not a field that is known here, and it may bear cost; report the amount in USD instead")]
    UnknownField { field: String },
    #[error("{field} has the value {value:?}, which is not known here, and it may bear cost")]
    UnknownValue { field: &'static str, value: String },
    #[error("{field} was billed to another model; report it as a usage of its own")]
    OtherModel { field: &'static str },
}

/// A name or value that a client wrote, cut to a length that is safe to show.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(64).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// A JSON object of a usage report, read field by field.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    /// Names that its operator declares to bear no cost, where nobody here knows them.
    free: &'a BTreeSet<String>,
}

static NONE: BTreeSet<String> = BTreeSet::new();

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, UsageRejection> {
        Self::with(value, &NONE)
    }

    pub(super) fn with(value: &'a Value, free: &'a BTreeSet<String>) -> Result<Self, UsageRejection> {
        let fields = value.as_object().ok_or(UsageRejection::NotAnObject)?;
        Ok(Self { fields, free })
    }

    /// An object within this one.
    pub(super) fn within(self, value: &'a Value) -> Result<Self, UsageRejection> {
        Self::with(value, self.free)
    }

    /// The value of a field that is there and not null.
    pub(super) fn get(self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn has(self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// The object in a field, if there is one.
    pub(super) fn object(self, field: &'static str) -> Result<Option<Self>, UsageRejection> {
        self.get(field)
            .map(|value| {
                self.within(value).map_err(|_| UsageRejection::WrongType {
                    field,
                    expected: "an object",
                })
            })
            .transpose()
    }

    /// The list in a field, if there is one.
    pub(super) fn list(self, field: &'static str) -> Result<&'a [Value], UsageRejection> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Value::Array(items)) if items.len() > MAX_PARTS => Err(UsageRejection::Absurd { field }),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(UsageRejection::WrongType {
                field,
                expected: "a list",
            }),
        }
    }

    pub(super) fn text(self, field: &'static str) -> Result<Option<&'a str>, UsageRejection> {
        self.get(field)
            .map(|value| {
                value.as_str().ok_or(UsageRejection::WrongType {
                    field,
                    expected: "a text",
                })
            })
            .transpose()
    }

    /// The count in a field, if it is there.
    pub(super) fn maybe(self, field: &'static str) -> Result<Option<u64>, UsageRejection> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Number(number)) => count(field, number).map(Some),
            Some(_) => Err(UsageRejection::WrongType {
                field,
                expected: "a whole number",
            }),
        }
    }

    /// The count in a field that must be there.
    pub(super) fn count(self, field: &'static str) -> Result<u64, UsageRejection> {
        self.maybe(field)?.ok_or(UsageRejection::Missing { field })
    }

    /// The count in a field that is a part of a total; absent is zero.
    pub(super) fn part(self, field: &'static str, of: u64, total: &'static str) -> Result<u64, UsageRejection> {
        let part = self.maybe(field)?.unwrap_or(0);
        if part > of {
            Err(UsageRejection::SubsetLarger { part: field, total })
        } else {
            Ok(part)
        }
    }

    /// The duration in a field, in microseconds.
    pub(super) fn micros(self, field: &'static str) -> Result<Option<u64>, UsageRejection> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Number(number)) => micros(field, &number.to_string()).map(Some),
            // Older versions of one API send the duration as text.
            Some(Value::String(text)) if text.len() <= 64 => micros(field, text).map(Some),
            Some(_) => Err(UsageRejection::WrongType {
                field,
                expected: "a number of seconds",
            }),
        }
    }

    /// Refuses by name the first field that is neither read nor known to bear no cost. A field that is
    /// null or zero says that nothing was used, whatever it is.
    pub(super) fn only(self, known: &[&str]) -> Result<(), UsageRejection> {
        let unknown = self
            .fields
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()) && !self.free.contains(name.as_str()))
            .find(|(_, value)| !says_nothing(value));
        match unknown {
            Some((name, _)) => Err(UsageRejection::UnknownField { field: shown(name) }),
            None => Ok(()),
        }
    }
}

/// Whether a value of a field that is not known can only mean that nothing was used.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(says_nothing),
        Value::Bool(_) | Value::String(_) => false,
    }
}

fn count(field: &'static str, number: &Number) -> Result<u64, UsageRejection> {
    let whole = if let Some(count) = number.as_u64() {
        count
    } else if number.as_i64().is_some() {
        return Err(UsageRejection::Negative { field });
    } else {
        // Some JSON writers print a count as `12.0`.
        let float = number.as_f64().ok_or(UsageRejection::WrongType {
            field,
            expected: "a whole number",
        })?;
        if float < 0.0 {
            return Err(UsageRejection::Negative { field });
        }
        #[expect(clippy::cast_precision_loss, reason = "the bound is far below 2^53")]
        if float > MAX_TOKENS as f64 {
            return Err(UsageRejection::Absurd { field });
        }
        if float.fract() != 0.0 {
            return Err(UsageRejection::Fractional { field });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, and within the bound"
        )]
        let count = float as u64;
        count
    };
    if whole > MAX_TOKENS {
        Err(UsageRejection::Absurd { field })
    } else {
        Ok(whole)
    }
}

/// Seconds as decimal text to microseconds, rounded up.
fn micros(field: &'static str, text: &str) -> Result<u64, UsageRejection> {
    // The decimal reader of money: nine decimals, exponents, no floats.
    let nanos = match text.parse::<crate::domain::money::Usd>() {
        Ok(seconds) => seconds.nanos(),
        Err(crate::domain::money::ParseUsdError::NotDecimal) => {
            return Err(UsageRejection::WrongType {
                field,
                expected: "a number of seconds",
            });
        }
        Err(crate::domain::money::ParseUsdError::OutOfRange) if text.trim_start().starts_with('-') => {
            return Err(UsageRejection::Negative { field });
        }
        Err(crate::domain::money::ParseUsdError::OutOfRange) => return Err(UsageRejection::Absurd { field }),
    };
    let nanos = u64::try_from(nanos).map_err(|_| UsageRejection::Negative { field })?;
    let micros = nanos.div_ceil(1_000);
    if micros > MAX_SECONDS * MICROS_PER_SECOND {
        Err(UsageRejection::Absurd { field })
    } else {
        Ok(micros)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<u64, UsageRejection> {
        let object = json!({ "n": value });
        Fields::of(&object)?.count("n")
    }

    #[test]
    fn a_count_is_a_whole_number_within_reason() {
        assert_eq!(read(json!(0)), Ok(0));
        assert_eq!(read(json!(12)), Ok(12));
        assert_eq!(read(json!(12.0)), Ok(12));
        assert_eq!(read(json!(MAX_TOKENS)), Ok(MAX_TOKENS));
        for absurd in [json!(MAX_TOKENS + 1), json!(u64::MAX), json!(1e13), json!(1e308)] {
            assert_eq!(read(absurd), Err(UsageRejection::Absurd { field: "n" }));
        }
        for negative in [json!(-1), json!(i64::MIN), json!(-0.5), json!(-1e300)] {
            assert_eq!(read(negative), Err(UsageRejection::Negative { field: "n" }));
        }
        assert_eq!(read(json!(1.5)), Err(UsageRejection::Fractional { field: "n" }));
        for wrong in [json!("12"), json!(true), json!([1]), json!({})] {
            assert_eq!(
                read(wrong),
                Err(UsageRejection::WrongType {
                    field: "n",
                    expected: "a whole number"
                })
            );
        }
        assert_eq!(read(Value::Null), Err(UsageRejection::Missing { field: "n" }));
    }

    #[test]
    fn a_duration_keeps_microseconds_and_rounds_up() {
        let read = |value: Value| Fields::of(&json!({ "s": value }))?.micros("s");
        assert_eq!(read(json!(0)), Ok(Some(0)));
        assert_eq!(read(json!(8.47)), Ok(Some(8_470_000)));
        assert_eq!(read(json!(0.000_000_1)), Ok(Some(1)));
        assert_eq!(read(json!("29.5")), Ok(Some(29_500_000)));
        assert_eq!(read(Value::Null), Ok(None));
        assert_eq!(read(json!(-1)), Err(UsageRejection::Negative { field: "s" }));
        assert_eq!(read(json!(-1e300)), Err(UsageRejection::Negative { field: "s" }));
        assert_eq!(read(json!(1e308)), Err(UsageRejection::Absurd { field: "s" }));
        assert_eq!(
            read(json!(1_000_000_001_u64)),
            Err(UsageRejection::Absurd { field: "s" })
        );
        for wrong in [json!("NaN"), json!("inf"), json!([]), json!(true)] {
            let expected = "a number of seconds";
            assert_eq!(read(wrong), Err(UsageRejection::WrongType { field: "s", expected }));
        }
    }

    #[test]
    fn an_unknown_field_passes_only_when_it_says_nothing() {
        let empty = json!({"a": 1, "b": null, "c": 0, "d": [], "e": {"f": 0}});
        assert_eq!(Fields::of(&empty).and_then(|fields| fields.only(&["a"])), Ok(()));
        for value in [json!(1), json!("x"), json!(true), json!([0]), json!({"f": 1})] {
            let object = json!({ "video_tokens": value });
            let read = Fields::of(&object).and_then(|fields| fields.only(&["a"]));
            assert_eq!(
                read,
                Err(UsageRejection::UnknownField {
                    field: "video_tokens".into()
                })
            );
        }
    }

    #[test]
    fn what_a_client_wrote_is_shown_in_bounds() {
        assert_eq!(shown("short"), "short");
        assert!(shown(&"é".repeat(1000)).chars().count() == 65);
    }
}
