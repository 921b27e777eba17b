//! A child process that a test holds: its own group, its output in files, gone when the handle is.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::wait::{self, Deadline};

/// How much of a process's output a failure quotes.
const QUOTED: usize = 8 * 1024;

/// A started process. Dropping it kills the whole group and reaps it, so a failing test leaves nothing.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` in a group of its own; stdout and stderr go to `<dir>/<what>.out` and `.err`, a
    /// second start of the same name appends.
    ///
    /// Its standard input is a pipe that we hold and never write: a child that watches it learns of
    /// our death even when we are killed and no destructor runs.
    pub fn start(what: &str, mut command: Command, dir: &Path) -> io::Result<Self> {
        let stdout = dir.join(format!("{what}.out"));
        let stderr = dir.join(format!("{what}.err"));
        let open = |path: &Path| File::options().create(true).append(true).open(path);
        let child = command
            .stdin(Stdio::piped())
            .stdout(open(&stdout)?)
            .stderr(open(&stderr)?)
            .process_group(0)
            .spawn()?;
        Ok(Self {
            what: what.to_owned(),
            child,
            ended: None,
            stdout,
            stderr,
        })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The exit status if it has ended, without waiting.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child can be waited for");
        }
        self.ended
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        match wait::try_until(limit, async || self.ended()).await {
            Some(status) => status,
            None => panic!(
                "{} did not end within {} s\n{}",
                self.what,
                limit.as_secs(),
                self.output()
            ),
        }
    }

    /// Sends a signal to the process alone, as an operator or systemd would.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(self.pid(), signal).expect("our own child can be signalled");
        }
    }

    /// Sends a signal to the process and all that it started.
    pub fn signal_group(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process_group(self.pid(), signal).expect("our own group can be signalled");
        }
    }

    /// `kill -9` of the whole group, and reaps it.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // The group outlives nothing we need; an error means that it has just gone.
            let _ = kill_process_group(self.pid(), Signal::KILL);
            self.ended = self.child.wait().ok();
        }
    }

    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// The ends of both outputs, for a failure's message.
    pub fn output(&self) -> String {
        let (out, err) = (self.stdout(), self.stderr());
        format!(
            "--- stdout of {0}\n{1}\n--- stderr of {0}\n{2}",
            self.what,
            tail(&out),
            tail(&err)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(QUOTED);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Runs a command to its end and captures its output; kills it and says so when the limit passes.
pub fn run(what: &str, command: Command, dir: &Path, limit: Duration) -> Result<Output, String> {
    let mut process = Process::start(what, command, dir).map_err(|error| format!("{what} cannot start: {error}"))?;
    // What reads its standard input shall see that there is nothing.
    drop(process.child.stdin.take());
    match wait::try_until_blocking(Deadline::after(limit), || process.ended()) {
        Some(status) => Ok(Output {
            status,
            stdout: fs::read(&process.stdout).unwrap_or_default(),
            stderr: fs::read(&process.stderr).unwrap_or_default(),
        }),
        None => Err(format!(
            "{what} did not end within {} s\n{}",
            limit.as_secs(),
            process.output()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_dropped_process_takes_its_group_along() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut process = Process::start("parent", shell("tail -f /dev/null & echo $!; wait"), dir.path()).expect("sh");
        let grandchild = wait::until("the grandchild's id", Duration::from_secs(30), async || {
            process.stdout().trim().parse::<i32>().ok()
        })
        .await;
        let grandchild = Pid::from_raw(grandchild).expect("a process id");
        assert_eq!(process.ended(), None);
        drop(process);
        wait::until("the grandchild to go", Duration::from_secs(30), async || {
            // A killed orphan may stay a zombie until its new parent reaps it.
            let status = fs::read_to_string(format!("/proc/{}/stat", grandchild.as_raw_nonzero())).unwrap_or_default();
            (status.is_empty() || status.contains(") Z ")).then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_signal_reaches_the_process_and_its_end_is_seen() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let script = "trap 'echo ended; exit 7' TERM; echo ready; while read line; do :; done";
        let mut process = Process::start("trap", shell(script), dir.path()).expect("sh");
        wait::until("the trap", Duration::from_secs(30), async || {
            process.stdout().contains("ready").then_some(())
        })
        .await;
        process.signal(Signal::TERM);
        drop(process.child.stdin.take());
        assert_eq!(process.wait(Duration::from_secs(30)).await.code(), Some(7));
        assert!(process.output().contains("ended"));
    }

    #[test]
    fn a_run_has_an_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let done = run(
            "cat",
            shell("cat; echo talk >&2; exit 3"),
            dir.path(),
            Duration::from_secs(30),
        )
        .expect("ends");
        assert_eq!(
            (done.status.code(), done.stderr.as_slice()),
            (Some(3), b"talk\n".as_slice())
        );
        let error = run(
            "forever",
            shell("echo started; exec tail -f /dev/null"),
            dir.path(),
            Duration::from_secs(1),
        )
        .expect_err("it never ends");
        assert!(error.contains("forever did not end"), "{error}");
        let missing = run("none", Command::new("no-such-program"), dir.path(), Duration::ZERO).expect_err("missing");
        assert!(missing.contains("cannot start"), "{missing}");
    }
}
