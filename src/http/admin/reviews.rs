//! Items that wait for a person.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{AdminApi, By, bounded, json_body};
use crate::domain::id::ReviewId;
use crate::domain::rejection::Rejection;
use crate::http::agent::query;
use crate::http::error::Failure;
use crate::http::path::Path;
use crate::http::view;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    #[serde(default)]
    all: bool,
}

pub(super) async fn list(
    State(api): State<Arc<AdminApi>>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Value>, Failure> {
    let reviews = api.store.reviews(!query(parameters)?.all, 10_000).await?;
    Ok(Json(
        json!({ "reviews": reviews.iter().map(view::review).collect::<Vec<_>>() }),
    ))
}

fn review_id(text: &str) -> Result<ReviewId, Rejection> {
    text.parse().map_err(|_| Rejection::NotFound {
        what: "review",
        id: text.chars().take(64).collect(),
    })
}

pub(super) async fn show(State(api): State<Arc<AdminApi>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let id = review_id(&id)?;
    match api.store.review(id).await? {
        Some(review) => Ok(Json(view::review(&review))),
        None => Err(Rejection::NotFound {
            what: "review",
            id: id.to_string(),
        }
        .into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DecideBody {
    approve: bool,
    #[serde(default)]
    note: String,
}

pub(super) async fn decide(
    State(api): State<Arc<AdminApi>>,
    axum::Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let id = review_id(&id)?;
    let asked: DecideBody = json_body(&api, &headers, body).await?;
    api.watch
        .decide(id, asked.approve, &by.0, &bounded(&asked.note))
        .await?;
    show(State(api), Path(id.to_string())).await
}
