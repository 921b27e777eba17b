//! The manifest at the gateway: what it does not list is neither offered to a model nor called by one, and
//! its limits are those of every call. If a tool is not in the manifest, the call fails.

use serde_json::{Value, json};

use super::agent::{CHAT_PATH, MESSAGES_PATH, chat, message, open_chat, streamed};
use super::place::{Config, Place, total};
use super::upstream::prices::{CHAT, CLAUDE};

const MANIFEST: &str = r#"{
  "schema_version": "v1", "agent_id": "worker",
  "allowed_tools": [
    { "tool_name": "get_weather", "rate_limit": { "requests": 3, "per_seconds": 3600 }, "read_only": true },
    { "tool_name": "send_mail" }
  ],
  "blacklisted_tools": ["drop_database"],
  "models": ["fixture-chat", "fixture-cl*"],
  "max_tokens": 25
}"#;

async fn place(unlisted: &str) -> Place {
    let place = Place::new(&Config {
        gateway: format!("unlisted_tools = \"{unlisted}\""),
        agent: "manifest = \"worker.json\"".to_owned(),
        more: total("100"),
        ..Config::default()
    })
    .await;
    place.site.write("worker.json", MANIFEST);
    place
}

/// A request that offers these tools, in the form of each API.
fn offering(tools: &[&str]) -> [(&'static str, Value); 3] {
    let parameters = json!({ "type": "object", "properties": {} });
    let with = |mut body: Value, tool: &dyn Fn(&str) -> Value| {
        body["tools"] = tools.iter().map(|name| tool(name)).collect();
        body
    };
    let function = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": parameters } });
    let flat = |name: &str| json!({ "type": "function", "name": name, "parameters": parameters, "strict": false });
    let claude = |name: &str| json!({ "name": name, "input_schema": parameters });
    let respond = json!({ "model": CHAT.name, "input": "Hi", "max_output_tokens": 20 });
    [
        (CHAT_PATH, with(chat(&CHAT, 20), &function)),
        ("/openai/v1/responses", with(respond, &flat)),
        (MESSAGES_PATH, with(message(&CLAUDE, 20), &claude)),
    ]
}

/// The names of the tools that the provider was offered.
fn offered(seen: &Value) -> Vec<String> {
    let tools = seen["tools"].as_array().cloned().unwrap_or_default();
    let name = |tool: &Value| {
        let name = tool["name"].as_str().or(tool["function"]["name"].as_str());
        name.unwrap_or_default().to_owned()
    };
    tools.iter().map(name).collect()
}

#[tokio::test]
async fn a_tool_that_is_not_listed_is_not_offered() {
    let place = place("refuse").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for (path, body) in offering(&["get_weather", "send_mail"]) {
        worker.post(path, &body).await.ok();
        assert_eq!(offered(&place.upstream.last().json()), ["get_weather", "send_mail"]);
    }
    let before = place.upstream.seen().len();
    for (tools, code) in [
        (["get_weather", "launch"], "tool_not_in_manifest"),
        (["launch", "get_weather"], "tool_not_in_manifest"),
        (["get_weather", "Get_Weather"], "tool_not_in_manifest"),
        (["get_weather", "drop_database"], "tool_blacklisted"),
    ] {
        for (path, body) in offering(&tools) {
            worker.post(path, &body).await.refused(403, code);
            worker.post(path, &streamed(body)).await.refused(403, code);
        }
    }
    assert_eq!(place.upstream.seen().len(), before);
    place.settled(&worker).await;
    place.close(daemon).await;
}

#[tokio::test]
async fn a_tool_that_is_not_listed_is_stripped_where_config_says_so() {
    let place = place("strip").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for (path, body) in offering(&["launch", "get_weather"]) {
        worker.post(path, &body).await.ok();
        assert_eq!(offered(&place.upstream.last().json()), ["get_weather"]);
    }
    for (path, body) in offering(&["launch"]) {
        worker.post(path, &body).await.ok();
        assert!(offered(&place.upstream.last().json()).is_empty());
        let seen = place.upstream.last().json();
        assert!(seen.get("tool_choice").is_none(), "a choice among none: {seen}");
    }
    for (path, body) in offering(&["drop_database"]) {
        worker.post(path, &body).await.refused(403, "tool_blacklisted");
    }
    place.settled(&worker).await;
    place.close(daemon).await;
}

/// A model that calls what it was not offered does not get through, and what it cost is in the books.
#[tokio::test]
async fn an_answer_that_calls_an_unlisted_tool_is_refused() {
    let place = place("refuse").await;
    place
        .upstream
        .manner(|manner| manner.tool = Some(("drop_database".to_owned(), json!({ "name": "everything" }))));
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    for (path, body) in offering(&["get_weather"]) {
        let reply = worker.post(path, &body).await;
        let reply = reply.refused(403, "tool_blacklisted");
        assert!(
            !reply.body.contains("everything"),
            "the call is not handed over: {reply:#?}"
        );
        assert!(reply.body.contains("drop_database"), "it is named: {reply:#?}");
        // In a stream nothing of the call gets through: no arguments, and no sign that it is complete.
        let reply = worker.post_cut(path, &streamed(body)).await;
        assert!(!reply.body.contains("everything"), "{}", reply.body);
        assert!(
            !reply.body.contains("[DONE]") && !reply.body.contains("message_stop"),
            "{}",
            reply.body
        );
        assert_eq!(reply.last_code(), "tool_blacklisted", "{}", reply.body);
    }
    place.settled(&worker).await;
    let books = place.close(daemon).await;
    books.assert_covers(place.upstream.count().billed());
    assert_eq!(books.view.postings.len(), 6);
}

#[tokio::test]
async fn models_and_limits_of_the_manifest_hold() {
    let place = place("refuse").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let mut other = chat(&CHAT, 20);
    other["model"] = "fixture-two-cents".into();
    worker.chat(&other).await.refused(403, "model_not_in_manifest");
    worker.messages(&message(&CLAUDE, 20)).await.ok();
    for body in [chat(&CHAT, 1_000), open_chat(&CHAT)] {
        worker.chat(&body).await.ok();
        assert_eq!(place.upstream.last().json()["max_completion_tokens"], 25);
    }
    place.settled(&worker).await;
    place.close(daemon).await;
}

#[tokio::test]
async fn tools_are_authorized_by_the_same_file_and_its_exact_rates() {
    let place = place("refuse").await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let ask = async |tool: &str| worker.post("/v1/tools/authorize", &json!({ "tool": tool })).await;
    for left in [2, 1, 0] {
        let reply = ask("get_weather").await.ok().json();
        assert_eq!(
            (&reply["decision"], &reply["read_only"]),
            (&json!("allow"), &json!(true))
        );
        assert_eq!(reply["remaining"], left);
    }
    let refused = ask("get_weather").await.refused(429, "tool_rate_limited");
    let seconds: u64 = refused
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    assert!((1..=60).contains(&seconds), "{refused:#?}");
    assert_eq!(ask("send_mail").await.ok().json()["read_only"], false);
    ask("launch").await.refused(403, "tool_not_in_manifest");
    ask("drop_database").await.refused(403, "tool_blacklisted");
    place.site.ok(&["contain", "worker", "--yes"]).await;
    ask("send_mail").await.refused(403, "agent_contained");
    place.close(daemon).await;
}
