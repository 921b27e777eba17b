//! What planning a containment costs: `cargo bench --bench containment`.
//!
//! 500 of the agent's machines among 1,000 others in five regions, as a sweep finds them: all of them
//! running and to be stopped; and once more when all are down, which is the plan of every sweep that only
//! holds. Section 10 of the design asks for 100 ms at most. Every stop issued on the emulator is a test
//! that is run by hand: `cargo nextest run --test it -E 'test(crowd)' --run-ignored all --no-capture`.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use backstop::domain::containment::image::{Before, BeforeImage};
use backstop::domain::containment::observed::{Instance, InstanceState, PrincipalState};
use backstop::domain::containment::plan::{Frame, Images, Plan, PlanInput, PlanRules, RegionView, plan};
use backstop::domain::containment::restore::{RestoreInput, plan_restore};
use backstop::domain::containment::state::{Action, Containment, Mode};
use backstop::domain::containment::steps::Steps;
use backstop::domain::containment::target::{CloudTargets, Guard, Principal, Region, Resource};
use backstop::domain::fleet::asset::{Asset, AssetRef, Brake, Settings};
use backstop::domain::fleet::instance::GROUP;
use backstop::domain::fleet::price::FleetPrices;
use backstop::domain::id::{AgentId, ContainmentId};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

const ACCOUNT: &str = "123456789012";
const REGIONS: [&str; 5] = ["ap-south-1", "eu-central-1", "eu-west-1", "us-east-1", "us-west-2"];
const OURS: usize = 500;
const OTHERS: usize = 1_000;

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).expect("a time in this century")
}

fn instance(number: usize, state: InstanceState) -> Instance {
    let owner = if number < OURS { "agent" } else { "other" };
    Instance {
        region: Region(REGIONS[number % REGIONS.len()].to_owned()),
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
        group: None,
    }
}

fn views(ours: InstanceState) -> Vec<RegionView> {
    let seen: Vec<Instance> = (0..OURS + OTHERS)
        .map(|number| instance(number, if number < OURS { ours } else { InstanceState::Running }))
        .collect();
    let of = |name: &str| seen.iter().filter(|one| one.region.0 == name).cloned().collect();
    REGIONS
        .iter()
        .map(|name| RegionView {
            region: Region((*name).to_owned()),
            observed_at: now(),
            instances: Ok(of(name)),
            assets: BTreeMap::new(),
        })
        .collect()
}

fn containment() -> Containment {
    let agent = AgentId::new("agent").expect("a name");
    Containment::opened(ContainmentId(Uuid::from_u128(1)), agent, 1, Mode::Contain, "", now())
}

/// What a first sweep leaves in the store.
fn after_the_first(containment: &Containment) -> (Images, Steps) {
    let mut images = Images::new();
    let mut steps = Steps::default();
    for number in 0..OURS {
        let Instance { region, id, .. } = instance(number, InstanceState::Running);
        let resource = Resource::Instance { region, id };
        let step = steps.start(containment.id, Action::StopInstance, &resource, None, now());
        steps.put(step);
        let image = BeforeImage {
            agent: containment.agent.clone(),
            resource: resource.clone(),
            before: Before::Instance {
                state: InstanceState::Running,
            },
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

fn role() -> Principal {
    Principal::Role(format!("arn:aws:iam::{ACCOUNT}:role/agents/agent"))
}

fn planned(views: &[RegionView], containment: &Containment, images: &Images, steps: &Steps) -> Plan {
    let targets = CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: vec![role()],
        tags: BTreeMap::from([("backstop:agent".to_owned(), "agent".to_owned())]),
        regions: Vec::new(),
    };
    let state = PrincipalState {
        exists: true,
        profile_arns: vec![format!("arn:aws:iam::{ACCOUNT}:instance-profile/agent")],
        ..PrincipalState::absent(role())
    };
    plan(&PlanInput {
        frame: Frame {
            now: now(),
            containment,
            targets: &targets,
            guard: &Guard::default(),
            account: Some(ACCOUNT),
            images,
            steps,
            foreign: &BTreeMap::new(),
            created: &BTreeSet::new(),
            others: &BTreeMap::new(),
            prices: &FleetPrices::default(),
            rules: &PlanRules::default(),
        },
        principals: vec![(role(), Ok(state))],
        regions: Ok(views.to_vec()),
        trusting: Ok(Vec::new()),
    })
}

fn containment_of_500(c: &mut Criterion) {
    let containment = containment();
    let running = views(InstanceState::Running);
    let (none, no_steps) = (Images::new(), Steps::default());
    let first = planned(&running, &containment, &none, &no_steps);
    let stops: usize = first
        .regions
        .iter()
        .flat_map(|region| &region.stops)
        .map(Vec::len)
        .sum();
    assert_eq!(stops, OURS, "every machine of the agent's, and no other");
    c.bench_function("plan/500_to_stop", |b| {
        b.iter(|| planned(black_box(&running), &containment, &none, &no_steps));
    });
    let down = views(InstanceState::Stopped);
    let (images, steps) = after_the_first(&containment);
    let held = planned(&down, &containment, &images, &steps);
    assert!(
        held.regions.iter().all(|region| region.is_quiet()),
        "nothing is left to do"
    );
    c.bench_function("plan/500_held", |b| {
        b.iter(|| planned(black_box(&down), &containment, &images, &steps));
    });
}

/// A restore of machines in groups of a hundred, none of which can be started any more: each is looked up, and
/// so are its group and all its members. Ten times as many take ten times as long, and not a hundred.
fn restore_of_many(c: &mut Criterion) {
    for count in [1_000, 10_000] {
        let region = Region("eu-west-1".to_owned());
        let group = |number: usize| AssetRef {
            kind: GROUP,
            region: region.clone(),
            id: format!("g-{}", number / 100),
        };
        let settings = |value: &str| Settings::from([("Launch".to_owned(), value.to_owned())]);
        let (mut images, mut groups) = (Images::new(), BTreeMap::new());
        let mut machines = Vec::with_capacity(count);
        let containment = Containment {
            restoring_at: Some(now()),
            ..containment()
        };
        let mut note = |resource: Resource, before: Before| {
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
        };
        for number in 0..count {
            let seen = Instance {
                region: region.clone(),
                group: Some(group(number).id),
                ..instance(number, InstanceState::Stopping)
            };
            let before = Before::Instance {
                state: InstanceState::Running,
            };
            note(
                Resource::Instance {
                    region: region.clone(),
                    id: seen.id.clone(),
                },
                before,
            );
            machines.push(seen);
            let what = group(number);
            let (were, capped) = (settings("active"), settings("suspended"));
            note(
                Resource::Asset { asset: what.clone() },
                Before::Settings { were, capped },
            );
            groups.entry(what.clone()).or_insert_with(|| Asset {
                what,
                service: "AmazonEC2".into(),
                tags: BTreeMap::new(),
                acts_as: Vec::new(),
                parent: None,
                created_at: None,
                meters: Vec::new(),
                brake: Brake::Cap {
                    now: settings("suspended"),
                    capped: settings("suspended"),
                },
            });
        }
        let input = RestoreInput {
            now: now() + SignedDuration::from_hours(1),
            containment: &containment,
            account: Some(ACCOUNT),
            images: &images,
            steps: &Steps::default(),
            principals: BTreeMap::new(),
            instances: BTreeMap::from([(region.clone(), Ok(machines))]),
            assets: BTreeMap::from([(
                region.clone(),
                BTreeMap::from([(GROUP, Ok(groups.into_values().collect()))]),
            )]),
            passing: BTreeMap::new(),
            batch: 50,
            patience: SignedDuration::from_mins(10),
            health_patience: SignedDuration::from_mins(5),
        };
        assert_eq!(plan_restore(&input).owed.len(), count + count / 100);
        c.bench_function(&format!("restore/{count}_owed"), |b| {
            b.iter(|| plan_restore(black_box(&input)));
        });
    }
}

criterion_group!(benches, containment_of_500, restore_of_many);
criterion_main!(benches);
