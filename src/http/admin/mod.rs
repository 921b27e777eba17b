//! The admin side: everything that a person decides.
//!
//! It has two doors. The unix socket is for the machine's own operators: the kernel vouches for the
//! peer's user id, and there is nothing to leak. The TCP listener takes a bearer token; without one
//! configured it serves health and metrics alone. Both lead to the same routes, and who came in is the
//! actor of every audit entry.

mod agents;
mod budgets;
mod doctor;
mod drills;
mod fleet;
mod impact;
mod ledger;
mod operations;
mod order;
mod reviews;

pub(crate) use agents::change_lines;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use ed25519_dalek::VerifyingKey;
use serde::de::DeserializeOwned;

use super::auth::{AdminToken, KeyRing, check_host};
use super::body::{self, BodyLimits, Desk};
use super::error::Failure;
use super::serve::Peer;
use crate::audit::{AuditHealth, Cadence};
use crate::config::{Change, LiveSettings, Problems};
use crate::doctor::{Case, Doctor};
use crate::domain::audit::NewAudit;
use crate::domain::id::AgentId;
use crate::domain::price::Catalogue;
use crate::domain::rejection::Rejection;
use crate::domain::wire::json::{JsonLimits, parse_strict};
use crate::fleet::Fleet;
use crate::intake::usage::Intake;
use crate::killswitch::KillSwitch;
use crate::ledger::Ledger;
use crate::ports::{AgentKey, Clock, Entropy, Store};
use crate::watch::Watch;

/// What the admin side needs.
pub struct AdminApi {
    pub ledger: Ledger,
    pub intake: Arc<Intake>,
    pub keys: Arc<KeyRing>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    pub agents: Arc<ArcSwap<Vec<AgentId>>>,
    pub settings: Arc<LiveSettings>,
    pub watch: Arc<Watch>,
    pub killswitch: Arc<KillSwitch>,
    pub fleet: Arc<Fleet>,
    pub doctor: Arc<Doctor>,
    /// What there is to examine, as the settings are now.
    pub case: Arc<dyn Fn() -> Case + Send + Sync>,
    pub audit: AuditPlace,
    /// Applies the settings after a reload; the application knows to whom.
    pub reload: Arc<dyn Fn() -> ReloadFuture + Send + Sync>,
    /// Renders the metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub limits: BodyLimits,
    pub desk: Desk,
    pub allowed_hosts: Vec<String>,
    pub token: Option<AdminToken>,
    /// User ids that may use the socket.
    pub peer_uids: Vec<u32>,
}

/// Where the audit log's signed heads are, and who signed them.
pub struct AuditPlace {
    pub heads: PathBuf,
    pub keys: Vec<VerifyingKey>,
    pub cadence: Cadence,
    pub health: Arc<AuditHealth>,
}

/// What a reload answers: what changed, or every problem.
pub type ReloadFuture = std::pin::Pin<Box<dyn Future<Output = Result<Change, Problems>> + Send>>;

/// The routes of the admin side.
pub fn router(api: Arc<AdminApi>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/status", get(operations::status))
        .route("/api/v1/doctor", post(doctor::examine))
        .route("/api/v1/reload", post(operations::reload))
        .route("/api/v1/clock/accept", post(operations::accept_clock))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/agents/{id}", get(agents::show))
        .route("/api/v1/agents/{id}/keys", post(agents::add_key))
        .route("/api/v1/agents/{id}/keys/{key}", delete(agents::revoke_key))
        .route("/api/v1/agents/{id}/pause", post(agents::pause))
        .route("/api/v1/agents/{id}/resume", post(agents::resume))
        .route("/api/v1/agents/{id}/contain", post(agents::contain))
        .route("/api/v1/agents/{id}/impact", get(agents::impact))
        .route("/api/v1/agents/{id}/reset", post(agents::reset))
        .route("/api/v1/agents/{id}/drill", post(drills::run))
        .route("/api/v1/agents/{id}/drills", get(drills::list))
        .route("/api/v1/drills/{id}", get(drills::show))
        .route("/api/v1/fleet", get(fleet::list))
        .route("/api/v1/budgets", get(budgets::list))
        .route("/api/v1/spend", get(budgets::spend))
        .route("/api/v1/prices", get(budgets::prices))
        .route("/api/v1/usage", post(ledger::usage))
        .route("/api/v1/ledger/unresolved", get(ledger::unresolved))
        .route("/api/v1/ledger/resolve", post(ledger::resolve))
        .route("/api/v1/ledger/backup", post(ledger::backup))
        .route("/api/v1/ledger/verify", post(ledger::verify))
        .route("/api/v1/audit", get(ledger::audit))
        .route("/api/v1/audit/verify", post(ledger::verify_audit))
        .route("/api/v1/reviews", get(reviews::list))
        .route("/api/v1/reviews/{id}", get(reviews::show).post(reviews::decide))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), authenticate));
    Router::new()
        .merge(guarded)
        .route("/metrics", get(operations::metrics))
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz))
        .fallback(async || Failure::from(Rejection::NoSuchPath))
        .method_not_allowed_fallback(async || Failure::from(Rejection::MethodNotAllowed))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), host))
        .with_state(api)
}

/// Who acts, for the audit log.
#[derive(Debug, Clone)]
pub(super) struct Operator(pub(super) String);

pub(super) type By = axum::Extension<Operator>;

async fn host(State(api): State<Arc<AdminApi>>, request: Request, next: Next) -> Response {
    // On the socket there is no name that a web page could have been resolved to.
    let checked = match request.extensions().get::<Peer>() {
        Some(Peer::Unix { .. }) => Ok(()),
        _ => check_host(request.headers(), &api.allowed_hosts),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(rejection) => Failure::from(rejection).into_response(),
    }
}

async fn authenticate(State(api): State<Arc<AdminApi>>, mut request: Request, next: Next) -> Response {
    let operator = match request.extensions().get::<Peer>() {
        Some(Peer::Unix { uid }) if api.peer_uids.contains(uid) => Ok(Operator(format!("operator:uid={uid}"))),
        Some(Peer::Tcp(address)) => match &api.token {
            Some(token) => {
                let operator = Operator(format!("operator:token from {}", address.ip()));
                token.check(request.headers()).map(|()| operator)
            }
            None => Err(Rejection::BadCredential),
        },
        Some(Peer::Unix { .. }) | None => Err(Rejection::BadCredential),
    };
    match operator {
        Ok(operator) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Err(rejection) => Failure::from(no_operator(rejection)).into_response(),
    }
}

/// The words for an agent's key are of no use to an operator.
fn no_operator(rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::NoCredential => Rejection::NoOperator { sent_credential: false },
        Rejection::BadCredential => Rejection::NoOperator { sent_credential: true },
        other => other,
    }
}

/// The body of an admin request; an empty one is an empty object.
async fn json_body<T: DeserializeOwned>(api: &AdminApi, headers: &HeaderMap, body: Body) -> Result<T, Failure> {
    let bytes = body::read(body, api.limits).await?;
    let value = if bytes.is_empty() {
        serde_json::json!({})
    } else {
        body::format(headers, false)?;
        let _room = api.desk.room_for(&bytes).await;
        parse_strict(&bytes, &JsonLimits::default()).map_err(|problem| Rejection::Malformed(problem.to_string()))?
    };
    serde_json::from_value(value).map_err(|problem| {
        Rejection::Field {
            field: "body".to_owned(),
            problem: problem.to_string(),
        }
        .into()
    })
}

/// Bytes of a reason at most.
const MAX_REASON: usize = 1_000;

/// What a person wrote, for the audit log.
fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// How many keys of an agent open something.
fn live_keys(keys: &[AgentKey], agent: &AgentId) -> usize {
    let live = keys
        .iter()
        .filter(|key| key.agent == *agent && key.revoked_at.is_none());
    live.count()
}

/// The agent of a path: one of the config, or one that was taken out of it and still has a state or a
/// key, since that one can still be contained, and may have to be stopped.
async fn agent_of(api: &AdminApi, text: &str) -> Result<AgentId, Failure> {
    let field = |problem: crate::domain::id::NameError| Rejection::Field {
        field: "agent".to_owned(),
        problem: problem.to_string(),
    };
    let agent = AgentId::new(text).map_err(field)?;
    let known = api.agents.load().contains(&agent)
        || api.store.agent(&agent).await?.version > 0
        || api.store.keys().await?.iter().any(|key| key.agent == agent);
    if known {
        Ok(agent)
    } else {
        Err(Rejection::UnknownAgent(agent).into())
    }
}

/// Writes one audit entry for what an operator did.
async fn audited(
    api: &AdminApi,
    by: &Operator,
    action: &str,
    agent: Option<&AgentId>,
    reason: &str,
    evidence: serde_json::Value,
) -> Result<(), Failure> {
    let entry = NewAudit {
        at: api.clock.now(),
        actor: by.0.clone(),
        action: action.to_owned(),
        agent: agent.cloned(),
        reason: reason.to_owned(),
        evidence: evidence.to_string(),
    };
    api.store.append_audit(&[entry]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_no_operator_is_not_told_of_agents_keys() {
        for agents_own in [Rejection::NoCredential, Rejection::BadCredential] {
            let told = no_operator(agents_own.clone());
            assert_eq!(told.code(), agents_own.code());
            let words = format!("{told} {}", told.hint().unwrap_or_default());
            assert!(!words.contains("agent") && words.contains("token_file"), "{words}");
        }
    }
}
