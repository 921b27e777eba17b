//! Budgets with their lines, spend, prices.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminApi;
use crate::domain::id::{AgentId, TaskId};
use crate::http::agent::query;
use crate::http::error::Failure;
use crate::http::view;
use crate::ports::{LineQuery, SpendBy, SpendQuery};

/// Lines in one answer at most.
const MAX_LINES: u32 = 10_000;
/// Rows of a spend report at most; the largest first.
const MAX_ROWS: u32 = 10_000;

/// Every budget of the config with its live lines.
pub(super) async fn list(State(api): State<Arc<AdminApi>>) -> Result<Json<Value>, Failure> {
    let now = api.ledger.now();
    let settings = api.settings.current();
    let query = LineQuery {
        open_at: Some(now),
        limit: Some(MAX_LINES),
        ..LineQuery::default()
    };
    let lines = api.store.lines(&query).await?;
    let budgets = settings.budgets.iter().map(|rule| {
        let budget = &rule.budget;
        let own = lines.iter().filter(|line| line.key.budget == budget.id);
        json!({
            "budget": budget.id,
            "scope": budget.scope,
            "label": budget.label,
            "window": view::window(&budget.window),
            "limit_usd": budget.limit.to_string(),
            "alert_at": budget.alert_at,
            "response": budget.response,
            "agents": rule.patterns.agents,
            "models": rule.patterns.models,
            "tools": rule.patterns.tools,
            "labels": rule.patterns.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
            "lines": own.map(|line| view::line(line, now)).collect::<Vec<_>>(),
        })
    });
    Ok(Json(json!({ "budgets": budgets.collect::<Vec<_>>() })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpendParameters {
    by: Option<SpendBy>,
    agent: Option<AgentId>,
    task: Option<TaskId>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<u32>,
}

/// Spend by agent, task, model, service, tool or day, in whole UTC hours.
pub(super) async fn spend(
    State(api): State<Arc<AdminApi>>,
    parameters: Result<Query<SpendParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let parameters = query(parameters)?;
    let by = parameters.by.unwrap_or(SpendBy::Agent);
    let wanted = SpendQuery {
        agent: parameters.agent,
        task: parameters.task,
        by,
        since: parameters.since,
        until: parameters.until,
        limit: parameters.limit.unwrap_or(MAX_ROWS).min(MAX_ROWS),
    };
    let (total, unresolved) = api.store.spend_total(&wanted).await?;
    let rows = api.store.spend(&wanted).await?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "key": row.key,
                "amount_usd": row.amount.to_string(),
                "unresolved_usd": row.unresolved.to_string(),
                "postings": row.postings,
            })
        })
        .collect();
    Ok(Json(json!({
        "by": by,
        "since": parameters.since,
        "until": parameters.until,
        "total_usd": total.to_string(),
        "unresolved_usd": unresolved.to_string(),
        "rows": rows,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceParameters {
    model: Option<String>,
}

/// The catalogue in force, or the entries whose model contains a text.
pub(super) async fn prices(
    State(api): State<Arc<AdminApi>>,
    parameters: Result<Query<PriceParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let wanted = query(parameters)?.model;
    let catalogue = api.catalogue.load();
    let entries = catalogue.iter();
    let rows: Vec<Value> = entries
        .iter()
        .filter(|(_, entry)| {
            wanted
                .as_ref()
                .is_none_or(|wanted| entry.model.contains(wanted.as_str()))
        })
        .map(|(layer, entry)| view::price(layer.name(), entry))
        .collect();
    Ok(Json(json!({ "prices": rows })))
}
