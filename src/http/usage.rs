//! Usage reports over HTTP. The admin side takes them by the same rules, and answers in the same form.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::agent::{AgentApi, Caller, Me, query};
use super::body::{self, BodyLimits, Desk, Format};
use super::error::Failure;
use super::view;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::intake::usage::{Encoding, Intake, IntakeFailure, Receipt, Source};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    #[serde(default)]
    pub(super) all_or_nothing: bool,
    /// Operators only: the agent of rows that name none.
    #[serde(default)]
    pub(super) agent: Option<AgentId>,
}

/// `POST /v1/usage`: an agent reports what it used, for itself alone.
pub(super) async fn report(
    State(api): State<Arc<AgentApi>>,
    Extension(Caller(agent)): Me,
    parameters: Result<Query<UsageQuery>, QueryRejection>,
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
