//! Ways around, and keys that nobody reads.

use super::super::agent::chat;
use super::super::place::{Config, Place, total};
use super::super::upstream::prices::CHAT;
use crate::harness::raw::exchange;

/// A request as it stands on the wire.
fn request(line: &str, key: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text =
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n");
    let has = |name: &str| {
        headers
            .iter()
            .any(|header| header.to_ascii_lowercase().starts_with(name))
    };
    if !has("transfer-encoding") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    if !has("content-type") {
        text.push_str("Content-Type: application/json\r\n");
    }
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Way 7. Whatever the path, the method, the headers or the body are made to look like, nothing reaches
/// the provider that was not understood, bounded and held here.
#[tokio::test]
async fn way_07_a_route_goes_around() {
    // With a full purse: what is understood here goes through, so that nothing is refused for its price.
    let place = Place::with(total("100")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let address = daemon.addresses().agent.clone().expect("the agents' listener");
    let key = worker.key();
    let ok = chat(&CHAT, 50).to_string();
    let send = async |name: &str, bytes: Vec<u8>| {
        let before = place.upstream.seen().len();
        let answer = exchange(&address, &bytes).await;
        assert!(
            (400..500).contains(&answer.status) || answer.status == 501,
            "{name}: {answer:#?}"
        );
        assert_ne!(answer.status, 402, "{name} was understood: {answer:#?}");
        assert_eq!(place.upstream.seen().len(), before, "{name} reached the provider");
    };
    // Some of it may be dropped, and the call be made without; then it is the plain call, and metered.
    let send_or_plain = async |name: &str, bytes: Vec<u8>| {
        let before = place.upstream.seen().len();
        let answer = exchange(&address, &bytes).await;
        if answer.status != 200 {
            assert!((400..500).contains(&answer.status), "{name}: {answer:#?}");
            assert_eq!(place.upstream.seen().len(), before, "{name} reached the provider");
            return;
        }
        assert!(answer.head.contains("x-backstop-cost-usd"), "{name}: {answer:#?}");
        let seen = place.upstream.last();
        assert_eq!(
            (seen.path.as_str(), seen.body.as_ref()),
            ("/v1/chat/completions", ok.as_bytes()),
            "{name}"
        );
        let kinds: Vec<_> = seen.headers.get_all("content-type").iter().collect();
        assert_eq!(kinds, ["application/json"], "{name}");
    };
    for line in [
        "POST /openai/v1/chat/completions/".to_owned(),
        "POST /openai//v1/chat/completions".to_owned(),
        "POST //openai/v1/chat/completions".to_owned(),
        "POST /openai/v1//chat/completions".to_owned(),
        "POST /openai/v1/./chat/completions".to_owned(),
        "POST /openai/v1/models/../chat/completions".to_owned(),
        "POST /openai/v1/models/%2e%2e/chat/completions".to_owned(),
        "POST /openai/v1/chat%2Fcompletions".to_owned(),
        "POST /openai/v1/chat/completions;x=1".to_owned(),
        "POST /openai/v1/chat/completions?api-version=1".to_owned(),
        "POST /openai/v1/chat/completions?stream=true".to_owned(),
        "POST /OpenAI/v1/chat/completions".to_owned(),
        "POST /openai/V1/Chat/Completions".to_owned(),
        "POST /openai/chat/completions".to_owned(),
        "POST /anthropic/v1/chat/completions".to_owned(),
        "POST /anthropic/v1/complete".to_owned(),
        "POST /openai/v1/messages".to_owned(),
        "POST /v1/chat/completions".to_owned(),
        "POST /nobody/v1/chat/completions".to_owned(),
        "POST /openai".to_owned(),
        "POST /openai/".to_owned(),
        "GET /openai/v1/chat/completions".to_owned(),
        "PUT /openai/v1/chat/completions".to_owned(),
        "DELETE /openai/v1/models/fixture-chat".to_owned(),
        "PATCH /openai/v1/responses".to_owned(),
        "GET /openai/v1/responses/resp_1".to_owned(),
        "POST /openai/v1/responses/resp_1/cancel".to_owned(),
        "POST /openai/v1/engines/fixture-chat/completions".to_owned(),
        "POST /openai/v1/chat/completions/chatcmpl-1".to_owned(),
        "CONNECT api.openai.com:443".to_owned(),
        format!("POST {}/v1/chat/completions", place.upstream.base_url()),
        "POST http://api.openai.com/v1/chat/completions".to_owned(),
    ] {
        send(&line, request(&line, key, &[], &ok)).await;
    }

    let line = "POST /openai/v1/chat/completions";
    for (name, headers) in [
        ("two lengths", ["Content-Length: 0"].as_slice()),
        (
            "a length and chunks",
            &["Transfer-Encoding: chunked", "Content-Length: 5"],
        ),
        ("an unknown coding", &["Transfer-Encoding: gzip, chunked"]),
        ("a compressed body", &["Content-Encoding: gzip"]),
        ("a body of another kind", &["Content-Type: text/plain"]),
        ("two credentials", &["x-api-key: sk-mine"]),
        ("the same credential twice", &["Authorization: Bearer sk-mine"]),
        ("a beta that nobody weighed", &["OpenAI-Beta: turbo=v9"]),
    ] {
        send(name, request(line, key, headers, &ok)).await;
    }
    for (name, headers) in [
        ("another method", ["X-HTTP-Method-Override: GET"].as_slice()),
        (
            "another host",
            &["X-Forwarded-Host: api.openai.com", "Forwarded: host=api.openai.com"],
        ),
        (
            "another path",
            &["X-Original-URL: /v1/batches", "X-Rewrite-URL: /v1/batches"],
        ),
        (
            "two kinds of body",
            &["Content-Type: application/json", "Content-Type: text/plain"],
        ),
        ("an upgrade", &["Connection: Upgrade", "Upgrade: websocket"]),
        (
            "a hop",
            &["Connection: close, authorization", "TE: trailers", "Trailer: x-model"],
        ),
        ("another account", &["OpenAI-Organization: org-1"]),
    ] {
        send_or_plain(name, request(line, key, headers, &ok)).await;
    }
    let absolute = format!("POST {}", daemon.agent_url("/openai/v1/chat/completions"));
    send_or_plain("our own address before the path", request(&absolute, key, &[], &ok)).await;
    let fragment = "POST /openai/v1/chat/completions#/../../v1/batches";
    send_or_plain("a fragment", request(fragment, key, &[], &ok)).await;

    let at = |body: &str| request(line, key, &[], body);
    for (name, body) in [
        ("two models", ok.replacen('{', r#"{"model":"fixture-moderator","#, 1)),
        ("two limits", ok.replacen('{', r#"{"max_completion_tokens":1,"#, 1)),
        ("both limits", ok.replacen('{', r#"{"max_tokens":1,"#, 1)),
        (
            "an escaped name",
            ok.replacen('{', r#"{"m\u0061x_completion_tokens":1,"#, 1),
        ),
        ("an unknown field", ok.replacen('{', r#"{"turbo":true,"#, 1)),
        ("a name in other case", ok.replacen('{', r#"{"Model":"x","#, 1)),
        ("two documents", format!("{ok}{ok}")),
        ("a list", format!("[{ok}]")),
        ("a byte order mark", format!("\u{feff}{ok}")),
        ("a comment", ok.replacen('{', "{/* */", 1)),
        (
            "deep",
            ok.replacen(
                '{',
                &format!("{{\"metadata\":{}{},", "[".repeat(5_000), "]".repeat(5_000)),
                1,
            ),
        ),
        ("nothing", String::new()),
        ("no JSON", "model=fixture-chat".to_owned()),
        ("a text for a number", ok.replace("50", "\"50\"")),
        ("a fraction", ok.replace("50", "50.5")),
        ("less than nothing", ok.replace("50", "-50")),
        ("more than a number", ok.replace("50", "1e400")),
        (
            "a tool of the provider's",
            ok.replacen('{', r#"{"web_search_options":{},"#, 1),
        ),
        ("priority", ok.replacen('{', r#"{"service_tier":"galactic","#, 1)),
    ] {
        send(name, at(&body)).await;
    }
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    assert_eq!(books.posted(), place.upstream.count().billed());
}

/// Way 12. A key that is misspelt, misplaced or of the wrong kind is an error, at start, at a reload and from
/// the environment; none is read over.
#[tokio::test]
async fn way_12_config_key_silently_ignored() {
    let sound = Config::with(total("1.00"));
    let place = Place::new(&sound).await;
    place.site.ok(&["check"]).await;
    let wrong = |change: &dyn Fn(&mut Config)| {
        let mut config = sound.clone();
        change(&mut config);
        config
    };
    let cases = [
        ("gateway.max_token", wrong(&|c| c.gateway = "max_token = 10".to_owned())),
        (
            "gateway.default_max_tokens",
            wrong(&|c| c.gateway = "default_max_tokens = \"many\"".to_owned()),
        ),
        (
            "gateway.least_tokens",
            wrong(&|c| c.gateway = "least_tokens = 100000".to_owned()),
        ),
        (
            "gateway.unlisted_tools",
            wrong(&|c| c.gateway = "unlisted_tools = \"allow\"".to_owned()),
        ),
        ("gateway.park_wait", wrong(&|c| c.gateway = "park_wait = 10".to_owned())),
        (
            "gateway.free_fields",
            wrong(&|c| c.gateway = "free_fields = [\"chat:x\"]".to_owned()),
        ),
        (
            "gateway.server_tools.web_search",
            wrong(&|c| {
                c.gateway = "[gateway.server_tools]\nweb_search = \"cheap\"".to_owned();
            }),
        ),
        (
            "upstream[0].celings",
            wrong(&|c| c.upstream = "celings = {}".to_owned()),
        ),
        (
            "upstream[0].ceilings",
            wrong(&|c| c.upstream = "ceilings = { \"/v1/batches\" = \"-1\" }".to_owned()),
        ),
        (
            "upstream[0].ceilings",
            wrong(&|c| c.upstream = "ceilings = { \"batches\" = \"1\" }".to_owned()),
        ),
        (
            "budget[0].limit",
            wrong(&|c| c.more = c.more.replace("limit_usd", "limit")),
        ),
        (
            "budget[0].window",
            wrong(&|c| c.more = c.more.replace("\"total\"\nlimit", "\"montly\"\nlimit")),
        ),
        ("budget[0].agent", wrong(&|c| c.more.push_str("agent = \"worker\"\n"))),
        (
            "agent[0].manifests",
            wrong(&|c| c.agent = "manifests = \"worker.json\"".to_owned()),
        ),
        (
            "tools.default_rates",
            wrong(&|c| c.more.push_str("[tools]\ndefault_rates = {}\n")),
        ),
        ("limits", wrong(&|c| c.more.push_str("[limits]\nmax_usd = 1\n"))),
    ];
    for (key, config) in &cases {
        place.configure(config);
        let check = place.site.cli(&["check"]).await;
        assert_eq!(check.code, Some(1), "{key}: {check:#?}");
        assert!(check.stdout.contains(key), "{key} is not named: {}", check.stdout);
        let serve = place.site.cli(&["serve"]).await;
        assert_eq!(serve.code, Some(1), "{key}: {serve:#?}");
    }
    place.configure(&sound);

    // A running daemon keeps what it has, and says what is wrong.
    let mut daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let (key, config) = &cases[0];
    place.configure(config);
    daemon.reload();
    crate::harness::wait::until(
        "the wrong config to be refused",
        super::super::place::SOON,
        async || daemon.log().contains(key).then_some(()),
    )
    .await;
    worker.chat(&chat(&CHAT, 10)).await.ok();
    // One that is right applies to the next call.
    place.configure(&wrong(&|c| c.gateway = "max_tokens = 5".to_owned()));
    daemon.reload();
    crate::harness::wait::until("the limit to be lowered", super::super::place::SOON, async || {
        worker.chat(&chat(&CHAT, 10)).await.ok();
        (place.upstream.last().json()["max_completion_tokens"] == 5).then_some(())
    })
    .await;
    place.settled(&worker).await;
    place.close(daemon).await;
}

#[tokio::test]
async fn way_12_an_unknown_name_in_the_environment_is_an_error() {
    let mut place = Place::with(total("1.00")).await;
    let name = "BACKSTOP__GATEWAY__MAX_TOKEN".to_owned();
    place.site = place.site.with_env([(name, "10".to_owned())]);
    let check = place.site.cli(&["check"]).await;
    assert_eq!(check.code, Some(1), "{check:#?}");
    assert!(check.stdout.to_lowercase().contains("max_token"), "{}", check.stdout);
}
