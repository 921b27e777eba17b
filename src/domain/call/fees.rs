//! What tools that run at the provider cost: declared by the operator for all their uses in one call, held
//! with the call, and charged only where they ran or where nobody can tell.
//!
//! Web searches are the one use that providers count. Where the price list has a rate for them, those that
//! are reported are charged and the fee is not: it would be the same money twice. Those that nobody counted are
//! charged by the fee, or as they are seen if that is dearer. So that the fee, which the hold covers, is enough
//! for them, the request must say how many there may be ([`check_searches`]). OpenAI bills queries, and one call
//! of the tool may make several, so there config says how many a call is taken for
//! ([`CallRules::searches_per_call`]).
//!
//! Of some others an answer lists every run. Where none is listed there was none, and there is no fee. What
//! is billed without a run that shows (a container that is kept, a stored prompt, a compaction) always is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::answer::Answer;
use super::asked::Asked;
use super::rejection::CallRejection;
use super::route::Route;
use super::rules::CallRules;
use super::tools::{priced_as, undated};
use crate::domain::money::Usd;
use crate::domain::price::{CallBound, PriceEntry, Usage, settle, worst_case};

const WEB_SEARCH: &str = "web_search";
const MCP: &str = "mcp";

/// Tools whose every run is an item of the answer, and which cost nothing without one.
const LISTED: [&str; 6] = [
    WEB_SEARCH,
    "web_fetch",
    "file_search",
    "tool_search",
    "image_generation",
    MCP,
];

/// Whether the answers of this route list the tools that ran, and count the searches.
const fn lists_runs(route: Route) -> bool {
    matches!(route, Route::Responses | Route::Messages)
}

/// The fees that a call's hold covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fees {
    by_tool: BTreeMap<String, Usd>,
    /// The client's own tools on offer.
    own_tools: BTreeSet<String>,
    lists_runs: bool,
}

impl Fees {
    /// Those of a call that was read by these rules.
    pub fn new(asked: &Asked, rules: &CallRules) -> Self {
        let fee = |tool: &String| (tool.clone(), rules.server_tools.get(tool).copied().unwrap_or_default());
        let by_tool: BTreeMap<String, Usd> = asked.server_tools.iter().map(fee).collect();
        let own = |tool: &&String| !by_tool.contains_key(priced_as(tool));
        Self {
            own_tools: asked.tools.iter().filter(own).cloned().collect(),
            by_tool,
            lists_runs: lists_runs(asked.route),
        }
    }

    /// Whether the provider may run tools.
    pub fn any(&self) -> bool {
        !self.by_tool.is_empty()
    }

    /// What is owed for this answer beside what its usage costs at this price. Searches that the price list
    /// has no rate for are taken out of the usage: the fee is for them.
    pub fn owed(&self, answer: &Answer, usage: &mut Usage, entry: &PriceEntry) -> Usd {
        if self.by_tool.is_empty() {
            return Usd::ZERO;
        }
        let names = answer.tool_calls.iter().filter(|tool| !self.own_tools.contains(*tool));
        let remote = answer.calls_remote.then_some(MCP);
        let ran: BTreeSet<&str> = names.map(|tool| priced_as(undated(tool))).chain(remote).collect();
        // A tool of a remote server has a name that nobody here knows, so it may be anyone's.
        let strangers = answer.calls_others || ran.iter().any(|tool| !self.by_tool.contains_key(*tool));
        let searched = usage.web_searches > 0;
        let priced = entry.units.web_search.is_some();
        let mut owed = Usd::ZERO;
        for (tool, fee) in &self.by_tool {
            let is_search = tool == WEB_SEARCH;
            if is_search && priced && searched {
                if !answer.stated.searches && seen_searches(usage, entry).is_some_and(|cost| cost <= *fee) {
                    usage.web_searches = 0;
                    owed = owed.saturating_add(*fee);
                }
                continue;
            }
            let told = self.lists_runs && !strangers && LISTED.contains(&tool.as_str());
            if !told || ran.contains(tool.as_str()) || is_search && searched {
                owed = owed.saturating_add(*fee);
            }
        }
        if !priced && self.by_tool.contains_key(WEB_SEARCH) {
            usage.web_searches = 0;
        }
        owed
    }
}

/// What the searches of this usage cost alone.
fn seen_searches(usage: &Usage, entry: &PriceEntry) -> Option<Usd> {
    let alone = Usage {
        web_searches: usage.web_searches,
        tier: usage.tier,
        region: usage.region,
        fast: usage.fast,
        ..Usage::default()
    };
    settle(&alone, entry).ok()
}

/// How many web searches, or calls that search, a request allows; `None` if it does not say.
pub(super) fn allowed_searches(route: Route, fields: &Map<String, Value>, fixed: &BTreeSet<String>) -> Option<u64> {
    match route {
        Route::Responses => fields.get("max_tool_calls")?.as_u64(),
        // One that is offered within a message has limits that are not looked for.
        Route::Messages if !fixed.contains(WEB_SEARCH) => {
            let kind = |tool: &Value| tool.get("type").and_then(Value::as_str).map(undated) == Some(WEB_SEARCH);
            let tools = fields.get("tools")?.as_array()?.iter();
            tools.filter(|tool| kind(tool)).try_fold(0_u64, |sum, tool| {
                let uses = tool.get("max_uses").and_then(Value::as_u64)?;
                sum.checked_add(uses)
            })
        }
        _ => None,
    }
}

/// Refuses a call whose searches could cost more than their fee, where they are charged by their number.
///
/// # Errors
/// It names the field that must be set, and to what at most.
pub fn check_searches(asked: &Asked, entry: &PriceEntry, rules: &CallRules) -> Result<(), CallRejection> {
    let Some(fee) = rules.server_tools.get(WEB_SEARCH) else {
        return Ok(());
    };
    if !asked.server_tools.contains(WEB_SEARCH) || !lists_runs(asked.route) || entry.units.web_search.is_none() {
        return Ok(());
    }
    let cost = |searches: u64| {
        let most = CallBound {
            web_searches: searches,
            ..CallBound {
                region: asked.most.region,
                fast: asked.most.fast,
                ..CallBound::default()
            }
        };
        worst_case(&most, entry).ok()
    };
    // There a limit is one on calls, here one on searches.
    let (field, times) = match asked.route {
        Route::Responses => ("max_tool_calls", rules.searches_per_call.max(1)),
        _ => ("tools.max_uses", 1),
    };
    let covered = |uses: u64| cost(uses.saturating_mul(times)).is_some_and(|cost| cost <= *fee);
    if asked.searches.is_some_and(covered) {
        return Ok(());
    }
    // Each is rounded up, so this is never one too many.
    let each = cost(times).map_or(0, |each| each.nanos().unsigned_abs()).max(1);
    let most = fee.nanos().unsigned_abs() / each;
    Err(CallRejection::Field {
        field: field.to_owned(),
        problem: format!(
            "must be set, to {most} at most: gateway.server_tools.web_search covers so many, each of them taken for \
             {times} searches"
        ),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::domain::call::{read, read_answer};
    use crate::domain::price::{Catalogue, Rate};

    fn usd(text: &str) -> Usd {
        text.parse().expect("an amount")
    }

    fn rules(tools: &[&str]) -> CallRules {
        CallRules {
            server_tools: tools.iter().map(|tool| ((*tool).to_owned(), usd("0.5"))).collect(),
            ..CallRules::default()
        }
    }

    /// A price with this rate for a search.
    fn entry(search: Option<&str>) -> PriceEntry {
        let model = "gpt-5-mini".parse().expect("a model");
        let quote = Catalogue::builtin().quote(&"openai".parse().expect("a service"), &model);
        let mut entry = PriceEntry::clone(&quote.expect("a price").entry);
        entry.units.web_search = search.map(|text| Rate::per_unit(text).expect("a rate"));
        entry
    }

    fn messages(tool: Value) -> Value {
        json!({ "model": "m", "max_tokens": 9, "messages": [], "tools": [tool] })
    }

    fn asked(route: Route, body: &Value, rules: &CallRules) -> Asked {
        read(route, &Bytes::from(body.to_string()), rules).expect("it is read")
    }

    #[test]
    fn searches_that_are_reported_are_charged_once() {
        let rules = rules(&["web_search"]);
        let asked = asked(
            Route::Messages,
            &messages(json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 3})),
            &rules,
        );
        let fees = Fees::new(&asked, &rules);
        let answer = |searches: u64| {
            let call = json!({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}});
            let content: Vec<Value> = (0..searches).map(|_| call.clone()).collect();
            let body = json!({
                "id": "msg", "type": "message", "model": "m", "content": content, "stop_reason": "end_turn",
                "usage": {"input_tokens": 5, "output_tokens": 1,
                          "server_tool_use": {"web_search_requests": searches}}
            });
            let answer = read_answer(Route::Messages, body.to_string().as_bytes()).expect("an answer");
            let usage = answer.usage.expect("a usage");
            (answer, usage)
        };
        let owed = |searches, entry: &PriceEntry| {
            let (answer, mut usage) = answer(searches);
            (fees.owed(&answer, &mut usage, entry), usage.web_searches)
        };
        let (priced, unpriced) = (entry(Some("0.01")), entry(None));
        assert_eq!(owed(2, &priced), (Usd::ZERO, 2), "by their number");
        assert_eq!(owed(0, &priced), (Usd::ZERO, 0));
        assert_eq!(owed(2, &unpriced), (usd("0.5"), 0), "by the fee");
        assert_eq!(owed(0, &unpriced), (Usd::ZERO, 0));
        // It ran, and no count came: it is not taken for nothing.
        let (answer, mut usage) = answer(1);
        usage.web_searches = 0;
        assert_eq!(fees.owed(&answer, &mut usage, &priced), usd("0.5"));
    }

    #[test]
    fn a_tool_that_did_not_run_costs_nothing_where_the_answer_tells() {
        let responses = |kind: &str| json!({"model": "m", "input": "x", "tools": [{"type": kind}]});
        let rules = rules(&["file_search", "code_interpreter", "mcp"]);
        for (kind, output, owed) in [
            ("file_search", json!([]), "0"),
            ("file_search", json!([{"type": "message"}]), "0"),
            ("file_search", json!([{"type": "file_search_call"}]), "0.5"),
            // Its container is billed whether it ran or not.
            ("code_interpreter", json!([]), "0.5"),
            ("mcp", json!([{"type": "mcp_list_tools"}]), "0"),
            ("mcp", json!([{"type": "mcp_call", "name": "lookup"}]), "0.5"),
            ("mcp", json!([{"type": "function_call", "name": ""}]), "0.5"),
        ] {
            let asked = asked(Route::Responses, &responses(kind), &rules);
            let body = json!({"id": "r", "status": "completed", "output": output,
                              "usage": {"input_tokens": 1, "output_tokens": 1}});
            let answer = read_answer(Route::Responses, body.to_string().as_bytes()).expect("an answer");
            let mut usage = answer.usage.expect("a usage");
            let fees = Fees::new(&asked, &rules);
            assert_eq!(
                fees.owed(&answer, &mut usage, &entry(None)),
                usd(owed),
                "{kind} {output}"
            );
        }
    }

    #[test]
    fn the_fee_covers_as_many_searches_as_the_request_allows() {
        let rules = rules(&["web_search"]);
        let check = |route, body: &Value, entry: &PriceEntry| {
            check_searches(&asked(route, body, &rules), entry, &rules).map_err(|why| why.to_string())
        };
        let uses =
            |uses: Value| messages(json!({"type": "web_search_20250305", "name": "web_search", "max_uses": uses}));
        let entry_of = entry(Some("0.01"));
        assert_eq!(check(Route::Messages, &uses(json!(40)), &entry_of), Ok(()));
        for refused in [uses(json!(51)), uses(Value::Null)] {
            let why = check(Route::Messages, &refused, &entry_of).expect_err("too many");
            assert!(why.contains("max_uses") && why.contains("at most"), "{why}");
        }
        let calls = |most: Value| {
            json!({"model": "m", "input": "x", "max_tool_calls": most,
                                         "tools": [{"type": "web_search"}]})
        };
        // A call of the tool may be several searches, by its queries.
        assert_eq!(check(Route::Responses, &calls(json!(10)), &entry_of), Ok(()));
        let why = check(Route::Responses, &calls(json!(11)), &entry_of).expect_err("too many");
        assert!(why.contains("to 10 at most") && why.contains("5 searches"), "{why}");
        assert!(check(Route::Responses, &calls(Value::Null), &entry_of).is_err());
        assert_eq!(
            check(Route::Responses, &calls(Value::Null), &entry(None)),
            Ok(()),
            "the fee is all"
        );
    }

    /// An answer on this route, and its usage.
    fn answered(body: &Value) -> (Answer, Usage) {
        let answer = read_answer(Route::Responses, body.to_string().as_bytes()).expect("an answer");
        let usage = answer.usage.expect("a usage");
        (answer, usage)
    }

    /// One call may be several searches to its provider, and only its own count says how many.
    #[test]
    fn searches_that_nobody_counted_cost_their_fee_at_least() {
        let rules = rules(&["web_search"]);
        let body = json!({"model": "m", "input": "x", "max_tool_calls": 4, "tools": [{"type": "web_search"}]});
        let fees = Fees::new(&asked(Route::Responses, &body, &rules), &rules);
        let price = entry(Some("0.01"));
        let cost = |queries: usize, told: Value| {
            let queries: Vec<String> = (0..queries).map(|n| format!("query {n}")).collect();
            let search = json!({"type": "web_search_call", "status": "completed",
                                "action": {"type": "search", "query": "query 0", "queries": queries}});
            let (answer, mut usage) = answered(&json!({
                "id": "r", "status": "completed", "output": [search],
                "usage": {"input_tokens": 0, "output_tokens": 0}, "tool_usage": told
            }));
            let owed = fees.owed(&answer, &mut usage, &price);
            owed.saturating_add(crate::domain::price::settle(&usage, &price).expect("a price"))
        };
        assert_eq!(cost(3, Value::Null), usd("0.5"));
        assert_eq!(cost(0, Value::Null), usd("0.5"));
        assert_eq!(
            cost(60, Value::Null),
            usd("0.6"),
            "what is seen counts where it is dearer"
        );
        let counted = json!({"web_search": {"num_requests": 3}});
        assert_eq!(cost(3, counted), usd("0.03"), "its provider's count is what it bills");
    }

    /// An agent cannot make a remote server's tool its own by the name.
    #[test]
    fn a_tool_of_a_remote_server_is_priced_whatever_its_name() {
        let rules = rules(&["mcp"]);
        let own = json!({"type": "function", "name": "lookup", "parameters": {}});
        let remote = json!({"type": "mcp", "server_label": "s", "server_url": "https://example.com"});
        let body = json!({"model": "m", "input": "x", "tools": [remote, own]});
        let fees = Fees::new(&asked(Route::Responses, &body, &rules), &rules);
        for (output, owed) in [
            (json!([{"type": "mcp_call", "name": "lookup"}]), "0.5"),
            (json!([{"type": "function_call", "name": "lookup"}]), "0"),
        ] {
            let (answer, mut usage) = answered(&json!({
                "id": "r", "status": "completed", "output": output,
                "usage": {"input_tokens": 1, "output_tokens": 1}
            }));
            assert_eq!(fees.owed(&answer, &mut usage, &entry(None)), usd(owed), "{output}");
        }
        let own = json!({"name": "lookup", "input_schema": {"type": "object"}});
        let remote = json!({"type": "mcp_toolset", "mcp_server_name": "s"});
        let body = json!({"model": "m", "max_tokens": 9, "messages": [], "tools": [remote, own],
                          "mcp_servers": [{"type": "url", "name": "s", "url": "https://example.com"}]});
        let fees = Fees::new(&asked(Route::Messages, &body, &rules), &rules);
        for (kind, owed) in [("mcp_tool_use", "0.5"), ("tool_use", "0")] {
            let block = json!({"type": kind, "id": "t", "name": "lookup", "server_name": "s", "input": {}});
            let body = json!({"id": "msg", "type": "message", "model": "m", "content": [block],
                              "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 1}});
            let answer = read_answer(Route::Messages, body.to_string().as_bytes()).expect("an answer");
            let mut usage = answer.usage.expect("a usage");
            assert_eq!(fees.owed(&answer, &mut usage, &entry(None)), usd(owed), "{kind}");
        }
    }
}
