//! Drills: rehearsals of the kill switch, and what is kept of them.
//!
//! A drill answers, before it counts, what containing an agent would do, how long it would take, and what
//! would burn on. There are two kinds.
//!
//! - A *plan* drill looks, makes the very plan that a containment would carry out, and asks the cloud step by
//!   step whether it would be allowed: by EC2's DryRun where there is one, by IAM's policy simulation of our own
//!   permissions where not. It changes nothing, and has no way to.
//! - A *canary* drill contains and restores marked things for real ([`canary`](crate::domain::containment::canary)).
//!
//! What came out is *evidence*: the whole report is kept as it was made, and its digest stands in the audit log,
//! written in the same transaction, so that a report that was changed afterwards shows (D3). Evidence ages: what
//! was rehearsed is what was declared then, so a drill is *stale* once the declaration has changed or a month has
//! gone by, and people are told so instead of being shown an old success.
//!
//! What must never happen: a step shown as proved that nobody asked about (L7). Each has a [proof](report::Proof), and what
//! cannot be known without doing it is said by name.

pub mod evidence;
pub mod predict;
pub mod report;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::audit::NewAudit;
use super::containment::target::CloudTargets;
use super::id::{AgentId, DrillId};

/// Drills of one agent that are kept; of older ones the digest stays in the audit log.
pub const KEPT: usize = 100;

/// How long a drill says something of today.
pub const FRESH: SignedDuration = SignedDuration::from_hours(24 * 30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    Plan,
    Canary,
}

impl DrillKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Canary => "canary",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing that was asked would be refused, and nothing was hidden.
    Passed,
    /// Something would be refused, or could not be looked at; for a canary, it did not come down or back.
    Failed,
    /// The agent was contained in earnest before the canary drill was over.
    Overtaken,
}

/// What a list of drills tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillHead {
    pub id: DrillId,
    pub agent: AgentId,
    pub kind: DrillKind,
    /// Who asked for it.
    pub by: String,
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub outcome: Outcome,
    /// One sentence.
    pub summary: String,
    /// A digest of what the agent declared then.
    pub declared: String,
    /// How long machines took to stop, if it was seen.
    pub stopping: Option<Duration>,
    /// SHA-256 of the report's text, in hexadecimal.
    pub digest: String,
}

/// A drill with its report, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    pub head: DrillHead,
    /// JSON, as it was made.
    pub report: String,
}

impl Drill {
    /// The entry that ties the report to the audit log, written with it.
    pub fn audit(&self) -> NewAudit {
        let head = &self.head;
        let evidence = serde_json::json!({
            "drill": head.id,
            "kind": head.kind,
            "outcome": head.outcome,
            "report_sha256": head.digest,
            "report_bytes": self.report.len(),
        });
        NewAudit {
            at: head.ended_at,
            actor: head.by.clone(),
            action: "drilled".to_owned(),
            agent: Some(head.agent.clone()),
            reason: head.summary.clone(),
            evidence: evidence.to_string(),
        }
    }

    /// Whether the report is the one that the head was made with.
    pub fn is_intact(&self) -> bool {
        self.head.digest == digest(&self.report)
    }
}

pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What the last drill says of today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub state: ReadinessState,
    /// One sentence for a person.
    pub why: String,
}

/// From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessState {
    Passed,
    Stale,
    Failed,
    Never,
}

/// What the last drills of an agent say now, given what it declares now. There is one of each kind at most, and the
/// worse one counts: a canary that came back says nothing of a permission that is missing.
pub fn readiness<'a>(
    last: impl IntoIterator<Item = &'a DrillHead>,
    declared: Option<&CloudTargets>,
    now: Timestamp,
) -> Readiness {
    let declared = fingerprint(declared);
    let each = last.into_iter().map(|head| one(head, &declared, now));
    each.max_by_key(|one| one.state).unwrap_or_else(|| Readiness {
        state: ReadinessState::Never,
        why: "the kill switch was never drilled for this agent".to_owned(),
    })
}

fn one(last: &DrillHead, declared: &str, now: Timestamp) -> Readiness {
    let age = now.duration_since(last.ended_at);
    let (state, why) = match last.outcome {
        Outcome::Failed | Outcome::Overtaken => (ReadinessState::Failed, last.summary.clone()),
        Outcome::Passed if last.declared != declared => {
            let why = "what the agent declares has changed since its last drill".to_owned();
            (ReadinessState::Stale, why)
        }
        Outcome::Passed if age > FRESH => {
            let days = age.as_hours() / 24;
            (ReadinessState::Stale, format!("its last drill was {days} days ago"))
        }
        Outcome::Passed => (ReadinessState::Passed, last.summary.clone()),
    };
    Readiness { state, why }
}

/// A digest of what an agent declares.
pub fn fingerprint(declared: Option<&CloudTargets>) -> String {
    // Plain data with texts for keys can be written.
    digest(&serde_json::to_string(&declared).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(outcome: Outcome) -> DrillHead {
        let at = Timestamp::from_second(1_000_000).unwrap();
        DrillHead {
            id: DrillId(uuid::Uuid::nil()),
            agent: AgentId::new("a").unwrap(),
            kind: DrillKind::Plan,
            by: "operator".to_owned(),
            began_at: at,
            ended_at: at,
            outcome,
            summary: "so it went".to_owned(),
            declared: fingerprint(None),
            stopping: None,
            digest: digest("{}"),
        }
    }

    #[test]
    fn evidence_ages_and_follows_the_declaration() {
        let now = |days: i64| {
            let began = head(Outcome::Passed).ended_at;
            began.checked_add(SignedDuration::from_hours(24 * days)).unwrap()
        };
        let state = |last: &[DrillHead], days| readiness(last, None, now(days)).state;
        assert_eq!(state(&[], 0), ReadinessState::Never);
        let passed = head(Outcome::Passed);
        assert_eq!(state(std::slice::from_ref(&passed), 30), ReadinessState::Passed);
        assert_eq!(state(std::slice::from_ref(&passed), 31), ReadinessState::Stale);
        assert_eq!(readiness([&passed], None, now(1)).why, "so it went");
        for outcome in [Outcome::Failed, Outcome::Overtaken] {
            assert_eq!(state(&[passed.clone(), head(outcome)], 1), ReadinessState::Failed);
        }
        let other = DrillHead {
            declared: "another".to_owned(),
            ..passed
        };
        assert_eq!(state(&[other], 0), ReadinessState::Stale);
    }

    #[test]
    fn a_report_that_was_changed_shows() {
        let mut drill = Drill {
            head: head(Outcome::Passed),
            report: "{}".to_owned(),
        };
        assert!(drill.is_intact());
        drill.report.push(' ');
        assert!(!drill.is_intact());
    }
}
