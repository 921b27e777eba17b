//! How many calls a containment takes, and each sweep that holds it, as the port counts them: a listing is
//! one call whatever its pages. The adapter's own requests are counted in `tests/it/aws_fleet/calls.rs`.
//!
//! `cargo test --test sim kill::calls -- --nocapture` prints them.

use std::collections::BTreeMap;
use std::pin::pin;

use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec};
use backstop::cloud::rehearsal::functions::FunctionSpec;
use backstop::cloud::rehearsal::groups::GroupSpec;
use backstop::cloud::rehearsal::services::{ServiceSpec, TaskSpec};
use backstop::cloud::rehearsal::standing::StandingSpec;
use backstop::domain::containment::state::Mode;
use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::fleet::{base, usd};
use super::scene::{Scene, TAG, is_contained, targets};

const PLACES: [&str; 3] = ["eu-west-1", "us-east-1", "us-west-2"];

/// How much of everything there is in each region.
#[derive(Debug, Clone, Copy)]
struct Size {
    machines: usize,
    groups: usize,
    services: usize,
    functions: usize,
}

const TASKS: usize = 2;

fn fleet(regions: &[&str], size: Size) -> FleetSpec {
    let mut spec = base(regions);
    for region in regions {
        let machine = || MachineSpec::new(region, "m7g.large").tag(TAG, "agent");
        for _ in 0..size.machines {
            spec = spec.machine(machine());
        }
        for number in 0..size.groups {
            spec = spec.group(GroupSpec::new(&format!("g-{number}"), 1, machine()).tag(TAG, "agent"));
        }
        for number in 0..size.services {
            let task = TaskSpec::fargate(region, "main", 250, 500);
            spec = spec.service(ServiceSpec::new(&format!("s-{number}"), TASKS, task).tag(TAG, "agent"));
        }
        for number in 0..size.functions {
            spec = spec.function(FunctionSpec::new(region, &format!("f-{number}"), usd(0)).tag(TAG, "agent"));
        }
        spec = spec.standing(StandingSpec::volume(region, "vol-1", 8).tag(TAG, "agent"));
    }
    spec
}

fn counted(scene: &Scene) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for call in scene.cloud.calls() {
        *counts.entry(call.operation).or_default() += 1;
    }
    counts
}

fn said(counts: &BTreeMap<&'static str, usize>) -> String {
    let each = counts.iter().map(|(operation, count)| format!("{count} {operation}"));
    format!(
        "{} calls: {}",
        counts.values().sum::<usize>(),
        each.collect::<Vec<_>>().join(", ")
    )
}

#[test]
fn a_containment_and_its_sweeps_take_calls_in_proportion() {
    let small = Size {
        machines: 20,
        groups: 2,
        services: 5,
        functions: 5,
    };
    let large = Size {
        machines: 153,
        groups: 12,
        services: 30,
        functions: 40,
    };
    for (regions, size) in [(1, small), (1, large), (3, large)] {
        let regions = &PLACES[..regions];
        let scene = Scene::new(fleet(regions, size), targets(regions));
        scene.contain(Mode::Contain);
        let switch = scene.switch();
        let (first, holding) = scene.run(async {
            let counts = pin!(async {
                scene.until(is_contained).await;
                let (first, sweeps) = (counted(&scene), scene.last().await.unwrap().sweeps);
                scene.cloud.forget_calls();
                scene.until(|last| last.sweeps > sweeps).await;
                (first, counted(&scene))
            });
            match select(counts, pin!(switch.run(CancellationToken::new()))).await {
                Either::Left((counts, _)) => counts,
                Either::Right(((), _)) => panic!("the driver ended"),
            }
        });
        eprintln!(
            "{} regions, each {size:?}\n  until it is contained {}",
            regions.len(),
            said(&first)
        );
        eprintln!("  a sweep that holds it {}", said(&holding));
        // Every change is made once: nothing is capped, ended or stopped twice.
        let places = regions.len();
        let batches = |machines: usize| machines.div_ceil(50);
        assert_eq!(first["autoscaling:SuspendProcesses"], size.groups * places);
        assert_eq!(first["ecs:UpdateService"], size.services * places);
        assert_eq!(first["lambda:PutFunctionConcurrency"], size.functions * places);
        assert!(
            first
                .get("ecs:StopTask")
                .is_none_or(|ends| *ends <= size.services * TASKS * places)
        );
        assert_eq!(
            first["ec2:StopInstances"],
            batches(size.machines + size.groups) * places
        );
        // A role and a user, and the user's one active key.
        assert_eq!((first["iam:PutRolePolicy"], first["iam:UpdateAccessKey"]), (2, 1));

        // A look at each kind of each region, at the regions, and at each principal, however many things there are.
        for look in [
            "ec2:DescribeInstances",
            "ecs:DescribeServices",
            "lambda:ListFunctions",
            "ec2:DescribeVolumes",
        ] {
            assert_eq!(holding[look], places, "{look}");
        }
        assert_eq!(holding["iam:GetRole"], 2);
        // Six kinds in each region; the list of regions; and, as what is known grows old, who we are and who trusts
        // the agent.
        assert!(holding.values().sum::<usize>() <= 6 * places + 6, "{holding:?}");
        assert!(
            scene.cloud.calls().iter().all(|call| !call.changes),
            "a sweep that holds changes nothing"
        );
    }
}
