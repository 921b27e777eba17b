//! A fleet, an agent and the records about them, all in memory; applies a plan step by step and can
//! lose everything between a call and the note that it was made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::domain::containment::attribution::{Readings, attribution};
use crate::domain::containment::coverage::{Progress, after_sweep};
use crate::domain::containment::deny;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::observed::{AccessKey, Instance, InstanceState, PrincipalState, ServiceCredential};
use crate::domain::containment::plan::{Frame, Images, Others, Plan, PlanInput, PlanRules, RegionView, plan};
use crate::domain::containment::restore::{RestoreInput, RestorePlan, plan_restore};
use crate::domain::containment::state::{Action, Containment, Mode, Phase, RestoreRequest, Step, StepState};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::{CloudTargets, Guard, Principal, Region, Resource};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind};
use crate::domain::fleet::price::FleetPrices;
use crate::domain::id::{AgentId, ContainmentId};

mod assets;

pub use assets::{GROUP, TASK, group, owned, service, settings, task, volume};

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
        request: None,
        sold_as: None,
    }
}

/// Machines by id, and the principals, with their policies, keys and credentials.
type Snapshot = (Vec<(String, InstanceState)>, Vec<PrincipalState>);

pub fn credential(id: &str, active: bool) -> ServiceCredential {
    ServiceCredential {
        id: id.to_owned(),
        service: "bedrock.amazonaws.com".to_owned(),
        active,
    }
}

fn credential_of(user: &str, id: &str) -> Resource {
    Resource::ServiceCredential {
        user: user.to_owned(),
        id: id.to_owned(),
    }
}

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
    prices: FleetPrices,
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
                exists: true,
                keys,
                profile_arns: profiles,
                ..PrincipalState::absent(principal.clone())
            };
            (principal, state)
        };
        let key = |id: &str, active| AccessKey {
            id: id.to_owned(),
            active,
        };
        let mut person = principal(user(), vec![key("AKIA1", true), key("AKIA2", false)], Vec::new());
        person.1.service_credentials = vec![credential("ACCA1", true), credential("ACCA2", false)];
        Self {
            now: Timestamp::from_second(1_000_000).unwrap(),
            instances: instances
                .into_iter()
                .map(|instance| (instance.id.clone(), instance))
                .collect(),
            principals: BTreeMap::from([principal(role(), Vec::new(), vec![PROFILE.to_owned()]), person]),
            assets: BTreeMap::new(),
            refuse: BTreeSet::new(),
            down: BTreeSet::new(),
            hidden: BTreeSet::new(),
            unwell: BTreeSet::new(),
            created: BTreeSet::new(),
            others: Others::new(),
            prices: FleetPrices::default(),
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

    /// What people would compare before and after: states, documents, keys.
    pub fn snapshot(&self) -> Snapshot {
        (
            self.instances.values().map(|i| (i.id.clone(), i.state)).collect(),
            self.principals.values().cloned().collect(),
        )
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
            prices: &self.prices,
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
            let no_room = |world: &Self, what: &str| world.refuse.contains(&format!("{what} {}", deny.principal.arn()));
            let attach = no_room(self, "inline") || deny.attach;
            if !deny.attach {
                self.step(&mut fuel, Action::PutDeny, &resource, |world| {
                    if attach {
                        return Err(deny::NO_ROOM.to_owned());
                    }
                    let state = world.principals.get_mut(&deny.principal).unwrap();
                    state.deny_document = Some(deny::DOCUMENT.to_owned());
                    Ok(())
                })?;
            }
            if attach {
                self.step(&mut fuel, Action::AttachDeny, &resource, |world| {
                    if no_room(world, "attach") {
                        return Err(deny::NO_ROOM.to_owned());
                    }
                    let state = world.principals.get_mut(&deny.principal).unwrap();
                    state.deny_attached = true;
                    state.attached_document = Some(deny::DOCUMENT.to_owned());
                    Ok(())
                })?;
            }
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
        for credential in &plan.principals.credentials {
            let resource = credential_of(&credential.user, &credential.id);
            self.step(&mut fuel, Action::DeactivateCredential, &resource, |world| {
                world.set_credential(&credential.id, false);
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
        let attribution = attribution(&self.containment, &plan, &Readings::new(), &self.rules, self.now);
        let (next, progress) = after_sweep(&self.containment, &plan, self.now, spacing, &attribution);
        self.containment = next;
        self.pass_time();
        Some((plan, progress))
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
        for principal in &plan.detaches {
            let resource = Resource::Principal {
                principal: principal.clone(),
            };
            self.step(&mut fuel, Action::DetachDeny, &resource, |world| {
                let state = world.principals.get_mut(principal).unwrap();
                (state.deny_attached, state.attached_document) = (false, None);
                Ok(())
            })?;
        }
        for (user, id) in &plan.credentials {
            self.step(
                &mut fuel,
                Action::ActivateCredential,
                &credential_of(user, id),
                |world| {
                    world.set_credential(id, true);
                    Ok(())
                },
            )?;
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

    pub fn set_credential(&mut self, id: &str, active: bool) {
        for state in self.principals.values_mut() {
            for credential in state.service_credentials.iter_mut().filter(|one| one.id == id) {
                credential.active = active;
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

pub fn containment(generation: i64) -> Containment {
    let id = ContainmentId(uuid::Uuid::from_u128(u128::try_from(generation).unwrap()));
    let opened_at = Timestamp::from_second(1_000_000).unwrap();
    Containment::opened(
        id,
        AgentId::new("a").unwrap(),
        generation,
        Mode::Contain,
        "test",
        opened_at,
    )
}
