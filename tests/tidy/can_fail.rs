//! Every check, shown to fail on what it is there for and to pass what is fine.

use std::collections::BTreeMap;

use super::*;

/// Parses a small house: the given file beside one file of some rooms.
fn house(name: &str, text: &str) -> Vec<File> {
    let mut texts: BTreeMap<String, String> = ["app", "cloud", "config", "domain/money", "http", "ports", "store"]
        .map(|room| (format!("src/{room}.rs"), "//! A room.".to_owned()))
        .into();
    texts.insert(name.to_owned(), text.to_owned());
    parse_all(texts)
}

fn deps() -> BTreeSet<String> {
    ["tokio", "tracing", "serde", "async_trait"].map(str::to_owned).into()
}

#[track_caller]
fn one(faults: Vec<String>, expected: &str) {
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains(expected), "{faults:#?}");
}

#[test]
fn a_room_that_knows_another_is_found_however_it_is_written() {
    for text in [
        "use crate::cloud::Fleet;",
        "use crate::{domain::money::Usd, cloud::{self, aws as amazon}};",
        "use super::super::cloud::Fleet;",
        "fn f() -> crate::cloud::Fleet { loop {} }",
        "fn f() { println!(\"{}\", crate::cloud::name()); }",
        "mod inner { use super::super::super::cloud; }",
        "#[derive(crate::cloud::Billed)] struct S;",
        "pub use crate::*;",
    ] {
        let faults = imports(&house("src/store/sqlite.rs", text), &[]);
        assert!(
            faults.iter().any(|fault| fault.contains("`store` may not know")),
            "{text}: {faults:?}"
        );
        assert!(
            faults.iter().all(|fault| fault.starts_with("src/store/sqlite.rs:1:")),
            "{text}: {faults:?}"
        );
    }
}

#[test]
fn what_is_allowed_passes() {
    let text = "use crate::{domain::money::Usd, ports::Store, config::Settings, store::memory}; use super::memory::X;
        #[cfg(test)] mod tests { use crate::cloud::Fleet; } #[cfg(test)] mod fixtures;";
    assert_eq!(imports(&house("src/store/sqlite.rs", text), &[]), Vec::<String>::new());
    assert_eq!(
        imports(&house("src/app.rs", "use crate::cloud::Fleet;"), &[]),
        Vec::<String>::new()
    );
    // A module that only tests have is a test, in its own file too.
    let mut texts = vec![("src/store/mod.rs".to_owned(), "#[cfg(test)] mod fixtures;".to_owned())];
    texts.push((
        "src/store/fixtures.rs".to_owned(),
        "use crate::cloud::Fleet;".to_owned(),
    ));
    texts.push(("src/cloud.rs".to_owned(), String::new()));
    assert_eq!(imports(&parse_all(texts), &[]), Vec::<String>::new());
}

#[test]
fn the_inner_rooms_know_less() {
    one(
        imports(&house("src/domain/x.rs", "use crate::ports::Store;"), &[]),
        "`domain` may not know `ports`",
    );
    one(
        imports(&house("src/ports.rs", "use crate::config::Settings;"), &[]),
        "`ports` may not know `config`",
    );
    one(
        imports(&house("src/config/x.rs", "use crate::ports::Store;"), &[]),
        "`config` may not know `ports`",
    );
}

#[test]
fn an_allowance_is_used_or_gone() {
    let allowed = [("http", "cloud", "a reason")];
    let files = house("src/http/x.rs", "use crate::cloud::Fleet;");
    assert_eq!(imports(&files, &allowed), Vec::<String>::new());
    one(imports(&house("src/http/x.rs", ""), &allowed), "is not used");
}

#[test]
fn the_world_in_the_rules_is_found() {
    for text in [
        "use tokio::sync::Mutex;",
        "use std::time::SystemTime;",
        "use std::time;",
        "use std::time::*;",
        "use std::{collections::BTreeMap, fs};",
        "fn f() { std::fs::read(\"x\"); }",
        "fn f() { tracing::info!(\"x\"); }",
        "#[async_trait::async_trait] trait T {}",
    ] {
        let faults = purity(&house("src/domain/x.rs", text), &deps());
        assert!(!faults.is_empty(), "{text}");
    }
    let pure = "use std::time::Duration; use serde::Serialize; use std::collections::BTreeMap;";
    assert_eq!(purity(&house("src/domain/x.rs", pure), &deps()), Vec::<String>::new());
    let sugar = "#[async_trait::async_trait] trait T {}";
    assert_eq!(purity(&house("src/ports.rs", sugar), &deps()), Vec::<String>::new());
}

#[test]
fn clocks_randomness_and_spawns_are_found() {
    for text in [
        "fn f() { std::time::Instant::now(); }",
        "use std::time::Instant; fn f() { Instant::now(); }",
        "use std::time as t; fn f() { t::SystemTime::now(); }",
        "fn f() { later!(tokio::spawn(async {})); }",
        "use tokio::task; fn f() { task::spawn(async {}); }",
        "use tokio::spawn;",
        "#[expect(clippy::disallowed_methods, reason = \"x\")] fn f() {}",
    ] {
        let faults = acts(&house("src/store/x.rs", text), &[]);
        assert!(!faults.is_empty(), "{text}");
        let actors = [("src/store/x.rs", "a reason")];
        assert_eq!(
            acts(&house("src/store/x.rs", text), &actors),
            Vec::<String>::new(),
            "{text}"
        );
    }
    one(
        acts(&house("src/store/x.rs", ""), &[("src/store/x.rs", "a reason")]),
        "remove it from ACTORS",
    );
    let fine = "#[expect(clippy::unwrap_used, reason = \"x\")] fn f() { tokio::time::sleep(d); }";
    assert_eq!(acts(&house("src/store/x.rs", fine), &[]), Vec::<String>::new());
}

#[test]
fn a_crate_outside_its_room_is_found() {
    one(
        ownership(&house("src/http/x.rs", "use rusqlite::Row;")),
        "belongs to [\"store\"]",
    );
    assert_eq!(
        ownership(&house("src/store/x.rs", "use rusqlite::Row;")),
        Vec::<String>::new()
    );
}

#[test]
fn unfinished_long_nameless_and_local_are_found() {
    let source = source::parse("fn f() { todo!() } fn g() { vec![unimplemented!()]; }", &[]).expect("parses");
    assert_eq!(unfinished("x", &source).len(), 2);
    assert!(!source.has_module_doc);
    assert!(source::parse("//! Why.", &[]).expect("parses").has_module_doc);
    assert!(length("x", &"\n".repeat(MAX_LINES + 1)).is_some());
    assert!(length("x", &"\n".repeat(MAX_LINES)).is_none());
    assert!(nameless("src/util/x.rs").is_some() && nameless("src/http/utils.rs").is_some());
    assert!(nameless("src/domain/score.rs").is_none());
    let local = ["/ho", "me/someone/x"].concat();
    assert_eq!(machine_paths("x", &format!("a = \"{local}\"")).len(), 1);
    assert_eq!(
        machine_paths("x", &format!("https://example.com{local}")),
        Vec::<String>::new()
    );
    assert!(source::parse("fn (", &[]).is_err());
}
