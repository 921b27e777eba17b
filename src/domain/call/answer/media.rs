//! What is used by answers that are no conversation.

use std::collections::BTreeSet;

use serde_json::json;

use super::read::{strict, usage_of};
use super::{Told, UsageFault};
use crate::domain::call::route::Route;
use crate::domain::price::Usage;
use crate::domain::wire::answer::media::Media;
use crate::domain::wire::answer::says_something;
use crate::domain::wire::{UsageApi, UsageRejection, usage_from};

/// What a whole answer on this route says was used.
pub(super) fn usage(route: Route, media: &Media<'_>, free: &BTreeSet<String>) -> Result<Option<Told>, UsageFault> {
    if says_something(media.svg_usage) {
        let field = "svg_usage";
        return Err(UsageRejection::OtherModel { field }.into());
    }
    if let Some(raw) = media.usage.filter(|raw| says_something(Some(raw))) {
        return usage_of(route, raw.get(), None, free).map(Some);
    }
    match route {
        Route::Transcriptions | Route::Translations => Ok(of_duration(media)?.map(Told::from)),
        // Models that are priced by the image say nothing but the images themselves.
        Route::ImageGenerations | Route::ImageEdits | Route::ImageVariations if media.data.0 > 0 => {
            let images = media.data.0;
            Ok(Some(Told::from(Usage {
                images,
                ..Usage::one_call()
            })))
        }
        _ => Ok(None),
    }
}

/// A verbose transcription from before there was a usage object says how long the audio was.
fn of_duration(media: &Media<'_>) -> Result<Option<Usage>, UsageFault> {
    let Some(raw) = media.duration.filter(|raw| says_something(Some(raw))) else {
        return Ok(None);
    };
    let duration = json!({ "duration": strict(raw.get())? });
    Ok(Some(usage_from(UsageApi::OpenaiTranscription, &duration)?))
}
