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

/// Runs a script to its end: the JSON lines that it printed.
async fn run(script: &'static str, arguments: &[&str]) -> Vec<Value> {
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
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    out.lines().map(read).collect()
}

/// Every call of a script, which all must have worked: what it got, by its name.
async fn all_worked(script: &'static str, url: &str, key: &str, calls: usize) -> BTreeMap<String, Value> {
    let lines = run(script, &[url, key]).await;
    let failed: Vec<&Value> = lines.iter().filter(|line| line.get("error").is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(lines.len(), calls, "{lines:#?}");
    let named = |line: &Value| {
        (
            line["call"].as_str().unwrap_or_default().to_owned(),
            line["got"].clone(),
        )
    };
    lines.iter().map(named).collect()
}

const OPENAI_CALLS: usize = 28;
const ANTHROPIC_CALLS: usize = 9;

/// The fixture answers as the APIs do, or the rest proves nothing.
#[tokio::test]
async fn the_sdks_read_the_fixture() {
    let upstream = Upstream::start().await;
    let url = upstream.base_url();
    all_worked("openai_calls.py", &format!("{url}/v1"), OPENAI_KEY, OPENAI_CALLS).await;
    all_worked("anthropic_calls.py", &url, ANTHROPIC_KEY, ANTHROPIC_CALLS).await;
}

/// What the calls of the scripts used, in nano-dollars, was billed, is in the ledger, and nothing else is.
#[tokio::test]
async fn the_openai_sdk_runs_through_the_gateway() {
    let place = Place::with(total("100")).await;
    let daemon = place.start().await;
    let worker = place.worker(&daemon).await;
    let url = daemon.agent_url("/openai/v1");
    let all = all_worked("openai_calls.py", &url, worker.key(), OPENAI_CALLS).await;

    let usage = |call: &str| all[call].clone();
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

    place.settled(&worker).await;
    let count = place.upstream.count();
    // Models are listed and asked for, moderations are free: all that was asked for went through once.
    assert_eq!((count.calls, count.free), (23 + 4, 3), "{count:?}");
    let books = place.close(daemon).await;
    // A transcript as plain text says nothing of its length, and the recording does: nothing is unknown.
    books.assert_exact(count.billed());
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
    let all = all_worked("anthropic_calls.py", &url, worker.key(), ANTHROPIC_CALLS).await;
    for call in ["messages", "messages_cached", "stream_helper"] {
        let usage = &all[call];
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
    let cost = all["messages_raw"]["x-backstop-cost-usd"].as_str().expect("a cost");
    let each = 3 * 3_000 + 5 * 300 + 4 * 3_750 + 2 * 6_000 + 30 * 15_000;
    assert_eq!(cost.parse(), Ok(Usd::from_nanos(each)));
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
limit_usd = "0.00001"
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

/// What one agent asks of one API, and how each call must be refused.
struct Group {
    api: &'static str,
    url: String,
    key: String,
    expected: Vec<Expected>,
}

async fn assert_refused(groups: &[Group]) {
    let asked = groups.iter().map(|group| {
        let calls: Vec<&str> = group.expected.iter().map(|(call, ..)| *call).collect();
        json!([group.api, group.url, group.key, calls])
    });
    let asked = Value::Array(asked.collect()).to_string();
    let lines = run("refused.py", &[&asked]).await;
    let expected = groups.iter().flat_map(|group| &group.expected);
    assert_eq!(lines.len(), expected.clone().count(), "{lines:#?}");
    for (got, (call, exception, status, code)) in lines.iter().zip(expected) {
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
        match call.contains('=') {
            false => assert_eq!(got["should_retry"], "false", "{got:#}"),
            true => assert!(waits.is_some_and(|seconds| (1..=60).contains(&seconds)), "{got:#}"),
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

    let mut groups = Vec::new();
    for (api, url, payment, unavailable) in [
        (
            "openai",
            daemon.agent_url("/openai/v1"),
            "APIStatusError",
            "InternalServerError",
        ),
        (
            "anthropic",
            daemon.agent_url("/anthropic"),
            "PaymentRequiredError",
            "ServiceUnavailableError",
        ),
    ] {
        for (agent, expected) in [
            (
                "broke",
                vec![
                    ("chat", payment, 402, "budget_exceeded"),
                    ("stream", payment, 402, "budget_exceeded"),
                ],
            ),
            ("uncovered", vec![("chat", payment, 402, "no_budget")]),
            ("boxed", vec![("chat", "PermissionDeniedError", 403, "agent_contained")]),
            // These may be repeated, and say when; the SDKs would sleep for as long, so they are told not to.
            ("parked", vec![("chat=0", unavailable, 503, "agent_paused")]),
            (
                "crowded",
                vec![
                    ("chat=0", "RateLimitError", 429, "budget_held"),
                    ("stream=0", "RateLimitError", 429, "budget_held"),
                ],
            ),
            (
                "tooled",
                vec![("unlisted_tool", "PermissionDeniedError", 403, "tool_not_in_manifest")],
            ),
            (
                "worker",
                vec![
                    ("unknown_field", "BadRequestError", 400, "field_not_metered"),
                    ("unknown_model", "UnprocessableEntityError", 422, "price_unknown"),
                    ("unmetered_route", "PermissionDeniedError", 403, "route_not_metered"),
                ],
            ),
        ] {
            let key = place.agent(&daemon, agent).await.key().to_owned();
            let url = url.clone();
            groups.push(Group {
                api,
                url,
                key,
                expected,
            });
        }
        groups.push(Group {
            api,
            url,
            key: "bsk_nobody_ever_made_this_key".to_owned(),
            expected: vec![("chat", "AuthenticationError", 401, "bad_credential")],
        });
    }
    groups.push(Group {
        api: "openai",
        url: daemon.agent_url("/openai/v1"),
        key: place.agent(&daemon, "broke").await.key().to_owned(),
        expected: vec![
            ("responses", "APIStatusError", 402, "budget_exceeded"),
            ("embeddings", "APIStatusError", 402, "budget_exceeded"),
            ("transcription", "APIStatusError", 402, "budget_exceeded"),
        ],
    });
    assert_refused(&groups).await;
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
