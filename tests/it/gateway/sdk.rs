//! The real SDKs of the providers, unmodified: their calls go through, every field of their answers
//! with them, and what is refused is the exception that a program expects, raised once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use backstop::domain::money::Usd;
use serde_json::{Value, json};

use super::place::{Config, Place, budget, total};
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
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
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
    assert_all_worked(&run("anthropic_calls.py", &[&url, ANTHROPIC_KEY]).await, ANTHROPIC_CALLS);
    calls_a_tool(&upstream);
    let tools = ["tools", "tools_stream", "responses_tools"];
    assert_all_worked(&run("openai_calls.py", &[&[openai.as_str(), OPENAI_KEY], tools.as_slice()].concat()).await, 3);
    assert_all_worked(&run("anthropic_calls.py", &[&url, ANTHROPIC_KEY, "tools", "tools_stream"]).await, 2);
}
