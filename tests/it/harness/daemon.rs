//! The daemon under test: the real binary, in a directory of its own, found by what it announces.
//!
//! Listeners are configured with port 0. When all of them listen, the daemon writes
//! `<state_dir>/backstop.addresses.json`; a test that waited for that file can connect at once. A
//! restart in the same directory must not find the old file, so the harness removes it first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use super::process::{self, Process};
use super::wait;

/// The binary that cargo has built for this test run.
pub const BINARY: &str = env!("CARGO_BIN_EXE_backstop");

/// The file in the state directory that says where the daemon listens.
pub const ADDRESSES: &str = "backstop.addresses.json";

/// How long a daemon may take to listen, on a machine that is building at the same time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to drain and end.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How long one command of the command line may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where a daemon listens, as it announces it. A listener that is not configured is absent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Addresses {
    pub agent: Option<String>,
    pub admin: Option<String>,
    pub admin_socket: Option<PathBuf>,
}

/// A running daemon; dropping it kills it as `kill -9` would.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    addresses: Addresses,
}

impl Daemon {
    /// Starts `command` and waits until it has announced its addresses in `state_dir`. Its output goes
    /// to `daemon.out` and `daemon.err` there.
    ///
    /// # Panics
    /// With the daemon's output, when it ends or says nothing.
    pub async fn start(command: Command, state_dir: &Path) -> Self {
        let file = state_dir.join(ADDRESSES);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", file.display()),
            _ => {}
        }
        let mut process = Process::start("daemon", command, state_dir).expect("the daemon's program can be started");
        let addresses = wait::try_until(START_LIMIT, async || {
            if let Some(status) = process.ended() {
                panic!(
                    "the daemon ended with {status} before it listened\n{}",
                    process.output()
                );
            }
            serde_json::from_slice(&fs::read(&file).ok()?).ok()
        })
        .await;
        match addresses {
            Some(addresses) => Self { process, addresses },
            None => panic!("the daemon announced no addresses\n{}", process.output()),
        }
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// A URL of the agents' side; `path` begins with a slash.
    pub fn agent_url(&self, path: &str) -> String {
        let address = self
            .addresses
            .agent
            .as_ref()
            .expect("the agents' listener is configured");
        format!("http://{address}{path}")
    }

    /// A URL of the operators' side; `path` begins with a slash.
    pub fn admin_url(&self, path: &str) -> String {
        let address = self.addresses.admin.as_ref().expect("the admin listener is configured");
        format!("http://{address}{path}")
    }

    /// `kill -9`, as power loss would end it: no destructor, no drain.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// SIGHUP: the daemon reads its configuration again.
    pub fn reload(&mut self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGTERM, and waits for the drained end.
    pub async fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(STOP_LIMIT).await
    }

    /// SIGTERM to the whole group: a tracer in front of the daemon does not pass signals on.
    pub async fn stop_group(mut self) -> ExitStatus {
        self.process.signal_group(Signal::TERM);
        self.process.wait(STOP_LIMIT).await
    }

    /// SIGTERM without waiting, for what happens while it drains.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for the end of a daemon that was told to stop.
    pub async fn ended(mut self) -> ExitStatus {
        self.process.wait(STOP_LIMIT).await
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// A command for the real binary without anything from the caller's environment that would steer it.
pub fn backstop() -> Command {
    let mut command = Command::new(BINARY);
    #[expect(
        clippy::disallowed_methods,
        reason = "what is found here is taken away from the child"
    )]
    let inherited: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    for name in inherited {
        if name.starts_with("AWS_") || name.starts_with("BACKSTOP") || name == "RUST_LOG" || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command
}

/// What a command of the command line answered.
#[derive(Debug)]
pub struct Answer {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// Runs a command of the command line to its end, `dir` being its working directory.
pub async fn run_cli(mut command: Command, dir: &Path) -> Answer {
    let dir = dir.to_owned();
    command.current_dir(&dir);
    let run = move || {
        let output_dir = tempfile::tempdir_in(&dir).map_err(|error| error.to_string())?;
        process::run("cli", command, output_dir.path(), COMMAND_LIMIT)
    };
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("running a command does not panic");
    match output {
        Ok(output) => Answer {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        },
        Err(why) => panic!("{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in that keeps the daemon's contract with this harness and nothing else.
    const STAND_IN: &str = r#"
        trap 'echo drained >&2; exit 0' TERM
        trap 'echo reloaded >&2' HUP
        echo '{"agent":"127.0.0.1:9","admin":"127.0.0.1:10","admin_socket":null}' >"$1/new"
        mv "$1/new" "$1/backstop.addresses.json"
        while :; do sleep 0.05; done
    "#;

    fn stand_in(script: &str, state_dir: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "daemon"]).arg(state_dir);
        command
    }

    #[tokio::test]
    async fn a_daemon_is_found_reloaded_stopped_and_killed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut daemon = Daemon::start(stand_in(STAND_IN, dir.path()), dir.path()).await;
        assert_eq!(daemon.addresses().admin_socket, None);
        assert_eq!(daemon.agent_url("/v1/usage"), "http://127.0.0.1:9/v1/usage");
        assert_eq!(daemon.admin_url("/healthz"), "http://127.0.0.1:10/healthz");
        daemon.reload();
        wait::until("the reload", Duration::from_secs(30), async || {
            daemon.log().contains("reloaded").then_some(())
        })
        .await;
        assert!(daemon.stop().await.success());

        // The second run must announce itself anew, and dies without draining.
        let daemon = Daemon::start(stand_in(STAND_IN, dir.path()), dir.path()).await;
        let pid = daemon.process().pid();
        daemon.kill();
        assert!(rustix::process::test_kill_process(pid).is_err());
        let log = fs::read_to_string(dir.path().join("daemon.err")).expect("a log");
        assert_eq!(log.matches("drained").count(), 1, "{log}");
    }

    #[tokio::test]
    #[should_panic(expected = "no such budget")]
    async fn a_daemon_that_ends_before_it_listens_is_quoted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Daemon::start(stand_in("echo no such budget >&2; exit 1", dir.path()), dir.path()).await;
    }

    #[tokio::test]
    async fn the_command_line_answers_with_streams_and_a_code() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let answer = run_cli(stand_in("pwd; echo talk >&2; exit 2", dir.path()), dir.path()).await;
        let expected = fs::canonicalize(dir.path()).expect("it exists");
        assert_eq!(Path::new(answer.stdout.trim()), expected);
        assert_eq!((answer.stderr.as_str(), answer.code), ("talk\n", Some(2)));
    }

    #[test]
    fn the_binary_is_started_without_the_callers_settings() {
        let command = backstop();
        assert_eq!(command.get_program(), BINARY);
        assert!(command.get_envs().all(|(_, value)| value.is_none()));
    }
}
