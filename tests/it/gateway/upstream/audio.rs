//! Audio: transcripts, and speech.
//!
//! The provider has its own idea of how long a recording is, whatever the file says.

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::manner::Manner;
use super::openai::{event, field, form};
use super::prices::{self, Used};
use super::{Answered, Reply, Routed, Seen, Telling, model_of};

pub(super) async fn transcribe(seen: &Seen, manner: &Manner, telling: Telling) -> Routed {
    let Some(parts) = form(seen).await else {
        return Routed::Wrong(400, "the body is no form".to_owned());
    };
    if field(&parts, "file").is_none() {
        return Routed::Wrong(400, "there is no file".to_owned());
    }
    let model = prices::model(field(&parts, "model").unwrap_or_default());
    let by_tokens = model.is_some_and(|model| model.second == 0);
    let used = match by_tokens {
        // Ten tokens a second, and the words of the transcript.
        true => Used {
            input_audio: manner.millis / 100,
            output: u64::try_from(manner.transcript.split(' ').count()).expect("few words"),
            ..Used::default()
        },
        false => Used {
            millis: manner.millis,
            ..Used::default()
        },
    };
    let seconds = |used: &Used| {
        let millis = u32::try_from(used.millis).expect("a short recording");
        f64::from(millis) / 1_000.0
    };
    let usage = |used: &Used| match by_tokens {
        true => json!({ "type": "tokens", "input_tokens": used.input_audio, "output_tokens": used.output,
            "total_tokens": used.input_audio + used.output,
            "input_token_details": { "audio_tokens": used.input_audio, "text_tokens": 0 } }),
        false => json!({ "type": "duration", "seconds": seconds(used) }),
    };
    let usage = super::openai::told(telling, &used, usage);
    let text = &manner.transcript;
    let reply = match field(&parts, "response_format").unwrap_or("json") {
        "text" => Reply::Text("text/plain; charset=utf-8", Bytes::from(format!("{text}\n"))),
        "verbose_json" => {
            let mut whole = json!({ "task": "transcribe", "language": "english", "text": text, "segments": [],
                "duration": seconds(&used) });
            if let Some(usage) = usage {
                whole["usage"] = usage;
            }
            Reply::Json(whole)
        }
        _ if field(&parts, "stream") == Some("true") => {
            let mut done = json!({ "type": "transcript.text.done", "text": text });
            if let Some(usage) = usage {
                done["usage"] = usage;
            }
            let delta = json!({ "type": "transcript.text.delta", "delta": text });
            Reply::Events(vec![event(&delta), event(&done)])
        }
        _ => {
            let mut whole = json!({ "text": text });
            if let Some(usage) = usage {
                whole["usage"] = usage;
            }
            Reply::Json(whole)
        }
    };
    Routed::Call(Box::new(Answered { model, used, reply }))
}

pub(super) fn speak(asked: &Value) -> Routed {
    let text = asked["input"].as_str().unwrap_or_default();
    let used = Used {
        characters: u64::try_from(text.chars().count()).expect("a small text"),
        ..Used::default()
    };
    Routed::Call(Box::new(Answered {
        model: model_of(asked),
        used,
        reply: Reply::Text("audio/mpeg", Bytes::from_static(b"ID3 the spoken words")),
    }))
}

/// A recording: so many milliseconds of silence, 8,000 samples of a byte a second.
pub fn wav(millis: u32) -> Vec<u8> {
    let samples = millis * 8;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"RIFF");
    bytes.extend_from_slice(&(36 + samples).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt ");
    bytes.extend_from_slice(&16_u32.to_le_bytes());
    // PCM, one channel, samples and bytes a second, bytes and bits a sample.
    bytes.extend_from_slice(&1_u16.to_le_bytes());
    bytes.extend_from_slice(&1_u16.to_le_bytes());
    bytes.extend_from_slice(&8_000_u32.to_le_bytes());
    bytes.extend_from_slice(&8_000_u32.to_le_bytes());
    bytes.extend_from_slice(&1_u16.to_le_bytes());
    bytes.extend_from_slice(&8_u16.to_le_bytes());
    bytes.extend_from_slice(b"data");
    bytes.extend_from_slice(&samples.to_le_bytes());
    bytes.resize(bytes.len() + usize::try_from(samples).expect("a short recording"), 0x80);
    bytes
}
