//! What is read from a request, what it may cost, and what settles it.

use super::*;
use crate::domain::call::rules::CallRules;
use crate::domain::id::ServiceId;
use crate::domain::price::{Catalogue, TokenClass, settle};

const SOUND: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/cbr.mp3"));

fn text(name: &str, value: &str) -> FormPart {
    FormPart {
        name: name.to_owned(),
        filename: None,
        content_type: None,
        bytes: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn file(name: &str, bytes: &[u8]) -> FormPart {
    FormPart {
        filename: Some("a.bin".to_owned()),
        bytes: Bytes::copy_from_slice(bytes),
        ..text(name, "")
    }
}

fn form(route: Route, parts: &[FormPart]) -> Result<Asked, Rejection> {
    read_form(route, &Bytes::from_static(b"raw"), parts, &CallRules::default())
}

fn transcription(more: &[(&str, &str)]) -> Result<Asked, Rejection> {
    let mut parts = vec![file("file", SOUND)];
    if !more.iter().any(|(name, _)| *name == "model") {
        parts.push(text("model", "whisper-1"));
    }
    parts.extend(more.iter().map(|(name, value)| text(name, value)));
    form(Route::Transcriptions, &parts)
}

fn json(route: Route, body: &str) -> Result<Asked, Rejection> {
    read(route, &Bytes::copy_from_slice(body.as_bytes()), &CallRules::default())
}

fn entry(model: &str) -> PriceEntry {
    let service = ServiceId::new("openai").expect("a name");
    let model = ModelId::new(model).expect("a name");
    let quote = Catalogue::builtin().quote(&service, &model).expect("it is listed");
    (*quote.entry).clone()
}

fn worst(asked: &Asked) -> Usd {
    let entry = entry(asked.model.as_ref().expect("a model").as_str());
    worst_case(asked, &entry).expect("it is media").expect("it is priced")
}

fn usd(text: &str) -> Usd {
    text.parse().expect("an amount")
}

fn code(read: Result<Asked, Rejection>) -> &'static str {
    read.err().map_or("understood", |rejection| rejection.code())
}

#[test]
fn a_recording_is_bounded_by_its_length() {
    let asked = transcription(&[("response_format", "text")]).expect("understood");
    // 3.3 s: four whole ones, and one for good measure, at $0.006 a minute.
    assert_eq!(worst(&asked), usd("0.0005"));
    assert_eq!(asked.most.micros, 5_000_000);
    assert!(asked.media.as_ref().is_some_and(Media::measured));
    assert!(!asked.stream);
    assert_eq!(asked.draft.raw, Bytes::from_static(b"raw"));
    // Without a usage it is settled at the seconds that were heard.
    let usage = asked
        .media
        .as_ref()
        .and_then(|media| media.unreported(&entry("whisper-1"), b"hello"));
    let usage = usage.expect("the file was read");
    assert_eq!(usage.micros, 4_000_000);
    assert_eq!(settle(&usage, &entry("whisper-1")), Ok(usd("0.0004")));
}

/// Half a second of silence: 8 kHz, one channel, 8 bits.
fn half_a_second() -> Vec<u8> {
    let samples = vec![128_u8; 4_000];
    let size = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let mut wav = [b"RIFF".as_slice(), &size(36 + samples.len()), b"WAVEfmt ", &size(16)].concat();
    for two in [1_u16, 1] {
        wav.extend(two.to_le_bytes());
    }
    wav.extend([size(8_000), size(8_000)].concat());
    wav.extend([1, 0, 8, 0]);
    wav.extend([b"data".as_slice(), &size(samples.len()), &samples].concat());
    wav
}

/// Groq bills 10 s of each request at least.
#[test]
fn a_short_recording_is_bounded_and_settled_at_the_least_that_is_billed() {
    let least = PriceEntry {
        min_seconds: Some(10),
        ..entry("whisper-1")
    };
    let ten_seconds = usd("0.001");
    let parts = [file("file", &half_a_second()), text("model", "whisper-1")];
    let asked = form(Route::Transcriptions, &parts).expect("understood");
    assert_eq!(worst_case(&asked, &least).expect("it is media"), Ok(ten_seconds));
    let media = asked.media.as_ref().expect("media");
    let unreported = media
        .unreported(&least, br#"{"text": "Hi"}"#)
        .expect("the file was read");
    let told = |answer: &str| {
        let answer = crate::domain::call::read_answer(Route::Transcriptions, answer.as_bytes());
        answer.expect("an answer").usage.expect("a usage")
    };
    for usage in [
        unreported,
        told(r#"{"text": "Hi", "usage": {"type": "duration", "seconds": 1}}"#),
        told(r#"{"text": "Hi", "duration": 0.5}"#),
        told(r#"{"text": "", "duration": 0.0}"#),
    ] {
        assert_eq!(settle(&usage, &least), Ok(ten_seconds), "{usage:?}");
    }
    // A longer one has its own length.
    let long = told(r#"{"text": "Hi", "usage": {"type": "duration", "seconds": 60}}"#);
    assert_eq!(settle(&long, &least), Ok(usd("0.006")));
}

#[test]
fn a_recording_that_cannot_be_read_is_bounded_by_its_bytes_and_never_settled_by_them() {
    let parts = [file("file", &[7; 30_000]), text("model", "whisper-1")];
    let asked = form(Route::Transcriptions, &parts).expect("understood");
    assert_eq!(asked.most.micros, 61_000_000);
    let media = asked.media.expect("media");
    assert!(!media.measured());
    assert_eq!(media.unreported(&entry("whisper-1"), b"hello"), None);
}

#[test]
fn a_model_with_both_rates_is_bounded_by_the_dearer() {
    let whisper = worst(&transcription(&[]).expect("understood"));
    let asked = transcription(&[("model", "gpt-4o-transcribe")]).expect("understood");
    // 2,000 tokens out at $10 a million, and 164 in at $2.50.
    assert_eq!(worst(&asked), usd("0.02041"));
    assert!(worst(&asked) > whisper);
    let media = asked.media.expect("media");
    assert_eq!(media.unreported(&entry("gpt-4o-transcribe"), b""), None);
    let chunked = [("model", "gpt-4o-transcribe-diarize"), ("chunking_strategy", "auto")];
    let chunked = worst(&transcription(&chunked).expect("understood"));
    assert!(chunked > usd("0.02041"), "{chunked}");
    let prompt = "x".repeat(10_000);
    let with_prompt = transcription(&[("model", "gpt-4o-transcribe"), ("prompt", &prompt)]).expect("understood");
    // 10,164 tokens, and no more than the model's window would ever be read.
    assert_eq!(worst(&with_prompt), usd("0.04541"));
}

#[test]
fn every_documented_field_is_known_and_no_other() {
    let all = [
        ("chunking_strategy[type]", "server_vad"),
        ("chunking_strategy[threshold]", "0.5"),
        ("include[]", "logprobs"),
        ("keywords[]", "one"),
        ("keywords[]", "two"),
        ("known_speaker_names[]", "agent"),
        ("known_speaker_references[]", "data:audio/wav;base64,AAAA"),
        ("language", "en"),
        ("languages[]", "en"),
        ("prompt", "hello"),
        ("response_format", "json"),
        ("stream", "true"),
        ("temperature", "0"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ];
    let asked = transcription(&all).expect("understood");
    assert!(asked.stream);
    // A known speaker's sample is ten seconds at most.
    assert_eq!(asked.most.micros, 15_000_000);
    for (fields, expected) in [
        (&[("speed", "2")][..], "field_not_metered"),
        (&[("chunking_strategy[other]", "1")], "field_not_metered"),
        (&[("stream", "True")], "invalid_field"),
        (&[("stream", "1")], "invalid_field"),
        (&[("language", "en"), ("language", "de")], "invalid_field"),
        (&[("include", "logprobs"), ("include[]", "logprobs")], "invalid_field"),
        (
            &[("chunking_strategy", "auto"), ("chunking_strategy[type]", "server_vad")],
            "invalid_field",
        ),
        (
            &[("model", "whisper-1"), ("model", "gpt-4o-transcribe")],
            "invalid_field",
        ),
        (&[("model[]", "whisper-1")], "invalid_field"),
        (&[("model", "whisper\t1")], "invalid_field"),
        (&[("response_format", "xml")], "invalid_field"),
        (&[("language[a][b]", "en")], "invalid_field"),
    ] {
        assert_eq!(code(transcription(fields)), expected, "{fields:?}");
    }
    let two_files = [file("file", SOUND), file("file", SOUND), text("model", "whisper-1")];
    assert_eq!(code(form(Route::Transcriptions, &two_files)), "invalid_field");
    assert_eq!(
        code(form(
            Route::Transcriptions,
            &[text("file", "x"), text("model", "whisper-1")]
        )),
        "invalid_field"
    );
    assert_eq!(
        code(form(Route::Transcriptions, &[file("file", SOUND)])),
        "invalid_field"
    );
    assert_eq!(
        code(form(Route::Transcriptions, &[text("model", "whisper-1")])),
        "invalid_field"
    );
    let translated = [file("file", SOUND), text("model", "whisper-1"), text("language", "en")];
    assert_eq!(code(form(Route::Translations, &translated)), "field_not_metered");
    assert!(form(Route::Translations, &translated[..2]).is_ok());
}

#[test]
fn a_field_that_the_operator_admits_is_admitted() {
    let rules = CallRules {
        free_fields: ["audio/transcriptions:vendor".to_owned()].into(),
        ..CallRules::default()
    };
    let parts = [file("file", SOUND), text("model", "whisper-1"), text("vendor", "x")];
    let raw = Bytes::new();
    assert!(read_form(Route::Transcriptions, &raw, &parts, &rules).is_ok());
    assert!(read_form(Route::Transcriptions, &raw, &parts, &CallRules::default()).is_err());
}

#[test]
fn speech_is_bounded_by_its_characters_and_settled_by_them() {
    let body = r#"{"model": "tts-1", "input": "Hello, wörld 🦀", "voice": "alloy", "response_format": "opus"}"#;
    let asked = json(Route::Speech, body).expect("understood");
    // Fourteen characters, one of which may count twice, at $15 a million.
    assert_eq!(worst(&asked), usd("0.000225"));
    let usage = asked
        .media
        .as_ref()
        .and_then(|media| media.unreported(&entry("tts-1"), b"sound"));
    assert_eq!(settle(&usage.expect("certain"), &entry("tts-1")), Ok(usd("0.000225")));
    for (body, expected) in [
        (r#"{"model": "tts-1", "voice": "alloy"}"#, "invalid_field"),
        (r#"{"input": "x", "voice": "alloy"}"#, "invalid_field"),
        (
            r#"{"model": "tts-1", "input": "x", "voice": {"id": "voice_1"}}"#,
            "understood",
        ),
        (
            r#"{"model": "tts-1", "input": "x", "voice": {"name": "voice_1"}}"#,
            "field_not_metered",
        ),
        (r#"{"model": "tts-1", "input": "x", "seed": 1}"#, "field_not_metered"),
        (r#"{"model": "tts-1", "input": "x", "speed": 0.1}"#, "invalid_field"),
        (r#"{"model": "tts-1", "input": ["x"]}"#, "invalid_field"),
        (r#"{"model": "tts-1", "input": "x", "input": "y"}"#, "malformed_body"),
        ("[]", "malformed_body"),
    ] {
        assert_eq!(code(json(Route::Speech, body)), expected, "{body}");
    }
}

#[test]
fn speech_by_tokens_is_settled_by_the_sound_that_came_back() {
    let body = r#"{"model": "gpt-4o-mini-tts", "input": "Hello", "voice": "alloy", "instructions": "Slowly."}"#;
    let asked = json(Route::Speech, body).expect("understood");
    let price = entry("gpt-4o-mini-tts");
    // A minute at least, for a text as short as this.
    assert!(worst(&asked) > usd("0.015"), "{}", worst(&asked));
    let media = asked.media.as_ref().expect("media");
    let usage = media.unreported(&price, SOUND).expect("the sound can be read");
    let heard = usage.tokens.get(TokenClass::OutputAudio);
    // 3.3 s at 1,250 tokens a minute.
    assert!((66..=70).contains(&heard), "{heard}");
    assert!(settle(&usage, &price).expect("priced") < worst(&asked));
    assert_eq!(media.unreported(&price, b"no sound"), None);
    assert_eq!(media.unreported(&price, b""), None);
    let pcm = body.replace('}', r#", "response_format": "pcm"}"#);
    let pcm = json(Route::Speech, &pcm).expect("understood").media.expect("media");
    let usage = pcm.unreported(&price, &[0; 96_000]).expect("two seconds");
    assert_eq!(usage.tokens.get(TokenClass::OutputAudio), 42);
    let events = body.replace('}', r#", "stream_format": "sse"}"#);
    let events = json(Route::Speech, &events).expect("understood");
    assert!(events.stream);
    assert_eq!(events.media.and_then(|media| media.unreported(&price, SOUND)), None);
    let slow = body.replace('}', r#", "speed": 0.25}"#);
    let slow = json(Route::Speech, &slow).expect("understood");
    assert!(worst(&slow) > worst(&asked));
}

#[test]
fn images_are_bounded_by_their_number_size_and_quality() {
    let of = |more: &str| {
        let body = format!(r#"{{"model": "gpt-image-1.5", "prompt": "a crab"{more}}}"#);
        json(Route::ImageGenerations, &body).map(|asked| worst(&asked))
    };
    let low = of(r#", "quality": "low", "size": "1024x1024""#).expect("understood");
    // 272 tokens and 1,024 beside at $32 a million, 262 in at the rate of images, $8.
    assert_eq!(low, usd("0.043568"));
    let more = |fields: &str| of(fields).expect("understood") > low;
    assert!(more(r#", "quality": "high", "size": "1024x1024""#));
    assert!(more(r#", "quality": "low", "size": "auto""#));
    assert!(more(
        r#", "quality": "low", "size": "1024x1024", "partial_images": 3, "stream": true"#
    ));
    assert!(more(
        r#", "quality": "low", "size": "1024x1024", "output_format": "gif""#
    ));
    let ten = of(r#", "quality": "low", "size": "1024x1024", "n": 10"#).expect("understood");
    assert_eq!(ten, usd("0.43568"));
    for (more, expected) in [
        (r#", "n": 11"#, "invalid_field"),
        (r#", "n": 0"#, "invalid_field"),
        (r#", "n": "2""#, "invalid_field"),
        (r#", "size": "1024X1024""#, "invalid_field"),
        (r#", "size": "01024x1024""#, "invalid_field"),
        (r#", "size": "99999x1""#, "invalid_field"),
        (r#", "quality": "ultra""#, "invalid_field"),
        (r#", "output_format": "svg""#, "invalid_field"),
        (r#", "svg": {"model": "gpt-5"}"#, "field_not_metered"),
        (r#", "seed": 4"#, "field_not_metered"),
        (
            r#", "stream": null, "user": "me", "background": "opaque", "moderation": "low""#,
            "understood",
        ),
    ] {
        let body = format!(r#"{{"model": "gpt-image-1.5", "prompt": "a crab"{more}}}"#);
        assert_eq!(code(json(Route::ImageGenerations, &body)), expected, "{more}");
    }
    assert_eq!(
        code(json(Route::ImageGenerations, r#"{"prompt": "a crab"}"#)),
        "invalid_field"
    );
    let later = json(
        Route::ImageGenerations,
        r#"{"model": "gpt-image-2.5-flare", "prompt": "a crab"}"#,
    );
    let later = later.expect("understood");
    let refused = worst_case(&later, &entry("gpt-image-2.5-flare")).expect("media");
    assert_eq!(refused.expect_err("not published").code(), "invalid_field");
}

#[test]
fn images_that_are_read_cost_too() {
    let edit = |parts: &[FormPart]| {
        let mut all = vec![
            text("model", "gpt-image-1.5"),
            text("prompt", "a crab"),
            text("quality", "low"),
        ];
        all.extend_from_slice(parts);
        form(Route::ImageEdits, &all)
    };
    let one = worst(&edit(&[file("image", b"png")]).expect("understood"));
    let two = worst(&edit(&[file("image[]", b"png"), file("image[]", b"png")]).expect("understood"));
    let masked = worst(&edit(&[file("image", b"png"), file("mask", b"png")]).expect("understood"));
    let faithful = worst(&edit(&[file("image", b"png"), text("input_fidelity", "high")]).expect("understood"));
    assert_eq!(two, masked);
    assert!(one < two && one < faithful);
    assert_eq!(code(edit(&[])), "invalid_field");
    assert_eq!(code(edit(&[file("image", b"1"), file("image", b"2")])), "invalid_field");
    assert_eq!(
        code(edit(&[file("image", b"1"), file("image[]", b"2")])),
        "invalid_field"
    );
    assert_eq!(code(edit(&vec![file("image[]", b"png"); 19])), "invalid_field");
    assert_eq!(code(edit(&[text("image", "png")])), "invalid_field");
    assert_eq!(code(edit(&[file("image", b"png"), text("n", "+1")])), "invalid_field");
    assert_eq!(code(edit(&[file("image", b"png"), text("n", "2")])), "understood");
    let by_url = r#"{"model": "gpt-image-1.5", "prompt": "a crab", "quality": "low",
                     "images": [{"image_url": "https://example.com/a.png"}]}"#;
    let by_url = json(Route::ImageEdits, by_url).expect("understood");
    assert_eq!(worst(&by_url), one);
    for images in [r"[]", r#"["a"]"#, r#"[{"path": "a"}]"#] {
        let body = format!(r#"{{"model": "gpt-image-1.5", "prompt": "x", "images": {images}}}"#);
        assert!(json(Route::ImageEdits, &body).is_err(), "{images}");
    }
}

#[test]
fn an_image_that_is_sold_apiece_is_bounded_by_the_number_asked_for() {
    let mut price = entry("gpt-image-1");
    price.bands.clear();
    price.units.image = price::Rate::per_unit("0.04").ok();
    let body = r#"{"model": "dall-e-3", "prompt": "a crab", "n": 3}"#;
    let asked = json(Route::ImageGenerations, body).expect("understood");
    assert_eq!(worst_case(&asked, &price), Some(Ok(usd("0.12"))));
    // Its answer says how many there are; one that does not is no answer.
    assert_eq!(asked.media.and_then(|media| media.unreported(&price, b"{}")), None);
}

#[test]
fn a_json_answer_without_a_usage_must_be_a_transcription() {
    let price = entry("whisper-1");
    let media = transcription(&[]).expect("understood").media.expect("media");
    let settled = |answer: &[u8]| media.unreported(&price, answer).map(|usage| usage.micros);
    assert_eq!(settled(br#"{"text": ""}"#), Some(4_000_000));
    for answer in [
        &b""[..],
        b"{}",
        b"<html></html>",
        br#"{"error": {"message": "no"}}"#,
        b"[]",
    ] {
        assert_eq!(settled(answer), None);
    }
}
