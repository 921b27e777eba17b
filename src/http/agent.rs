//! The agent side: who asks, within what time, and what the caller may still spend.
//!
//! Every request carries the agent's own key, and everything that is answered is about that agent
//! alone. Whether a hold exists that belongs to somebody else is not this caller's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::auth::{KeyRing, check_host};
use super::body::{BodyLimits, Desk, Shelf};
use super::error::Failure;
use super::seats::{self, Seats, closing, seated};
use super::{calls, gateway, holds, tools, usage, view};
use crate::audit::Refusals;
use crate::domain::audit::NewAudit;
use crate::domain::id::{AgentId, TaskId};
use crate::domain::ledger::posting::Attribution;
use crate::domain::price::Catalogue;
use crate::domain::rejection::Rejection;
use crate::gateway::{Gateway, Share};
use crate::intake::usage::Intake;
use crate::ledger::Ledger;
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

impl AgentApi {
    /// Whose key a request carries: that of an agent of the config, sent to a name that is ours.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<AgentId, Rejection> {
        check_host(headers, &self.allowed_hosts)?;
        let agent = self.keys.agent(headers)?;
        match self.agents.load().contains(&agent) {
            true => Ok(agent),
            false => Err(Rejection::BadCredential),
        }
    }
}

/// What the tightest of the caller's budgets has left.
pub(super) const REMAINING: HeaderName = HeaderName::from_static("x-backstop-remaining-usd");

/// The routes of the agent side.
pub fn router(api: Arc<AgentApi>) -> Router {
    Router::new()
        .route("/v1/usage", post(usage::report))
        .route("/v1/holds", post(holds::place))
        .route("/v1/holds/{id}", get(holds::show).delete(holds::void))
        .route("/v1/holds/{id}/capture", post(holds::capture))
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
    match api.caller(request.headers()) {
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

pub(super) type Me = axum::Extension<Caller>;

/// Query parameters, with the house's own error body.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(value)| value).map_err(|problem| {
        Rejection::Field {
            field: "query".to_owned(),
            problem: problem.body_text(),
        }
        .into()
    })
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
