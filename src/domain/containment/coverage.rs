//! Coverage: what an observation proved, and when a containment may be called contained (C3).
//!
//! Two quiet sweeps in a row, a spacing apart, prove it: one alone might have fallen between a launch
//! and its appearance in a listing. Once proved, it is held (C2): a later sweep that finds something
//! takes the claim back until two quiet sweeps have proved it again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::attribution::Attribution;
use super::hourly::{Hourly, PriceBasis};
use super::plan::{Plan, RegionPlan};
use super::state::{Burnt, Containment, Coverage, FleetBurn, Phase, StillBurning};
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

/// Writes a sweep into its containment: the coverage, the count of quiet sweeps, the phase. What is not known
/// of who made what neither proves nor disturbs it: the report says that it is pending, or lost.
pub fn after_sweep(
    containment: &Containment,
    plan: &Plan,
    now: Timestamp,
    spacing: SignedDuration,
    attribution: &Attribution,
) -> (Containment, Progress) {
    let mut next = containment.clone();
    next.version += 1;
    next.sweeps += 1;
    let proving = containment.quiet > 0 && containment.quiet < QUIET_SWEEPS;
    let too_soon = proving
        && containment
            .coverage
            .observed_at
            .is_some_and(|last| now.duration_since(last) < spacing);
    // A sweep that still waits for an answer neither proves nor disproves: the two that prove have each seen
    // everything, and none between them found anything.
    let is_undecided = plan.is_undecided();
    let observed_at = if (plan.is_quiet() && too_soon) || (is_undecided && proving) {
        containment.coverage.observed_at
    } else {
        Some(now)
    };
    next.coverage = coverage(plan, observed_at, &containment.coverage);
    next.coverage.burnt = burnt(containment, next.coverage.burn, now);
    next.coverage.attribution_pending_until = attribution.pending_until;
    next.coverage.attribution_pending.clone_from(&attribution.pending);
    next.coverage.still_burning.extend(attribution.lost.iter().cloned());
    next.quiet = match (plan.is_quiet(), too_soon) {
        (false, _) if is_undecided => containment.quiet,
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

fn coverage(plan: &Plan, observed_at: Option<Timestamp>, before: &Coverage) -> Coverage {
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
        let caps = region.caps.iter();
        burning.extend(caps.map(|cap| underway(cap.asset.to_string(), "it is being capped")));
        let ends = region.ends.iter();
        burning.extend(ends.map(|asset| underway(asset.to_string(), "it is being ended")));
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
    let all = |list: fn(&RegionPlan) -> &Vec<String>| {
        let regions = plan.regions.iter();
        bounded(regions.flat_map(|region| list(region).iter().cloned()).collect())
    };
    Coverage {
        observed_at,
        denied: bounded(plan.principals.denied.clone()),
        stopped: all(|region| &region.stopped),
        capped: all(|region| &region.capped),
        ended: all(|region| &region.ended),
        ended_before: before.ended_before,
        still_burning: burning,
        hourly: hourly(plan, before),
        attribution_pending_until: None,
        attribution_pending: Vec::new(),
        burn: burn(plan, before.burn),
        burnt: before.burnt,
        times: before.times.clone(),
    }
}

/// What each thing costs. What was ended is not seen any more and what is capped is not charged for: both cost
/// what they did when they were. And a look that failed forgets nothing, so what is not seen now keeps the price
/// that it had.
fn hourly(plan: &Plan, before: &Coverage) -> BTreeMap<String, Hourly> {
    let costs = plan.regions.iter().flat_map(|region| &region.costs);
    let costs = costs.map(|(id, cost)| (id.clone(), cost.hourly));
    let mut hourly: BTreeMap<String, Hourly> = costs.take(MAX_LISTED).collect();
    for (id, price) in &before.hourly {
        if hourly.len() < MAX_LISTED {
            hourly.entry(id.clone()).or_insert(*price);
        }
    }
    hourly
}

/// `None` where no region was looked at: that says nothing of what runs there. What it was before is the most
/// that was ever seen: what was ended is not seen any more.
fn burn(plan: &Plan, earlier: Option<FleetBurn>) -> Option<FleetBurn> {
    if plan.regions.is_empty() {
        return None;
    }
    let mut sum = FleetBurn {
        before: Usd::ZERO,
        now: Usd::ZERO,
        basis: PriceBasis::Listed,
    };
    for cost in plan.regions.iter().flat_map(|region| region.costs.values()) {
        sum.before = sum.before.saturating_add(cost.hourly.usd);
        if cost.runs {
            sum.now = sum.now.saturating_add(cost.hourly.usd);
        }
        sum.basis = sum.basis.max(cost.hourly.basis);
    }
    if let Some(earlier) = earlier {
        sum.before = sum.before.max(earlier.before);
        sum.basis = sum.basis.max(earlier.basis);
    }
    Some(sum)
}

/// What was burnt up to now. Between two looks the larger burn is taken: what came up in between is never
/// reckoned at nothing.
fn burnt(containment: &Containment, now_burns: Option<FleetBurn>, now: Timestamp) -> Option<Burnt> {
    let earlier = containment.coverage.burnt;
    let Some(burn) = now_burns else {
        return earlier;
    };
    let since = earlier.map_or(containment.opened_at, |burnt| burnt.until);
    let rate = containment
        .coverage
        .burn
        .map_or(burn.now, |earlier| earlier.now.max(burn.now));
    let millis = now.duration_since(since).as_millis().max(0);
    let nanos = i128::from(rate.nanos()).saturating_mul(millis) / (3_600 * 1_000);
    let more = Usd::from_i128(nanos).unwrap_or(Usd::MAX);
    Some(Burnt {
        usd: earlier.map_or(Usd::ZERO, |burnt| burnt.usd).saturating_add(more),
        until: now.max(since),
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::AssetCost;
    use super::super::target::Region;
    use super::*;

    #[test]
    fn what_was_ended_keeps_its_price_through_a_look_that_failed() {
        let price = Hourly {
            usd: Usd::from_dollars(2),
            basis: PriceBasis::Listed,
        };
        let task = "ecs-task:eu-west-1/c/t".to_owned();
        let sweep = |ended: &[String], runs: bool, before: &Coverage| {
            let mut region = RegionPlan::empty(Region("eu-west-1".to_owned()));
            region.ended = ended.to_vec();
            if runs {
                let what = "1 fargate/x86/vcpu".to_owned();
                region.costs.insert(
                    task.clone(),
                    AssetCost {
                        what,
                        hourly: price,
                        runs,
                    },
                );
            }
            let plan = Plan {
                regions: vec![region],
                ..Plan::default()
            };
            coverage(&plan, None, before)
        };
        let running = sweep(&[], true, &Coverage::default());
        let ended = sweep(std::slice::from_ref(&task), false, &running);
        assert_eq!(ended.hourly.get(&task), Some(&price));
        // Nothing of it is seen, neither that it runs nor that it has ended.
        let blind = sweep(&[], false, &ended);
        assert_eq!(blind.ended, Vec::<String>::new());
        let seen_again = sweep(std::slice::from_ref(&task), false, &blind);
        assert_eq!(
            (seen_again.ended, seen_again.hourly.get(&task)),
            (vec![task.clone()], Some(&price))
        );
    }
}
