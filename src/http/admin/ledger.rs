//! The ledger's maintenance, the operator's usage reports, the audit log.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AdminApi, By, Operator, audited, json_body};
use crate::audit;
use crate::domain::id::{AgentId, HoldId, PostingId};
use crate::domain::ledger::auditor;
use crate::domain::ledger::batch::ResolveTarget;
use crate::domain::ledger::posting::Trust;
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::http::agent::query;
use crate::http::error::Failure;
use crate::http::usage::{UsageQuery, take_in};
use crate::intake::usage::Source;
use crate::ledger::ResolveRequest;
use crate::ports::PostingQuery;

/// Usage reports by an operator: they count on fleet lines too.
pub(super) async fn usage(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
    parameters: Result<Query<UsageQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let parameters = query(parameters)?;
    audited(
        &api,
        &by,
        "usage_imported",
        parameters.agent.as_ref(),
        "an operator imported usage",
        json!({}),
    )
    .await?;
    let source = Source::Operator {
        agent: parameters.agent,
    };
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnresolvedParameters {
    agent: Option<AgentId>,
    after: Option<PostingId>,
    limit: Option<u32>,
}

/// Unresolved postings that nothing has replaced yet.
pub(super) async fn unresolved(
    State(api): State<Arc<AdminApi>>,
    parameters: Result<Query<UnresolvedParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let parameters = query(parameters)?;
    let limit = parameters.limit.unwrap_or(1_000).min(10_000);
    let page = PostingQuery {
        after: parameters.after,
        agent: parameters.agent,
        unresolved: true,
        limit,
        ..PostingQuery::default()
    };
    let postings = api.store.postings(&page).await?;
    let rows: Vec<Value> = postings
        .iter()
        .map(|posting| {
            json!({
                "posting_id": posting.id,
                "hold_id": posting.hold,
                "agent": posting.attribution.agent,
                "task": posting.attribution.task,
                "model": posting.attribution.model,
                "amount_usd": posting.amount.to_string(),
                "upstream_request": posting.upstream_request,
                "occurred_at": posting.occurred_at,
                "recorded_at": posting.recorded_at,
            })
        })
        .collect();
    let next = (rows.len() == usize::try_from(limit).unwrap_or(usize::MAX))
        .then(|| postings.last().map(|p| p.id))
        .flatten();
    Ok(Json(json!({ "unresolved": rows, "next": next })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolveBody {
    posting: Option<PostingId>,
    hold: Option<HoldId>,
    cost_usd: String,
    #[serde(default)]
    note: String,
}

/// Replaces an unresolved posting by what the operator knows that it cost.
pub(super) async fn resolve(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let asked: ResolveBody = json_body(&api, &headers, body).await?;
    let field = |field: &str, problem: String| Rejection::Field {
        field: field.to_owned(),
        problem,
    };
    let target = match (asked.posting, asked.hold) {
        (Some(posting), None) => ResolveTarget::Posting(posting),
        (None, Some(hold)) => ResolveTarget::Hold(hold),
        _ => return Err(field("posting", "name either the posting or the hold".to_owned()).into()),
    };
    let cost: Usd = asked
        .cost_usd
        .parse()
        .map_err(|problem: crate::domain::money::ParseUsdError| field("cost_usd", problem.to_string()))?;
    let note: String = asked.note.chars().take(1_000).collect();
    let detail = Some(json!({ "by": by.0, "note": note }).to_string());
    // The reason is on record before the money moves; what is recorded and then fails is shown by the
    // absence of the posting, and the other way round nobody would know who moved it.
    audited(
        &api,
        &by,
        "resolved",
        None,
        &note,
        json!({ "target": target, "cost_usd": cost.to_string() }),
    )
    .await?;
    let settled = api
        .ledger
        .resolve(ResolveRequest {
            target,
            cost,
            trust: Trust::Operator,
            detail,
        })
        .await?;
    Ok(Json(
        json!({ "posting_id": settled.posting, "repeated": settled.repeated }),
    ))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupBody {
    path: PathBuf,
}

/// Copies the ledger online to a file that must not exist yet, and verifies the copy.
pub(super) async fn backup(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(Operator(by)): By,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let asked: BackupBody = json_body(&api, &headers, body).await?;
    if !asked.path.is_absolute() {
        let problem = "an absolute path, as the daemon sees the machine".to_owned();
        return Err(Rejection::Field {
            field: "path".to_owned(),
            problem,
        }
        .into());
    }
    if asked.path.exists() {
        return Err(Rejection::State(format!(
            "{} exists already; a backup never overwrites",
            asked.path.display()
        ))
        .into());
    }
    let evidence = json!({ "path": asked.path });
    audited(
        &api,
        &Operator(by),
        "backup",
        None,
        "an operator copied the ledger",
        evidence,
    )
    .await?;
    let stats = api.store.backup(&asked.path).await?;
    Ok(Json(json!({ "path": asked.path, "stats": stats })))
}

/// Recomputes every line from postings and holds, by rules that share no code with the ledger.
pub(super) async fn verify(State(api): State<Arc<AdminApi>>) -> Result<Json<Value>, Failure> {
    let view = api.store.audit_view().await?;
    let now = api.ledger.now();
    let findings = tokio::task::spawn_blocking(move || {
        (
            auditor::audit(&view.parts(now)),
            view.lines.len(),
            view.postings.len(),
            view.holds.len(),
        )
    })
    .await
    .map_err(|_panicked| Failure::Internal)?;
    let (findings, lines, postings, holds) = findings;
    Ok(Json(json!({
        "ok": findings.is_empty(),
        "lines": lines,
        "postings": postings,
        "holds": holds,
        "faults": findings,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParameters {
    from: Option<i64>,
    limit: Option<u32>,
}

/// A page of the audit log.
pub(super) async fn audit(
    State(api): State<Arc<AdminApi>>,
    parameters: Result<Query<AuditParameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let parameters = query(parameters)?;
    let entries = api
        .store
        .audit(
            parameters.from.unwrap_or(1),
            parameters.limit.unwrap_or(1_000).min(10_000),
        )
        .await?;
    Ok(Json(json!({ "entries": entries })))
}

/// Follows the whole chain and holds it against every exported head.
pub(super) async fn verify_audit(State(api): State<Arc<AdminApi>>) -> Result<Json<Value>, Failure> {
    let place = &api.audit;
    match audit::verify(&*api.store, &place.heads, &place.keys, place.cadence).await {
        Ok(checked) => Ok(Json(
            json!({ "ok": checked.is_covered, "checked": checked, "broken": place.health.broken() }),
        )),
        Err(audit::AuditError::Store(error)) => Err(error.into()),
        Err(error) => Ok(Json(
            json!({ "ok": false, "problem": error.to_string(), "broken": place.health.broken() }),
        )),
    }
}
