//! What is asked of IAM's policy simulator, and what it says.
//!
//! One question is about one resource. The simulator answers for several at once too, but then its own word
//! on an action is the strictest of all of them ("EvaluationResult" in the IAM API Reference, read
//! 2026-11-20), and an answer must say whose it is. A key that is not given in a question does not
//! exist in the simulated request, so a question names those that AWS would set.
//!
//! It knows the policies of the principal, its permission boundary and, for what they say without conditions,
//! the organisation's SCPs. It does not know policies of resources, such as a key's own, nor a session's.

use serde::{Deserialize, Serialize};

/// May somebody do these things to this, in a request with these keys?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Such as `ec2:StopInstances`.
    pub actions: Vec<String>,
    /// An ARN, or `*` where an action knows no resources.
    pub resource: String,
    pub keys: Vec<Key>,
}

/// A condition key of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub value: String,
    pub kind: KeyKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Text,
    Boolean,
}

impl Key {
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            kind: KeyKind::Text,
        }
    }

    pub fn yes(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: "true".to_owned(),
            kind: KeyKind::Boolean,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Allowed,
    /// Nothing allows it.
    NotAllowed,
    /// Something forbids it, whatever allows it.
    Denied,
}

/// What the simulator says of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    pub action: String,
    pub decision: Decision,
    /// The policies whose statements decided.
    pub by: Vec<String>,
    /// Whether the principal's permission boundary leaves room for it; `None` if it has none.
    pub boundary_allows: Option<bool>,
    /// The same of the organisation's policies; `None` if the account is in no organisation.
    pub organisation_allows: Option<bool>,
    /// Keys that policies ask for and the question did not have.
    pub missing_keys: Vec<String>,
}
