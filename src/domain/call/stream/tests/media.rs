//! Sound and images.

use super::*;

#[test]
fn sound_and_images_are_metered_by_their_last_event() {
    let spoken = [
        data(&json!({"type": "transcript.text.delta", "delta": "Hi"})),
        data(
            &json!({"type": "transcript.text.done", "text": "Hi", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 4,
            "total_tokens": 18, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}}),
        ),
    ];
    let outcome = whole(Route::Transcriptions, StreamRules::default(), &spoken.concat());
    assert_eq!(outcome.forwarded, spoken.concat());
    assert_eq!(counted(&outcome.answer), [(C::InputAudio, 14), (C::Output, 4)]);
    assert_eq!(
        whole(Route::Transcriptions, StreamRules::default(), &spoken[0])
            .answer
            .usage,
        None
    );

    let speech = [
        data(&json!({"type": "speech.audio.delta", "audio": "AAAA"})),
        data(
            &json!({"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}),
        ),
    ];
    let answer = whole(Route::Speech, StreamRules::default(), &speech.concat()).answer;
    assert_eq!(counted(&answer), [(C::Input, 14), (C::OutputAudio, 101)]);

    let image = |kind: &str, usage: Value| named(&json!({"type": kind, "b64_json": "A".repeat(5_000), "usage": usage}));
    let usage = json!({"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}});
    let partial = image("image_generation.partial_image", Value::Null);
    let made = image("image_generation.completed", usage.clone());
    let classes = [(C::Input, 10), (C::InputImage, 40), (C::OutputImage, 1056)];
    let stream = [partial.as_str(), &made].concat();
    assert_eq!(
        counted(&whole(Route::ImageGenerations, StreamRules::default(), &stream).answer),
        classes
    );
    let broken = feed(
        Route::ImageGenerations,
        StreamRules::default(),
        &[stream.as_bytes()],
        false,
    );
    assert_eq!(broken.answer.usage, None, "another image may have been on its way");
    let two = whole(Route::ImageGenerations, StreamRules::default(), &made.repeat(2)).answer;
    assert_eq!((two.usage, two.fault), (None, Some(UsageFault::Several)));
}
