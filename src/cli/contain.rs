//! `backstop contain`

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::impact;
use super::lifecycle::now_is;
use super::output::{field, indent};
use super::status::containment_text;
use crate::domain::id::AgentId;

/// Throw the kill switch: freeze the agent, deny its principals, stop its machines
///
/// It freezes the agent here, denies its roles and users, disables its access keys and stops its
/// machines, and keeps them down until `backstop reset`. What was there before is recorded first.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  backstop contain support-bot --dry-run\n  backstop contain support-bot --yes --reason \"scans the network\""
)]
pub struct Contain {
    /// Its id
    agent: AgentId,
    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// End after the deny: its machines run on
    #[arg(long)]
    revoke: bool,
    /// Do it; without it only the impact is printed
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Why, for the audit log and for whoever resets it
    #[arg(long, default_value = "an operator asked for it")]
    reason: String,
}

impl Contain {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let mode = if self.revoke { "revoke" } else { "contain" };
        let path = ["agents", self.agent.as_str(), "contain"];
        let body = json!({ "mode": mode, "cause": self.reason, "dry_run": self.dry_run });
        if self.dry_run {
            return context.output.answer(&client.post(&path, &body).await?, impact::render);
        }
        let impact = impact::ask(&client, &self.agent, "contain", &[("mode", mode)]).await;
        if !self.yes {
            return impact::stop_without_yes(context, &impact?);
        }
        match impact {
            Ok(impact) => context.output.say(&impact::render(&impact.value)),
            // The switch must work when the cloud cannot be looked at.
            Err(failure @ Failure::Unreachable { .. }) => return Err(failure),
            Err(failure) => context.output.say(&format!("its impact is not known: {failure}")),
        }
        let answer = client.post(&path, &body).await?;
        context.output.answer(&answer, |value| {
            let mut rendered = now_is(&self.agent, value);
            if let Some(containment) = field(value, "containment").filter(|containment| containment.is_object()) {
                rendered.push_str(&format!("\n{}", indent(&containment_text(containment))));
            }
            rendered
        })?;
        context
            .output
            .say(&format!("follow it with: backstop status {}", self.agent));
        Ok(())
    }
}
