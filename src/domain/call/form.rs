//! A form that was split into its parts.
//!
//! Splitting is the gateway's business (it reads a stream); here the parts are names and bytes already.
//! What two servers could read as two different forms has been refused there: see `gateway::form`.

use bytes::Bytes;

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormPart {
    pub name: String,
    /// With one, every server takes the part for a file; without one, for text.
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub bytes: Bytes,
}
