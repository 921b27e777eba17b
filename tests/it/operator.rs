//! A person at the command line, on the real daemon: agents and their keys, pause and resume, imports,
//! prices, the ledger's upkeep, the audit log.

use serde_json::{Value, json};

use crate::harness::site::{SOON, Site};
use crate::harness::wait;

const PRICES: &str = include_str!("../fixtures/litellm/prices.json");

const CONFIG: &str = r#"
[[agent]]
id = "support"
[[agent]]
id = "team/research"

[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "100"
response = "pause"

[[budget]]
name = "all"
scope = "fleet"
window = "month"
timezone = "Europe/Berlin"
limit_usd = "1000"
response = "alert"
"#;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn agents_have_keys_and_are_paused_and_resumed() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let hold = json!({"bound_usd": "1"});

    let agents = site.json(&["agent", "list"]).await;
    let ids: Vec<&str> = agents["agents"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| text(&one["id"]))
        .collect();
    assert_eq!(ids, ["support", "team/research"]);
    let key = site.key("team/research").await;
    let made = site.json(&["agent", "key", "support"]).await;
    let support = text(&made["key"]).to_owned();
    assert!(key.starts_with("bsk_") && support.starts_with("bsk_") && key != support);
    let shown = site.json(&["agent", "show", "team/research"]).await;
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(1));
    let table = site.ok(&["agent", "list"]).await;
    assert!(table.contains("support") && table.contains("active"), "{table}");
    assert!(
        !site.ok(&["agent", "show", "support"]).await.contains("bsk_"),
        "a key is shown once"
    );

    // An agent that is added is known without a restart.
    assert_eq!(site.cli(&["agent", "add", "late"]).await.code, Some(0));
    let late = site.key("late").await;
    assert_eq!(site.post(&daemon, &late, "/v1/holds", &hold).await.0, 201);

    // A revoked key is refused at once; the agent's other keys are not touched.
    assert_eq!(site.post(&daemon, &support, "/v1/holds", &hold).await.0, 201);
    let another = site.key("support").await;
    site.ok(&["agent", "key", "support", "--revoke", text(&made["id"])])
        .await;
    let (status, refused) = site.post(&daemon, &support, "/v1/holds", &hold).await;
    assert_eq!((status, text(&refused["error"]["code"])), (401, "bad_credential"));
    assert_eq!(site.post(&daemon, &another, "/v1/holds", &hold).await.0, 201);

    // Paused: no hold, until a person resumes it; what was spent is still reported.
    let paused = site.ok(&["pause", "team/research", "--reason", "looks odd"]).await;
    assert_eq!(paused, "team/research is paused\n");
    let (status, refused) = site.post(&daemon, &key, "/v1/holds", &hold).await;
    assert_eq!(
        (status, text(&refused["error"]["code"])),
        (503, "agent_paused"),
        "{refused}"
    );
    assert!(text(&refused["error"]["message"]).contains("looks odd"));
    assert!(text(&refused["error"]["hint"]).contains("backstop resume"));
    let report = json!({"id": "r", "amount_usd": "2"});
    assert_eq!(site.post(&daemon, &key, "/v1/usage", &report).await.0, 200);
    let reviews = site.json(&["review", "list"]).await;
    assert_eq!(reviews["reviews"][0]["agent"], "team/research", "{reviews:#}");
    let review = text(&reviews["reviews"][0]["id"]).to_owned();
    let shown = site.ok(&["review", "show", &review]).await;
    assert!(shown.contains("looks odd"), "{shown}");
    assert!(site.ok(&["status"]).await.contains("looks odd"));
    let reset = site.refused(&["reset", "team/research", "--yes"]).await;
    assert!(reset.stderr.contains("backstop resume"), "what was meant: {reset:#?}");
    assert_eq!(site.ok(&["resume", "team/research"]).await, "team/research is active\n");
    assert_eq!(site.post(&daemon, &key, "/v1/holds", &hold).await.0, 201);
    assert_eq!(
        site.ok(&["review", "list"]).await,
        "nothing waits for a person\n",
        "events have answered it"
    );

    // The same by its review.
    site.ok(&["pause", "support", "--reason", "again"]).await;
    let reviews = site.json(&["review", "list"]).await;
    let review = text(&reviews["reviews"][0]["id"]).to_owned();
    site.ok(&["review", "approve", &review, "--note", "it was nothing"])
        .await;
    assert_eq!(site.json(&["status", "support"]).await["status"], "active");
    let decided = site.json(&["review", "list", "--all"]).await;
    let notes: Vec<&str> = decided["reviews"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| text(&one["decision"]["note"]))
        .collect();
    assert!(notes.contains(&"it was nothing"), "{decided:#}");
    let twice = site.refused(&["review", "deny", &review]).await;
    assert!(!twice.stderr.is_empty());

    // A pause outlives the daemon (D2).
    site.ok(&["pause", "support"]).await;
    assert!(daemon.stop().await.success());
    let daemon = site.start().await;
    assert_eq!(site.post(&daemon, &another, "/v1/holds", &hold).await.0, 503);
    let unknown = site.refused(&["pause", "nobody"]).await;
    assert!(unknown.stderr.contains("backstop agent add nobody"), "{unknown:#?}");
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn usage_is_imported_and_told_by_whom_and_for_what() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let key = site.key("support").await;
    let report = json!({"id": "own", "amount_usd": "1", "task": "t1"});
    assert_eq!(site.post(&daemon, &key, "/v1/usage", &report).await.0, 200);

    site.write(
        "array.json",
        r#"[{"id": "a1", "service": "openai", "model": "gpt-5-mini", "task": "t1",
             "usage": {"prompt_tokens": 1000000, "completion_tokens": 500000}},
            {"id": "a2", "agent": "team/research", "amount_usd": "0.75", "tool": "web_search"}]"#,
    );
    let import = site.cli(&["usage", "import", "array.json", "--agent", "support"]).await;
    assert_eq!(import.code, Some(0), "{import:#?}");
    assert!(
        import
            .stderr
            .contains("2 rows: 2 posted ($2.00), 0 seen before, 0 rejected"),
        "{import:#?}"
    );
    site.write("lines.jsonl", "{\"id\":\"a2\",\"agent\":\"team/research\",\"amount_usd\":\"0.75\",\"tool\":\"web_search\"}\n{\"id\":\"b1\",\"amount_usd\":\"0.5\"}\n");
    let piped = site
        .cli_reading("lines.jsonl", &["usage", "import", "-", "--agent", "support"])
        .await;
    assert_eq!(piped.code, Some(0), "{piped:#?}");
    assert!(
        piped
            .stderr
            .contains("2 rows: 1 posted ($0.50), 1 seen before, 0 rejected"),
        "{piped:#?}"
    );
    assert_eq!(site.cli(&["usage", "import", "absent.json"]).await.code, Some(1));

    let by = async |by: &str| -> Vec<(String, String)> {
        let spend = site.json(&["spend", "--by", by]).await;
        assert_eq!(spend["total_usd"], "3.50", "{spend:#}");
        let rows = spend["rows"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .map(|row| (text(&row["key"]).to_owned(), text(&row["amount_usd"]).to_owned()))
            .collect()
    };
    let rows = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        rows.iter()
            .map(|(key, amount)| ((*key).to_owned(), (*amount).to_owned()))
            .collect()
    };
    assert_eq!(
        by("agent").await,
        rows(&[("support", "2.75"), ("team/research", "0.75")])
    );
    assert!(
        by("model")
            .await
            .contains(&("gpt-5-mini".to_owned(), "1.25".to_owned()))
    );
    assert!(by("service").await.contains(&("openai".to_owned(), "1.25".to_owned())));
    assert!(by("tool").await.contains(&("web_search".to_owned(), "0.75".to_owned())));
    assert_eq!(by("day").await.len(), 1);
    let tasks = site.json(&["spend", "support", "--by", "task"]).await;
    assert_eq!(tasks["total_usd"], "2.75", "{tasks:#}");
    let past = site.json(&["spend", "--until", "2026-01-01"]).await;
    assert_eq!(past["total_usd"], "0.00");

    // The agent's own word does not count on the fleet's budget, the operator's does (C7).
    let budgets = site.json(&["budget", "list"]).await;
    let fleet = budgets["budgets"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["budget"] == "all");
    assert_eq!(
        fleet.expect("it is configured")["lines"][0]["posted_usd"],
        "2.50",
        "{budgets:#}"
    );
    let table = site.ok(&["budget", "list"]).await;
    assert!(
        table.contains("pocket") && table.contains("month in Europe/Berlin"),
        "{table}"
    );
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn prices_are_shown_and_imported_without_a_restart() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let key = site.key("support").await;
    let shown = site.json(&["prices", "show", "gpt-5-mini"]).await;
    assert_eq!(
        shown["prices"][0]["bands"][0]["usd_per_million"]["input tokens"], "0.25",
        "{shown:#}"
    );
    let model = "abliteration/abliterated-model";
    let report = json!({"id": "r", "service": "abliteration", "model": "abliterated-model", "api": "openai_chat",
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}});
    let (status, refused) = site.post(&daemon, &key, "/v1/usage", &report).await;
    assert_eq!((status, text(&refused["error"]["code"])), (422, "price_unknown"));
    assert_eq!(site.ok(&["prices", "show", model]).await, "no price matches\n");

    site.write("prices.json", PRICES);
    let dry = site.json(&["prices", "import", "prices.json", "--dry-run"]).await;
    assert_eq!(
        (&dry["read"], &dry["file"]),
        (&json!(502), &Value::Null),
        "{}",
        dry["skipped"]
    );
    assert_eq!(
        site.post(&daemon, &key, "/v1/usage", &report).await.0,
        422,
        "a dry run takes nothing"
    );
    let import = site.cli(&["prices", "import", "prices.json"]).await;
    assert_eq!(import.code, Some(0), "{import:#?}");
    assert!(import.stderr.contains("the daemon has loaded them"), "{import:#?}");
    let (status, posted) = site.post(&daemon, &key, "/v1/usage", &report).await;
    assert_eq!((status, text(&posted["amount_usd"])), (200, "4.00"), "{posted}");

    // They are there after a restart, and a file that is no price list changes nothing.
    assert!(daemon.stop().await.success());
    let daemon = site.start().await;
    assert!(
        site.ok(&["prices", "show", "abliterated-model"])
            .await
            .contains("abliterat")
    );
    site.write("none.json", "{\"a\": 1}");
    let none = site.refused(&["prices", "import", "none.json"]).await;
    assert!(none.stderr.contains("error: "), "{none:#?}");
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn the_ledger_is_backed_up_verified_and_resolved() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let key = site.key("support").await;
    let (_, kept) = site
        .post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "5", "task": "t"}))
        .await;
    let (_, ended) = site.post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "4"})).await;
    let capture = format!("/v1/holds/{}/capture", text(&ended["hold_id"]));
    let (status, captured) = site.post(&daemon, &key, &capture, &json!({"cost_usd": "1.5"})).await;
    assert_eq!((status, text(&captured["cost_usd"])), (200, "1.50"), "{captured}");
    let (status, again) = site.post(&daemon, &key, &capture, &json!({"cost_usd": "1.5"})).await;
    assert_eq!((status, &again["repeated"]), (200, &json!(true)), "{again}");
    let (status, other) = site.post(&daemon, &key, &capture, &json!({"cost_usd": "2"})).await;
    assert_eq!(
        (status, text(&other["error"]["code"])),
        (409, "already_ended"),
        "{other}"
    );

    daemon.kill();
    let daemon = site.start().await;
    let unresolved = site.json(&["ledger", "resolve"]).await;
    assert_eq!(
        unresolved["unresolved"][0]["hold_id"], kept["hold_id"],
        "{unresolved:#}"
    );
    assert_eq!(unresolved["unresolved"][0]["amount_usd"], "5.00");
    let hold = text(&kept["hold_id"]);
    let (_, shown) = site.get(&daemon, &key, &format!("/v1/holds/{hold}")).await;
    assert_eq!(shown["state"], "unresolved", "{shown}");
    let resolved = site
        .ok(&[
            "ledger",
            "resolve",
            "--hold",
            hold,
            "--cost-usd",
            "0.4",
            "--note",
            "their log",
        ])
        .await;
    assert!(resolved.contains("$0.40"), "{resolved}");
    assert_eq!(site.ok(&["ledger", "resolve"]).await, "nothing is unresolved\n");
    let twice = site
        .refused(&["ledger", "resolve", "--hold", hold, "--cost-usd", "0.5"])
        .await;
    assert!(twice.stderr.contains("error: "), "{twice:#?}");
    assert_eq!(site.json(&["spend"]).await["total_usd"], "1.90");

    let verified = site.json(&["ledger", "verify"]).await;
    assert_eq!((&verified["ok"], &verified["faults"]), (&json!(true), &json!([])));
    let backup = site.ok(&["ledger", "backup", "copy.db"]).await;
    assert!(backup.contains("copy.db") && site.path("copy.db").is_file(), "{backup}");
    let over = site.refused(&["ledger", "backup", "copy.db"]).await;
    assert!(over.stderr.contains("never overwrites"), "{over:#?}");
    assert!(daemon.stop().await.success());

    // The copy is a ledger: a daemon that starts on it knows the same.
    let copy = Site::new(&format!("{CONFIG}\n[storage]\nurl = \"sqlite:copy.db\"\n"));
    std::fs::copy(site.path("copy.db"), copy.path("copy.db")).expect("a copy");
    let daemon = copy.start().await;
    assert_eq!(copy.json(&["spend"]).await["total_usd"], "1.90");
    assert_eq!(copy.json(&["ledger", "verify"]).await["ok"], true);
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_is_verified() {
    let site = Site::new(CONFIG);
    let daemon = site.start().await;
    let key = site.key("support").await;
    site.ok(&["pause", "support", "--reason", "looks odd"]).await;
    let (status, _) = site.post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "1"})).await;
    assert_eq!(status, 503);
    site.ok(&["resume", "support"]).await;
    wait::until("the refusal to be in the log", SOON, async || {
        site.audit()
            .await
            .iter()
            .any(|(action, _)| action == "refused")
            .then_some(())
    })
    .await;
    let actions: Vec<String> = site.audit().await.into_iter().map(|(action, _)| action).collect();
    for action in ["key_added", "paused", "resumed"] {
        assert!(actions.iter().any(|found| found == action), "{action} in {actions:?}");
    }
    let table = site.ok(&["audit", "list", "--limit", "2"]).await;
    assert_eq!(table.lines().count(), 3, "a heading and two entries: {table}");
    // Heads are signed every few seconds.
    let verified = wait::until("a signed head over everything", SOON, async || {
        let answer = site.cli(&["audit", "verify", "--json"]).await;
        (answer.code == Some(0)).then_some(answer)
    })
    .await;
    assert!(!verified.stdout.is_empty());
    // A log that was rewritten shows.
    assert!(daemon.stop().await.success());
    let heads = site.state_dir().join("audit.heads");
    let signed = std::fs::read_to_string(&heads).expect("heads");
    let first = signed.lines().next().expect("one head at least").to_owned();
    assert!(first.len() > 40, "{first}");
    let daemon = site.start().await;
    site.write(
        "copy.heads",
        &signed.replacen(&first[first.len() / 2..first.len() / 2 + 8], "00000000", 1),
    );
    let forged = site
        .cli(&[
            "audit",
            "verify",
            "--heads",
            "copy.heads",
            "--key",
            "data/audit.heads.pub",
        ])
        .await;
    assert_eq!(forged.code, Some(1), "{forged:#?}");
    assert!(daemon.stop().await.success());
}
