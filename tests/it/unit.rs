//! The systemd unit is accepted as it stands, and exposes little.

use std::path::Path;
use std::process::{Command, Output};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/backstop.service");

/// Runs systemd's own judge; it reads the file and needs no running systemd.
fn analyze(arguments: &[&str]) -> Output {
    match Command::new("systemd-analyze")
        .arg("--no-pager")
        .args(arguments)
        .output()
    {
        Ok(output) => output,
        Err(error) => panic!("systemd-analyze cannot start ({error}); on Debian: apt-get install systemd"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn systemd_accepts_the_unit_without_a_word() {
    assert!(Path::new(UNIT).is_file());
    let output = analyze(&["verify", UNIT]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn the_unit_exposes_little() {
    let output = analyze(&["security", "--offline=yes", "--threshold=20", UNIT]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// The judge can say no: without the sandbox the same unit is over the threshold.
#[test]
fn a_unit_without_its_sandbox_is_refused() {
    let unit = std::fs::read_to_string(UNIT).expect("the unit is there");
    let bare: String = unit
        .lines()
        .filter(|line| {
            !["Protect", "Private", "Restrict", "SystemCall", "Dynamic"]
                .iter()
                .any(|p| line.starts_with(p))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("backstop.service");
    std::fs::write(&path, bare).expect("a file in it");
    let path = path.to_str().expect("temporary directories have plain names");
    let output = analyze(&["security", "--offline=yes", "--threshold=20", path]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}
