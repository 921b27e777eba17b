//! Holds of calls that do not pass the gateway: placed, looked at, captured.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::agent::{AgentApi, Caller, Me, REMAINING, refused};
use super::body;
use super::error::Failure;
use super::path::Path;
use super::view;
use crate::domain::id::{AgentId, HoldId};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::posting::Trust;
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::domain::report::{self, Charge, parse_capture, parse_hold};
use crate::domain::wire::json::{JsonLimits, parse_strict};
use crate::ledger::{AdmitRejection, AdmitRequest, CaptureRequest};

async fn json_body(api: &AgentApi, headers: &HeaderMap, body: Body) -> Result<Value, Failure> {
    body::format(headers, false)?;
    let bytes = body::read(body, api.limits).await?;
    let _room = api.desk.room_for(&bytes).await;
    parse_strict(&bytes, &JsonLimits::default()).map_err(|problem| Rejection::Malformed(problem.to_string()).into())
}

/// `POST /v1/holds`: a durable hold of a call's worst case, or why there is none.
pub(super) async fn place(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Me,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let row = parse_hold(&json_body(&api, &headers, body).await?)?;
    let bound = row.bound(&api.catalogue.load())?;
    let ttl = row.ttl_s.map(Duration::from_secs);
    let wait = row.wait_s.map(Duration::from_secs);
    let attribution = row.attribution(agent.clone(), &api.catalogue.load());
    api.intake.admits_names(&attribution)?;
    let request = AdmitRequest {
        attribution,
        trust: Trust::Agent,
        bound: bound.into(),
        tentative: false,
        ttl,
        wait,
    };
    match api.ledger.admit(request).await {
        Ok(hold) => {
            let remaining = hold.remaining.to_string();
            let body = json!({
                "hold_id": hold.id,
                "bound_usd": hold.bound.to_string(),
                "remaining_usd": remaining,
                "expires_at": hold.expires_at,
            });
            let mut response = (StatusCode::CREATED, Json(body)).into_response();
            if let Ok(value) = HeaderValue::try_from(remaining) {
                response.headers_mut().insert(REMAINING, value);
            }
            Ok(response)
        }
        Err(AdmitRejection::Refused(refusal)) => {
            let state = api.store.agent(&agent).await?;
            let rejection = Rejection::from_refusal(refusal, bound, state.since, &state.reason);
            Err(refused_hold(&api, &agent, rejection, bound))
        }
        Err(AdmitRejection::Held { retry_after }) => {
            let rejection = Rejection::Held {
                retry_after_s: retry_after.as_secs(),
            };
            Err(refused_hold(&api, &agent, rejection, bound))
        }
        Err(AdmitRejection::Invalid(rejection)) => Err(Rejection::Ledger(rejection).into()),
        Err(AdmitRejection::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

fn refused_hold(api: &AgentApi, agent: &AgentId, rejection: Rejection, bound: Usd) -> Failure {
    let evidence = json!({ "code": rejection.code(), "bound_usd": bound.to_string() });
    refused(api, agent, rejection, &evidence)
}

pub(super) fn hold_id(text: &str) -> Result<HoldId, Failure> {
    let unknown = || Rejection::NotFound {
        what: "hold",
        id: text.chars().take(64).collect(),
    };
    text.parse().map_err(|_| unknown().into())
}

/// The caller's own hold.
pub(super) async fn own_hold(api: &AgentApi, agent: &AgentId, id: HoldId) -> Result<Hold, Failure> {
    match api.store.hold(id).await? {
        Some(hold) if hold.attribution.agent == *agent => Ok(hold),
        _ => Err(Rejection::no_hold(id).into()),
    }
}

pub(super) async fn show(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Me,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let hold = own_hold(&api, &agent, hold_id(&id)?).await?;
    Ok(Json(view::hold(&hold)))
}

/// An agent's own key cannot void (section 6.7): only who saw that a call cost nothing may say so.
const OPERATORS_VOID: Rejection = Rejection::OperatorOnly {
    instead: "backstop ledger resolve --hold ID --cost-usd 0",
};

pub(super) async fn void() -> Failure {
    OPERATORS_VOID.into()
}

pub(super) async fn capture(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Me,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let id = hold_id(&id)?;
    let row = parse_capture(&json_body(&api, &headers, body).await?)?;
    // Nothing, on the agent's bare word, would be a void by another name.
    if row.charge == Charge::Amount(Usd::ZERO) {
        return Err(OPERATORS_VOID.into());
    }
    let hold = own_hold(&api, &agent, id).await?;
    let (service, model) = (hold.attribution.service.as_ref(), hold.attribution.model.as_ref());
    let charged = report::price(&row.charge, service, model, &api.catalogue.load())?;
    if charged.voids(hold.bound) {
        return Err(OPERATORS_VOID.into());
    }
    let request = CaptureRequest {
        hold: id,
        by: Some(agent),
        cost: charged.amount,
        trust: Trust::Agent,
        occurred_at: None,
        upstream_request: row.upstream_request,
        detail: charged.detail,
    };
    let settled = api.ledger.capture(request).await?;
    Ok(Json(json!({
        "hold_id": id,
        "posting_id": settled.posting,
        "cost_usd": charged.amount.to_string(),
        "overage_usd": settled.overage.to_string(),
        "repeated": settled.repeated,
    })))
}
