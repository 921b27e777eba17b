//! Headers and queries.

use super::*;

fn names(forwarded: &Forwarded) -> Vec<&str> {
    forwarded.headers.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_sdks_headers_pass_but_for_what_is_ours() {
    for sent in SENT.iter() {
        let headers = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let forwarded = forward(sent.route().api(), headers, &CallRules::default()).expect("known headers");
        let names = names(&forwarded);
        assert!(
            names.contains(&"content-type") && names.contains(&"x-stainless-lang"),
            "{}",
            sent.name
        );
        assert!(!names.contains(&"accept-encoding"), "{}", sent.name);
    }
}

#[test]
fn credentials_and_accounts_go_no_further() {
    let ours = [
        ("Authorization", "Bearer agent-key"),
        ("X-Api-Key", "agent-key"),
        ("api-key", "agent-key"),
        ("OpenAI-Organization", "org-1"),
        ("OpenAI-Project", "proj-1"),
        ("anthropic-workspace-id", "wrkspc_1"),
        ("anthropic-user-profile-id", "uprof_1"),
        ("Host", "127.0.0.1"),
        ("Connection", "keep-alive"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "12"),
        ("Accept-Encoding", "gzip"),
        ("Cookie", "a=b"),
        ("Idempotency-Key", "k"),
        ("X-Backstop-Task", "t"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("x-unheard-of", "1"),
    ];
    for api in [Api::Openai, Api::Anthropic] {
        assert_eq!(forward(api, ours, &CallRules::default()), Ok(Forwarded::default()));
    }
}

#[test]
fn a_feature_that_is_not_known_is_refused_by_name() {
    let beta = |value: &'static str, rules: &CallRules| forward(Api::Anthropic, [("Anthropic-Beta", value)], rules);
    let strict = CallRules::default();
    let known = beta("pdfs-2024-09-25, interleaved-thinking-2025-05-14,", &strict).expect("they are known");
    let joined = "pdfs-2024-09-25,interleaved-thinking-2025-05-14".to_owned();
    assert_eq!(known.headers, [("anthropic-beta".to_owned(), joined)]);
    let unknown = CallRejection::Header {
        name: "anthropic-beta",
        value: "double-price-2027".into(),
    };
    assert_eq!(beta("pdfs-2024-09-25,double-price-2027", &strict), Err(unknown));
    let admitted = CallRules {
        free_betas: ["double-price-2027".to_owned()].into(),
        ..CallRules::default()
    };
    assert!(beta("pdfs-2024-09-25,double-price-2027", &admitted).is_ok());
    for (api, name, value) in [
        (Api::Openai, "OpenAI-Beta", "realtime=v9"),
        (Api::Anthropic, "anthropic-version", "2099-01-01"),
    ] {
        assert!(
            matches!(
                forward(api, [(name, value)], &strict),
                Err(CallRejection::Header { .. })
            ),
            "{name}"
        );
    }
    // The other API's features mean nothing there, so they go no further.
    assert_eq!(
        forward(Api::Openai, [("anthropic-beta", "x")], &strict),
        Ok(Forwarded::default())
    );
}

/// What Claude Code 2.1 sends with every call to a base URL of its user's own.
#[test]
fn claude_codes_features_are_known() {
    let betas = "claude-code-20250219,interleaved-thinking-2025-05-14,redact-thinking-2026-02-12,\
                 thinking-token-count-2026-05-13,context-management-2025-06-27,prompt-caching-scope-2026-01-05,\
                 mid-conversation-system-2026-04-07,effort-2025-11-24";
    let forwarded = forward(Api::Anthropic, [("anthropic-beta", betas)], &CallRules::default());
    let expected = vec![("anthropic-beta".to_owned(), betas.to_owned())];
    assert_eq!(forwarded.map(|forwarded| forwarded.headers), Ok(expected));
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"system","content":"b"}],"system":[{"type":"text",
        "text":"a","cache_control":{"type":"ephemeral","scope":"global"}}]}"#;
    assert!(read_text(Route::Messages, body).is_ok());
}

#[test]
fn features_that_lift_a_models_limits_are_told() {
    let headers = sent("messages_beta").headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    let forwarded = forward(Api::Anthropic, headers, &CallRules::default()).expect("known headers");
    let widened = Widened {
        context: Some(1_000_000),
        output: Some(131_072),
    };
    assert_eq!(forwarded.widened, widened);
}

/// Two readers shall take the body for the same thing.
#[test]
fn a_body_has_one_type() {
    let of = |values: &[&'static str]| {
        let headers = values.iter().map(|value| ("Content-Type", *value));
        let forwarded = forward(Api::Openai, headers, &CallRules::default()).expect("known headers");
        let values = forwarded.headers.into_iter().map(|(_, value)| value);
        values.collect::<Vec<_>>()
    };
    assert_eq!(of(&["Application/JSON; charset=utf-16"]), ["application/json"]);
    assert_eq!(of(&["application/json", "text/plain"]), ["application/json"]);
    assert_eq!(
        of(&["multipart/form-data; boundary=Ab"]),
        ["multipart/form-data; boundary=Ab"]
    );
}

#[test]
fn an_encoded_body_is_refused() {
    for (value, is_fine) in [
        ("gzip", false),
        ("br, gzip", false),
        ("identity", true),
        (" Identity ", true),
    ] {
        let forwarded = forward(Api::Openai, [("Content-Encoding", value)], &CallRules::default());
        assert_eq!(forwarded.is_ok(), is_fine, "{value}");
    }
}

#[test]
fn a_query_is_one_that_is_known() {
    for (route, text, is_fine) in [
        (Route::Messages, "beta=true", true),
        (Route::CountTokens, "beta=true", true),
        (Route::Messages, "beta=true&beta=true", false),
        (Route::Messages, "beta=false", false),
        (Route::Messages, "model=x", false),
        (Route::ChatCompletions, "beta=true", false),
        (Route::ChatCompletions, "api-version=1", false),
        (Route::AnthropicModels, "limit=20&after_id=claude-haiku-4-5", true),
        (Route::OpenaiModels, "limit=20", true),
        (Route::OpenaiModels, "limit=%32", false),
        (Route::OpenaiModels, "limit=1&limit=2", false),
        (Route::OpenaiModels, "limit", false),
    ] {
        let found = query(route, Some(text));
        assert_eq!(found.is_ok(), is_fine, "{text}");
        if is_fine {
            assert_eq!(found, Ok(Some(text.to_owned())));
        }
    }
    assert_eq!(query(Route::ChatCompletions, None), Ok(None));
    assert_eq!(query(Route::ChatCompletions, Some("")), Ok(None));
}
