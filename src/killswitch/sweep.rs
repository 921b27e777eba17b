//! One sweep: look, plan, record, act, and write down what was proved.
//!
//! The principals come first. The regions begin when the principals are done, or after `step_patience`
//! in any case; each is looked at, planned and stopped on its own, so that a region that is down, slow
//! or crowded holds back no other, and what does not answer in time is looked at on and on by itself
//! (`late`), while the next sweeps go ahead. In each, what starts others is capped first; machines are stopped when
//! that is done, or after `step_patience` in any case: then only members of what is not capped yet wait.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use futures_util::{StreamExt as _, stream};
use jiff::SignedDuration;

use super::late::{Look, Looks};
use super::observe;
use super::pass::{Pass, PassError};
use super::{capping, evidence, executor, revoking, tell};
use crate::domain::containment::attribution::{Readings, attribution};
use crate::domain::containment::coverage::after_sweep;
use crate::domain::containment::folding::{self, Folded};
use crate::domain::containment::memory::{Recalled, unlisted_regions};
use crate::domain::containment::plan::{
    Frame, Others, Plan, PrincipalPlan, RegionPlan, RegionView, Seen, trust_chains,
};
use crate::domain::containment::state::{Action, Containment, Mode, Step, StepState, StillBurning};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::{CloudTargets, Guard, Principal, Region, Resource};
use crate::domain::containment::{plan_principals, plan_region, plan_spawners};
use crate::domain::fleet::asset::AssetRef;
use crate::domain::fleet::price::FleetPrices;
use crate::domain::id::ReviewId;
use crate::domain::review::{Question, Review};
use crate::ports::NoticeKind;

/// What a sweep needs besides its pass: what the driver knows from before.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub targets: CloudTargets,
    /// What the config declares of the agent now.
    pub declared: Option<CloudTargets>,
    pub guard: Guard,
    /// The account of our credentials, once it was learnt.
    pub account: Option<String>,
    /// It was learnt by an earlier run, and the cloud does not say it now.
    pub remembered: Option<Recalled>,
    /// Instance profiles of the agent's roles, as last seen.
    pub profiles: BTreeSet<String>,
    /// The agent's principals and the roles that trust them, if that was asked of late.
    pub trusting: Option<(BTreeSet<Principal>, Vec<String>)>,
    /// What IAM's simulation said of late of principals that are denied.
    pub simulated: evidence::Answers,
    /// The enabled regions, as last listed for anybody.
    pub regions: BTreeSet<Region>,
    /// Where sweeps look.
    pub looks: Arc<Looks>,
    /// What the cloud's own record says that the agent's principals made.
    pub created: Arc<BTreeSet<AssetRef>>,
    /// How far that record was read.
    pub readings: Arc<Readings>,
    /// What the other agents are known by.
    pub others: Others,
    pub prices: Arc<FleetPrices>,
    /// What people decided on foreign matches of this containment.
    pub foreign: BTreeMap<String, bool>,
    /// Foreign matches about which somebody was asked.
    pub asked: BTreeSet<String>,
    /// What was told to be burning in this containment; `None` after a restart.
    pub told: Option<BTreeSet<String>>,
    /// Open reviews of the agent that mean nothing once the containment is over.
    pub open: Vec<ReviewId>,
}

impl Known {
    pub fn frame<'a>(&'a self, pass: &'a Pass<'_>, steps: &'a Steps) -> Frame<'a> {
        Frame {
            now: pass.now(),
            containment: &pass.containment,
            targets: &self.targets,
            guard: &self.guard,
            account: self.account.as_deref(),
            images: &pass.images,
            steps,
            foreign: &self.foreign,
            created: &self.created,
            others: &self.others,
            prices: &self.prices,
            rules: &pass.settings.rules,
        }
    }

    /// The roles that trust the agent's principals, if they were asked for and the principals are the same.
    fn trusting_now(&self, pass: &Pass<'_>, steps: &Steps) -> Option<Vec<String>> {
        let (principals, roles) = self.trusting.as_ref()?;
        (*principals == self.frame(pass, steps).principals()).then(|| roles.clone())
    }

    /// Whether there is any way to tell that a machine is the agent's.
    fn has_machines(&self, pass: &Pass<'_>) -> bool {
        let declares = !self.targets.tags.is_empty() || !self.targets.principals.is_empty();
        declares || !pass.images.is_empty() || !self.created.is_empty()
    }
}

/// The sweep's plan as it was made and carried out, and the containment as it is to be written.
pub(super) struct Swept {
    pub plan: Plan,
    pub containment: Containment,
    /// What was ended and is gone, and is only counted from now on.
    pub folded: Vec<Folded>,
    /// The agent's principals and the roles that trust them, if that was asked now and answered.
    pub trusting: Option<(BTreeSet<Principal>, Vec<String>)>,
    /// What IAM's simulation said, if it was asked now.
    pub simulated: evidence::Answers,
    /// The enabled regions, if they could be listed.
    pub listed: Option<BTreeSet<Region>>,
    /// What has been told to be burning, once this is written.
    pub told: BTreeSet<String>,
}

/// Sweeps once.
pub(super) async fn sweep(pass: &Pass<'_>, known: &Known) -> Result<Swept, PassError> {
    let steps = pass.steps();
    let mut plan = Plan::default();
    let machines = pass.containment.mode == Mode::Contain && known.has_machines(pass);

    let (principals, regions, trusting) = {
        let principals = pin!(principals(pass, known, &steps));
        // Whom to look for next is asked of IAM only when the denies need it no more, or it is late anyway.
        let rest = |profiles: BTreeSet<String>| {
            let steps = &steps;
            let regions = async move {
                if machines {
                    Some(regions(pass, known, steps, &profiles).await)
                } else {
                    None
                }
            };
            let trusting = async move {
                match known.trusting_now(pass, steps) {
                    Some(roles) => Ok(roles),
                    None => trusting(pass, known, steps).await,
                }
            };
            join(regions, trusting)
        };
        let (principals, (regions, trusting)) =
            match select(principals, pass.clock.sleep(pass.settings.step_patience)).await {
                Either::Left((done, _)) => {
                    let profiles = match &done {
                        Ok(plan) => known.profiles.union(&plan.profiles).cloned().collect(),
                        Err(_) => known.profiles.clone(),
                    };
                    let rest = rest(profiles).await;
                    (done, rest)
                }
                Either::Right(((), late)) => join(late, rest(known.profiles.clone())).await,
            };
        (principals?, regions.transpose()?, trusting)
    };
    plan.burning = trust_chains(&known.frame(pass, &steps), &trusting);
    let asked = known.trusting_now(pass, &steps).is_none();
    let trusting = trusting.ok().filter(|_| asked);
    let trusting = trusting.map(|roles| (known.frame(pass, &steps).principals(), roles));
    let mut listed = None;
    if let Some(regions) = regions {
        plan.regions = regions.plans;
        plan.late = regions.late;
        plan.burning
            .extend(pass.cloud.kinds_off().iter().map(StillBurning::not_looked_at));
        match regions.listed {
            Ok(names) => listed = Some(names),
            // With declared regions the rest is a blind spot; without, nothing is known of any for sure.
            Err(why) if known.targets.regions.is_empty() => plan.unseen.push(unlisted(known, &why)),
            Err(why) => plan.burning.push(unlisted(known, &why)),
        }
    }
    plan.unseen.extend(known.remembered.as_ref().map(Recalled::line));
    plan.principals = principals;
    let simulated = simulated(pass, known, &steps, &mut plan).await;
    let is_drill = pass.containment.canary.is_some();
    if !is_drill {
        report(pass, known, &plan);
    }

    let spacing = SignedDuration::try_from(pass.settings.sweep_spacing).unwrap_or(SignedDuration::MAX);
    let attribution = attribution(
        &pass.containment,
        &plan,
        &known.readings,
        &pass.settings.rules,
        pass.now(),
    );
    let (mut containment, progress) = after_sweep(&pass.containment, &plan, pass.now(), spacing, &attribution);
    containment.note_times(&pass.steps(), plan.is_quiet(), pass.now());
    let folded = folding::fold(&containment, &plan, &pass.images, &pass.steps());
    folding::count(&mut containment, &folded);
    if !known.targets.account.is_empty() && !is_drill {
        containment.targets = Some(known.targets.clone());
    }
    let told = if is_drill {
        tell::canary(pass, &containment, progress);
        BTreeSet::new()
    } else {
        tell::progress(pass, &containment, progress);
        tell::attributed(pass, &containment);
        tell::burns(pass, &plan, &attribution.lost, progress, known.told.as_ref())
    };
    Ok(Swept {
        plan,
        containment,
        folded,
        trusting,
        simulated,
        listed,
        told,
    })
}

/// Once nothing is left to bring down, the simulation is asked; what it said of late goes into the plan.
async fn simulated(pass: &Pass<'_>, known: &Known, steps: &Steps, plan: &mut Plan) -> evidence::Answers {
    let learnt = if plan.found_something() {
        evidence::Answers::new()
    } else {
        let all = known.frame(pass, steps).principals().into_iter().collect();
        evidence::simulate(pass, &known.simulated, &plan.principals, all).await
    };
    let denied = &plan.principals.denied;
    let lines = evidence::warnings(&known.simulated).chain(evidence::warnings(&learnt));
    // Of one that has to be denied again, what was said before means nothing.
    let lines: Vec<StillBurning> = lines.filter(|line| denied.contains(&line.resource)).collect();
    plan.burning.extend(lines);
    learnt
}

async fn principals(pass: &Pass<'_>, known: &Known, steps: &Steps) -> Result<PrincipalPlan, PassError> {
    let caller = pass.caller(pass.settings.step_patience);
    let wanted = known.frame(pass, steps).principals();
    let seen = observe::principals(pass.cloud, caller, wanted, pass.settings.concurrent_regions).await;
    let plan = plan_principals(&known.frame(pass, steps), &seen);
    revoking::revoke(pass, caller, &plan).await?;
    Ok(plan)
}

async fn trusting(pass: &Pass<'_>, known: &Known, steps: &Steps) -> Seen<Vec<String>> {
    let principals: Vec<_> = known.frame(pass, steps).principals().into_iter().collect();
    if principals.is_empty() {
        return Ok(Vec::new());
    }
    let caller = pass.caller(pass.settings.step_patience);
    let answer = caller.reach(|| pass.cloud.trusting(&principals)).await;
    answer.map_err(|failure| failure.why)
}

/// What became of the regions.
struct Regions {
    plans: Vec<RegionPlan>,
    /// Something is still being looked at.
    late: bool,
    /// The enabled ones, or why the list may be short.
    listed: Seen<BTreeSet<Region>>,
}

/// Every region at once.
async fn regions(
    pass: &Pass<'_>,
    known: &Known,
    steps: &Steps,
    profiles: &BTreeSet<String>,
) -> Result<Regions, PassError> {
    // Those that are known already do not wait for the list, which comes from a single region.
    let named = observe::named_regions(&known.targets, &pass.images);
    if pass.containment.canary.is_some() {
        // A drill has no business anywhere else.
        let (plans, late) = each(pass, known, steps, profiles, &named).await?;
        return Ok(Regions {
            plans,
            late,
            listed: Ok(known.regions.clone()),
        });
    }
    let first: BTreeSet<Region> = named.union(&known.regions).cloned().collect();
    let rest = async {
        let Look { seen, late } = known.looks.regions(pass).await;
        let listed: Seen<BTreeSet<Region>> = seen.map(|enabled| enabled.into_iter().collect());
        let rest = listed.iter().flatten().filter(|name| !first.contains(*name));
        let rest: BTreeSet<Region> = rest.cloned().collect();
        (each(pass, known, steps, profiles, &rest).await, listed, late)
    };
    let (plans, (rest, listed, unlisted)) = join(each(pass, known, steps, profiles, &first), rest).await;
    let ((mut plans, late), (rest, late_too)) = (plans?, rest?);
    if let Ok(enabled) = &listed {
        // What is not enabled any more was looked at in vain, and proves nothing open.
        plans.retain(|plan| named.contains(&plan.region) || enabled.contains(&plan.region));
    }
    plans.extend(rest);
    plans.sort_by(|a, b| a.region.cmp(&b.region));
    Ok(Regions {
        plans,
        late: late || late_too || unlisted,
        listed,
    })
}

async fn each(
    pass: &Pass<'_>,
    known: &Known,
    steps: &Steps,
    profiles: &BTreeSet<String>,
    names: &BTreeSet<Region>,
) -> Result<(Vec<RegionPlan>, bool), PassError> {
    let parts: Vec<_> = names
        .iter()
        .map(|name| region(pass, known, steps, profiles, name))
        .collect();
    let mut parts = stream::iter(parts).buffer_unordered(pass.settings.concurrent_regions.max(1));
    let (mut plans, mut late) = (Vec::with_capacity(names.len()), false);
    while let Some(part) = parts.next().await {
        let part = part?;
        plans.push(part.seen);
        late |= part.late;
    }
    Ok((plans, late))
}

async fn region(
    pass: &Pass<'_>,
    known: &Known,
    steps: &Steps,
    profiles: &BTreeSet<String>,
    name: &Region,
) -> Result<Look<RegionPlan>, PassError> {
    let Look { seen: view, late } = known.looks.region(pass, name).await;
    let spawners = plan_spawners(&known.frame(pass, steps), &view, profiles);
    let machines = || async {
        // By what has become of the caps so far.
        let steps = pass.steps();
        let plan = plan_region(&known.frame(pass, &steps), &view, profiles, &spawners);
        let caller = pass.caller(pass.settings.step_patience);
        executor::stop(pass, caller, &plan).await.map(|()| plan)
    };
    let plan = {
        let caps = pin!(capping::cap(
            pass,
            pass.caller(pass.settings.step_patience),
            &spawners.part
        ));
        match select(caps, pass.clock.sleep(pass.settings.step_patience)).await {
            Either::Left((capped, _)) => {
                capped?;
                machines().await?
            }
            Either::Right(((), late)) => {
                let (capped, plan) = join(late, machines()).await;
                capped?;
                plan?
            }
        }
    };
    Ok(Look {
        seen: plan.with(spawners.part),
        late,
    })
}

/// What a person is told or asked: guards that matched, machines outside the declared places.
fn report(pass: &Pass<'_>, known: &Known, plan: &Plan) {
    let before = &pass.containment.coverage.still_burning;
    for guarded in plan.guarded() {
        if before.iter().any(|line| line.resource == *guarded) {
            continue;
        }
        let text = format!("{guarded} matches as a target of the agent but is the guard's own; it is left alone");
        pass.audit(
            "guard_matched",
            text.clone(),
            &serde_json::json!({ "resource": guarded }),
        );
        pass.notice(NoticeKind::StillBurning, text);
    }
    for ask in plan.regions.iter().flat_map(|region| &region.ask) {
        if known.asked.contains(&ask.resource) {
            continue;
        }
        let summary = format!(
            "{}: {}. Approve halts it with what else is the agent's; deny leaves it running.",
            ask.resource, ask.why
        );
        pass.notice(NoticeKind::Review, summary.clone());
        pass.ask(Review {
            id: ReviewId(pass.entropy.id(pass.now())),
            agent: pass.containment.agent.clone(),
            opened_at: pass.now(),
            question: Question::ForeignMatch {
                resource: ask.resource.clone(),
            },
            summary,
            evidence: serde_json::json!({ "containment": pass.containment.id, "match": ask }).to_string(),
            decision: None,
        });
    }
}

/// How long to wait until the next sweep.
pub(super) fn next_in(pass: &Pass<'_>, swept: &Swept) -> Duration {
    use crate::domain::containment::state::Phase;
    if swept.containment.phase == Phase::Contained {
        if swept.plan.late {
            // For the answer, before it says nothing of now.
            pass.settings.sweep_spacing.min(pass.settings.hold_sweep_every)
        } else {
            pass.settings.hold_sweep_every
        }
    } else if swept.plan.is_quiet() {
        pass.settings.sweep_spacing
    } else {
        pass.settings.settle_spacing
    }
}

/// What a containment would do now, and what it was planned from.
pub(super) struct Foreseen {
    pub plan: Plan,
    pub views: Vec<RegionView>,
}

/// Looks without touching anything: what a containment would do now.
pub(super) async fn look(pass: &Pass<'_>, known: &Known) -> Foreseen {
    let steps = pass.steps();
    let caller = pass.caller(pass.settings.step_patience);
    let frame = known.frame(pass, &steps);
    let wanted = frame.principals();
    let limit = pass.settings.concurrent_regions;
    let seen = observe::principals(pass.cloud, caller, wanted, limit);
    let (mut seen, trusting) = join(seen, trusting(pass, known, &steps)).await;
    observe::headroom(pass.cloud, caller, &mut seen, limit).await;
    let principals = plan_principals(&frame, &seen);
    let mut plan = Plan {
        burning: trust_chains(&frame, &trusting),
        ..Plan::default()
    };
    let mut views = Vec::new();
    if pass.containment.mode == Mode::Contain && known.has_machines(pass) {
        let listed = observe::list_regions(pass.cloud, caller).await;
        let mut names = observe::named_regions(&known.targets, &pass.images);
        names.extend(listed.as_ref().unwrap_or(&known.regions).iter().cloned());
        plan.unseen.extend(listed.err().map(|why| unlisted(known, &why)));
        let looks = names.iter().map(|name| observe::region(pass.cloud, caller, name));
        views = join_all(looks).await;
        plan.regions = views
            .iter()
            .map(|view| foreseen(pass, known, &steps, view, &principals.profiles))
            .collect();
    }
    plan.unseen.extend(known.remembered.as_ref().map(Recalled::line));
    plan.principals = principals;
    Foreseen { plan, views }
}

/// A region's plan as it will be when every cap is done.
pub(super) fn foreseen(
    pass: &Pass<'_>,
    known: &Known,
    steps: &Steps,
    view: &RegionView,
    profiles: &BTreeSet<String>,
) -> RegionPlan {
    let spawners = plan_spawners(&known.frame(pass, steps), view, profiles);
    let mut steps = steps.clone();
    for cap in &spawners.part.caps {
        let resource = Resource::Asset {
            asset: cap.asset.clone(),
        };
        let now = view.observed_at;
        let step = steps.start(pass.containment.id, Action::Cap, &resource, None, now);
        steps.put(Step {
            state: StepState::Done,
            ..step
        });
    }
    plan_region(&known.frame(pass, &steps), view, profiles, &spawners).with(spawners.part)
}

fn unlisted(known: &Known, why: &str) -> StillBurning {
    unlisted_regions(why, known.regions.len())
}
