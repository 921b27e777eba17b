//! Transcriptions and translations: billed by the length of the recording, or by the tokens that it
//! becomes.
//!
//! The length is read from the file ([`audio`]), never from what the client
//! says about it. Where nothing can be read it is bounded by the file's bytes.
//!
//! A response in `text`, `srt` or `vtt` carries no usage, and neither does the `json` of many a server that
//! copies the API. It is settled at the length that was read, rounded up to whole seconds as the provider
//! bills, if the model is sold by the second and the file could be read; else the call stays unresolved at
//! its bound (**L7**). So does one whose answer is no transcription.
//!
//! Some providers bill a least length for each request. That is the price's to say
//! ([`billed_micros`](PriceEntry::billed_micros)), so that a bound, a measurement and a reported length have the
//! same: here lengths are what was heard.

use bytes::Bytes;
use serde::Deserialize;

use super::fields::{Fields, Shape};
use super::{Media, one_call, understood};
use crate::domain::call::asked::Asked;
use crate::domain::call::audio;
use crate::domain::call::form::FormPart;
use crate::domain::call::route::Route;
use crate::domain::call::rules::CallRules;
use crate::domain::price::{CallBound, MICROS_PER_SECOND, PriceEntry, Usage};
use crate::domain::rejection::Rejection;

/// What a transcription is billed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcription {
    /// The length of the recording at most, in microseconds, whole seconds and one for good measure: the
    /// provider's decoder may count an encoder's padding that ours leaves out.
    pub bound_micros: u64,
    /// Its length as it was read, rounded up to whole seconds. `None`: it could not be read.
    pub measured: Option<u64>,
    /// Bytes of the prompt and of what else the model reads beside the sound.
    pub prompt_bytes: u64,
    /// It may be cut into pieces, each of which is a call of the model.
    pub chunked: bool,
    /// The answer is text or subtitles, which have no place for a usage.
    pub plain: bool,
}

const TRANSCRIPTIONS: &[(&str, Shape)] = &[
    ("file", Shape::File),
    ("model", Shape::One),
    ("chunking_strategy", Shape::Object),
    ("include", Shape::List),
    ("keywords", Shape::List),
    ("known_speaker_names", Shape::List),
    ("known_speaker_references", Shape::List),
    ("language", Shape::One),
    ("languages", Shape::List),
    ("prompt", Shape::One),
    ("response_format", Shape::One),
    ("stream", Shape::One),
    ("temperature", Shape::One),
    ("timestamp_granularities", Shape::List),
];

const TRANSLATIONS: &[(&str, Shape)] = &[
    ("file", Shape::File),
    ("model", Shape::One),
    ("prompt", Shape::One),
    ("response_format", Shape::One),
    ("temperature", Shape::One),
];

const FORMATS: &[&str] = &["json", "text", "srt", "verbose_json", "vtt", "diarized_json"];

/// Audio tokens of a second of sound, at most. Documented for OpenAI's realtime models is one in 100 ms of
/// what a user says; for these models nothing is, so it is twice that. Where a price by the second is listed
/// beside the tokens, the bound is the higher of both.
const TOKENS_PER_SECOND: u64 = 20;

/// Text tokens that a second of speech becomes, at most. Nobody speaks more than some ten a second; a model
/// that repeats itself stops at its output limit, which is added for each call of it.
const WRITTEN_PER_SECOND: u64 = 20;

/// Tokens that the provider puts around a prompt.
const FRAME_TOKENS: u64 = 64;

/// Samples of known speakers: four at most, of ten seconds at most, says the documentation; a longer one is
/// refused there. They are read along with the recording.
const MAX_SPEAKERS: usize = 4;
const SPEAKER_MICROS: u64 = 10 * MICROS_PER_SECOND;

pub(super) fn read(route: Route, raw: &Bytes, parts: &[FormPart], rules: &CallRules) -> Result<Asked, Rejection> {
    let list = if route == Route::Translations {
        TRANSLATIONS
    } else {
        TRANSCRIPTIONS
    };
    let fields = Fields::form(route, parts, list, rules)?;
    let model = fields.required_model()?;
    let format = fields.one_of("response_format", FORMATS)?;
    fields.only_keys(
        "chunking_strategy",
        &["type", "prefix_padding_ms", "silence_duration_ms", "threshold"],
        rules,
    )?;
    let speakers = fields.list("known_speaker_references").len();
    if speakers > MAX_SPEAKERS {
        return fields.refuse("known_speaker_references", format!("at most {MAX_SPEAKERS} are known"));
    }
    let file = fields.required_file("file")?;
    if let Some(reason) = audio::unbounded(file) {
        return fields.refuse("file", reason.to_owned());
    }
    let length = audio::measure(file);
    let speakers = SPEAKER_MICROS * speakers as u64;
    let prompt_bytes = ["prompt", "keywords", "languages", "language", "known_speaker_names"]
        .map(|name| fields.text_bytes(name))
        .into_iter()
        .fold(0, u64::saturating_add);
    let media = Transcription {
        bound_micros: whole_seconds(length.bound_micros)
            .saturating_add(MICROS_PER_SECOND)
            .saturating_add(speakers),
        measured: length.measured_micros.map(whole_seconds),
        prompt_bytes,
        chunked: fields.has("chunking_strategy") || !fields.keys("chunking_strategy").is_empty(),
        plain: matches!(format, Some("text" | "srt" | "vtt")),
    };
    let most = CallBound {
        micros: media.bound_micros,
        ..media.by_tokens(0, None)
    };
    let stream = fields.flag("stream")?;
    Ok(understood(
        route,
        raw,
        Some(model),
        stream,
        most,
        Media::Transcription(media),
    ))
}

/// A transcription, of which only that it is one matters.
#[derive(Deserialize)]
struct Transcribed {
    #[serde(rename = "text")]
    _text: String,
}

/// Rounded up to whole seconds.
fn whole_seconds(micros: u64) -> u64 {
    micros.div_ceil(MICROS_PER_SECOND).saturating_mul(MICROS_PER_SECOND)
}

impl Transcription {
    fn by_tokens(&self, max_output: u64, context: Option<u64>) -> CallBound {
        let seconds = self.bound_micros.div_ceil(MICROS_PER_SECOND);
        // Pieces are cut where nobody speaks; none is taken to be shorter than a second.
        let calls = if self.chunked { seconds.saturating_add(1) } else { 1 };
        let around = self.prompt_bytes.saturating_add(FRAME_TOKENS).saturating_mul(calls);
        let mut input_tokens = seconds.saturating_mul(TOKENS_PER_SECOND).saturating_add(around);
        let mut output_tokens = max_output;
        if self.chunked {
            output_tokens = output_tokens.saturating_add(seconds.saturating_mul(WRITTEN_PER_SECOND));
        } else if let Some(context) = context {
            input_tokens = input_tokens.min(context);
        }
        CallBound {
            input_tokens,
            output_tokens,
            audio: true,
            ..one_call()
        }
    }

    /// The ways in which this price may bill it.
    pub(super) fn shapes(&self, entry: &PriceEntry) -> Vec<CallBound> {
        let mut shapes = Vec::new();
        if entry.units.second.is_some() {
            shapes.push(CallBound {
                micros: self.bound_micros,
                ..one_call()
            });
        }
        if !entry.bands.is_empty() {
            // A price that states no output limit is bounded by what can be said in that time.
            let spoken = self
                .bound_micros
                .div_ceil(MICROS_PER_SECOND)
                .saturating_mul(WRITTEN_PER_SECOND);
            let max_output = entry.max_output.unwrap_or_else(|| spoken.saturating_add(4_096));
            shapes.push(self.by_tokens(max_output, entry.context));
        }
        shapes
    }

    pub(super) fn unreported(&self, entry: &PriceEntry, answer: &[u8]) -> Option<Usage> {
        // Servers that speak this API in part say no usage; that they have transcribed is to be seen.
        if !self.plain && serde_json::from_slice::<Transcribed>(answer).is_err() {
            return None;
        }
        // A model with token rates is billed by tokens, which only the provider can count.
        let by_time_alone = entry.bands.is_empty() && entry.units.second.is_some();
        let micros = self.measured.filter(|_| by_time_alone)?;
        Some(Usage {
            micros,
            ..Usage::one_call()
        })
    }
}
