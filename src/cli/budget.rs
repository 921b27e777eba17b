//! `backstop budget`

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::failure::Failure;
use super::output::{rows, table};
use super::status::lines_table;

#[derive(Debug, Subcommand)]
pub enum Budget {
    /// Every budget, and its live lines with what is left of them
    #[command(after_help = "Example:\n  backstop budget list --json")]
    List,
}

const COLUMNS: [&str; 11] = [
    "budget",
    "scope",
    "label",
    "agents",
    "models",
    "tools",
    "labels",
    "window",
    "limit_usd",
    "alert_at",
    "response",
];

impl Budget {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List = self;
        let answer = context.client()?.get(&["budgets"], &[]).await?;
        context.output.answer(&answer, |value| {
            let budgets = rows(value, "budgets");
            let lines: Vec<Value> = budgets
                .iter()
                .flat_map(|budget| rows(budget, "lines"))
                .chain(rows(value, "lines"))
                .cloned()
                .collect();
            let mut rendered = table(budgets, &COLUMNS, "no budget is configured: every call is refused");
            if !lines.is_empty() {
                rendered.push_str("\n\n");
                rendered.push_str(&lines_table(&lines));
            }
            rendered
        })
    }
}
