//! How the daemon does, and what is told to it as a whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{AdminApi, By, audited, drills as drilled, fleet, live_keys};
use crate::http::error::Failure;
use crate::http::view;

/// The daemon, every agent, every live containment.
pub(super) async fn status(State(api): State<Arc<AdminApi>>) -> Result<Json<Value>, Failure> {
    let ledger = api.ledger.status();
    let stats = api.store.stats().await?;
    let containments = api.store.live_containments().await?;
    let reviews = api.store.reviews(true, 1_000).await?;
    let known = api.store.agents().await?;
    let keys = api.store.keys().await?;
    let settings = api.settings.current();
    let configured = api.agents.load();
    let drills = api.store.last_drills().await?;
    // One that was taken out of the config while it is contained is still somebody's business.
    let stray = known
        .iter()
        .map(|state| &state.id)
        .filter(|id| !configured.contains(id));
    let agents: Vec<Value> = configured
        .iter()
        .chain(stray)
        .map(|id| {
            let state = known.iter().find(|state| state.id == *id);
            let mut view = view::agent(id, state, live_keys(&keys, id));
            view["drill"] = drilled::standing(&api, id, &drills);
            view
        })
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "epoch": ledger.epoch,
        "ledger_time": ledger.ledger_now,
        "store_down": ledger.store_down,
        "draining": ledger.draining,
        "clock_ok": ledger.clock.is_ok(),
        "clock": ledger.clock.name(),
        "clock_off_by_s": ledger.clock.off_by().as_secs(),
        "open_holds": ledger.open_holds,
        "waiters": ledger.waiters,
        "store": stats,
        "audit_broken": api.audit.health.broken(),
        "audit_unsigned": api.audit.health.unsigned(),
        "aws_enabled": settings.aws.enabled,
        "fleet": fleet::summary(&api.fleet.report(), api.clock.now()),
        "agents": agents,
        "containments": containments.iter().map(view::containment).collect::<Vec<_>>(),
        "reviews": reviews.iter().map(view::review).collect::<Vec<_>>(),
    })))
}

/// Reads the config again; wrong new settings leave the old ones.
pub(super) async fn reload(State(api): State<Arc<AdminApi>>, axum::Extension(by): By) -> Result<Response, Failure> {
    let answer = (api.reload)().await;
    match answer {
        Ok(change) => {
            audited(
                &api,
                &by,
                "reloaded",
                None,
                "an operator reloaded the config",
                json!(change),
            )
            .await?;
            Ok(Json(json!({ "reloaded": true, "change": change })).into_response())
        }
        Err(problems) => {
            let body = json!({ "reloaded": false, "problems": problems });
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response())
        }
    }
}

/// An operator says that the clock is right after a jump.
pub(super) async fn accept_clock(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
) -> Result<Json<Value>, Failure> {
    let at = api.ledger.accept_clock().await?;
    audited(
        &api,
        &by,
        "clock_accepted",
        None,
        "an operator accepted the clock",
        json!({ "time": at }),
    )
    .await?;
    Ok(Json(json!({ "ledger_time": at })))
}

pub(super) async fn metrics(State(api): State<Arc<AdminApi>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (api.metrics)()).into_response()
}

/// The process answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "ok": true }))
}

/// The ledger takes new spend.
pub(super) async fn readyz(State(api): State<Arc<AdminApi>>) -> Response {
    let status = api.ledger.status();
    let ready = !status.store_down && !status.draining && status.clock.admits();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": ready,
        "store_down": status.store_down,
        "draining": status.draining,
        "clock_ok": status.clock.is_ok(),
    });
    (code, Json(body)).into_response()
}
