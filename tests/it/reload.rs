//! The config as a person meets it: every mistake at once, a reload that keeps what works, limits that
//! move, and exit statuses.

use serde_json::{Value, json};

use crate::harness::daemon::Daemon;
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

/// Until the agent's only line has this limit.
async fn until_limit(site: &Site, daemon: &Daemon, key: &str, limit: &str) {
    wait::until(&format!("the limit to be {limit}"), SOON, async || {
        let (_, budget) = site.get(daemon, key, "/v1/budget").await;
        (budget["lines"][0]["limit_usd"] == limit).then_some(())
    })
    .await;
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
    wait::until(
        "the wrong config to be refused, with a line for each mistake",
        SOON,
        async || {
            let log = daemon.log();
            let told = |mistake: &str| log.lines().any(|line| line.contains(mistake));
            (told("config.toml:12: budget[0].limit_usd: ") && told("the old one stays in force")).then_some(())
        },
    )
    .await;
    let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
    assert_eq!(budget["lines"][0]["limit_usd"], "10.00");
    assert_eq!(site.post(&daemon, &key, "/v1/holds", &hold).await.0, 201);

    // Raised: in force, on record, and nothing else happens.
    site.configure(&config("20"));
    daemon.reload();
    until_limit(&site, &daemon, &key, "20.00").await;
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
    until_limit(&site, &daemon, &key, "30.00").await;
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

/// The reasons of what was loosened, as the audit log has them.
async fn loosened(site: &Site) -> Vec<String> {
    let entries = site.audit().await.into_iter();
    let loosened = entries.filter(|(action, _)| action == "budget_loosened");
    loosened.map(|(_, reason)| reason).collect()
}

#[tokio::test]
async fn a_limit_that_was_raised_while_nothing_ran_is_on_record() {
    let site = Site::new(&config("10"));
    let daemon = site.start().await;
    let key = site.key("support").await;
    let hold = json!({"bound_usd": "1"});
    assert_eq!(site.post(&daemon, &key, "/v1/holds", &hold).await.0, 201);
    assert!(daemon.stop().await.success());

    // Unchanged, then lowered: nothing is loosened.
    for limit in ["10", "5"] {
        site.configure(&config(limit));
        let daemon = site.start().await;
        assert_eq!(loosened(&site).await, [""; 0], "limit {limit}");
        assert!(daemon.stop().await.success());
    }

    // Raised: on record once, with what it was and is.
    site.configure(&config("25"));
    for _ in 0..2 {
        let daemon = site.start().await;
        let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
        assert_eq!(budget["lines"][0]["limit_usd"], "25.00");
        assert_eq!(
            loosened(&site).await,
            ["the budget pocket was loosened while the daemon was not running"]
        );
        assert!(daemon.stop().await.success());
    }
    let daemon = site.start().await;
    let log = site.json(&["audit", "list"]).await;
    let entries = log["entries"].as_array().cloned().unwrap_or_default();
    let entry = entries.iter().find(|one| one["entry"]["action"] == "budget_loosened");
    let evidence = entry.map(|one| one["entry"]["evidence"].clone()).unwrap_or_default();
    let evidence: Value = match &evidence {
        Value::String(text) => serde_json::from_str(text).expect("JSON"),
        other => other.clone(),
    };
    assert_eq!(
        (&evidence["old_limit_usd"], &evidence["new_limit_usd"]),
        (&json!("5.00"), &json!("25.00")),
        "{log:#}"
    );
    assert!(daemon.stop().await.success());

    // A softer response is no smaller matter than a higher limit.
    site.configure(&config("25").replace("\"pause\"", "\"alert\""));
    let daemon = site.start().await;
    assert_eq!(loosened(&site).await.len(), 2);
    assert!(daemon.stop().await.success());
}

/// Asks for a reload by the socket, and returns when it is in force.
async fn reload(site: &Site) {
    let socket = site.state_dir().join("admin.sock");
    let client = reqwest::Client::builder()
        .unix_socket(socket)
        .build()
        .expect("a client");
    let answer = client
        .post("http://localhost/api/v1/reload")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
}

#[tokio::test]
async fn the_key_of_an_agent_that_was_taken_out_opens_nothing() {
    let both = format!("{}[[agent]]\nid = \"other\"\n", config("10"));
    let site = Site::new(&both);
    let daemon = site.start().await;
    let (key, other) = (site.key("support").await, site.key("other").await);
    let hold = json!({"bound_usd": "1"});
    let (status, placed) = site.post(&daemon, &other, "/v1/holds", &hold).await;
    assert_eq!(status, 201);
    let capture = format!("/v1/holds/{}/capture", placed["hold_id"].as_str().expect("an id"));

    site.configure(&config("10"));
    reload(&site).await;
    let report = json!({"id": "r", "amount_usd": "1"});
    for (path, body) in [
        ("/v1/holds", &hold),
        ("/v1/usage", &report),
        (capture.as_str(), &json!({"cost_usd": "1"})),
        ("/v1/tools/authorize", &json!({"tool": "search"})),
    ] {
        let (status, refused) = site.post(&daemon, &other, path, body).await;
        assert_eq!(
            (status, &refused["error"]["code"]),
            (401, &json!("bad_credential")),
            "{path}"
        );
    }
    assert_eq!(site.get(&daemon, &other, "/v1/budget").await.0, 401);
    assert_eq!(
        site.get(&daemon, &key, "/v1/budget").await.0,
        200,
        "nobody else is touched"
    );

    // Put back, the same key opens again: it was never revoked.
    site.configure(&both);
    reload(&site).await;
    assert_eq!(site.get(&daemon, &other, "/v1/budget").await.0, 200);
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_daemon_answers_to_the_addresses_that_it_listens_on() {
    let listen = |section: &str, address: &str| (format!("BACKSTOP__SERVER__{section}"), address.to_owned());
    // Loopback addresses of their own, so that no name that is always fine stands for them.
    let site = Site::new("allowed_hosts = [\"Backstop.Internal\"]\n").with_env([
        listen("AGENT_LISTEN", "127.0.0.2:0"),
        listen("ADMIN_LISTEN", "127.0.0.3:0"),
    ]);
    let daemon = site.start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |url: String, host: &str| {
        let answer = client.get(url).header("host", host).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.expect("JSON");
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    for own in [
        "127.0.0.2",
        "127.0.0.2:8700",
        "127.0.0.3",
        "localhost",
        "[::1]:1",
        "backstop.internal:80",
    ] {
        assert_eq!(
            ask(daemon.admin_url("/healthz"), own).await,
            (200, String::new()),
            "{own}"
        );
        let agent = ask(daemon.agent_url("/v1/budget"), own).await;
        assert_eq!(agent, (401, "no_credential".to_owned()), "{own}");
    }
    for foreign in [
        "127.0.0.4",
        "127.0.0.2.nip.io",
        "evil.example:8700",
        "0.0.0.0",
        "internal",
    ] {
        for url in [daemon.admin_url("/healthz"), daemon.agent_url("/v1/budget")] {
            assert_eq!(
                ask(url, foreign).await,
                (421, "host_not_allowed".to_owned()),
                "{foreign}"
            );
        }
    }
    assert!(daemon.stop().await.success());
}
