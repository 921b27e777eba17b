//! What an agent can learn of its own calls: what one cost, and when it may go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::agent::{AgentApi, Caller, query};
use super::error::Failure;
use super::holds::{hold_id, own_hold};
use super::path::Path;
use crate::domain::agent::AgentStatus;
use crate::domain::id::TaskId;
use crate::domain::ledger::hold::HoldState;
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::ports::PostingQuery;

/// Postings of one hold: the one that ended it, and what corrected that.
const MAX_POSTINGS: u32 = 100;

/// `GET /v1/calls/{id}`: a call's hold, and what it cost as far as that is known.
pub(super) async fn show(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let hold = own_hold(&api, &agent, hold_id(&id)?).await?;
    let page = PostingQuery {
        hold: Some(hold.id),
        limit: MAX_POSTINGS,
        ..PostingQuery::default()
    };
    let postings = api.store.postings(&page).await?;
    let cost = match hold.state {
        HoldState::Open => None,
        HoldState::Voided => Some(Usd::ZERO),
        // Old postings roll up, and then nobody can tell one call's from the others'.
        HoldState::Captured | HoldState::Unresolved if postings.is_empty() => None,
        HoldState::Captured | HoldState::Unresolved => Some(postings.iter().map(|posting| posting.amount).sum()),
    };
    let corrected: BTreeSet<_> = postings.iter().filter_map(|posting| posting.corrects).collect();
    let upstream_request = postings
        .iter()
        .rev()
        .find_map(|posting| posting.upstream_request.as_deref());
    Ok(Json(json!({
        "call_id": hold.id,
        "agent": hold.attribution.agent,
        "task": hold.attribution.task,
        "service": hold.attribution.service,
        "model": hold.attribution.model,
        "state": hold.state,
        "bound_usd": hold.bound.to_string(),
        "cost_usd": cost.map(|cost| cost.to_string()),
        // Its bound stands for its cost until evidence replaces it.
        "unresolved": hold.state == HoldState::Unresolved && corrected.is_empty(),
        "upstream_request": upstream_request,
        "opened_at": hold.opened_at,
        "ended_at": hold.ended_at,
        "budgets": hold.lines.iter().map(|key| &key.budget).collect::<Vec<_>>(),
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitParameters {
    /// Seconds.
    #[serde(default = "usual_wait")]
    timeout_s: u64,
}

const fn usual_wait() -> u64 {
    30
}

/// The longest that a client may wait in one request.
const MAX_WAIT_S: u64 = 60;

/// `GET /v1/tasks/{id}/wait`: answers when the agent is active, or when the time is over. A state that no
/// pause ends by itself (contained, restoring) is waited for as well: a person puts it back.
pub(super) async fn wait(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Extension<Caller>,
    Path(task): Path<String>,
    parameters: Result<Query<WaitParameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let task = TaskId::new(&task).map_err(|error| Rejection::Field {
        field: "task".to_owned(),
        problem: error.to_string(),
    })?;
    let seconds = query(parameters)?.timeout_s.min(MAX_WAIT_S);
    // Half of the request's own time, so that there is some left to answer in.
    let limit = Duration::from_secs(seconds).min(api.limits.timeout / 2);
    let mut statuses = api.ledger.agents();
    let active = statuses.wait_for(|statuses| statuses.of(&agent) == AgentStatus::Active);
    tokio::select! {
        biased;
        _ = active => {}
        () = api.clock.sleep(limit) => {}
    }
    // The word that counts, and the reason, are the store's.
    let state = api.store.agent(&agent).await?;
    Ok(Json(json!({
        "agent": agent,
        "task": task,
        "status": state.status,
        "active": state.status == AgentStatus::Active,
        "since": state.since,
        "reason": state.reason,
    })))
}
