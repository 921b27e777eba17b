//! The fleet's own laws: how machines change over time, what they cost, what a deny forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::bill::Bill;
use super::fleet::{FleetSnapshot, FleetSpec, MachineSpec, Timing};
use super::functions::Function;
use super::groups::{GROUP, Group};
use super::people::People;
use super::services::{Service, Task};
use super::standing::Standing;
use crate::domain::containment::observed::{Instance, InstanceState, Refused};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::fleet::asset::AssetRef;
use crate::domain::fleet::creation::Creation;
use crate::domain::money::Usd;

pub(super) struct World {
    pub account: String,
    pub identity: String,
    /// Counts the credentials that the daemon has had.
    pub credentials: u64,
    pub regions: Vec<Region>,
    pub machines: BTreeMap<String, Machine>,
    pub people: People,
    /// What is refused, by call and instance, whatever the caller may do.
    pub refusals: BTreeMap<(Verb, String), Refused>,
    pub groups: BTreeMap<AssetRef, Group>,
    pub services: BTreeMap<AssetRef, Service>,
    pub tasks: BTreeMap<AssetRef, Task>,
    /// Services that may have too few tasks, or too many.
    pub restless: BTreeSet<AssetRef>,
    /// There was a task, whether there is one now or not.
    pub has_had_tasks: bool,
    pub functions: BTreeMap<AssetRef, Function>,
    pub standing: BTreeMap<AssetRef, Standing>,
    /// Changes of these are refused, whatever the caller may do.
    pub refused_assets: BTreeMap<AssetRef, Refused>,
    /// Permissions that the daemon does not have, as the policy simulation tells.
    pub lacking: BTreeSet<String>,
    /// What tasks that are gone have cost.
    pub past: Usd,
    pub prices: BTreeMap<String, Usd>,
    pub timing: Timing,
    pub made: u64,
    /// Who made what, whether it can be read by now or not.
    pub record: Vec<Creation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Stop,
    Start,
    Terminate,
}

pub(super) struct Machine {
    pub seen: Instance,
    pub protected: bool,
    /// What it becomes, and when.
    next: Option<(Timestamp, InstanceState)>,
    /// What it was until when: for stale reads.
    before: Option<(Timestamp, Option<InstanceState>)>,
    pub bill: Bill,
    /// It does not pass its checks.
    pub is_sick: bool,
    /// It was stopped and started again.
    pub is_restarted: bool,
}

impl World {
    pub fn new(spec: FleetSpec, now: Timestamp) -> Self {
        let mut world = Self {
            account: spec.account,
            identity: spec.identity,
            credentials: 0,
            regions: spec.regions,
            machines: BTreeMap::new(),
            people: People::new(spec.principals),
            refusals: BTreeMap::new(),
            groups: spec.groups.into_iter().map(Group::new).collect(),
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            restless: BTreeSet::new(),
            has_had_tasks: false,
            functions: BTreeMap::new(),
            standing: BTreeMap::new(),
            refused_assets: BTreeMap::new(),
            lacking: BTreeSet::new(),
            past: Usd::ZERO,
            prices: spec.prices,
            timing: spec.timing,
            made: 0,
            record: Vec::new(),
        };
        for machine in spec.machines {
            let state = machine.state;
            let id = world.add(machine, now);
            if let Some(machine) = world.machines.get_mut(&id) {
                machine.become_now(state, now);
                machine.before = None;
            }
        }
        for service in spec.services {
            world.add_service(service);
        }
        for task in spec.tasks {
            world.run_task(task, None, now);
        }
        for function in spec.functions {
            world.add_function(function, now);
        }
        for standing in spec.standing {
            world.add_standing(standing, now);
        }
        // Members and tasks of what is there run already.
        world.react_groups(now);
        world.react_services(now);
        for machine in world
            .machines
            .values_mut()
            .filter(|machine| machine.seen.group.is_some())
        {
            if machine.seen.state == InstanceState::Pending {
                machine.become_now(InstanceState::Running, now);
                machine.before = None;
            }
        }
        world
    }

    /// Adds a machine as pending; it runs once its time has come.
    pub fn add(&mut self, spec: MachineSpec, now: Timestamp) -> String {
        self.made += 1;
        let id = spec.id.unwrap_or_else(|| format!("i-{:017x}", self.made));
        let mut bill = Bill::of(self.prices.get(&spec.instance_type).copied());
        bill.turn(true, now);
        let machine = Machine {
            seen: Instance {
                region: spec.region,
                id: id.clone(),
                state: InstanceState::Pending,
                instance_type: spec.instance_type,
                tags: spec.tags,
                profile_arn: spec.profile_arn,
                launched_at: Some(now),
                spot: spec.spot,
                root_is_instance_store: spec.root_is_instance_store,
                stop_protected: None,
                group: spec.group,
                request: None,
                sold_as: None,
            },
            protected: spec.stop_protected,
            next: Some((after(now, self.timing.starting), InstanceState::Running)),
            before: Some((now, None)),
            bill,
            is_sick: false,
            is_restarted: false,
        };
        self.machines.insert(id.clone(), machine);
        id
    }

    /// Lets what was on its way arrive, and what starts others do so.
    pub fn settle(&mut self, now: Timestamp) {
        self.react_functions(now);
        for machine in self.machines.values_mut() {
            if let Some((at, state)) = machine.next
                && at <= now
            {
                machine.become_now(state, at);
            }
        }
        self.react_groups(now);
        self.react_services(now);
    }

    /// Ends a machine for good.
    pub fn destroy(&mut self, id: &str, now: Timestamp) {
        let gone_at = after(now, self.timing.stopping);
        if let Some(machine) = self.machines.get_mut(id) {
            machine.become_now(InstanceState::ShuttingDown, now);
            machine.next = Some((gone_at, InstanceState::Terminated));
        }
    }

    /// Changes one machine as a call asks.
    pub fn ask(&mut self, verb: Verb, region: &Region, id: &str, now: Timestamp) -> Result<(), Refused> {
        if let Some(refused) = self.refusals.get(&(verb, id.to_owned())) {
            return Err(refused.clone());
        }
        let timing = self.timing;
        let is_of_a_group = |name: &String| {
            self.groups.contains_key(&AssetRef {
                kind: GROUP,
                region: region.clone(),
                id: name.clone(),
            })
        };
        let machine = self.machines.get(id);
        // A group of this fleet does so by its own processes.
        let replaces = !machine
            .and_then(|machine| machine.seen.group.as_ref())
            .is_some_and(is_of_a_group);
        let machine = self
            .machines
            .get_mut(id)
            .filter(|machine| machine.seen.region == *region);
        let Some(machine) = machine.filter(|machine| machine.seen.state != InstanceState::Terminated) else {
            return Err(refused(
                "InvalidInstanceID.NotFound",
                "the instance does not exist",
                false,
            ));
        };
        machine.may(verb)?;
        match (verb, machine.seen.state) {
            (Verb::Stop, InstanceState::Running) => {
                machine.become_now(InstanceState::Stopping, now);
                machine.next = Some((after(now, timing.stopping), InstanceState::Stopped));
                if let Some(replacement) = machine.replacement().filter(|_| replaces) {
                    machine.next = Some((after(now, timing.stopping), InstanceState::Terminated));
                    self.add(replacement, now);
                }
            }
            (Verb::Start, InstanceState::Stopped) => {
                machine.become_now(InstanceState::Pending, now);
                machine.next = Some((after(now, timing.starting), InstanceState::Running));
                machine.is_restarted = true;
            }
            (Verb::Terminate, state) if !state.is_gone() => self.destroy(id, now),
            _ => {}
        }
        self.settle(now);
        Ok(())
    }

    /// What a call would be refused for, without doing it.
    pub fn may(&self, verb: Verb, region: &Region, id: &str) -> Result<(), Refused> {
        if let Some(refused) = self.refusals.get(&(verb, id.to_owned())) {
            return Err(refused.clone());
        }
        match self.machines.get(id).filter(|machine| machine.seen.region == *region) {
            Some(machine) => machine.may(verb),
            None => Err(refused(
                "InvalidInstanceID.NotFound",
                "the instance does not exist",
                false,
            )),
        }
    }

    /// Whether a principal may launch: nothing denies it, or not yet.
    pub fn may_launch(&self, principal: &Principal, now: Timestamp) -> bool {
        self.people.may_launch(principal, self.timing.policy, now)
    }

    /// The instances of a region as a listing shows them; `stale` shows the past.
    pub fn listing(&self, region: &Region, stale: Option<Duration>, now: Timestamp) -> Vec<Instance> {
        self.machines
            .values()
            .filter(|machine| machine.seen.region == *region)
            .filter_map(|machine| {
                let mut seen = machine.seen.clone();
                if let (Some((since, before)), Some(window)) = (machine.before, stale)
                    && now < after(since, window)
                {
                    seen.state = before?;
                }
                (seen.state != InstanceState::Terminated).then_some(seen)
            })
            .collect()
    }

    pub fn burn(&self) -> Usd {
        self.bills().map(Bill::burn).sum()
    }

    pub fn spent(&self, now: Timestamp) -> Usd {
        let running: Usd = self.bills().map(|bill| bill.total(now)).sum();
        self.past.saturating_add(running)
    }

    fn bills(&self) -> impl Iterator<Item = &Bill> {
        let machines = self.machines.values().map(|machine| &machine.bill);
        let tasks = self.tasks.values().map(|task| &task.bill);
        let functions = self.functions.values();
        let functions = functions.flat_map(|function| [&function.bill, &function.standing]);
        let standing = self.standing.values().map(|standing| &standing.bill);
        machines.chain(tasks).chain(functions).chain(standing)
    }

    /// Tasks that run, by what started them.
    fn task_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for task in self.tasks.values().filter(|task| !task.is_ending()) {
            let by = task.parent.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            *counts.entry(by).or_default() += 1;
        }
        counts
    }

    fn unpriced(&self) -> BTreeSet<String> {
        let machines = self.machines.values().filter(|machine| machine.bill.hourly.is_none());
        let machines = machines.map(|machine| machine.seen.instance_type.clone());
        let tasks = self.tasks.values().flat_map(|task| &task.spec.meters);
        let functions = self.functions.values().flat_map(|function| &function.spec.meters);
        let standing = self.standing.values().flat_map(|standing| &standing.spec.meters);
        let meters = tasks.chain(functions).chain(standing);
        let meters = meters.filter(|meter| !self.prices.contains_key(&meter.rate.0));
        machines.chain(meters.map(|meter| meter.rate.0.clone())).collect()
    }

    pub fn snapshot(&self) -> FleetSnapshot {
        let groups = self.groups.iter().map(|(what, group)| (what, &group.dial));
        let services = self.services.iter().map(|(what, service)| (what, &service.dial));
        let functions = self.functions.iter().map(|(what, function)| (what, &function.dial));
        let dials = groups.chain(services).chain(functions);
        let mut snapshot = FleetSnapshot {
            machines: self
                .machines
                .values()
                .map(|machine| {
                    (
                        format!("{}/{}", machine.seen.region, machine.seen.id),
                        machine.seen.state,
                    )
                })
                .collect(),
            denies: BTreeMap::new(),
            attached: BTreeMap::new(),
            managed: None,
            keys: BTreeMap::new(),
            service_credentials: BTreeMap::new(),
            settings: dials.map(|(what, dial)| (what.to_string(), dial.now.clone())).collect(),
            tasks: self.task_counts(),
            unpriced: self.unpriced().into_iter().collect(),
        };
        self.people.show(&mut snapshot);
        snapshot
    }
}

impl Machine {
    pub fn become_now(&mut self, state: InstanceState, at: Timestamp) {
        // From pending to running it costs on.
        self.bill.turn(state.is_chargeable(), at);
        if state.is_chargeable() && !self.seen.state.is_chargeable() {
            // As EC2's launch time: it is that of the last start.
            self.seen.launched_at = Some(at);
        }
        self.before = Some((at, Some(self.seen.state)));
        self.seen.state = state;
        self.next = None;
    }

    fn may(&self, verb: Verb) -> Result<(), Refused> {
        let state = self.seen.state;
        let wrong_state = || {
            let text = format!("the instance is {state:?}");
            refused("IncorrectInstanceState", &text, !state.is_gone())
        };
        match verb {
            Verb::Stop if self.protected => Err(refused(
                "OperationNotPermitted",
                "the instance may not be stopped; modify its disableApiStop attribute",
                false,
            )),
            Verb::Stop if self.seen.spot == Some(crate::domain::containment::observed::SpotKind::OneTime) => {
                Err(refused(
                    "UnsupportedOperation",
                    "a one-time spot instance cannot be stopped",
                    false,
                ))
            }
            Verb::Stop if self.seen.root_is_instance_store => Err(refused(
                "UnsupportedOperation",
                "an instance-store root cannot be stopped",
                false,
            )),
            Verb::Stop if state == InstanceState::Pending || state.is_gone() => Err(wrong_state()),
            Verb::Start if state == InstanceState::Stopping || state.is_gone() => Err(wrong_state()),
            _ => Ok(()),
        }
    }

    /// What the group launches in place of this member.
    fn replacement(&self) -> Option<MachineSpec> {
        let group = self.seen.group.clone()?;
        Some(MachineSpec {
            region: self.seen.region.clone(),
            id: None,
            instance_type: self.seen.instance_type.clone(),
            tags: self.seen.tags.clone(),
            profile_arn: self.seen.profile_arn.clone(),
            spot: self.seen.spot,
            root_is_instance_store: self.seen.root_is_instance_store,
            stop_protected: self.protected,
            group: Some(group),
            state: InstanceState::Pending,
        })
    }
}

pub(super) fn refused(code: &str, message: &str, transient: bool) -> Refused {
    Refused {
        code: code.to_owned(),
        message: message.to_owned(),
        transient,
    }
}

pub(super) fn after(at: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}
