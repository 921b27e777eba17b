//! The agent side: usage reports, holds, and what the caller may still spend.
//!
//! Every request carries the agent's own key, and everything that is answered is about that agent
//! alone. Whether a hold exists that belongs to somebody else is not this caller's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{KeyRing, check_host};
use super::body::{self, BodyLimits, Desk, Format, Shelf};
use super::calls;
use super::error::Failure;
use super::gateway;
use super::path::Path;
use super::seats::{self, Seats, closing, seated};
use super::tools;
use super::view;
use crate::audit::Refusals;
use crate::domain::audit::NewAudit;
use crate::domain::id::{AgentId, HoldId, TaskId};
use crate::domain::ledger::posting::{Attribution, Trust};
use crate::domain::money::Usd;
use crate::domain::price::Catalogue;
use crate::domain::rejection::Rejection;
use crate::domain::report::{self, Charge, parse_capture, parse_hold};
use crate::domain::wire::json::{JsonLimits, parse_strict};
use crate::gateway::{Gateway, Share};
use crate::intake::usage::{Encoding, Intake, IntakeFailure, Receipt, Source};
use crate::ledger::{AdmitRejection, AdmitRequest, CaptureRequest, Ledger};
use crate::ports::{Clock, Store};
use crate::tools::Tools;

/// What the agent side needs.
pub struct AgentApi {
    pub ledger: Ledger,
    pub intake: Arc<Intake>,
    pub keys: Arc<KeyRing>,
    /// The agents of the config: a key of any other opens nothing.
    pub agents: Arc<ArcSwap<Vec<AgentId>>>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    /// The agents' manifests, and how often each tool was used.
    pub tools: Tools,
    pub gateway: Gateway,
    /// Refused holds on their way to the audit log (D3).
    pub refusals: Arc<Refusals>,
    pub limits: BodyLimits,
    pub desk: Desk,
    pub shelf: Shelf,
    pub seats: Seats,
    pub allowed_hosts: Vec<String>,
}

const REMAINING: HeaderName = HeaderName::from_static("x-backstop-remaining-usd");

/// The routes of the agent side.
pub fn router(api: Arc<AgentApi>) -> Router {
    Router::new()
        .route("/v1/usage", post(usage))
        .route("/v1/holds", post(place_hold))
        .route("/v1/holds/{id}", get(show_hold).delete(void_hold))
        .route("/v1/holds/{id}/capture", post(capture_hold))
        .route("/v1/budget", get(budget))
        .route("/v1/calls/{id}", get(calls::show))
        .route("/v1/tasks/{id}/wait", get(calls::wait))
        .route("/v1/tools/authorize", post(tools::authorize))
        .method_not_allowed_fallback(async || Failure::from(Rejection::MethodNotAllowed))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), authenticate))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), in_time))
        // Behind the layers: it identifies its callers itself, to answer them in their provider's form, and
        // a call may take longer than a request.
        .fallback(gateway::call)
        .with_state(api)
}

/// No request is open for longer than its limit. What it handed to the ledger goes on there: every
/// report and capture may be sent again, and a hold that nobody was told of is voided.
async fn in_time(State(api): State<Arc<AgentApi>>, request: Request, next: Next) -> Response {
    let late = Failure::Unavailable {
        code: "too_slow",
        message: "the request was not done within server.request_timeout; it is safe to send it again",
        retry_after_s: 1,
    };
    let answer = tokio::time::timeout(api.limits.timeout, next.run(request)).await;
    answer.unwrap_or_else(|_elapsed| late.into_response())
}

/// Who asks, before anything of the request is looked at.
async fn authenticate(State(api): State<Arc<AgentApi>>, mut request: Request, next: Next) -> Response {
    let agent = check_host(request.headers(), &api.allowed_hosts)
        .and_then(|()| api.keys.agent(request.headers()))
        .and_then(|agent| match api.agents.load().contains(&agent) {
            true => Ok(agent),
            false => Err(Rejection::BadCredential),
        });
    match agent {
        Ok(agent) => {
            let Some(seat) = api.seat(&agent) else {
                return closing(seats::FULL.into_response());
            };
            request.extensions_mut().insert(Caller(agent));
            seated(next.run(request).await, seat)
        }
        Err(rejection) => Failure::from(rejection).into_response(),
    }
}

impl AgentApi {
    /// A seat for a request of this agent, if it has not too many.
    pub(super) fn seat(&self, agent: &AgentId) -> Option<Share> {
        self.seats.take(agent, self.agents.load().len() > 1)
    }
}

/// The agent whose key the request carries.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) AgentId);

type Me = axum::Extension<Caller>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    #[serde(default)]
    pub(super) all_or_nothing: bool,
    /// Operators only: the agent of rows that name none.
    #[serde(default)]
    pub(super) agent: Option<AgentId>,
}

/// Query parameters, with the house's own error body.
pub(super) fn query<T>(query: Result<Query<T>, axum::extract::rejection::QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(value)| value).map_err(|problem| {
        Rejection::Field {
            field: "query".to_owned(),
            problem: problem.body_text(),
        }
        .into()
    })
}

async fn usage(
    State(api): State<Arc<AgentApi>>,
    axum::Extension(Caller(agent)): Me,
    parameters: Result<Query<UsageQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let parameters = query(parameters)?;
    if parameters.agent.is_some() {
        let problem = "an agent's key reports for that agent alone".to_owned();
        return Err(Rejection::Field {
            field: "agent".to_owned(),
            problem,
        }
        .into());
    }
    let source = Source::Agent(agent);
    take_in(
        &api.intake,
        &source,
        parameters.all_or_nothing,
        &headers,
        body,
        (api.limits, &api.desk),
    )
    .await
}

/// Usage reports from either side: the admin side takes them by the same rules.
pub(super) async fn take_in(
    intake: &Intake,
    source: &Source,
    all_or_nothing: bool,
    headers: &HeaderMap,
    body: Body,
    (limits, desk): (BodyLimits, &Desk),
) -> Result<Response, Failure> {
    let encoding = match body::format(headers, true)? {
        Format::Json => Encoding::Json,
        Format::JsonLines => Encoding::JsonLines,
    };
    let body = body::read(body, limits).await?;
    let _room = desk.room_for(&body).await;
    match intake.report(source, &body, encoding, all_or_nothing).await {
        Ok(receipt) => Ok(receipt_answer(receipt)),
        Err(IntakeFailure::Refused { rejection, receipt }) => {
            let failure = Failure::from(rejection);
            let rows: Vec<Value> = receipt
                .rows
                .iter()
                .filter(|row| row.result.is_err())
                .map(view::row_answer)
                .collect();
            let mut response = failure.to_json();
            if let Some(object) = response.as_object_mut() {
                object.insert("rows".to_owned(), rows.into());
            }
            Ok(failure.with_error(response))
        }
        Err(IntakeFailure::Rejected(rejection)) => Err(rejection.into()),
        Err(IntakeFailure::Unavailable(unavailable)) => Err(unavailable.into()),
    }
}

/// One object has one answer, with its own status. Of several rows each has its own, and the status
/// says whether all (200), some (207) or none (422) were kept.
fn receipt_answer(receipt: Receipt) -> Response {
    let mut rows = receipt.rows;
    if receipt.single
        && let Some(row) = rows.pop()
    {
        return match row.result {
            Err(rejection) => Failure::from(rejection).into_response(),
            Ok(_) => Json(view::row_answer(&row)).into_response(),
        };
    }
    let rejected = rows.iter().filter(|row| row.result.is_err()).count();
    let duplicates = rows
        .iter()
        .filter(|row| row.result.as_ref().is_ok_and(|done| done.duplicate))
        .count();
    let amount = rows
        .iter()
        .filter_map(|row| row.result.as_ref().ok())
        .filter(|done| !done.duplicate);
    let amount: Usd = amount.map(|done| done.amount).sum();
    let status = match rejected {
        0 => StatusCode::OK,
        all if all == rows.len() => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::MULTI_STATUS,
    };
    let body = json!({
        "rows_total": rows.len(),
        "posted": rows.len() - rejected - duplicates,
        "duplicates": duplicates,
        "rejected": rejected,
        "posted_usd": amount.to_string(),
        "rows": rows.iter().map(view::row_answer).collect::<Vec<_>>(),
    });
    (status, Json(body)).into_response()
}

async fn json_body(api: &AgentApi, headers: &HeaderMap, body: Body) -> Result<Value, Failure> {
    body::format(headers, false)?;
    let bytes = body::read(body, api.limits).await?;
    let _room = api.desk.room_for(&bytes).await;
    parse_strict(&bytes, &JsonLimits::default()).map_err(|problem| Rejection::Malformed(problem.to_string()).into())
}

async fn place_hold(
    State(api): State<Arc<AgentApi>>,
    axum::Extension(Caller(agent)): Me,
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
            let remaining = hold.remaining.map(|usd| usd.to_string());
            let body = json!({
                "hold_id": hold.id,
                "bound_usd": hold.bound.to_string(),
                "remaining_usd": remaining,
                "expires_at": hold.expires_at,
            });
            let mut response = (StatusCode::CREATED, Json(body)).into_response();
            if let Some(value) = remaining.and_then(|text| HeaderValue::from_str(&text).ok()) {
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

/// A refusal is a decision: it goes into the audit log, folded with others of its kind (D3).
pub(super) fn refused(api: &AgentApi, agent: &AgentId, rejection: Rejection, evidence: &Value) -> Failure {
    let entry = NewAudit {
        at: api.clock.now(),
        actor: "backstop".to_owned(),
        action: "refused".to_owned(),
        agent: Some(agent.clone()),
        reason: rejection.to_string(),
        evidence: evidence.to_string(),
    };
    api.refusals.note(rejection.code(), entry);
    rejection.into()
}

pub(super) fn hold_id(text: &str) -> Result<HoldId, Failure> {
    let unknown = || Rejection::NotFound {
        what: "hold",
        id: text.chars().take(64).collect(),
    };
    text.parse().map_err(|_| unknown().into())
}

/// The caller's own hold.
pub(super) async fn own_hold(
    api: &AgentApi,
    agent: &AgentId,
    id: HoldId,
) -> Result<crate::domain::ledger::hold::Hold, Failure> {
    match api.store.hold(id).await? {
        Some(hold) if hold.attribution.agent == *agent => Ok(hold),
        _ => Err(Rejection::no_hold(id).into()),
    }
}

async fn show_hold(
    State(api): State<Arc<AgentApi>>,
    axum::Extension(Caller(agent)): Me,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let hold = own_hold(&api, &agent, hold_id(&id)?).await?;
    Ok(Json(view::hold(&hold)))
}

/// An agent's own key cannot void (section 6.7): only who saw that a call cost nothing may say so.
const OPERATORS_VOID: Rejection = Rejection::OperatorOnly {
    instead: "backstop ledger resolve --hold ID --cost-usd 0",
};

async fn void_hold() -> Failure {
    OPERATORS_VOID.into()
}

async fn capture_hold(
    State(api): State<Arc<AgentApi>>,
    axum::Extension(Caller(agent)): Me,
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

/// What the caller may still spend: never let an agent control a budget that it cannot see.
async fn budget(State(api): State<Arc<AgentApi>>, axum::Extension(Caller(agent)): Me) -> Result<Json<Value>, Failure> {
    let state = api.store.agent(&agent).await?;
    let anything = Attribution {
        agent: agent.clone(),
        task: TaskId::none(),
        service: None,
        model: None,
        tool: None,
        labels: BTreeMap::new(),
    };
    let lines = api.ledger.budget_view(&anything).await?;
    Ok(Json(json!({
        "agent": agent,
        "status": state.status,
        "reason": state.reason,
        "lines": lines.iter().map(view::line_view).collect::<Vec<_>>(),
    })))
}
