//! Interim.
use bytes::Bytes;
use crate::domain::call::{CallRejection, FormPart};
pub async fn split(_: &str, _: Bytes) -> Result<Vec<FormPart>, CallRejection> { Err(CallRejection::Absurd) }
