//! Drills: the plan of a containment, asked about step by step and carried out by nobody.
//!
//! It looks through the same eyes and plans by the same rules as a sweep, with a handle on the cloud that has
//! no way to change anything ([`Gauge`]). Then each step is asked about: EC2's DryRun for stops, beside a look
//! at the machine's own stop protection, which DryRun does not tell; IAM's simulation of our own permissions
//! for the rest. What neither answers for is *unproved*, by name.
//!
//! A canary drill is only looked for here. It is opened by whoever judges, as every containment is, and driven
//! like one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt as _, stream};
use jiff::SignedDuration;

use super::capping::CONCURRENT_CAPS;
use super::driver::{KillSwitch, for_drill};
use super::gauge::{Gauge, Measured};
use super::pass::{Pass, PassError};
use super::settings::KillSettings;
use super::sweep::{Foreseen, Known, foreseen, look};
use crate::domain::containment::attribution::attribution;
use crate::domain::containment::canary::{Canary, Candidates, is_marked};
use crate::domain::containment::coverage::after_sweep;
use crate::domain::containment::plan::{Plan, RegionView};
use crate::domain::containment::state::{Action, Mode};
use crate::domain::containment::target::{CloudTargets, Principal, Resource};
use crate::domain::drill::predict::{RegionWork, Rules, Work, predict};
use crate::domain::drill::report::{Calls, PlanReport, PlannedStep, Proof, Proofs, Rehearsal, makers, steps, undoes};
use crate::domain::drill::{Drill, DrillHead, DrillKind, digest, fingerprint};
use crate::domain::fleet::asset::AssetRef;
use crate::domain::fleet::owner::{Claim, Owners};
use crate::domain::id::{AgentId, DrillId};
use crate::ports::{Asking, Cloud as _, Judgement, Permission};

/// Machines whose stop protection is asked for, one by one, in one drill.
const PROTECTION_ASKED: usize = 500;

/// Such questions at once.
const PROTECTION_AT_ONCE: usize = 4;

/// Drills that are looked through for how long a canary took to stop.
const LOOKED_THROUGH: u32 = 50;

/// Why there is no drill.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error("the agent is contained: there is nothing to rehearse; reset it first")]
    Contained,
    #[error("a drill of this agent is under way")]
    UnderWay,
    #[error(transparent)]
    Pass(#[from] PassError),
}

impl From<crate::ports::StoreError> for DrillError {
    fn from(error: crate::ports::StoreError) -> Self {
        Self::Pass(error.into())
    }
}

/// What each drill that is under way is doing, for a person.
#[derive(Default)]
pub(super) struct Stages(Mutex<HashMap<AgentId, &'static str>>);

impl Stages {
    fn locked(&self) -> MutexGuard<'_, HashMap<AgentId, &'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One drill of an agent at once; `None` while another is under way.
    fn enter(&self, agent: &AgentId) -> Option<Stage<'_>> {
        let mut all = self.locked();
        if all.contains_key(agent) {
            return None;
        }
        all.insert(agent.clone(), "looking at the agent's roles, users and regions");
        Some(Stage {
            stages: self,
            agent: agent.clone(),
        })
    }
}

struct Stage<'a> {
    stages: &'a Stages,
    agent: AgentId,
}

impl Stage<'_> {
    fn is(&self, what: &'static str) {
        self.stages.locked().insert(self.agent.clone(), what);
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.stages.locked().remove(&self.agent);
    }
}

impl KillSwitch {
    /// What a plan drill of this agent that is under way is doing.
    pub fn drill_stage(&self, agent: &AgentId) -> Option<&'static str> {
        self.stages.locked().get(agent).copied()
    }

    /// Rehearses a containment and keeps what came out. It changes nothing but the store's evidence.
    pub async fn drill(&self, agent: &AgentId, by: &str) -> Result<Drill, DrillError> {
        self.check_free(agent).await?;
        let stage = self.stages.enter(agent).ok_or(DrillError::UnderWay)?;
        let began_at = self.clock.now();
        let gauge = Gauge::new(Arc::clone(&self.cloud), Arc::clone(&self.clock));
        let containment = self.imagined(agent, Mode::Contain);
        let pass = self.imagined_pass(&gauge, self.settings(), containment).await?;
        let known = self.known(&pass.settings, &pass.containment).await?;
        let seen = look(&pass, &known).await;
        stage.is("asking for every step whether it would be allowed");
        let (proofs, mut foreseen) = proofs(&pass, &known, &seen).await;
        let batches = seen.plan.regions.iter().map(|region| region.stops.len());
        let batches = u64::try_from(batches.sum::<usize>()).unwrap_or(u64::MAX);
        if let Some(stops) = foreseen.get_mut("ec2:StopInstances") {
            // Machines are stopped many at a time.
            *stops = batches;
        }
        stage.is("writing down what came out");
        let report = self
            .report(agent, &pass, &known, &seen, &proofs, foreseen, &gauge)
            .await?;
        // Plain data with texts for keys can be written.
        let text = serde_json::to_string(&report).unwrap_or_default();
        let drill = Drill {
            head: DrillHead {
                id: DrillId(self.entropy.id(began_at)),
                agent: agent.clone(),
                kind: DrillKind::Plan,
                by: by.to_owned(),
                began_at,
                ended_at: self.clock.now(),
                outcome: report.outcome(),
                summary: report.summary(),
                declared: fingerprint(known.declared.as_ref()),
                stopping: None,
                digest: digest(&text),
            },
            report: text,
        };
        let judgement = Judgement {
            audit: vec![drill.audit()],
            drills: vec![drill.clone()],
            ..Judgement::default()
        };
        self.store.judge(&judgement).await?;
        Ok(drill)
    }

    /// What carries the canary tag, and what a canary drill would do to it. Reads only.
    pub async fn canaries(&self, agent: &AgentId) -> Result<Candidates, DrillError> {
        self.check_free(agent).await?;
        let gauge = Gauge::new(Arc::clone(&self.cloud), Arc::clone(&self.clock));
        let settings = for_drill(&self.settings());
        let mut containment = self.imagined(agent, Mode::Contain);
        containment.canary = Some(Canary {
            drill: DrillId(self.entropy.id(self.clock.now())),
            by: String::new(),
            assets: BTreeSet::new(),
        });
        let pass = self
            .imagined_pass(&gauge, Arc::clone(&settings), containment.clone())
            .await?;
        let known = self.known(&settings, &containment).await?;
        let seen = look(&pass, &known).await;
        let marked = marked(&seen.views, &known.targets);
        if let Some(canary) = &mut containment.canary {
            canary.assets.clone_from(&marked);
        }
        let pass = self.imagined_pass(&gauge, settings, containment).await?;
        let steps = pass.steps();
        let views = seen.views.iter();
        let plans: Vec<_> = views
            .map(|view| foreseen(&pass, &known, &steps, view, &BTreeSet::new()))
            .collect();
        let mut found = Candidates::of(&plans, &marked);
        let blind = seen.plan.unseen.into_iter();
        let regions = plans.into_iter().flat_map(|plan| plan.unseen);
        found.unfit.extend(blind.chain(regions));
        Ok(found)
    }

    /// Whoever is contained is not drilled, and nobody twice at once.
    async fn check_free(&self, agent: &AgentId) -> Result<(), DrillError> {
        match self.live(agent).await? {
            Some(live) if live.canary.is_some() => Err(DrillError::UnderWay),
            Some(_) => Err(DrillError::Contained),
            None => Ok(()),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one report, named at its only caller"
    )]
    async fn report(
        &self,
        agent: &AgentId,
        pass: &Pass<'_>,
        known: &Known,
        seen: &Foreseen,
        proofs: &BTreeMap<PlannedStep, Proofs>,
        foreseen: BTreeMap<String, u64>,
        gauge: &Gauge,
    ) -> Result<PlanReport, DrillError> {
        let (containment, now) = (&pass.containment, pass.now());
        let attribution = attribution(containment, &seen.plan, &known.readings, &pass.settings.rules, now);
        let (after, _) = after_sweep(containment, &seen.plan, now, SignedDuration::ZERO, &attribution);
        let measured = gauge.measured();
        let rules = rules(&pass.settings, gauge);
        let last = self.store.drills(agent, LOOKED_THROUGH).await?;
        let mut work = work(pass, known, &seen.plan, &measured);
        work.stopping = last.iter().find_map(|drill| drill.stopping);
        let owners = self.owners(&pass.settings, agent, &seen.plan);
        Ok(PlanReport::of(&Rehearsal {
            agent,
            account: known.account.as_deref(),
            plan: &seen.plan,
            burning: &after.coverage.still_burning,
            burn: after.coverage.burn,
            views: &seen.views,
            owners: &owners,
            makers: &makers(&known.targets.principals, &known.created),
            prices: &known.prices,
            proofs,
            predicted: predict(&work, &rules),
            calls: Calls {
                made: measured.calls,
                foreseen,
            },
        }))
    }

    /// Every agent's claims, for telling whose what is near is.
    fn owners(&self, settings: &KillSettings, agent: &AgentId, plan: &Plan) -> Owners {
        let claims = settings.targets.iter().map(|(name, targets)| Claim {
            agent: name.clone(),
            targets: targets.clone(),
            profiles: if name == agent {
                plan.principals.profiles.clone()
            } else {
                self.profiles_of(name)
            },
        });
        Owners::new(claims.collect())
    }
}

/// What carries the ownership tag and the canary tag.
fn marked(views: &[RegionView], targets: &CloudTargets) -> BTreeSet<AssetRef> {
    let is_one = |tags: &BTreeMap<String, String>| {
        is_marked(tags) && targets.tags.iter().any(|(key, value)| tags.get(key) == Some(value))
    };
    let mut marked = BTreeSet::new();
    for view in views {
        let machines = view.instances.iter().flatten().filter(|one| is_one(&one.tags));
        marked.extend(machines.map(|one| one.asset_ref()));
        let assets = view.assets.values().flatten().flatten().filter(|one| is_one(&one.tags));
        marked.extend(assets.map(|one| one.what.clone()));
    }
    marked
}

fn rules(settings: &KillSettings, gauge: &Gauge) -> Rules {
    Rules {
        poll_every: settings.poll_every,
        settle_spacing: settings.settle_spacing,
        sweep_spacing: settings.sweep_spacing,
        step_patience: settings.step_patience,
        principals_at_once: settings.concurrent_regions,
        batches_at_once: settings.concurrent_batches,
        changes_at_once: CONCURRENT_CAPS,
        limits: gauge.limits(),
    }
}

fn work(pass: &Pass<'_>, known: &Known, plan: &Plan, measured: &Measured) -> Work {
    let kinds = pass.cloud.kinds().len();
    let regions = plan.regions.iter().map(|region| RegionWork {
        kinds,
        caps: region.caps.len(),
        ends: region.ends.len(),
        batches: region.stops.len() + region.terminates.len(),
        tempo: measured.regions.get(&region.region).copied().unwrap_or_default(),
    });
    let people = &plan.principals;
    Work {
        principals: known.frame(pass, &pass.steps()).principals().len(),
        denials: people.denies.len() + people.keys.len() + people.credentials.len(),
        iam: measured.iam,
        regions: regions.collect(),
        stopping: None,
    }
}

/// What is known of every step, and the changes that a containment would make, by operation.
async fn proofs(
    pass: &Pass<'_>,
    known: &Known,
    seen: &Foreseen,
) -> (BTreeMap<PlannedStep, Proofs>, BTreeMap<String, u64>) {
    let planned = steps(&seen.plan);
    let stops = super::report::dry_run_stops(pass, &seen.plan).await;
    let protected = protected(pass, &planned).await;
    let us = pass
        .caller(pass.settings.step_patience)
        .reach(|| pass.cloud.identity())
        .await;
    let tags = Tags::of(&seen.views, &known.targets);
    let ask = |action: Action, resource: &Resource| {
        let us = us.as_ref().ok()?;
        let none = BTreeMap::new();
        let asking = Asking {
            action,
            resource,
            principal: holder(resource, &known.targets.principals),
            tags: tags.0.get(resource).unwrap_or(&none),
        };
        pass.cloud.permission(&us.arn, &asking)
    };
    let mut asked: BTreeSet<Permission> = BTreeSet::new();
    let mut foreseen: BTreeMap<String, u64> = BTreeMap::new();
    for step in &planned {
        let needed = ask(step.action, &step.resource);
        let named = needed.as_ref().map_or(step.action.as_str(), |needed| &needed.action);
        *foreseen.entry(named.to_owned()).or_default() += 1;
        // DryRun is the better answer where there is one.
        asked.extend(needed.filter(|_| !stops.contains_key(step)));
        asked.extend(undoes(step.action).and_then(|undo| ask(undo, &step.resource)));
    }
    let asked: Vec<Permission> = asked.into_iter().collect();
    let said = match &us {
        Ok(us) if !asked.is_empty() => simulate(pass, &us.arn, &asked).await,
        Ok(_) => Ok(BTreeMap::new()),
        Err(failure) => Err(format!("who we are is not known: {}", failure.why)),
    };
    let simulated = |action: Action, resource: &Resource| match (ask(action, resource), &said) {
        (_, Err(why)) => unproved(&format!("our permissions could not be simulated: {why}")),
        (None, Ok(_)) => unproved("there is no question to ask about it but doing it"),
        (Some(needed), Ok(said)) => match said.get(&needed).copied().flatten() {
            Some(true) => Proof::Simulated,
            Some(false) => Proof::Refused {
                why: format!("IAM's simulation denies {} on {}", needed.action, needed.resource),
            },
            None => unproved("IAM's simulation did not answer for it"),
        },
    };
    let all = planned.into_iter().map(|step| {
        let done = match (protected.contains(&step.resource), stops.get(&step)) {
            (true, _) => Proof::Refused {
                why: "it is protected against stopping (DisableApiStop)".to_owned(),
            },
            (false, Some(proof)) => proof.clone(),
            (false, None) => simulated(step.action, &step.resource),
        };
        let undone = undoes(step.action).map(|undo| simulated(undo, &step.resource));
        (step, Proofs { done, undone })
    });
    (all.collect(), foreseen)
}

fn unproved(why: &str) -> Proof {
    Proof::Unproved { why: why.to_owned() }
}

async fn simulate(
    pass: &Pass<'_>,
    us: &str,
    asked: &[Permission],
) -> Result<BTreeMap<Permission, Option<bool>>, String> {
    let caller = pass.caller(pass.settings.step_patience);
    let answers = caller.reach(|| pass.cloud.simulate_each(us, asked)).await;
    let answers = answers.map_err(|failure| failure.why)?;
    Ok(asked.iter().cloned().zip(answers).collect())
}

/// Machines that may not be stopped, of those that would be: of the first so many.
async fn protected(pass: &Pass<'_>, planned: &[PlannedStep]) -> BTreeSet<Resource> {
    let caller = pass.caller(pass.settings.step_patience);
    let stops = planned.iter().filter(|step| step.action == Action::StopInstance);
    let asked = stops.take(PROTECTION_ASKED).map(|step| async move {
        let Resource::Instance { region, id } = &step.resource else {
            return None;
        };
        let answer = caller.reach(|| pass.cloud.stop_protection(region, id)).await;
        (answer == Ok(true)).then(|| step.resource.clone())
    });
    let asked: Vec<_> = asked.collect();
    let asked = stream::iter(asked).buffer_unordered(PROTECTION_AT_ONCE);
    asked.filter_map(async |protected| protected).collect().await
}

/// Whose a key or credential is.
fn holder<'a>(resource: &Resource, principals: &'a [Principal]) -> Option<&'a Principal> {
    let (Resource::AccessKey { user, .. } | Resource::ServiceCredential { user, .. }) = resource else {
        return None;
    };
    let is_it = |one: &&Principal| matches!(one, Principal::User(_)) && one.name() == user;
    principals.iter().find(is_it)
}

/// The ownership tags of what was seen: those that a policy goes by.
struct Tags(BTreeMap<Resource, BTreeMap<String, String>>);

impl Tags {
    fn of(views: &[RegionView], targets: &CloudTargets) -> Self {
        let mut all = BTreeMap::new();
        let mut note = |resource: Resource, tags: &BTreeMap<String, String>| {
            let own = |key: &String| targets.tags.contains_key(key) || key.starts_with("backstop:");
            let own = tags.iter().filter(|(key, _)| own(key));
            all.insert(resource, own.map(|(key, value)| (key.clone(), value.clone())).collect());
        };
        for view in views {
            for machine in view.instances.iter().flatten() {
                note(crate::domain::containment::resource(machine), &machine.tags);
            }
            for asset in view.assets.values().flatten().flatten() {
                let what = asset.what.clone();
                note(Resource::Asset { asset: what }, &asset.tags);
            }
        }
        Self(all)
    }
}
