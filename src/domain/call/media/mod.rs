//! Calls that are not conversations: audio in, speech out, images.
//!
//! Their cost is not a count of tokens that a limit in the request could clamp: it follows from what was
//! sent (the length of a recording, the characters to speak) or from what is asked for (how many images,
//! how large, how good). So each route is read into a [`Media`], from which the price's own units are
//! bounded: seconds where the price is by the second, tokens where it is by the token, and the dearer of
//! the two where a list has both, since which of them the provider reports is known only afterwards.
//!
//! Some answers carry no usage: plain text and subtitles, sound. Where the request alone decides what is
//! billed, [`Media::unreported`] says it; where it does not, the call stays unresolved at its bound (**L3**,
//! **L7**).

mod fields;
mod image_tokens;
mod images;
mod speech;
mod transcription;

use bytes::Bytes;

use super::asked::Asked;
use super::form::FormPart;
use super::route::Route;
use super::rules::CallRules;
use crate::domain::id::ModelId;
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::money::Usd;
use crate::domain::price::{self, CallBound, PriceEntry, ServiceTier, SettleRejection, Usage};
use crate::domain::rejection::Rejection;

pub use images::Images;
pub use speech::Speech;
pub use transcription::Transcription;

/// What a call that is not a conversation is billed by.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    Transcription(Transcription),
    Speech(Speech),
    Images(Images),
}

impl Media {
    /// Whether what the request will be billed for was read from the request itself. A recording that
    /// could not be read is bounded by its bytes, which is no measurement.
    pub fn measured(&self) -> bool {
        match self {
            Self::Transcription(asked) => asked.measured.is_some(),
            Self::Speech(_) | Self::Images(_) => true,
        }
    }

    /// What a whole and successful answer that carries no usage will be billed as, where the request and
    /// the answer leave no doubt. `None` leaves the call unresolved at its bound.
    pub fn unreported(&self, entry: &PriceEntry, answer: &[u8]) -> Option<Usage> {
        match self {
            Self::Transcription(asked) => asked.unreported(entry, answer),
            Self::Speech(asked) => asked.unreported(entry, answer),
            // Those that are sold apiece are counted in the answer; tokens only the provider can count.
            Self::Images(_) => None,
        }
    }
}

/// Reads a JSON request of a route that is not a conversation.
pub(super) fn read(route: Route, body: &Bytes, rules: &CallRules) -> Result<Asked, Rejection> {
    match route {
        Route::Speech => speech::read(body, rules),
        Route::ImageGenerations | Route::ImageEdits => images::read(route, body, rules),
        _ => Err(not_here(route)),
    }
}

/// Reads a form, whose parts are all that is in `raw`.
pub fn read_form(route: Route, raw: &Bytes, parts: &[FormPart], rules: &CallRules) -> Result<Asked, Rejection> {
    match route {
        Route::Transcriptions | Route::Translations => transcription::read(route, raw, parts, rules),
        Route::ImageEdits | Route::ImageVariations => images::read_form(route, raw, parts, rules),
        _ => Err(not_here(route)),
    }
}

fn not_here(route: Route) -> Rejection {
    Rejection::Malformed(format!("{} does not take a body of this kind", route.name()))
}

/// What a call that is not a conversation can cost at most. `None` for a conversation.
pub(super) fn worst_case(asked: &Asked, entry: &PriceEntry) -> Option<Result<Usd, Rejection>> {
    let media = asked.media.as_ref()?;
    let model = asked.model.as_ref();
    let shapes = match media {
        Media::Transcription(asked) => Ok(asked.shapes(entry)),
        Media::Speech(asked) => Ok(asked.shapes(entry)),
        Media::Images(asked) => asked.shapes(model.map_or("", ModelId::as_str), entry),
    };
    Some(shapes.and_then(|shapes| dearest(&shapes, model, entry)))
}

/// The dearest of the ways in which the provider may bill the call.
fn dearest(shapes: &[CallBound], model: Option<&ModelId>, entry: &PriceEntry) -> Result<Usd, Rejection> {
    let mut worst = None;
    for shape in shapes {
        let cost = price::worst_case(shape, entry).map_err(|error| match error {
            SettleRejection::TooLarge => Rejection::Ledger(LedgerRejection::Absurd),
            SettleRejection::TierUnpriced { .. } | SettleRejection::FastUnpriced | SettleRejection::Unpriced { .. } => {
                unpriced(model, entry, &error)
            }
        })?;
        worst = worst.max(Some(cost));
    }
    worst.ok_or_else(|| {
        let what = "what this route is billed by";
        unpriced(model, entry, &SettleRejection::Unpriced { what })
    })
}

fn unpriced(model: Option<&ModelId>, entry: &PriceEntry, error: &SettleRejection) -> Rejection {
    Rejection::PriceUnknown {
        what: format!(
            "model {} of {}: {error}",
            model.map_or("-", ModelId::as_str),
            entry.service
        ),
    }
}

/// A bound of nothing yet, of one call in the standard tier: no route here lets a request choose another.
fn one_call() -> CallBound {
    CallBound {
        requests: 1,
        tier: Some(ServiceTier::Standard),
        ..CallBound::default()
    }
}

/// A request that was understood, and is forwarded byte for byte: no route here has a limit to fill in.
fn understood(route: Route, raw: &Bytes, model: Option<ModelId>, stream: bool, most: CallBound, media: Media) -> Asked {
    Asked {
        stream,
        most,
        media: Some(media),
        ..Asked::new(route, raw, model)
    }
}

#[cfg(test)]
mod tests;
