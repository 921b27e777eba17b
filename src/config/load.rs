//! From files and environment to validated settings.
//!
//! Three layers, later ones win: the built-in `config.toml`, the user's file, the environment. All of
//! it is read even when something is wrong, so that one run shows every mistake.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::agents;
use super::budgets;
use super::cloud;
use super::cross;
use super::environment::Environment;
use super::gateway;
use super::manifests;
use super::problem::{Problem, Problems, Severity};
use super::reader::{EMPTY, Item, Table};
use super::references::{References, reason};
use super::report::Report;
use super::sections;
use super::settings::Settings;
use super::tree::{self, Layer, Origin};
use super::upstreams;

/// The manual, which is the defaults.
pub const BUILT_IN: &str = include_str!("../../config.toml");
/// What the built-in layer is called in problems.
const BUILT_IN_NAME: &str = "built-in config.toml";
/// Bytes of a config file at most.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// What came of loading.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
    /// The user's file; `None` when the built-in defaults were all there was.
    pub path: Option<PathBuf>,
}

/// Loads configurations.
#[derive(Debug, Clone)]
pub struct Loader {
    environment: Environment,
    missing_secret: Severity,
}

impl Loader {
    /// For the daemon: a secret that is named and missing is an error.
    pub fn for_daemon(environment: Environment) -> Self {
        Self {
            environment,
            missing_secret: Severity::Error,
        }
    }

    /// For who reads the settings without being the daemon: it may not be allowed to read its
    /// secrets, so a missing one is a warning.
    pub fn for_reader(environment: Environment) -> Self {
        Self {
            environment,
            missing_secret: Severity::Warning,
        }
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Loads the file, or the built-in defaults alone if there is none.
    pub fn load(&self, path: Option<&Path>) -> Result<Loaded, Problems> {
        let Some(path) = path else {
            return self.parse(None, BUILT_IN_NAME, "");
        };
        let name = path.display().to_string();
        match read_file(path) {
            Ok(text) => self.parse(Some(path), &name, &text),
            Err(message) => {
                let report = Report::default();
                let origin = Origin {
                    layer: Layer::File,
                    source: name.as_str().into(),
                    line: None,
                };
                report.error(&origin, "", &message, None);
                Err(report.into_problems())
            }
        }
    }

    /// Where the daemon's socket is, whatever else is wrong with the config: a mistake that somebody
    /// made since the daemon started must not keep anybody from reaching it.
    pub fn admin_socket(&self, path: Option<&Path>) -> Result<PathBuf, Problems> {
        let report = Report::default();
        let mut root = tree::parse(Layer::BuiltIn, BUILT_IN_NAME, BUILT_IN, &report);
        if let Some(path) = path {
            let name = path.display().to_string();
            match read_file(path) {
                Ok(text) => tree::merge(&mut root, tree::parse(Layer::File, &name, &text, &report)),
                Err(message) => {
                    let origin = Origin {
                        layer: Layer::File,
                        source: name.as_str().into(),
                        line: None,
                    };
                    report.error(&origin, "", &message, None);
                    return Err(report.into_problems());
                }
            }
        }
        tree::overlay(&mut root, &self.environment, &report);
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let socket = Table::root(&root, &EMPTY, &report)
            .get("server")
            .and_then(|item| item.table())
            .and_then(|table| sections::admin_socket(&table, base));
        socket.ok_or_else(|| report.into_problems())
    }

    /// Validates a text as if it stood at `path`.
    pub fn parse(&self, path: Option<&Path>, name: &str, text: &str) -> Result<Loaded, Problems> {
        let report = Report::default();
        let mut root = tree::parse(Layer::BuiltIn, BUILT_IN_NAME, BUILT_IN, &report);
        tree::merge(&mut root, tree::parse(Layer::File, name, text, &report));
        tree::overlay(&mut root, &self.environment, &report);
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let settings = {
            let references = References {
                base,
                environment: &self.environment,
                missing_secret: self.missing_secret,
            };
            let root = Table::root(&root, &EMPTY, &report);
            read(&root, base, &references)
        };
        let problems = report.into_problems();
        match settings {
            Some(settings) if problems.errors().next().is_none() => Ok(Loaded {
                settings,
                warnings: problems.0,
                path: path.map(Path::to_owned),
            }),
            _ => Err(problems),
        }
    }
}

/// The file to load when the command line names none: `config.toml` here, then in `/etc/backstop`.
pub fn find() -> Option<PathBuf> {
    ["config.toml", "/etc/backstop/config.toml"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {}", reason(&error)))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {} megabytes", MAX_FILE / 1024 / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|&&b| b == b'\n')
            .count()
            + 1;
        format!("is not text in UTF-8, from line {line} on")
    })
}

/// Reads every section before it gives up on any.
fn read(root: &Table<'_>, base: &Path, references: &References<'_>) -> Option<Settings> {
    let section = |name: &'static str| root.get(name).and_then(|item: Item<'_>| item.table());
    let server = section("server").and_then(|table| sections::server(&table, base));
    let state_dir = server.as_ref().map(|server| server.state_dir.as_path());
    let storage = section("storage").and_then(|table| sections::storage(&table, base, state_dir));
    let ledger = section("ledger").and_then(|table| sections::ledger(&table));
    let admin = section("admin").and_then(|table| sections::admin(&table, references));
    let audit = section("audit").and_then(|table| sections::audit(&table, base, state_dir));
    let prices = section("prices").and_then(|table| sections::prices(&table, base, references));
    let reports = section("reports").and_then(|table| sections::reports(&table));
    let tasks = section("tasks").and_then(|table| sections::tasks(&table));
    let tools = section("tools").and_then(|table| manifests::tools(&table));
    let aws = section("aws").and_then(|table| cloud::aws(&table));
    let log = section("log").and_then(|table| sections::log(&table));
    let nobody = std::collections::BTreeSet::new();
    let (guarded, regions) = aws.as_ref().map_or((&nobody, [].as_slice()), |aws| {
        (&aws.guarded, aws.aws.regions.as_slice())
    });
    let agents = agents::agents(root.get("agent"), base, references, guarded, regions);
    let budgets = budgets::budgets(root.get("budget"), &agents);
    let gateway = section("gateway").and_then(|table| gateway::gateway(&table));
    let insecure = gateway.as_ref().map(|gateway| gateway.insecure_upstream);
    let upstreams = upstreams::upstreams(root.get("upstream"), references, insecure);
    root.finish();

    if let (Some(server), Some(ledger)) = (&server, &ledger) {
        cross::timeouts(root, server, ledger);
    }
    // Its warnings follow from mistakes just as well, and would only stand beside them.
    if let (Some(aws), Some(budgets), false) = (&aws, &budgets, root.report().has_errors()) {
        cross::coverage(root, &aws.aws, &agents, budgets);
    }
    Some(Settings {
        server: server?,
        storage: storage?,
        ledger: ledger?,
        admin: admin?,
        audit: audit?,
        prices: prices?,
        reports: reports?,
        tasks: tasks?,
        tools: tools?,
        aws: aws?.aws,
        log: log?,
        agents: agents.whole.then_some(agents.list)?,
        budgets: budgets?,
        gateway: gateway?,
        upstreams: upstreams?,
    })
}
