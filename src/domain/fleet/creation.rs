//! A creation: who made something, as the cloud's own record of calls says.
//!
//! A runaway agent launches machines without the ownership tag. The record (CloudTrail, or the same event by
//! EventBridge) names the principal that called, and what it made belongs to that principal's agent.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::asset::AssetRef;
use crate::domain::containment::guard::PrincipalName;
use crate::domain::containment::target::{Principal, Region};

/// For how long a creation is kept. The cloud's own record goes no further back.
pub const KEEP_DAYS: i64 = 90;

/// Creations that are kept at most; the oldest go first.
pub const MAX_CREATIONS: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    /// The event's own id: the same event by two ways is one.
    pub event: String,
    /// The call, such as `RunInstances`.
    pub call: String,
    pub at: Timestamp,
    pub account: String,
    pub region: Region,
    /// The ARN of the role or user that called; of an assumed role the role, not its session.
    pub by: String,
    pub made: Vec<AssetRef>,
}

/// Who made each thing, by ARN. Of a name that was used twice the later maker counts.
pub fn makers(creations: &[Creation]) -> BTreeMap<AssetRef, (Timestamp, String)> {
    let mut makers = BTreeMap::new();
    for creation in creations {
        for made in &creation.made {
            note_maker(&mut makers, made, creation);
        }
    }
    makers
}

/// Notes one more; events may come out of order.
pub fn note_maker(makers: &mut BTreeMap<AssetRef, (Timestamp, String)>, made: &AssetRef, creation: &Creation) {
    let is_later = makers.get(made).is_none_or(|(at, _)| *at <= creation.at);
    if is_later {
        makers.insert(made.clone(), (creation.at, creation.by.clone()));
    }
}

/// What these principals made, and nobody made anew since.
pub fn created_by(creations: &[Creation], principals: &[Principal]) -> BTreeSet<AssetRef> {
    let name = |arn: &str| PrincipalName::parse(arn).map(|name| name.to_string());
    let names: BTreeSet<String> = principals.iter().filter_map(|principal| name(principal.arn())).collect();
    let makers = makers(creations).into_iter();
    makers
        .filter(|(_, (_, by))| name(by).is_some_and(|by| names.contains(&by)))
        .map(|(what, _)| what)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fleet::asset::Kind;

    fn what(id: &str) -> AssetRef {
        AssetRef {
            kind: Kind::named("group"),
            region: Region("eu-west-1".to_owned()),
            id: id.to_owned(),
        }
    }

    fn creation(at: i64, by: &str, made: &[&str]) -> Creation {
        Creation {
            event: format!("{at}-{by}"),
            call: "CreateAutoScalingGroup".to_owned(),
            at: Timestamp::from_second(at).unwrap(),
            account: "123456789012".to_owned(),
            region: Region("eu-west-1".to_owned()),
            by: format!("arn:aws:iam::123456789012:role/{by}"),
            made: made.iter().map(|id| what(id)).collect(),
        }
    }

    #[test]
    fn what_was_made_is_the_last_makers() {
        let role = |name: &str| vec![Principal::Role(format!("arn:aws:iam::123456789012:role/agents/{name}"))];
        let creations = [
            creation(5, "b", &["x"]),
            creation(1, "a", &["x", "y"]),
            creation(2, "a", &["z"]),
        ];
        assert_eq!(created_by(&creations, &role("a")), BTreeSet::from([what("y"), what("z")]));
        assert_eq!(created_by(&creations, &role("b")), BTreeSet::from([what("x")]));
        assert!(created_by(&creations, &role("c")).is_empty());
    }
}
