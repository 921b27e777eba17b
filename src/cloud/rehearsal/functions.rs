//! Functions: somebody goes on invoking them, which costs, until their concurrency is reserved at nothing.
//! One may start machines while it is invoked: an agent's own scheduler, with credentials of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::bill::Bill;
use super::dial::{Dial, all};
use super::fleet::MachineSpec;
use super::world::{World, after};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind};
use crate::domain::fleet::rate::Meter;
use crate::domain::money::Usd;

pub(super) const FUNCTION: Kind = Kind::named("function");

#[derive(Debug, Clone)]
pub struct FunctionSpec {
    pub region: Region,
    pub name: String,
    pub tags: BTreeMap<String, String>,
    pub acts_as: Vec<String>,
    /// What its invocations cost an hour: no listing shows it.
    pub usd_per_hour: Usd,
    /// What is reserved for it; `None` where nothing is.
    pub reserved: Option<u32>,
    /// Provisioned concurrency: it costs whether the function is invoked or not.
    pub provisioned: Vec<Meter>,
    /// What it starts, and how often.
    pub launches: Option<(MachineSpec, Duration)>,
}

impl FunctionSpec {
    pub fn new(region: &str, name: &str, usd_per_hour: Usd) -> Self {
        Self {
            region: Region(region.to_owned()),
            name: name.to_owned(),
            tags: BTreeMap::new(),
            acts_as: Vec::new(),
            usd_per_hour,
            reserved: None,
            provisioned: Vec::new(),
            launches: None,
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

    #[must_use]
    pub fn reserved(mut self, concurrency: u32) -> Self {
        self.reserved = Some(concurrency);
        self
    }

    #[must_use]
    pub fn launching(mut self, machine: MachineSpec, every: Duration) -> Self {
        self.launches = Some((machine, every));
        self
    }
}

pub(super) struct Function {
    pub dial: Dial,
    pub spec: FunctionSpec,
    /// Of its invocations.
    pub bill: Bill,
    /// Of what is provisioned.
    pub standing: Bill,
    next_launch: Timestamp,
}

impl Function {
    pub fn asset(&self, what: &AssetRef, stale: Option<Duration>, now: Timestamp) -> Asset {
        Asset {
            what: what.clone(),
            service: "AWSLambda".into(),
            tags: self.spec.tags.clone(),
            acts_as: self.spec.acts_as.clone(),
            unread: None,
            parent: None,
            created_at: None,
            meters: self.spec.provisioned.clone(),
            brake: Brake::Cap {
                now: self.dial.seen(stale, now),
                capped: all(&["reserved"], "0"),
            },
        }
    }
}

impl World {
    pub fn add_function(&mut self, spec: FunctionSpec, now: Timestamp) -> AssetRef {
        let what = AssetRef {
            kind: FUNCTION,
            region: spec.region.clone(),
            id: spec.name.clone(),
        };
        let reserved = spec.reserved.map_or_else(|| "none".to_owned(), |some| some.to_string());
        let mut standing = Bill::of(self.hourly(&spec.provisioned));
        standing.turn(!spec.provisioned.is_empty(), now);
        let function = Function {
            dial: Dial::new(all(&["reserved"], &reserved)),
            bill: Bill::of(Some(spec.usd_per_hour)),
            standing,
            next_launch: now,
            spec,
        };
        self.functions.insert(what.clone(), function);
        what
    }

    /// Lets every function be invoked.
    pub fn react_functions(&mut self, now: Timestamp) {
        let mut launched: Vec<(MachineSpec, Timestamp)> = Vec::new();
        for function in self.functions.values_mut() {
            let is_invoked = !function.dial.is("reserved", "0");
            if is_invoked != function.bill.since().is_some() {
                function.bill.turn(is_invoked, now);
            }
            let Some((machine, every)) = function.spec.launches.clone() else {
                continue;
            };
            while function.next_launch <= now {
                if is_invoked {
                    launched.push((machine.clone(), function.next_launch));
                }
                // Never less than a second, so that a fleet that nobody looked at for long is caught up with.
                function.next_launch = after(function.next_launch, every.max(Duration::from_secs(1)));
            }
        }
        for (machine, at) in launched {
            self.add(machine, at);
        }
    }
}
