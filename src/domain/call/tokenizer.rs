//! The exact count of a text's tokens, where the tokenizer is published and takes the text as it is.
//!
//! Bytes bound the tokens of a request, several times too high for ordinary text. That costs nothing while a
//! budget has room, since a hold is settled at what was used; near the end of a budget it refuses calls
//! that would fit. So when the bound by bytes is refused, and only then, the text is counted: `o200k_base`
//! and `cl100k_base` split bytes and never rewrite them, so the count is what the provider bills for the
//! text. That is so of a conversation alone: tools and forms of the output are written out anew (as TypeScript,
//! by what models say of it), so their bytes stand ([`Asked::uncounted`]). What templates add is not text either;
//! of that the documented most is taken ([`Asked::overhead`]), [`AROUND`] tokens for each message, and two
//! tokens more for each text, since the ends of what is joined may be cut otherwise.
//!
//! A model is counted only if it is OpenAI's own, and its tokenizer is published for its very name, with or
//! without a date. Another provider may serve another model under that name, or rewrite its text first. One
//! that only looks like it is bounded by bytes, and so are requests whose text is not all that is read.
//!
//! The tables take some fifty megabytes once they are used, so nothing is loaded before a text is counted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use super::asked::{Asked, ContentFrom};
use super::overhead::MESSAGE;
use crate::domain::id::ModelId;

/// Longer texts are bounded by their bytes: counting takes time, and few models read more anyway.
const MAX_BYTES: usize = 1 << 20;

/// A text is counted in pieces of this many bytes. A word or a gap of a megabyte would take seconds and a
/// hundred megabytes of its pattern's stack.
const PIECE: usize = 8 << 10;

/// Where texts are joined or cut, their ends may be cut into more tokens than each has on its own.
const AT_THE_ENDS: u64 = 2;

/// Tokens that stand around a message or a call of a tool at most. In the published rendering (Harmony, in the
/// README of `openai/harmony`) a call has some 13 of its own: who speaks, on which channel, to whom, in what
/// form, and that it ends. The bytes of the request cover them many times over; a count does not.
const AROUND: u64 = 24;

/// Whose models they are whose tokenizers are published.
const SERVICE: &str = "openai";

/// OpenAI's `tiktoken` 0.14.0 (`tiktoken/model.py`) names these models, or the families that they are of.
const O200K: &[&str] = &[
    "o1",
    "o1-mini",
    "o3",
    "o3-mini",
    "o4-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-4o",
    "gpt-4o-mini",
];
const CL100K: &[&str] = &[
    "gpt-4",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "text-embedding-ada-002",
    "text-embedding-3-small",
    "text-embedding-3-large",
];

/// How the date is written that a model's name may end in: `gpt-4o-2024-08-06`, `gpt-4-0613`.
const DATES: [&[u8]; 2] = [b"-####-##-##", b"-####"];

/// Whether the tokens of this request can be counted: a smaller bound may come of [`refine`].
pub fn is_countable(asked: &Asked) -> bool {
    tokenizer(asked).is_some()
        && asked
            .text
            .as_ref()
            .is_some_and(|texts| bytes(texts).is_some_and(|bytes| bytes <= MAX_BYTES))
}

/// The same request with its input tokens counted instead of bounded by its bytes. `None`: they cannot be
/// counted, or there are no fewer.
pub fn refine(asked: &Asked) -> Option<Asked> {
    let tokenizer = tokenizer(asked)?;
    let texts = asked.text.as_ref()?;
    // Some of it is in the overhead already.
    let around = asked.messages.saturating_mul(AROUND.saturating_sub(MESSAGE));
    let beside = asked.overhead.saturating_add(asked.uncounted).saturating_add(around);
    let counted = tokens(tokenizer, texts)?.saturating_add(beside);
    (counted < asked.most.input_tokens).then(|| {
        let mut refined = asked.clone();
        refined.most.input_tokens = counted;
        refined
    })
}

type Tokenizer = fn() -> &'static CoreBPE;

/// Whether it is for a provider whose tokenizers are published, none of which rewrites a text before it is cut.
/// One that speaks the same API may have any.
pub(super) fn takes_texts_as_they_are(asked: &Asked) -> bool {
    let service = asked.service.as_ref();
    service.is_some_and(|service| service.as_str() == SERVICE)
}

fn tokenizer(asked: &Asked) -> Option<Tokenizer> {
    if !takes_texts_as_they_are(asked) || asked.content != ContentFrom::Request {
        return None;
    }
    of_model(asked.model.as_ref().map(ModelId::as_str)?)
}

fn of_model(model: &str) -> Option<Tokenizer> {
    let is_listed = |names: &[&str]| names.iter().any(|name| is_named(model, name));
    if is_listed(O200K) {
        Some(o200k_base_singleton)
    } else if is_listed(CL100K) {
        Some(cl100k_base_singleton)
    } else {
        None
    }
}

/// Whether it is this name, or this name and a date.
fn is_named(model: &str, name: &str) -> bool {
    let Some(rest) = model.strip_prefix(name).map(str::as_bytes) else {
        return false;
    };
    let is_like = |date: &&[u8]| {
        rest.len() == date.len()
            && rest.iter().zip(date.iter()).all(|(byte, like)| match like {
                b'#' => byte.is_ascii_digit(),
                like => byte == like,
            })
    };
    rest.is_empty() || DATES.iter().any(is_like)
}

fn bytes(texts: &[String]) -> Option<usize> {
    texts.iter().try_fold(0_usize, |sum, text| sum.checked_add(text.len()))
}

/// Tokens of these texts, without what a template adds.
fn tokens(tokenizer: Tokenizer, texts: &[String]) -> Option<u64> {
    if bytes(texts)? > MAX_BYTES {
        return None;
    }
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
    use crate::domain::id::ServiceId;

    fn chat(body: &str) -> Asked {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let mut asked = read(Route::ChatCompletions, &body, &CallRules::default()).expect("understood");
        asked.service = ServiceId::new("openai").ok();
        asked
    }

    fn one(model: &str, text: &str) -> Option<u64> {
        tokens(of_model(model)?, &[text.to_owned()]).map(|count| count - AT_THE_ENDS)
    }

    #[test]
    fn only_openais_own_models_are_counted() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(40);
        let body = format!(r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "{text}"}}]}}"#);
        let mut asked = chat(&body);
        assert!(is_countable(&asked) && refine(&asked).is_some());
        for service in [None, ServiceId::new("azure").ok(), ServiceId::new("openrouter").ok()] {
            asked.service = service;
            assert!(!is_countable(&asked) && refine(&asked).is_none(), "{:?}", asked.service);
        }
        let long = format!(
            r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "{}"}}]}}"#,
            "x".repeat(MAX_BYTES + 1)
        );
        assert!(!is_countable(&chat(&long)));
    }

    /// A name that only begins like a listed one is of another model.
    #[test]
    fn a_model_is_known_by_its_very_name_or_by_a_date_after_it() {
        for model in [
            "gpt-4o",
            "gpt-4o-2024-08-06",
            "gpt-4-0613",
            "gpt-3.5-turbo-0125",
            "gpt-5-mini-2025-08-07",
        ] {
            assert!(of_model(model).is_some(), "{model}");
        }
        for model in [
            "gpt-5.4",
            "gpt-5-codex",
            "gpt-4o-audio-preview",
            "gpt-4o-2024-08-06-x",
            "ft:gpt-4o:acme",
            "gpt-4o-",
            "o3-deep-research",
            "openai/gpt-4o",
        ] {
            assert!(of_model(model).is_none(), "{model}");
        }
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

    /// Around a call of a tool stand about 13 tokens in the published rendering (Harmony): who speaks, on which
    /// channel, to whom, in what form, and that it ends.
    #[test]
    fn each_call_of_a_tool_is_counted_with_what_stands_around_it() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(40);
        let call = r#"{"id":"call_0123456789","type":"function","function":{"name":"f","arguments":"{}"}}"#;
        let body = |calls: &str| {
            format!(
                r#"{{"model":"gpt-5","messages":[{{"role":"user","content":"{text}"}},
                    {{"role":"assistant","content":"x","tool_calls":[{calls}]}}]}}"#
            )
        };
        let counted = |calls: usize| {
            let asked = chat(&body(&vec![call; calls].join(",")));
            refine(&asked).expect("it can be counted").most.input_tokens
        };
        assert!(
            counted(128) - counted(0) >= 128 * (13 + 2),
            "{}",
            counted(128) - counted(0)
        );
    }

    /// OpenAI writes a schema out in its own way, and shows the model more of it than its descriptions.
    #[test]
    fn tools_and_forms_are_bounded_by_their_bytes() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(40);
        let choices: Vec<String> = (0..400).map(|n| format!("\"option number {n}\"")).collect();
        let schema = format!(
            r#"{{"type":"object","title":"T","properties":{{"a":{{"enum":[{}]}}}}}}"#,
            choices.join(",")
        );
        let name = "a_name_of_many_words_that_a_tokenizer_makes_short";
        for more in [
            format!(
                r#""tools":[{{"type":"function","function":{{"name":"{name}","description":"{text}","parameters":{schema}}}}}]"#
            ),
            format!(r#""functions":[{{"name":"{name}","description":"{text}","parameters":{schema}}}]"#),
            format!(
                r#""response_format":{{"type":"json_schema","json_schema":{{"name":"{name}{text}","schema":{schema}}}}}"#
            ),
        ] {
            let asked = chat(&format!(
                r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "{text}"}}], {more}}}"#
            ));
            let counted = one("gpt-4o", &text).expect("a listed model");
            let refined = refine(&asked).expect("its text can be counted").most.input_tokens;
            let bytes = (text.len() + schema.len() + name.len()) as u64;
            assert!(
                refined >= counted + bytes + 2 * 400,
                "{refined} < {counted} + {bytes}: {more}"
            );
            assert!(refined < asked.most.input_tokens);
        }
    }

    /// Where they are offered makes no difference.
    #[test]
    fn tools_within_a_conversation_are_bounded_by_their_bytes() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(40);
        let body = format!(
            r#"{{"model": "gpt-4o", "input": [{{"type": "additional_tools", "role": "developer", "tools": [
                {{"type": "function", "name": "f", "description": "{text}", "parameters": {{}}}}]}},
                {{"role": "user", "content": "{text}"}}]}}"#
        );
        let mut asked = read(Route::Responses, &Bytes::from(body), &CallRules::default()).expect("understood");
        asked.service = ServiceId::new("openai").ok();
        let counted = one("gpt-4o", &text).expect("a listed model");
        let refined = refine(&asked).expect("its text can be counted").most.input_tokens;
        assert!(refined >= counted + text.len() as u64, "{refined}");
        assert!(refined < asked.most.input_tokens);
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
