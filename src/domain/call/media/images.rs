//! Images that are made or edited: billed by the token, or apiece.
//!
//! Each of `n` images is billed as a call of its own: its prompt and the images that it reads are counted
//! once for each. What an image may be in tokens is [`image_tokens`]' to say. A drawing
//! (`svg`) is written by a second model at a price of its own, which this bound does not cover, so it is
//! refused by name.

use bytes::Bytes;

use super::fields::{Fields, Shape, plain_whole};
use super::image_tokens::{self, BESIDE_TOKENS, PARTIAL_TOKENS, Size};
use super::{Media, one_call, understood};
use crate::domain::call::asked::Asked;
use crate::domain::call::form::FormPart;
use crate::domain::call::rejection::CallRejection;
use crate::domain::call::route::Route;
use crate::domain::call::rules::CallRules;
use crate::domain::price::{CallBound, PriceEntry};
use crate::domain::rejection::Rejection;

/// What images are billed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pub number: u64,
    /// As the request names it.
    pub quality: Option<String>,
    pub size: Option<(u64, u64)>,
    /// Partial images that a stream may bring for each.
    pub partial: u64,
    /// Pictures in each, if it moves.
    pub frames: u64,
    /// Images that it reads, masks included.
    pub read: u64,
    pub fidelity: Option<String>,
    pub prompt_bytes: u64,
}

/// Fields of all three routes, whatever the body.
macro_rules! fields {
    ($($name:literal $shape:ident),* ; $($more:literal $more_shape:ident),*) => {
        &[$(($name, Shape::$shape),)* $(($more, Shape::$more_shape),)*]
    };
}

const GENERATIONS: &[(&str, Shape)] = fields!(
    "prompt" One, "model" One, "n" One, "size" One, "quality" One, "background" One, "moderation" One,
    "output_compression" One, "output_format" One, "partial_images" One, "stream" One, "complexity" One,
    "frame_count" One, "frame_duration_ms" One, "response_format" One, "safety_identifier" One, "user" One;
    "style" One
);

const EDITS_JSON: &[(&str, Shape)] = fields!(
    "prompt" One, "model" One, "n" One, "size" One, "quality" One, "background" One, "moderation" One,
    "output_compression" One, "output_format" One, "partial_images" One, "stream" One, "complexity" One,
    "frame_count" One, "frame_duration_ms" One, "response_format" One, "safety_identifier" One, "user" One;
    "input_fidelity" One, "images" List, "mask" Object, "markup" Object
);

const EDITS_FORM: &[(&str, Shape)] = fields!(
    "prompt" One, "model" One, "n" One, "size" One, "quality" One, "background" One, "moderation" One,
    "output_compression" One, "output_format" One, "partial_images" One, "stream" One, "complexity" One,
    "frame_count" One, "frame_duration_ms" One, "response_format" One, "safety_identifier" One, "user" One;
    "input_fidelity" One, "image" Files, "mask" File, "markup" File
);

const VARIATIONS: &[(&str, Shape)] = fields!(
    "model" One, "n" One, "size" One, "response_format" One, "user" One; "image" File
);

/// Images that one call may make and read, says the documentation.
const MAX_MADE: u64 = 10;
const MAX_READ: usize = 16;
const FRAME_TOKENS: u64 = 256;
/// No edge of an image that is sold is longer than 3,840; twice that keeps the products small.
const MAX_EDGE: u64 = 8_192;

pub(super) fn read(route: Route, body: &Bytes, rules: &CallRules) -> Result<Asked, Rejection> {
    let list = if route == Route::ImageEdits {
        EDITS_JSON
    } else {
        GENERATIONS
    };
    let fields = Fields::json(route, body, list, rules)?;
    for name in ["mask", "markup"] {
        fields.only_keys(name, &["image_url", "file_id"], rules)?;
    }
    for image in fields.list("images") {
        let known = |key: &String| key == "image_url" || key == "file_id";
        let strange = |object: &serde_json::Map<_, _>| object.keys().find(|key| !known(key)).cloned();
        match image.as_object().map(strange) {
            Some(None) => {}
            Some(Some(key)) => {
                return Err(CallRejection::FieldUnknown {
                    route: route.name(),
                    field: format!("images.{}", key.chars().take(64).collect::<String>()),
                }
                .into());
            }
            None => return fields.refuse("images", "each must be an object"),
        }
    }
    let count = fields.list("images").len() + ["mask", "markup"].iter().filter(|name| fields.has(name)).count();
    if route == Route::ImageEdits && fields.list("images").is_empty() {
        return fields.refuse("images", "it is missing");
    }
    finish(route, body, &fields, count)
}

pub(super) fn read_form(route: Route, raw: &Bytes, parts: &[FormPart], rules: &CallRules) -> Result<Asked, Rejection> {
    let list = if route == Route::ImageVariations {
        VARIATIONS
    } else {
        EDITS_FORM
    };
    let fields = Fields::form(route, parts, list, rules)?;
    fields.required_file("image")?;
    let count = ["image", "mask", "markup"]
        .iter()
        .map(|name| fields.files(name).len())
        .sum();
    finish(route, raw, &fields, count)
}

fn finish(route: Route, raw: &Bytes, fields: &Fields, read: usize) -> Result<Asked, Rejection> {
    if read > MAX_READ + 2 {
        return fields.refuse("image", format!("at most {MAX_READ} are read"));
    }
    if route != Route::ImageVariations {
        fields.required_text("prompt")?;
    }
    // Without a model the provider chooses one, at a price that nobody here can know.
    let model = fields.required_model()?;
    let format = fields.text("output_format")?;
    if format == Some("svg") {
        return fields.refuse(
            "output_format",
            "a drawing is written by a second model, whose price is not bounded here",
        );
    }
    let frames = match fields.whole("frame_count", (2, 16))? {
        Some(frames) => frames,
        None if format == Some("gif") => 9,
        None => 1,
    };
    let stream = fields.flag("stream")?;
    let media = Images {
        number: fields.whole("n", (1, MAX_MADE))?.unwrap_or(1),
        quality: fields
            .one_of(
                "quality",
                &["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"],
            )?
            .map(str::to_owned),
        size: size(fields)?,
        partial: fields.whole("partial_images", (0, 3))?.unwrap_or(0),
        frames,
        read: read as u64,
        fidelity: fields.one_of("input_fidelity", &["low", "high"])?.map(str::to_owned),
        prompt_bytes: fields.text_bytes("prompt"),
    };
    let most = CallBound {
        images: media.number,
        image: true,
        input_tokens: media.input_tokens(model.as_str()),
        ..one_call()
    };
    Ok(understood(route, raw, Some(model), stream, most, Media::Images(media)))
}

fn size(fields: &Fields) -> Result<Size, Rejection> {
    let Some(text) = fields.text("size")?.filter(|text| *text != "auto") else {
        return Ok(None);
    };
    let edge = |text: &str| plain_whole(text).filter(|edge| (1..=MAX_EDGE).contains(edge));
    match text.split_once('x').map(|(width, height)| (edge(width), edge(height))) {
        Some((Some(width), Some(height))) => Ok(Some((width, height))),
        _ => fields.refuse("size", "it must be auto or WIDTHxHEIGHT, such as 1024x1024"),
    }
}

impl Images {
    fn input_tokens(&self, model: &str) -> u64 {
        let images = image_tokens::read(model, self.fidelity.as_deref()).saturating_mul(self.read);
        let each = images.saturating_add(self.prompt_bytes).saturating_add(FRAME_TOKENS);
        each.saturating_mul(self.number)
    }

    fn output_tokens(&self, model: &str, stated: Option<u64>) -> Result<u64, CallRejection> {
        let image = image_tokens::made(model, self.quality.as_deref(), self.size, stated)?;
        let beside = if stated.is_some() { 0 } else { BESIDE_TOKENS };
        let each = image
            .saturating_mul(self.frames)
            .saturating_add(self.partial * PARTIAL_TOKENS)
            .saturating_add(beside);
        Ok(each.saturating_mul(self.number))
    }

    pub(super) fn shapes(&self, model: &str, entry: &PriceEntry) -> Result<Vec<CallBound>, Rejection> {
        let mut shapes = Vec::new();
        if entry.units.image.is_some() {
            shapes.push(CallBound {
                images: self.number.saturating_mul(self.frames),
                ..one_call()
            });
        }
        if !entry.bands.is_empty() {
            shapes.push(CallBound {
                input_tokens: self.input_tokens(model),
                output_tokens: self.output_tokens(model, entry.max_output)?,
                image: true,
                ..one_call()
            });
        }
        Ok(shapes)
    }
}
