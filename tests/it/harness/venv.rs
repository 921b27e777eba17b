//! The Python environments of the tests, the emulator's and that of the providers' SDKs, each made once
//! under `target/`.
//!
//! An environment's directory carries the hash of the pinned requirements, so that a changed pin makes a new one and
//! an old branch keeps its own. Tests run in parallel, as threads and as processes: a file lock lets one
//! build while the others wait. A stamp, written last, says that the build was finished.
//!
//! A `target/` may have been copied from elsewhere, so nothing is started through a script whose first
//! line names a path, only through the environment's interpreter, and that one is tried before it is
//! trusted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::process;
use super::wait::{self, Deadline};

/// What one environment holds.
struct Wanted<'a> {
    name: &'a str,
    /// The file that pins it, for whoever has to mend it.
    file: &'a str,
    requirements: &'a str,
    /// Modules that are there when it is complete.
    modules: &'a [&'a str],
}

const EMULATOR: Wanted<'static> = Wanted {
    name: "emulator",
    file: "tests/it/requirements.txt",
    requirements: include_str!("../requirements.txt"),
    modules: &["moto", "cfnlint"],
};

const SDKS: Wanted<'static> = Wanted {
    name: "sdks",
    file: "tests/it/gateway/sdk/requirements.txt",
    requirements: include_str!("../gateway/sdk/requirements.txt"),
    modules: &["openai", "anthropic"],
};

/// How long the slowest machine may take to download and unpack; also how long another test waits.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// How long an interpreter may take to say its version.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// The interpreter of the emulator's environment, which is built first if it is not there.
///
/// # Panics
/// With what the machine lacks, when the environment cannot be built.
pub async fn python() -> PathBuf {
    built(&EMULATOR).await
}

/// The interpreter that has the providers' SDKs.
///
/// # Panics
/// Like [`python`].
pub async fn sdks() -> PathBuf {
    built(&SDKS).await
}

async fn built(wanted: &'static Wanted<'static>) -> PathBuf {
    let built = tokio::task::spawn_blocking(|| prepare(Path::new(env!("CARGO_TARGET_TMPDIR")), wanted)).await;
    match built.expect("the preparation does not panic") {
        Ok(python) => python,
        Err(why) => panic!("the Python environment {:?} cannot be set up\n{why}", wanted.name),
    }
}

/// Builds the environment below `base`, or finds it built.
fn prepare(base: &Path, wanted: &Wanted<'_>) -> Result<PathBuf, String> {
    let hash = hex::encode(Sha256::digest(wanted.requirements));
    let home = base.join(format!("{}-{}", wanted.name, &hash[..16]));
    let python = home.join("bin").join("python");
    let stamp = home.join("complete");

    fs::create_dir_all(base).map_err(|error| format!("cannot create {}: {error}", base.display()))?;
    let lock = lock(&base.join(format!("{}-{}.lock", wanted.name, &hash[..16])))?;
    let is_complete = fs::read_to_string(&stamp).is_ok_and(|written| written.trim() == hash);
    if !(is_complete && works(&python, base, wanted.modules)) {
        if home.exists() {
            fs::remove_dir_all(&home).map_err(|error| format!("cannot remove {}: {error}", home.display()))?;
        }
        build(&home, &python, wanted, base)?;
        fs::write(&stamp, &hash).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    }
    drop(lock);
    Ok(python)
}

/// Takes the lock that one builder holds; closing the file releases it, in a crash too.
fn lock(path: &Path) -> Result<File, String> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    match wait::try_until_blocking(Deadline::after(BUILD_LIMIT), || file.try_lock().ok()) {
        Some(()) => Ok(file),
        None => Err(format!("another test has held {} for too long", path.display())),
    }
}

fn build(home: &Path, python: &Path, wanted: &Wanted<'_>, base: &Path) -> Result<(), String> {
    let mut failures = String::new();
    for candidate in interpreters() {
        let mut make = Command::new(&candidate);
        make.args(["-m", "venv"]).arg(home);
        match run("python-venv", make, base, PROBE_LIMIT) {
            Ok(()) => return install(python, wanted, base),
            Err(why) => failures.push_str(&format!("{} -m venv: {why}\n", candidate.display())),
        }
        let _ = fs::remove_dir_all(home);
    }
    if failures.is_empty() {
        failures.push_str("no python3 in PATH\n");
    }
    Err(format!(
        "{failures}It needs Python 3.10 or later with the venv module; on Debian: apt-get install python3 python3-venv"
    ))
}

fn install(python: &Path, wanted: &Wanted<'_>, base: &Path) -> Result<(), String> {
    let list = base.join(format!("{}-requirements.txt", wanted.name));
    fs::write(&list, wanted.requirements).map_err(|error| format!("cannot write {}: {error}", list.display()))?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-input", "--no-deps", "--requirement"])
        .arg(&list);
    run("pip-install", pip, base, BUILD_LIMIT).map_err(|why| {
        format!(
            "{why}\nThe packages of {} come from the Python package index",
            wanted.file
        )
    })
}

fn works(python: &Path, base: &Path, modules: &[&str]) -> bool {
    let mut probe = Command::new(python);
    // Found, not imported: importing one takes as long as starting the emulator.
    let found = "import sys, importlib.util as u; sys.exit(not all(u.find_spec(name) for name in sys.argv[1:]))";
    probe.args(["-c", found]).args(modules);
    run("python-probe", probe, base, PROBE_LIMIT).is_ok()
}

/// Every `python3` in `PATH`, in its order: the first may be a shim that cannot start.
fn interpreters() -> Vec<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the machine's Python is found as a shell finds it"
    )]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("python3"))
        .filter(|candidate| candidate.is_file())
        .collect()
}

/// Runs a step of Python's outside any environment that the caller may be in.
fn run(what: &str, mut command: Command, base: &Path, limit: Duration) -> Result<(), String> {
    for inherited in [
        "PYTHONHOME",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_USER",
    ] {
        command.env_remove(inherited);
    }
    let output_dir =
        tempfile::tempdir_in(base).map_err(|error| format!("no room below {}: {error}", base.display()))?;
    let output = process::run(what, command, output_dir.path(), limit)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_does_not_exist_is_named_and_leaves_no_finished_environment() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let list = "backstop-no-such-package==0.0.0\n";
        let wanted = Wanted {
            requirements: list,
            ..EMULATOR
        };
        let why = prepare(base.path(), &wanted).expect_err("there is no such package");
        assert!(why.contains("backstop-no-such-package"), "{why}");
        let hash = hex::encode(Sha256::digest(list));
        let stamp = base.path().join(format!("emulator-{}", &hash[..16])).join("complete");
        assert!(!stamp.exists());
    }

    #[tokio::test]
    async fn the_environment_is_found_again() {
        let (first, second) = tokio::join!(python(), python());
        assert_eq!(first, second);
        assert!(first.starts_with(env!("CARGO_TARGET_TMPDIR")));
    }
}
