//! `backstop spend`

use clap::{Args, ValueEnum};

use super::context::Context;
use super::failure::Failure;
use super::output::{rows, table, text};
use super::when::When;
use crate::domain::id::{AgentId, TaskId};

/// What was spent, by agent, task, model, service, tool or day
///
/// Times are taken in whole hours: the start is rounded down, the end up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  backstop spend --since 24h\n  backstop spend support-bot --by model --since 2026-11-01"
)]
pub struct Spend {
    /// Only this agent's
    agent: Option<AgentId>,
    /// What to add up by
    #[arg(long, value_enum, default_value_t = By::Agent)]
    by: By,
    /// Only this task's
    #[arg(long)]
    task: Option<TaskId>,
    /// From this time on: a time, a date, or how long ago (24h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Agent,
    Task,
    Model,
    Service,
    Tool,
    Day,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Task => "task",
            Self::Model => "model",
            Self::Service => "service",
            Self::Tool => "tool",
            Self::Day => "day",
        }
    }
}

impl Spend {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (since, until) = (self.since.map(When::past), self.until.map(When::past));
        let mut query = vec![("by", self.by.as_str())];
        let optional = [
            ("agent", self.agent.as_ref().map(AgentId::as_str)),
            ("task", self.task.as_ref().map(TaskId::as_str)),
            ("since", since.as_deref()),
            ("until", until.as_deref()),
        ];
        query.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
        let answer = context.client()?.get(&["spend"], &query).await?;
        context.output.answer(&answer, |value| {
            let mut rendered = table(
                rows(value, "rows"),
                &["key", "amount_usd", "unresolved_usd", "postings"],
                "nothing was spent",
            );
            let total = text(value, "total_usd");
            if !total.is_empty() {
                rendered.push_str(&format!("\n\ntotal: ${total}"));
            }
            rendered
        })
    }
}
