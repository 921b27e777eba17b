//! What was learnt of the cloud, kept for a start at which it does not answer.
//!
//! Who we are and which regions there are is asked of one place each, and a containment can do nothing
//! without either: it must know its guard (C5), its account, and where to look. So both are noted
//! durably while the cloud answers, and a daemon that starts while STS or the home region is down goes
//! by its notes.
//!
//! A note of an identity is believed only by the credentials with which it was learnt. These belong to
//! one principal of one account for as long as they exist, so the note is no guess; with other
//! credentials nothing is known. Credentials are noted by a [mark](crate::ports::Cloud::credentials_mark)
//! that tells nothing of them. What is done by a note is done; what is claimed waits for the cloud's own
//! word (C3).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::observed::Identity;
use super::state::StillBurning;
use super::target::{Guard, Region};

/// Notes that are kept; the oldest go first. The ones in use are written anew every few minutes.
pub const MAX_NOTES: usize = 64;

/// One thing that was learnt, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub learnt_at: Timestamp,
    pub fact: Fact,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fact {
    Identity {
        identity: Identity,
        /// The mark of the credentials that were asked about.
        credentials: String,
        /// The guard's machines at that time: a start that cannot learn on which one it runs must not
        /// take the last one for a target (C5).
        instances: Vec<String>,
    },
    /// The regions that are enabled for an account.
    Regions { account: String, regions: BTreeSet<Region> },
}

impl Fact {
    /// Two facts with the same key are one, known at different times.
    pub fn key(&self) -> String {
        match self {
            Self::Identity { credentials, .. } => format!("identity/{credentials}"),
            Self::Regions { account, .. } => format!("regions/{account}"),
        }
    }
}

/// Who we are, as noted earlier with the same credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    pub identity: Identity,
    pub learnt_at: Timestamp,
    guard: Guard,
}

impl Recalled {
    /// The guard with everybody and everything that was ever noted as its own.
    pub fn guard(&self, guard: &Guard) -> Guard {
        let own = self.guard.principals.iter();
        let mut all = own.fold(guard.clone(), |guard, arn| guard.with_principal(arn));
        for id in &self.guard.instances {
            if !all.covers_instance(id) {
                all.instances.push(id.clone());
            }
        }
        all
    }

    /// What the coverage says for as long as this is all there is (C3).
    pub fn line(&self) -> StillBurning {
        StillBurning {
            resource: "identity".to_owned(),
            why: format!(
                "who we are is remembered from {:.0}, when these credentials were last asked about, because AWS does \
                 not say it now; machines and principals are brought down, and nothing is claimed before it answers",
                self.learnt_at
            ),
        }
    }
}

/// Who holds these credentials, if that was noted.
pub fn recall(notes: &[Note], mark: &str) -> Option<Recalled> {
    let mut found: Option<(Identity, Timestamp)> = None;
    let mut guard = Guard::default();
    for note in notes {
        let Fact::Identity {
            identity,
            credentials,
            instances,
        } = &note.fact
        else {
            continue;
        };
        guard = guard.with_principal(&identity.arn);
        guard.instances.extend(instances.iter().cloned());
        let is_later = found.as_ref().is_none_or(|(_, at)| *at < note.learnt_at);
        if credentials == mark && is_later {
            found = Some((identity.clone(), note.learnt_at));
        }
    }
    found.map(|(identity, learnt_at)| Recalled {
        identity,
        learnt_at,
        guard,
    })
}

/// The regions of an account, as last noted.
pub fn noted_regions(notes: &[Note], account: &str) -> BTreeSet<Region> {
    let of_account = notes.iter().filter_map(|note| match &note.fact {
        Fact::Regions { account: of, regions } if of == account => Some((note.learnt_at, regions)),
        _ => None,
    });
    let newest = of_account.max_by_key(|(at, _)| *at);
    newest.map(|(_, regions)| regions.clone()).unwrap_or_default()
}

/// What the coverage says of regions that could not be listed, and how many of an earlier list were
/// looked at all the same.
pub fn unlisted_regions(why: &str, remembered: usize) -> StillBurning {
    let rest = match remembered {
        0 => String::new(),
        1 => "; the one of an earlier list is looked at".to_owned(),
        some => format!("; the {some} of an earlier list are looked at"),
    };
    StillBurning {
        resource: "regions".to_owned(),
        why: format!("the account's regions could not be listed: {why}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn arn(name: &str) -> String {
        format!("arn:aws:iam::123456789012:role/{name}")
    }

    fn identity(name: &str, credentials: &str, learnt: i64, instances: &[&str]) -> Note {
        Note {
            learnt_at: at(learnt),
            fact: Fact::Identity {
                identity: Identity {
                    account: "123456789012".to_owned(),
                    arn: arn(name),
                },
                credentials: credentials.to_owned(),
                instances: instances.iter().map(|id| (*id).to_owned()).collect(),
            },
        }
    }

    fn regions(account: &str, learnt: i64, names: &[&str]) -> Note {
        Note {
            learnt_at: at(learnt),
            fact: Fact::Regions {
                account: account.to_owned(),
                regions: names.iter().map(|name| Region((*name).to_owned())).collect(),
            },
        }
    }

    #[test]
    fn only_the_same_credentials_are_who_they_were() {
        let notes = [identity("a", "one", 1, &[]), identity("b", "two", 2, &[])];
        assert_eq!(recall(&notes, "one").unwrap().identity.arn, arn("a"));
        assert_eq!(recall(&notes, "two").unwrap().identity.arn, arn("b"));
        assert_eq!(recall(&notes, "three"), None);
        assert_eq!(recall(&[], "one"), None);
    }

    #[test]
    fn everybody_whom_the_daemon_ever_was_is_guarded() {
        let notes = [
            identity("a", "one", 1, &["i-old"]),
            identity("b", "two", 2, &["i-new", "i-old"]),
        ];
        let configured = Guard {
            principals: vec![arn("glass")],
            instances: vec!["i-named".to_owned()],
        };
        let guard = recall(&notes, "two").unwrap().guard(&configured);
        for name in ["a", "b", "glass"] {
            assert!(guard.covers_arn(&arn(name)), "{name}");
        }
        for id in ["i-old", "i-new", "i-named"] {
            assert!(guard.covers_instance(id), "{id}");
        }
        assert_eq!(guard.instances.len(), 3);
    }

    #[test]
    fn regions_are_an_accounts_and_the_latest() {
        let notes = [
            regions("1", 1, &["a", "b"]),
            regions("1", 3, &["a", "c"]),
            regions("1", 2, &["d"]),
            regions("2", 9, &["x"]),
        ];
        let names = |account| {
            let found = noted_regions(&notes, account).into_iter().map(|region| region.0);
            found.collect::<Vec<_>>()
        };
        assert_eq!(names("1"), ["a", "c"]);
        assert_eq!(names("2"), ["x"]);
        assert!(names("3").is_empty());
    }

    #[test]
    fn one_fact_has_one_key() {
        let key = |note: Note| note.fact.key();
        assert_eq!(key(identity("a", "one", 1, &[])), key(identity("a", "one", 2, &["i"])));
        assert_ne!(key(identity("a", "one", 1, &[])), key(identity("a", "two", 1, &[])));
        assert_ne!(key(regions("1", 1, &[])), key(regions("2", 1, &[])));
    }
}
