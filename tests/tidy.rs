//! The house's order, as a test: who may know whom, and who may touch the world.
//!
//! `domain` knows nobody, `ports` knows `domain`, a room knows both and the settings and never another
//! room, and only `app` sees all. The tables below are the whole law; each exception to it names a
//! reason, and one that is no longer used is a fault too. The checkers are shown to fail in `can_fail`.

#[path = "tidy/can_fail.rs"]
mod can_fail;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeSet;
use std::path::Path;

use source::Source;
use tree::{File, dependencies, files, name, parse_all, read, root, sources};

/// Rooms that see every other.
const SEE_ALL: &[&str] = &["app", "main", "lib"];

/// What the rooms with a fixed place know; every other room knows `domain`, `ports` and `config`.
const KNOWS: &[(&str, &[&str])] = &[("domain", &[]), ("ports", &["domain"]), ("config", &["domain"])];

/// A room that knows another, against the rule: who, whom, why.
///
/// `http` is the daemon's face: it turns requests into calls of the services below and their answers
/// into words. The other way round no service knows it.
const ALLOWANCES: &[(&str, &str, &str)] = &[
    (
        "fleet",
        "ledger",
        "what the fleet cost is reported to the running ledger, and what it burns is foreseen there",
    ),
    (
        "gateway",
        "audit",
        "a refused call goes to the log, folded with others of its kind",
    ),
    (
        "gateway",
        "intake",
        "tasks that a call names count towards the same cap as those of reports",
    ),
    (
        "gateway",
        "ledger",
        "a call's hold is placed on the running ledger and ended there",
    ),
    (
        "http",
        "gateway",
        "what is below an upstream's name is a call, and the answer is its provider's",
    ),
    (
        "http",
        "audit",
        "an operator asks for the log to be verified, and how its task is",
    ),
    (
        "http",
        "doctor",
        "an operator asks the daemon to examine itself and its cloud",
    ),
    ("http", "fleet", "an operator asks what burns, and whose it is"),
    (
        "http",
        "intake",
        "a request's body is a batch of reports, and the answer says what became of each",
    ),
    (
        "http",
        "killswitch",
        "an operator asks what containing would do, and orders it",
    ),
    (
        "http",
        "ledger",
        "holds are asked of the running ledger, which knows who waits",
    ),
    ("http", "tools", "an agent asks before it uses a tool"),
    (
        "http",
        "watch",
        "an operator's pause, resume and reset are judgements like any other",
    ),
    (
        "intake",
        "audit",
        "claims that a person should see go to the log, folded like refusals",
    ),
    (
        "intake",
        "ledger",
        "a report becomes an operation of the ledger's next group commit",
    ),
];

/// The crates that the rules may use: data and its forms, hashes and signatures. All compute, none acts.
const DOMAIN_CRATES: &[&str] = &[
    "base64",
    "bytes",
    "ed25519_dalek",
    "globset",
    "hex",
    "jiff",
    "memchr",
    "serde",
    "serde_json",
    "sha2",
    "subtle",
    "symphonia",
    "thiserror",
    "tiktoken_rs",
    "uuid",
];

/// What the rules and the ports may not name of the standard library: everything that acts.
const WORLD: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// Where a part of it only computes: file, what, why.
const COMPUTES: &[(&str, &str, &str)] = &[(
    "src/domain/call/audio/demux.rs",
    "std::io",
    "symphonia reads through `std::io::Read`, here from bytes that are in memory",
)];

/// Crates that belong to one room, so that replacing them touches that room alone.
const OWNED_CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["app", "cli", "main"]),
    ("aws_config", &["cloud"]),
    ("aws_sdk_autoscaling", &["cloud"]),
    ("aws_sdk_cloudtrail", &["cloud"]),
    ("aws_sdk_ec2", &["cloud"]),
    ("aws_sdk_ecs", &["cloud"]),
    ("aws_sdk_elasticloadbalancing", &["cloud"]),
    ("aws_sdk_elasticloadbalancingv2", &["cloud"]),
    ("aws_sdk_iam", &["cloud"]),
    ("aws_sdk_lambda", &["cloud"]),
    ("aws_sdk_pricing", &["cloud"]),
    ("aws_sdk_sts", &["cloud"]),
    ("aws_smithy_types", &["cloud"]),
    ("axum", &["http"]),
    ("clap", &["cli", "main"]),
    ("hyper_rustls", &["upstream"]),
    ("mimalloc", &["main"]),
    ("multer", &["gateway"]),
    ("multer", &["gateway"]),
    ("rusqlite", &["store"]),
    ("toml", &["cloud", "config"]),
    ("toml_edit", &["config"]),
];

/// Clocks, randomness and detached tasks, which only an adapter may name. Clippy sees the calls through
/// their types and allows them where an expectation stands; this says where one may stand, and also
/// reads what macros hide.
const ACTS: &[&str] = &[
    "getrandom",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "std::env::var",
    "std::env::var_os",
    "std::env::vars",
    "std::env::vars_os",
    "std::thread::sleep",
    "std::thread::spawn",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "tokio::spawn",
    "tokio::task::spawn",
    "tokio::time::Instant::now",
    "uuid::Uuid::new_v4",
    "uuid::Uuid::now_v7",
];

/// The adapters that may: a file or a folder of `src`, and why.
const ACTORS: &[(&str, &str)] = &[
    ("src/cli/when.rs", "`2h` is meant by the clock of whoever types it"),
    (
        "src/cloud/aws/imds.rs",
        "heeds AWS's own switch for the metadata service, as the SDK does",
    ),
    (
        "src/config/environment.rs",
        "reads the environment once, so that loading is a function of its arguments",
    ),
    ("src/system/clock.rs", "the production side of the `Clock` port"),
    ("src/system/entropy.rs", "the production side of the `Entropy` port"),
];

const MAX_LINES: usize = 600;

/// Names that say nothing, so that everything ends up behind them.
const NAMELESS: &[&str] = &["common", "core", "helper", "helpers", "misc", "util", "utils"];

#[test]
fn rooms_know_only_whom_they_may() {
    assert_tidy(imports(sources(), ALLOWANCES));
}

#[test]
fn the_rules_are_pure() {
    assert_tidy(purity(sources(), &dependencies(&read(&root().join("Cargo.toml")))));
}

#[test]
fn a_crate_stays_in_its_room() {
    assert_tidy(ownership(sources()));
}

#[test]
fn only_adapters_touch_the_world() {
    assert_tidy(acts(sources(), ACTORS));
}

#[test]
fn every_file_is_whole_short_and_explained() {
    let mut faults = Vec::new();
    for file in sources() {
        faults.extend(unfinished(&file.name, &file.source));
        // A file of a few lines, such as one that only lists modules, needs no argument.
        if !file.source.has_module_doc && file.lines > 10 {
            faults.push(format!(
                "{}: no module doc (`//!`) says what it is and why this way",
                file.name
            ));
        }
    }
    for path in files(&["src", "tests", "benches"], &["rs"]) {
        faults.extend(length(&name(&path), &read(&path)));
        faults.extend(nameless(&name(&path)));
    }
    assert_tidy(faults);
}

#[test]
fn no_file_names_this_machine() {
    let mut faults = Vec::new();
    let everywhere = ["src", "tests", "benches", "migrations", "deploy", ".ci", "."];
    for path in files(
        &everywhere,
        &["rs", "py", "sh", "sql", "toml", "md", "txt", "service", "json", "run"],
    ) {
        faults.extend(machine_paths(&name(&path), &read(&path)));
    }
    assert_tidy(faults);
}

fn assert_tidy(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let readme = read(&root().join("README.md"));
    let block = readme.split("```").nth(1).expect("the README opens with its commands");
    let commands = block
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let command = commands
        .filter(|command| command.starts_with("cargo test"))
        .collect::<Vec<_>>();
    let ci = read(&root().join(".ci/run"));
    let steps: Vec<&str> = ci.lines().filter_map(|line| line.strip_prefix("step ")).collect();
    assert_eq!(
        command.as_slice(),
        &steps[steps.len() - 1..],
        "CI ends with what the README says"
    );
}

// --- the checks -----------------------------------------------------------------------------------

fn imports(files: &[File], allowances: &[(&str, &str, &str)]) -> Vec<String> {
    let rooms: BTreeSet<&str> = files.iter().map(|file| file.room.as_str()).collect();
    // An allowance for a room that nobody has moved into yet is idle, not stale.
    let is_there = |who: &str, whom: &str| rooms.contains(who) && rooms.contains(whom);
    let pairs = allowances.iter().map(|&(who, whom, _)| (who, whom));
    let mut unused: BTreeSet<(&str, &str)> = pairs.filter(|(who, whom)| is_there(who, whom)).collect();
    let mut faults = Vec::new();
    for file in files {
        let who = file.room.as_str();
        if SEE_ALL.contains(&who) {
            continue;
        }
        let fixed = KNOWS.iter().find(|(room, _)| *room == who).map(|(_, knows)| *knows);
        let knows = fixed.unwrap_or(&["domain", "ports", "config"]);
        for reference in &file.source.references {
            let ["crate", whom, ..] = reference.path.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
                continue;
            };
            // A glob of the whole crate, and the binary's name for it, hide everything.
            let is_room = rooms.contains(whom) || whom == "*";
            if !is_room || whom == who || knows.contains(&whom) {
                continue;
            }
            if allowances.iter().any(|&(w, m, _)| (w, m) == (who, whom)) {
                unused.remove(&(who, whom));
                continue;
            }
            faults.push(format!(
                "{}:{}: `{who}` may not know `{whom}` (`{}`); it knows {knows:?}",
                file.name,
                reference.line,
                reference.text()
            ));
        }
    }
    faults.extend(
        unused
            .into_iter()
            .map(|(who, whom)| format!("the allowance for `{who}` to know `{whom}` is not used: remove it")),
    );
    faults
}

fn purity(files: &[File], dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.room == "domain" || file.room == "ports")
    {
        for reference in &file.source.references {
            let first = reference.path.first().map(String::as_str).unwrap_or_default();
            let foreign = dependencies.contains(first) && !DOMAIN_CRATES.contains(&first);
            // The ports' traits are async, which the language cannot yet do for `dyn`, and an upstream speaks
            // in HTTP's own types, over a body that arrives in pieces.
            let is_trait_sugar = file.room == "ports" && ["async_trait", "futures_util", "http"].contains(&first);
            let computes = |forbidden: &str| {
                let excused = |&&(place, what, _): &&(&str, &str, &str)| place == file.name && what == forbidden;
                COMPUTES.iter().any(|row| excused(&row))
            };
            let acts = WORLD
                .iter()
                .any(|&forbidden| names(reference, forbidden) && !computes(forbidden));
            if (foreign && !is_trait_sugar) || acts {
                faults.push(format!(
                    "{}:{}: `{}` acts on the world or waits for it; `{}` computes",
                    file.name,
                    reference.line,
                    reference.text(),
                    file.room
                ));
            }
        }
    }
    faults
}

fn ownership(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for reference in &file.source.references {
            for (owned, owners) in OWNED_CRATES {
                if reference.path.first().is_some_and(|first| first == owned) && !owners.contains(&file.room.as_str()) {
                    faults.push(format!(
                        "{}:{}: `{}` belongs to {owners:?}",
                        file.name,
                        reference.line,
                        reference.text()
                    ));
                }
            }
        }
    }
    faults
}

fn acts(files: &[File], actors: &[(&str, &str)]) -> Vec<String> {
    let mut unused: BTreeSet<&str> = actors.iter().map(|&(place, _)| place).collect();
    let mut faults = Vec::new();
    for file in files {
        let place = actors
            .iter()
            .find(|(place, _)| file.name.starts_with(place))
            .map(|(place, _)| *place);
        let expected = file
            .source
            .exceptions
            .iter()
            .filter(|exception| exception.lint == "clippy::disallowed_methods");
        let expected = expected.map(|exception| (exception.line, format!("an expectation of `{}`", exception.lint)));
        let named = file.source.references.iter().filter(|reference| {
            let is_named = |&&act: &&&str| names_below(reference, act);
            ACTS.iter().any(|act| is_named(&act))
        });
        let named = named.map(|reference| (reference.line, format!("`{}`", reference.text())));
        for (line, what) in expected.chain(named) {
            match place {
                Some(place) => {
                    unused.remove(place);
                }
                None => faults.push(format!("{}:{line}: {what} outside the adapters that may", file.name)),
            }
        }
    }
    faults.extend(
        unused
            .into_iter()
            .map(|place| format!("{place} no longer touches the world: remove it from ACTORS")),
    );
    faults
}

/// Whether a reference names `forbidden`, something in it, or imports a parent of it.
fn names(reference: &source::Reference, forbidden: &str) -> bool {
    names_below(reference, forbidden) || {
        let forbidden: Vec<&str> = forbidden.split("::").collect();
        let path: Vec<&str> = reference
            .path
            .iter()
            .map(String::as_str)
            .filter(|part| *part != "*")
            .collect();
        reference.is_import && !path.is_empty() && forbidden.starts_with(&path)
    }
}

fn names_below(reference: &source::Reference, forbidden: &str) -> bool {
    let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
    path.starts_with(&forbidden.split("::").collect::<Vec<_>>())
}

fn unfinished(name: &str, source: &Source) -> Vec<String> {
    let is_unfinished = |called: &str| matches!(called, "todo" | "unimplemented" | "dbg");
    let calls = source.macros.iter().filter(|(called, _)| is_unfinished(called));
    calls
        .map(|(called, line)| format!("{name}:{line}: `{called}!` is unfinished work"))
        .collect()
}

fn length(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_LINES).then(|| format!("{name}: {lines} lines; a file that needs a table of contents is two files"))
}

fn nameless(name: &str) -> Option<String> {
    let mut parts = Path::new(name)
        .iter()
        .filter_map(|part| part.to_str())
        .map(|part| part.trim_end_matches(".rs"));
    let part = parts.find(|part| NAMELESS.contains(part))?;
    Some(format!(
        "{name}: a place called `{part}` fills with everything; name it after what it does"
    ))
}

fn machine_paths(name: &str, text: &str) -> Vec<String> {
    // Put together, so that this file does not find itself.
    let homes = [["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/wo", "rk/"]].map(|parts| parts.concat());
    let mut faults = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for home in &homes {
            let starts_a_path = |at: usize| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| c.is_whitespace() || "\"'`=(<[:,".contains(c))
            };
            if line.match_indices(home.as_str()).any(|(at, _)| starts_a_path(at)) {
                faults.push(format!("{name}:{}: a path of one machine (`{home}`)", at + 1));
            }
        }
    }
    faults
}
