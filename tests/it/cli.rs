//! The command line against a stand-in for the admin API: what it sends, what it prints, how it exits.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::daemon::{Answer, backstop, run_cli};

const ID: &str = "0192f0c1-0000-7000-8000-000000000000";

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    /// Method, path and query.
    line: String,
    body: String,
    bearer: Option<String>,
}

#[derive(Default)]
struct Script {
    asked: Vec<Asked>,
    answers: VecDeque<(u16, Value)>,
}

/// The stand-in: it gives the answers in their order and remembers what was asked.
struct Api {
    dir: TempDir,
    script: Arc<Mutex<Script>>,
    server: tokio::task::JoinHandle<()>,
    url: String,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| Some(value.to_str().ok()?.to_owned()));
    let mut script = script.lock().expect("no test panics while it holds it");
    script.asked.push(Asked {
        line: format!("{method} {uri}"),
        body: String::from_utf8_lossy(&body).into_owned(),
        bearer,
    });
    let (status, body) = script
        .answers
        .pop_front()
        .unwrap_or((500, json!({"error": {"code": "unscripted", "message": "unscripted"}})));
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body))
}

impl Api {
    async fn new(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let script = Arc::new(Mutex::new(Script {
            asked: Vec::new(),
            answers: answers.into_iter().collect(),
        }));
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&script));
        let socket = tokio::net::UnixListener::bind(dir.path().join("admin.sock")).expect("a socket");
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", tcp.local_addr().expect("an address"));
        #[expect(clippy::disallowed_methods, reason = "aborted when the stand-in is dropped")]
        let server = tokio::spawn(async move {
            let both = tokio::join!(axum::serve(socket, app.clone()), axum::serve(tcp, app));
            drop(both);
        });
        Self {
            dir,
            script,
            server,
            url,
        }
    }

    /// Runs a command over the socket.
    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = backstop();
        command
            .arg("--socket")
            .arg(self.dir.path().join("admin.sock"))
            .args(arguments);
        run_cli(command, self.dir.path()).await
    }

    fn asked(&self) -> Vec<Asked> {
        self.script
            .lock()
            .expect("no test panics while it holds it")
            .asked
            .clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[tokio::test]
async fn json_is_the_answer_as_it_came_and_a_table_is_made_of_it() {
    let agents = json!({"agents": [{"id": "team/a", "status": "active", "since": "2026-11-20T00:00:00Z", "reason": "", "keys": 1}]});
    let api = Api::new([(200, agents.clone()), (200, agents.clone())]).await;
    let json = api.run(&["agent", "list", "--json"]).await;
    assert_eq!(
        (json.stdout.trim_end(), json.code),
        (agents.to_string().as_str(), Some(0)),
        "{}",
        json.stderr
    );
    let table = api.run(&["agent", "list"]).await;
    assert!(
        table.stdout.contains("team/a") && table.stdout.starts_with(" ID"),
        "{}",
        table.stdout
    );
    assert_eq!(api.lines(), ["GET /api/v1/agents", "GET /api/v1/agents"]);
}

#[tokio::test]
async fn ids_and_queries_are_encoded() {
    let api = Api::new([(200, json!({})), (200, json!({"rows": [], "total_usd": "0.00"}))]).await;
    api.run(&["status", "team/a"]).await;
    let spend = api
        .run(&[
            "spend",
            "team/a",
            "--by",
            "model",
            "--since",
            "2026-11-20",
            "--task",
            "t#1",
        ])
        .await;
    assert_eq!(spend.code, Some(0), "{}", spend.stderr);
    assert_eq!(
        api.lines(),
        [
            "GET /api/v1/agents/team%2Fa",
            "GET /api/v1/spend?by=model&agent=team%2Fa&task=t%231&since=2026-11-20T00%3A00%3A00Z"
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_one_and_an_absent_daemon_is_three() {
    let refusal =
        json!({"error": {"code": "wrong_state", "message": "support is active", "hint": "nothing to resume"}});
    let api = Api::new([(409, refusal.clone()), (409, refusal.clone())]).await;
    let refused = api.run(&["resume", "support"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert_eq!(refused.stderr, "error: support is active\nhint: nothing to resume\n");
    let refused = api.run(&["resume", "support", "--json"]).await;
    assert_eq!(
        (refused.code, refused.stdout.trim_end()),
        (Some(1), refusal.to_string().as_str())
    );

    let mut command = backstop();
    command.args(["status", "--socket"]).arg(api.path().join("absent.sock"));
    let absent = run_cli(command, api.path()).await;
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(3), ""));
    assert!(
        absent.stderr.contains("no daemon answers") && absent.stderr.contains("backstop serve"),
        "{}",
        absent.stderr
    );
    let mut command = backstop();
    command.args(["status", "--admin-url", "http://127.0.0.1:1"]);
    assert_eq!(run_cli(command, api.path()).await.code, Some(3));
}

#[tokio::test]
async fn the_token_goes_over_tcp_and_comes_from_no_argument() {
    let api = Api::new([(200, json!({})), (200, json!({})), (200, json!({}))]).await;
    std::fs::write(api.path().join("token"), "0123456789abcdef\n").expect("a file");
    for (variable, value) in [
        ("BACKSTOP_ADMIN_TOKEN", "fedcba9876543210"),
        ("BACKSTOP_ADMIN_TOKEN_FILE", "token"),
    ] {
        let mut command = backstop();
        command.args(["status", "--admin-url", &api.url]).env(variable, value);
        let answer = run_cli(command, api.path()).await;
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
    }
    api.run(&["status"]).await;
    let bearers: Vec<_> = api.asked().into_iter().map(|asked| asked.bearer).collect();
    assert_eq!(
        bearers,
        [
            Some("Bearer fedcba9876543210".to_owned()),
            Some("Bearer 0123456789abcdef".to_owned()),
            None
        ],
        "the socket needs none"
    );
}

#[tokio::test]
async fn what_destroys_shows_its_impact_and_waits_for_yes() {
    let impact = json!({"agent": "a", "action": "contain", "steps": [
        {"action": "stop_instance", "resource": "instance:eu-west-1/i-0123456789abcdef0", "note": ""}]});
    let done = json!({"agent": "a", "status": "contained"});
    let api = Api::new([
        (200, impact.clone()),
        (200, impact.clone()),
        (200, done),
        (
            503,
            json!({"error": {"code": "cloud_down", "message": "EC2 does not answer", "hint": null}}),
        ),
        (200, json!({"agent": "a", "status": "contained"})),
    ])
    .await;
    let asked = api.run(&["contain", "a"]).await;
    assert_eq!(asked.code, Some(1));
    assert!(
        asked.stdout.contains("i-0123456789abcdef0") && asked.stderr.contains("--yes"),
        "{asked:?}"
    );
    assert_eq!(
        api.lines(),
        ["GET /api/v1/agents/a/impact?action=contain&mode=contain"],
        "nothing was done"
    );

    let done = api.run(&["contain", "a", "--yes", "--reason", "scans"]).await;
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "a is contained\n"));
    let last = api.asked().pop().expect("it asked");
    assert_eq!(last.line, "POST /api/v1/agents/a/contain");
    assert_eq!(
        serde_json::from_str::<Value>(&last.body).expect("JSON"),
        json!({"mode": "contain", "cause": "scans", "dry_run": false})
    );

    let blind = api.run(&["contain", "a", "--yes"]).await;
    assert_eq!(
        blind.code,
        Some(0),
        "the switch works when the cloud cannot be looked at: {}",
        blind.stderr
    );
}

#[tokio::test]
async fn a_dry_run_asks_for_nothing_else() {
    let api = Api::new([(200, json!({"steps": []}))]).await;
    assert_eq!(api.run(&["contain", "a", "--dry-run", "--revoke"]).await.code, Some(0));
    let asked = api.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        serde_json::from_str::<Value>(&asked[0].body).expect("JSON"),
        json!({"mode": "revoke", "cause": "an operator asked for it", "dry_run": true})
    );
}

#[tokio::test]
async fn a_refused_reset_is_told_once() {
    let why = "the line pocket is still breached";
    let impact = json!({"steps": [{"action": "start", "resource": "i-1"}],
        "refused": {"code": "wrong_state", "message": why}});
    let refused = json!({"error": {"code": "wrong_state", "message": why, "hint": null}});
    let api = Api::new([(200, impact.clone()), (409, refused), (200, impact)]).await;
    let reset = api.run(&["reset", "a", "--yes"]).await;
    assert_eq!((reset.code, reset.stdout.as_str()), (Some(1), ""), "{reset:#?}");
    assert!(reset.stderr.contains("i-1"), "the impact is still told: {reset:#?}");
    assert_eq!(reset.stderr.matches(why).count(), 1, "{}", reset.stderr);
    let asked = api.run(&["reset", "a"]).await;
    assert!(
        asked.stdout.contains(&format!("it would be refused: {why}")),
        "{asked:#?}"
    );
}

#[tokio::test]
async fn answers_of_no_form_that_is_known_break_nothing() {
    let receipt = json!({"rows_total": "many", "rows": [5, "x", null, {"row": 1}], "posted_usd": []});
    for odd in [json!([]), json!(5), json!("text"), json!(null), receipt.clone()] {
        let api = Api::new([(200, odd.clone()), (200, receipt.clone()), (200, odd.clone())]).await;
        // Three batches: each is merged with what came before.
        let rows: Vec<Value> = (0..10_001)
            .map(|id| json!({"id": format!("r{id}"), "amount_usd": "1"}))
            .collect();
        std::fs::write(api.dir.path().join("rows.json"), Value::from(rows).to_string()).expect("a file");
        let import = api.run(&["usage", "import", "rows.json"]).await;
        assert!(matches!(import.code, Some(0 | 1)), "{odd}: {import:#?}");
        assert_eq!(api.asked().len(), 3, "{odd}");
        for command in [
            ["status"].as_slice(),
            &["status", "a"],
            &["spend"],
            &["budget", "list"],
            &["agent", "list"],
            &["agent", "show", "a"],
            &["agent", "key", "a"],
            &["pause", "a"],
            &["contain", "a"],
            &["reset", "a", "--yes"],
            &["review", "list"],
            &["prices", "show"],
            &["ledger", "verify"],
            &["audit", "list", "--from", "1"],
        ] {
            let api = Api::new([(200, odd.clone()), (200, odd.clone())]).await;
            let answer = api.run(command).await;
            assert!(matches!(answer.code, Some(0 | 1)), "{command:?}, {odd}: {answer:#?}");
            assert!(!answer.stderr.contains("panicked"), "{command:?}, {odd}: {answer:#?}");
        }
    }
}

#[tokio::test]
async fn a_reset_says_how() {
    let api = Api::new([(200, json!({"steps": []})), (200, json!({"status": "restoring"}))]).await;
    let reset = api
        .run(&[
            "reset", "a", "--raise", "12.5", "--only", "i-1", "i-2", "--yes", "--note", "fixed",
        ])
        .await;
    assert_eq!(
        (reset.code, reset.stdout.as_str()),
        (Some(0), "a is restoring\n"),
        "{}",
        reset.stderr
    );
    let asked = api.asked();
    assert_eq!(
        asked[0].line,
        "GET /api/v1/agents/a/impact?action=reset&only=i-1%2Ci-2&raise_usd=12.50"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&asked[1].body).expect("JSON"),
        json!({"only": ["i-1", "i-2"], "note": "fixed", "raise_usd": "12.50"})
    );
}

#[tokio::test]
async fn an_import_keeps_numbers_as_written_and_tells_rejected_rows() {
    let receipt = json!({"rows_total": 2, "posted": 1, "duplicates": 0, "rejected": 1, "posted_usd": "0.10", "rows": [
        {"row": 0, "id": "r1", "status": "posted", "amount_usd": "0.10"},
        {"row": 1, "id": "r2", "status": "rejected", "error": {"code": "invalid_field", "message": "amount_usd: negative"}}]});
    let api = Api::new([(207, receipt.clone()), (422, receipt)]).await;
    let rows = "[{\"id\":\"r1\",\"amount_usd\":0.1000000000000000055},\n {\"id\":\"r2\",\"amount_usd\":-1}]";
    std::fs::write(api.path().join("reports.json"), rows).expect("a file");
    let import = api.run(&["usage", "import", "reports.json", "--agent", "a"]).await;
    assert_eq!(import.code, Some(1), "a row was rejected");
    assert!(
        import.stdout.contains("r2") && import.stdout.contains("amount_usd: negative"),
        "{}",
        import.stdout
    );
    assert!(
        import
            .stderr
            .contains("2 rows: 1 posted ($0.10), 0 seen before, 1 rejected"),
        "{}",
        import.stderr
    );
    let asked = api.asked();
    assert_eq!(asked[0].line, "POST /api/v1/usage?agent=a");
    assert_eq!(
        asked[0].body,
        "{\"id\":\"r1\",\"amount_usd\":0.1000000000000000055}\n{\"id\":\"r2\",\"amount_usd\":-1}\n"
    );
    let all = api
        .run(&["usage", "import", "reports.json", "--json", "--all-or-nothing"])
        .await;
    assert_eq!(all.code, Some(1));
    assert!(
        all.stdout.starts_with('{'),
        "a receipt is an answer whatever its status: {}",
        all.stdout
    );
    assert_eq!(api.lines()[1], "POST /api/v1/usage?all_or_nothing=true");
}

#[tokio::test]
async fn a_large_import_goes_in_batches() {
    let receipt = |rows: usize| {
        (
            200,
            json!({"rows_total": rows, "posted": rows, "duplicates": 0, "rejected": 0, "posted_usd": "1.00", "rows": []}),
        )
    };
    let api = Api::new([receipt(5000), receipt(5000), receipt(1)]).await;
    std::fs::write(api.path().join("reports.jsonl"), "{\"amount_usd\":1}\n".repeat(10_001)).expect("a file");
    let import = api.run(&["usage", "import", "reports.jsonl", "--json"]).await;
    assert_eq!(import.code, Some(0), "{}", import.stderr);
    let merged: Value = serde_json::from_str(&import.stdout).expect("JSON");
    assert_eq!(
        (&merged["posted"], &merged["posted_usd"]),
        (&json!(10_001), &json!("3.00"))
    );
    let all = api.run(&["usage", "import", "reports.jsonl", "--all-or-nothing"]).await;
    assert_eq!((all.code, api.lines().len()), (Some(2), 3), "nothing was sent");
}

#[tokio::test]
async fn a_daemon_that_takes_less_at_once_gets_less() {
    let too_many = || {
        (
            413,
            json!({"error": {"code": "too_many_rows", "message": "at most 2 rows", "hint": null}}),
        )
    };
    let receipt = |rows: usize| {
        let body = json!({"rows_total": rows, "posted": rows, "duplicates": 0, "rejected": 0, "posted_usd": "1.00", "rows": []});
        (200, body)
    };
    let api = Api::new([too_many(), receipt(1), receipt(2)]).await;
    std::fs::write(api.path().join("reports.jsonl"), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n").expect("a file");
    let import = api.run(&["usage", "import", "reports.jsonl"]).await;
    assert_eq!(import.code, Some(0), "{}", import.stderr);
    let sent: Vec<String> = api.asked().into_iter().skip(1).map(|asked| asked.body).collect();
    assert_eq!(sent, ["{\"id\":1}\n", "{\"id\":2}\n{\"id\":3}\n"]);
    assert!(import.stderr.contains("3 rows: 3 posted ($2.00)"), "{}", import.stderr);
}

#[tokio::test]
async fn a_key_is_data_and_the_rest_is_talk() {
    let api = Api::new([
        (201, json!({"id": ID, "agent": "a", "key": "bsk_secret"})),
        (200, json!({})),
    ])
    .await;
    let key = api.run(&["agent", "key", "a"]).await;
    assert_eq!((key.stdout.as_str(), key.code), ("bsk_secret\n", Some(0)));
    assert!(!key.stderr.contains("bsk_secret"));
    assert_eq!(api.run(&["agent", "key", "a", "--revoke", ID]).await.code, Some(0));
    assert_eq!(
        api.lines(),
        [
            "POST /api/v1/agents/a/keys".to_owned(),
            format!("DELETE /api/v1/agents/a/keys/{ID}")
        ]
    );
}

#[tokio::test]
async fn an_agent_is_added_to_the_file_and_the_daemon_told() {
    let api = Api::new([(200, json!({"agents_added": ["new"]}))]).await;
    let added = api.run(&["agent", "add", "new"]).await;
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    assert_eq!(api.lines(), ["POST /api/v1/reload"]);
    let text = std::fs::read_to_string(api.path().join("config.toml")).expect("the file is made");
    assert!(text.contains("[[agent]]\nid = \"new\""), "{text}");
    let again = api.run(&["agent", "add", "new"]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("in the config already"), "{}", again.stderr);
    assert_eq!(api.lines().len(), 1, "an unchanged file is not loaded again");
}

#[tokio::test]
async fn reviews_and_the_ledger_are_addressed_as_the_api_has_them() {
    let api = Api::new(std::iter::repeat_n((200, json!({})), 9)).await;
    for arguments in [
        vec!["review", "list", "--all"],
        vec!["review", "show", ID],
        vec!["review", "deny", ID, "--note", "no"],
        vec!["ledger", "resolve"],
        vec!["ledger", "resolve", "--hold", ID, "--cost-usd", "0.4"],
        vec!["ledger", "verify"],
        vec!["ledger", "accept-clock", "--yes"],
        vec!["prices", "show", "gpt-5"],
        vec!["audit", "list", "--from", "5", "--limit", "7"],
    ] {
        let answer = api.run(&arguments).await;
        assert_eq!(answer.code, Some(0), "{arguments:?}: {}", answer.stderr);
    }
    let asked: Vec<(String, String)> = api.asked().into_iter().map(|asked| (asked.line, asked.body)).collect();
    let expect = |line: &str, body: &str| (line.to_owned(), body.to_owned());
    assert_eq!(
        asked,
        [
            expect("GET /api/v1/reviews?all=true", ""),
            expect(&format!("GET /api/v1/reviews/{ID}"), ""),
            expect(
                &format!("POST /api/v1/reviews/{ID}"),
                "{\"approve\":false,\"note\":\"no\"}"
            ),
            expect("GET /api/v1/ledger/unresolved", ""),
            expect(
                "POST /api/v1/ledger/resolve",
                &format!("{{\"cost_usd\":\"0.40\",\"hold\":\"{ID}\",\"note\":\"\"}}")
            ),
            expect("POST /api/v1/ledger/verify", "{}"),
            expect("POST /api/v1/clock/accept", "{}"),
            expect("GET /api/v1/prices?model=gpt-5", ""),
            expect("GET /api/v1/audit?from=5&limit=7", ""),
        ]
    );
}

#[tokio::test]
async fn the_latest_entries_of_the_audit_log_are_found() {
    let some = || (200, json!({"entries": [{"seq": 1}]}));
    let none = || (200, json!({"entries": []}));
    // Entries 1 to 3: 1 and 2 are there, 4 is not, 3 is.
    let api = Api::new([some(), some(), none(), some(), some()]).await;
    assert_eq!(api.run(&["audit", "list", "--limit", "2"]).await.code, Some(0));
    assert_eq!(api.lines().pop().expect("it asked"), "GET /api/v1/audit?from=2&limit=2");
}

#[tokio::test]
async fn problems_of_a_reload_are_told_one_by_one() {
    let problems = json!({"reloaded": false, "problems": [
        {"severity": "error", "source": "config.toml", "line": 3, "key": "log.format", "message": "must be text", "hint": null}]});
    let api = Api::new([(422, problems)]).await;
    let added = api.run(&["agent", "add", "new"]).await;
    assert_eq!(added.code, Some(1));
    assert!(
        added.stderr.contains("\nconfig.toml:3: log.format: must be text\n"),
        "{}",
        added.stderr
    );
}

#[tokio::test]
async fn check_needs_no_daemon_and_tells_every_mistake() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = async |arguments: &[&str]| {
        let mut command = backstop();
        command.args(arguments);
        run_cli(command, dir.path()).await
    };
    assert_eq!(run(&["check"]).await.code, Some(0), "the built-in config is sound");
    std::fs::write(
        dir.path().join("config.toml"),
        "[server]\nagent_listen = 5\n[ledger]\nhold_wiat = \"5s\"\n",
    )
    .expect("a file");
    let check = run(&["check"]).await;
    assert_eq!(check.code, Some(1));
    assert_eq!(
        check.stdout,
        "config.toml:2: server.agent_listen: must be text, not a whole number (hint: put it in quotes)\n\
         config.toml:4: ledger.hold_wiat: unknown key (hint: did you mean hold_wait?)\n"
    );
    assert_eq!(check.stderr, "config.toml has 2 errors and 0 warnings\n");
    let json: Value = serde_json::from_str(&run(&["check", "--json"]).await.stdout).expect("JSON");
    assert_eq!(
        (&json["ok"], &json["errors"], &json["problems"][1]["line"]),
        (&json!(false), &json!(2), &json!(4))
    );
    assert_eq!(run(&["serve"]).await.code, Some(1), "a daemon does not start on it");
    assert_eq!(run(&["chekc"]).await.code, Some(2));
    assert_eq!(run(&["--help"]).await.code, Some(0));
}
