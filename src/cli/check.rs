//! `backstop check`

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use crate::config::{Problems, Severity};

/// Report every mistake in the config at once; needs no daemon
///
/// Each is shown with its file, line, key and a hint, and nothing is changed. Secrets that this user
/// may not read are warnings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  backstop check\n  backstop check --config new.toml --json")]
pub struct Check {}

impl Check {
    pub(super) fn run(&self, context: &Context) -> Result<(), Failure> {
        let path = context.config_path();
        let name = path
            .as_ref()
            .map_or_else(|| "the built-in config".to_owned(), |path| path.display().to_string());
        let (problems, sound) = match context.loader().load(path.as_deref()) {
            Ok(loaded) => (Problems(loaded.warnings), Some(loaded.settings)),
            Err(problems) => (problems, None),
        };
        let errors = problems.errors().count();
        let warnings = problems
            .0
            .iter()
            .filter(|problem| problem.severity == Severity::Warning)
            .count();
        if context.output.json {
            let report = json!({ "config": name, "ok": sound.is_some(), "errors": errors, "warnings": warnings,
                "problems": problems });
            context.output.data(&report.to_string())?;
        } else {
            context.output.data(&problems.to_string())?;
        }
        match sound {
            Some(settings) => {
                let (agents, budgets) = (settings.agents.len(), settings.budgets.len());
                context.output.say(&format!(
                    "{name} is sound: {}, {}, {}",
                    count(agents, "agent"),
                    count(budgets, "budget"),
                    count(warnings, "warning")
                ));
                Ok(())
            }
            None => {
                context.output.say(&format!(
                    "{name} has {} and {}",
                    count(errors, "error"),
                    count(warnings, "warning")
                ));
                Err(Failure::Reported)
            }
        }
    }
}

/// `1 error`, `2 errors`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
