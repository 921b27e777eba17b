//! What is made of the SDKs' requests.

use super::*;
use crate::domain::price::{Region, ServiceTier};

#[test]
fn every_request_of_the_sdks_is_understood_or_refused_by_name() {
    let refused = |name: &str| {
        Some(match name {
            "chat_web_search" | "responses_web_search" | "messages_web_search" => CallRejection::ServerTool {
                tool: "web_search".into(),
            },
            "messages_mcp" => CallRejection::ServerTool { tool: "mcp".into() },
            "messages_fallbacks" => CallRejection::Field {
                field: "fallbacks".into(),
                problem: "cannot be set: another model may answer, at another price".into(),
            },
            "responses_background" => CallRejection::Field {
                field: "background".into(),
                problem: "cannot be true: the answer, and with it the usage, would come to somebody else".into(),
            },
            _ => return None,
        })
    };
    for sent in SENT.iter() {
        match (sent.read(&CallRules::default()), refused(&sent.name)) {
            (Ok(asked), None) => {
                assert_eq!(asked.route, sent.route());
                let bytes = sent.body.len() as u64;
                assert!(asked.route.metering() == Metering::Free || asked.most.input_tokens >= bytes);
            }
            (Err(Rejection::Call(why)), Some(expected)) => assert_eq!(why, expected, "{}", sent.name),
            (found, expected) => panic!("{}: {found:?} instead of {expected:?}", sent.name),
        }
    }
    assert!(SENT.len() >= 50);
}

/// Their bytes bound what the model reads, but for what is encoded or elsewhere.
#[test]
fn content_from_elsewhere_is_told() {
    let rules = CallRules::default();
    let elsewhere = [
        "chat_audio_in",
        "responses_previous",
        "responses_file",
        "messages_image",
        "messages_pdf_url",
    ];
    for sent in SENT.iter() {
        let Ok(asked) = sent.read(&rules) else { continue };
        let expected = if elsewhere.contains(&sent.name.as_str()) {
            ContentFrom::Elsewhere
        } else {
            ContentFrom::Request
        };
        assert_eq!(asked.content, expected, "{}", sent.name);
        if expected == ContentFrom::Elsewhere {
            assert_eq!(asked.text, None, "{}", sent.name);
        }
    }
    assert!(asked("chat_image", &rules).most.image);
    assert!(asked("chat_audio_in", &rules).most.audio);
    assert!(asked("chat_audio_out", &rules).most.audio);
    assert!(asked("messages_image", &rules).most.image);
    assert!(asked("responses_file", &rules).most.image);
}

/// All text that the model reads is there to be counted; what it does not read is not.
#[test]
fn the_text_can_be_counted() {
    let rules = CallRules::default();
    let text = asked("chat", &rules).text.expect("text alone");
    assert_eq!(text, ["You are helpful.", "Grüße, 世界! \u{2028} \"quoted\" 😀"]);
    // Tools are read in another form.
    let tools = asked("chat_tools", &rules);
    let text = tools.text.expect("text alone").concat();
    assert!(!text.contains("Weather of a city") && !text.contains("run_sql"));
    assert!(tools.uncounted > 100, "{}", tools.uncounted);
    assert_eq!(asked("chat", &rules).uncounted, 0);
    let text = asked("messages_echo_no_thinking", &rules)
        .text
        .expect("text alone")
        .concat();
    assert!(text.contains("12 C") && !text.contains("Paris") && !text.contains("toolu_1"));
    assert_eq!(
        asked("embeddings_many", &rules).text,
        Some(vec!["hello".into(), "world".into()])
    );
    // Tokens are bounded by their digits, but there is no text.
    let tokens = asked("embeddings_tokens", &rules);
    assert_eq!((tokens.text, tokens.content), (None, ContentFrom::Request));
}

#[test]
fn limits_and_multipliers() {
    let rules = CallRules::default();
    let output = |name: &str| asked(name, &rules).output;
    let tokens = |asked, times| OutputLimit::Tokens { asked, times };
    assert_eq!(output("chat"), tokens(None, 1));
    assert_eq!(output("chat_null_fields"), tokens(None, 1));
    assert_eq!(output("chat_limit"), tokens(Some(500), 2));
    assert_eq!(output("chat_old_limit"), tokens(Some(300), 1));
    // Three prompts, and of each four are generated to choose two.
    assert_eq!(output("completions_many"), tokens(Some(16), 12));
    assert_eq!(output("completions_tokens"), tokens(None, 2));
    assert_eq!(output("responses_full"), tokens(Some(200), 1));
    assert_eq!(output("messages_full"), tokens(Some(2000), 1));
    for name in ["embeddings", "embeddings_many", "moderations", "count_tokens"] {
        assert_eq!(output(name), OutputLimit::None, "{name}");
    }
    let inputs = |name: &str| asked(name, &rules).inputs;
    assert_eq!((inputs("completions_many"), inputs("completions_tokens")), (3, 2));
    assert_eq!(
        (inputs("embeddings_many"), inputs("embeddings_tokens"), inputs("chat")),
        (2, 2, 1)
    );
}

#[test]
fn tiers_regions_and_speed() {
    let rules = CallRules::default();
    let tier = |name: &str| asked(name, &rules).most.tier;
    assert_eq!(tier("chat"), None);
    assert_eq!(tier("chat_limit"), Some(ServiceTier::Standard));
    assert_eq!(tier("responses_full"), Some(ServiceTier::Flex));
    assert_eq!(tier("messages_full"), Some(ServiceTier::Standard));
    for (name, tier) in [
        ("auto", None),
        ("default", Some(ServiceTier::Standard)),
        ("scale", Some(ServiceTier::Standard)),
        ("flex", Some(ServiceTier::Flex)),
        ("priority", Some(ServiceTier::Priority)),
        ("fast", Some(ServiceTier::Priority)),
        ("ultrafast", Some(ServiceTier::Ultrafast)),
    ] {
        let body = format!(r#"{{"model":"m","messages":[],"service_tier":"{name}"}}"#);
        let asked = read_text(Route::ChatCompletions, &body).expect("a tier");
        assert_eq!(asked.most.tier, tier, "{name}");
    }
    assert_eq!(asked("messages_full", &rules).most.region, Some(Region::Us));
    assert_eq!(asked("messages", &rules).most.region, None);
    assert!(asked("messages_fast", &rules).most.fast);
    assert!(!asked("messages", &rules).most.fast);
}

#[test]
fn tools_are_named() {
    let rules = CallRules::default();
    assert_eq!(asked("chat_tools", &rules).tools, ["get_weather", "run_sql"]);
    assert_eq!(asked("chat_functions", &rules).tools, ["f"]);
    assert_eq!(asked("responses_full", &rules).tools, ["get_weather"]);
    let built_in = ["get_weather", "bash", "str_replace_based_edit_tool"];
    assert_eq!(asked("messages_full", &rules).tools, built_in);
    let prices = priced(&[("web_search", "0.5")]);
    for name in ["messages_web_search", "responses_web_search", "chat_web_search"] {
        assert_eq!(asked(name, &prices).tools, ["web_search"], "{name}");
    }
    // There is no list to take it out of.
    let names = ["web_search".to_owned()].into();
    assert!(asked("chat_web_search", &prices).strip(&names).is_err());
    assert!(asked("messages_web_search", &prices).strip(&names).is_ok());
}

/// A tool that runs at the provider is paid for once, and what it finds is read.
#[test]
fn a_tool_of_the_provider_costs_what_config_says() {
    let rules = priced(&[("web_search", "0.5"), ("mcp", "0.25")]);
    for name in ["chat_web_search", "responses_web_search", "messages_web_search"] {
        let asked = asked(name, &rules);
        assert_eq!(
            (asked.fees, asked.content),
            (usd("0.5"), ContentFrom::Elsewhere),
            "{name}"
        );
    }
    // Servers and the set of their tools are one and the same.
    assert_eq!(asked("messages_mcp", &rules).fees, usd("0.25"));
}

/// What is predicted and not written is billed as output, whatever the limit.
#[test]
fn a_prediction_is_output() {
    let asked = asked("chat_prediction", &CallRules::default());
    assert!(asked.most.output_tokens >= "def f():\n    return 1\n".len() as u64);
}

#[test]
fn a_stream_must_report_its_usage() {
    let rules = CallRules::default();
    for (name, strip) in [
        ("chat_stream", true),
        ("chat_stream_no_usage", true),
        ("chat_stream_usage", false),
        ("completions_tokens", true),
        // These report it anyway.
        ("responses_stream", false),
        ("messages_stream", false),
    ] {
        let asked = asked(name, &rules);
        assert!(asked.stream, "{name}");
        assert_eq!(asked.strip_usage, strip, "{name}");
    }
    assert!(!asked("chat", &rules).stream);
}

/// A picture is bounded by its pixels where the provider says how, not by the bytes that it takes.
#[test]
fn a_picture_of_a_known_size_is_not_a_window() {
    use base64::Engine;
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR\0\0\x03\xE8\0\0\x03\xE8\x08\x06\0\0\0".to_vec();
    png.resize(900_000, 0);
    let data = base64::engine::general_purpose::STANDARD.encode(png);
    let block = format!(r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}"#);
    for content in [
        format!(r#"[{block},{{"type":"text","text":"?"}}]"#),
        format!(r#"[{{"type":"tool_result","tool_use_id":"t","content":[{block}]}}]"#),
    ] {
        let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":{content}}}]}}"#);
        let asked = read_text(Route::Messages, &body).expect("a request");
        assert_eq!(asked.content, ContentFrom::Request);
        assert!(asked.most.image);
        assert!(
            (1_334..2_500).contains(&asked.most.input_tokens),
            "{}",
            asked.most.input_tokens
        );
        assert!(asked.overhead >= 1_334, "a tokenizer does not see it");
    }
    let link = r#"{"model":"gpt-4o","input":[{"role":"user","content":[
        {"type":"input_image","image_url":"https://example.com/a.png","detail":"high"}]}]}"#;
    let asked = read_text(Route::Responses, link).expect("a request");
    assert_eq!(asked.content, ContentFrom::Request);
    assert!(asked.most.input_tokens >= 1_445 + link.len() as u64);
    let other = link.replace("gpt-4o", "gpt-99");
    let asked = read_text(Route::Responses, &other).expect("a request");
    assert_eq!(asked.content, ContentFrom::Elsewhere);
}
