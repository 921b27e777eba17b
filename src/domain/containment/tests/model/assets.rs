//! Groups, services, tasks and volumes of the model fleet, and what they do by themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fuel, World, region};
use crate::domain::containment::observed::InstanceState;
use crate::domain::containment::plan::{Plan, Seen};
use crate::domain::containment::restore::Settled;
use crate::domain::containment::state::{Action, Mode};
use crate::domain::containment::target::{Region, Resource};
use crate::domain::containment::{plan_region, plan_spawners};
use crate::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use crate::domain::fleet::rate::Meter;

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
        unread: None,
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

impl World {
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

    pub(super) fn seen_assets(&self, region: &Region) -> BTreeMap<Kind, Seen<Vec<Asset>>> {
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

    /// What starts others comes first; then the rest is planned by what became of it.
    pub(super) fn cap(&mut self, fuel: &mut Fuel, plan: &mut Plan) -> Option<()> {
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
            // With the images in their place in one write, so that nothing comes between them.
            if !part.superseded.is_empty() {
                fuel.burn()?;
            }
            for settled in &part.superseded {
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

    pub(super) fn put(&mut self, what: &AssetRef, settings: &Settings) {
        if let Some(Brake::Cap { now, .. }) = self.assets.get_mut(what).map(|asset| &mut asset.brake) {
            now.extend(settings.clone());
        }
    }

    pub(super) fn settle(&mut self, settled: &Settled) {
        if let Some(mut image) = self.images.remove(&settled.resource) {
            image.restored_at = Some(self.now);
            image.outcome = Some(settled.outcome.clone());
            self.restored.push(image);
        }
    }

    pub(super) fn passing(&self) -> BTreeMap<Region, BTreeSet<String>> {
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
}
