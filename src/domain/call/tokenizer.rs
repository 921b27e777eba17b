//! The exact count of a text's tokens, where the tokenizer is published and takes the text as it is.
//!
//! Bytes bound the tokens of a request, several times too high for ordinary text. That costs nothing while a
//! budget has room, since a hold is settled at what was used; near the end of a budget it refuses calls
//! that would fit. So when the bound by bytes is refused, and only then, the text is counted: `o200k_base`
//! and `cl100k_base` split bytes and never rewrite them, so the count is what the provider bills for the
//! text. What its templates add is not text; of that the documented most is taken
//! ([`Asked::overhead`]), and two tokens more for each text, since the ends of what is joined may be cut
//! otherwise.
//!
//! A model is counted only if its tokenizer is published for its very name. One that looks like it is
//! bounded by bytes, and so are requests whose text is not all that the model reads.
//!
//! The tables take some fifty megabytes once they are used, so nothing is loaded before a text is counted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use super::asked::{Asked, ContentFrom};

/// Longer texts are bounded by their bytes: counting takes time, and few models read more anyway.
const MAX_BYTES: usize = 1 << 20;

/// A text is counted in pieces of this many bytes. A word or a gap of a megabyte would take seconds and a
/// hundred megabytes of its pattern's stack.
const PIECE: usize = 8 << 10;

/// Where texts are joined or cut, their ends may be cut into more tokens than each has on its own.
const AT_THE_ENDS: u64 = 2;

/// The same request with its input tokens counted instead of bounded by its bytes. `None`: they cannot be
/// counted, or there are no fewer.
pub fn refine(asked: &Asked) -> Option<Asked> {
    if asked.content != ContentFrom::Request {
        return None;
    }
    let texts = asked.text.as_ref()?;
    let counted = tokens(asked.model.as_ref()?.as_str(), texts)?.saturating_add(asked.overhead);
    (counted < asked.most.input_tokens).then(|| {
        let mut refined = asked.clone();
        refined.most.input_tokens = counted;
        refined
    })
}

/// Tokens of these texts for this model, without what a template adds.
fn tokens(model: &str, texts: &[String]) -> Option<u64> {
    let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
    if bytes > MAX_BYTES {
        return None;
    }
    let tokenizer: fn() -> &'static CoreBPE = match get_tokenizer(model)? {
        Tokenizer::O200kBase => o200k_base_singleton,
        Tokenizer::Cl100kBase => cl100k_base_singleton,
        _ => return None,
    };
    // It gives up with a panic on a text that its pattern takes too long for.
    catch_unwind(AssertUnwindSafe(|| {
        let tokenizer = tokenizer();
        let count = |piece: &str| (tokenizer.count_ordinary(piece) as u64).saturating_add(AT_THE_ENDS);
        let pieces = texts.iter().flat_map(|text| pieces(text));
        pieces.map(count).fold(0, u64::saturating_add)
    }))
    .ok()
}

/// The text in pieces that are short enough to be counted one by one.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, after) = text.split_at(text.floor_char_boundary(PIECE));
        rest = (!after.is_empty()).then_some(after);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::call::{CallRules, Route, read};

    fn chat(body: &str) -> Asked {
        read(
            Route::ChatCompletions,
            &Bytes::copy_from_slice(body.as_bytes()),
            &CallRules::default(),
        )
        .expect("understood")
    }

    fn one(model: &str, text: &str) -> Option<u64> {
        tokens(model, &[text.to_owned()]).map(|count| count - AT_THE_ENDS)
    }

    #[test]
    fn a_text_has_the_tokens_that_its_tokenizer_gives_it() {
        for (model, text, count) in [
            ("gpt-4o", "hello world", 2),
            ("gpt-4o", "", 0),
            ("gpt-3.5-turbo", "tiktoken is great!", 6),
            ("gpt-5-mini-2025-08-07", "<|endoftext|>", 7),
            ("text-embedding-3-small", "hello world", 2),
        ] {
            assert_eq!(one(model, text), Some(count), "{model}: {text}");
        }
    }

    #[test]
    fn a_model_without_a_published_tokenizer_is_not_counted() {
        for model in [
            "gpt-6.1-sol",
            "claude-opus-5-5",
            "llama-3",
            "gpt-4ox",
            "text-davinci-003",
        ] {
            assert_eq!(one(model, "hello"), None, "{model}");
        }
        assert_eq!(one("gpt-4o", &"x".repeat(MAX_BYTES + 1)), None);
    }

    #[test]
    fn a_refined_bound_is_below_the_bytes_and_above_the_documented_count() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(40);
        let asked = chat(&format!(
            r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "{text}"}}]}}"#
        ));
        let refined = refine(&asked).expect("it can be counted");
        let counted = one("gpt-4o", &text).expect("a listed model");
        // Three tokens a message, three for the answer's start, and the role: documented.
        assert!(refined.most.input_tokens >= counted + 7);
        assert!(
            refined.most.input_tokens < counted + 120,
            "{}",
            refined.most.input_tokens
        );
        assert!(refined.most.input_tokens < asked.most.input_tokens / 3);
    }

    #[test]
    fn what_is_not_all_text_is_not_counted() {
        let file = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "file",
                        "file": {"file_id": "file-1"}}]}]}"#;
        assert!(refine(&chat(file)).is_none());
    }

    /// A picture whose rule is known is on top of the text.
    #[test]
    fn a_picture_is_counted_by_its_rule() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(40);
        let picture = format!(
            r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": [{{"type": "text", "text": "{text}"}},
                {{"type": "image_url", "image_url": {{"url": "https://example.com/a.png"}}}}]}}]}}"#
        );
        let refined = refine(&chat(&picture)).expect("it can be counted");
        let counted = one("gpt-4o", &text).expect("a listed model");
        // Documented: 85 tokens, and 170 for each of eight tiles.
        let picture = 85 + 8 * 170;
        assert!((counted + picture..counted + picture + 150).contains(&refined.most.input_tokens));
    }

    #[test]
    fn a_long_text_is_counted_in_pieces_and_never_as_less() {
        let text = "Grüße an alle, 2026-11-20: ありがとう! ".repeat(1_000);
        let cut: Vec<&str> = pieces(&text).collect();
        assert_eq!(cut.concat(), text);
        assert!(cut.iter().all(|piece| piece.len() <= PIECE) && cut.len() > 5);
        assert_eq!(pieces("").collect::<Vec<_>>(), [""]);
        let whole = o200k_base_singleton().count_ordinary(&text) as u64;
        let counted = one("gpt-4o", &text).expect("a listed model");
        assert!((whole..whole + 100).contains(&counted), "{counted} for {whole}");
    }

    #[test]
    fn no_text_brings_the_count_down() {
        for text in [
            " ".repeat(8_000),
            "\n".repeat(8_000),
            "a".repeat(8_000),
            "😀".repeat(2_000),
            "' ".repeat(4_000),
        ] {
            let count = one("gpt-4o", &text).expect("it can be counted");
            assert!(count > 0 && count <= text.len() as u64);
        }
    }
}
