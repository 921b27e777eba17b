//! The evidence of a canary drill: what was stopped and came back, and when.
//!
//! It is read from what the containment left in the store (its steps, its before-images, the times of its
//! proof), never from a memory of the run: so a drill that crashed and was resumed tells the same story, and a
//! step that nobody recorded is not told.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::report::Line;
use super::{Drill, DrillHead, DrillKind, Outcome, digest, fingerprint};
use crate::domain::containment::canary::Canary;
use crate::domain::containment::image::{Before, BeforeImage};
use crate::domain::containment::restore::{PUT_BACK, STARTED};
use crate::domain::containment::state::{Action, Containment, Step, StepClass};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::{CloudTargets, Resource};
use crate::domain::id::ContainmentId;

/// What became of one canary; seconds from the drill's beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryResult {
    pub resource: String,
    pub action: Action,
    /// When the call that stops or caps it was answered; when it was made, if a crash kept us from the answer.
    pub asked_s: Option<f64>,
    /// When the call that starts or uncaps it was answered.
    pub back_asked_s: Option<f64>,
    /// When it was seen to be back.
    pub back_s: Option<f64>,
    /// What a restore said of it.
    pub outcome: String,
    pub passed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryReport {
    pub containment: ContainmentId,
    pub canaries: Vec<CanaryResult>,
    /// When a sweep first saw all of them down.
    pub down_s: Option<f64>,
    /// When a second one proved it.
    pub proved_s: Option<f64>,
    /// When what was done began to be put back.
    pub restoring_s: Option<f64>,
    pub ended_s: f64,
    /// What the sweeps said of a canary that did not come down.
    pub still_burning: Vec<Line>,
    pub proves: Vec<String>,
    pub does_not_prove: Vec<String>,
}

/// The evidence of a canary drill that is over: `images` are those that its restore settled.
pub fn canary(
    containment: &Containment,
    canary: &Canary,
    declared: Option<&CloudTargets>,
    steps: &Steps,
    images: &[BeforeImage],
    now: Timestamp,
) -> Drill {
    let seconds = |at: Timestamp| seconds(containment, at);
    let newest: BTreeMap<&Resource, &BeforeImage> = images.iter().map(|image| (&image.resource, image)).collect();
    let result = |resource: &Resource| {
        let (stop, start) = match resource {
            Resource::Instance { .. } => (Action::StopInstance, Action::StartInstance),
            _ => (Action::Cap, Action::Uncap),
        };
        let at = |action| {
            // One that was under way at a crash and is seen to have worked was ours as well.
            let step = steps.get(action, resource).filter(|step| step.may_have_happened());
            step.map(|step: &Step| seconds(step.last_at))
        };
        let image = newest.get(resource).filter(|image| image.restored_at.is_some());
        let outcome = image.and_then(|image| image.outcome.clone());
        let back = match image.map(|image| &image.before) {
            Some(Before::Instance { .. }) => STARTED,
            _ => PUT_BACK,
        };
        let passed = at(stop).is_some() && outcome.as_deref() == Some(back);
        CanaryResult {
            resource: resource.to_string(),
            action: stop,
            asked_s: at(stop),
            back_asked_s: at(start),
            back_s: image
                .and_then(|image| image.restored_at)
                .map(seconds)
                .filter(|_| passed),
            outcome: outcome.unwrap_or_else(|| "nothing was recorded of it: it was never touched".to_owned()),
            passed,
        }
    };
    let canaries: Vec<CanaryResult> = canary.resources().iter().map(result).collect();
    let named = |id: &str| canaries.iter().any(|one| one.resource == id);
    let burning = containment.coverage.still_burning.iter();
    let burning = burning.filter(|one| named(&one.resource)).map(|one| Line {
        resource: one.resource.clone(),
        why: one.why.clone(),
        usd_per_hour: None,
    });
    let down = containment.coverage.times.get(&StepClass::Quiet).map(|span| span.first);
    let report = CanaryReport {
        containment: containment.id,
        down_s: down.map(seconds),
        proved_s: containment.contained_at.map(seconds),
        restoring_s: containment.restoring_at.map(seconds),
        ended_s: seconds(now),
        still_burning: burning.collect(),
        canaries,
        proves: PROVES.map(str::to_owned).to_vec(),
        does_not_prove: DOES_NOT_PROVE.map(str::to_owned).to_vec(),
    };
    let passed = report.canaries.iter().filter(|one| one.passed).count();
    let all = report.canaries.len();
    let went_well = passed == all && report.proved_s.is_some() && report.still_burning.is_empty();
    let summary = match (went_well, report.down_s) {
        (true, Some(down)) => format!(
            "{all} of {all} canaries down in {down:.0} s and back in {:.0} s",
            report.ended_s
        ),
        _ => format!("only {passed} of {all} canaries came down and back"),
    };
    // From the call to the look that saw it: a little more than the machine's own time.
    let machines = report.canaries.iter().filter(|one| one.action == Action::StopInstance);
    let asked = machines
        .filter_map(|one| one.asked_s)
        .fold(None, |last: Option<f64>, at| Some(last.map_or(at, |last| last.max(at))));
    let stopping = match (asked, report.down_s) {
        (Some(asked), Some(down)) if went_well => Duration::try_from_secs_f64(down - asked).ok(),
        _ => None,
    };
    let outcome = if went_well { Outcome::Passed } else { Outcome::Failed };
    drill(
        containment,
        canary,
        declared,
        &report,
        (outcome, summary, stopping),
        now,
    )
}

/// The evidence of one that a containment in earnest took over.
pub fn overtaken(containment: &Containment, canary: &Canary, declared: Option<&CloudTargets>, now: Timestamp) -> Drill {
    let report = CanaryReport {
        containment: containment.id,
        canaries: Vec::new(),
        down_s: None,
        proved_s: containment.contained_at.map(|at| seconds(containment, at)),
        restoring_s: containment.restoring_at.map(|at| seconds(containment, at)),
        ended_s: seconds(containment, now),
        still_burning: Vec::new(),
        proves: Vec::new(),
        does_not_prove: DOES_NOT_PROVE.map(str::to_owned).to_vec(),
    };
    let summary = "the agent was contained in earnest meanwhile; a reset of that puts the canaries back too";
    let end = (Outcome::Overtaken, summary.to_owned(), None);
    drill(containment, canary, declared, &report, end, now)
}

/// What a canary drill that passed has shown.
pub const PROVES: [&str; 4] = [
    "our credentials may stop, start, cap and uncap what carries the ownership tag",
    "before-images are recorded, and read back by the restore that used them",
    "the proof by two quiet sweeps comes, in the time that is told",
    "a restore brings back what ran before, and touches nothing else",
];

/// What it has not, whatever came out.
pub const DOES_NOT_PROVE: [&str; 4] = [
    "that the agent's roles and users are denied: a drill touches no principal; read-back and simulation tell of those",
    "that what carries no ownership tag is found: canaries are known by their tags alone",
    "that every machine stops: one with stop protection, or a one-time spot machine, does not",
    "how long a containment of everything takes: a plan drill predicts that, with this drill's figure for a stop",
];

fn drill(
    containment: &Containment,
    canary: &Canary,
    declared: Option<&CloudTargets>,
    report: &CanaryReport,
    (outcome, summary, stopping): (Outcome, String, Option<Duration>),
    now: Timestamp,
) -> Drill {
    // Plain data with texts for keys can be written.
    let report = serde_json::to_string(report).unwrap_or_default();
    Drill {
        head: DrillHead {
            id: canary.drill,
            agent: containment.agent.clone(),
            kind: DrillKind::Canary,
            by: canary.by.clone(),
            began_at: containment.opened_at,
            ended_at: now,
            outcome,
            summary,
            declared: fingerprint(declared),
            stopping,
            digest: digest(&report),
        },
        report,
    }
}

fn seconds(containment: &Containment, at: Timestamp) -> f64 {
    at.duration_since(containment.opened_at).as_secs_f64()
}
