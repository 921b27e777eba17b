//! The package's files as the checks see them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::source::{self, Source};

/// A file of `src`, read.
pub struct File {
    /// From the package's root: `src/domain/money.rs`.
    pub name: String,
    pub room: String,
    pub lines: usize,
    pub source: Source,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn name(path: &Path) -> String {
    let relative = path.strip_prefix(root()).unwrap_or(path);
    relative.to_string_lossy().into_owned()
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files with one of the endings below the folders, in order; `.` is the root alone, not below it.
pub fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let mut open = vec![root().join(folder)];
        while let Some(dir) = open.pop() {
            // A folder whose first tenant has not moved in is not there.
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries {
                let path = entry.expect("a folder can be listed").path();
                if path.is_dir() {
                    if *folder != "." {
                        open.push(path);
                    }
                } else if path
                    .extension()
                    .or(path.file_name())
                    .is_some_and(|end| endings.iter().any(|e| end == *e))
                {
                    found.push(path);
                }
            }
        }
    }
    found.sort();
    found
}

/// The files of `src`, read once for all tests of a process.
pub fn sources() -> &'static [File] {
    static SOURCES: OnceLock<Vec<File>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let read_all = files(&["src"], &["rs"])
            .into_iter()
            .map(|path| (name(&path), read(&path)));
        let files = parse_all(read_all);
        assert!(
            files.iter().any(|file| file.room == "domain"),
            "the sources were not found"
        );
        files
    })
}

/// Parses files by name, without those that are modules of tests only.
pub fn parse_all(texts: impl IntoIterator<Item = (String, String)>) -> Vec<File> {
    let mut files = Vec::new();
    let mut tests = BTreeSet::new();
    for (name, text) in texts {
        let module = module_of(&name);
        let source = source::parse(&text, &module).unwrap_or_else(|why| panic!("{name}: {why}"));
        for test in &source.test_modules {
            tests.insert([module.as_slice(), std::slice::from_ref(test)].concat());
        }
        let first = module.first().cloned();
        let room = first.unwrap_or_else(|| name.trim_start_matches("src/").trim_end_matches(".rs").to_owned());
        let lines = text.lines().count();
        files.push(File {
            name,
            room,
            lines,
            source,
        });
    }
    files.retain(|file| {
        let module = module_of(&file.name);
        !tests.iter().any(|test: &Vec<String>| module.starts_with(test))
    });
    files
}

/// `src/domain/price/mod.rs` and `src/domain/price.rs` are `["domain", "price"]`; the roots are empty.
fn module_of(name: &str) -> Vec<String> {
    let path = name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

/// The crates that `Cargo.toml` names, as code names them.
pub fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let table = manifest
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .expect("it has dependencies");
    let found: BTreeSet<String> = table.keys().map(|name| name.replace('-', "_")).collect();
    assert!(found.contains("tokio"), "the dependencies were not found");
    found
}
