//! Names and ids.
//!
//! A name comes from a config file or a client, so its form is checked where it enters and it is
//! bounded; inside the house a `AgentId` is known to be well formed. An id is made by Backstop: a
//! version 7 UUID, whose time part keeps index pages together, or an integer that the store gives.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{} cannot be empty", one(what))]
    Empty { what: &'static str },
    #[error("{} has at most {max} bytes, this one has {len}", one(what))]
    TooLong { what: &'static str, max: usize, len: usize },
    #[error(
        "{} cannot contain {found:?}; letters, digits and any of {allowed} are fine",
        one(what)
    )]
    Character {
        what: &'static str,
        found: char,
        allowed: &'static str,
    },
}

/// `an agent id`, `a task id`.
fn one(what: &str) -> String {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {what}")
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                if text.is_empty() {
                    return Err(NameError::Empty { what: $what });
                }
                if text.len() > $max {
                    return Err(NameError::TooLong { what: $what, max: $max, len: text.len() });
                }
                match text.chars().find(|&c| !(c.is_ascii_alphanumeric() || $allowed.contains(c))) {
                    Some(found) => Err(NameError::Character { what: $what, found, allowed: $allowed }),
                    None => Ok(Self(text.into())),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// An identity with credentials, budgets and cloud targets.
    AgentId, "agent id", 128, "-_.:/@"
);
name!(
    /// One run of an agent, named by the agent itself; `-` when it names none.
    TaskId, "task id", 128, "-_.:/@#="
);
name!(
    /// A model as the provider names it, such as `gpt-5-mini` or `anthropic.claude-v2:1`.
    ModelId, "model name", 200, "-_.:/@+ "
);
name!(
    /// What was bought, such as `openai`, `anthropic`, `bedrock` or `AmazonEC2`.
    ServiceId, "service name", 128, "-_.:/@ "
);
name!(
    /// A tool as the agent's manifest names it.
    ToolName, "tool name", 200, "-_.:/@"
);
name!(
    /// A budget's name in the config; unique there.
    BudgetId, "budget name", 64, "-_."
);
name!(
    /// The key of a label on a report or call, such as `team`.
    LabelKey, "label key", 64, "-_.:/"
);
name!(
    /// A client's own id for one usage report; unique per agent.
    ReportId, "report id", 200, "-_.:/@#=+|"
);

impl TaskId {
    /// The task of a report or call that named none.
    pub fn none() -> Self {
        Self("-".into())
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A durable reservation of a call's worst case.
    HoldId
);
uuid_id!(
    /// An immutable row of money spent.
    PostingId
);
uuid_id!(
    /// One run of the kill switch for one agent.
    ContainmentId
);
uuid_id!(
    /// An item that waits for a person.
    ReviewId
);
uuid_id!(
    /// One rehearsal of the kill switch for one agent.
    DrillId
);
uuid_id!(
    /// A credential of an agent; not the secret itself.
    KeyId
);

/// One run of the daemon against a store; the store numbers them from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochId(pub i64);

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        assert!(AgentId::new("support-transcriber-prod").is_ok());
        assert_eq!(AgentId::new(""), Err(NameError::Empty { what: "agent id" }));
        assert!(matches!(
            AgentId::new("a b"),
            Err(NameError::Character { found: ' ', .. })
        ));
        assert!(matches!(AgentId::new("é"), Err(NameError::Character { .. })));
        assert!(matches!(
            AgentId::new("x".repeat(129)),
            Err(NameError::TooLong { len: 129, .. })
        ));
        assert!(serde_json::from_str::<AgentId>("\"a\\u0000b\"").is_err());
    }
}
