//! Container services and their tasks: a service keeps as many tasks as it is to have; a task alone runs
//! until somebody ends it. A scaler brings the count of its service up to a minimum, again and again, until it
//! is suspended.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::bill::Bill;
use super::dial::Dial;
use super::world::{World, after};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
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
    pub scaler: Option<ScalerSpec>,
}

/// What raises a service's count to a minimum, every so often.
#[derive(Debug, Clone, Copy)]
pub struct ScalerSpec {
    pub minimum: usize,
    pub every: Duration,
}

impl ServiceSpec {
    pub fn new(name: &str, desired: usize, task: TaskSpec) -> Self {
        Self {
            name: name.to_owned(),
            desired,
            tags: BTreeMap::new(),
            task,
            scaler: None,
        }
    }

    #[must_use]
    pub fn scaled(mut self, minimum: usize, every: Duration) -> Self {
        self.scaler = Some(ScalerSpec { minimum, every });
        self
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
    scaler: Option<ScalerSpec>,
    scaled_at: Option<Timestamp>,
}

impl Service {
    pub fn new(spec: ServiceSpec) -> (AssetRef, Self) {
        let what = AssetRef {
            kind: SERVICE,
            region: spec.task.region.clone(),
            id: format!("{}/{}", spec.task.cluster, spec.name),
        };
        let service = Self {
            dial: Dial::new(settings(&spec.desired.to_string(), spec.scaler.map(|_| "active"))),
            tags: spec.tags,
            task: spec.task,
            scaler: spec.scaler,
            scaled_at: None,
        };
        (what, service)
    }

    fn desired(&self) -> usize {
        let desired = self.dial.now.get("desired").and_then(|desired| desired.parse().ok());
        desired.unwrap_or(0)
    }

    /// It has a scaler from now on.
    pub fn scale_by(&mut self, scaler: ScalerSpec, now: Timestamp) {
        self.scaler = Some(scaler);
        self.dial
            .put(&Settings::from([("scaling".to_owned(), "active".to_owned())]), now);
    }

    /// Its scaler acts, if it is time.
    fn scale(&mut self, now: Timestamp) {
        let Some(ScalerSpec { minimum, every }) = self.scaler else {
            return;
        };
        let due = self.scaled_at.is_none_or(|last| after(last, every) <= now);
        if due && self.dial.is("scaling", "active") {
            self.scaled_at = Some(now);
            if self.desired() < minimum {
                self.dial.put(&settings(&minimum.to_string(), None), now);
            }
        }
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
                capped: settings("0", self.scaler.map(|_| "suspended")),
            },
        }
    }
}

fn settings(desired: &str, scaling: Option<&str>) -> Settings {
    let scaling = scaling.map(|value| ("scaling".to_owned(), value.to_owned()));
    std::iter::once(("desired".to_owned(), desired.to_owned()))
        .chain(scaling)
        .collect()
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
        for (what, service) in &mut self.services {
            let before = service.desired();
            service.scale(now);
            if service.desired() != before {
                self.restless.insert(what.clone());
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
