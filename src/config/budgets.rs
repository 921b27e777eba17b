//! `[[budget]]`

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::GlobSet;

use super::agents::{Agents, place};
use super::reader::{Item, Table};
use super::sections::MAX_LIMIT;
use super::settings::{BudgetRule, Patterns};
use super::tree::Origin;
use super::values;
use super::window::window;
use crate::domain::budget::{Budget, Selector};
use crate::domain::id::{BudgetId, LabelKey};
use crate::domain::ledger::line::{Response, Scope};
use crate::domain::money::Usd;

/// Budgets at most: a call is matched against each of them.
const MAX_BUDGETS: usize = 10_000;

pub(super) fn budgets(item: Option<Item<'_>>, agents: &Agents) -> Option<Vec<BudgetRule>> {
    let Some(item) = item else { return Some(Vec::new()) };
    let tables = item.tables()?;
    if tables.len() > MAX_BUDGETS {
        item.error(
            &format!("{} budgets, and at most {MAX_BUDGETS} are taken", tables.len()),
            None,
        );
        return None;
    }
    let mut seen: BTreeMap<BudgetId, &Origin> = BTreeMap::new();
    let rules: Vec<Option<BudgetRule>> = tables.iter().map(|table| budget(table, agents, &mut seen)).collect();
    rules.into_iter().collect()
}

fn budget<'a>(table: &Table<'a>, agents: &Agents, seen: &mut BTreeMap<BudgetId, &'a Origin>) -> Option<BudgetRule> {
    let id = table
        .required("name", "every budget has a name = \"…\"")
        .and_then(|item| name(&item, seen));
    let scope = table
        .required(
            "scope",
            "one of \"fleet\", \"agent\", \"task\", \"model\", \"tool\", \"label\"",
        )
        .and_then(|item| item.word(&SCOPES));
    let label = label(table, scope);
    let agent_globs = selector(table, "agents");
    let model_globs = selector(table, "models");
    let tool_globs = selector(table, "tools");
    let labels = label_selectors(table);
    let window = window(table);
    let limit = table
        .required("limit_usd", "the limit in dollars, such as limit_usd = \"50\"")
        .and_then(|item| limit(&item));
    let response = table
        .required(
            "response",
            "what to do at a breach: \"alert\", \"pause\", \"revoke\" or \"contain\"",
        )
        .and_then(|item| item.word(&RESPONSES));
    let alert_at = match table.get("alert_at") {
        Some(item) => alert_at(&item, response),
        None => Some(vec![50, 80]),
    };
    if let Some(Some(globs)) = &agent_globs {
        selects_someone(globs, agents);
    }
    table.finish();

    let (agent_globs, model_globs, tool_globs, labels) = (agent_globs?, model_globs?, tool_globs?, labels?);
    let texts = |globs: &Option<Globs<'_>>| globs.as_ref().map_or_else(Vec::new, |globs| globs.patterns.clone());
    let patterns = Patterns {
        agents: texts(&agent_globs),
        models: texts(&model_globs),
        tools: texts(&tool_globs),
        labels: labels
            .iter()
            .map(|(key, globs)| (key.to_string(), globs.patterns.clone()))
            .collect(),
    };
    let set = |globs: Option<Globs<'_>>| globs.map(|globs| globs.set);
    let budget = Budget {
        id: id?,
        scope: scope?,
        label: label?,
        selector: Selector {
            agents: set(agent_globs),
            models: set(model_globs),
            tools: set(tool_globs),
            labels: labels.into_iter().map(|(key, globs)| (key, globs.set)).collect(),
        },
        window: window?,
        limit: limit?,
        alert_at: alert_at?,
        response: response?,
    };
    Some(BudgetRule {
        budget: Arc::new(budget),
        patterns,
    })
}

const SCOPES: [(&str, Scope); 6] = [
    ("fleet", Scope::Fleet),
    ("agent", Scope::Agent),
    ("task", Scope::Task),
    ("model", Scope::Model),
    ("tool", Scope::Tool),
    ("label", Scope::Label),
];

const RESPONSES: [(&str, Response); 4] = [
    ("alert", Response::Alert),
    ("pause", Response::Pause),
    ("revoke", Response::Revoke),
    ("contain", Response::Contain),
];

fn name<'a>(item: &Item<'a>, seen: &mut BTreeMap<BudgetId, &'a Origin>) -> Option<BudgetId> {
    let id = BudgetId::new(item.text()?).map_err(|error| item.no_name(&error)).ok()?;
    if let Some(first) = seen.insert(id.clone(), item.origin()) {
        item.error(
            &format!("budget {id} is named twice, first {}", place(first)),
            "names are unique",
        );
        return None;
    }
    Some(id)
}

/// `label` and `scope = "label"` come together or not at all.
fn label(table: &Table<'_>, scope: Option<Scope>) -> Option<Option<LabelKey>> {
    let item = table.get("label");
    match (item, scope) {
        (Some(item), Some(Scope::Label) | None) => label_key(&item, item.text()?).map(Some),
        (Some(item), Some(_)) => {
            item.error(
                "is only for scope = \"label\"",
                "to select by labels, write labels = { team = [\"research\"] }",
            );
            None
        }
        (None, Some(Scope::Label)) => {
            table.missing(
                "label",
                "scope = \"label\" needs the label whose values are added up apart",
            );
            None
        }
        (None, _) => Some(None),
    }
}

fn label_key(item: &Item<'_>, text: &str) -> Option<LabelKey> {
    LabelKey::new(text)
        .map_err(|error| item.error(&error.to_string(), None))
        .ok()
}

/// A compiled selector.
struct Globs<'a> {
    item: Item<'a>,
    patterns: Vec<String>,
    set: GlobSet,
}

/// `Some(None)` when it is left out and so selects all.
fn selector<'a>(table: &Table<'a>, key: &'static str) -> Option<Option<Globs<'a>>> {
    table.get(key).map_or(Some(None), |item| globs(item).map(Some))
}

fn globs(item: Item<'_>) -> Option<Globs<'_>> {
    let patterns = item.texts(1000, |item, text| {
        let sound = !text.is_empty() && text.len() <= 256 && values::globs(std::iter::once(text)).is_some();
        if !sound {
            item.error(
                &format!("{} is not a glob", values::shown(text)),
                "such as \"support-*\" or \"gpt-5*\"",
            );
        }
        sound.then(|| text.to_owned())
    })?;
    if patterns.is_empty() {
        item.error("selects nothing", "leave it out to select all");
        return None;
    }
    let Some(set) = values::globs(patterns.iter().map(String::as_str)) else {
        item.error("is too large a set of globs", None);
        return None;
    };
    Some(Globs { item, patterns, set })
}

fn label_selectors<'a>(table: &Table<'a>) -> Option<Vec<(LabelKey, Globs<'a>)>> {
    let Some(item) = table.get("labels") else {
        return Some(Vec::new());
    };
    let entries = item.table()?.items();
    let read: Vec<Option<(LabelKey, Globs<'a>)>> = entries
        .into_iter()
        .map(|(key, item)| {
            let key = label_key(&item, key);
            let globs = globs(item);
            Some((key?, globs?))
        })
        .collect();
    read.into_iter().collect()
}

/// A selector that matches no agent is a slip of the pen: the budget would guard nobody.
fn selects_someone(globs: &Globs<'_>, agents: &Agents) {
    if !agents.whole || agents.list.is_empty() || globs.item.report().is_broken() {
        return;
    }
    if !agents.list.iter().any(|agent| globs.set.is_match(agent.id.as_str())) {
        let names: Vec<&str> = agents.list.iter().take(10).map(|agent| agent.id.as_str()).collect();
        let more = if agents.list.len() > names.len() { ", …" } else { "" };
        let hint = format!("the agents are: {}{more}", names.join(", "));
        globs.item.error_hint("selects no agent", hint);
        return;
    }
    for pattern in &globs.patterns {
        let alone = values::globs(std::iter::once(pattern.as_str()));
        if alone.is_some_and(|set| !agents.list.iter().any(|agent| set.is_match(agent.id.as_str()))) {
            globs
                .item
                .warning(&format!("{} matches no agent", values::shown(pattern)), None);
        }
    }
}

fn limit(item: &Item<'_>) -> Option<Usd> {
    let amount = item.usd()?;
    if amount <= Usd::ZERO {
        item.error(
            "must be above zero",
            "to stop an agent altogether, use: backstop pause AGENT",
        );
        return None;
    }
    if amount > MAX_LIMIT {
        item.error(
            "must be at most one billion dollars",
            "a limit that nothing can reach guards nothing",
        );
        return None;
    }
    Some(amount)
}

/// Ascending and each once. Above 100 only where the budget itself does not stop anything.
fn alert_at(item: &Item<'_>, response: Option<Response>) -> Option<Vec<u16>> {
    let max = if matches!(response, Some(Response::Alert) | None) {
        1000
    } else {
        100
    };
    let mut percentages: Vec<u16> = item.integers(20, &(1..=max))?;
    percentages.sort_unstable();
    percentages.dedup();
    Some(percentages)
}
