//! The real SDKs of the providers, unmodified: their calls go through, every field of their answers
//! with them, and what is refused is the exception that a program expects, raised once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use backstop::domain::money::Usd;
use serde_json::{Value, json};

use super::place::{Config, Place, total};
use super::upstream::{ANTHROPIC_KEY, OPENAI_KEY, Upstream};
use crate::harness::process;
use crate::harness::venv;

/// How long one script may take, on a machine that is building at the same time.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs a script to its end; what each of its calls printed, by the call's name.
async fn run(script: &'static str, arguments: &[&str]) -> BTreeMap<String, Value> {
    let python = venv::sdks().await;
    let mut command = Command::new(python);
    command
        .arg(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/gateway/sdk")).join(script))
        .args(arguments);
    for inherited in ["PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"] {
        command.env_remove(inherited);
    }
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    let output = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        process::run(script, command, dir.path(), LIMIT)
    })
    .await
    .expect("running a script does not panic")
    .unwrap_or_else(|why| panic!("{why}"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    let lines = out.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        (line["call"].as_str().unwrap_or_default().to_owned(), line)
    });
    lines.collect()
}

/// # Panics
/// With every call that did not work.
fn assert_all_worked(calls: &BTreeMap<String, Value>, expected: usize) {
    let failed: Vec<&Value> = calls.values().filter(|line| line.get("error").is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(calls.len(), expected, "{calls:#?}");
}

fn calls_a_tool(upstream: &Upstream) {
    upstream.manner(|manner| manner.tool = Some(("get_weather".to_owned(), json!({ "city": "Berlin" }))));
}

const OPENAI_CALLS: usize = 25;
const ANTHROPIC_CALLS: usize = 7;

/// The fixture answers as the APIs do, or the rest proves nothing.
#[tokio::test]
async fn the_sdks_read_the_fixture() {
    let upstream = Upstream::start().await;
    let url = upstream.base_url();
    let openai = format!("{url}/v1");
    assert_all_worked(&run("openai_calls.py", &[&openai, OPENAI_KEY]).await, OPENAI_CALLS);
    assert_all_worked(
        &run("anthropic_calls.py", &[&url, ANTHROPIC_KEY]).await,
        ANTHROPIC_CALLS,
    );
    calls_a_tool(&upstream);
    let tools = ["tools", "tools_stream", "responses_tools"];
    assert_all_worked(
        &run(
            "openai_calls.py",
            &[&[openai.as_str(), OPENAI_KEY], tools.as_slice()].concat(),
        )
        .await,
        3,
    );
    assert_all_worked(
        &run("anthropic_calls.py", &[&url, ANTHROPIC_KEY, "tools", "tools_stream"]).await,
        2,
    );
}

/// What the calls of the scripts used, in nano-dollars, was billed, is in the ledger, and nothing else is.
#[tokio::test]
async fn the_openai_sdk_runs_through_the_gateway() {
    let place = Place::with(total("100")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let url = daemon.agent_url("/openai/v1");
    let all = run("openai_calls.py", &[&url, worker.key()]).await;
    assert_all_worked(&all, OPENAI_CALLS);

    let usage = |call: &str| all[call]["got"].clone();
    for call in ["chat", "chat_no_limit", "chat_stream_usage", "completions"] {
        assert_eq!(
            (&usage(call)["prompt_tokens"], &usage(call)["completion_tokens"]),
            (&json!(3), &json!(30))
        );
    }
    assert_eq!(usage("chat_old_limit")["completion_tokens"], 60, "two outputs");
    for call in ["responses", "responses_stream"] {
        assert_eq!(
            (&usage(call)["input_tokens"], &usage(call)["output_tokens"]),
            (&json!(3), &json!(30))
        );
    }
    assert_eq!(usage("transcription_verbose")["duration"], 2.0);
    // The head tells the agent what it spent; of the provider's account it tells nothing.
    let head = usage("chat_raw");
    let told = |name: &str| head[name].as_str().unwrap_or_else(|| panic!("no {name}: {head:#}"));
    assert_eq!(
        told("x-backstop-cost-usd").parse(),
        Ok(Usd::from_nanos(3 * 2_500 + 30 * 10_000))
    );
    assert!(
        told("x-backstop-remaining-usd")
            .parse::<Usd>()
            .is_ok_and(|left| left < Usd::from_dollars(100))
    );
    assert!(!told("x-backstop-call-id").is_empty());

    calls_a_tool(&place.upstream);
    let tools = [url.as_str(), worker.key(), "tools", "tools_stream", "responses_tools"];
    assert_all_worked(&run("openai_calls.py", &tools).await, 3);
    place.settled(&worker).await;
    let count = place.upstream.count();
    // Models are listed and asked for, moderations are free: all that was asked for went through once.
    assert_eq!((count.calls, count.free), (23 + 4, 3), "{count:?}");
    let books = place.close(daemon).await;
    // A transcript as plain text says nothing of its length, so it may stand at its bound.
    books.assert_covers(count.billed());
    assert!(books.unresolved().len() <= 1, "{:#?}", books.unresolved());
}

#[tokio::test]
async fn the_anthropic_sdk_runs_through_the_gateway() {
    let place = Place::with(total("100")).await;
    place.upstream.manner(|manner| {
        manner.cached = 5;
        manner.written = (4, 2);
    });
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let url = daemon.agent_url("/anthropic");
    let all = run("anthropic_calls.py", &[&url, worker.key()]).await;
    assert_all_worked(&all, ANTHROPIC_CALLS);
    for call in ["messages", "messages_cached", "stream_helper"] {
        let usage = &all[call]["got"];
        assert_eq!(
            (
                &usage["input_tokens"],
                &usage["output_tokens"],
                &usage["cache_read_input_tokens"]
            ),
            (&json!(3), &json!(30), &json!(5)),
            "{usage:#}"
        );
    }
    let cost = all["messages_raw"]["got"]["x-backstop-cost-usd"]
        .as_str()
        .expect("a cost");
    let each = 3 * 3_000 + 5 * 300 + 4 * 3_750 + 2 * 6_000 + 30 * 15_000;
    assert_eq!(cost.parse(), Ok(Usd::from_nanos(each)));
    calls_a_tool(&place.upstream);
    let tools = [url.as_str(), worker.key(), "tools", "tools_stream"];
    assert_all_worked(&run("anthropic_calls.py", &tools).await, 2);
    place.settled(&worker).await;
    let count = place.upstream.count();
    assert_eq!((count.calls, count.free), (5 + 3, 2), "{count:?}");
    let books = place.close(daemon).await;
    books.assert_covers(count.billed());
    assert_eq!((books.unresolved().len(), books.posted()), (0, count.billed()));
}

/// Agents of whom each is refused for a reason of its own.
const REFUSED: &str = r#"
[[agent]]
id = "broke"
[[agent]]
id = "uncovered"
[[agent]]
id = "boxed"
[[agent]]
id = "parked"
[[agent]]
id = "crowded"
[[agent]]
id = "tooled"
manifest = "tooled.json"
[[budget]]
name = "small"
scope = "agent"
agents = ["broke"]
window = "total"
limit_usd = "0.0001"
response = "alert"
[[budget]]
name = "total"
scope = "agent"
agents = ["boxed", "parked", "crowded", "tooled", "worker"]
window = "total"
limit_usd = "1"
response = "alert"
"#;

const MANIFEST: &str = r#"{ "schema_version": "v1", "agent_id": "tooled",
  "allowed_tools": [{ "tool_name": "get_weather" }], "blacklisted_tools": [] }"#;

/// A call, the exception that it raises, its status and code.
type Expected = (&'static str, &'static str, u16, &'static str);

async fn assert_refused(api: &str, url: &str, key: &str, expected: &[Expected]) {
    let mut arguments = vec![api, url, key];
    arguments.extend(expected.iter().map(|(call, ..)| *call));
    let all = run("refused.py", &arguments).await;
    for (call, exception, status, code) in expected {
        let (call, retries) = call.split_once('=').unwrap_or((call, ""));
        let got = &all[call];
        assert_eq!(
            (&got["type"], &got["status"], &got["code"]),
            (&json!(exception), &json!(status), &json!(code)),
            "{call}: {got:#}"
        );
        assert!(
            got["message"].as_str().is_some_and(|text| text.len() > 10),
            "a sentence: {got:#}"
        );
        assert_eq!(got["sent"], 1, "{call} was repeated: {got:#}");
        // Where a repetition can help it says when, within a minute; otherwise it says no.
        let waits = got["retry_after"]
            .as_str()
            .and_then(|seconds| seconds.parse::<u64>().ok());
        match retries {
            "" => assert_eq!(got["should_retry"], "false", "{got:#}"),
            _ => assert!(waits.is_some_and(|seconds| (1..=60).contains(&seconds)), "{got:#}"),
        }
    }
}

#[tokio::test]
async fn what_is_refused_is_the_right_exception_and_is_not_repeated() {
    let place = Place::new(&Config {
        server: "request_timeout = \"30s\"".to_owned(),
        ledger: "hold_wait = \"1s\"".to_owned(),
        gateway: "park_wait = \"1s\"".to_owned(),
        more: REFUSED.to_owned(),
        ..Config::default()
    })
    .await;
    place.site.write("tooled.json", MANIFEST);
    let daemon = place.start().await;
    place.site.ok(&["pause", "parked", "--reason", "for the test"]).await;
    place.site.ok(&["contain", "boxed", "--yes"]).await;
    let crowded = place.agent(&daemon, "crowded").await;
    let hold = crowded.post("/v1/holds", &json!({ "bound_usd": "1" })).await;
    assert_eq!(hold.status, 201, "{hold:#?}");

    // Those of 429 and 503 may be repeated, and say when; the SDKs would sleep for as long, so these are
    // told not to.
    let held = ["chat=0", "stream=0"];
    for (api, url, payment) in [
        ("openai", daemon.agent_url("/openai/v1"), "APIStatusError"),
        ("anthropic", daemon.agent_url("/anthropic"), "PaymentRequiredError"),
    ] {
        let key = async |agent: &str| place.agent(&daemon, agent).await.key().to_owned();
        let broke = [
            ("chat", payment, 402, "budget_exceeded"),
            ("stream", payment, 402, "budget_exceeded"),
        ];
        assert_refused(api, &url, &key("broke").await, &broke).await;
        assert_refused(
            api,
            &url,
            &key("uncovered").await,
            &[("chat", payment, 402, "no_budget")],
        )
        .await;
        let boxed = [("chat", "PermissionDeniedError", 403, "agent_contained")];
        assert_refused(api, &url, &key("boxed").await, &boxed).await;
        let unavailable = match api {
            "openai" => "InternalServerError",
            _ => "ServiceUnavailableError",
        };
        let parked = [("chat=0", unavailable, 503, "agent_paused")];
        assert_refused(api, &url, &key("parked").await, &parked).await;
        let held = held.map(|call| (call, "RateLimitError", 429, "budget_held"));
        assert_refused(api, &url, crowded.key(), &held).await;
        let tooled = [("unlisted_tool", "PermissionDeniedError", 403, "tool_not_in_manifest")];
        assert_refused(api, &url, &key("tooled").await, &tooled).await;
        let worker = [
            ("unknown_field", "BadRequestError", 400, "field_not_metered"),
            ("unknown_model", "UnprocessableEntityError", 422, "price_unknown"),
            ("unmetered_route", "PermissionDeniedError", 403, "route_not_metered"),
        ];
        assert_refused(api, &url, &key("worker").await, &worker).await;
        let stranger = [("chat", "AuthenticationError", 401, "bad_credential")];
        assert_refused(api, &url, "bsk_nobody_ever_made_this_key", &stranger).await;
    }
    let more = [
        ("responses", "APIStatusError", 402, "budget_exceeded"),
        ("transcription", "APIStatusError", 402, "budget_exceeded"),
    ];
    let broke = place.agent(&daemon, "broke").await;
    assert_refused("openai", &daemon.agent_url("/openai/v1"), broke.key(), &more).await;
    assert_eq!(place.upstream.seen().len(), 0, "nothing of it reached the provider");
    let freed = crowded
        .post(
            &format!("/v1/holds/{}/capture", hold.json()["hold_id"].as_str().expect("an id")),
            &json!({ "cost_usd": "0.01" }),
        )
        .await;
    assert_eq!(freed.status, 200, "{freed:#?}");
    place.close(daemon).await;
}
