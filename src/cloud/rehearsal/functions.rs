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
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::domain::fleet::rate::Meter;
use crate::domain::money::Usd;

pub(super) const FUNCTION: Kind = Kind::named("function");

const RESERVED: &str = "reserved";
const PROVISIONED: &str = "provisioned";
const NONE: &str = "none";

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
    /// Provisioned concurrency by alias, as its setting has it; `none` where there is none.
    pub provisioned: String,
    /// What that is charged for, whether the function is invoked or not.
    pub meters: Vec<Meter>,
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
            provisioned: NONE.to_owned(),
            meters: Vec::new(),
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

    /// So many instances behind an alias are kept warm.
    #[must_use]
    pub fn provisioned(mut self, alias: &str, count: u32, meter: Meter) -> Self {
        self.provisioned = format!("{alias}={count}");
        self.meters = vec![meter];
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
    /// Only a function that has it shows the setting.
    fn capped(&self) -> Settings {
        let mut capped = all(&[RESERVED], "0");
        if self.dial.now.contains_key(PROVISIONED) {
            capped.insert(PROVISIONED.to_owned(), NONE.to_owned());
        }
        capped
    }

    fn is_provisioned(&self) -> bool {
        self.dial.now.get(PROVISIONED).is_some_and(|value| value != NONE)
    }

    /// AWS keeps what is provisioned within what is reserved.
    pub fn takes(&self, settings: &Settings) -> bool {
        let after = |name: &str| settings.get(name).or_else(|| self.dial.now.get(name));
        let reserved = after(RESERVED).and_then(|value| value.parse::<u32>().ok());
        let provisioned = after(PROVISIONED).and_then(|value| value.split_once('=')?.1.parse::<u32>().ok());
        reserved.is_none_or(|reserved| provisioned.is_none_or(|provisioned| provisioned <= reserved))
    }

    pub fn asset(&self, what: &AssetRef, stale: Option<Duration>, now: Timestamp) -> Asset {
        Asset {
            what: what.clone(),
            service: "AWSLambda".into(),
            tags: self.spec.tags.clone(),
            acts_as: self.spec.acts_as.clone(),
            unread: None,
            parent: None,
            created_at: None,
            meters: if self.is_provisioned() {
                self.spec.meters.clone()
            } else {
                Vec::new()
            },
            brake: Brake::Cap {
                now: self.dial.seen(stale, now),
                capped: self.capped(),
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
        let mut standing = Bill::of(self.hourly(&spec.meters));
        standing.turn(!spec.meters.is_empty(), now);
        let mut settings = all(&[RESERVED], &reserved);
        if spec.provisioned != NONE {
            settings.insert(PROVISIONED.to_owned(), spec.provisioned.clone());
        }
        let function = Function {
            dial: Dial::new(settings),
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
            let is_provisioned = function.is_provisioned();
            if is_provisioned != function.standing.since().is_some() {
                function.standing.turn(is_provisioned, now);
            }
            let is_invoked = !function.dial.is(RESERVED, "0");
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
