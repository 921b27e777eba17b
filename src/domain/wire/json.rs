//! Strict JSON.
//!
//! Two readers of one document must not see two things: with `{"cost": 1, "cost": 1000}` some take the
//! first and some the last. So duplicate keys are refused at every depth, and so is anything after the
//! document. Size, depth and the number of values are bounded before memory is taken for them.
//!
//! The grammar itself is `serde_json`'s. Whole numbers up to 64 bits are exact in a [`Value`]; a decimal is
//! the nearest double, whose shortest text is what its writer printed. Where every digit of an amount
//! counts, [`check`] the bytes first and then read the field as a `serde_json` `RawValue`, whose text is
//! the number as it was sent.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Bounds on a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonLimits {
    pub bytes: usize,
    /// Nested lists and objects; at most 100, since the reader below stops at 128.
    pub depth: usize,
    /// Values of all kinds, keys left out.
    pub values: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            depth: 32,
            values: 2_000_000,
        }
    }
}

/// The deepest nesting that any limit may allow.
const MAX_DEPTH: usize = 100;

/// Why bytes are not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonRejection {
    #[error("the JSON has {len} bytes, and at most {max} are read")]
    TooLarge { len: usize, max: usize },
    #[error("the JSON is nested more than {max} deep")]
    TooDeep { max: usize },
    #[error("the JSON has more than {max} values")]
    TooMany { max: usize },
    #[error("the key {key:?} is there twice in one object")]
    DuplicateKey { key: String },
    #[error("not JSON: {what} at line {line}, column {column}")]
    Syntax {
        what: &'static str,
        line: usize,
        column: usize,
    },
}

/// Reads one document strictly.
pub fn parse_strict(bytes: &[u8], limits: &JsonLimits) -> Result<Value, JsonRejection> {
    read(bytes, limits, true)
}

/// Checks that the bytes are one strict document, without building it.
pub fn check(bytes: &[u8], limits: &JsonLimits) -> Result<(), JsonRejection> {
    read(bytes, limits, false).map(|_| ())
}

fn read(bytes: &[u8], limits: &JsonLimits, keep: bool) -> Result<Value, JsonRejection> {
    if bytes.len() > limits.bytes {
        return Err(JsonRejection::TooLarge {
            len: bytes.len(),
            max: limits.bytes,
        });
    }
    let reader = Reader {
        depth: limits.depth.min(MAX_DEPTH),
        values: Cell::new(limits.values),
        max_values: limits.values,
        keep,
        refused: Cell::new(None),
    };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Node {
        reader: &reader,
        depth: 0,
    }
    .deserialize(&mut json)
    .and_then(|value| {
        json.end()?;
        Ok(value)
    });
    read.map_err(|error| reader.refused.take().unwrap_or_else(|| syntax(&error)))
}

fn syntax(error: &serde_json::Error) -> JsonRejection {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a value that cannot be read",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "a mistake",
    };
    JsonRejection::Syntax {
        what,
        line: error.line(),
        column: error.column(),
    }
}

struct Reader {
    depth: usize,
    values: Cell<usize>,
    max_values: usize,
    keep: bool,
    /// The rejection itself; the error that travels through serde only unwinds.
    refused: Cell<Option<JsonRejection>>,
}

impl Reader {
    fn refuse<E: serde::de::Error>(&self, why: JsonRejection) -> E {
        self.refused.set(Some(why));
        E::custom("refused")
    }

    fn take_value<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.values.get().checked_sub(1) {
            Some(left) => {
                self.values.set(left);
                Ok(())
            }
            None => Err(self.refuse(JsonRejection::TooMany { max: self.max_values })),
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'r> {
    reader: &'r Reader,
    depth: usize,
}

impl Node<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= self.reader.depth {
            return Err(self.reader.refuse(JsonRejection::TooDeep { max: self.reader.depth }));
        }
        Ok(Self {
            reader: self.reader,
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.reader.take_value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(if self.reader.keep {
            Value::String(value.to_owned())
        } else {
            Value::Null
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            if self.reader.keep {
                items.push(item);
            }
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.contains_key(&key) {
                let key = super::quantity::shown(&key);
                return Err(self.reader.refuse(JsonRejection::DuplicateKey { key }));
            }
            let value = map.next_value_seed(inner)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Value, JsonRejection> {
        parse_strict(text.as_bytes(), &JsonLimits::default())
    }

    #[test]
    fn a_document_is_read_as_it_is() {
        let text = r#" {"a": [1, -2, 3.5, "x\u00e9", true, null], "b": {"a": 18446744073709551615}} "#;
        let expected = json!({"a": [1, -2, 3.5, "xé", true, null], "b": {"a": u64::MAX}});
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(check(text.as_bytes(), &JsonLimits::default()), Ok(()));
    }

    #[test]
    fn a_key_may_not_repeat_at_any_depth() {
        for text in [
            r#"{"cost":1,"cost":1000}"#,
            r#"[{"x":{"cost":1,"y":0,"cost":1}}]"#,
            r#"{"cost":1,"c\u006fst":2}"#,
        ] {
            let expected = JsonRejection::DuplicateKey { key: "cost".into() };
            assert_eq!(parse(text), Err(expected.clone()), "{text}");
            assert_eq!(check(text.as_bytes(), &JsonLimits::default()), Err(expected), "{text}");
        }
        assert!(parse(r#"[{"a":1},{"a":2}]"#).is_ok());
    }

    #[test]
    fn bounds_hold() {
        let limits = JsonLimits {
            bytes: 40,
            depth: 2,
            values: 5,
        };
        let parse = |text: &str| parse_strict(text.as_bytes(), &limits);
        assert!(parse("[[1,2],3]").is_ok());
        assert_eq!(parse("[[[1]]]"), Err(JsonRejection::TooDeep { max: 2 }));
        assert_eq!(parse("[1,2,3,4,5]"), Err(JsonRejection::TooMany { max: 5 }));
        assert_eq!(
            parse(&" ".repeat(41)),
            Err(JsonRejection::TooLarge { len: 41, max: 40 })
        );
        let deep = JsonLimits {
            depth: usize::MAX,
            ..JsonLimits::default()
        };
        let nested = "[".repeat(100_000);
        assert_eq!(
            parse_strict(nested.as_bytes(), &deep),
            Err(JsonRejection::TooDeep { max: MAX_DEPTH })
        );
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "nul",
            "NaN",
            "Infinity",
            "01",
            "1.",
            "+1",
            "1e999",
            "'a'",
            "{} {}",
            "[1] x",
            "\"\u{1}\"",
            "{\"a\":1}}",
        ] {
            assert!(
                matches!(parse(text), Err(JsonRejection::Syntax { .. })),
                "{text:?}: {:?}",
                parse(text)
            );
        }
        assert!(parse_strict(b"\"\xff\"", &JsonLimits::default()).is_err());
        let error = parse("[1,\n 2,, 3]").expect_err("it has a mistake");
        assert_eq!(error.to_string(), "not JSON: a mistake at line 2, column 4");
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (any::<i32>(), 0..4).prop_map(|(n, e)| Value::from(f64::from(n) / 10_f64.powi(e))),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_strict(&bytes, &JsonLimits::default());
        }

        #[test]
        fn text_never_panics(text in "[\\[\\]{}\":,0-9eE.+\\-a-z\\\\ ]{0,120}") {
            let strict = parse(&text);
            let lax = serde_json::from_str::<Value>(&text);
            if let Ok(value) = strict {
                prop_assert_eq!(lax.ok(), Some(value));
            }
        }

        #[test]
        fn what_was_written_is_read_back(value in document()) {
            prop_assert_eq!(parse(&value.to_string()), Ok(value));
        }
    }
}
