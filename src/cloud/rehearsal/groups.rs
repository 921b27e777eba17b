//! Auto Scaling groups: each keeps as many members as it is to have, and destroys a member that is down, for
//! as long as its processes are not suspended.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::dial::{Dial, all};
use super::fleet::MachineSpec;
use super::world::World;
use crate::domain::containment::observed::InstanceState;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};

pub(super) const GROUP: Kind = Kind::named("group");

/// The processes of a group, each of which can be suspended.
const PROCESSES: [&str; 8] = [
    "Launch",
    "Terminate",
    "HealthCheck",
    "ReplaceUnhealthy",
    "AZRebalance",
    "AlarmNotification",
    "ScheduledActions",
    "InstanceRefresh",
];

/// A group of a fleet to start with; its members run already.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    pub name: String,
    pub desired: usize,
    pub tags: BTreeMap<String, String>,
    /// What it launches. A member carries these tags, and not the group's.
    pub member: MachineSpec,
    /// Processes that somebody suspended before.
    pub suspended: Vec<String>,
}

impl GroupSpec {
    pub fn new(name: &str, desired: usize, member: MachineSpec) -> Self {
        Self {
            name: name.to_owned(),
            desired,
            tags: BTreeMap::new(),
            member,
            suspended: Vec::new(),
        }
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn suspended(mut self, process: &str) -> Self {
        self.suspended.push(process.to_owned());
        self
    }
}

pub(super) struct Group {
    pub dial: Dial,
    desired: usize,
    pub tags: BTreeMap<String, String>,
    member: MachineSpec,
}

impl Group {
    pub fn new(spec: GroupSpec) -> (AssetRef, Self) {
        let what = AssetRef {
            kind: GROUP,
            region: spec.member.region.clone(),
            id: spec.name.clone(),
        };
        let mut processes = all(&PROCESSES, "active");
        processes.extend(
            spec.suspended
                .into_iter()
                .map(|process| (process, "suspended".to_owned())),
        );
        let mut member = spec.member;
        member.group = Some(spec.name);
        let group = Self {
            dial: Dial::new(processes),
            desired: spec.desired,
            tags: spec.tags,
            member,
        };
        (what, group)
    }

    fn works(&self, processes: &[&str]) -> bool {
        processes.iter().all(|process| self.dial.is(process, "active"))
    }

    pub fn asset(&self, what: &AssetRef, stale: Option<Duration>, now: Timestamp) -> Asset {
        Asset {
            what: what.clone(),
            service: "AmazonEC2".into(),
            tags: self.tags.clone(),
            acts_as: self.member.profile_arn.iter().cloned().collect(),
            unread: None,
            parent: None,
            created_at: None,
            meters: Vec::new(),
            brake: Brake::Cap {
                now: self.dial.seen(stale, now),
                capped: all(&PROCESSES, "suspended"),
            },
        }
    }
}

impl World {
    /// Adds a group; its members come with the next settling.
    pub fn add_group(&mut self, spec: GroupSpec) -> AssetRef {
        let (what, group) = Group::new(spec);
        self.groups.insert(what.clone(), group);
        what
    }

    /// Lets every group do what it does.
    pub fn react_groups(&mut self, now: Timestamp) {
        if self.groups.is_empty() {
            return;
        }
        // By one look at all machines, since a fleet may have as many groups as a group has members.
        let mut members: HashMap<(&Region, &str), Members> = HashMap::new();
        for machine in self.machines.values() {
            let seen = &machine.seen;
            let Some(group) = &seen.group else { continue };
            let members = members.entry((&seen.region, group)).or_default();
            match seen.state {
                InstanceState::Stopping | InstanceState::Stopped => members.down.push(seen.id.clone()),
                state if state.is_chargeable() => members.running += 1,
                _ => {}
            }
        }
        let (mut destroyed, mut added) = (Vec::new(), Vec::new());
        for (what, group) in &self.groups {
            let members = members.remove(&(&what.region, what.id.as_str())).unwrap_or_default();
            if group.works(&["HealthCheck", "ReplaceUnhealthy", "Terminate"]) {
                destroyed.extend(members.down);
            }
            if group.works(&["Launch"]) {
                added.extend((members.running..group.desired).map(|_| group.member.clone()));
            }
        }
        for id in destroyed {
            self.destroy(&id, now);
        }
        for member in added {
            self.add(member, now);
        }
    }
}

/// The members of one group.
#[derive(Default)]
struct Members {
    down: Vec<String>,
    running: usize,
}
