//! Answers that are about no conversation: embeddings, transcriptions, speech and images, whole or as
//! the events of a stream.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Length, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Media<'a> {
    /// Of an event.
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    pub id: Text<'a>,
    pub model: Text<'a>,
    pub usage: Option<&'a RawValue>,
    /// What a vector drawing was written with, beside the usage of the image.
    pub svg_usage: Option<&'a RawValue>,
    /// Seconds of audio, in a verbose transcription.
    pub duration: Option<&'a RawValue>,
    /// The images or vectors.
    pub data: Length,
}
