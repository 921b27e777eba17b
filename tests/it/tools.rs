//! Manifests on the real daemon: checked before they are in force, kept when a new one is wrong, and
//! asked before each use of a tool, by exact names and exact rates.

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
use crate::harness::site::{SOON, Site};
use crate::harness::wait;

const CONFIG: &str = r#"
[tools]
default_rate = { requests = 2, per_seconds = 86400 }
[[agent]]
id = "support"
manifest = "support.json"
[[agent]]
id = "bare"
"#;

/// Windows of a day: no test is so slow that one ends.
fn manifest(requests: u32) -> Value {
    json!({
        "schema_version": "v1",
        "agent_id": "support",
        "allowed_tools": [
            {"tool_name": "search", "rate_limit": {"requests": requests, "per_seconds": 86_400}, "read_only": true},
            {"tool_name": "refund"},
        ],
        "blacklisted_tools": ["delete_all"],
        "models": ["gpt-5*"],
        "max_tokens": 2048,
    })
}

fn site(manifest: &Value) -> Site {
    let site = Site::new(CONFIG);
    site.write("support.json", &manifest.to_string());
    site
}

async fn ask(site: &Site, daemon: &Daemon, key: &str, tool: &str) -> (u16, Value) {
    site.post(daemon, key, "/v1/tools/authorize", &json!({ "tool": tool }))
        .await
}

async fn code(site: &Site, daemon: &Daemon, key: &str, tool: &str) -> (u16, String) {
    let (status, answer) = ask(site, daemon, key, tool).await;
    (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_manifest_is_checked_by_itself_and_with_the_config() {
    let site = site(&manifest(30));
    let checked = site.json(&["manifest", "check", "support.json"]).await;
    assert_eq!(checked["agent_id"], "support");
    let search = json!({"tool": "search", "rate": "30 in 86400 s", "requests": 30, "per_seconds": 86_400,
        "rate_from": "manifest", "read_only": true});
    let refund = json!({"tool": "refund", "rate": "2 in 86400 s", "requests": 2, "per_seconds": 86_400,
        "rate_from": "config", "read_only": false});
    assert_eq!(checked["allowed_tools"], json!([refund, search]));
    assert_eq!(checked["blacklisted_tools"], json!(["delete_all"]));
    let human = site.cli(&["manifest", "check", "support.json"]).await;
    assert_eq!(
        (human.code, human.stderr.as_str()),
        (Some(0), "support.json is sound\n")
    );
    for said in [
        "agent support",
        "search",
        "30 in 86400 s",
        "delete_all",
        "gpt-5*",
        "2048",
    ] {
        assert!(human.stdout.contains(said), "{said} is not in\n{}", human.stdout);
    }
    site.ok(&["check"]).await;

    // One that no agent names is sound and not in force.
    let mut stranger = manifest(1);
    stranger["agent_id"] = "stranger".into();
    site.write("stranger.json", &stranger.to_string());
    let checked = site.cli(&["manifest", "check", "stranger.json"]).await;
    assert!(
        checked.code == Some(0) && checked.stderr.contains("no agent stranger"),
        "{checked:#?}"
    );

    // A wrong one: every mistake with its line, by either command, and no daemon starts with it.
    site.write(
        "support.json",
        "{\n\"schema_version\": \"v1\",\n\"agent_id\": \"support\",\n\"allowed_tools\": [{\"tool_name\": \"a\"},\n\
         {\"tool_name\": \"A\"}],\n\"allowed_models\": []}",
    );
    let wrong = site.refused(&["manifest", "check", "support.json", "--json"]).await;
    let told: Value = serde_json::from_str(&wrong.stdout).expect("JSON");
    assert_eq!((&told["ok"], &told["errors"]), (&json!(false), &json!(2)));
    for command in [["manifest", "check", "support.json"].as_slice(), &["check"]] {
        let wrong = site.refused(command).await;
        for line in [
            "support.json:5: allowed_tools[1].tool_name: A differs only in case from a at allowed_tools[0].tool_name",
            "support.json:6: allowed_models: unknown field",
        ] {
            assert!(
                wrong.stdout.contains(line),
                "{command:?}: {line} is not in\n{}",
                wrong.stdout
            );
        }
    }
    assert_eq!(site.cli(&["serve"]).await.code, Some(1));
    site.write("support.json", "{");
    assert!(
        site.refused(&["check"])
            .await
            .stdout
            .contains("not JSON: it ends too early")
    );
    let missing = site.refused(&["manifest", "check", "absent.json"]).await;
    assert!(missing.stderr.contains("no such file"), "{missing:#?}");
    assert_eq!(site.cli(&["manifest", "check"]).await.code, Some(2));
}

#[tokio::test]
async fn only_what_the_manifest_lists_is_authorized() {
    let site = site(&manifest(30));
    let daemon = site.start().await;
    let key = site.key("support").await;
    let bare = site.key("bare").await;

    let body = json!({"tool": "search", "task": "t-1", "arguments": {"q": "x", "deep": [null]}});
    let (status, granted) = site.post(&daemon, &key, "/v1/tools/authorize", &body).await;
    let expected = json!({"decision": "allow", "tool": "search", "read_only": true, "remaining": 29, "requests": 30,
        "per_seconds": 86_400});
    assert_eq!((status, granted), (200, expected));
    let (status, granted) = ask(&site, &daemon, &key, "refund").await;
    assert_eq!(
        (status, &granted["read_only"], &granted["remaining"]),
        (200, &json!(false), &json!(1))
    );

    for other in [
        "Search",
        "SEARCH",
        "search ",
        " search",
        "se\u{0430}rch",
        "sear\u{200b}ch",
        "search\n",
        "shell",
        "*",
    ] {
        let refused = code(&site, &daemon, &key, other).await;
        assert_eq!(refused, (403, "tool_not_in_manifest".to_owned()), "{other:?}");
    }
    for blacklisted in ["delete_all", "Delete_All", " DELETE_ALL "] {
        let refused = code(&site, &daemon, &key, blacklisted).await;
        assert_eq!(refused, (403, "tool_blacklisted".to_owned()), "{blacklisted:?}");
    }
    let refused = code(&site, &daemon, &bare, "search").await;
    assert_eq!(
        refused,
        (403, "no_manifest".to_owned()),
        "no manifest is not every tool"
    );
    let (status, wrong) = site
        .post(
            &daemon,
            &key,
            "/v1/tools/authorize",
            &json!({"tool": "search", "tools": 1}),
        )
        .await;
    assert_eq!((status, &wrong["error"]["code"]), (422, &json!("invalid_field")));
    assert_eq!(code(&site, &daemon, "bsk_nobody", "search").await.0, 401);

    // A paused or contained agent uses no tool, and asking uses nothing of its rate.
    site.ok(&["pause", "support", "--reason", "looks odd"]).await;
    assert_eq!(
        code(&site, &daemon, &key, "search").await,
        (503, "agent_paused".to_owned())
    );
    site.ok(&["resume", "support"]).await;
    assert_eq!(ask(&site, &daemon, &key, "search").await.1["remaining"], 28);
    site.ok(&["contain", "support", "--reason", "it loops", "--yes"]).await;
    assert_eq!(
        code(&site, &daemon, &key, "search").await,
        (403, "agent_contained".to_owned())
    );
    assert_eq!(
        code(&site, &daemon, &key, "shell").await,
        (403, "tool_not_in_manifest".to_owned())
    );

    // Every kind of refusal is on record, once: the rest is folded.
    let refusals = |audit: Vec<(String, String)>| -> Vec<String> {
        let refused = audit.into_iter().filter(|(action, _)| action == "refused");
        refused.map(|(_, reason)| reason).collect()
    };
    let told = wait::until("the refusals to be on record", SOON, async || {
        let told = refusals(site.audit().await);
        (told.len() >= 5).then_some(told)
    })
    .await;
    for wanted in [
        "does not list the tool \"Search\"",
        "blacklists the tool \"delete_all\"",
        "has no manifest",
        "has been paused since",
        "has been contained since",
    ] {
        let times = told.iter().filter(|reason| reason.contains(wanted)).count();
        assert_eq!(times, 1, "{wanted}: {told:#?}");
    }
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_rate_is_exact_for_any_number_at_once_and_outlives_a_reload() {
    let site = site(&manifest(50));
    let mut daemon = site.start().await;
    let key = site.key("support").await;
    let asked = futures_util::future::join_all((0..200).map(|_| ask(&site, &daemon, &key, "search"))).await;
    let granted: Vec<&Value> = asked
        .iter()
        .filter(|(status, _)| *status == 200)
        .map(|(_, body)| body)
        .collect();
    assert_eq!(granted.len(), 50);
    let mut remaining: Vec<u64> = granted.iter().filter_map(|body| body["remaining"].as_u64()).collect();
    remaining.sort_unstable();
    assert!(remaining.into_iter().eq(0..50), "each grant is told another rest");
    for (status, body) in asked.iter().filter(|(status, _)| *status != 200) {
        assert_eq!((*status, &body["error"]["code"]), (429, &json!("tool_rate_limited")));
    }

    // When to ask again is said exactly in words, and bounded in the header that clients sleep on.
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.post(daemon.agent_url("/v1/tools/authorize")).bearer_auth(&key);
    let answer = request
        .json(&json!({"tool": "search"}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 429);
    assert_eq!(
        answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()),
        Some("60")
    );
    let body: Value = answer.json().await.expect("JSON");
    let hint = body["error"]["hint"].as_str().unwrap_or_default();
    let seconds: u64 = hint
        .strip_prefix("try again in ")
        .and_then(|rest| rest.strip_suffix(" s")?.parse().ok())
        .unwrap_or_else(|| panic!("{body}"));
    assert!((60..=86_400).contains(&seconds), "{body}");

    // A wrong manifest leaves the old one, and says so with its line.
    let mut wrong = manifest(50);
    wrong["allowed_tools"][1]["tool_name"] = "se arch".into();
    site.write("support.json", &wrong.to_string());
    daemon.reload();
    wait::until("the wrong manifest to be refused", SOON, async || {
        daemon.log().contains("allowed_tools[1].tool_name").then_some(())
    })
    .await;
    assert_eq!(
        ask(&site, &daemon, &key, "refund").await.0,
        200,
        "the old manifest is in force"
    );
    assert_eq!(ask(&site, &daemon, &key, "search").await.0, 429);

    // A new one is in force as soon as it is loaded, and what was used counts on.
    let mut raised = manifest(53);
    raised["allowed_tools"][1]["tool_name"] = "transfer".into();
    site.write("support.json", &raised.to_string());
    daemon.reload();
    wait::until("the new manifest", SOON, async || {
        (ask(&site, &daemon, &key, "transfer").await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(
        code(&site, &daemon, &key, "refund").await,
        (403, "tool_not_in_manifest".to_owned())
    );
    let asked = futures_util::future::join_all((0..20).map(|_| ask(&site, &daemon, &key, "search"))).await;
    assert_eq!(asked.iter().filter(|(status, _)| *status == 200).count(), 3);
    let recorded = site.audit().await;
    let recorded: Vec<&str> = recorded
        .iter()
        .filter(|(action, _)| action == "manifest_changed")
        .map(|(_, reason)| reason.as_str())
        .collect();
    assert_eq!(
        recorded,
        [
            "the manifest of support was changed: search is now 53 in 86400 s (read-only) instead of 50 in 86400 s \
          (read-only); transfer is allowed at the default rate; refund is no longer allowed"
        ]
    );
    assert!(daemon.stop().await.success());
}
