//! How many tokens an image may be.
//!
//! Documented for the first GPT image models: a table by quality and size. For `gpt-image-2` the provider
//! publishes a calculator instead, whose rule is known: an edge of 16, 48 or 96 patches by quality, the
//! shorter one in proportion, times an area that grows with the pixels. The models after it share its price
//! and sizes, and their `low`, `medium` and `high` are taken to share its rule; what their `xhigh`, `max`
//! and automatic choice make of an image is published nowhere, so these are refused by name unless the
//! model's price states how much it writes at most (**L7**).

use crate::domain::call::rejection::CallRejection;

/// A size in pixels; `None` lets the provider choose.
pub(super) type Size = Option<(u64, u64)>;

/// Tokens of a partial image, which a stream may bring before the whole one. Documented.
pub(super) const PARTIAL_TOKENS: u64 = 100;

/// Text that a model may write beside an image (a plan, a prompt that it rewrote). Its length is not
/// documented; these are taken at the rate of the image, which is several times that of text.
pub(super) const BESIDE_TOKENS: u64 = 1_024;

/// An image that is read: 65 and 129 for each of eight tiles at most, and 6,240 more at high fidelity.
const READ_LOW: u64 = 65 + 129 * 8;
const READ_HIGH: u64 = READ_LOW + 6_240;

/// Whose rule a model follows.
enum Family {
    /// `gpt-image-1` and its kin: a table.
    First,
    /// `gpt-image-2`: a rule.
    Second,
    /// Those after it, with qualities that nobody has published.
    Later,
    Unknown,
}

fn family(model: &str) -> Family {
    let is = |name: &str| {
        model
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if is("gpt-image-1") || is("gpt-image-1.5") {
        Family::First
    } else if is("gpt-image-2") {
        Family::Second
    } else if is("gpt-image-2.5") || is("gpt-image-2.6") || is("chatgpt-image") {
        Family::Later
    } else {
        Family::Unknown
    }
}

/// Tokens of one image that is made, at most.
pub(super) fn made(model: &str, quality: Option<&str>, size: Size, stated: Option<u64>) -> Result<u64, CallRejection> {
    if let Some(stated) = stated {
        return Ok(stated);
    }
    let unknown = |field: &str, problem: String| {
        Err(CallRejection::Field {
            field: field.to_owned(),
            problem,
        })
    };
    match (family(model), quality) {
        (Family::First, quality) => Ok(table(quality, size)),
        (Family::Second, None | Some("auto")) => Ok(rule(96, size)),
        (Family::Second | Family::Later, Some("low")) => Ok(rule(16, size)),
        (Family::Second | Family::Later, Some("medium")) => Ok(rule(48, size)),
        (Family::Second | Family::Later, Some("high")) => Ok(rule(96, size)),
        (Family::Second | Family::Later, quality) => unknown(
            "quality",
            format!(
                "what {} may cost with {model} is not published: ask for low, medium or high, \
                 or give the model a price that states its max_output",
                quality.unwrap_or("auto")
            ),
        ),
        (Family::Unknown, _) => unknown(
            "model",
            format!("how many tokens an image of {model} is, is not known: give it a price that states its max_output"),
        ),
    }
}

/// The documented table. A size that is not in it takes the largest.
fn table(quality: Option<&str>, size: Size) -> u64 {
    let [square, tall, wide] = match quality {
        Some("low") => [272, 408, 400],
        Some("medium") => [1_056, 1_584, 1_568],
        // `auto` may be any of them.
        _ => [4_160, 6_240, 6_208],
    };
    match size {
        Some((1_024, 1_024)) => square,
        Some((1_536, 1_024)) => wide,
        _ => tall,
    }
}

/// The rule of the provider's calculator, rounded up. Of all sizes that are sold the square of 8,294,400
/// pixels takes the most.
fn rule(edge: u64, size: Size) -> u64 {
    let (width, height) = size.unwrap_or((2_880, 2_880));
    let (short, long) = (width.min(height).max(1), width.max(height).max(1));
    let patches = (edge * short).div_ceil(long) * edge;
    (patches * (2_000_000 + width * height)).div_ceil(4_000_000)
}

/// Tokens of one image that is read, at most. `low` is what the first models do unless they are asked for
/// more, and the others have no such choice.
pub(super) fn read(model: &str, fidelity: Option<&str>) -> u64 {
    match (family(model), fidelity) {
        (Family::First, None | Some("low")) => READ_LOW,
        _ => READ_HIGH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_sizes_cost_what_is_documented() {
        for (model, quality, size, tokens) in [
            ("gpt-image-1", Some("low"), Some((1_024, 1_024)), 272),
            ("gpt-image-1-mini", Some("medium"), Some((1_024, 1_536)), 1_584),
            ("gpt-image-1.5", Some("high"), Some((1_536, 1_024)), 6_208),
            ("gpt-image-1.5", None, None, 6_240),
            ("gpt-image-1.5-2025-12-16", Some("auto"), Some((1_024, 1_024)), 4_160),
        ] {
            assert_eq!(
                made(model, quality, size, None),
                Ok(tokens),
                "{model} {quality:?} {size:?}"
            );
        }
        // What the calculator shows for these; the bound rounds up where it rounds to the nearest.
        for (size, shown) in [
            ((1_024, 1_024), 7_024),
            ((1_536, 1_024), 5_488),
            ((1_792, 1_024), 5_063),
            ((3_584, 2_048), 12_329),
        ] {
            let bound = made("gpt-image-2", Some("high"), Some(size), None).expect("it is published");
            assert!(
                (shown..shown + shown / 50).contains(&bound),
                "{size:?}: {bound} for {shown}"
            );
        }
    }

    #[test]
    fn no_size_of_one_quality_is_above_the_one_that_is_taken_for_auto() {
        let auto = made("gpt-image-2", None, None, None).expect("it is published");
        for width in (480..=3_840).step_by(16) {
            for height in (480..=3_840).step_by(16).filter(|height| width * height <= 8_294_400) {
                assert!(rule(96, Some((width, height))) <= auto, "{width}x{height}");
            }
        }
    }

    #[test]
    fn what_is_published_nowhere_is_refused_unless_the_price_states_it() {
        for (model, quality) in [
            ("gpt-image-2.5-flare", None),
            ("gpt-image-2.5-sunburst", Some("max")),
            ("gpt-image-2", Some("xhigh")),
            ("gpt-image-20", Some("low")),
            ("somebody-elses", None),
        ] {
            assert!(made(model, quality, None, None).is_err(), "{model} {quality:?}");
            assert_eq!(made(model, quality, None, Some(9_000)), Ok(9_000));
        }
    }
}
