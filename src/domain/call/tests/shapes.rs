//! The field lists against the SDKs' types: `sdk_shapes.jsonl` has every field of them, and says beside it
//! in `sdk_shapes.py` how it was made.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// What the SDKs know and this gateway refuses, by the name under which it does.
const REFUSED: &[&str] = &[
    "background",
    "billing_policy",
    "fallbacks",
    // Dummies of the samples: a model that is not the free one, a mode that is not the standard one.
    "moderation.model=x",
    "reasoning.mode=x",
];

const SERVER_TOOLS: &[&str] = &[
    "advisor",
    "code_execution",
    "code_interpreter",
    "compact",
    "compaction",
    "file_search",
    "image_generation",
    "mcp",
    "programmatic_tool_calling",
    "prompt",
    "shell",
    "tool_search",
    "web_fetch",
    "web_search",
];

/// Route and body of every request.
fn shapes() -> impl Iterator<Item = (Route, String)> {
    include_str!("sdk_shapes.jsonl").lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("a request a line");
        let path = row["path"].as_str().expect("a path");
        let api = if path == "/v1/messages" {
            Api::Anthropic
        } else {
            Api::Openai
        };
        let route = Route::find(api, "POST", path).expect("a route that is known");
        (route, row["body"].to_string())
    })
}

#[test]
fn every_field_of_the_sdks_is_known() {
    let prices: Vec<(&str, &str)> = SERVER_TOOLS.iter().map(|tool| (*tool, "0.1")).collect();
    let rules = priced(&prices);
    let mut refused = BTreeSet::new();
    let mut understood = 0;
    for (route, body) in shapes() {
        match read(route, &Bytes::from(body.clone()), &rules) {
            Ok(asked) => {
                understood += 1;
                // What costs nothing more than its text leaves nothing out of it.
                assert!(asked.most.input_tokens >= body.len() as u64, "{body}");
            }
            Err(Rejection::Call(CallRejection::FieldUnknown { field, .. } | CallRejection::Field { field, .. })) => {
                assert!(REFUSED.contains(&field.as_str()), "{field} of {body}");
                refused.insert(field);
            }
            Err(other) => panic!("{body}: {other:?}"),
        }
    }
    assert!(understood > 400, "{understood}");
    let stale: Vec<_> = REFUSED.iter().filter(|field| !refused.contains(**field)).collect();
    assert!(stale.is_empty(), "no longer refused, or not in the SDKs: {stale:?}");
}

/// Every tool that the SDKs' requests have runs where its list says: nothing that has a fee passes unpriced.
#[test]
fn without_prices_only_the_clients_own_tools_pass() {
    let rules = CallRules::default();
    let mut unpriced = BTreeSet::new();
    for (route, body) in shapes() {
        let body = Bytes::from(body);
        match read(route, &body, &rules) {
            Err(Rejection::Call(CallRejection::ServerTool { tool })) => {
                unpriced.insert(tool);
            }
            Ok(asked) => assert_eq!(asked.fees, Usd::ZERO),
            Err(_) => {}
        }
    }
    let unpriced: Vec<&str> = unpriced.iter().map(String::as_str).collect();
    assert_eq!(unpriced, SERVER_TOOLS);
}
