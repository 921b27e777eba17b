//! An order about one agent: who gives it, about whom, and what it says.
//!
//! What every such request begins with stands here once, in the one order that matters: nobody's body
//! is read before it is known who asks and about which agent.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use serde::de::DeserializeOwned;

use super::{AdminApi, Operator, agent_of, json_body};
use crate::domain::id::AgentId;
use crate::http::error::Failure;
use crate::http::path::Path;

/// The operator, the agent of the path, and the body.
pub(super) struct Order<T> {
    pub(super) by: Operator,
    pub(super) agent: AgentId,
    pub(super) asked: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<AdminApi>> for Order<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, api: &Arc<AdminApi>) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        // Put there before any handler is reached.
        let by = parts.extensions.get::<Operator>().cloned().ok_or(Failure::Internal)?;
        let Path(id) = Path::<String>::from_request_parts(&mut parts, api).await?;
        let agent = agent_of(api, &id).await?;
        let asked = json_body(api, &parts.headers, body).await?;
        Ok(Self { by, agent, asked })
    }
}
