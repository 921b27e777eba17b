//! The manifests that agents name, and `[tools]`, which says what a manifest leaves out.
//!
//! A manifest is read with the config and is part of the settings: a wrong one is a problem of the
//! config, so that a daemon does not start with it and a reload leaves the old one in force. Each problem
//! names the manifest's own file and line.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::problem::Severity;
use super::reader::{Item, Table};
use super::references::{References, reason};
use super::settings::Tools;
use super::tree::{Layer, Origin};
use super::values::shown;
use crate::domain::id::AgentId;
use crate::domain::manifest::{self, Manifest, Problem, Rate};

/// Reads the manifest that this item names. The agent is `None` when its id could not be read, which was
/// told already.
pub(super) fn manifest(
    item: &Item<'_>,
    file: &Path,
    references: &References<'_>,
    agent: Option<&AgentId>,
) -> Option<Arc<Manifest>> {
    if !references.exists(item, file, Severity::Error) {
        return None;
    }
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(why) => {
            item.error(&format!("{}: {why}", shown(&file.to_string_lossy())), None);
            return None;
        }
    };
    let tell = |problem: &Problem| {
        let origin = Origin {
            layer: Layer::Named,
            source: file.display().to_string().into(),
            line: problem.line,
        };
        let (place, message) = (&problem.place, &problem.message);
        item.report().error(&origin, place, message, problem.hint.clone());
    };
    match Manifest::parse(&bytes) {
        Ok(manifest) => match agent {
            Some(agent) if agent != manifest.agent() => {
                tell(&Problem {
                    place: "agent_id".to_owned(),
                    line: None,
                    message: format!("is {}, and the agent that names this file is {agent}", manifest.agent()),
                    hint: Some("a manifest belongs to one agent".to_owned()),
                });
                None
            }
            _ => Some(Arc::new(manifest)),
        },
        Err(problems) => {
            problems.iter().for_each(tell);
            None
        }
    }
}

/// The bytes of a manifest, or of as much of it as shows that it is too large.
pub fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(manifest::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| reason(&error))?;
    Ok(bytes)
}

pub(super) fn tools(table: &Table<'_>) -> Option<Tools> {
    let default_rate = table
        .get("default_rate")
        .and_then(|item| item.table())
        .and_then(|rate| {
            let requests = rate
                .get("requests")
                .and_then(|item| item.integer(1..=manifest::MAX_REQUESTS));
            let per_seconds = rate
                .get("per_seconds")
                .and_then(|item| item.integer(1..=manifest::MAX_PER_SECONDS));
            rate.finish();
            Rate::new(requests?, per_seconds?)
        });
    table.finish();
    Some(Tools {
        default_rate: default_rate?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Environment, Loaded, Loader, Problems};

    const SOUND: &str = r#"{
  "schema_version": "v1",
  "agent_id": "a",
  "allowed_tools": [{"tool_name": "search"}]
}"#;

    struct Bench(tempfile::TempDir);

    impl Bench {
        /// A config with one agent, whose manifest is this.
        fn new(manifest: &[u8]) -> Self {
            let bench = Self(tempfile::tempdir().expect("a directory"));
            bench.write("m.json", manifest);
            bench.write("config.toml", b"[[agent]]\nid = \"a\"\nmanifest = \"m.json\"\n");
            bench
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            std::fs::write(self.path(name), bytes).expect("the directory is ours");
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn load(&self) -> Result<Loaded, Problems> {
            Loader::for_daemon(Environment::default()).load(Some(&self.path("config.toml")))
        }
    }

    #[test]
    fn a_sound_manifest_is_part_of_the_settings() {
        let bench = Bench::new(SOUND.as_bytes());
        let settings = bench.load().unwrap_or_else(|problems| panic!("{problems}")).settings;
        let agent = &settings.agents[0];
        assert!(
            agent
                .manifest
                .as_ref()
                .is_some_and(|manifest| manifest.allows("search"))
        );
        assert_eq!(agent.manifest_file.as_deref(), Some(bench.path("m.json").as_path()));
        assert_eq!(settings.tools.default_rate, Rate::new(60, 60).expect("within bounds"));
    }

    #[test]
    fn the_example_of_the_manual_is_sound() {
        let example: String = crate::config::BUILT_IN
            .lines()
            .skip_while(|line| *line != "#   {")
            .map_while(|line| line.strip_prefix("#   "))
            .collect();
        let manifest = Manifest::parse(example.as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!((manifest.tools().len(), manifest.blacklisted().len()), (2, 1));
        assert_eq!(manifest.max_tokens(), Some(2048));
    }

    #[test]
    fn a_wrong_one_is_a_problem_with_its_own_file_and_line() {
        let bench = Bench::new(SOUND.replace("search", "se arch").replace("v1", "v7").as_bytes());
        bench.write(
            "config.toml",
            b"[[agent]]\nid = \"a\"\nmanifest = \"m.json\"\n[log]\nformat = \"xml\"\n",
        );
        let problems = bench.load().expect_err("it is wrong").0;
        let told: Vec<_> = problems
            .iter()
            .map(|one| (one.source.ends_with("m.json"), one.line, one.key.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (false, Some(5), "log.format"),
                (true, Some(2), "schema_version"),
                (true, Some(4), "allowed_tools[0].tool_name"),
            ],
            "{problems:?}"
        );
        assert!(problems.iter().all(|one| one.hint.is_some()), "{problems:?}");
    }

    #[test]
    fn it_must_be_the_manifest_of_the_agent_that_names_it() {
        let bench = Bench::new(SOUND.replace("\"a\"", "\"A\"").as_bytes());
        let problems = bench.load().expect_err("another agent's");
        assert!(
            problems.0.len() == 1 && problems.0[0].key == "agent_id" && problems.to_string().contains("is A, and"),
            "{problems}"
        );
    }

    #[test]
    fn a_file_that_is_too_large_or_none_is_refused() {
        let bench = Bench::new(&vec![b' '; manifest::MAX_BYTES + 1]);
        let problems = bench.load().expect_err("too large");
        assert!(problems.to_string().contains("at most 1048576 are read"), "{problems}");
        let bench = Bench::new(b"\xff");
        assert!(bench.load().is_err());
        bench.write("config.toml", b"[[agent]]\nid = \"a\"\nmanifest = \".\"\n");
        let problems = bench.load().expect_err("a directory");
        assert!(
            problems.0.len() == 1 && problems.0[0].key == "agent[0].manifest" && problems.0[0].line == Some(3),
            "{problems}"
        );
    }

    #[test]
    fn the_default_rate_is_bounded() {
        let bench = Bench::new(SOUND.as_bytes());
        let load = |tools: &str| {
            bench.write("config.toml", format!("[tools]\ndefault_rate = {tools}\n").as_bytes());
            bench.load().map(|loaded| loaded.settings.tools.default_rate)
        };
        assert_eq!(
            load("{ requests = 5, per_seconds = 1 }"),
            Ok(Rate::new(5, 1).expect("within bounds"))
        );
        for wrong in [
            "{ requests = 0 }",
            "{ requests = 10001 }",
            "{ per_seconds = 86401 }",
            "{ per_second = 1 }",
            "60",
        ] {
            let problems = load(wrong).expect_err(wrong);
            assert!(
                problems.0.len() == 1 && problems.0[0].line == Some(2),
                "{wrong}: {problems}"
            );
        }
    }
}
