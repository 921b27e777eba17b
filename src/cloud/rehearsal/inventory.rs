//! Everything but instances, as listings show it and as calls change it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::dial::Dial;
use super::functions::FUNCTION;
use super::groups::GROUP;
use super::services::{SERVICE, TASK};
use super::world::{World, refused};
use crate::domain::containment::observed::{InstanceState, Refused};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use crate::domain::fleet::rate::Meter;
use crate::domain::money::Usd;
use crate::ports::Health;

impl World {
    /// The kinds that this fleet has, or had, anything of.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: BTreeSet<Kind> = self.standing.keys().map(|what| what.kind.clone()).collect();
        for (kind, is_there) in [
            (GROUP, !self.groups.is_empty()),
            (SERVICE, !self.services.is_empty()),
            (TASK, self.has_had_tasks),
            (FUNCTION, !self.functions.is_empty()),
        ] {
            if is_there {
                kinds.insert(kind);
            }
        }
        kinds.into_iter().collect()
    }

    /// One kind in a region; `stale` shows settings of the past.
    pub fn assets(&self, region: &Region, kind: &Kind, stale: Option<Duration>, now: Timestamp) -> Vec<Asset> {
        let groups = self.groups.iter().map(|(what, group)| group.asset(what, stale, now));
        let services = self
            .services
            .iter()
            .map(|(what, service)| service.asset(what, stale, now));
        let functions = self
            .functions
            .iter()
            .map(|(what, function)| function.asset(what, stale, now));
        let tasks = self.tasks.iter().map(|(what, task)| task.asset(what));
        let standing = self.standing.values().map(super::standing::Standing::asset);
        let all = groups.chain(services).chain(functions).chain(tasks).chain(standing);
        all.filter(|asset| asset.what.region == *region && asset.what.kind == *kind)
            .collect()
    }

    pub fn dial(&mut self, what: &AssetRef) -> Option<&mut Dial> {
        self.restless.insert(what.clone());
        let group = self.groups.get_mut(what).map(|group| &mut group.dial);
        let service = self.services.get_mut(what).map(|service| &mut service.dial);
        let function = self.functions.get_mut(what).map(|function| &mut function.dial);
        group.or(service).or(function)
    }

    pub fn put_settings(&mut self, what: &AssetRef, settings: &Settings, now: Timestamp) -> Result<(), Refused> {
        if let Some(refused) = self.refused_assets.get(what) {
            return Err(refused.clone());
        }
        if self
            .functions
            .get(what)
            .is_some_and(|function| !function.takes(settings))
        {
            let why = "what is reserved is less than what is provisioned";
            return Err(refused("InvalidParameterValueException", why, false));
        }
        let dial = self.dial(what);
        let dial = dial.ok_or_else(|| refused("ResourceNotFound", "there is no such thing", false))?;
        dial.put(settings, now);
        self.settle(now);
        Ok(())
    }

    /// Fine if it has ended.
    pub fn end(&mut self, what: &AssetRef, now: Timestamp) -> Result<(), Refused> {
        if let Some(refused) = self.refused_assets.get(what) {
            return Err(refused.clone());
        }
        self.end_task(what, now);
        self.settle(now);
        Ok(())
    }

    /// Whether a machine passes its checks, which take a while after its start, and its balancer's.
    pub fn health(&self, region: &Region, id: &str, now: Timestamp) -> Option<Health> {
        let machine = self.machines.get(id).filter(|machine| machine.seen.region == *region)?;
        if machine.seen.state != InstanceState::Running {
            return None;
        }
        let checked = machine
            .bill
            .since()
            .map(|since| super::world::after(since, self.timing.checks));
        Some(match checked {
            _ if machine.is_sick => Health::Failing,
            _ if !self.balancer_finds_well(machine, now) => Health::Failing,
            Some(at) if at <= now => Health::Passing,
            _ => Health::Pending,
        })
    }

    /// What meters cost here; `None` as soon as one has no price.
    pub fn hourly(&self, meters: &[Meter]) -> Option<Usd> {
        meters.iter().try_fold(Usd::ZERO, |sum, meter| {
            let each = self.prices.get(&meter.rate.0)?;
            let nanos = i128::from(each.nanos()).saturating_mul(i128::from(meter.thousandths)) / 1_000;
            Some(sum.saturating_add(Usd::from_i128(nanos).unwrap_or(Usd::MAX)))
        })
    }
}
