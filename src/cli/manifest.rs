//! `backstop manifest`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::{clean, table};
use crate::config::{Problem, Problems, Severity, manifests};
use crate::domain::manifest::{self, Manifest as Declared, Rate};

#[derive(Debug, Subcommand)]
pub enum Manifest {
    /// Say what a manifest allows, or everything that is wrong with it; needs no daemon
    ///
    /// Tools without a rate_limit of their own are shown with the default of the config, if there is a
    /// sound one.
    #[command(
        after_help = "Examples:\n  backstop manifest check manifests/support.json\n  backstop manifest check new.json --json"
    )]
    Check(Check),
}

#[derive(Debug, Args)]
pub struct Check {
    /// The manifest
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Manifest {
    pub(super) fn run(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run(context),
        }
    }
}

const COLUMNS: [&str; 4] = ["tool", "rate", "read_only", "rate_from"];

impl Check {
    fn run(&self, context: &Context) -> Result<(), Failure> {
        let name = self.file.display().to_string();
        let bytes =
            manifests::read(&self.file).map_err(|why| Failure::failed(format!("{name} cannot be read: {why}")))?;
        match Declared::parse(&bytes) {
            Ok(manifest) => {
                let loaded = context.loader().load(context.config_path().as_deref()).ok();
                let default = loaded.as_ref().map(|loaded| loaded.settings.tools.default_rate);
                let report = sound(&name, &manifest, default);
                if context.output.json {
                    context.output.data(&report.to_string())?;
                } else {
                    context.output.data(&render(&report))?;
                }
                context.output.say(&format!("{name} is sound"));
                if let Some(loaded) = loaded {
                    let agent = loaded.settings.agent(manifest.agent());
                    if let Some(talk) = unused(&manifest, agent.map(|agent| agent.manifest_file.as_deref()), &self.file)
                    {
                        context.output.say(&talk);
                    }
                }
                Ok(())
            }
            Err(found) => {
                let problems = Problems(found.into_iter().map(|one| problem(&name, one)).collect());
                if context.output.json {
                    let report = json!({ "manifest": name, "ok": false, "errors": problems.0.len(),
                        "problems": problems });
                    context.output.data(&report.to_string())?;
                } else {
                    context.output.data(&clean_lines(&problems))?;
                }
                context.output.say(&format!("{name} is not sound: it would be refused"));
                Err(Failure::Reported)
            }
        }
    }
}

/// Why the manifest is not in force, as far as the config tells.
fn unused(manifest: &Declared, named: Option<Option<&Path>>, file: &Path) -> Option<String> {
    let agent = manifest.agent();
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match named {
        None => Some(format!("the config has no agent {agent}")),
        Some(None) => Some(format!("the agent {agent} of the config names no manifest")),
        Some(Some(other)) if real(other) != real(file) => Some(format!(
            "the agent {agent} of the config names another file: {}",
            other.display()
        )),
        Some(Some(_)) => None,
    }
}

fn sound(name: &str, manifest: &Declared, default: Option<Rate>) -> Value {
    let tools = manifest.tools().iter().map(|(name, tool)| {
        let rate = tool.rate.or(default);
        json!({
            "tool": name,
            "rate": rate.map(|rate| format!("{} in {} s", rate.requests(), rate.per_seconds())),
            "requests": rate.map(Rate::requests),
            "per_seconds": rate.map(Rate::per_seconds),
            "rate_from": if tool.rate.is_some() { "manifest" } else { "config" },
            "read_only": tool.read_only,
        })
    });
    json!({
        "manifest": name,
        "ok": true,
        "agent_id": manifest.agent(),
        "allowed_tools": tools.collect::<Vec<_>>(),
        "blacklisted_tools": manifest.blacklisted(),
        "models": manifest.models(),
        "max_tokens": manifest.max_tokens(),
    })
}

fn render(report: &Value) -> String {
    let list = |key: &str| {
        let texts = report[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(", ")
    };
    let tools = report["allowed_tools"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines = vec![format!("agent {}", report["agent_id"].as_str().unwrap_or_default())];
    lines.push(table(tools, &COLUMNS, "no tool is allowed"));
    for (what, key) in [("never", "blacklisted_tools"), ("models", "models")] {
        if !list(key).is_empty() {
            lines.push(format!("{what}: {}", clean(&list(key))));
        }
    }
    if let Some(tokens) = report["max_tokens"].as_u64() {
        lines.push(format!("at most {tokens} output tokens a call"));
    }
    lines.join("\n")
}

fn problem(file: &str, found: manifest::Problem) -> Problem {
    Problem {
        severity: Severity::Error,
        source: file.to_owned(),
        line: found.line,
        key: found.place,
        message: found.message,
        hint: found.hint,
    }
}

/// A name in the file may hold anything.
fn clean_lines(problems: &Problems) -> String {
    let lines = problems.0.iter().map(|problem| clean(&problem.to_string()));
    lines.collect::<Vec<_>>().join("\n")
}
