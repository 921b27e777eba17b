//! Reading what may have any shape.
//!
//! Whatever an upstream answers passes through, and the many that copy OpenAI's form differ in all that
//! does not matter here: `null` for a list, a number for an id. So a field of another type than expected
//! counts as absent instead of making the whole answer unreadable. Only bytes that are no JSON, or that
//! give a field twice that is read here, are an error: a client could then read another answer.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// More items than any answer has; what was read of each takes memory.
const MAX_ITEMS: usize = 10_000;

/// The visits that say nothing.
macro_rules! nothing {
    ($($visit:ident($($value:ty)?))*) => {
        $(fn $visit<E>(self $(, _: $value)?) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })*
    };
}

fn skip_list<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// A text, borrowed unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text<'a>(pub Option<Cow<'a, str>>);

impl Text<'_> {
    /// The text, if there is one and it is not empty.
    pub fn get(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

struct TextVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    nothing! { visit_unit() visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
        Ok(Text(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Text<'a>, A::Error> {
        skip_list(seq).map(|()| Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text<'a>, A::Error> {
        skip_object(map).map(|()| Text(None))
    }
}

/// A whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    nothing! { visit_unit() visit_bool(bool) visit_i64(i64) visit_f64(f64) visit_str(&str) }

    fn visit_u64<E>(self, count: u64) -> Result<Count, E> {
        Ok(Count(Some(count)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Count, A::Error> {
        skip_list(seq).map(|()| Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Count, A::Error> {
        skip_object(map).map(|()| Count(None))
    }
}

/// A list of objects, without the items that are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    nothing! { visit_unit() visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Object<T>>()? {
            if items.len() == MAX_ITEMS {
                return Err(A::Error::custom("a list with too many items"));
            }
            items.extend(item.0);
        }
        Ok(List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List<T>, A::Error> {
        skip_object(map).map(|()| List::default())
    }
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    nothing! { visit_unit() visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Object<T>, A::Error> {
        skip_list(seq).map(|()| Object(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|value| Object(Some(value)))
    }
}

/// How many items a list has, whatever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Length(pub u64);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LengthVisitor)
    }
}

struct LengthVisitor;

impl<'de> Visitor<'de> for LengthVisitor {
    type Value = Length;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    nothing! { visit_unit() visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Length, A::Error> {
        let mut length = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            length += 1;
        }
        Ok(Length(length))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Length, A::Error> {
        skip_object(map).map(|()| Length(0))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Item<'a> {
        #[serde(borrow)]
        name: Text<'a>,
        index: Count,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Whole<'a> {
        #[serde(borrow)]
        items: List<Item<'a>>,
        one: Object<Item<'a>>,
        data: Length,
    }

    fn item(name: &str, index: Option<u64>) -> Item<'_> {
        Item {
            name: Text(Some(Cow::Borrowed(name))),
            index: Count(index),
        }
    }

    #[test]
    fn what_has_another_type_is_absent() {
        let text = r#"{"items": [{"name": "a", "index": 1}, null, 3, {"name": "b", "index": "x"}],
                       "one": {"name": "caf\u00e9", "index": 2}, "data": [1, {}, []], "other": [1.5]}"#;
        let whole: Whole<'_> = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(whole.items.0, [item("a", Some(1)), item("b", None)]);
        assert_eq!(whole.one.0, Some(item("café", Some(2))));
        assert_eq!(whole.data, Length(3));
        for value in ["null", "true", "1", "-1", "1.5", "\"x\"", "[1]", "{\"x\": [1]}"] {
            let text = format!(r#"{{"items": {value}, "one": {value}, "data": {value}, "name": {value}}}"#);
            let whole: Whole<'_> = serde_json::from_str(&text).expect("it is JSON");
            assert!(whole.items.0.is_empty(), "{value}");
            let name = format!(r#"{{"name": {value}, "index": {value}}}"#);
            let item: Item<'_> = serde_json::from_str(&name).expect("it is JSON");
            assert_eq!(item.name.get(), (value == "\"x\"").then_some("x"), "{value}");
            assert_eq!(item.index.0, (value == "1").then_some(1), "{value}");
        }
    }

    #[test]
    fn a_field_that_is_read_may_not_be_there_twice() {
        for text in [
            r#"{"one": {"name": "a", "name": "b"}}"#,
            r#"{"one": {"name": "a", "n\u0061me": "b"}}"#,
            r#"{"items": [{"index": 1, "index": 1}]}"#,
            r#"{"items": [], "items": []}"#,
        ] {
            assert!(serde_json::from_str::<Whole<'_>>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Whole<'_>>(r#"{"x": 1, "x": 2}"#).is_ok());
    }

    #[test]
    fn a_list_has_an_end() {
        let items = |count: usize| format!(r#"{{"items": [{}]}}"#, vec!["{}"; count].join(","));
        assert!(serde_json::from_str::<Whole<'_>>(&items(MAX_ITEMS)).is_ok());
        assert!(serde_json::from_str::<Whole<'_>>(&items(MAX_ITEMS + 1)).is_err());
    }
}
