//! What a manifest lets through, and every way in which one can be wrong.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn sound() -> Value {
    json!({
        "schema_version": "v1",
        "agent_id": "support",
        "allowed_tools": [
            {"tool_name": "search", "rate_limit": {"requests": 3, "per_seconds": 10}, "read_only": true},
            {"tool_name": "refund"},
        ],
        "blacklisted_tools": ["Delete_All"],
        "models": ["gpt-5*", "claude-opus-4"],
        "max_tokens": 2048,
    })
}

fn parse(value: &Value) -> Result<Manifest, Vec<Problem>> {
    Manifest::parse(value.to_string().as_bytes())
}

/// The sound one with something else at a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut manifest = sound();
    *manifest.pointer_mut(pointer).expect("it is there") = value;
    manifest
}

/// Every problem as a person sees it.
fn problems(text: &str) -> Vec<String> {
    let found = Manifest::parse(text.as_bytes()).expect_err("it has mistakes");
    found.iter().map(ToString::to_string).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_one_says_what_it_says() {
    let manifest = parse(&sound()).expect("sound");
    assert_eq!(manifest.agent().as_str(), "support");
    let (_, search) = manifest.tool("search").expect("allowed");
    assert_eq!((search.rate, search.read_only), (Rate::new(3, 10), true));
    let (_, refund) = manifest.tool("refund").expect("allowed");
    assert_eq!(
        (refund.rate, refund.read_only),
        (None, false),
        "what is left out is the stricter"
    );
    assert_eq!(manifest.max_tokens(), Some(2048));
    assert_eq!(manifest, parse(&sound()).expect("sound"));
    assert_ne!(manifest, parse(&with("/models/0", "gpt-4*".into())).expect("sound"));
    let least = json!({"schema_version": "v1", "agent_id": "a", "allowed_tools": []});
    let least = parse(&least).expect("sound");
    assert!(least.tools().is_empty() && least.models().is_none() && least.max_tokens().is_none());
    assert_eq!(
        least.gate(),
        ToolGate::Only(Arc::default()),
        "no tools is not all tools"
    );
}

#[test]
fn only_the_very_name_is_allowed() {
    let manifest = parse(&sound()).expect("sound");
    let gate = manifest.gate();
    assert!(manifest.allows("search") && gate.allows("search"));
    for other in [
        "Search",
        "search ",
        " search",
        "SEARCH",
        "se\u{0430}rch",
        "sear\u{200b}ch",
        "searc",
        "search\0",
        "",
    ] {
        assert!(!manifest.allows(other) && !gate.allows(other), "{other:?}");
        assert_eq!(
            manifest.tool(other).err(),
            Some(CallRejection::ToolNotInManifest(other.to_owned())),
            "{other:?}"
        );
    }
    for blacklisted in ["Delete_All", "delete_all", "DELETE_ALL", " delete_all\t"] {
        assert_eq!(
            manifest.tool(blacklisted).err(),
            Some(CallRejection::ToolBlacklisted(blacklisted.to_owned())),
        );
    }
    let long = "x".repeat(100_000);
    assert_eq!(
        manifest.tool(&long).err(),
        Some(CallRejection::ToolNotInManifest("x".repeat(64))),
        "what is echoed is bounded"
    );
}

#[test]
fn an_offer_is_refused_or_stripped() {
    let manifest = parse(&sound()).expect("sound");
    let refuse = |offered: &[&str]| manifest.offer(&names(offered), Unlisted::Refuse);
    assert_eq!(refuse(&[]), Ok(BTreeSet::new()));
    assert_eq!(refuse(&["refund", "search"]), Ok(BTreeSet::new()));
    assert_eq!(
        refuse(&["search", "shell", "browse"]),
        Err(CallRejection::ToolNotInManifest("shell".to_owned()))
    );
    assert_eq!(
        refuse(&["shell", "delete_all"]),
        Err(CallRejection::ToolBlacklisted("delete_all".to_owned())),
        "the blacklist comes first"
    );
    let strip = |offered: &[&str]| manifest.offer(&names(offered), Unlisted::Strip);
    assert_eq!(
        strip(&["search", "shell", "Search"]),
        Ok(names(&["shell", "Search"]).into_iter().collect())
    );
    assert_eq!(
        strip(&["shell", "Delete_All"]),
        Err(CallRejection::ToolBlacklisted("Delete_All".to_owned())),
        "what is blacklisted is never merely stripped"
    );
}

#[test]
fn models_are_globs_and_none_means_all() {
    let model = |name: &str| ModelId::new(name).expect("a model's name");
    let manifest = parse(&sound()).expect("sound");
    assert_eq!(manifest.check_model(&model("gpt-5-mini")), Ok(()));
    assert_eq!(manifest.check_model(&model("claude-opus-4")), Ok(()));
    for other in ["gpt-4o", "claude-opus-4-1", "GPT-5", "my-gpt-5"] {
        let refused = CallRejection::ModelNotInManifest(other.to_owned());
        assert_eq!(manifest.check_model(&model(other)), Err(refused));
    }
    let mut open = sound();
    open.as_object_mut().expect("an object").remove("models");
    assert_eq!(parse(&open).expect("sound").check_model(&model("anything")), Ok(()));
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = r#"{
  "schema_version": "v2",
  "allowed_tools": [
    {"tool_name": "search", "ratelimit": 5},
    {"tool_name": "Search"},
    {"tool_name": "two words", "read_only": "yes"},
    {"tool_name": "sеnd",
     "rate_limit": {"requests": 0, "per_seconds": 1.5}},
    {"read_only": true},
    "refund"
  ],
  "blacklisted_tools": ["search", "shell", "shell"],
  "models": [],
  "max_tokens": null,
  "Agent-ID": "support"
}"#;
    let found = Manifest::parse(text.as_bytes()).expect_err("it has mistakes");
    let told: Vec<(Option<usize>, &str)> = found.iter().map(|one| (one.line, one.place.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(1), ""),
            (Some(2), "schema_version"),
            (Some(4), "allowed_tools[0].ratelimit"),
            (Some(5), "allowed_tools[1].tool_name"),
            (Some(6), "allowed_tools[2].tool_name"),
            (Some(6), "allowed_tools[2].read_only"),
            (Some(7), "allowed_tools[3].tool_name"),
            (Some(8), "allowed_tools[3].rate_limit.requests"),
            (Some(8), "allowed_tools[3].rate_limit.per_seconds"),
            (Some(9), "allowed_tools[4]"),
            (Some(10), "allowed_tools[5]"),
            (Some(12), "blacklisted_tools[2]"),
            (Some(13), "models"),
            (Some(14), "max_tokens"),
            (Some(15), "Agent-ID"),
        ],
        "{found:#?}"
    );
    let shown = |place: &str| {
        let one = found.iter().find(|one| one.place == place).expect("told");
        one.to_string()
    };
    assert!(shown("Agent-ID").ends_with("(hint: did you mean agent_id?)"));
    assert!(shown("allowed_tools[0].ratelimit").ends_with("(hint: did you mean rate_limit?)"));
    assert!(shown("allowed_tools[1].tool_name").contains("differs only in case from search at allowed_tools[0]"));
    assert!(shown("allowed_tools[2].tool_name").ends_with("(hint: without white space: \"twowords\")"));
    assert!(shown("allowed_tools[3].tool_name").contains("U+0435"));
}

#[test]
fn allowed_and_blacklisted_is_refused_in_any_case() {
    for (name, what) in [
        ("refund", "is allowed as well"),
        ("REFUND", "differs only in case from refund"),
    ] {
        let found = parse(&with("/blacklisted_tools/0", name.into())).expect_err("both");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].message.contains(what) && found[0].message.contains("allowed_tools[1]"),
            "{}",
            found[0]
        );
    }
}

#[test]
fn each_kind_of_mistake_is_refused() {
    for (pointer, value) in [
        ("/schema_version", json!("V1")),
        ("/schema_version", json!(1)),
        ("/agent_id", json!("")),
        ("/agent_id", json!("support ")),
        ("/agent_id", json!(null)),
        ("/allowed_tools", json!({})),
        ("/allowed_tools", json!(null)),
        ("/allowed_tools", json!(["search"])),
        ("/allowed_tools/1/tool_name", json!("search")),
        ("/allowed_tools/1/tool_name", json!("ｓearch")),
        ("/allowed_tools/1/tool_name", json!("refund\n")),
        ("/allowed_tools/1/tool_name", json!("x".repeat(201))),
        ("/allowed_tools/0/rate_limit", json!(null)),
        ("/allowed_tools/0/rate_limit", json!(3)),
        ("/allowed_tools/0/rate_limit", json!({"requests": 3})),
        ("/allowed_tools/0/rate_limit/requests", json!(10_001)),
        ("/allowed_tools/0/rate_limit/requests", json!(-1)),
        ("/allowed_tools/0/rate_limit/requests", json!("3")),
        ("/allowed_tools/0/rate_limit/per_seconds", json!(86_401)),
        ("/allowed_tools/0/rate_limit/per_seconds", json!(0)),
        ("/allowed_tools/0/read_only", json!(1)),
        ("/blacklisted_tools", json!("search")),
        ("/blacklisted_tools", json!([["x"]])),
        ("/blacklisted_tools", json!(["x", "X"])),
        ("/models/0", json!("[")),
        ("/models/0", json!("")),
        ("/models/0", json!("claude-opus-4")),
        ("/models/0", json!("gpt-\u{0455}*")),
        ("/max_tokens", json!(0)),
        ("/max_tokens", json!(1.5)),
        ("/max_tokens", json!(100_000_001)),
    ] {
        let found = parse(&with(pointer, value.clone())).expect_err(&format!("{pointer} = {value}"));
        assert_eq!(found.len(), 1, "{pointer} = {value}: {found:?}");
        assert!(found[0].line.is_some() && !found[0].place.is_empty(), "{found:?}");
    }
}

#[test]
fn the_file_itself_is_bounded_and_strict() {
    assert_eq!(problems(""), ["not JSON: it ends too early at line 1, column 0"]);
    assert_eq!(problems("[]"), ["must be an object, not a list"]);
    let twice = r#"{"schema_version": "v1", "agent_id": "a", "allowed_tools": [], "allowed_tools": []}"#;
    assert_eq!(
        problems(twice),
        ["the key \"allowed_tools\" is there twice in one object"]
    );
    let large = format!("{}{}", sound(), " ".repeat(MAX_BYTES));
    assert!(problems(&large)[0].contains("at most 1048576 are read"));
    let tool = |index: usize| json!({ "tool_name": format!("t{index}") });
    let tools = |count: usize| with("/allowed_tools", (0..count).map(tool).collect());
    assert!(parse(&tools(1_000)).is_ok());
    assert_eq!(parse(&tools(1_001)).expect_err("too many").len(), 1);
    let wrong = with("/allowed_tools", vec![json!(1); 1_000].into());
    assert_eq!(
        parse(&wrong).expect_err("all wrong").len(),
        100,
        "what is told is bounded"
    );
}

#[test]
fn a_place_is_bounded_and_plain() {
    let key = format!("a{}", "\u{1b}[31m".repeat(1_000));
    let mut manifest = sound();
    manifest[&key] = json!(1);
    let found = parse(&manifest).expect_err("unknown");
    assert!(
        found[0].place.len() < 1_000 && !found[0].place.contains('\u{1b}'),
        "{found:?}"
    );
    assert!(found[0].line.is_some());
}

proptest! {
    #[test]
    fn no_bytes_panic(cut in 0_usize..400, length in 0_usize..20, insert in "[\\[\\]{}\":,a-z0-9 \n\\\\é]{0,10}") {
        let base = serde_json::to_string_pretty(&sound()).expect("JSON");
        let start = cut.min(base.len());
        let end = (start + length).min(base.len());
        let text = format!("{}{insert}{}", &base[..start], &base[end..]);
        match Manifest::parse(text.as_bytes()) {
            Ok(_) => {}
            Err(found) => prop_assert!(!found.is_empty(), "refused without a reason"),
        }
    }
}
