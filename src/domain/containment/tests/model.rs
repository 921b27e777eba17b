//! A fleet, an agent and the records about them, all in memory; applies a plan step by step and can
//! lose everything between a call and the note that it was made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::domain::containment::coverage::{Progress, after_sweep};
use crate::domain::containment::deny;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::observed::{AccessKey, Instance, InstanceState, PrincipalState};
use crate::domain::containment::plan::{Frame, Images, Others, Plan, PlanInput, PlanRules, RegionView, Seen, plan};
use crate::domain::containment::restore::{RestoreInput, RestorePlan, Settled, plan_restore};
use crate::domain::containment::state::{Action, Containment, Coverage, Mode, Phase, RestoreRequest, Step, StepState};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::{CloudTargets, Guard, Principal, Region, Resource};
use crate::domain::containment::{plan_region, plan_spawners};
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::domain::fleet::rate::Meter;
use crate::domain::id::{AgentId, ContainmentId};

pub const ACCOUNT: &str = "123456789012";
pub const PROFILE: &str = "arn:aws:iam::123456789012:instance-profile/agent";

pub fn region(name: &str) -> Region {
    Region(name.to_owned())
}

pub fn role() -> Principal {
    Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/agents/agent"))
}

pub fn user() -> Principal {
    Principal::User(format!("arn:aws:iam::{ACCOUNT}:user/agent"))
}

pub fn instance(region_name: &str, id: &str, owner: &str) -> Instance {
    Instance {
        region: region(region_name),
        id: id.to_owned(),
        state: InstanceState::Running,
        instance_type: "m7g.large".to_owned(),
        tags: BTreeMap::from([("backstop:agent".to_owned(), owner.to_owned())]),
        profile_arn: None,
        launched_at: Some(Timestamp::UNIX_EPOCH),
        spot: None,
        root_is_instance_store: false,
        stop_protected: None,
        group: None,
    }
}

/// Machines by id, and of each principal its document and keys.
type Snapshot = (Vec<(String, InstanceState)>, Vec<(Option<String>, Vec<AccessKey>)>);

/// How far a pass gets before everything that was not written is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fuel(pub usize);

impl Fuel {
    pub const ENDLESS: Self = Self(usize::MAX);

    fn burn(&mut self) -> Option<()> {
        self.0 = self.0.checked_sub(1)?;
        Some(())
    }
}

#[derive(Debug, Clone)]
pub struct World {
    pub now: Timestamp,
    pub instances: BTreeMap<String, Instance>,
    pub principals: BTreeMap<Principal, PrincipalState>,
    pub assets: BTreeMap<AssetRef, Asset>,
    /// Instances, keys and assets whose stop, deactivation, cap or end is refused for good.
    pub refuse: BTreeSet<String>,
    pub down: BTreeSet<Region>,
    /// Kinds that cannot be listed.
    pub hidden: BTreeSet<Kind>,
    /// Machines that do not pass their checks.
    pub unwell: BTreeSet<String>,
    pub created: BTreeSet<AssetRef>,
    pub others: Others,
    /// Tasks that services started.
    started: usize,
    /// Of our credentials.
    pub account: Option<String>,
    pub targets: CloudTargets,
    pub guard: Guard,
    pub containment: Containment,
    pub images: Images,
    pub restored: Vec<BeforeImage>,
    pub steps: Steps,
    pub foreign: BTreeMap<String, bool>,
    pub rules: PlanRules,
    /// Instances and principals that a call was made for.
    pub touched: BTreeSet<String>,
}

impl World {
    pub fn new(instances: Vec<Instance>) -> Self {
        let principal = |principal: Principal, keys: Vec<AccessKey>, profiles: Vec<String>| {
            let state = PrincipalState {
                principal: principal.clone(),
                exists: true,
                deny_document: None,
                deny_attached: false,
                inline_chars: None,
                service_credentials: Vec::new(),
                keys,
                profile_arns: profiles,
                trusted: Vec::new(),
            };
            (principal, state)
        };
        let key = |id: &str, active| AccessKey {
            id: id.to_owned(),
            active,
        };
        Self {
            now: Timestamp::from_second(1_000_000).unwrap(),
            instances: instances
                .into_iter()
                .map(|instance| (instance.id.clone(), instance))
                .collect(),
            principals: BTreeMap::from([
                principal(role(), Vec::new(), vec![PROFILE.to_owned()]),
                principal(user(), vec![key("AKIA1", true), key("AKIA2", false)], Vec::new()),
            ]),
            assets: BTreeMap::new(),
            refuse: BTreeSet::new(),
            down: BTreeSet::new(),
            hidden: BTreeSet::new(),
            unwell: BTreeSet::new(),
            created: BTreeSet::new(),
            others: Others::new(),
            started: 0,
            account: Some(ACCOUNT.to_owned()),
            targets: CloudTargets {
                account: ACCOUNT.to_owned(),
                principals: vec![role(), user()],
                tags: BTreeMap::from([("backstop:agent".to_owned(), "a".to_owned())]),
                regions: vec![region("eu-west-1"), region("us-east-1")],
            },
            guard: Guard {
                principals: vec![format!("arn:aws:iam::{ACCOUNT}:role/Backstop")],
                instances: vec!["i-guard".to_owned()],
            },
            containment: containment(1),
            images: Images::new(),
            restored: Vec::new(),
            steps: Steps::default(),
            foreign: BTreeMap::new(),
            rules: PlanRules::default(),
            touched: BTreeSet::new(),
        }
    }

    pub fn with(mut self, assets: impl IntoIterator<Item = Asset>) -> Self {
        let assets = assets.into_iter().map(|asset| (asset.what.clone(), asset));
        self.assets.extend(assets);
        self
    }

    pub fn now_of(&self, what: &AssetRef) -> Settings {
        match &self.assets[what].brake {
            Brake::Cap { now, .. } => now.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Settings of what can be capped, and tasks by what started them.
    pub fn standing(&self) -> (Vec<(String, Settings)>, BTreeMap<String, usize>) {
        let mut settings = Vec::new();
        let mut tasks: BTreeMap<String, usize> = BTreeMap::new();
        for asset in self.assets.values() {
            match (&asset.brake, &asset.parent) {
                (Brake::Cap { now, .. }, _) => settings.push((asset.what.to_string(), now.clone())),
                (Brake::End, Some(parent)) => *tasks.entry(parent.to_string()).or_default() += 1,
                _ => {}
            }
        }
        (settings, tasks)
    }

    /// What people would compare before and after: states, documents, keys.
    pub fn snapshot(&self) -> Snapshot {
        (
            self.instances.values().map(|i| (i.id.clone(), i.state)).collect(),
            self.principals
                .values()
                .map(|p| (p.deny_document.clone(), p.keys.clone()))
                .collect(),
        )
    }

    fn seen_assets(&self, region: &Region) -> BTreeMap<Kind, Seen<Vec<Asset>>> {
        let kinds = [GROUP, SERVICE, TASK, VOLUME];
        let of = |kind: &Kind| {
            let here = self.assets.values();
            here.filter(|asset| asset.what.kind == *kind && asset.what.region == *region)
                .cloned()
                .collect()
        };
        let seen = |kind: Kind| {
            let seen = if self.down.contains(region) || self.hidden.contains(&kind) {
                Err("no answer".to_owned())
            } else {
                Ok(of(&kind))
            };
            (kind, seen)
        };
        kinds.into_iter().map(seen).collect()
    }

    fn seen_regions(&self) -> Vec<RegionView> {
        let mut regions: BTreeSet<Region> = self.targets.regions.iter().cloned().collect();
        regions.extend(self.assets.keys().map(|asset| asset.region.clone()));
        regions.extend(self.instances.values().map(|instance| instance.region.clone()));
        regions
            .into_iter()
            .map(|region| RegionView {
                observed_at: self.now,
                assets: self.seen_assets(&region),
                instances: if self.down.contains(&region) {
                    Err("no answer".to_owned())
                } else {
                    Ok(self
                        .instances
                        .values()
                        .filter(|i| i.region == region)
                        .cloned()
                        .collect())
                },
                region,
            })
            .collect()
    }

    fn frame(&self) -> Frame<'_> {
        Frame {
            now: self.now,
            containment: &self.containment,
            targets: &self.targets,
            guard: &self.guard,
            account: self.account.as_deref(),
            images: &self.images,
            steps: &self.steps,
            foreign: &self.foreign,
            created: &self.created,
            others: &self.others,
            rules: &self.rules,
        }
    }

    pub fn plan(&self) -> Plan {
        let frame = self.frame();
        let principals = frame.principals();
        plan(&PlanInput {
            frame,
            principals: principals
                .into_iter()
                .map(|principal| {
                    let state = self
                        .principals
                        .get(&principal)
                        .cloned()
                        .ok_or_else(|| "no answer".to_owned());
                    (principal, state)
                })
                .collect(),
            regions: Ok(self.seen_regions()),
            trusting: Ok(Vec::new()),
        })
    }

    /// One sweep, and the time until the next. `None` when it crashed on the way.
    pub fn sweep(&mut self, mut fuel: Fuel) -> Option<(Plan, Progress)> {
        let mut plan = self.plan();
        self.cap(&mut fuel, &mut plan)?;
        let adopted = plan
            .principals
            .adopted
            .iter()
            .chain(plan.regions.iter().flat_map(|r| &r.adopted));
        for resource in adopted.cloned().collect::<Vec<_>>() {
            fuel.burn()?;
            self.note_changed(&resource);
        }
        for image in plan.images() {
            fuel.burn()?;
            self.images
                .entry(image.resource.clone())
                .or_insert_with(|| image.clone());
        }
        for deny in &plan.principals.denies {
            let resource = Resource::Principal {
                principal: deny.principal.clone(),
            };
            self.step(&mut fuel, Action::PutDeny, &resource, |world| {
                let state = world.principals.get_mut(&deny.principal).unwrap();
                state.deny_document = Some(deny::DOCUMENT.to_owned());
                Ok(())
            })?;
        }
        for key in &plan.principals.keys {
            let resource = Resource::AccessKey {
                user: key.user.clone(),
                key_id: key.key_id.clone(),
            };
            self.step(&mut fuel, Action::DeactivateKey, &resource, |world| {
                if world.refuse.contains(&key.key_id) {
                    return Err("AccessDenied".to_owned());
                }
                world.set_key(&key.key_id, false);
                Ok(())
            })?;
        }
        for part in &plan.regions {
            for what in part.ends.iter().chain(&part.end_probes) {
                let resource = Resource::Asset { asset: what.clone() };
                self.step(&mut fuel, Action::End, &resource, |world| {
                    if world.refuse.contains(&what.id) {
                        return Err("AccessDenied".to_owned());
                    }
                    world.assets.remove(what);
                    Ok(())
                })?;
            }
            for (action, lists) in [
                (Action::StopInstance, &part.stops),
                (Action::StopInstance, &part.probes),
                (Action::TerminateInstance, &part.terminates),
                (Action::TerminateInstance, &part.terminate_probes),
            ] {
                for id in lists.iter().flatten() {
                    let resource = Resource::Instance {
                        region: part.region.clone(),
                        id: id.clone(),
                    };
                    self.step(&mut fuel, action, &resource, |world| {
                        if world.refuse.contains(id) {
                            return Err("OperationNotPermitted".to_owned());
                        }
                        world.instances.get_mut(id).unwrap().state = match action {
                            Action::TerminateInstance => InstanceState::Terminated,
                            _ => InstanceState::Stopping,
                        };
                        Ok(())
                    })?;
                }
            }
        }
        fuel.burn()?;
        let spacing = SignedDuration::from_secs(10);
        let (next, progress) = after_sweep(&self.containment, &plan, self.now, spacing, self.rules.attribution_lag);
        self.containment = next;
        self.pass_time();
        Some((plan, progress))
    }

    /// What starts others comes first; then the rest is planned by what became of it.
    fn cap(&mut self, fuel: &mut Fuel, plan: &mut Plan) -> Option<()> {
        if self.containment.mode != Mode::Contain {
            return Some(());
        }
        let profiles = plan.principals.profiles.clone();
        let views = self.seen_regions();
        let spawners: Vec<_> = views
            .iter()
            .map(|view| plan_spawners(&self.frame(), view, &profiles))
            .collect();
        for part in spawners.iter().map(|spawners| &spawners.part) {
            for resource in &part.adopted {
                fuel.burn()?;
                self.note_changed(resource);
            }
            for settled in &part.superseded {
                fuel.burn()?;
                self.settle(settled);
            }
            for image in &part.images {
                self.images
                    .entry(image.resource.clone())
                    .or_insert_with(|| image.clone());
            }
            for cap in part.caps.iter().chain(&part.cap_probes) {
                let resource = Resource::Asset {
                    asset: cap.asset.clone(),
                };
                self.step(fuel, Action::Cap, &resource, |world| {
                    if world.refuse.contains(&cap.asset.id) {
                        return Err("AccessDenied".to_owned());
                    }
                    world.put(&cap.asset, &cap.settings);
                    Ok(())
                })?;
            }
        }
        let parts = views.iter().zip(spawners).map(|(view, spawners)| {
            let mut part = plan_region(&self.frame(), view, &profiles, &spawners);
            let mut first = spawners.part;
            // Done already.
            part.superseded.clear();
            (first.images, first.adopted) = (Vec::new(), Vec::new());
            part.with(first)
        });
        plan.regions = parts.collect();
        Some(())
    }

    fn put(&mut self, what: &AssetRef, settings: &Settings) {
        if let Some(Brake::Cap { now, .. }) = self.assets.get_mut(what).map(|asset| &mut asset.brake) {
            now.extend(settings.clone());
        }
    }

    fn settle(&mut self, settled: &Settled) {
        if let Some(mut image) = self.images.remove(&settled.resource) {
            image.restored_at = Some(self.now);
            image.outcome = Some(settled.outcome.clone());
            self.restored.push(image);
        }
    }

    pub fn begin_restore(&mut self, only: &[&str]) {
        self.containment.phase = Phase::Restoring;
        self.containment.restoring_at = Some(self.now);
        self.containment.restore = Some(RestoreRequest {
            by: "operator:test".to_owned(),
            at: self.now,
            only: only.iter().map(|id| (*id).to_owned()).collect(),
            lines_checked: true,
        });
    }

    pub fn plan_restore(&self) -> RestorePlan {
        let views = self.seen_regions();
        plan_restore(&RestoreInput {
            now: self.now,
            containment: &self.containment,
            account: self.account.as_deref(),
            images: &self.images,
            steps: &self.steps,
            principals: self
                .principals
                .iter()
                .map(|(principal, state)| (principal.clone(), Ok(state.clone())))
                .collect(),
            assets: views
                .iter()
                .map(|view| (view.region.clone(), view.assets.clone()))
                .collect(),
            passing: self.passing(),
            instances: views.into_iter().map(|view| (view.region, view.instances)).collect(),
            batch: 50,
            patience: SignedDuration::from_mins(10),
            health_patience: SignedDuration::from_mins(5),
        })
    }

    /// One pass of the restore; `Some(true)` when it is done, `None` when it crashed on the way.
    pub fn restore(&mut self, mut fuel: Fuel) -> Option<bool> {
        let plan = self.plan_restore();
        for settled in &plan.settled {
            fuel.burn()?;
            self.settle(settled);
        }
        for (region, batches) in &plan.starts {
            for id in batches.iter().flatten() {
                let resource = Resource::Instance {
                    region: region.clone(),
                    id: id.clone(),
                };
                self.step(&mut fuel, Action::StartInstance, &resource, |world| {
                    let now = world.now;
                    let machine = world.instances.get_mut(id).unwrap();
                    (machine.state, machine.launched_at) = (InstanceState::Pending, Some(now));
                    Ok(())
                })?;
            }
        }
        for lift in &plan.lifts {
            let resource = Resource::Principal {
                principal: lift.principal.clone(),
            };
            self.step(&mut fuel, Action::LiftDeny, &resource, |world| {
                let state = world.principals.get_mut(&lift.principal).unwrap();
                state.deny_document.clone_from(&lift.document);
                Ok(())
            })?;
        }
        for (user, key_id) in &plan.keys {
            let resource = Resource::AccessKey {
                user: user.clone(),
                key_id: key_id.clone(),
            };
            self.step(&mut fuel, Action::ActivateKey, &resource, |world| {
                world.set_key(key_id, true);
                Ok(())
            })?;
        }
        for uncap in &plan.uncaps {
            let resource = Resource::Asset {
                asset: uncap.asset.clone(),
            };
            self.step(&mut fuel, Action::Uncap, &resource, |world| {
                if world.refuse.contains(&uncap.asset.id) {
                    return Err("AccessDenied".to_owned());
                }
                world.put(&uncap.asset, &uncap.settings);
                Ok(())
            })?;
        }
        fuel.burn()?;
        self.pass_time();
        if plan.is_done() {
            self.containment.phase = Phase::Closed;
        }
        Some(plan.is_done())
    }

    pub fn next_generation(&mut self) {
        self.containment = containment(self.containment.generation + 1);
        self.steps = Steps::default();
    }

    /// Sweeps until the containment is proved.
    pub fn contain(&mut self) {
        for _ in 0..100 {
            if matches!(self.sweep(Fuel::ENDLESS), Some((_, Progress::Contained))) {
                return;
            }
        }
        panic!("never contained: {:#?}", self.plan());
    }

    pub fn reset(&mut self, only: &[&str]) {
        self.begin_restore(only);
        for _ in 0..100 {
            if self.restore(Fuel::ENDLESS) == Some(true) {
                return;
            }
        }
        panic!("never restored: {:#?}", self.plan_restore());
    }

    fn step(
        &mut self,
        fuel: &mut Fuel,
        action: Action,
        resource: &Resource,
        call: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Option<()> {
        assert!(
            self.images.contains_key(resource),
            "C1: {resource} is changed without a before-image"
        );
        fuel.burn()?;
        let step = self.steps.start(
            self.containment.id,
            action,
            resource,
            self.images.get(resource),
            self.now,
        );
        self.steps.put(step.clone());
        fuel.burn()?;
        self.touched.insert(resource.to_string());
        let result = call(self);
        fuel.burn()?;
        let ok = result.is_ok();
        self.steps.put(Step {
            state: if ok { StepState::Done } else { StepState::GivenUp },
            last_error: result.err(),
            ..step
        });
        fuel.burn()?;
        if ok {
            self.note_changed(resource);
        }
        Some(())
    }

    fn note_changed(&mut self, resource: &Resource) {
        let image = self.images.get_mut(resource).unwrap();
        image.changed_at = Some(self.now);
    }

    fn passing(&self) -> BTreeMap<Region, BTreeSet<String>> {
        let mut passing: BTreeMap<Region, BTreeSet<String>> = BTreeMap::new();
        for instance in self
            .instances
            .values()
            .filter(|one| one.state == InstanceState::Running)
        {
            if !self.unwell.contains(&instance.id) {
                passing
                    .entry(instance.region.clone())
                    .or_default()
                    .insert(instance.id.clone());
            }
        }
        passing
    }

    /// What the fleet itself does: a group that is not capped destroys members that are down, a service that
    /// is not capped starts what it lacks, and one that is capped ends what it has.
    pub fn react(&mut self) {
        let uncapped = |world: &Self, what: &AssetRef| {
            let asset = world.assets.get(what);
            asset.is_some_and(|asset| asset.is_capped() == Some(false))
        };
        for id in self.instances.keys().cloned().collect::<Vec<_>>() {
            let instance = &self.instances[&id];
            let destroyed = instance.parent().is_some_and(|group| uncapped(self, &group));
            if destroyed && instance.state == InstanceState::Stopped {
                self.instances.get_mut(&id).unwrap().state = InstanceState::Terminated;
            }
        }
        for service in self
            .assets
            .values()
            .filter(|asset| asset.what.kind == SERVICE)
            .cloned()
            .collect::<Vec<_>>()
        {
            let Brake::Cap { now, .. } = &service.brake else {
                continue;
            };
            let desired: usize = now["desired"].parse().unwrap();
            let tasks = self
                .assets
                .values()
                .filter(|asset| asset.parent.as_ref() == Some(&service.what));
            let tasks: Vec<AssetRef> = tasks.map(|task| task.what.clone()).collect();
            for _ in tasks.len()..desired {
                self.started += 1;
                let id = format!("{}/{}", service.what.id, self.started);
                let mut started = task(&service.what.region.0, &id, Some(&service));
                started.acts_as.clone_from(&service.acts_as);
                self.assets.insert(started.what.clone(), started);
            }
            for task in tasks.iter().skip(desired) {
                self.assets.remove(task);
            }
        }
    }

    pub fn set_key(&mut self, key_id: &str, active: bool) {
        for key in self.principals.values_mut().flat_map(|state| &mut state.keys) {
            if key.id == key_id {
                key.active = active;
            }
        }
    }

    fn pass_time(&mut self) {
        self.now = self.now.checked_add(SignedDuration::from_secs(10)).unwrap();
        for instance in self.instances.values_mut() {
            instance.state = match instance.state {
                InstanceState::Pending => InstanceState::Running,
                InstanceState::Stopping => InstanceState::Stopped,
                InstanceState::ShuttingDown => InstanceState::Terminated,
                other => other,
            };
        }
        self.react();
    }
}

pub const GROUP: Kind = Kind::named("group");
pub const SERVICE: Kind = Kind::named("ecs-service");
pub const TASK: Kind = Kind::named("ecs-task");
const VOLUME: Kind = Kind::named("volume");

pub fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

fn asset(kind: Kind, region_name: &str, id: &str, brake: Brake) -> Asset {
    Asset {
        what: AssetRef {
            kind,
            region: region(region_name),
            id: id.to_owned(),
        },
        service: "AmazonECS".into(),
        tags: BTreeMap::new(),
        acts_as: Vec::new(),
        parent: None,
        created_at: None,
        meters: Vec::new(),
        brake,
    }
}

pub fn owned(mut asset: Asset, owner: &str) -> Asset {
    asset.tags.insert("backstop:agent".to_owned(), owner.to_owned());
    asset
}

/// A group of two processes.
pub fn group(region_name: &str, id: &str) -> Asset {
    let brake = Brake::Cap {
        now: settings(&[("Launch", "active"), ("Terminate", "active")]),
        capped: settings(&[("Launch", "suspended"), ("Terminate", "suspended")]),
    };
    asset(GROUP, region_name, id, brake)
}

pub fn service(region_name: &str, id: &str, desired: usize) -> Asset {
    let brake = Brake::Cap {
        now: settings(&[("desired", &desired.to_string())]),
        capped: settings(&[("desired", "0")]),
    };
    asset(SERVICE, region_name, id, brake)
}

pub fn task(region_name: &str, id: &str, of: Option<&Asset>) -> Asset {
    let mut task = asset(TASK, region_name, id, Brake::End);
    task.parent = of.map(|service| service.what.clone());
    task.meters = vec![Meter::one("ec2/m7g.large")];
    task
}

pub fn volume(region_name: &str, id: &str) -> Asset {
    let brake = Brake::Deletion {
        how: "snapshot and delete it".into(),
    };
    let mut volume = asset(VOLUME, region_name, id, brake);
    volume.meters = vec![Meter::of("ebs/gp3", 8_000)];
    volume
}

pub fn containment(generation: i64) -> Containment {
    let opened_at = Timestamp::from_second(1_000_000).unwrap();
    Containment {
        id: ContainmentId(uuid::Uuid::from_u128(u128::try_from(generation).unwrap())),
        agent: AgentId::new("a").unwrap(),
        generation,
        mode: Mode::Contain,
        phase: Phase::Containing,
        cause: "test".to_owned(),
        breached_at: None,
        opened_at,
        contained_at: None,
        restoring_at: None,
        closed_at: None,
        sweeps: 0,
        quiet: 0,
        coverage: Coverage::default(),
        restore: None,
        targets: None,
        version: 1,
    }
}
