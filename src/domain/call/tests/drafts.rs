//! What is forwarded.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn rendered(asked: &Asked, tokens: Option<u64>) -> String {
    String::from_utf8(asked.body(tokens).to_vec()).expect("text")
}

fn value(asked: &Asked, tokens: Option<u64>) -> Value {
    serde_json::from_str(&rendered(asked, tokens)).expect("JSON")
}

/// A request that needs no change is forwarded byte for byte.
#[test]
fn nothing_changes_without_need() {
    let rules = CallRules::default();
    let mut same = 0;
    for sent in SENT.iter() {
        let Ok(asked) = sent.read(&rules) else { continue };
        let has_limit = !matches!(asked.output, OutputLimit::Tokens { asked: None, .. });
        if has_limit && !asked.strip_usage {
            assert_eq!(rendered(&asked, None), sent.body, "{}", sent.name);
            same += 1;
        }
    }
    assert!(same > 25, "{same}");
    let odd = "\n{ \"model\" : \"m\",\t\"messages\":[ ],\"max_tokens\":5e0 }";
    assert!(
        read_text(Route::ChatCompletions, odd).is_err(),
        "a limit is a whole number"
    );
    let odd = "\n{ \"model\" : \"m\",\t\"messages\":[ ],\"max_tokens\":5 , \"temperature\":1.0e-0 } ";
    let asked = read_text(Route::ChatCompletions, odd).expect("a request");
    assert_eq!(rendered(&asked, None), odd);
    assert_eq!(rendered(&asked, Some(5)), odd);
}

#[test]
fn a_missing_limit_is_filled_in_by_the_name_that_the_route_has() {
    let rules = CallRules::default();
    for (name, field) in [
        ("chat", "max_completion_tokens"),
        ("chat_prediction", "max_tokens"),
        ("responses", "max_output_tokens"),
    ] {
        let asked = asked(name, &rules);
        assert_eq!(value(&asked, Some(777))[field], json!(777), "{name}");
        let added = format!(r#","{field}":777"#);
        let without = rendered(&asked, Some(777)).replace(&added, "");
        if !asked.stream {
            assert_eq!(without, sent(name).body, "{name}: all else is as it was");
        }
        // Without a word from the hold it is the default, not nothing.
        assert_eq!(value(&asked, None)[field], json!(4096), "{name}");
    }
    // The provider takes 16 there, so no more is asked for.
    let completion = super::asked("completions_tokens", &rules);
    assert_eq!(value(&completion, Some(777))["max_tokens"], json!(16));
    assert_eq!(value(&completion, Some(7))["max_tokens"], json!(7));
    let body = r#"{"model":"claude-haiku-4-5","messages":[]}"#;
    let asked = read_text(Route::Messages, body).expect("a request");
    assert_eq!(value(&asked, Some(9))["max_tokens"], json!(9));
    // An upstream that knows the older name only.
    let mut old = super::asked("chat", &rules);
    old.spell_limit(LimitField::Old);
    let filled = value(&old, Some(5));
    assert_eq!(
        (&filled["max_tokens"], filled.get("max_completion_tokens")),
        (&json!(5), None)
    );
}

/// A null is no limit: it goes, and what is written is written in one field. OpenAI's newer models refuse the
/// older name, whatever its value.
#[test]
fn a_null_limit_is_taken_out() {
    let null = super::asked("chat_null_fields", &CallRules::default());
    let filled = value(&null, Some(5));
    assert_eq!(
        (&filled["max_completion_tokens"], filled.get("max_tokens")),
        (&json!(5), None)
    );
    for (body, expected) in [
        (
            r#"{"model":"m","max_tokens":null,"messages":[]}"#,
            r#"{"model":"m","messages":[],"max_completion_tokens":5}"#,
        ),
        (
            r#"{"model":"m","max_tokens":7,"max_completion_tokens":null,"messages":[],"stream":true}"#,
            r#"{"model":"m","max_tokens":7,"messages":[],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"model":"m","max_completion_tokens":9,"messages":[],"max_tokens":null}"#,
            r#"{"model":"m","max_completion_tokens":5,"messages":[]}"#,
        ),
    ] {
        let asked = read_text(Route::ChatCompletions, body).expect("a request");
        assert_eq!(rendered(&asked, Some(5).filter(|_| !asked.stream)), expected, "{body}");
    }
    let null = r#"{"model":"claude-haiku-4-5","max_tokens":null,"messages":[]}"#;
    let asked = read_text(Route::Messages, null).expect("a request");
    assert_eq!(value(&asked, Some(9))["max_tokens"], json!(9));
}

/// What a provider does not know it may ignore, so the limit is where it looks for it.
#[test]
fn a_limit_is_moved_to_the_field_that_the_upstream_heeds() {
    for (field, body, expected) in [
        (
            LimitField::Old,
            r#"{"model":"m","max_completion_tokens":7,"messages":[]}"#,
            r#"{"model":"m","messages":[],"max_tokens":7}"#,
        ),
        (
            LimitField::New,
            r#"{"model":"m","max_tokens":7,"messages":[]}"#,
            r#"{"model":"m","messages":[],"max_completion_tokens":7}"#,
        ),
        (
            LimitField::Old,
            r#"{"model":"m","max_tokens":7,"messages":[],"max_completion_tokens":7}"#,
            r#"{"model":"m","max_tokens":7,"messages":[]}"#,
        ),
        (
            LimitField::Old,
            r#"{"model":"m","max_tokens":null,"messages":[],"max_completion_tokens":7}"#,
            r#"{"model":"m","messages":[],"max_tokens":7}"#,
        ),
        (
            LimitField::Old,
            r#"{"model":"m","max_tokens":7 ,"messages":[]}"#,
            r#"{"model":"m","max_tokens":7 ,"messages":[]}"#,
        ),
        (
            LimitField::Either,
            r#"{"model":"m","max_tokens":7 ,"messages":[]}"#,
            r#"{"model":"m","max_tokens":7 ,"messages":[]}"#,
        ),
    ] {
        let mut asked = read_text(Route::ChatCompletions, body).expect("a request");
        asked.spell_limit(field);
        assert_eq!(rendered(&asked, None), expected, "{field:?} {body}");
    }
    // The other routes have one field for it.
    let body = r#"{"model":"m","input":"x","max_output_tokens":7}"#;
    let mut asked = read_text(Route::Responses, body).expect("a request");
    asked.spell_limit(LimitField::Old);
    assert_eq!(rendered(&asked, None), body);
}

#[test]
fn the_rules_lower_a_limit_and_never_raise_one() {
    let rules = CallRules {
        max_tokens: Some(100),
        ..CallRules::default()
    };
    for (name, field) in [
        ("chat_limit", "max_completion_tokens"),
        ("chat_old_limit", "max_tokens"),
        ("responses_full", "max_output_tokens"),
    ] {
        let asked = asked(name, &rules);
        assert_eq!(asked.clamped, Some(100), "{name}");
        assert!(
            matches!(asked.output, OutputLimit::Tokens { asked: Some(100), .. }),
            "{name}"
        );
        assert_eq!(value(&asked, None)[field], json!(100), "{name}");
    }
    let below = asked("completions", &rules);
    assert_eq!(below.clamped, None);
    assert_eq!(rendered(&below, None), sent("completions").body);
    let missing = asked("chat", &rules);
    assert_eq!(
        (missing.clamped, &value(&missing, None)["max_completion_tokens"]),
        (None, &json!(100))
    );
    // The budget for thinking is a part of the limit.
    let thinking = sent("messages_full").read(&rules);
    let Err(Rejection::Call(CallRejection::Field { field, .. })) = thinking else {
        panic!("{thinking:?}");
    };
    assert_eq!(field, "thinking.budget_tokens");
}

#[test]
fn both_spellings_are_lowered_together() {
    let rules = CallRules {
        max_tokens: Some(3),
        ..CallRules::default()
    };
    let body = Bytes::from_static(br#"{"model":"m","max_tokens":7,"messages":[],"max_completion_tokens":7}"#);
    let asked = read(Route::ChatCompletions, &body, &rules).expect("a request");
    let expected = r#"{"model":"m","max_tokens":3,"messages":[],"max_completion_tokens":3}"#;
    assert_eq!(rendered(&asked, None), expected);
}

#[test]
fn usage_is_asked_for_beside_the_clients_own_options() {
    let rules = CallRules::default();
    let plain = value(&asked("chat_stream", &rules), None);
    assert_eq!(plain["stream_options"], json!({"include_usage": true}));
    let told = value(&asked("chat_stream_no_usage", &rules), None);
    assert_eq!(
        told["stream_options"],
        json!({"include_usage": true, "include_obfuscation": false})
    );
    let null = r#"{"model":"m","messages":[],"stream":true,"stream_options":null,"max_tokens":1}"#;
    let null = read_text(Route::ChatCompletions, null).expect("a request");
    assert_eq!(value(&null, None)["stream_options"], json!({"include_usage": true}));
    let wanted = asked("chat_stream_usage", &rules);
    assert_eq!(rendered(&wanted, None), sent("chat_stream_usage").body);
}

#[test]
fn tools_are_taken_out_and_the_rest_stays_as_it_was() {
    let names = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let mut some = asked("chat_tools", &CallRules::default());
    some.strip(&names(&["get_weather", "unheard-of"])).expect("they can be");
    assert_eq!(some.tools, ["run_sql"]);
    let left = value(&some, Some(1));
    assert_eq!(left["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["tools"][0]["custom"]["name"], json!("run_sql"));
    assert_eq!(
        (&left["tool_choice"], &left["parallel_tool_calls"]),
        (&json!("auto"), &json!(false))
    );

    // With nothing left to choose from, the choice goes too: providers refuse it.
    let mut none = asked("chat_tools", &CallRules::default());
    none.strip(&names(&["get_weather", "run_sql"])).expect("they can be");
    let left = value(&none, Some(1));
    for field in ["tools", "tool_choice", "parallel_tool_calls"] {
        assert_eq!(left.get(field), None, "{field}");
    }
    assert!(none.tools.is_empty());

    // So does a choice of what is taken out.
    let body = r#"{"model":"m","max_tokens":1,"messages":[],
        "tools":[{"name":"a","input_schema":{}},{"name":"b","input_schema":{}}],
        "tool_choice":{"type":"tool","name":"b"}}"#;
    let mut asked = read_text(Route::Messages, body).expect("a request");
    asked.strip(&names(&["b"])).expect("they can be");
    let left = value(&asked, None);
    assert_eq!(left["tools"], json!([{"name": "a", "input_schema": {}}]));
    assert_eq!(left.get("tool_choice"), None);

    let mut functions = super::asked("chat_functions", &CallRules::default());
    functions.strip(&names(&["f"])).expect("they can be");
    let left = value(&functions, None);
    assert_eq!((left.get("functions"), left.get("function_call")), (None, None));
}

/// What is offered within a message, or beside others under one name, cannot be taken out.
#[test]
fn a_tool_that_cannot_be_taken_out_refuses_the_call() {
    let body = r#"{"model":"m","input":[{"type":"additional_tools","role":"developer",
        "tools":[{"type":"function","name":"hidden","parameters":{}}]}]}"#;
    let mut asked = read_text(Route::Responses, body).expect("a request");
    assert_eq!(asked.tools, ["hidden"]);
    let names: BTreeSet<String> = ["hidden".to_owned()].into();
    assert_eq!(
        asked.strip(&names),
        Err(CallRejection::ToolNotInManifest("hidden".into()))
    );

    let space = r#"{"model":"m","input":"x","tools":[{"type":"namespace","name":"crm","description":"d",
        "tools":[{"type":"function","name":"a"},{"type":"function","name":"b"}]}]}"#;
    let mut asked = read_text(Route::Responses, space).expect("a request");
    assert_eq!(asked.tools, ["a", "b"]);
    let one: BTreeSet<String> = ["a".to_owned()].into();
    assert_eq!(asked.strip(&one), Err(CallRejection::ToolNotInManifest("a".into())));
    let both: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    asked.strip(&both).expect("all of a name can be");
    assert_eq!(value(&asked, Some(1)).get("tools"), None);
}
