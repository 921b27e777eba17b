//! Folding refusals: an agent that is refused a thousand times a second must not fill the audit log.
//!
//! The first refusal of a kind is recorded at once. Those that follow are counted, and one entry a minute
//! says how many there were, with the first and the last of them as evidence; after a minute without
//! any, the next one is a first again. Kinds are kept apart by agent, action and code, so that a flood of
//! one never hides another.
//!
//! What was counted and not yet written is lost in a crash: at most a minute of repetitions, never a
//! first.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::NewAudit;
use crate::domain::id::AgentId;

/// How long repetitions are gathered.
pub const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// How many kinds may be gathered at a time. Codes are a closed set and agents are configured, so this
/// is a bound for faults; past it, a refusal is recorded without folding.
const MAX_OPEN: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    agent: Option<AgentId>,
    action: String,
    code: String,
}

#[derive(Debug, Clone)]
struct Gathered {
    since: Timestamp,
    count: u64,
    /// Both set as soon as `count` is one.
    first: Option<NewAudit>,
    last: Option<NewAudit>,
}

/// The refusals of the last minute.
#[derive(Debug, Clone, Default)]
pub struct Folds {
    open: BTreeMap<Kind, Gathered>,
}

impl Folds {
    /// Takes a refusal; `code` is its rejection's stable code. Returns what must be recorded now.
    pub fn note(&mut self, code: &str, refusal: NewAudit) -> Vec<NewAudit> {
        let mut record = self.due(refusal.at);
        let kind = Kind {
            agent: refusal.agent.clone(),
            action: refusal.action.clone(),
            code: code.to_owned(),
        };
        match self.open.get_mut(&kind) {
            Some(gathered) => {
                gathered.count = gathered.count.saturating_add(1);
                if gathered.first.is_none() {
                    gathered.first = Some(refusal.clone());
                }
                gathered.last = Some(refusal);
            }
            None => {
                if self.open.len() < MAX_OPEN {
                    self.open.insert(
                        kind,
                        Gathered {
                            since: refusal.at,
                            count: 0,
                            first: None,
                            last: None,
                        },
                    );
                }
                record.push(refusal);
            }
        }
        record
    }

    /// What must be recorded now because its minute is over. Called at least once a minute.
    pub fn due(&mut self, now: Timestamp) -> Vec<NewAudit> {
        let mut record = Vec::new();
        self.open.retain(|kind, gathered| {
            if now.duration_since(gathered.since) < MINUTE {
                return true;
            }
            match fold(kind, gathered) {
                // Still going on: another minute begins, and its first one is no news.
                Some(entry) => {
                    record.push(entry);
                    *gathered = Gathered {
                        since: now,
                        count: 0,
                        first: None,
                        last: None,
                    };
                    true
                }
                None => false,
            }
        });
        record
    }

    /// Everything that is gathered, whatever its age; for the end of the daemon.
    pub fn drain(&mut self) -> Vec<NewAudit> {
        let open = std::mem::take(&mut self.open);
        open.iter()
            .filter_map(|(kind, gathered)| fold(kind, gathered))
            .collect()
    }
}

fn fold(kind: &Kind, gathered: &Gathered) -> Option<NewAudit> {
    let (first, last) = (gathered.first.as_ref()?, gathered.last.as_ref()?);
    if gathered.count == 1 {
        return Some(last.clone());
    }
    // Two evidences of the greatest length would not fit into one; half each leaves room for the rest.
    let evidence = serde_json::json!({
        "code": kind.code,
        "count": gathered.count,
        "from": first.at,
        "to": last.at,
        "first": as_json(&first.evidence),
        "last": as_json(&last.evidence),
    });
    Some(NewAudit {
        at: last.at,
        actor: last.actor.clone(),
        action: last.action.clone(),
        agent: kind.agent.clone(),
        reason: format!("{} times; the last: {}", gathered.count, last.reason),
        evidence: evidence.to_string(),
    })
}

/// Evidence is JSON text; what is not, or is too long to stand beside another, is kept as what it is.
fn as_json(evidence: &str) -> serde_json::Value {
    if evidence.len() > NewAudit::MAX_TEXT / 4 {
        return serde_json::json!({ "omitted_bytes": evidence.len() });
    }
    serde_json::from_str(evidence).unwrap_or_else(|_| serde_json::Value::from(evidence))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::entry;
    use super::*;

    /// How many refusals an entry stands for.
    fn counted(entry: &NewAudit) -> u64 {
        let evidence: serde_json::Value = serde_json::from_str(&entry.evidence).expect("JSON");
        evidence["count"].as_u64().unwrap_or(1)
    }

    #[test]
    fn the_first_is_recorded_at_once_and_the_rest_once_a_minute() {
        let mut folds = Folds::default();
        assert_eq!(folds.note("no_budget", entry(0, "the first")), [entry(0, "the first")]);
        for second in 1..=59 {
            assert_eq!(folds.note("no_budget", entry(second, &format!("at {second}"))), []);
        }
        let folded = folds.due(entry(60, "").at);
        assert_eq!(folded.len(), 1);
        assert_eq!(folded[0].reason, "59 times; the last: at 59");
        assert_eq!((folded[0].at, counted(&folded[0])), (entry(59, "").at, 59));
        // It goes on: no new first. One alone is itself.
        assert_eq!(folds.note("no_budget", entry(61, "later")), []);
        assert_eq!(folds.due(entry(119, "").at), []);
        assert_eq!(folds.due(entry(120, "").at), [entry(61, "later")]);
        // A quiet minute ends it.
        assert_eq!(folds.due(entry(180, "").at), []);
        assert_eq!(folds.note("no_budget", entry(181, "again")), [entry(181, "again")]);
        assert_eq!(folds.drain(), []);
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let mut folds = Folds::default();
        folds.note("no_budget", entry(0, ""));
        assert_eq!(folds.note("paused", entry(1, "another code")).len(), 1);
        let mut other = entry(1, "another agent");
        other.agent = None;
        assert_eq!(folds.note("no_budget", other).len(), 1);
        let mut other = entry(1, "another action");
        other.action = "denied".to_owned();
        assert_eq!(folds.note("no_budget", other).len(), 1);
        assert_eq!(folds.note("no_budget", entry(1, "the same")), []);
        assert_eq!(folds.drain(), [entry(1, "the same")]);
    }

    #[test]
    fn long_evidence_still_folds_into_json_within_the_bound() {
        let mut folds = Folds::default();
        for second in 0..3 {
            let mut long = entry(second, "");
            long.evidence = format!("\"{}\"", "x".repeat(NewAudit::MAX_TEXT - 2));
            folds.note("no_budget", long);
        }
        let folded = folds.drain();
        assert!(folded[0].evidence.len() <= NewAudit::MAX_TEXT);
        assert_eq!(counted(&folded[0]), 2);
    }

    proptest! {
        /// Nothing is lost and nothing counted twice, whatever comes when.
        #[test]
        fn every_refusal_is_recorded_exactly_once(events in prop::collection::vec((0i64..90, 0usize..3), 1..200)) {
            let mut folds = Folds::default();
            let (mut second, mut recorded) = (0, Vec::new());
            for (gap, code) in &events {
                second += gap;
                recorded.extend(folds.note(["a", "b", "c"][*code], entry(second, "")));
            }
            recorded.extend(folds.drain());
            let total: u64 = recorded.iter().map(counted).sum();
            prop_assert_eq!(total, events.len() as u64);
        }
    }
}
