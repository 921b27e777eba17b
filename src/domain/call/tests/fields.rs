//! What is refused, and under which name.

use super::*;

const CHAT: Route = Route::ChatCompletions;

fn chat(more: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{more}}}"#)
}

fn unknown(route: Route, body: &str) -> String {
    match refused(route, body) {
        CallRejection::FieldUnknown { route: name, field } => {
            assert_eq!(name, route.name());
            field
        }
        other => panic!("{body}: {other:?}"),
    }
}

fn problem(route: Route, body: &str) -> String {
    match refused(route, body) {
        CallRejection::Field { field, .. } => field,
        other => panic!("{body}: {other:?}"),
    }
}

/// **L7**: what nobody here has weighed is refused by its name, wherever it is.
#[test]
fn an_unknown_field_is_refused_by_name_at_any_depth() {
    for (body, field) in [
        (chat(r#","vendor_hint":1"#), "vendor_hint"),
        (chat(r#","stream_options":{"x":1}"#), "stream_options.x"),
        (
            chat(r#","tools":[{"type":"function","function":{"name":"f","x":1}}]"#),
            "tools.function.x",
        ),
        (chat(r#","service_tier":"turbo""#), "service_tier=turbo"),
        (
            chat(r#","moderation":{"model":"gpt-6-sol"}"#),
            "moderation.model=gpt-6-sol",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a","foo":1}]}]}"#.into(),
            "messages.content.foo",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"video_url","video_url":{}}]}]}"#.into(),
            "messages.content.type=video_url",
        ),
        (
            r#"{"model":"m","messages":[{"role":"oracle","content":"x"}]}"#.into(),
            "messages.role=oracle",
        ),
    ] {
        assert_eq!(unknown(CHAT, &body), field);
        let rules = CallRules {
            free_fields: [format!("chat/completions:{field}")].into(),
            ..CallRules::default()
        };
        let admitted = read(CHAT, &Bytes::from(body.clone()), &rules);
        assert!(admitted.is_ok(), "{body}: {admitted:?}");
    }
    for (route, body, field) in [
        (
            Route::Responses,
            r#"{"model":"m","input":"x","max_tokens":5}"#,
            "max_tokens",
        ),
        (
            Route::Responses,
            r#"{"model":"m","input":"x","reasoning":{"mode":"pro"}}"#,
            "reasoning.mode=pro",
        ),
        (
            Route::Responses,
            r#"{"model":"m","input":"x","access_programs":{"cyber":"daybreak_red"}}"#,
            "access_programs.cyber=daybreak_red",
        ),
        (
            Route::Responses,
            r#"{"model":"m","input":[{"type":"dream","id":"x"}]}"#,
            "input.type=dream",
        ),
        (
            Route::Messages,
            r#"{"model":"m","max_tokens":1,"messages":[],"max_completion_tokens":5}"#,
            "max_completion_tokens",
        ),
        (
            Route::Messages,
            r#"{"model":"m","max_tokens":1,"messages":[],"cache_control":{"type":"ephemeral","ttl":"7d"}}"#,
            "cache_control.ttl=7d",
        ),
        (
            Route::Messages,
            r#"{"model":"m","max_tokens":1,"messages":[],"system":[{"type":"text","text":"a",
                "cache_control":{"type":"ephemeral","scope":"galaxy"}}]}"#,
            "system.cache_control.scope=galaxy",
        ),
        (
            Route::Messages,
            r#"{"model":"m","max_tokens":1,"messages":[],"speed":"warp"}"#,
            "speed=warp",
        ),
        (Route::Embeddings, r#"{"model":"m","input":"x","n":2}"#, "n"),
        (
            Route::Completions,
            r#"{"model":"m","prompt":"x","messages":[]}"#,
            "messages",
        ),
    ] {
        assert_eq!(unknown(route, body), field);
    }
}

/// An admitted kind of content costs nothing by itself; what the model reads of it is not known.
#[test]
fn an_admitted_kind_of_content_is_bounded_by_the_window() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"video_url","video_url":{}}]}]}"#;
    let rules = CallRules {
        free_fields: ["chat/completions:messages.content.type=video_url".to_owned()].into(),
        ..CallRules::default()
    };
    let asked = read(CHAT, &Bytes::from_static(body.as_bytes()), &rules).expect("it is admitted");
    assert_eq!(asked.content, ContentFrom::Elsewhere);
}

/// The operator may know better what a block of thinking, or an earlier response, can bring.
#[test]
fn config_can_bound_what_is_elsewhere_by_its_bytes() {
    let free = |fields: &[&str]| CallRules {
        free_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        ..CallRules::default()
    };
    for (name, fields) in [
        (
            "messages_echo",
            &[
                "messages:messages.content.type=thinking",
                "messages:messages.content.type=redacted_thinking",
            ][..],
        ),
        ("responses_echo", &["responses:input.type=reasoning"]),
    ] {
        assert!(asked(name, &CallRules::default()).thoughts > 0, "{name}");
        assert!(asked(name, &free(&["messages:thread"])).thoughts > 0, "{name}");
        assert_eq!(asked(name, &free(fields)).thoughts, 0, "{name}");
    }
    for (name, field) in [("responses_previous", "responses:previous_response_id")] {
        assert_eq!(
            asked(name, &CallRules::default()).content,
            ContentFrom::Elsewhere,
            "{name}"
        );
        assert_eq!(
            asked(name, &free(&["messages:thread"])).content,
            ContentFrom::Elsewhere,
            "{name}"
        );
        assert_eq!(asked(name, &free(&[field])).content, ContentFrom::Request, "{name}");
    }
    // A tool that runs at the provider needs a price all the same.
    let rules = free(&[
        "responses:prompt",
        "messages:mcp_servers",
        "responses:tools.type=web_search",
    ]);
    assert!(sent("responses_web_search").read(&rules).is_err());
    assert!(sent("messages_mcp").read(&rules).is_err());
}

/// A null is as good as nothing, as the SDKs send it.
#[test]
fn null_is_no_value() {
    let body = chat(r#","n":null,"tools":null,"service_tier":null,"web_search_options":null,"audio":null"#);
    let asked = read_text(CHAT, &body).expect("a request");
    assert!(!asked.most.audio);
    let body = r#"{"model":"m","max_tokens":1,"messages":[],"fallbacks":null,"mcp_servers":null,"thread":null}"#;
    let asked = read_text(Route::Messages, body).expect("a request");
    assert_eq!(asked.content, ContentFrom::Request);
    let body = r#"{"model":"m","input":"x","background":false,"previous_response_id":null}"#;
    let asked = read_text(Route::Responses, body).expect("a request");
    assert_eq!(asked.content, ContentFrom::Request);
}

#[test]
fn a_value_of_another_type_is_refused_with_its_field() {
    for (more, field) in [
        (r#","n":"3""#, "n"),
        (r#","n":0"#, "n"),
        (r#","n":-1"#, "n"),
        (r#","n":1.5"#, "n"),
        (r#","n":2.0"#, "n"),
        (r#","n":1e300"#, "n"),
        (r#","n":[2]"#, "n"),
        (r#","n":true"#, "n"),
        (r#","n":100001"#, "n"),
        (r#","max_tokens":"5""#, "max_tokens"),
        (r#","max_tokens":0"#, "max_tokens"),
        (r#","max_tokens":-1"#, "max_tokens"),
        (
            r#","max_completion_tokens":18446744073709551616"#,
            "max_completion_tokens",
        ),
        (r#","max_completion_tokens":1000000001"#, "max_completion_tokens"),
        (r#","max_tokens":5,"max_completion_tokens":6"#, "max_tokens"),
        (r#","stream":"true""#, "stream"),
        (r#","stream":1"#, "stream"),
        (r#","stream_options":true"#, "stream_options"),
        (
            r#","stream_options":{"include_usage":"yes"}"#,
            "stream_options.include_usage",
        ),
        (r#","service_tier":5"#, "service_tier"),
        (r#","modalities":"audio""#, "modalities"),
        (r#","temperature":"hot""#, "temperature"),
        (r#","tools":{}"#, "tools"),
        (r#","tools":[{"type":"function"}]"#, "tools"),
        (
            r#","tools":[{"type":"function","function":{"description":"d"}}]"#,
            "tools",
        ),
        (r#","tools":[{"function":{"name":"f"}}]"#, "tools"),
    ] {
        assert_eq!(problem(CHAT, &chat(more)), field, "{more}");
    }
    for (route, body, field) in [
        (CHAT, r#"{"messages":[]}"#, "model"),
        (CHAT, r#"{"model":"","messages":[]}"#, "model"),
        (CHAT, r#"{"model":"m\u0000","messages":[]}"#, "model"),
        (CHAT, r#"{"model":7,"messages":[]}"#, "model"),
        (CHAT, r#"{"model":"m"}"#, "messages"),
        (CHAT, r#"{"model":"m","messages":"x"}"#, "messages"),
        (CHAT, r#"{"model":"m","messages":[null]}"#, "messages"),
        (CHAT, r#"{"model":"m","messages":[{"content":"x"}]}"#, "messages"),
        (
            CHAT,
            r#"{"model":"m","messages":[{"role":"user","content":5}]}"#,
            "messages.content",
        ),
        (Route::Embeddings, r#"{"model":"m"}"#, "input"),
        (Route::Embeddings, r#"{"model":"m","input":[]}"#, "input"),
        (Route::Embeddings, r#"{"model":"m","input":[1,"a"]}"#, "input"),
        (Route::Embeddings, r#"{"model":"m","input":[1.5]}"#, "input"),
        (Route::Embeddings, r#"{"model":"m","input":{"a":1}}"#, "input"),
        (Route::Completions, r#"{"model":"m","prompt":[[]]}"#, "prompt"),
        (
            Route::Messages,
            r#"{"model":"m","messages":[],"max_tokens":1.5}"#,
            "max_tokens",
        ),
        (
            Route::Messages,
            r#"{"model":"m","messages":[],"thinking":{"type":"enabled","budget_tokens":2048}}"#,
            "max_tokens",
        ),
        // Thoughts that are interleaved with tools would have the whole window.
        (
            Route::Messages,
            r#"{"model":"m","messages":[],"max_tokens":2048,"thinking":{"type":"enabled","budget_tokens":2048}}"#,
            "thinking.budget_tokens",
        ),
        (
            Route::Messages,
            r#"{"model":"m","messages":[],"max_tokens":1,"thinking":{"type":"enabled","budget_tokens":150000}}"#,
            "thinking.budget_tokens",
        ),
        (
            Route::Messages,
            r#"{"model":"m","messages":[],"max_tokens":9,"thinking":{"type":"enabled","budget_tokens":-5}}"#,
            "thinking.budget_tokens",
        ),
        (
            Route::Messages,
            r#"{"model":"m","messages":[],"max_tokens":9,"billing_policy":{}}"#,
            "billing_policy",
        ),
    ] {
        assert_eq!(problem(route, body), field, "{body}");
    }
}

/// Nothing is generated, and the prompt is cached for the next call.
#[test]
fn anthropic_takes_a_limit_of_zero() {
    let asked = read_text(Route::Messages, r#"{"model":"m","messages":[],"max_tokens":0}"#).expect("a request");
    assert_eq!(
        asked.output,
        OutputLimit::Tokens {
            asked: Some(0),
            times: 1
        }
    );
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for body in [
        r#"{"model":"m","messages":[],"n":1,"n":100}"#,
        r#"{"model":"m","messages":[],"n":1,"\u006e":100}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}"#,
        r#"{"model":"m","messages":[]} {}"#,
        r#"[{"model":"m"}]"#,
        r#"{"model":"m","messages":[],"n":NaN}"#,
        "\u{feff}{}",
        "",
    ] {
        let found = read_text(CHAT, body);
        assert!(matches!(found, Err(Rejection::Malformed(_))), "{body}: {found:?}");
    }
    let deep = format!(
        r#"{{"model":"m","messages":[],"metadata":{}1{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    assert!(matches!(read_text(CHAT, &deep), Err(Rejection::Malformed(_))));
}

/// Tools that run at the provider have fees, and read again and again what the call has read.
#[test]
fn a_tool_that_runs_at_the_provider_needs_a_price() {
    let responses = |tool: &str| format!(r#"{{"model":"m","input":"x","tools":[{tool}]}}"#);
    let messages = |tool: &str| format!(r#"{{"model":"m","max_tokens":1,"messages":[],"tools":[{tool}]}}"#);
    for (route, body, name) in [
        (Route::Responses, responses(r#"{"type":"web_search_2025_08_26"}"#), "web_search"),
        (Route::Responses, responses(r#"{"type":"web_search_preview_2025_03_11"}"#), "web_search"),
        (Route::Responses, responses(r#"{"type":"file_search","vector_store_ids":["v"]}"#), "file_search"),
        (Route::Responses, responses(r#"{"type":"code_interpreter","container":"c"}"#), "code_interpreter"),
        (Route::Responses, responses(r#"{"type":"image_generation"}"#), "image_generation"),
        (Route::Responses, responses(r#"{"type":"mcp","server_label":"l"}"#), "mcp"),
        (Route::Responses, responses(r#"{"type":"shell","environment":{"type":"container_auto"}}"#), "shell"),
        (Route::Responses, responses(r#"{"type":"shell"}"#), "shell"),
        (Route::Responses, responses(r#"{"type":"tool_search"}"#), "tool_search"),
        (Route::Responses, responses(r#"{"type":"programmatic_tool_calling"}"#), "programmatic_tool_calling"),
        (Route::Responses, responses(r#"{"type":"unheard_of"}"#), "unheard_of"),
        (Route::Responses, r#"{"model":"m","prompt":{"id":"p"}}"#.into(), "prompt"),
        (
            Route::Responses,
            r#"{"model":"m","input":"x","context_management":[{"type":"compaction"}]}"#.into(),
            "compaction",
        ),
        (Route::Messages, messages(r#"{"type":"web_search_20260318","name":"web_search"}"#), "web_search"),
        (Route::Messages, messages(r#"{"type":"web_fetch_20250910","name":"web_fetch"}"#), "web_fetch"),
        (Route::Messages, messages(r#"{"type":"code_execution_20250825","name":"code_execution"}"#), "code_execution"),
        (Route::Messages, messages(r#"{"type":"advisor_20260301","name":"advisor","model":"m"}"#), "advisor"),
        (
            Route::Messages,
            messages(r#"{"type":"tool_search_tool_bm25_20251119","name":"tool_search_tool_bm25"}"#),
            "tool_search",
        ),
        (
            Route::Messages,
            r#"{"model":"m","max_tokens":1,"messages":[],"context_management":{"edits":[{"type":"compact_20260112"}]}}"#
                .into(),
            "compact",
        ),
        (
            Route::ChatCompletions,
            r#"{"model":"gpt-4o-search-preview","messages":[]}"#.into(),
            "web_search",
        ),
    ] {
        assert_eq!(refused(route, &body), CallRejection::ServerTool { tool: name.into() }, "{body}");
        let rules = priced(&[(name, "0.1")]);
        let asked = read(route, &Bytes::from(body.clone()), &rules).unwrap_or_else(|why| panic!("{body}: {why}"));
        assert_eq!((asked.fees, asked.content), (usd("0.1"), ContentFrom::Elsewhere), "{body}");
    }
    // It cannot pass a manifest under the name of another.
    let disguised = messages(r#"{"type":"web_search_20250305","name":"get_weather"}"#);
    let rules = priced(&[("web_search", "0.1")]);
    assert!(read(Route::Messages, &Bytes::from(disguised), &rules).is_err());
    // The client's own run where they ran before.
    for tool in [
        r#"{"type":"shell","environment":{"type":"local"}}"#,
        r#"{"type":"tool_search","execution":"client"}"#,
        r#"{"type":"apply_patch"}"#,
    ] {
        assert!(read_text(Route::Responses, &responses(tool)).is_ok(), "{tool}");
    }
}

/// A tool's type that is offered deep within a message is weighed as one at the top is.
#[test]
fn tools_within_messages_are_weighed_too() {
    let responses = r#"{"model":"m","input":[{"type":"additional_tools","role":"developer",
        "tools":[{"type":"web_search"}]}]}"#;
    let messages = r#"{"model":"m","max_tokens":1,"messages":[{"role":"system","content":[{"type":"tool_addition",
        "tool":{"type":"tool_definition","definition":{"type":"web_search_20260318","name":"web_search"}}}]}]}"#;
    for (route, body) in [(Route::Responses, responses), (Route::Messages, messages)] {
        let expected = CallRejection::ServerTool {
            tool: "web_search".into(),
        };
        assert_eq!(refused(route, body), expected, "{body}");
    }
}

/// A route that costs nothing takes what it takes.
#[test]
fn free_routes_take_any_field() {
    let body = r#"{"model":"m","messages":[],"tools":[{"type":"web_search_20250305","name":"web_search"}],"new":1}"#;
    assert!(read_text(Route::CountTokens, body).is_ok());
    assert!(read_text(Route::Moderations, r#"{"input":"x"}"#).is_ok());
    assert!(read_text(Route::Moderations, r#"{"input":"x","input":"y"}"#).is_err());
}
