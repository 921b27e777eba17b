//! Checks that need more than one section.

use super::agents::Agents;
use super::reader::Table;
use super::settings::{Agent, Aws, BudgetRule, Ledger, Server};
use crate::domain::ledger::line::Response;

/// A waiter must be answered before its request times out.
pub(super) fn timeouts(root: &Table<'_>, server: &Server, ledger: &Ledger) {
    if server.request_timeout > ledger.hold_wait {
        return;
    }
    let item = |section, key| root.get(section)?.table()?.get(key);
    let (timeout, wait) = (item("server", "request_timeout"), item("ledger", "hold_wait"));
    // At the one that somebody set.
    let culprit = match (&timeout, &wait) {
        (Some(timeout), Some(wait)) if timeout.is_built_in() => Some(wait),
        _ => timeout.as_ref(),
    };
    if let Some(item) = culprit {
        item.error(
            "server.request_timeout must be longer than ledger.hold_wait",
            "else a call that waits for room is cut off before it is answered",
        );
    }
}

/// Warns of agents that no budget guards and of responses that have nothing to act on.
pub(super) fn coverage(root: &Table<'_>, aws: &Aws, agents: &Agents, budgets: &[BudgetRule]) {
    let selects = |rule: &BudgetRule, agent: &Agent| {
        rule.budget
            .selector
            .agents
            .as_ref()
            .is_none_or(|set| set.is_match(agent.id.as_str()))
    };
    if agents.list.is_empty() {
        if !budgets.is_empty() {
            root.warning("no [[agent]] is configured, so nobody can report or spend", None);
        }
        return;
    }
    let report = root.report();
    for (agent, origin) in agents.list.iter().zip(&agents.origins) {
        if !budgets.iter().any(|rule| selects(rule, agent)) {
            let message = format!("no budget selects agent {}, so every call of it is refused", agent.id);
            report.warning(
                origin,
                "agent",
                &message,
                Some("add a [[budget]] that selects it".to_owned()),
            );
        }
    }
    let tables = root.get("budget").and_then(|item| item.tables()).unwrap_or_default();
    for (rule, table) in budgets.iter().zip(&tables) {
        let hard = matches!(rule.budget.response, Response::Revoke | Response::Contain);
        let mut selected = agents.list.iter().filter(|agent| selects(rule, agent)).peekable();
        if hard
            && selected.peek().is_some()
            && selected.all(|agent| agent.cloud.is_none())
            && let Some(response) = table.get("response")
        {
            response.warning(
                "no agent that this budget selects has [agent.aws]: they are frozen here, and no cloud is touched",
                None,
            );
        }
    }
    if !aws.enabled
        && let Some((agent, origin)) = agents
            .list
            .iter()
            .zip(&agents.origins)
            .find(|(agent, _)| agent.cloud.is_some())
    {
        let message = format!(
            "agent {} has [agent.aws], but aws.enabled is false: nothing in AWS is touched",
            agent.id
        );
        report.warning(origin, "agent.aws", &message, Some("set aws.enabled = true".to_owned()));
    }
}
