//! `backstop review`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::{field, record, rows, table, text};
use super::status::REVIEW_COLUMNS;
use crate::domain::id::ReviewId;

#[derive(Debug, Subcommand)]
pub enum Review {
    /// What waits for a person
    #[command(after_help = "Example:\n  backstop review list --all")]
    List {
        /// Also those that are decided
        #[arg(long)]
        all: bool,
    },
    /// One item with its evidence
    #[command(after_help = "Example:\n  backstop review show ID")]
    Show {
        /// From `review list`
        id: ReviewId,
    },
    /// Approve it: what its summary says of approving is done
    #[command(after_help = "Example:\n  backstop review approve ID --note \"known, a migration\"")]
    Approve(Decide),
    /// Deny it: what its summary says of denying is done
    #[command(after_help = "Example:\n  backstop review deny ID")]
    Deny(Decide),
}

#[derive(Debug, Args)]
pub struct Decide {
    /// From `review list`
    id: ReviewId,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    note: String,
}

impl Review {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self {
            Self::List { all } => {
                let answer = client
                    .get(&["reviews"], &[("all", if all { "true" } else { "false" })])
                    .await?;
                let columns = [REVIEW_COLUMNS.as_slice(), &["decision.approved", "decision.by"]].concat();
                context.output.answer(&answer, |value| {
                    table(rows(value, "reviews"), &columns, "nothing waits for a person")
                })
            }
            Self::Show { id } => {
                let answer = client.get(&["reviews", &id.to_string()], &[]).await?;
                context.output.answer(&answer, |value| record(value, &[]))
            }
            Self::Approve(decide) => decide.run(context, true).await,
            Self::Deny(decide) => decide.run(context, false).await,
        }
    }
}

impl Decide {
    async fn run(self, context: &Context, approve: bool) -> Result<(), Failure> {
        let body = json!({ "approve": approve, "note": self.note });
        let answer = context
            .client()?
            .post(&["reviews", &self.id.to_string()], &body)
            .await?;
        context.output.answer(&answer, |value: &Value| {
            let done = if approve { "approved" } else { "denied" };
            let agent = field(value, "agent")
                .map(|_| format!(" for {}", text(value, "agent")))
                .unwrap_or_default();
            format!("{done} {}{agent}", self.id)
        })
    }
}
