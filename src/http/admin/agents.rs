//! Agents: their state, their keys, and what an operator does with them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::impact::{plan_view, reset_view};
use super::order::Order;
use super::{AdminApi, By, agent_of, audited, bounded, drills, fleet, live_keys};
use crate::domain::containment::state::{Mode, Phase};
use crate::domain::id::{AgentId, KeyId};
use crate::domain::judgement::reset::{LineChanges, ResetOptions, ResetRejection};
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::http::agent::query;
use crate::http::auth::new_key;
use crate::http::error::Failure;
use crate::http::path::Path;
use crate::http::view;
use crate::ledger::Ledger;
use crate::ports::LineQuery;
use crate::watch::lifecycle::ResetError;

/// Containments that are looked through for the last one that was no drill.
const CONTAINMENTS: u32 = 100;

/// Machines that one reset may name.
const MAX_ONLY: usize = 10_000;

pub(super) async fn list(State(api): State<Arc<AdminApi>>) -> Result<Json<Value>, Failure> {
    let known = api.store.agents().await?;
    let keys = api.store.keys().await?;
    let agents: Vec<Value> = api
        .agents
        .load()
        .iter()
        .map(|id| {
            let state = known.iter().find(|state| state.id == *id);
            view::agent(id, state, live_keys(&keys, id))
        })
        .collect();
    Ok(Json(json!({ "agents": agents })))
}

pub(super) async fn show(State(api): State<Arc<AdminApi>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let agent = agent_of(&api, &id).await?;
    let now = api.ledger.now();
    let state = api.store.agent(&agent).await?;
    let query = LineQuery {
        agent: Some(agent.clone()),
        open_at: Some(now),
        limit: Some(10_000),
        ..LineQuery::default()
    };
    let lines = api.store.lines(&query).await?;
    let keys = api.store.keys().await?;
    let keys: Vec<Value> = keys
        .iter()
        .filter(|key| key.agent == agent)
        .map(|key| json!({ "id": key.id, "created_at": key.created_at, "revoked_at": key.revoked_at }))
        .collect();
    let containments = api.store.containments_of(&agent, CONTAINMENTS).await?;
    // A drill that is over is told among the drills.
    let containment = containments
        .iter()
        .find(|one| one.canary.is_none() || one.phase != Phase::Closed);
    let reviews = api.store.reviews(true, 1_000).await?;
    let settings = api.settings.current();
    let configured = settings.agent(&agent);
    Ok(Json(json!({
        "id": agent,
        "status": state.status,
        "since": (state.version > 0).then_some(state.since),
        "reason": state.reason,
        "cloud": configured.and_then(|agent| agent.cloud.as_ref()),
        "manifest": configured.and_then(|agent| Some(view::manifest(agent.manifest.as_ref()?))),
        "burn": fleet::burn_of(&api.fleet.burn_of(&agent)),
        "drill": drills::readiness_of(&api, &agent).await?,
        "lines": lines.iter().map(|line| view::line(line, now)).collect::<Vec<_>>(),
        "keys": keys,
        "containment": containment.map(view::containment),
        "reviews": reviews.iter().filter(|review| review.agent == agent).map(view::review).collect::<Vec<_>>(),
    })))
}

/// Makes a key. The secret is in this answer and nowhere else.
pub(super) async fn add_key(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let agent = agent_of(&api, &id).await?;
    let (secret, key) = new_key(agent.clone(), &*api.clock, &*api.entropy);
    audited(
        &api,
        &by,
        "key_added",
        Some(&agent),
        "an operator made a key",
        json!({ "key": key.id }),
    )
    .await?;
    api.store.add_key(&key).await?;
    api.keys.refresh(&*api.store).await?;
    let body = json!({ "id": key.id, "agent": agent, "key": secret, "created_at": key.created_at });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

pub(super) async fn revoke_key(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let agent = agent_of(&api, &id).await?;
    let unknown = || Rejection::NotFound {
        what: "key",
        id: key.chars().take(64).collect(),
    };
    let key_id: KeyId = key.parse().map_err(|_| unknown())?;
    let keys = api.store.keys().await?;
    let known = keys
        .iter()
        .find(|known| known.id == key_id && known.agent == agent)
        .ok_or_else(unknown)?;
    if known.revoked_at.is_none() {
        audited(
            &api,
            &by,
            "key_revoked",
            Some(&agent),
            "an operator revoked a key",
            json!({ "key": key_id }),
        )
        .await?;
        api.store.revoke_key(key_id, api.clock.now()).await?;
        api.keys.refresh(&*api.store).await?;
    }
    Ok(Json(json!({ "id": key_id, "agent": agent, "revoked": true })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReasonBody {
    reason: String,
}

pub(super) async fn pause(
    State(api): State<Arc<AdminApi>>,
    Order { by, agent, asked }: Order<ReasonBody>,
) -> Result<Json<Value>, Failure> {
    api.watch.pause(&agent, &by.0, &bounded(&asked.reason)).await?;
    state_of(&api, &agent).await
}

pub(super) async fn resume(
    State(api): State<Arc<AdminApi>>,
    Order { by, agent, asked }: Order<ReasonBody>,
) -> Result<Json<Value>, Failure> {
    api.watch.resume(&agent, &by.0, &bounded(&asked.reason)).await?;
    state_of(&api, &agent).await
}

async fn state_of(api: &AdminApi, agent: &AgentId) -> Result<Json<Value>, Failure> {
    let state = api.store.agent(agent).await?;
    let containments = api.store.containments_of(agent, 1).await?;
    let live = containments
        .first()
        .filter(|containment| Some(containment.id) == state.containment);
    Ok(Json(json!({
        "id": agent,
        "status": state.status,
        "since": state.since,
        "reason": state.reason,
        "containment": live.map(view::containment),
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ContainBody {
    mode: Mode,
    cause: String,
    dry_run: bool,
}

impl Default for ContainBody {
    fn default() -> Self {
        Self {
            mode: Mode::Contain,
            cause: "an operator asked for it".to_owned(),
            dry_run: false,
        }
    }
}

/// Contains an agent by hand. What it does not wait for is the cloud: the kill switch has it from here.
pub(super) async fn contain(
    State(api): State<Arc<AdminApi>>,
    Order { by, agent, asked }: Order<ContainBody>,
) -> Result<Json<Value>, Failure> {
    if asked.dry_run {
        let report = api.killswitch.dry_run(&agent, asked.mode).await?;
        return Ok(Json(plan_view(&report)));
    }
    api.watch
        .contain(&agent, asked.mode, &by.0, &bounded(&asked.cause))
        .await?;
    state_of(&api, &agent).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImpactParameters {
    action: ImpactAction,
    #[serde(default)]
    mode: Option<Mode>,
    /// Ids joined by commas.
    #[serde(default)]
    only: Option<String>,
    #[serde(default)]
    raise_usd: Option<String>,
    #[serde(default)]
    until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ImpactAction {
    Contain,
    Reset,
    /// A canary drill.
    Drill,
}

/// What a destructive command would do; changes nothing.
pub(super) async fn impact(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
    Path(id): Path<String>,
    parameters: Result<Query<ImpactParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let agent = agent_of(&api, &id).await?;
    let asked = query(parameters)?;
    match asked.action {
        ImpactAction::Contain => {
            let report = api
                .killswitch
                .dry_run(&agent, asked.mode.unwrap_or(Mode::Contain))
                .await?;
            Ok(Json(plan_view(&report)))
        }
        ImpactAction::Drill => {
            let found = api.killswitch.canaries(&agent).await?;
            Ok(Json(drills::canary_view(&agent, &found)))
        }
        ImpactAction::Reset => {
            let only = asked.only.as_deref().unwrap_or_default();
            let only = only
                .split(',')
                .map(str::trim)
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
                .collect();
            let options = options(only, asked.raise_usd.as_deref(), asked.until, &by.0)?;
            let checked = api.watch.check_reset(&agent, &options).await;
            // Of an agent that is not contained there is no impact to tell; why not is the better answer.
            let checked = match checked {
                Err(ResetError::Rejected(rejection @ ResetRejection::NotContained { .. })) => {
                    return Err(ResetError::Rejected(rejection).into());
                }
                checked => checked,
            };
            let impact = api.killswitch.impact(&agent, &options.only).await?;
            Ok(Json(reset_view(&impact, checked)))
        }
    }
}

fn options(
    only: Vec<String>,
    raise: Option<&str>,
    until: Option<Timestamp>,
    by: &str,
) -> Result<ResetOptions, Rejection> {
    let field = |field: &str, problem: String| Rejection::Field {
        field: field.to_owned(),
        problem,
    };
    if only.len() > MAX_ONLY {
        return Err(field("only", format!("at most {MAX_ONLY} ids")));
    }
    let raise = match raise {
        None => None,
        Some(text) => Some(
            text.parse::<Usd>()
                .map_err(|problem| field("raise_usd", problem.to_string()))?,
        ),
    };
    Ok(ResetOptions {
        raise,
        until,
        only,
        by: by.to_owned(),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResetBody {
    raise_usd: Option<String>,
    until: Option<Timestamp>,
    only: Vec<String>,
    note: String,
}

/// Restores and returns to active: first the lines are raised or lifted and armed, then the kill switch
/// puts everything back, and the agent thaws last.
pub(super) async fn reset(
    State(api): State<Arc<AdminApi>>,
    Order { by, agent, asked }: Order<ResetBody>,
) -> Result<Json<Value>, Failure> {
    let note = bounded(&asked.note);
    let options = options(asked.only, asked.raise_usd.as_deref(), asked.until, &by.0)?;
    if !note.is_empty() {
        audited(&api, &by, "reset_note", Some(&agent), &note, json!({})).await?;
    }
    let ledger = api.ledger.clone();
    api.watch
        .reset(&agent, &options, |changes| change_lines(ledger.clone(), changes))
        .await?;
    state_of(&api, &agent).await
}

/// The ledger's part of a reset, in its order.
pub(crate) async fn change_lines(ledger: Ledger, changes: LineChanges) -> Result<(), String> {
    for change in changes.overrides {
        let done = ledger
            .override_line(change.line, change.raise, change.lifted_until)
            .await;
        done.map_err(|failure| failure.to_string())?;
    }
    for line in changes.rearm {
        ledger.rearm(line).await.map_err(|failure| failure.to_string())?;
    }
    Ok(())
}
