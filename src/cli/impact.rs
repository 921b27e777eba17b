//! What a destructive command would do, before it does it.

use serde_json::Value;

use super::client::{Answer, Client};
use super::context::Context;
use super::failure::Failure;
use super::output::{field, indent, record, rows, table, text};
use super::status::lines_table;
use crate::domain::id::AgentId;

/// Asks what an action would do. `action` is `contain` or `reset`; `query` says how.
pub(super) async fn ask(
    client: &Client,
    agent: &AgentId,
    action: &str,
    query: &[(&str, &str)],
) -> Result<Answer, Failure> {
    let mut all = vec![("action", action)];
    all.extend_from_slice(query);
    client.get(&["agents", agent.as_str(), "impact"], &all).await
}

pub(super) fn render(impact: &Value) -> String {
    let mut blocks = vec![record(
        impact,
        &["steps", "lines", "still_burning", "warnings", "refused"],
    )];
    let steps = rows(impact, "steps");
    if steps.is_empty() {
        // A containment has a mode, and freezes whatever there is in the cloud.
        let frozen = if field(impact, "mode").is_some() {
            "; the agent itself is frozen"
        } else {
            ""
        };
        blocks.push(format!("no steps: there is nothing in the cloud to change{frozen}"));
    } else {
        blocks.push(format!(
            "steps ({}):\n{}",
            steps.len(),
            indent(&table(steps, &STEP_COLUMNS, ""))
        ));
    }
    let lines = rows(impact, "lines");
    if !lines.is_empty() {
        blocks.push(format!("budgets:\n{}", indent(&lines_table(lines))));
    }
    let burning = rows(impact, "still_burning");
    if !burning.is_empty() {
        let burning = table(burning, &["resource", "why"], "");
        blocks.push(format!("still burning:\n{}", indent(&burning)));
    }
    for warning in rows(impact, "warnings") {
        blocks.push(format!("warning: {}", super::output::show(warning)));
    }
    if let Some(refused) = field(impact, "refused") {
        let why = if refused.is_object() {
            text(refused, "message")
        } else {
            super::output::show(refused)
        };
        blocks.push(format!("it would be refused: {why}"));
    }
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n\n")
}

const STEP_COLUMNS: [&str; 4] = ["action", "resource", "region", "note"];

/// Prints the impact, and ends the command without having done anything.
pub(super) fn stop_without_yes(context: &Context, impact: &Answer) -> Result<(), Failure> {
    context.output.answer(impact, render)?;
    context
        .output
        .say("nothing was done: to do it, give the same command with --yes");
    Err(Failure::Reported)
}
