//! `backstop pause` and `backstop resume`

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::text;
use crate::domain::id::AgentId;

/// Let an agent's calls wait until a person resumes it; its cloud side goes on
///
/// Nothing is lost: what waits can go on. The agent's machines and roles are not touched; for that,
/// see `backstop contain`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstop pause support-bot --reason \"looks odd\"")]
pub struct Pause {
    /// Its id
    agent: AgentId,
    /// Why, for the audit log and for whoever resumes it
    #[arg(long, default_value = "an operator paused it")]
    reason: String,
}

/// Let a paused agent go on
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstop resume support-bot")]
pub struct Resume {
    /// Its id
    agent: AgentId,
    /// Why, for the audit log
    #[arg(long, default_value = "an operator resumed it")]
    reason: String,
}

impl Pause {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        change(context, &self.agent, "pause", &self.reason).await
    }
}

impl Resume {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        change(context, &self.agent, "resume", &self.reason).await
    }
}

async fn change(context: &Context, agent: &AgentId, verb: &str, reason: &str) -> Result<(), Failure> {
    let answer = context
        .client()?
        .post(&["agents", agent.as_str(), verb], &json!({ "reason": reason }))
        .await?;
    context.output.answer(&answer, |value| now_is(agent, value))
}

/// `support-bot is paused`
pub(super) fn now_is(agent: &AgentId, value: &Value) -> String {
    match text(value, "status") {
        status if status.is_empty() => format!("{agent}: done"),
        status => format!("{agent} is {status}"),
    }
}
