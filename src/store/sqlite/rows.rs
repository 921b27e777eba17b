//! Rows as JSON: one statement writes a table's worth of them through `jsonb_each`, which hands each
//! row on as SQLite's binary JSON. (`json_each` makes a text of it that every column parses again: measured,
//! a report cost 23 µs of processor time with it and 14 µs without.)
//!
//! Written by hand rather than through a `serde_json::Value`, since a commit of 512 operations writes
//! some thousand rows, and a tree of values for each would cost more than SQLite takes for them.

use jiff::Timestamp;
use uuid::Uuid;

use super::codec;
use crate::domain::money::Usd;

/// A JSON array of arrays.
pub(super) struct Rows {
    json: Vec<u8>,
    count: u64,
    in_row: bool,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self {
            json: vec![b'['],
            count: 0,
            in_row: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Begins a row; the columns that follow belong to it.
    pub(super) fn row(&mut self) -> &mut Self {
        if self.count > 0 {
            self.json.extend_from_slice(b"],");
        }
        self.json.push(b'[');
        self.count += 1;
        self.in_row = false;
        self
    }

    fn comma(&mut self) {
        if self.in_row {
            self.json.push(b',');
        }
        self.in_row = true;
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.comma();
        self.json.extend_from_slice(b"null");
        self
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.comma();
        self.json.extend_from_slice(value.to_string().as_bytes());
        self
    }

    pub(super) fn opt_int(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.int(value),
            None => self.null(),
        }
    }

    pub(super) fn usd(&mut self, value: Usd) -> &mut Self {
        self.int(value.nanos())
    }

    pub(super) fn time(&mut self, value: Timestamp) -> &mut Self {
        self.int(codec::micros(value))
    }

    pub(super) fn opt_time(&mut self, value: Option<Timestamp>) -> &mut Self {
        self.opt_int(value.map(codec::micros))
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.comma();
        self.json.push(b'"');
        for byte in value.bytes() {
            match byte {
                b'"' | b'\\' => self.json.extend_from_slice(&[b'\\', byte]),
                0x00..=0x1f => self.json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.json.push(byte),
            }
        }
        self.json.push(b'"');
        self
    }

    pub(super) fn opt_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    /// As hexadecimal text: JSON carries no bytes, and `unhex` makes them again.
    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.comma();
        self.json.push(b'"');
        self.json.extend_from_slice(hex::encode(value).as_bytes());
        self.json.push(b'"');
        self
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn opt_uuid(&mut self, value: Option<Uuid>) -> &mut Self {
        match value {
            Some(value) => self.uuid(value),
            None => self.null(),
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.count > 0 {
            self.json.push(b']');
        }
        self.json.push(b']');
        // Only whole texts and ASCII were written, so this never falls back.
        String::from_utf8(self.json).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_json_and_the_same(texts in proptest::collection::vec(any::<String>(), 0..5), n in any::<i64>()) {
            let mut rows = Rows::new();
            for text in &texts {
                rows.row().text(text).int(n).null();
            }
            let read: Vec<(String, i64, Option<i64>)> = serde_json::from_str(&rows.finish()).unwrap();
            let wanted: Vec<_> = texts.into_iter().map(|t| (t, n, None)).collect();
            prop_assert_eq!(read, wanted);
        }
    }
}
