//! The shapes of answers, as far as they are read: whole ones and the events of streams.
//!
//! Hundreds of these events pass in a second, and little of each matters: whether there is output in
//! it, a tool's name, a usage. So each shape names just that, borrows its texts from the bytes, and lets
//! the parser skip all else. What is output is kept as raw text and never decoded; a usage is kept raw
//! too and read once, strictly, at the end.
//!
//! Field names: documented, the types of the `openai` Python SDK 3.51.0 and the `anthropic` one 2.10.0.

pub mod chat;
mod loose;
pub mod media;
pub mod messages;
pub mod responses;

use serde::Deserialize;
use serde_json::value::RawValue;

pub use loose::{Count, Length, List, Object, Text};

/// No tokenizer has a token of more bytes. The longest that are known have 128, and JSON may write each
/// byte of a text as up to six.
const MOST_BYTES_OF_A_TOKEN: u64 = 1_024;

/// The bytes are not an answer: no JSON, or a field that is read here is there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON that can be read in one way only")]
pub struct Unreadable;

/// Reads an answer or the data of an event.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    // An object first: what is derived would take a list for one.
    match serde_json::from_slice::<Object<T>>(bytes) {
        Ok(Object(Some(value))) => Ok(value),
        Ok(Object(None)) | Err(_) => Err(Unreadable),
    }
}

/// Whether there is a value that says anything.
pub fn says_something(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| !matches!(raw.get(), "null" | "\"\"" | "[]" | "{}"))
}

/// The fewest tokens that a piece of output can be: one, or what its length makes certain.
pub fn fewest_tokens(raw: Option<&RawValue>) -> u64 {
    let written = raw.map_or("", RawValue::get);
    match written.strip_prefix('"') {
        Some(text) if text.len() > 1 => (text.len() as u64 / MOST_BYTES_OF_A_TOKEN).max(1),
        _ => 0,
    }
}
