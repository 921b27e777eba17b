//! The seeds of the fuzzers keep what must hold: real forms, and whatever a fuzzer has found.
//!
//! `tests/fuzz/run.sh` looks for more. An input that fails there is put among the seeds, minimised.

use std::fs;
use std::path::Path;

use backstop::domain;

#[path = "../fuzz/src/oracles.rs"]
mod oracles;

fn hold(target: &str, oracle: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/seeds")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the seeds are there") {
        let path = entry.expect("the folder can be listed").path();
        let seed = fs::read(&path).expect("a seed can be read");
        eprintln!("{}", path.display());
        oracle(&seed);
        count += 1;
    }
    assert!(count > 0, "{}", folder.display());
}

#[test]
fn events() {
    hold("sse", oracles::sse);
}

#[test]
fn json() {
    hold("json", oracles::json);
}

#[test]
fn answers() {
    hold("answer", oracles::answer);
}

#[test]
fn streams() {
    hold("stream", oracles::stream);
}

#[test]
fn requests() {
    hold("request", oracles::request);
}

#[test]
fn forms() {
    hold("form", oracles::form);
}

#[test]
fn recordings() {
    hold("audio", oracles::audio);
}
