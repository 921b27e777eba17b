//! What a client must not send: each mistake gets its status, its code and a sentence, says nothing back
//! that was secret, and leaves the ledger as it was.
//!
//! The requests are written by hand, because a client library would not let most of them out. All
//! mismatches are told at once.

mod case;
mod cases;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use self::case::{Case, Cases, request};
use self::cases::{admin, credentials, holds, paths_and_hosts, reports};
use crate::harness::raw::{Raw, RawAnswer, exchange};
use crate::harness::site::Site;
use crate::harness::wait;

/// Stands in bodies that are refused; nothing of it may come back or be kept.
const MARK: &str = "sk-live-4f9d8c7b6a";
const WRONG_KEY: &str = "bsk_wrongwrongwrongwrongwrongwrongwrongwrong";
const ADMIN_TOKEN: &str = "admin-token-of-this-test";

const CONFIG: &str = r#"
max_body_bytes = 65536
header_timeout = "1s"
request_timeout = "5s"
[ledger]
hold_wait = "1s"
[reports]
max_rows = 5
[admin]
token_env = "THE_ADMIN_TOKEN"

[[agent]]
id = "tester"
[[agent]]
id = "other"

[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "100"
response = "pause"
"#;

/// Everything about an answer that is not as it must be.
fn judge(case: &Case, answer: &RawAnswer, secrets: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    if answer.status != case.status || answer.code() != case.code {
        wrong.push(format!(
            "wanted {} {:?}, got {} {:?}",
            case.status,
            case.code,
            answer.status,
            answer.code()
        ));
    }
    if !case.code.is_empty() && answer.message().split(' ').count() < 3 {
        wrong.push(format!("no sentence: {:?}", answer.message()));
    }
    let shown = format!("{}\n{}", answer.head, answer.body);
    wrong.extend(
        secrets
            .iter()
            .filter(|secret| shown.contains(**secret))
            .map(|secret| format!("echoes {secret}")),
    );
    if answer.body.len() > 4_000 {
        wrong.push(format!("is {} bytes long", answer.body.len()));
    }
    wrong
        .iter()
        .map(|why| format!("{}: {why}: {}", case.name, answer.body))
        .collect()
}

/// What the ledger says: every line, every sum, and that it is sound.
async fn ledger(site: &Site) -> Value {
    let mut budgets = site.json(&["budget", "list"]).await;
    let mut agents = site.json(&["agent", "list"]).await;
    json!({
        "budgets": budgets.take(),
        "agents": agents.take(),
        "by_task": site.json(&["spend", "--by", "task"]).await,
        "by_model": site.json(&["spend", "--by", "model"]).await,
        "unresolved": site.json(&["ledger", "resolve"]).await,
        "verify": site.json(&["ledger", "verify"]).await,
    })
}

/// Every file below a directory that has one of these texts in it.
fn files_with(dir: &Path, secrets: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory is ours") {
        let entry = entry.expect("it is read");
        if entry.file_type().expect("it is there").is_file() {
            let bytes = std::fs::read(entry.path()).expect("the file is ours");
            let has = |secret: &&&str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            found.extend(
                secrets
                    .iter()
                    .filter(has)
                    .map(|secret| format!("{}: {secret}", entry.path().display())),
            );
        }
    }
    found
}

#[tokio::test]
async fn every_mistake_has_its_answer_and_leaves_the_ledger_as_it_was() {
    let token = ("THE_ADMIN_TOKEN".to_owned(), ADMIN_TOKEN.to_owned());
    let site = Site::new(CONFIG).with_env([token]);
    let daemon = site.start().await;
    let key = site.key("tester").await;
    let other = site.key("other").await;
    let made = site.json(&["agent", "key", "tester"]).await;
    let revoked = made["key"].as_str().unwrap_or_default().to_owned();
    site.ok(&[
        "agent",
        "key",
        "tester",
        "--revoke",
        made["id"].as_str().unwrap_or_default(),
    ])
    .await;

    let (status, _) = site
        .post(
            &daemon,
            &key,
            "/v1/usage",
            &json!({"id": "good", "amount_usd": "1", "task": "t"}),
        )
        .await;
    assert_eq!(status, 200);
    let hold = |answer: Value| answer["hold_id"].as_str().unwrap_or_default().to_owned();
    let own = hold(
        site.post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "2"}))
            .await
            .1,
    );
    let foreign = hold(
        site.post(&daemon, &other, "/v1/holds", &json!({"bound_usd": "3"}))
            .await
            .1,
    );
    let before = ledger(&site).await;
    assert_eq!(before["verify"]["ok"], true);
    assert_eq!(before["verify"]["holds"], 2);

    let mut all = Vec::new();
    let mut cases = Cases::of(&key, false);
    reports(&mut cases);
    holds(&mut cases, &own, &foreign);
    paths_and_hosts(&mut cases, &key);
    credentials(&mut cases, &key, &revoked);
    all.append(&mut cases.all);
    let mut cases = Cases::of(ADMIN_TOKEN, true);
    admin(&mut cases, &key);
    all.append(&mut cases.all);

    let secrets = [key.as_str(), &other, &revoked, WRONG_KEY, ADMIN_TOKEN, MARK];
    let agents = daemon.addresses().agent.clone().expect("it listens");
    let operators = daemon.addresses().admin.clone().expect("it listens");
    let mut wrong = Vec::new();
    for case in &all {
        let address = if case.admin { &operators } else { &agents };
        let answer = exchange(address, &case.request).await;
        wrong.extend(judge(case, &answer, &secrets));
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );

    assert_eq!(ledger(&site).await, before, "nothing of it was posted or held");
    let log = daemon.log();
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    assert_eq!(files_with(&site.state_dir(), &secrets), Vec::<String>::new());
    let health = exchange(&operators, &request("GET /readyz", &[], b"")).await;
    assert_eq!(
        (health.status, &health.json()["ready"]),
        (200, &json!(true)),
        "{health:?}"
    );
    let (status, _) = site
        .post(&daemon, &key, "/v1/usage", &json!({"id": "after", "amount_usd": "1"}))
        .await;
    assert_eq!(status, 200, "and it goes on");
    // What nobody can have spent is not posted, but it is on record that somebody said it.
    wait::until(
        "the refused claim in the audit log",
        Duration::from_secs(60),
        async || {
            let entries = site.audit().await;
            entries
                .iter()
                .any(|(action, _)| action == "claim_refused")
                .then_some(())
        },
    )
    .await;
    assert!(daemon.stop().await.success());
}

/// Bad rows among good ones: each has its own answer, and the good ones are kept.
#[tokio::test]
async fn a_bad_row_costs_itself_alone() {
    let token = ("THE_ADMIN_TOKEN".to_owned(), ADMIN_TOKEN.to_owned());
    let site = Site::new(CONFIG).with_env([token]);
    let daemon = site.start().await;
    let key = site.key("tester").await;
    let rows = json!([
        {"id": "r1", "amount_usd": "1"},
        {"id": "r2", "amount_usd": "-1"},
        {"id": "r3", "amount_usd": "10000000000"},
        {"id": "r1", "amount_usd": "1"},
        {"id": "r1", "amount_usd": "2"},
    ]);
    let (status, answer) = site.post(&daemon, &key, "/v1/usage", &rows).await;
    assert_eq!(status, 207, "{answer:#}");
    let shown: Vec<(&str, &str)> = answer["rows"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(|row| {
            (
                row["status"].as_str().unwrap_or_default(),
                row["error"]["code"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let expected = [
        ("posted", ""),
        ("rejected", "invalid_field"),
        ("rejected", "absurd_amount"),
        ("duplicate", ""),
        ("rejected", "report_conflict"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(answer["posted_usd"], "1.00");
    let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
    assert_eq!(budget["lines"][0]["posted_usd"], "1.00");

    // By an operator: the same rows with an agent that is not there, from a file.
    site.write("rows.jsonl", "{\"id\":\"o1\",\"agent\":\"nobody\",\"amount_usd\":\"1\"}\n{\"id\":\"o2\",\"agent\":\"tester\",\"amount_usd\":\"1\"}\n{broken\n");
    let import = site.refused(&["usage", "import", "rows.jsonl"]).await;
    for wanted in ["unknown_agent", "malformed_body", "o1"] {
        assert!(import.stdout.contains(wanted), "{import:#?}");
    }
    assert!(
        import
            .stderr
            .contains("3 rows: 1 posted ($1.00), 0 seen before, 2 rejected"),
        "{import:#?}"
    );
    let nothing = site
        .refused(&["usage", "import", "rows.jsonl", "--all-or-nothing"])
        .await;
    assert!(nothing.stderr.contains("nothing was kept"), "{nothing:#?}");
    // Where every row is wrong, each still says why.
    site.write(
        "bad.jsonl",
        "{\"id\":\"o3\",\"agent\":\"nobody\",\"amount_usd\":\"1\"}\n{broken\n",
    );
    let none = site.refused(&["usage", "import", "bad.jsonl"]).await;
    assert!(
        none.stdout.contains("unknown_agent") && none.stdout.contains("malformed_body"),
        "{none:#?}"
    );
    assert!(
        none.stderr
            .contains("2 rows: 0 posted ($0.00), 0 seen before, 2 rejected"),
        "{none:#?}"
    );
    assert_eq!(site.json(&["spend"]).await["total_usd"], "2.00");
    assert_eq!(site.json(&["ledger", "verify"]).await["ok"], true);
    assert!(daemon.stop().await.success());
}

/// Clients that dawdle, break off or speak something else do not hold the daemon.
#[tokio::test]
async fn a_slow_or_broken_connection_ends_and_holds_nobody_up() {
    let token = ("THE_ADMIN_TOKEN".to_owned(), ADMIN_TOKEN.to_owned());
    let site = Site::new(CONFIG).with_env([token]);
    let daemon = site.start().await;
    let key = site.key("tester").await;
    let address = daemon.addresses().agent.clone().expect("it listens");
    let head = format!(
        "POST /v1/usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 100\r\n\r\n"
    );

    // Many that never finish their head, while others are served.
    let mut dawdlers = Vec::new();
    for _ in 0..40 {
        let mut dawdler = Raw::connect(&address).await;
        dawdler.send(b"POST /v1/usage HTTP/1.1\r\nHost: loc").await;
        dawdlers.push(dawdler);
    }
    let mut slow = Raw::connect(&address).await;
    slow.send(head.as_bytes()).await;
    slow.send(b"{\"id\":\"bad\",").await;
    let mut broken = Raw::connect(&address).await;
    broken.send(head.as_bytes()).await;
    broken.send(b"{\"id\":\"bad\",").await;
    broken.end().await;
    let (status, _) = site
        .post(&daemon, &key, "/v1/usage", &json!({"id": "good", "amount_usd": "1"}))
        .await;
    assert_eq!(status, 200, "others are served meanwhile");
    for dawdler in dawdlers {
        let answer = dawdler.answer().await;
        assert!(matches!(answer.status, 0 | 408), "{answer:?}");
    }
    let answer = slow.answer().await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (408, "body_too_slow"),
        "{answer:?}"
    );
    let answer = broken.answer().await;
    assert!(
        matches!(
            (answer.status, answer.code().as_str()),
            (0, "") | (400, "malformed_body")
        ),
        "{answer:?}"
    );
    assert!(!answer.body.contains("bad\""), "{answer:?}");

    // What is not HTTP, or too much of it, never reaches us: the library answers or closes.
    let long = format!(
        "GET /v1/budget HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "x".repeat(300_000)
    );
    let many = format!(
        "GET /v1/budget HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X-Many: 1\r\n".repeat(500)
    );
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST /v1/usage HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/usage HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let answer = exchange(&address, bytes).await;
        assert!(matches!(answer.status, 0 | 400 | 414 | 431 | 505), "{answer:?}");
    }
    let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
    assert_eq!(
        budget["lines"][0]["posted_usd"], "1.00",
        "only what was sent whole is posted"
    );
    let log = daemon.log();
    assert!(!log.contains(&key) && !log.contains("panicked"), "{log}");
    assert!(daemon.stop().await.success());
}
