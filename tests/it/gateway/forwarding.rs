//! What reaches the provider, and what reaches the client: bytes that nobody had reason to change are not
//! changed, limits are set and told, and neither side sees the other's secrets.

use backstop::domain::money::Usd;
use serde_json::{Value, json};

use super::agent::{CHAT_PATH, MESSAGES_PATH, chat, message, open_chat, streamed};
use super::place::{Config, Place, WORKER, total};
use super::upstream::manner::{Fault, Much};
use super::upstream::prices::{CHAT, CLAUDE, EMBED};
use super::upstream::{ANTHROPIC_KEY, OPENAI_KEY};
use crate::harness::raw::Raw;

#[tokio::test]
async fn what_needs_no_change_is_forwarded_byte_for_byte() {
    let place = Place::with(total("100")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for body in [
        r#"{ "max_completion_tokens" : 50,"messages":[{"content":"S\u0061y  ✓","role":"user"}],  "model":"fixture-chat" }"#,
        "{\n\t\"model\": \"fixture-chat\", \"stream\": true, \"stream_options\": {\"include_usage\": true},\n\
         \"max_tokens\": 50, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n",
    ] {
        let request = worker
            .posting(CHAT_PATH)
            .header("content-type", "application/json")
            .body(body);
        let answer = worker.send(request).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:#?}");
        assert_eq!(String::from_utf8_lossy(&place.upstream.last().body), body);
    }
    // A number that not every parser reads as an integer is refused, never rewritten.
    let request = worker
        .posting(CHAT_PATH)
        .header("content-type", "application/json")
        .body(r#"{"model":"fixture-chat","max_tokens":5e1,"messages":[{"role":"user","content":"x"}]}"#);
    let answer = worker.send(request).await.expect("an answer");
    answer.refused(400, "invalid_field");
    assert_eq!(place.upstream.seen().len(), 2, "it was not forwarded");
    place.settled(&worker).await;
    place.close(daemon).await;
}

#[tokio::test]
async fn a_limit_is_set_lowered_and_told() {
    let place = Place::new(&Config {
        gateway: "max_tokens = 40\ndefault_max_tokens = 30\nleast_tokens = 10".to_owned(),
        more: total("100"),
        ..Config::default()
    })
    .await;
    place.upstream.manner(|manner| manner.output = Much::AllThatIsAllowed);
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut old = chat(&CHAT, 20);
    old["max_tokens"] = old["max_completion_tokens"].take();
    old.as_object_mut().expect("an object").remove("max_completion_tokens");
    let mut old_high = old.clone();
    old_high["max_tokens"] = 1_000.into();
    // A request, the limit that the provider sees and in which spelling, and what the client is told.
    let cases = [
        (chat(&CHAT, 20), "max_completion_tokens", 20, None),
        (chat(&CHAT, 1_000), "max_completion_tokens", 40, Some("40")),
        (open_chat(&CHAT), "max_completion_tokens", 30, Some("30")),
        (old, "max_tokens", 20, None),
        (old_high, "max_tokens", 40, Some("40")),
    ];
    for (request, field, limit, told) in cases {
        for request in [request.clone(), streamed(request)] {
            let answer = worker.chat(&request).await.ok();
            let seen = place.upstream.last().json();
            assert_eq!(seen[field], limit, "{request} became {seen}");
            let limits = ["max_tokens", "max_completion_tokens"];
            let set = limits.iter().filter(|field| !seen[**field].is_null()).count();
            assert_eq!(set, 1, "one limit, in one spelling: {seen}");
            assert_eq!(answer.header("x-backstop-max-tokens"), told, "{answer:#?}");
        }
    }
    let answer = worker.messages(&message(&CLAUDE, 1_000)).await.ok();
    assert_eq!(place.upstream.last().json()["max_tokens"], 40);
    assert_eq!(answer.header("x-backstop-max-tokens"), Some("40"));
    let asked = json!({ "model": CHAT.name, "input": "Hi" });
    worker.post("/openai/v1/responses", &asked).await.ok();
    assert_eq!(place.upstream.last().json()["max_output_tokens"], 30);
    let asked = json!({ "model": CHAT.name, "prompt": "Once" });
    worker.post("/openai/v1/completions", &asked).await.ok();
    // This API's own default is documented, and lower than ours.
    assert_eq!(place.upstream.last().json()["max_tokens"], 16);
    place.settled(&worker).await;
    // Answers that ended on the limit are worth a warning and a count.
    assert!(daemon.log().contains("ended on the limit"), "{}", daemon.log());
    assert_eq!(place.metric(&daemon, "backstop_calls_on_limit_total").await, Some(13.0));
    let books = place.close(daemon).await;
    books.assert_exact(place.upstream.count().billed());
}

/// A usage is forced on every stream; the client sees it only if it asked for it.
#[tokio::test]
async fn usage_is_forced_and_taken_out_again() {
    let place = Place::with(total("100")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let plain = streamed(chat(&CHAT, 50));
    let mut wanted = plain.clone();
    wanted["stream_options"] = json!({ "include_usage": true });
    let mut unwanted = plain.clone();
    unwanted["stream_options"] = json!({ "include_usage": false });
    for (request, is_told) in [(plain, false), (wanted, true), (unwanted, false)] {
        let answer = worker.chat(&request).await.ok();
        assert_eq!(place.upstream.last().json()["stream_options"]["include_usage"], true);
        let events = answer.events();
        let usages = events.iter().filter(|event| event["usage"].is_object()).count();
        let empty = events.iter().filter(|event| event["choices"] == json!([])).count();
        assert_eq!(
            (usages, empty),
            (usize::from(is_told), usize::from(is_told)),
            "{events:#?}"
        );
        assert!(answer.body.ends_with("data: [DONE]\n\n"), "{}", answer.body);
        let text = events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        assert_eq!(text.collect::<String>(), "word0 word1 word2 word3 ");
    }
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_exact(place.upstream.count().billed());
}

/// Pieces of a stream are there as soon as the provider sends them.
#[tokio::test]
async fn a_stream_is_not_held_back() {
    let place = Place::with(total("100")).await;
    place.upstream.once(Fault::WaitAfter(3));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let request = worker.posting(CHAT_PATH).json(&streamed(chat(&CHAT, 50)));
    let mut answer = request.send().await.expect("a head");
    let mut text = String::new();
    // The first three pieces come while the provider waits for us.
    while !text.contains("word1") {
        let piece = answer.chunk().await.expect("a piece").expect("not the end");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    place.upstream.open_gate();
    while let Some(piece) = answer.chunk().await.expect("a piece") {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    place.settled(&worker).await;
    place.close(daemon).await;
}

/// A provider's error may quote its own key; a client's request may carry what is not the provider's
/// business. Neither gets through.
#[tokio::test]
async fn secrets_stay_on_their_side() {
    let place = Place::with(total("100")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for status in [401, 400, 429, 500] {
        for (path, body, key) in [
            (CHAT_PATH, chat(&CHAT, 5), OPENAI_KEY),
            ("/anthropic/v1/messages", message(&CLAUDE, 5), ANTHROPIC_KEY),
        ] {
            place
                .upstream
                .once(Fault::Says(status, format!("Incorrect API key provided: {key}.")));
            let answer = worker.post(path, &body).await;
            assert!(!answer.body.contains(key), "{answer:#?}");
            assert!(!format!("{:?}", answer.headers).contains(key), "{answer:#?}");
            match status {
                401 => drop(answer.refused(502, "upstream_refused_credential")),
                status => assert_eq!(answer.status, status, "{answer:#?}"),
            }
        }
    }
    for (name, value) in [
        ("cookie", "session=1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-backstop-task", "run-1"),
        ("openai-organization", "org-of-an-agent"),
        ("openai-project", "proj-of-an-agent"),
        ("x-anything", "else"),
    ] {
        let request = worker.posting(CHAT_PATH).header(name, value).json(&chat(&CHAT, 5));
        let answer = worker.send(request).await.expect("an answer");
        // Dropped or refused by name; `assert_clean` sees what came along.
        assert!([200, 400].contains(&answer.status), "{name}: {answer:#?}");
    }
    // Two credentials could be read differently here and there.
    let request = worker
        .posting(CHAT_PATH)
        .header("x-api-key", worker.key())
        .json(&chat(&CHAT, 5));
    worker
        .send(request)
        .await
        .expect("an answer")
        .refused(400, "two_credentials");
    place.settled(&worker).await;
    // Errors that cost nothing are not charged; of the rest nobody can know.
    let books = place.close(daemon).await;
    books.assert_covers(place.upstream.count().billed());
}

/// Answers are the provider's, to the byte; fields that nobody here knows with them.
#[tokio::test]
async fn answers_pass_through_untouched() {
    let place = Place::with(total("100")).await;
    place.upstream.manner(|manner| manner.id = Some("once".to_owned()));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut told = streamed(chat(&CHAT, 50));
    told["stream_options"] = json!({ "include_usage": true });
    let respond = json!({ "model": CHAT.name, "input": "Hi", "max_output_tokens": 50 });
    for (path, body) in [
        (CHAT_PATH, chat(&CHAT, 50)),
        (CHAT_PATH, told),
        ("/openai/v1/responses", respond.clone()),
        ("/openai/v1/responses", streamed(respond)),
        (
            "/openai/v1/embeddings",
            json!({ "model": EMBED.name, "input": "a text" }),
        ),
        ("/openai/v1/models", Value::Null),
        ("/openai/v1/models/fixture-chat", Value::Null),
        (MESSAGES_PATH, message(&CLAUDE, 50)),
        (MESSAGES_PATH, streamed(message(&CLAUDE, 50))),
        (
            "/anthropic/v1/messages/count_tokens",
            json!({ "model": CLAUDE.name, "messages": [] }),
        ),
    ] {
        let through = match &body {
            Value::Null => worker.get(path).await.ok(),
            body => worker.post(path, body).await.ok(),
        };
        let direct = place.upstream.directly(path, &body).await;
        assert_eq!(through.header("content-type"), Some(direct.0.as_str()), "{path}");
        assert_eq!(through.body, direct.1, "{path}");
    }
    place.settled(&worker).await;
    let calls = place.upstream.count().billed();
    let books = place.close(daemon).await;
    // Half of the bill is our own, beside the gateway.
    assert_eq!(books.posted().saturating_add(books.posted()), calls);
}

/// A client that does not read holds neither the call nor memory for ever.
#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let place = Place::new(&Config {
        gateway: "idle_timeout = \"1s\"\ndrain = \"30s\"".to_owned(),
        more: total("100"),
        ..Config::default()
    })
    .await;
    // Some megabytes, more than the sockets in between take.
    place.upstream.manner(|manner| {
        manner.pieces = 15_000;
        manner.output = Much::Exactly(15_000);
    });
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let address = daemon.addresses().agent.clone().expect("the agents' listener");
    let body = streamed(chat(&CHAT, 16_000)).to_string();
    let mut silent = Raw::connect(&address).await;
    let head = format!(
        "POST {CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        worker.key(),
        body.len()
    );
    silent.send(head.as_bytes()).await;
    place.upstream.has_counted(1).await;
    // The call ends although nobody takes its answer; what the provider says of it may still be read.
    place.settled(&worker).await;
    // What was on its way when it was let go is all there is: nobody kept the rest for it.
    let rest = silent.answer().await;
    assert_eq!(rest.status, 200, "{}", rest.head);
    assert!(rest.body.contains("word0 "), "an answer had begun");
    assert!(
        !rest.body.contains("[DONE]"),
        "it got all of it: {} bytes",
        rest.body.len()
    );
    let books = place.close(daemon).await;
    books.assert_covers(place.upstream.count().billed());
    assert_eq!(books.view.postings.len(), 1);
}

/// The agent of the key is the one who pays, whatever the request says; its task is the one it names.
#[tokio::test]
async fn spend_is_attributed() {
    let more = format!("{}\n[[agent]]\nid = \"other\"\n", total("100"));
    let place = Place::with(more).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let other = place.agent(&daemon, "other").await;
    let mut request = chat(&CHAT, 30);
    request["user"] = WORKER.into();
    let sent = worker
        .posting(CHAT_PATH)
        .header("x-backstop-task", "run-7")
        .json(&request);
    worker.send(sent).await.expect("an answer").ok();
    let sent = other
        .posting(CHAT_PATH)
        .header("x-backstop-task", "run-8")
        .json(&request);
    let cost = other.send(sent).await.expect("an answer").ok().cost();
    assert_eq!(cost, Usd::from_nanos(3 * 2_500 + 30 * 10_000));
    place.settled(&worker).await;
    place.settled(&other).await;
    for (by, names) in [
        ("agent", ["worker", "other"].as_slice()),
        ("task", &["run-7", "run-8"]),
        ("model", &["fixture-chat"]),
        ("service", &["openai"]),
    ] {
        let spend = place.site.json(&["spend", "--by", by]).await;
        for name in names {
            assert!(spend["rows"].to_string().contains(name), "by {by}: {spend:#}");
        }
        assert_eq!(spend["total_usd"], (cost.saturating_add(cost)).to_string(), "{spend:#}");
    }
    place.close(daemon).await;
}
