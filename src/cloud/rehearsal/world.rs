//! The fleet's own laws: how machines change over time, what they cost, what a deny forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fleet::{FleetSnapshot, FleetSpec, MachineSpec, Timing};
use super::people::People;
use crate::domain::containment::observed::{Instance, InstanceState, Refused};
use crate::domain::containment::target::{Principal, Region};
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
    prices: BTreeMap<String, Usd>,
    timing: Timing,
    made: u64,
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
    hourly: Option<Usd>,
    running_since: Option<Timestamp>,
    spent: Usd,
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
            prices: spec.prices,
            timing: spec.timing,
            made: 0,
        };
        for machine in spec.machines {
            let state = machine.state;
            let id = world.add(machine, now);
            if let Some(machine) = world.machines.get_mut(&id) {
                machine.become_now(state, now);
                machine.before = None;
            }
        }
        world
    }

    /// Adds a machine as pending; it runs once its time has come.
    pub fn add(&mut self, spec: MachineSpec, now: Timestamp) -> String {
        self.made += 1;
        let id = spec.id.unwrap_or_else(|| format!("i-{:017x}", self.made));
        let hourly = self.prices.get(&spec.instance_type).copied();
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
            },
            protected: spec.stop_protected,
            next: Some((after(now, self.timing.starting), InstanceState::Running)),
            before: Some((now, None)),
            hourly,
            running_since: Some(now),
            spent: Usd::ZERO,
        };
        self.machines.insert(id.clone(), machine);
        id
    }

    /// Lets what was on its way arrive.
    pub fn settle(&mut self, now: Timestamp) {
        for machine in self.machines.values_mut() {
            if let Some((at, state)) = machine.next
                && at <= now
            {
                machine.become_now(state, at);
            }
        }
    }

    /// Changes one machine as a call asks.
    pub fn ask(&mut self, verb: Verb, region: &Region, id: &str, now: Timestamp) -> Result<(), Refused> {
        if let Some(refused) = self.refusals.get(&(verb, id.to_owned())) {
            return Err(refused.clone());
        }
        let timing = self.timing;
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
                if let Some(replacement) = machine.replacement() {
                    machine.next = Some((after(now, timing.stopping), InstanceState::Terminated));
                    self.add(replacement, now);
                }
            }
            (Verb::Start, InstanceState::Stopped) => {
                machine.become_now(InstanceState::Pending, now);
                machine.next = Some((after(now, timing.starting), InstanceState::Running));
            }
            (Verb::Terminate, state) if !state.is_gone() => {
                machine.become_now(InstanceState::ShuttingDown, now);
                machine.next = Some((after(now, timing.stopping), InstanceState::Terminated));
            }
            _ => {}
        }
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
        self.machines
            .values()
            .filter(|machine| machine.seen.state.is_chargeable())
            .filter_map(|machine| machine.hourly)
            .sum()
    }

    pub fn spent(&self, now: Timestamp) -> Usd {
        self.machines
            .values()
            .map(|machine| machine.spent.saturating_add(machine.running_cost(now)))
            .sum()
    }

    pub fn snapshot(&self) -> FleetSnapshot {
        let unpriced: BTreeSet<&String> = self
            .machines
            .values()
            .filter(|machine| machine.hourly.is_none())
            .map(|machine| &machine.seen.instance_type)
            .collect();
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
            unpriced: unpriced.into_iter().cloned().collect(),
        };
        self.people.show(&mut snapshot);
        snapshot
    }
}

impl Machine {
    pub fn become_now(&mut self, state: InstanceState, at: Timestamp) {
        self.spent = self.spent.saturating_add(self.running_cost(at));
        self.running_since = state.is_chargeable().then_some(at);
        if state.is_chargeable() && !self.seen.state.is_chargeable() {
            // As EC2's launch time: it is that of the last start.
            self.seen.launched_at = Some(at);
        }
        self.before = Some((at, Some(self.seen.state)));
        self.seen.state = state;
        self.next = None;
    }

    /// What it cost since it last started, by the second.
    fn running_cost(&self, now: Timestamp) -> Usd {
        let (Some(since), Some(hourly)) = (self.running_since, self.hourly) else {
            return Usd::ZERO;
        };
        let nanos = now.duration_since(since).as_nanos().max(0);
        let hour = SignedDuration::from_hours(1).as_nanos();
        Usd::from_i128(i128::from(hourly.nanos()).saturating_mul(nanos) / hour).unwrap_or(Usd::MAX)
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
