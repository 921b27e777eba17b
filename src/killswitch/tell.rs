//! What a sweep or a restore tells people: audit entries and notices, bounded.

use std::collections::BTreeSet;

use super::pass::Pass;
use crate::domain::containment::coverage::{CREATORS, Progress};
use crate::domain::containment::plan::Plan;
use crate::domain::containment::state::{Containment, StillBurning};
use crate::domain::containment::target::Resource;
use crate::ports::NoticeKind;

/// Lines of a list in one audit entry.
const LISTED: usize = 40;

/// A list for evidence: its length, and its first lines.
pub(super) fn bounded<T: serde::Serialize>(list: &[T]) -> serde_json::Value {
    serde_json::json!({ "count": list.len(), "first": list.iter().take(LISTED).collect::<Vec<_>>() })
}

/// Tells of a containment that was proved or disturbed.
pub(super) fn progress(pass: &Pass<'_>, containment: &Containment, progress: Progress) {
    let coverage = &containment.coverage;
    let evidence = serde_json::json!({
        "containment": containment.id,
        "generation": containment.generation,
        "sweeps": containment.sweeps,
        "denied": bounded(&coverage.denied),
        "capped": bounded(&coverage.capped),
        "ended": bounded(&coverage.ended),
        "ended_before": coverage.ended_before,
        "stopped": bounded(&coverage.stopped),
        "still_burning": bounded(&coverage.still_burning),
        "attribution_pending_until": coverage.attribution_pending_until,
        "attribution_pending": bounded(&coverage.attribution_pending),
        "usd_per_hour_before": coverage.burn.map(|burn| burn.before.to_string()),
        "usd_per_hour_now": coverage.burn.map(|burn| burn.now.to_string()),
        "usd_burnt": coverage.burnt.map(|burnt| burnt.usd.to_string()),
        "times": coverage.times,
    });
    match progress {
        Progress::Same => {}
        Progress::Contained => {
            let burn = coverage.burn.map_or_else(String::new, |burn| {
                format!(
                    "; what is the agent's costs ${} an hour of ${} before, at list prices",
                    burn.now, burn.before
                )
            });
            let pending = coverage.attribution_pending_until.map_or_else(String::new, |until| {
                format!("; attribution pending: who made what is not read up to {until:.0} yet, and more may turn up")
            });
            let text = format!(
                "contained: {} denied, {} capped, {} ended, {} stopped, {} still burning{burn}{pending}",
                coverage.denied.len(),
                coverage.capped.len(),
                u64::try_from(coverage.ended.len())
                    .unwrap_or(u64::MAX)
                    .saturating_add(coverage.ended_before),
                coverage.stopped.len(),
                coverage.still_burning.len()
            );
            pass.audit("contained", text.clone(), &evidence);
            pass.notice(NoticeKind::Contained, text);
            if !coverage.still_burning.is_empty() {
                pass.notice(NoticeKind::StillBurning, burning(&coverage.still_burning));
            }
        }
        Progress::Disturbed => {
            let text = "something of the agent's came up while contained; it is being brought down".to_owned();
            pass.audit("disturbed", text.clone(), &evidence);
            pass.notice(NoticeKind::Containing, text);
        }
    }
}

/// Tells that who made what is known by now, after it was told that it was not.
pub(super) fn attributed(pass: &Pass<'_>, containment: &Containment) {
    let (before, now) = (&pass.containment.coverage, &containment.coverage);
    let is_settled = before.attribution_pending_until.is_some() && now.attribution_pending_until.is_none();
    // Some of it may have been given up: that is told as still burning, and the rest as known.
    let is_lost = now.still_burning.iter().any(|line| line.resource.starts_with(CREATORS));
    if is_settled && !is_lost {
        let text = "the record of who made what is read: nothing more of the agent's is on its way".to_owned();
        let evidence = serde_json::json!({ "containment": containment.id, "phase": containment.phase });
        pass.audit("attributed", text, &evidence);
    }
}

/// Tells of a canary drill that reached its proof. It goes into the log alone: nobody's agent is contained.
pub(super) fn canary(pass: &Pass<'_>, containment: &Containment, progress: Progress) {
    if progress != Progress::Contained {
        return;
    }
    let coverage = &containment.coverage;
    let evidence = serde_json::json!({
        "containment": containment.id,
        "drill": containment.canary.as_ref().map(|canary| canary.drill),
        "capped": bounded(&coverage.capped),
        "stopped": bounded(&coverage.stopped),
        "times": coverage.times,
    });
    let (stopped, capped) = (coverage.stopped.len(), coverage.capped.len());
    let text = format!("the canaries are down: {stopped} stopped, {capped} capped; they are put back now");
    pass.audit("canary_down", text, &evidence);
}

/// Tells of what burns and was not told of before. It does not wait for the proof, which may be long in
/// coming, and goes on after it. Returns all that has been told, for the next sweep; after a restart
/// (`None`) that is what the last coverage says.
pub(super) fn burns(
    pass: &Pass<'_>,
    plan: &Plan,
    lost: &[StillBurning],
    progress: Progress,
    told: Option<&BTreeSet<String>>,
) -> BTreeSet<String> {
    let lines: Vec<&StillBurning> = lasting(plan).into_iter().chain(lost).collect();
    let mut all: BTreeSet<String> = lines.iter().map(|line| line.resource.clone()).collect();
    if progress == Progress::Contained {
        // The proof has told of all of it; what came to an end in between is told of anew if it returns.
        return all;
    }
    let before = &pass.containment.coverage.still_burning;
    // Of the guard's own it was said that they match, when they first did.
    let guarded: BTreeSet<&String> = plan.guarded().collect();
    let is_new = |line: &&&StillBurning| {
        let known = told.map_or_else(|| before.contains(line), |told| told.contains(&line.resource));
        !known && !guarded.contains(&line.resource)
    };
    let new: Vec<StillBurning> = lines.iter().filter(is_new).map(|line| (*line).clone()).collect();
    if !new.is_empty() {
        let text = burning(&new);
        let evidence = serde_json::json!({ "containment": pass.containment.id, "lines": bounded(&new) });
        pass.audit("still_burning", text.clone(), &evidence);
        pass.notice(NoticeKind::StillBurning, text);
    }
    all.extend(told.into_iter().flatten().cloned());
    all
}

/// What goes on burning as far as one sweep can tell: not what it is just bringing down.
fn lasting(plan: &Plan) -> Vec<&StillBurning> {
    let principals = plan.principals.unseen.iter().chain(&plan.principals.burning);
    let regions = plan
        .regions
        .iter()
        .flat_map(|region| region.unseen.iter().chain(&region.burning));
    plan.unseen
        .iter()
        .chain(principals)
        .chain(&plan.burning)
        .chain(regions)
        .collect()
}

fn burning(lines: &[StillBurning]) -> String {
    let first: Vec<String> = lines
        .iter()
        .take(5)
        .map(|line| format!("{} ({})", line.resource, line.why))
        .collect();
    let more = lines.len().saturating_sub(first.len());
    let tail = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    format!("still burning: {}{tail}", first.join("; "))
}

/// Tells that somebody undid what a containment holds.
pub(super) fn put_back(pass: &Pass<'_>, resource: &Resource, text: String) {
    let evidence = serde_json::json!({ "resource": resource.to_string() });
    pass.audit("put_back", text.clone(), &evidence);
    pass.notice(NoticeKind::StillBurning, text);
}

/// Whether an audit entry tells of something that was done or refused, and not of a state that was
/// reached: it is true even if the pass that did it is overtaken before its end.
pub(super) fn is_a_deed(action: &str) -> bool {
    matches!(action, "step_failed" | "put_back" | "guard_matched")
}
