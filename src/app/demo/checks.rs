//! The promises that the demo has shown, checked at its end.

use serde_json::Value;

use super::scene::Scene;
use super::timeline::Timeline;
use crate::cloud::rehearsal::fleet::FleetSnapshot;
use crate::domain::containment::observed::InstanceState;
use crate::domain::money::Usd;

pub(super) struct Check {
    pub(super) promise: &'static str,
    pub(super) what: String,
    pub(super) kept: bool,
}

#[derive(Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    pub(super) fn all(&self) -> &[Check] {
        &self.0
    }

    fn add(&mut self, promise: &'static str, kept: bool, what: String) {
        self.0.push(Check { promise, what, kept });
    }

    /// What the independent auditor says of the ledger.
    pub(super) fn ledger(&mut self, verified: &Value) {
        let faults = verified["faults"].as_array().map_or(usize::MAX, Vec::len);
        let what = format!(
            "the auditor recomputed the ledger: lines {}, postings {}",
            verified["lines"], verified["postings"]
        );
        self.add("L1 L2 L3 L6", faults == 0, what);
    }

    pub(super) fn audit_log(&mut self, verified: &Value) {
        self.add(
            "D3",
            verified["ok"] == true,
            "the audit log's chain holds against its signed heads".to_owned(),
        );
    }

    pub(super) fn sum(&mut self, posted: Usd, acknowledged: Usd) {
        let what = format!("${posted} posted, ${acknowledged} acknowledged to the agent");
        self.add("L5 L6", posted == acknowledged, what);
    }

    pub(super) fn stopped(&mut self, during: &FleetSnapshot, scene: &Scene) {
        let state = |id: &String| {
            during
                .machines
                .iter()
                .find(|(name, _)| name.ends_with(id.as_str()))
                .map(|(_, state)| *state)
        };
        let owned = scene.owned.iter().all(|id| state(id) == Some(InstanceState::Stopped));
        let foreign = scene.foreign.iter().all(|id| state(id) == Some(InstanceState::Running));
        let what = format!(
            "the agent's {} machines were stopped, {} of other people were not touched",
            scene.owned.len(),
            scene.foreign.len()
        );
        self.add("C3", owned && foreign, what);
    }

    pub(super) fn refused(&mut self, refused: bool) {
        self.add(
            "C2",
            refused,
            "while contained the agent could start nothing".to_owned(),
        );
    }

    pub(super) fn restored(&mut self, before: &FleetSnapshot, after: &FleetSnapshot) {
        self.add(
            "C4",
            before == after,
            "after the reset the account is as it was before".to_owned(),
        );
    }

    pub(super) fn told_once(&mut self, timeline: &Timeline) {
        let (alerts, breaches) = (timeline.count("alert"), timeline.count("breach"));
        let what = format!("{alerts} alerts and {breaches} breach were told, each once");
        self.add("L2", alerts == 2 && breaches == 1, what);
    }
}
