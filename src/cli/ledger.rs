//! `backstop ledger`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{record, rows, table, text};
use crate::domain::id::{HoldId, PostingId};
use crate::domain::money::Usd;

#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Copy the ledger to a new file while the daemon runs, and verify the copy
    #[command(after_help = "Example:\n  backstop ledger backup /var/backups/backstop.db")]
    Backup {
        /// A file that does not exist yet; the daemon writes it
        path: PathBuf,
    },
    /// Let an independent auditor recompute every line from postings and holds
    #[command(after_help = "Example:\n  backstop ledger verify")]
    Verify,
    /// Record the cost of a call whose cost is unknown; without an id, list such calls
    #[command(
        after_help = "Examples:\n  backstop ledger resolve\n  backstop ledger resolve --hold ID --cost-usd 0.42 --note \"provider's log\""
    )]
    Resolve(Resolve),
    /// Accept the machine's clock after a jump, so that new spend is admitted again
    #[command(after_help = "Example:\n  backstop ledger accept-clock --yes")]
    AcceptClock {
        /// Do it: windows that were open by the old clock may close by the new one
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub struct Resolve {
    /// The hold behind it
    #[arg(long, value_name = "ID", conflicts_with = "posting", requires = "cost_usd")]
    hold: Option<HoldId>,
    /// The unresolved posting itself
    #[arg(long, value_name = "ID", requires = "cost_usd")]
    posting: Option<PostingId>,
    /// What it cost, in dollars; 0 only if it provably cost nothing
    #[arg(long, value_name = "USD", value_parser = not_negative)]
    cost_usd: Option<Usd>,
    /// By what evidence, for the audit log
    #[arg(long, default_value = "")]
    note: String,
}

fn not_negative(text: &str) -> Result<Usd, String> {
    match text.parse::<Usd>() {
        Ok(amount) if amount.is_negative() => Err("cannot be negative".to_owned()),
        Ok(amount) => Ok(amount),
        Err(error) => Err(error.to_string()),
    }
}

const UNRESOLVED: [&str; 8] = [
    "posting_id",
    "hold_id",
    "agent",
    "task",
    "model",
    "amount_usd",
    "occurred_at",
    "upstream_request",
];

impl Ledger {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::Backup { path } => {
                // The daemon has another working directory.
                let path = std::path::absolute(&path)?;
                let Some(path) = path.to_str() else {
                    return Err(Failure::usage("the path is not UTF-8", "give the backup another name"));
                };
                let answer = client
                    .post_long(&["ledger", "backup"], &json!({ "path": path }))
                    .await?;
                context.output.answer(&answer, |value| {
                    format!("backed up and verified: {path}\n{}", record(value, &["path"]))
                })
            }
            Self::Verify => {
                let answer = client.post_long(&["ledger", "verify"], &json!({})).await?;
                context.output.answer(&answer, |value| {
                    let faults = rows(value, "faults");
                    let mut rendered = record(value, &["faults"]);
                    for fault in faults {
                        rendered.push_str(&format!("\nfault: {}", super::output::show(fault)));
                    }
                    rendered
                })?;
                if rows(&answer.value, "faults").is_empty() {
                    Ok(())
                } else {
                    Err(Failure::Reported)
                }
            }
            Self::Resolve(resolve) => resolve.run(context, &client).await,
            Self::AcceptClock { yes } => {
                if !yes {
                    let answer = client.get(&["status"], &[]).await?;
                    context.output.answer(&answer, |status| {
                        let clock = ["clock_ok", "ledger_time"].map(|key| format!("{key}  {}", text(status, key)));
                        clock.join("\n")
                    })?;
                    context
                        .output
                        .say("nothing was done: to accept the clock, give the same command with --yes");
                    return Err(Failure::Reported);
                }
                let answer = client.post(&["clock", "accept"], &json!({})).await?;
                context.output.answer(&answer, |value| record(value, &[]))
            }
        }
    }
}

impl Resolve {
    async fn run(self, context: &Context, client: &super::client::Client) -> Result<(), Failure> {
        let target = match (self.hold, self.posting) {
            (Some(hold), _) => ("hold", hold.to_string()),
            (None, Some(posting)) => ("posting", posting.to_string()),
            (None, None) if self.cost_usd.is_some() => {
                return Err(Failure::usage(
                    "--cost-usd of what?",
                    "name it with --hold or --posting",
                ));
            }
            (None, None) => {
                let answer = client.get(&["ledger", "unresolved"], &[]).await?;
                return context.output.answer(&answer, |value| {
                    table(rows(value, "unresolved"), &UNRESOLVED, "nothing is unresolved")
                });
            }
        };
        let cost = self.cost_usd.unwrap_or(Usd::ZERO).to_string();
        let body = json!({ target.0: target.1, "cost_usd": cost, "note": self.note });
        let answer = client.post(&["ledger", "resolve"], &body).await?;
        context.output.answer(&answer, |value| {
            let posting = text(value, "posting_id");
            let by = if posting.is_empty() {
                String::new()
            } else {
                format!(" by posting {posting}")
            };
            format!("resolved at ${cost}{by}")
        })
    }
}
