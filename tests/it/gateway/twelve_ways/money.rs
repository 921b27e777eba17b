//! What is not counted, counted twice, or held too small.

use backstop::domain::money::Usd;
use base64::Engine as _;
use serde_json::{Value, json};

use super::super::agent::{Agent, CHAT_PATH, MESSAGES_PATH, Reply, chat, message, streamed};
use super::super::place::{Config, Place, cents, total, usd};
use super::super::upstream::audio::wav;
use super::super::upstream::manner::Much;
use super::super::upstream::prices::{CHAT, CLAUDE, EMBED, LONG, UNLISTED, WHISPER};

/// A prompt of so many bytes.
fn prompt(model: &str, bytes: usize) -> Value {
    json!({ "model": model, "max_completion_tokens": 10,
        "messages": [{ "role": "user", "content": "a".repeat(bytes) }] })
}

async fn transcribe(agent: &Agent, file: &[u8], name: &str) -> Reply {
    agent.transcribe(name, file, &[("model", WHISPER.name)]).await
}

/// Way 4. A model that is on no list of prices costs something all the same: it is refused, or charged
/// at a ceiling, never free.
#[tokio::test]
async fn l7_way_04_unpriced_model_is_free() {
    let place = Place::with(total("1.00")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let name = UNLISTED.name;
    for (path, body) in [
        (CHAT_PATH, chat(&UNLISTED, 10)),
        (CHAT_PATH, streamed(chat(&UNLISTED, 10))),
        (MESSAGES_PATH, message(&UNLISTED, 10)),
        (
            "/openai/v1/responses",
            json!({ "model": name, "input": "Hi", "max_output_tokens": 10 }),
        ),
        (
            "/openai/v1/completions",
            json!({ "model": name, "prompt": "Hi", "max_tokens": 10 }),
        ),
        ("/openai/v1/embeddings", json!({ "model": name, "input": "Hi" })),
        (
            "/openai/v1/images/generations",
            json!({ "model": name, "prompt": "Hi" }),
        ),
        (
            "/openai/v1/audio/speech",
            json!({ "model": name, "input": "Hi", "voice": "alloy" }),
        ),
        // One that is priced, by another unit than this route is billed by.
        (CHAT_PATH, chat(&WHISPER, 10)),
        (
            "/openai/v1/images/generations",
            json!({ "model": WHISPER.name, "prompt": "Hi" }),
        ),
    ] {
        worker.post(path, &body).await.refused(422, "price_unknown");
    }
    // No model at all is no way around either.
    let mut nameless = chat(&CHAT, 10);
    nameless.as_object_mut().expect("an object").remove("model");
    for model in [Value::Null, json!(""), json!(7), json!([CHAT.name])] {
        nameless["model"] = model;
        let refused = worker.chat(&nameless).await;
        assert!([400, 422].contains(&refused.status), "{nameless}: {refused:#?}");
    }
    assert_eq!(place.upstream.seen().len(), 0);
    place.close(daemon).await;

    // At a ceiling: 150 dollars a million tokens, whichever kind they are.
    let mut config = Config::with(total("1.00"));
    config.prices = "unknown_model = \"ceiling\"\nceiling_usd_per_million = \"150\"".to_owned();
    let place = Place::new(&config).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let answer = worker.chat(&chat(&UNLISTED, 100)).await.ok();
    assert_eq!(answer.cost(), Usd::from_nanos((3 + 30) * 150_000));
    assert!(place.upstream.count().billed() < answer.cost());
    place.settled(&worker).await;
    place.close(daemon).await;
}

/// Way 6. Each token once, at its own rate: OpenAI's cached tokens are part of its prompt, Anthropic's are
/// beside its input, and a stream tells them in two places. The sums are done by hand.
#[tokio::test]
async fn way_06_cache_tokens_billed_twice() {
    let place = Place::with(total("100")).await;
    place.upstream.manner(|manner| {
        manner.prompt = Much::Exactly(1_000);
        manner.cached = 800;
        manner.reasoned = 20;
        manner.written = (60, 40);
    });
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    // 200 at 2,500, 800 of the cache at 250; 10 written at 10,000, 20 reasoned at 12,000.
    let openai = 200 * 2_500 + 800 * 250 + 10 * 10_000 + 20 * 12_000;
    // 1,000 beside 800 read, 60 kept for five minutes and 40 for an hour; 30 written.
    let anthropic = 1_000 * 3_000 + 800 * 300 + 60 * 3_750 + 40 * 6_000 + 30 * 15_000;
    let mut long = prompt(CHAT.name, 2_000);
    long["max_completion_tokens"] = 30.into();
    let respond = json!({ "model": CHAT.name, "input": "a".repeat(2_000), "max_output_tokens": 30 });
    let mut claude = message(&CLAUDE, 30);
    claude["messages"][0]["content"] = "a".repeat(2_000).into();
    let mut posted = Usd::ZERO;
    for (path, body, cost) in [
        (CHAT_PATH, &long, openai),
        ("/openai/v1/responses", &respond, openai),
        (MESSAGES_PATH, &claude, anthropic),
    ] {
        for body in [body.clone(), streamed(body.clone())] {
            let before = place.upstream.count().billed();
            worker.post(path, &body).await.ok();
            posted = posted.saturating_add(Usd::from_nanos(cost));
            let sums = place.settled(&worker).await;
            assert_eq!(sums.posted, posted, "{path} {}", body["stream"]);
            let billed = place.upstream.count().billed().saturating_sub(before);
            assert_eq!(billed, Usd::from_nanos(cost), "the fixture bills the same");
        }
    }
    let books = place.close(daemon).await;
    books.assert_exact(posted);
}

/// Way 9. What is held covers the dearest tier that the input could reach, and audio by its whole length:
/// where the cheap tier would fit and the dear one does not, the call is refused.
#[tokio::test]
async fn way_09_long_context_and_audio_under_reserved() {
    // 1,500 bytes may be 1,500 tokens, at a ten-thousandth each above a thousand of them.
    let cases = [
        (prompt(LONG.name, 1_500), "0.10", 402),
        (prompt(LONG.name, 1_500), "0.20", 200),
        (prompt(LONG.name, 800), "0.10", 200),
    ];
    for (body, limit, status) in cases {
        let place = Place::with(total(limit)).await;
        place.upstream.manner(|manner| manner.prompt = Much::AllThatIsAllowed);
        let daemon = place.start().await;
        let worker = place.worker(&daemon).await;
        let answer = worker.chat(&body).await;
        assert_eq!(answer.status, status, "{limit}: {answer:#?}");
        let sums = place.settled(&worker).await;
        assert_eq!(
            (sums.posted, sums.overage),
            (place.upstream.count().billed(), Usd::ZERO)
        );
        place.close(daemon).await;
    }

    // A minute of audio costs six tenths of a cent.
    for (limit, status) in [("0.0059", 402), ("0.0065", 200)] {
        let place = Place::with(total(limit)).await;
        place.upstream.manner(|manner| manner.millis = 60_000);
        let daemon = place.start().await;
        let worker = place.worker(&daemon).await;
        let answer = transcribe(&worker, &wav(60_000), "minute.wav").await;
        assert_eq!(answer.status, status, "{limit}: {answer:#?}");
        // A file that nobody can read may be hours of audio in as many bytes.
        let unreadable = transcribe(&worker, &[0x5a; 480_044], "what.wav").await;
        unreadable.refused(402, "budget_exceeded");
        let sums = place.settled(&worker).await;
        assert_eq!(
            (sums.posted, sums.overage),
            (place.upstream.count().billed(), Usd::ZERO)
        );
        place.close(daemon).await;
    }

    // Audio in a chat: sixteen times as dear as the text beside it, and no tokenizer counts it.
    let place = Place::with(total("100")).await;
    place.upstream.manner(|manner| manner.prompt = Much::Exactly(1_000));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let data = base64::engine::general_purpose::STANDARD.encode(wav(10_000));
    let audio = json!({ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } });
    let body = json!({ "model": CHAT.name, "max_completion_tokens": 30,
        "messages": [{ "role": "user", "content": [audio] }] });
    let answer = worker.chat(&body).await.ok();
    assert_eq!(answer.cost(), Usd::from_nanos(500 * 2_500 + 500 * 40_000 + 30 * 10_000));
    let sums = place.settled(&worker).await;
    assert_eq!(
        (sums.posted, sums.overage),
        (place.upstream.count().billed(), Usd::ZERO)
    );
    place.close(daemon).await;
}

/// Way 10. Work that is handed in now and billed later is not metered here: it is refused by name, or has a
/// ceiling that every call of it is charged; and many prompts in one call are many.
#[tokio::test]
async fn way_10_a_batch_slips_through_unbilled() {
    let place = Place::with(total("1.00")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let request = json!({ "custom_id": "one", "params": message(&CLAUDE, 10) });
    for (path, body) in [
        (
            "/openai/v1/batches",
            json!({ "input_file_id": "file-1", "endpoint": "/v1/chat/completions" }),
        ),
        ("/openai/v1/files", json!({ "purpose": "batch" })),
        ("/openai/v1/fine_tuning/jobs", json!({ "model": CHAT.name })),
        ("/openai/v1/realtime/sessions", json!({ "model": CHAT.name })),
        ("/openai/v1/assistants", json!({ "model": CHAT.name })),
        ("/anthropic/v1/messages/batches", json!({ "requests": [request] })),
    ] {
        let refused = worker.post(path, &body).await.refused(403, "route_not_metered");
        assert!(
            refused.body.contains("ceilings"),
            "the line that would admit it: {}",
            refused.body
        );
    }
    // The batch tier of a single call, and one that is answered in the background, are no discount.
    for field in [json!({ "background": true }), json!({ "service_tier": "batch" })] {
        let mut body = json!({ "model": CHAT.name, "input": "Hi", "max_output_tokens": 10 });
        body.as_object_mut()
            .expect("an object")
            .extend(field.as_object().cloned().expect("one"));
        let refused = worker.post("/openai/v1/responses", &body).await;
        assert_eq!(refused.status, 400, "{body}: {refused:#?}");
    }
    assert_eq!(place.upstream.seen().len(), 0);
    let texts = json!({ "model": EMBED.name, "input": vec!["twelve bytes"; 100] });
    let cost = worker.post("/openai/v1/embeddings", &texts).await.ok().cost();
    assert_eq!(cost, Usd::from_nanos(100 * 3 * 20_000));
    place.settled(&worker).await;
    place.close(daemon).await;

    let place = Place::new(&Config {
        upstream: "ceilings = { \"/v1/batches\" = \"0.10\" }".to_owned(),
        more: total("0.35"),
        ..Config::default()
    })
    .await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let batch = json!({ "input_file_id": "file-1", "endpoint": "/v1/chat/completions" });
    for _ in 0..3 {
        worker.post("/openai/v1/batches", &batch).await.ok();
    }
    worker
        .post("/openai/v1/batches", &batch)
        .await
        .refused(402, "budget_exceeded");
    assert_eq!(place.upstream.seen().len(), 3);
    assert_eq!(place.settled(&worker).await.posted, cents(30));
    let spend = place.site.json(&["spend"]).await;
    assert_eq!(usd(&spend["total_usd"]), cents(30));
    place.close(daemon).await;
}
