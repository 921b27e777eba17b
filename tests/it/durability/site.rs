//! A place where daemons live and die: one directory with a configuration and a ledger, whoever runs
//! there, and the clients that talk to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backstop::domain::agent::{AgentState, AgentStatus};
use backstop::domain::id::{AgentId, ReportId};
use backstop::domain::ledger::auditor;
use backstop::domain::ledger::hold::{Hold, HoldState};
use backstop::domain::ledger::posting::{Posting, PostingKind};
use backstop::ports::{AuditView, Clock as _, Store as _, Trigger};
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use backstop::system::SystemClock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::daemon::{Daemon, backstop};

/// The one agent of these tests.
pub const AGENT: &str = "worker";

const TOKEN: &str = "token-for-the-tests-of-durability";

/// A directory with `config.toml`, a token and a ledger.
pub struct Site {
    dir: TempDir,
    database: PathBuf,
}

impl Site {
    /// `storage` and `budgets` are what the configuration says besides the listeners and the agent.
    pub fn new(storage: &str, budgets: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let database = dir.path().join("ledger/backstop.db");
        Self::in_dir(dir, database, storage, budgets)
    }

    /// Another daemon's place, on the ledger of this one.
    pub fn beside(&self, storage: &str, budgets: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::in_dir(dir, self.database.clone(), storage, budgets)
    }

    /// With the ledger where the test wants it.
    pub fn with_ledger(database: PathBuf, storage: &str, budgets: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::in_dir(dir, database, storage, budgets)
    }

    fn in_dir(dir: TempDir, database: PathBuf, storage: &str, budgets: &str) -> Self {
        let config = format!(
            r#"
[server]
agent_listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
state_dir = "state"
[storage]
url = "sqlite:{}"
{storage}
[admin]
token_file = "token"
[[agent]]
id = "{AGENT}"
{budgets}
"#,
            database.display()
        );
        fs::create_dir(dir.path().join("state")).expect("a directory");
        fs::write(dir.path().join("config.toml"), config).expect("a file");
        fs::write(dir.path().join("token"), TOKEN).expect("a file");
        Self { dir, database }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// `backstop serve`, as an operator would start it here.
    pub fn command(&self) -> Command {
        let mut command = backstop();
        command
            .args(["serve", "--config"])
            .arg(self.dir.path().join("config.toml"))
            .current_dir(self.dir.path());
        command
    }

    pub async fn start(&self) -> Daemon {
        self.start_as(self.command()).await
    }

    pub async fn start_as(&self, command: Command) -> Daemon {
        Daemon::start(command, &self.state()).await
    }

    /// What the file holds, once nobody writes it any more.
    pub async fn books(&self) -> Books {
        let store = self.open().await;
        let agent = AgentId::new(AGENT).expect("a name");
        let books = Books {
            view: store.audit_view().await.expect("the ledger reads"),
            agent: store.agent(&agent).await.expect("the ledger reads"),
            triggers: store.pending_triggers(1_000).await.expect("the ledger reads"),
            containments: store.live_containments().await.expect("the ledger reads").len(),
        };
        store.close().await.expect("the ledger closes");
        books
    }

    pub async fn open(&self) -> SqliteStore {
        let options = SqliteOptions {
            reserve_bytes: 0,
            ..SqliteOptions::new(&self.database)
        };
        SqliteStore::open(options).await.expect("the ledger opens")
    }
}

/// Everything that the ledger holds.
pub struct Books {
    pub view: AuditView,
    pub agent: AgentState,
    pub triggers: Vec<Trigger>,
    pub containments: usize,
}

impl Books {
    /// L1, L2, L3 and L6 by the auditor, and no hold left open.
    pub fn assert_sound(&self) {
        let findings = auditor::audit(&self.view.parts(SystemClock.now()));
        assert!(findings.is_empty(), "{findings:#?}");
    }

    /// Nobody was paused or contained, and nothing waits that would.
    pub fn assert_nobody_is_stopped(&self) {
        assert_eq!(self.agent.status, AgentStatus::Active, "{}", self.agent.reason);
        assert!(self.triggers.is_empty(), "{:#?}", self.triggers);
        assert_eq!(self.containments, 0);
        let breached: Vec<_> = self.view.lines.iter().filter(|line| line.breached.is_some()).collect();
        assert!(breached.is_empty(), "{breached:#?}");
    }

    pub fn of_report(&self, id: &str) -> Vec<&Posting> {
        let id = ReportId::new(id).expect("an id");
        let found = self.view.postings.iter();
        found.filter(|posting| posting.report.as_ref() == Some(&id)).collect()
    }

    pub fn hold(&self, id: &str) -> Option<&Hold> {
        self.view.holds.iter().find(|hold| hold.id.to_string() == id)
    }

    pub fn postings_of(&self, hold: &Hold) -> Vec<&Posting> {
        let found = self.view.postings.iter();
        found.filter(|posting| posting.hold == Some(hold.id)).collect()
    }

    /// The hold is unresolved, and one posting says so at its whole bound.
    pub fn assert_unresolved_at_its_bound(&self, hold: &Hold) {
        assert_eq!(hold.state, HoldState::Unresolved, "{hold:#?}");
        let postings = self.postings_of(hold);
        assert_eq!(postings.len(), 1, "{hold:#?} {postings:#?}");
        assert_eq!(
            (postings[0].kind, postings[0].amount),
            (PostingKind::Unresolved, hold.bound)
        );
    }
}

/// An answer, or `None` when the daemon went away before it came.
pub type Answer = Option<(u16, Value)>;

/// Talks to one daemon, as its agent and as its operator.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    agent: String,
    admin: String,
    key: String,
}

impl Client {
    /// A client with a key of its own.
    pub async fn new(daemon: &Daemon) -> Self {
        let mut client = Self::with_key(daemon, String::new());
        let (status, body) = client
            .admin_post(&format!("/api/v1/agents/{AGENT}/keys"), &json!({}))
            .await
            .expect("the daemon answers");
        assert!((200..300).contains(&status), "{status} {body}");
        client.key = body["key"].as_str().expect("a key").to_owned();
        client
    }

    /// The same agent, at a daemon that was started later.
    pub fn at(&self, daemon: &Daemon) -> Self {
        Self::with_key(daemon, self.key.clone())
    }

    fn with_key(daemon: &Daemon, key: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .expect("a client without settings can be built");
        Self {
            http,
            agent: daemon.agent_url(""),
            admin: daemon.admin_url(""),
            key,
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}{path}", self.agent)).bearer_auth(&self.key);
        answer(request.json(body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(format!("{}{path}", self.agent)).bearer_auth(&self.key)).await
    }

    pub async fn admin_post(&self, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}{path}", self.admin)).bearer_auth(TOKEN);
        answer(request.json(body)).await
    }

    pub async fn admin_get(&self, path: &str) -> Answer {
        answer(self.http.get(format!("{}{path}", self.admin)).bearer_auth(TOKEN)).await
    }

    /// Places a hold without waiting for room.
    pub async fn hold(&self, bound_usd: &str) -> Answer {
        self.post("/v1/holds", &json!({ "bound_usd": bound_usd, "wait_s": 0 }))
            .await
    }

    /// The state of a hold, as its agent sees it.
    pub async fn hold_state(&self, id: &str) -> Option<String> {
        let (status, body) = self.get(&format!("/v1/holds/{id}")).await?;
        (status == 200).then(|| body["state"].as_str().unwrap_or_default().to_owned())
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.ok()?))
}

/// The id in an answer to a hold that was admitted.
pub fn hold_id(body: &Value) -> String {
    body["hold_id"].as_str().expect("an admitted hold has an id").to_owned()
}

/// A report of an amount.
pub fn report(id: &str, amount_usd: &str) -> Value {
    json!({ "id": id, "amount_usd": amount_usd, "service": "openai", "model": "gpt-5-mini", "task": "run-1" })
}
