//! System calls as evidence: what the daemon wrote, synced and sent, and in which order (L5).
//!
//! `kill -9` proves little about durability, since unsynced data survives it. That a sync comes before
//! the answer is visible where it happens: between the process and the kernel.
//!
//! With `-f` the calls of several threads interleave, and one that blocks is written twice: when it
//! begins (`<unfinished ...>`) and when it ends (`<... resumed>`). An order of events is therefore
//! read from both ends: a sync counts from its *end*, a send from its *beginning*.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Wraps `command` so that its calls are written to `log`. The arguments and the environment move over.
///
/// Strings are cut at `bytes` bytes: enough to recognise an answer, not its whole body.
pub fn traced(command: &Command, log: &Path, bytes: usize) -> Command {
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-qq", "-y", "-ttt", "-e", "signal=none", "-s"])
        .arg(bytes.to_string())
        .args(["-e", "trace=fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg", "-o"])
        .arg(log)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        traced.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// Whether calls can be traced here at all, and if not, why.
pub fn available() -> Result<(), String> {
    let output = Command::new("strace")
        .args(["-f", "-e", "trace=none", "-o", "/dev/null", "true"])
        .output();
    match output {
        Err(error) => Err(format!(
            "strace cannot start ({error}); on Debian: apt-get install strace"
        )),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "strace may not trace here (in a container: --cap-add=SYS_PTRACE): {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// One system call, placed at the two lines of the log where it began and ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub thread: i32,
    pub name: String,
    /// The path or socket behind the first argument, as `-y` prints it.
    pub target: String,
    /// The arguments as written, buffers cut and escaped.
    pub arguments: String,
    /// What it returned; `None` when it had not returned by the end of the log.
    pub result: Option<i64>,
    /// The line where it began, and the line where it ended.
    pub began: usize,
    pub ended: Option<usize>,
}

impl Call {
    pub fn is_sync(&self) -> bool {
        self.name == "fsync" || self.name == "fdatasync"
    }

    /// Whether it sends to a socket rather than to a file or a pipe.
    pub fn is_to_socket(&self) -> bool {
        self.target.starts_with("socket:") || self.target.starts_with("TCP") || self.target.starts_with("UNIX")
    }

    /// The file name of the target without its directories.
    pub fn file_name(&self) -> &str {
        Path::new(&self.target)
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or_default()
    }
}

/// Reads a log. A line that is not a call (an exit, a signal) is skipped.
pub fn read(log: &Path) -> Vec<Call> {
    let bytes = fs::read(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    parse(&String::from_utf8_lossy(&bytes))
}

/// Reads the lines of `strace -f -y -ttt`.
pub fn parse(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for (at, line) in log.lines().enumerate() {
        // `<pid> <seconds.micros> <rest>`; strace pads a short pid with more than one space.
        let Some((thread, rest)) = line.trim_start().split_once(' ') else {
            continue;
        };
        let Ok(thread) = thread.parse::<i32>() else { continue };
        let Some((_, rest)) = rest.trim_start().split_once(' ') else {
            continue;
        };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            resume(&mut calls, thread, resumed, at);
        } else if let Some(call) = begin(thread, rest, at) {
            calls.push(call);
        }
    }
    calls
}

fn begin(thread: i32, rest: &str, at: usize) -> Option<Call> {
    let (name, rest) = rest.split_once('(')?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let (arguments, result, ended) = match rest.strip_suffix(" <unfinished ...>") {
        Some(arguments) => (arguments, None, None),
        None => {
            let (arguments, result) = split_result(rest)?;
            (arguments, Some(result), Some(at))
        }
    };
    Some(Call {
        thread,
        name: name.to_owned(),
        target: target(arguments).to_owned(),
        arguments: arguments.to_owned(),
        result,
        began: at,
        ended,
    })
}

/// `fsync resumed>) = 0` completes the last open call of that name in that thread.
fn resume(calls: &mut [Call], thread: i32, resumed: &str, at: usize) {
    let Some((name, rest)) = resumed.split_once(" resumed>") else {
        return;
    };
    let open = calls
        .iter_mut()
        .rev()
        .find(|call| call.thread == thread && call.name == name && call.ended.is_none());
    if let (Some(call), Some((arguments, result))) = (open, split_result(rest)) {
        call.arguments.push_str(arguments);
        call.result = Some(result);
        call.ended = Some(at);
    }
}

/// Splits `3</x>, "..."..., 5) = 5` at the last `)`, since a buffer may contain one.
fn split_result(rest: &str) -> Option<(&str, i64)> {
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    // `-1 EAGAIN (...)` and `0 <0.000021>` carry more than the number.
    let number = result.split_whitespace().next()?;
    Some((arguments, number.parse().ok()?))
}

/// `7</data/backstop.db-wal>, ...` names the file; `9<TCP:[127.0.0.1:1->127.0.0.1:2]>` has an arrow in it.
fn target(arguments: &str) -> &str {
    let Some((number, rest)) = arguments.split_once('<') else {
        return "";
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return "";
    }
    // The first argument ends at a comma, or with the arguments.
    let end = rest.find(">, ").or_else(|| rest.ends_with('>').then(|| rest.len() - 1));
    &rest[..end.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::process;
    use super::*;

    const SYNTHETIC: &str = r#"4242  1763620000.000001 pwrite64(7</data/backstop.db-wal>, "7\177\6\202 = )"..., 4120, 32) = 4120
4243  1763620000.000002 fdatasync(7</data/backstop.db-wal> <unfinished ...>
4242  1763620000.000003 sendto(9<TCP:[127.0.0.1:8700->127.0.0.1:5]>, "HTTP/1.1 429", 12, MSG_NOSIGNAL, NULL, 0) = 12
4243  1763620000.000004 <... fdatasync resumed>) = 0
4242  1763620000.000005 writev(9<TCP:[127.0.0.1:8700->127.0.0.1:5]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=17}, {iov_base="{}", iov_len=2}], 2 <unfinished ...>
4243  1763620000.000006 write(2<pipe:[77]>, "log\n", 4) = -1 EAGAIN (Resource temporarily unavailable)
4242  1763620000.000007 <... writev resumed>) = 19
4243  1763620000.000008 +++ exited with 0 +++
4244  1763620000.000009 fsync(11</data> <unfinished ...>
"#;

    #[test]
    fn the_log_of_two_threads_is_put_together() {
        let calls = parse(SYNTHETIC);
        let seen: Vec<_> = calls
            .iter()
            .map(|call| (call.name.as_str(), call.began, call.ended, call.result))
            .collect();
        assert_eq!(
            seen,
            [
                ("pwrite64", 0, Some(0), Some(4120)),
                ("fdatasync", 1, Some(3), Some(0)),
                ("sendto", 2, Some(2), Some(12)),
                ("writev", 4, Some(6), Some(19)),
                ("write", 5, Some(5), Some(-1)),
                ("fsync", 8, None, None),
            ]
        );
        assert_eq!(calls[1].file_name(), "backstop.db-wal");
        assert_eq!(calls[1].thread, 4243);
        assert!(calls[1].is_sync() && calls[5].is_sync() && !calls[0].is_sync());
        assert_eq!(calls[3].target, "TCP:[127.0.0.1:8700->127.0.0.1:5]");
        assert!(calls[3].is_to_socket() && !calls[4].is_to_socket());
        assert!(calls[3].arguments.contains("HTTP/1.1 200 OK"));
        // The question of L5: did a sync that began after the write end before the answer began?
        let answered = &calls[3];
        let synced = calls
            .iter()
            .any(|call| call.is_sync() && call.ended.is_some_and(|end| end < answered.began));
        assert!(synced);
        let refused = &calls[2];
        assert!(
            !calls
                .iter()
                .any(|call| call.is_sync() && call.ended.is_some_and(|end| end < refused.began))
        );
    }

    #[test]
    fn a_real_trace_is_read() {
        if let Err(why) = available() {
            panic!("{why}");
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("trace");
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo "$GREETING" >kept; sync -d kept; echo answered"#])
            .env("GREETING", "one")
            .current_dir(dir.path());
        let output = process::run(
            "traced",
            traced(&command, &log, 64),
            dir.path(),
            Duration::from_secs(60),
        );
        let output = output.expect("it ends");
        assert_eq!(output.stdout, b"answered\n", "{output:?}");
        let calls = read(&log);
        let position = |found: &dyn Fn(&Call) -> bool| calls.iter().position(found).expect("the call was traced");
        let wrote = position(&|call| call.name == "write" && call.file_name() == "kept");
        let synced = position(&|call| call.is_sync() && call.file_name() == "kept" && call.result == Some(0));
        let answered = position(&|call| call.arguments.contains("answered"));
        assert!(wrote < synced && synced < answered, "{calls:#?}");
        assert!(calls[wrote].arguments.contains(r"one\n"), "{:?}", calls[wrote]);
    }
}
