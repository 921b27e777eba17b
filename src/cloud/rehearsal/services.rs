//! Container services and their tasks: a service keeps as many tasks as it is to have; a task alone runs
//! until somebody ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::bill::Bill;
use super::dial::{Dial, all};
use super::world::{World, after};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};
use crate::domain::fleet::rate::Meter;

pub(super) const SERVICE: Kind = Kind::named("ecs-service");
pub(super) const TASK: Kind = Kind::named("ecs-task");

/// What a task is: of a service, or alone.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    pub region: Region,
    pub cluster: String,
    pub tags: BTreeMap<String, String>,
    /// ARNs of its roles.
    pub acts_as: Vec<String>,
    pub meters: Vec<Meter>,
}

impl TaskSpec {
    /// A Fargate task, in thousandths of a vCPU and of a GiB.
    pub fn fargate(region: &str, cluster: &str, vcpu: u64, gib: u64) -> Self {
        Self {
            region: Region(region.to_owned()),
            cluster: cluster.to_owned(),
            tags: BTreeMap::new(),
            acts_as: Vec::new(),
            meters: vec![Meter::of("fargate/x86/vcpu", vcpu), Meter::of("fargate/x86/gib", gib)],
        }
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn acts_as(mut self, arn: &str) -> Self {
        self.acts_as.push(arn.to_owned());
        self
    }
}

/// A service of a fleet to start with; its tasks run already.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    pub name: String,
    pub desired: usize,
    pub tags: BTreeMap<String, String>,
    pub task: TaskSpec,
}

impl ServiceSpec {
    pub fn new(name: &str, desired: usize, task: TaskSpec) -> Self {
        Self {
            name: name.to_owned(),
            desired,
            tags: BTreeMap::new(),
            task,
        }
    }

    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }
}

pub(super) struct Service {
    pub dial: Dial,
    pub tags: BTreeMap<String, String>,
    task: TaskSpec,
}

impl Service {
    pub fn new(spec: ServiceSpec) -> (AssetRef, Self) {
        let what = AssetRef {
            kind: SERVICE,
            region: spec.task.region.clone(),
            id: format!("{}/{}", spec.task.cluster, spec.name),
        };
        let service = Self {
            dial: Dial::new(all(&["desired"], &spec.desired.to_string())),
            tags: spec.tags,
            task: spec.task,
        };
        (what, service)
    }

    fn desired(&self) -> usize {
        let desired = self.dial.now.get("desired").and_then(|desired| desired.parse().ok());
        desired.unwrap_or(0)
    }

    pub fn asset(&self, what: &AssetRef, stale: Option<Duration>, now: Timestamp) -> Asset {
        Asset {
            what: what.clone(),
            service: "AmazonECS".into(),
            tags: self.tags.clone(),
            acts_as: self.task.acts_as.clone(),
            unread: None,
            parent: None,
            created_at: None,
            meters: Vec::new(),
            brake: Brake::Cap {
                now: self.dial.seen(stale, now),
                capped: all(&["desired"], "0"),
            },
        }
    }
}

pub(super) struct Task {
    pub spec: TaskSpec,
    pub parent: Option<AssetRef>,
    pub bill: Bill,
    started_at: Timestamp,
    /// When it is gone, once it was ended.
    gone_at: Option<Timestamp>,
}

impl Task {
    pub fn is_ending(&self) -> bool {
        self.gone_at.is_some()
    }

    pub fn asset(&self, what: &AssetRef) -> Asset {
        Asset {
            what: what.clone(),
            service: "AmazonECS".into(),
            tags: self.spec.tags.clone(),
            acts_as: self.spec.acts_as.clone(),
            unread: None,
            parent: self.parent.clone(),
            created_at: Some(self.started_at),
            meters: self.spec.meters.clone(),
            brake: Brake::End,
        }
    }
}

impl World {
    /// Adds a service; its tasks come with the next settling.
    pub fn add_service(&mut self, spec: ServiceSpec) -> AssetRef {
        let (what, service) = Service::new(spec);
        self.services.insert(what.clone(), service);
        self.restless.insert(what.clone());
        what
    }

    /// Starts a task; it costs from now on.
    pub fn run_task(&mut self, spec: TaskSpec, parent: Option<AssetRef>, now: Timestamp) -> AssetRef {
        self.made += 1;
        let what = AssetRef {
            kind: TASK,
            region: spec.region.clone(),
            id: format!("{}/{:032x}", spec.cluster, self.made),
        };
        let mut bill = Bill::of(self.hourly(&spec.meters));
        bill.turn(true, now);
        let task = Task {
            spec,
            parent,
            bill,
            started_at: now,
            gone_at: None,
        };
        self.tasks.insert(what.clone(), task);
        self.has_had_tasks = true;
        what
    }

    /// Ends a task: it takes a while, and costs until it is gone.
    pub fn end_task(&mut self, what: &AssetRef, now: Timestamp) {
        let gone_at = after(now, self.timing.stopping);
        if let Some(task) = self.tasks.get_mut(what) {
            task.gone_at.get_or_insert(gone_at);
            self.restless.extend(task.parent.clone());
        }
    }

    /// Lets every service do what it does, and tasks that were ended go.
    pub fn react_services(&mut self, now: Timestamp) {
        let gone = |task: &Task| task.gone_at.filter(|at| *at <= now);
        let over: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|(what, task)| Some((what.clone(), gone(task)?)))
            .collect();
        for (what, at) in over {
            if let Some(task) = self.tasks.remove(&what) {
                self.past = self.past.saturating_add(task.bill.total(at));
            }
        }
        // Only those that something has happened to: a fleet may have hundreds, and is settled at every call.
        let (mut ended, mut started) = (Vec::new(), Vec::new());
        for what in std::mem::take(&mut self.restless) {
            let Some(service) = self.services.get(&what) else {
                continue;
            };
            let own = |task: &Task| !task.is_ending() && task.parent.as_ref() == Some(&what);
            let running = self.tasks.iter().filter(|(_, task)| own(task)).map(|(task, _)| task);
            let running: Vec<&AssetRef> = running.collect();
            let desired = service.desired();
            ended.extend(running.iter().skip(desired).map(|task| (*task).clone()));
            started.extend((running.len()..desired).map(|_| (service.task.clone(), what.clone())));
        }
        for task in ended {
            self.end_task(&task, now);
        }
        for (spec, parent) in started {
            self.run_task(spec, Some(parent), now);
        }
    }
}
