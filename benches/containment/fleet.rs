//! Fleets to plan for: so many things of the agent's among twice as many of others, in five regions.

use std::collections::BTreeMap;

use backstop::domain::containment::image::{Before, BeforeImage};
use backstop::domain::containment::observed::{Instance, InstanceState};
use backstop::domain::containment::plan::{Images, RegionView};
use backstop::domain::containment::state::{Action, Containment};
use backstop::domain::containment::steps::Steps;
use backstop::domain::containment::target::{Region, Resource};
use backstop::domain::fleet::asset::{Asset, AssetRef, Brake, Kind, Settings};
use backstop::domain::fleet::rate::Meter;
use jiff::Timestamp;

pub const ACCOUNT: &str = "123456789012";
pub const REGIONS: [&str; 5] = ["ap-south-1", "eu-central-1", "eu-west-1", "us-east-1", "us-west-2"];

/// Of a hundred things so many start others: half groups, half functions. The rest are machines, of which a
/// tenth are members of a group.
const SPAWNERS: usize = 20;

pub fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).expect("a time in this century")
}

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub ours: usize,
    /// Whether any of them start others; otherwise all are machines.
    pub mixed: bool,
}

impl Size {
    pub const fn machines(ours: usize) -> Self {
        Self { ours, mixed: false }
    }

    pub const fn mixed(ours: usize) -> Self {
        Self { ours, mixed: true }
    }

    fn all(self) -> usize {
        self.ours * 3
    }

    fn is_spawner(self, number: usize) -> bool {
        self.mixed && number % 100 < SPAWNERS
    }

    pub fn machines_of_ours(self) -> usize {
        (0..self.ours).filter(|number| !self.is_spawner(*number)).count()
    }

    fn owner(self, number: usize) -> &'static str {
        if number < self.ours { "agent" } else { "other" }
    }

    fn region(number: usize) -> Region {
        // By hundreds, so that each region has some of everything.
        Region(REGIONS[number / 100 % REGIONS.len()].to_owned())
    }

    fn instance(self, number: usize, state: InstanceState) -> Instance {
        let owner = self.owner(number);
        let group = (self.mixed && number % 100 >= 90).then(|| format!("group-{}", number / 100 * 100));
        Instance {
            region: Self::region(number),
            id: format!("i-{number:017x}"),
            state,
            instance_type: "m7g.large".to_owned(),
            tags: BTreeMap::from([
                ("Name".to_owned(), format!("worker-{number}")),
                ("backstop:agent".to_owned(), owner.to_owned()),
            ]),
            profile_arn: Some(format!("arn:aws:iam::{ACCOUNT}:instance-profile/{owner}")),
            launched_at: Some(now()),
            spot: None,
            root_is_instance_store: false,
            stop_protected: None,
            group,
            request: None,
            sold_as: None,
        }
    }

    fn spawner(self, number: usize, down: bool) -> Asset {
        let settings = |value: &str, names: &[&str]| -> Settings {
            names
                .iter()
                .map(|name| ((*name).to_owned(), value.to_owned()))
                .collect()
        };
        let is_group = number.is_multiple_of(2);
        let (kind, now, capped) = if is_group {
            let processes = ["Launch", "Terminate", "HealthCheck", "ReplaceUnhealthy", "AZRebalance"];
            (
                "group",
                settings("active", &processes),
                settings("suspended", &processes),
            )
        } else {
            (
                "function",
                settings("none", &["reserved"]),
                settings("0", &["reserved"]),
            )
        };
        Asset {
            what: AssetRef {
                kind: Kind::named(kind),
                region: Self::region(number),
                id: format!("{kind}-{number}"),
            },
            service: if is_group { "AmazonEC2" } else { "AWSLambda" }.into(),
            tags: BTreeMap::from([("backstop:agent".to_owned(), self.owner(number).to_owned())]),
            acts_as: Vec::new(),
            unread: None,
            parent: None,
            created_at: None,
            meters: vec![Meter::of("lambda-provisioned/arm", 500)],
            brake: Brake::Cap {
                now: if down { capped.clone() } else { now },
                capped,
            },
        }
    }

    /// As a sweep finds it: everything of the agent's up, or all of it down.
    pub fn views(self, down: bool) -> Vec<RegionView> {
        let view = |name: &&str| RegionView {
            region: Region((*name).to_owned()),
            observed_at: now(),
            instances: Ok(Vec::new()),
            assets: BTreeMap::from(["group", "function"].map(|kind| (Kind::named(kind), Ok(Vec::new())))),
        };
        let mut views: BTreeMap<Region, RegionView> = REGIONS
            .iter()
            .map(|name| (Region((*name).to_owned()), view(name)))
            .collect();
        for number in 0..self.all() {
            let is_down = down && number < self.ours;
            let view = views.get_mut(&Self::region(number)).expect("one of the five");
            if self.is_spawner(number) {
                let asset = self.spawner(number, is_down);
                let listed = view.assets.get_mut(&asset.what.kind).expect("a kind of the two");
                listed.as_mut().expect("it was listed").push(asset);
            } else {
                let state = if is_down {
                    InstanceState::Stopped
                } else {
                    InstanceState::Running
                };
                let listed = view.instances.as_mut().expect("they were listed");
                listed.push(self.instance(number, state));
            }
        }
        views.into_values().collect()
    }

    /// What a first sweep leaves in the store.
    pub fn after_the_first(self, containment: &Containment) -> (Images, Steps) {
        let (mut images, mut steps) = (Images::new(), Steps::default());
        for number in 0..self.ours {
            let (resource, action, before) = if self.is_spawner(number) {
                let asset = self.spawner(number, false);
                let Brake::Cap { now, capped } = asset.brake else {
                    continue;
                };
                let before = Before::Settings { were: now, capped };
                (Resource::Asset { asset: asset.what }, Action::Cap, before)
            } else {
                let Instance { region, id, state, .. } = self.instance(number, InstanceState::Running);
                let before = Before::Instance { state };
                (Resource::Instance { region, id }, Action::StopInstance, before)
            };
            steps.put(steps.start(containment.id, action, &resource, None, now()));
            let image = BeforeImage {
                agent: containment.agent.clone(),
                resource: resource.clone(),
                before,
                containment: containment.id,
                account: Some(ACCOUNT.to_owned()),
                recorded_at: now(),
                changed_at: Some(now()),
                restored_at: None,
                outcome: None,
            };
            images.insert(resource, image);
        }
        (images, steps)
    }
}
