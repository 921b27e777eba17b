//! A directory with a config of its own, the real daemon in it, and the command line beside it.
//!
//! Everything that a person would do with an installation: write `config.toml`, run commands in its
//! directory, send requests with an agent's key. Ports are chosen by the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::daemon::{Answer, BINARY, Daemon, backstop, run_cli};
use super::{strace, wait};

/// For what takes the daemon a moment, on a machine that is building at the same time.
pub const SOON: Duration = Duration::from_secs(120);

/// Every site: no fixed port, and no opinion on how full this machine's disk is.
const SERVER: &str = "\
[server]
agent_listen = \"127.0.0.1:0\"
admin_listen = \"127.0.0.1:0\"
";

#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    env: Vec<(String, String)>,
    http: reqwest::Client,
}

impl Site {
    /// A directory with this config below the `[server]` table, so that it may begin with further keys of
    /// that table.
    pub fn new(config: &str) -> Self {
        let site = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            env: Vec::new(),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(60))
                .no_proxy()
                .build()
                .expect("a client without settings can be built"),
        };
        fs::create_dir(site.state_dir()).expect("an empty directory takes one");
        site.configure(config);
        site
    }

    /// What the daemon and the commands find in their environment.
    pub fn with_env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env.extend(env);
        self
    }

    /// Writes the config anew; the daemon does not look at it before it is told to.
    pub fn configure(&self, config: &str) {
        fs::write(self.path("config.toml"), format!("{SERVER}{config}")).expect("the directory is ours");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the directory is ours");
    }

    fn in_place(&self, mut command: Command) -> Command {
        command.current_dir(self.dir.path()).envs(self.env.iter().cloned());
        command
    }

    /// Starts the daemon on what is there, and waits until it listens.
    pub async fn start(&self) -> Daemon {
        let mut command = self.in_place(backstop());
        command.arg("serve");
        Daemon::start(command, &self.state_dir()).await
    }

    /// The same, with what it writes and syncs and sends in a file that [`strace::read`] reads.
    pub async fn start_traced(&self, log: &Path, bytes: usize) -> Daemon {
        let mut command = self.in_place(backstop());
        command.arg("serve");
        Daemon::start(strace::traced(&command, log, bytes), &self.state_dir()).await
    }

    /// The same, by a program that is given the daemon's command as its further arguments.
    pub async fn start_under(&self, mut runner: Command) -> Daemon {
        for (name, value) in backstop().get_envs() {
            match value {
                Some(value) => runner.env(name, value),
                None => runner.env_remove(name),
            };
        }
        runner.args([BINARY, "serve"]);
        Daemon::start(self.in_place(runner), &self.state_dir()).await
    }

    /// Runs a command.
    pub async fn cli(&self, arguments: &[&str]) -> Answer {
        let mut command = self.in_place(backstop());
        command.args(arguments);
        run_cli(command, self.dir.path()).await
    }

    /// Runs a command with this file of the directory as its standard input.
    pub async fn cli_reading(&self, file: &str, arguments: &[&str]) -> Answer {
        let mut command = self.in_place(backstop());
        // The shell opens the file; what `backstop()` took away from the environment stays away.
        let mut shell = Command::new("sh");
        for (name, value) in command.args(arguments).get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.args(["-c", "file=$1; shift; exec \"$0\" \"$@\" <\"$file\"", BINARY, file]);
        shell.args(arguments);
        run_cli(shell, self.dir.path()).await
    }

    /// Runs a command that must work, and returns its standard output.
    ///
    /// # Panics
    /// With both outputs, when it ends with another status than 0.
    pub async fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.cli(arguments).await;
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:#?}");
        answer.stdout
    }

    /// The same with `--json`, read.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.ok(&all).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
    }

    /// Runs a command that must be refused, and returns what it says.
    pub async fn refused(&self, arguments: &[&str]) -> Answer {
        let answer = self.cli(arguments).await;
        assert_eq!(answer.code, Some(1), "{arguments:?}: {answer:#?}");
        answer
    }

    /// A new key of an agent.
    pub async fn key(&self, agent: &str) -> String {
        let key = self.ok(&["agent", "key", agent]).await;
        key.trim().to_owned()
    }

    /// A request to the agents' side; its status and its body, which must be JSON.
    pub async fn post(&self, daemon: &Daemon, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(daemon.agent_url(path)).bearer_auth(key).json(body);
        let answer = request.send().await;
        let answer = answer.unwrap_or_else(|error| panic!("POST {path}: {error}\n{}", daemon.log()));
        let status = answer.status().as_u16();
        let body = answer
            .json()
            .await
            .unwrap_or_else(|error| panic!("POST {path}: {error}"));
        (status, body)
    }

    /// The same for GET.
    pub async fn get(&self, daemon: &Daemon, key: &str, path: &str) -> (u16, Value) {
        let answer = self.http.get(daemon.agent_url(path)).bearer_auth(key).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", daemon.log()));
        let status = answer.status().as_u16();
        let body = answer
            .json()
            .await
            .unwrap_or_else(|error| panic!("GET {path}: {error}"));
        (status, body)
    }

    /// What a collector of metrics gets.
    pub async fn metrics(&self, daemon: &Daemon) -> String {
        let answer = self.http.get(daemon.admin_url("/metrics")).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("GET /metrics: {error}\n{}", daemon.log()));
        answer
            .text()
            .await
            .unwrap_or_else(|error| panic!("GET /metrics: {error}"))
    }

    /// Waits until the agent is in this state, and returns everything about it.
    pub async fn until_status(&self, daemon: &Daemon, agent: &str, status: &str) -> Value {
        self.until_agent(daemon, agent, &format!("{agent} to be {status}"), |shown| {
            shown["status"] == status
        })
        .await
    }

    /// Waits until what is shown of the agent is as `wanted` says.
    pub async fn until_agent(
        &self,
        daemon: &Daemon,
        agent: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let found = wait::try_until(SOON, async || {
            last = self.json(&["status", agent]).await;
            wanted(&last).then(|| last.clone())
        })
        .await;
        found.unwrap_or_else(|| panic!("waited for {what}, and there is {last:#}\n{}", daemon.log()))
    }

    /// Actions of the audit log with their reasons, in their order.
    pub async fn audit(&self) -> Vec<(String, String)> {
        let log = self.json(&["audit", "list", "--limit", "1000"]).await;
        let entries = log["entries"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        entries
            .iter()
            .map(|one| (text(&one["entry"]["action"]), text(&one["entry"]["reason"])))
            .collect()
    }
}
