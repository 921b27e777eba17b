//! `backstop prices`

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::{rows, table};
use super::when::When;
use crate::config::{price_files, write_atomically};
use crate::domain::price::litellm::{self, Import as Parsed, Origin};
use crate::domain::price::write_prices;

#[derive(Debug, Subcommand)]
pub enum Prices {
    /// The prices in force, and where each comes from
    #[command(after_help = "Examples:\n  backstop prices show\n  backstop prices show gpt-5-mini --json")]
    Show {
        /// Only models whose name contains this
        model: Option<String>,
    },
    /// Import a price list in LiteLLM's JSON form, over the built-in catalogue
    ///
    /// It says how many entries it took, and for each of the others why not: a price that is not known
    /// for certain is left out, because a wrong price would be a wrong bound.
    #[command(after_help = "Example:\n  backstop prices import model_prices_and_context_window.json")]
    Import(Import),
}

#[derive(Debug, Args)]
pub struct Import {
    /// The list, such as model_prices_and_context_window.json of the Python package litellm
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only say what would be taken
    #[arg(long)]
    dry_run: bool,
}

const COLUMNS: [&str; 6] = ["service", "model", "layer", "tier", "above_tokens", "usd_per_million"];

/// One row a band, and one for what is not counted in tokens.
fn bands(price: &Value) -> Vec<Value> {
    let row = |tier: &Value, above: &Value, rates: &Value| {
        json!({ "service": price["service"], "model": price["model"], "layer": price["layer"], "tier": tier,
            "above_tokens": above, "usd_per_million": rates })
    };
    let tokens = rows(price, "bands")
        .iter()
        .map(|band| row(&band["tier"], &band["above_tokens"], &band["usd_per_million"]));
    let units = price
        .get("usd_per_million_units")
        .filter(|units| units.as_object().is_some_and(|units| !units.is_empty()));
    tokens
        .chain(units.map(|units| row(&Value::Null, &Value::Null, units)))
        .collect()
}

impl Prices {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Show { model } => {
                let query: Vec<(&str, &str)> = model.as_deref().map(|model| ("model", model)).into_iter().collect();
                let answer = context.client()?.get(&["prices"], &query).await?;
                context.output.answer(&answer, |value| {
                    table(
                        &rows(value, "prices").iter().flat_map(bands).collect::<Vec<_>>(),
                        &COLUMNS,
                        "no price matches",
                    )
                })
            }
            Self::Import(import) => import.run(context).await,
        }
    }
}

impl Import {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let bytes = read(&self.file)?;
        let source = self
            .file
            .file_name()
            .map_or_else(|| "a price list".into(), |name| name.to_string_lossy());
        let today = When::today();
        let parsed = litellm::parse(
            &bytes,
            &Origin {
                source: &source,
                date: &today,
            },
        )
        .map_err(|error| Failure::failed(format!("{}: {error}", self.file.display())))?;
        let written = if self.dry_run || parsed.entries.is_empty() {
            None
        } else {
            Some(self.write(context, &parsed)?)
        };
        let report = json!({
            "read": parsed.read,
            "imported": parsed.entries.len(),
            "skipped": parsed.counts(),
            "left_out": parsed.left_out,
            "skipped_models": parsed.skipped.iter()
                .map(|(model, reason)| json!({ "model": model, "kind": reason.kind(), "why": reason.to_string() }))
                .collect::<Vec<_>>(),
            "file": written,
        });
        if context.output.json {
            context.output.data(&report.to_string())?;
        } else {
            context.output.data(&render(&report))?;
        }
        if parsed.entries.is_empty() {
            return Err(Failure::failed("none of its entries can be used"));
        }
        if let Some(path) = written {
            context.output.say(&format!("written to {}", path.display()));
            reload(context).await?;
        }
        Ok(())
    }

    /// Into `state_dir/prices`, from which the daemon reads what was imported.
    fn write(&self, context: &Context, parsed: &Parsed) -> Result<PathBuf, Failure> {
        let loaded = context.loader().load(context.config_path().as_deref());
        let settings = loaded
            .map_err(|problems| Failure::failed(format!("the config has mistakes\n{problems}")))?
            .settings;
        let dir = price_files::dir(&settings);
        fs::create_dir_all(&dir).map_err(|error| Failure::Failed {
            message: format!("{} cannot be made: {error}", dir.display()),
            hint: Some("it belongs to the daemon's user: run this as that user or as root".to_owned()),
        })?;
        let stem = self
            .file
            .file_stem()
            .map_or_else(|| "prices".into(), |stem| stem.to_string_lossy());
        let name: String = stem
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '-'
                }
            })
            .take(64)
            .collect();
        let path = dir.join(format!("{name}.json"));
        let about = ["Imported by `backstop prices import`; read again at every start and reload."];
        let text = write_prices(&about, &parsed.entries);
        write_atomically(&path, text.as_bytes())
            .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))?;
        Ok(path)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(litellm::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::failed(format!("{} cannot be read: {error}", path.display())))?;
    Ok(bytes)
}

fn render(report: &Value) -> String {
    let skipped = report["skipped"].as_object();
    let total: u64 = skipped.map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum());
    let mut text = format!(
        "{} entries: {} imported, {total} not",
        report["read"], report["imported"]
    );
    for (kind, count) in skipped.into_iter().flatten() {
        text.push_str(&format!("\n  {count:>6}  {kind}"));
    }
    text
}

/// The daemon reads its prices again when it reads its config again.
async fn reload(context: &Context) -> Result<(), Failure> {
    let reloaded = match context.client() {
        Ok(client) => client.post(&["reload"], &json!({})).await,
        Err(failure) => Err(failure),
    };
    match reloaded {
        Ok(_) => context.output.say("the daemon has loaded them"),
        Err(Failure::Unreachable { .. }) => context
            .output
            .say("no daemon is running here: it will load them when it starts"),
        Err(failure) => return Err(failure),
    }
    Ok(())
}
