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

/// Who made each thing and when, by ARN. Of a name that was used twice the later maker counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Makers(BTreeMap<AssetRef, (Timestamp, String)>);

impl Makers {
    pub fn of(creations: &[Creation]) -> Self {
        let mut makers = Self::default();
        for creation in creations {
            makers.note(creation);
        }
        makers
    }

    /// Notes one more; events may come out of order.
    pub fn note(&mut self, creation: &Creation) {
        for made in &creation.made {
            let is_later = self.0.get(made).is_none_or(|(at, _)| *at <= creation.at);
            if is_later {
                self.0.insert(made.clone(), (creation.at, creation.by.clone()));
            }
        }
    }

    /// Whether all of what it says is known.
    pub fn knows(&self, creation: &Creation) -> bool {
        let known = |what| self.0.get(what).is_some_and(|(at, _)| *at >= creation.at);
        creation.made.iter().all(known)
    }

    pub fn maker(&self, what: &AssetRef) -> Option<&str> {
        self.0.get(what).map(|(_, by)| by.as_str())
    }

    /// The newest creation in a region.
    pub fn newest_in(&self, region: &Region) -> Option<Timestamp> {
        let own = self.0.iter().filter(|(what, _)| what.region == *region);
        own.map(|(_, (at, _))| *at).max()
    }

    /// What these principals made, and nobody made anew since.
    pub fn created_by(&self, principals: &[Principal]) -> BTreeSet<AssetRef> {
        let name = |arn: &str| PrincipalName::parse(arn).map(|name| name.to_string());
        let names: BTreeSet<String> = principals.iter().filter_map(|one| name(one.arn())).collect();
        let own = self.0.iter();
        let own = own.filter(|(_, (_, by))| name(by).is_some_and(|by| names.contains(&by)));
        own.map(|(what, _)| what.clone()).collect()
    }
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
        let mut makers = Makers::of(&creations);
        assert_eq!(makers.created_by(&role("a")), BTreeSet::from([what("y"), what("z")]));
        assert_eq!(makers.created_by(&role("b")), BTreeSet::from([what("x")]));
        assert!(makers.created_by(&role("c")).is_empty());
        assert_eq!(makers.newest_in(&what("x").region), Some(creations[0].at));
        assert!(makers.knows(&creation(4, "c", &["x"])) && !makers.knows(&creation(6, "c", &["x"])));
        makers.note(&creation(4, "c", &["x"]));
        assert_eq!(makers.maker(&what("x")), Some("arn:aws:iam::123456789012:role/b"));
    }
}
