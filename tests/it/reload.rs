//! The config as a person meets it: every mistake at once, a reload that keeps what works, limits that
//! move, and exit statuses.

use serde_json::{Value, json};

use crate::harness::site::{SOON, Site};
use crate::harness::wait;

fn config(limit: &str) -> String {
    format!(
        r#"
[[agent]]
id = "support"

[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "{limit}"
response = "pause"
"#
    )
}

/// Ten mistakes of ten kinds; the comment at the end of a line is the key that must be named for it.
const TEN_MISTAKES: &str = r#"[server]
agent_listen = "8700"            # server.agent_listen
request_timeout = "forever"      # server.request_timeout
[ledger]
hold_wiat = "5s"                 # ledger.hold_wiat
breach_bound_percent = 250       # ledger.breach_bound_percent
[prices]
unknown_model = "ignore"         # prices.unknown_model
[[agent]]
id = "two words"                 # agent[0].id
[agent.aws]
account = 123456789012           # agent[0].aws.account
[[budget]]
name = "daily"
scope = "everyone"               # budget[0].scope
window = "day"
timezone = "Europe/Atlantis"     # budget[0].timezone
limit_usd = "-5"                 # budget[0].limit_usd
response = "contain"
"#;

#[tokio::test]
async fn ten_mistakes_are_told_at_once_with_line_and_hint() {
    let site = Site::new("");
    site.write("config.toml", TEN_MISTAKES);
    let expected: Vec<(u64, &str)> = TEN_MISTAKES
        .lines()
        .zip(1_u64..)
        .filter_map(|(line, number)| Some((number, line.split_once("# ")?.1)))
        .collect();
    assert_eq!(expected.len(), 10);
    let check = site.cli(&["check", "--json"]).await;
    assert_eq!(check.code, Some(1), "{check:#?}");
    let told: Value = serde_json::from_str(&check.stdout).expect("JSON");
    let problems = told["problems"].as_array().cloned().unwrap_or_default();
    for (line, key) in &expected {
        let problem = problems.iter().find(|one| one["line"] == *line && one["key"] == *key);
        let problem = problem.unwrap_or_else(|| panic!("line {line}, {key} is not in {told:#}"));
        assert!(problem["message"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(
            problem["hint"].as_str().is_some_and(|text| !text.is_empty()),
            "no hint: {problem}"
        );
    }
    assert_eq!(told["errors"], 10, "{told:#}");
    let human = site.cli(&["check"]).await;
    for (line, key) in &expected {
        assert!(
            human.stdout.contains(&format!("config.toml:{line}: {key}: ")),
            "{}",
            human.stdout
        );
    }
    assert_eq!(human.stdout.matches("(hint: ").count(), 10, "{}", human.stdout);
    let serve = site.cli(&["serve"]).await;
    assert_eq!(serve.code, Some(1));
    assert!(serve.stderr.contains("backstop check"), "{serve:#?}");
    let leftover: Vec<_> = std::fs::read_dir(site.state_dir()).expect("it is there").collect();
    assert!(
        leftover.is_empty(),
        "a daemon that does not start leaves nothing: {leftover:?}"
    );
}

#[tokio::test]
async fn exit_statuses_are_as_documented() {
    let site = Site::new(&config("10"));
    for command in [
        ["status"].as_slice(),
        &["spend"],
        &["agent", "list"],
        &["budget", "list"],
        &["pause", "support"],
        &["contain", "support", "--yes"],
        &["reset", "support", "--yes"],
        &["ledger", "verify"],
        &["prices", "show"],
        &["review", "list"],
        &["audit", "list"],
    ] {
        let answer = site.cli(command).await;
        assert_eq!(
            (answer.code, answer.stdout.as_str()),
            (Some(3), ""),
            "{command:?}: {answer:#?}"
        );
        assert!(answer.stderr.contains("backstop serve"), "{command:?}: {answer:#?}");
    }
    for command in [
        ["stauts"].as_slice(),
        &["status", "a", "b"],
        &["reset", "support", "--raise", "-5"],
        &["reset", "support", "--raise", "5", "--until", "2h"],
        &["contain", "support", "--yes", "--dry-run"],
        &["spend", "--by", "colour"],
        &["contain"],
        &["agent", "show", "a b"],
        &["ledger", "resolve", "--cost-usd", "1"],
    ] {
        let answer = site.cli(command).await;
        assert_eq!(
            (answer.code, answer.stdout.as_str()),
            (Some(2), ""),
            "{command:?}: {answer:#?}"
        );
        assert!(answer.stderr.contains("error: "), "{command:?}: {answer:#?}");
    }
    let daemon = site.start().await;
    site.ok(&["status"]).await;
    let second = site.cli(&["serve"]).await;
    assert_eq!(second.code, Some(1), "a second daemon in the same place: {second:#?}");
    site.ok(&["status"]).await;
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_wrong_config_changes_nothing_and_a_limit_moves_both_ways() {
    let site = Site::new(&config("10"));
    let mut daemon = site.start().await;
    let key = site.key("support").await;
    let hold = json!({"bound_usd": "1"});
    assert_eq!(
        site.post(&daemon, &key, "/v1/usage", &json!({"id": "r1", "amount_usd": "6"}))
            .await
            .0,
        200
    );

    // Wrong: the old settings stay, and the log says where the mistake is.
    site.configure(&config("ten dollars"));
    daemon.reload();
    wait::until("the wrong config to be refused", SOON, async || {
        daemon.log().contains("budget[0].limit_usd").then_some(())
    })
    .await;
    let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
    assert_eq!(budget["lines"][0]["limit_usd"], "10.00");
    assert_eq!(site.post(&daemon, &key, "/v1/holds", &hold).await.0, 201);

    // Raised: in force, on record, and nothing else happens.
    site.configure(&config("20"));
    daemon.reload();
    let limit = async |limit: &str| {
        wait::until(&format!("the limit to be {limit}"), SOON, async || {
            let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
            (budget["lines"][0]["limit_usd"] == limit).then_some(())
        })
        .await;
    };
    limit("20.00").await;
    let loosened: Vec<String> = site
        .audit()
        .await
        .into_iter()
        .filter(|(action, _)| action == "budget_loosened")
        .map(|(_, reason)| reason)
        .collect();
    assert!(loosened.len() == 1 && loosened[0].contains("20"), "{loosened:?}");
    assert_eq!(site.json(&["status", "support"]).await["status"], "active");

    // Lowered below what is spent: a breach at once.
    site.configure(&config("5"));
    daemon.reload();
    let paused = site.until_status(&daemon, "support", "paused").await;
    assert!(
        paused["reason"].as_str().is_some_and(|why| why.contains("pocket")),
        "{paused:#}"
    );
    assert_eq!(site.post(&daemon, &key, "/v1/holds", &hold).await.0, 503);

    // Raised again: by itself that resumes nobody, and a new breach acts again.
    site.configure(&config("30"));
    daemon.reload();
    let limit = async |limit: &str| {
        wait::until(&format!("the limit to be {limit}"), SOON, async || {
            let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
            (budget["lines"][0]["limit_usd"] == limit).then_some(())
        })
        .await;
    };
    limit("30.00").await;
    assert_eq!(site.json(&["status", "support"]).await["status"], "paused");
    site.ok(&["resume", "support"]).await;
    assert_eq!(site.post(&daemon, &key, "/v1/holds", &hold).await.0, 201);
    assert_eq!(
        site.post(&daemon, &key, "/v1/usage", &json!({"id": "r2", "amount_usd": "30"}))
            .await
            .0,
        200
    );
    site.until_status(&daemon, "support", "paused").await;
    assert_eq!(site.json(&["ledger", "verify"]).await["ok"], true);
    assert!(daemon.stop().await.success());
}
