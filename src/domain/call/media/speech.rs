//! Speech: billed by the characters that are spoken, or by the tokens that go in and come out.
//!
//! How long a text is when it is spoken is not known before. The bound takes a second for each character,
//! a minute at least (a short text may be spoken with the pauses that its instructions ask for), and the
//! price's own output limit where it states one. Sound carries no usage. Characters are certain from the
//! request; tokens are settled by the length of the sound itself, at the rate at which the provider
//! documents a minute of it.

use bytes::Bytes;

use super::fields::{Fields, Shape};
use super::{Media, one_call, understood};
use crate::domain::call::asked::Asked;
use crate::domain::call::audio;
use crate::domain::call::route::Route;
use crate::domain::call::rules::CallRules;
use crate::domain::price::{CallBound, MICROS_PER_SECOND, PriceEntry, TokenClass, Usage};
use crate::domain::rejection::Rejection;

/// What speech is billed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speech {
    /// Characters to speak, as UTF-16 counts them: never fewer than any other count.
    pub characters: u64,
    /// Bytes of all text that the model reads.
    pub text_bytes: u64,
    /// Thousandths of the normal speed.
    pub speed: u64,
    /// Whether the answer is bare samples, 24,000 a second of two bytes, with no header to read.
    pub pcm: bool,
    /// Whether the answer is a stream of events, whose last one carries the usage.
    pub events: bool,
}

const FIELDS: &[(&str, Shape)] = &[
    ("input", Shape::One),
    ("model", Shape::One),
    ("voice", Shape::Object),
    ("instructions", Shape::One),
    ("response_format", Shape::One),
    ("speed", Shape::One),
    ("stream_format", Shape::One),
];

const FORMATS: &[&str] = &["mp3", "opus", "aac", "flac", "wav", "pcm"];

/// Tokens of a minute of sound: a million of them cost $12, a minute costs $0.015, says the price list.
const TOKENS_PER_MINUTE: u64 = 1_250;
const MIN_SECONDS: u64 = 60;
const FRAME_TOKENS: u64 = 64;
const PCM_BYTES_PER_SECOND: u64 = 48_000;

pub(super) fn read(body: &Bytes, rules: &CallRules) -> Result<Asked, Rejection> {
    let fields = Fields::json(Route::Speech, body, FIELDS, rules)?;
    let model = fields.required_model()?;
    let input = fields.required_text("input")?;
    fields.text("instructions")?;
    let format = fields.one_of("response_format", FORMATS)?;
    let events = fields.one_of("stream_format", &["sse", "audio"])? == Some("sse");
    fields.only_keys("voice", &["id"], rules)?;
    let speed = fields.number("speed", (0.25, 4.0))?.unwrap_or(1.0);
    let media = Speech {
        characters: input.encode_utf16().count() as u64,
        text_bytes: (input.len() as u64).saturating_add(fields.text_bytes("instructions")),
        // Within the bounds above, so it fits.
        speed: (speed * 1_000.0) as u64,
        pcm: format == Some("pcm"),
        events,
    };
    let most = CallBound {
        characters: media.characters,
        ..media.by_tokens(None)
    };
    Ok(understood(
        Route::Speech,
        body,
        Some(model),
        events,
        most,
        Media::Speech(media),
    ))
}

fn tokens(seconds: u64) -> u64 {
    seconds.saturating_mul(TOKENS_PER_MINUTE).div_ceil(60)
}

impl Speech {
    fn input_tokens(&self) -> u64 {
        self.text_bytes.saturating_add(FRAME_TOKENS)
    }

    /// Seconds of sound at most, before the speed is applied and after.
    fn seconds(&self) -> u64 {
        let at_normal_speed = self.characters.max(MIN_SECONDS);
        let slowed = at_normal_speed
            .saturating_mul(1_000)
            .div_ceil(self.speed.clamp(1, 1_000));
        slowed.max(at_normal_speed)
    }

    fn by_tokens(&self, max_output: Option<u64>) -> CallBound {
        let spoken = tokens(self.seconds());
        CallBound {
            input_tokens: self.input_tokens(),
            output_tokens: max_output.map_or(spoken, |most| most.min(spoken)),
            audio: true,
            ..one_call()
        }
    }

    pub(super) fn shapes(&self, entry: &PriceEntry) -> Vec<CallBound> {
        let mut shapes = Vec::new();
        if entry.units.character.is_some() {
            shapes.push(CallBound {
                characters: self.characters,
                ..one_call()
            });
        }
        if !entry.bands.is_empty() {
            shapes.push(self.by_tokens(entry.max_output));
        }
        if entry.units.second.is_some() {
            shapes.push(CallBound {
                micros: self.seconds().saturating_mul(MICROS_PER_SECOND),
                ..one_call()
            });
        }
        shapes
    }

    pub(super) fn unreported(&self, entry: &PriceEntry, answer: &[u8]) -> Option<Usage> {
        let usage = Usage::one_call();
        if entry.bands.is_empty() && entry.units.second.is_none() {
            entry.units.character?;
            return Some(Usage {
                characters: self.characters,
                ..usage
            });
        }
        if self.events || answer.is_empty() {
            return None;
        }
        let micros = if self.pcm {
            (answer.len() as u64)
                .saturating_mul(MICROS_PER_SECOND)
                .div_ceil(PCM_BYTES_PER_SECOND)
        } else {
            audio::measure(answer).measured_micros?
        };
        // What was sped up after it was made was longer when it was made.
        let micros = micros.saturating_mul(self.speed.max(1_000)).div_ceil(1_000);
        if entry.bands.is_empty() {
            return Some(Usage { micros, ..usage });
        }
        let heard = micros
            .saturating_mul(TOKENS_PER_MINUTE)
            .div_ceil(60 * MICROS_PER_SECOND);
        Some(
            usage
                .token(TokenClass::Input, self.input_tokens())
                .token(TokenClass::OutputAudio, heard),
        )
    }
}
