//! What stands in a path, with the house's own answer when it cannot be read.
//!
//! axum's own extractor answers in plain text, which no client of ours expects. Bytes that are no text
//! name nothing, so the answer is that nothing is there.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::Failure;
use crate::domain::rejection::Rejection;

/// The parameters of the route.
#[derive(Debug, Clone)]
pub(super) struct Path<T>(pub(super) T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_unreadable) => Err(Rejection::NoSuchPath.into()),
        }
    }
}
