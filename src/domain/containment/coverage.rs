//! Coverage: what an observation proved, and when a containment may be called contained (C3).
//!
//! Two quiet sweeps in a row, a spacing apart, prove it: one alone might have fallen between a launch
//! and its appearance in a listing. Once proved, it is held (C2): a later sweep that finds something
//! takes the claim back until two quiet sweeps have proved it again.

use jiff::{SignedDuration, Timestamp};

use super::hourly::PriceBasis;
use super::plan::Plan;
use super::state::{Containment, Coverage, FleetBurn, Mode, Phase, StillBurning};
use crate::domain::money::Usd;

/// Lines of each list in a coverage at most; what is left out is counted.
pub const MAX_LISTED: usize = 2_000;

/// Quiet sweeps in a row that prove a containment.
pub const QUIET_SWEEPS: i64 = 2;

/// The line that says that creators are not known.
pub const CREATORS: &str = "creators";

/// What one sweep made of a containment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that a person need be told.
    Same,
    /// Proved, for the first time or again.
    Contained,
    /// Something was found after it was proved.
    Disturbed,
}

/// Writes a sweep into its containment: the coverage, the count of quiet sweeps, the phase.
pub fn after_sweep(
    containment: &Containment,
    plan: &Plan,
    now: Timestamp,
    spacing: SignedDuration,
    attribution_lag: Option<SignedDuration>,
) -> (Containment, Progress) {
    let mut next = containment.clone();
    next.version += 1;
    next.sweeps += 1;
    let too_soon = containment.quiet > 0
        && containment.quiet < QUIET_SWEEPS
        && containment
            .coverage
            .observed_at
            .is_some_and(|last| now.duration_since(last) < spacing);
    let observed_at = if plan.is_quiet() && too_soon {
        containment.coverage.observed_at
    } else {
        Some(now)
    };
    next.coverage = coverage(plan, observed_at);
    // Where machines were looked for, some are found by their creator alone.
    if containment.mode == Mode::Contain && !plan.regions.is_empty() {
        match attribution_lag {
            Some(lag) => next.coverage.attribution_pending_until = containment.opened_at.checked_add(lag).ok(),
            None => next.coverage.still_burning.push(no_creators()),
        }
    }
    next.quiet = match (plan.is_quiet(), too_soon) {
        (false, _) => 0,
        (true, true) => containment.quiet,
        (true, false) => containment.quiet.saturating_add(1),
    };
    let progress = match containment.phase {
        Phase::Containing if next.quiet >= QUIET_SWEEPS => {
            next.phase = Phase::Contained;
            next.contained_at = Some(now);
            Progress::Contained
        }
        Phase::Contained if plan.found_something() => {
            next.phase = Phase::Containing;
            Progress::Disturbed
        }
        _ => Progress::Same,
    };
    (next, progress)
}

/// The gap that a report must not hide (C3). It is no sign of unrest: nothing that is known burns there.
fn no_creators() -> StillBurning {
    StillBurning {
        resource: CREATORS.to_owned(),
        why: "who created a machine is not known here: one that the agent started without the ownership tag and \
              without its instance profile is not looked for"
            .to_owned(),
    }
}

fn coverage(plan: &Plan, observed_at: Option<Timestamp>) -> Coverage {
    let mut burning: Vec<StillBurning> = Vec::new();
    burning.extend(plan.unseen.iter().cloned());
    burning.extend(plan.principals.unseen.iter().cloned());
    burning.extend(plan.principals.burning.iter().cloned());
    let underway = |resource: String, why: &str| StillBurning {
        resource,
        why: why.to_owned(),
    };
    for deny in &plan.principals.denies {
        let kind = super::target::Resource::Principal {
            principal: deny.principal.clone(),
        };
        burning.push(underway(kind.to_string(), &deny.why));
    }
    for key in &plan.principals.keys {
        burning.push(underway(
            format!("key:{}/{}", key.user, key.key_id),
            "it is being made inactive",
        ));
    }
    for credential in &plan.principals.credentials {
        burning.push(underway(
            format!("credential:{}/{}", credential.user, credential.id),
            "it is being made inactive",
        ));
    }
    burning.extend(plan.burning.iter().cloned());
    for region in &plan.regions {
        burning.extend(region.unseen.iter().cloned());
        burning.extend(region.burning.iter().cloned());
        burning.extend(region.waiting.iter().cloned());
        let ids = region.stops.iter().chain(&region.terminates).flatten();
        burning.extend(ids.map(|id| underway(format!("instance:{}/{id}", region.region), "it is being stopped")));
    }
    if burning.len() > MAX_LISTED {
        let more = burning.len() - MAX_LISTED;
        burning.truncate(MAX_LISTED);
        burning.push(underway(
            "more".to_owned(),
            &format!("{more} further lines are left out"),
        ));
    }
    let bounded = |mut list: Vec<String>| {
        if list.len() > MAX_LISTED {
            let more = list.len() - MAX_LISTED;
            list.truncate(MAX_LISTED);
            list.push(format!("and {more} more"));
        }
        list
    };
    Coverage {
        observed_at,
        denied: bounded(plan.principals.denied.clone()),
        stopped: bounded(
            plan.regions
                .iter()
                .flat_map(|region| region.stopped.iter().cloned())
                .collect(),
        ),
        still_burning: burning,
        attribution_pending_until: None,
        burn: burn(plan),
    }
}

/// `None` where no region was looked at: that says nothing of what runs there.
fn burn(plan: &Plan) -> Option<FleetBurn> {
    let none = FleetBurn {
        before: Usd::ZERO,
        now: Usd::ZERO,
        basis: PriceBasis::Listed,
    };
    let costs = plan.regions.iter().flat_map(|region| region.costs.values());
    (!plan.regions.is_empty()).then(|| {
        costs.fold(none, |sum, cost| FleetBurn {
            before: sum.before.saturating_add(cost.hourly.usd),
            now: if cost.runs {
                sum.now.saturating_add(cost.hourly.usd)
            } else {
                sum.now
            },
            basis: sum.basis.max(cost.hourly.basis),
        })
    })
}
