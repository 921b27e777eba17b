//! How many tokens a picture is that the model reads.
//!
//! Its bytes say nothing of its tokens, but its pixels do, where the provider documents how. Anthropic
//! counts a token for every patch of 28 by 28 pixels (earlier: for every 750 pixels) and only ever makes a
//! picture smaller, so the pixels in its header bound it for every model. OpenAI's rule differs by model,
//! with a largest size for each that is listed here, whatever the picture's own; of the models after them
//! no rule is known here. What has no rule, or no header that can be read, is bounded by the context window.
//!
//! Sources: documented, "Images and vision" of both providers, as read by November 2026.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::route::Api;

/// Where a part has its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PictureAt {
    /// `image_url.url` and `image_url.detail`.
    Nested,
    /// `image_url` and `detail`.
    Flat,
    /// `source`, with a type.
    Source,
}

/// A picture that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) tokens: u64,
    /// Bytes of the request that are it, and no text.
    pub(super) bytes: u64,
}

/// What surrounds a picture in the prompt.
const FRAME: u64 = 16;

/// OpenAI's models with a documented rule, and the most tokens that one picture takes. By tiles: of a
/// picture within 2,048 by 768 pixels there are eight, on top of a base. By patches: 1,536 of them, times a
/// factor. A model's dated snapshots follow its rule; its other variants do not.
const OPENAI: &[(&str, u64)] = &[
    ("gpt-4o", 85 + 8 * 170),
    ("gpt-4.1", 85 + 8 * 170),
    ("gpt-4o-mini", 2_833 + 8 * 5_667),
    ("gpt-5", 70 + 8 * 140),
    ("gpt-5-chat-latest", 70 + 8 * 140),
    ("o1", 75 + 8 * 150),
    ("o1-pro", 75 + 8 * 150),
    ("o3", 75 + 8 * 150),
    // 1,536 patches times 1.62, 2.46 and 1.72.
    ("gpt-5-mini", 2_489),
    ("gpt-4.1-mini", 2_489),
    ("gpt-5-nano", 3_779),
    ("gpt-4.1-nano", 3_779),
    ("o4-mini", 2_642),
];

/// The picture of a part, if its tokens are bounded.
pub(super) fn picture(api: Api, model: &str, at: PictureAt, part: &Map<String, Value>) -> Option<Picture> {
    let text = |object: &Map<String, Value>, field: &str| object.get(field)?.as_str().map(str::to_owned);
    match (api, at) {
        (Api::Anthropic, PictureAt::Source) => {
            let source = part.get("source")?.as_object()?;
            if source.get("type")?.as_str() != Some("base64") {
                return None;
            }
            let data = source.get("data")?.as_str()?;
            let (width, height) = pixels(&STANDARD.decode(data).ok()?)?;
            // Patches of 27 are at least as many as patches of 28, and as the pixels divided by 750.
            let patches = width.div_ceil(27).checked_mul(height.div_ceil(27))?;
            Some(Picture {
                tokens: patches.saturating_add(FRAME),
                bytes: length(data),
            })
        }
        (Api::Openai, PictureAt::Nested | PictureAt::Flat) => {
            let (url, detail) = match at {
                PictureAt::Nested => {
                    let image = part.get("image_url")?.as_object()?;
                    (image.get("url")?.as_str()?, text(image, "detail"))
                }
                _ => (part.get("image_url")?.as_str()?, text(part, "detail")),
            };
            // As large as it is: no model that is listed has that.
            if detail.as_deref() == Some("original") {
                return None;
            }
            let most = OPENAI.iter().find(|(name, _)| is_or_dates(model, name))?.1;
            // A link is text of the request; it stays in its bytes.
            let bytes = if url.starts_with("data:image/") { length(url) } else { 0 };
            Some(Picture {
                tokens: most + FRAME,
                bytes,
            })
        }
        _ => None,
    }
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(0)
}

/// Whether a model is this one or a dated snapshot of it: `gpt-4o-2024-08-06`.
fn is_or_dates(model: &str, name: &str) -> bool {
    model.strip_prefix(name).is_some_and(|rest| {
        let date: Vec<&str> = rest.split('-').collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        rest.is_empty() || (date.len() == 4 && date[0].is_empty() && date[1..].iter().all(is_number))
    })
}

/// Width and height, from the header.
fn pixels(data: &[u8]) -> Option<(u64, u64)> {
    let (width, height) = png(data).or_else(|| webp(data)).or_else(|| jpeg(data))?;
    (width > 0 && height > 0).then_some((width, height))
}

fn png(data: &[u8]) -> Option<(u64, u64)> {
    let header = data.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    if header.get(4..8)? != b"IHDR" {
        return None;
    }
    let number = |at: usize| {
        header
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
            .map(u64::from)
    };
    Some((number(8)?, number(12)?))
}

fn webp(data: &[u8]) -> Option<(u64, u64)> {
    if data.get(..4)? != b"RIFF" || data.get(8..12)? != b"WEBP" {
        return None;
    }
    let byte = |at: usize| data.get(at).copied().map(u64::from);
    let short = |at: usize| Some(byte(at)? | byte(at + 1)? << 8);
    match data.get(12..16)? {
        // Lossy: a key frame's start code, then 14 bits each.
        b"VP8 " if data.get(23..26)? == b"\x9d\x01\x2a" => Some((short(26)? & 0x3FFF, short(28)? & 0x3FFF)),
        // Lossless: 14 bits each, less one.
        b"VP8L" if byte(20)? == 0x2F => {
            let bits = short(21)? | short(23)? << 16;
            Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        // Extended: the canvas, 24 bits each, less one.
        b"VP8X" => Some(((short(24)? | byte(26)? << 16) + 1, (short(27)? | byte(29)? << 16) + 1)),
        _ => None,
    }
}

/// The largest frame that is declared before the first scan.
fn jpeg(data: &[u8]) -> Option<(u64, u64)> {
    let mut at = data.starts_with(b"\xFF\xD8").then_some(2_usize)?;
    let mut found: Option<(u64, u64)> = None;
    loop {
        if *data.get(at)? != 0xFF {
            return None;
        }
        let marker = *data.get(at + 1)?;
        match marker {
            // Filling.
            0xFF => {
                at += 1;
                continue;
            }
            // The first scan, or the end.
            0xDA | 0xD9 => return found,
            // Markers without a length belong into a scan.
            0x01 | 0xD0..=0xD8 => return None,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(data.get(at + 2..at + 4)?.try_into().ok()?));
        let is_frame = matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC);
        if is_frame {
            let number = |from: usize| {
                let bytes = data.get(from..from + 2)?.try_into().ok()?;
                Some(u64::from(u16::from_be_bytes(bytes)))
            };
            let (height, width) = (number(at + 5)?, number(at + 7)?);
            let before = found.unwrap_or_default();
            found = Some((before.0.max(width), before.1.max(height)));
        }
        at = at.checked_add(2)?.checked_add(length.max(2))?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn a_png(width: u32, height: u32) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        png.extend([8, 6, 0, 0, 0]);
        png
    }

    /// A frame of 600 by 400 after a comment.
    const A_JPEG: &[u8] =
        b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xFF\xFE\0\x03c\xFF\xC2\0\x11\x08\x01\x90\x02\x58\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xFF\xDA";

    #[test]
    fn pixels_are_read_from_the_header() {
        assert_eq!(pixels(&a_png(1_000, 2_000)), Some((1_000, 2_000)));
        assert_eq!(pixels(A_JPEG), Some((600, 400)));
        let lossy = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x20\x03\x58\x02";
        assert_eq!(pixels(lossy), Some((800, 600)));
        // 800 x 600: 799 and 599 in 14 bits each.
        let bits = (799_u32 | 599 << 14).to_le_bytes();
        let lossless = [b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2F".as_slice(), &bits].concat();
        assert_eq!(pixels(&lossless), Some((800, 600)));
        let extended = b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x1F\x03\0\x57\x02\0";
        assert_eq!(pixels(extended), Some((800, 600)));
        for none in [
            b"GIF89a\x0A\0\x0A\0".as_slice(),
            b"%PDF-1.7",
            b"",
            b"\xFF\xD8\xFF\xD9",
            &a_png(0, 5),
        ] {
            assert_eq!(pixels(none), None, "{none:?}");
        }
    }

    #[test]
    fn anthropics_rule_needs_the_pixels_and_openais_the_model() {
        let data = STANDARD.encode(a_png(1_000, 1_000));
        let block = json!({"source": {"type": "base64", "media_type": "image/png", "data": data}});
        let block = block.as_object().expect("an object");
        let of = picture(Api::Anthropic, "any", PictureAt::Source, block).expect("it is bounded");
        // Documented: about 1,334 tokens by pixels, 36 x 36 by patches.
        assert!((1_334..1_500).contains(&of.tokens), "{of:?}");
        assert_eq!(of.bytes, data.len() as u64);
        let link = json!({"source": {"type": "url", "url": "https://example.com/a.png"}});
        let link = link.as_object().expect("an object");
        assert_eq!(picture(Api::Anthropic, "any", PictureAt::Source, link), None);

        let of = |model: &str, part: &Value, at| {
            picture(Api::Openai, model, at, part.as_object().expect("an object")).map(|picture| picture.tokens)
        };
        let nested = json!({"image_url": {"url": "https://example.com/a.png", "detail": "high"}});
        assert_eq!(of("gpt-4o", &nested, PictureAt::Nested), Some(1_445 + 16));
        assert_eq!(of("gpt-4o-2024-08-06", &nested, PictureAt::Nested), Some(1_445 + 16));
        for other in ["gpt-4o-audio-preview", "gpt-4oo", "gpt-5.4", "gpt-5-pro", "gpt-6-sol"] {
            assert_eq!(of(other, &nested, PictureAt::Nested), None, "{other}");
        }
        let flat = json!({"image_url": "data:image/png;base64,AAAA", "detail": "auto"});
        assert_eq!(of("gpt-5-mini", &flat, PictureAt::Flat), Some(2_489 + 16));
        let original = json!({"image_url": "data:image/png;base64,AAAA", "detail": "original"});
        assert_eq!(of("gpt-5-mini", &original, PictureAt::Flat), None);
        let file = json!({"file_id": "file-1", "detail": "auto"});
        assert_eq!(of("gpt-5-mini", &file, PictureAt::Flat), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(kind in 0_usize..5, tail in prop::collection::vec(any::<u8>(), 0..80)) {
            let starts: [&[u8]; 5] = [b"", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8X", b"\xFF\xD8\xFF", b"RIFF\0\0\0\0WEBP"];
            let _ = pixels(&[starts[kind], &tail].concat());
        }
    }
}
