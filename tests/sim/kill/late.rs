//! What answers late, or never: it holds back nothing but itself.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use backstop::cloud::rehearsal::fleet::MachineSpec;
use backstop::cloud::rehearsal::services::TaskSpec;
use backstop::domain::containment::state::{Mode, Phase};
use backstop::domain::containment::target::Region;
use backstop::domain::fleet::asset::Kind;
use backstop::ports::Clock as _;
use futures_util::future::{Either, select};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::fleet::{base, owned, prices, spawning};
use super::scene::{Scene, TAG, is_contained, targets, why};

const BOTH: &[&str] = &["eu-west-1", "us-east-1"];

#[test]
fn a_kind_that_never_answers_holds_back_no_cap_and_no_stop_of_its_region() {
    let scene = Scene::new(spawning(), targets(BOTH));
    let volumes = Kind::named("volume");
    scene.cloud.with_faults(|faults| {
        faults.hangs_kind.insert(volumes.clone());
    });
    scene.contain(Mode::Contain);
    let opened = scene.last_now().opened_at;
    scene.drive(|last| last.coverage.stopped.len() == 3);
    let calls = scene.cloud.calls();
    let first = |operation: &str| calls.iter().find(|call| call.operation == operation).unwrap().at;
    for operation in ["autoscaling:SuspendProcesses", "ec2:StopInstances", "ecs:UpdateService"] {
        let after = first(operation).duration_since(opened).as_secs();
        assert!(after <= 12, "{operation} after {after} s");
    }
    // It is said, and proves nothing, however long it is.
    let sweeps = scene.last_now().sweeps;
    scene.drive(|last| last.sweeps > sweeps + 40);
    let last = scene.last_now();
    assert_eq!((last.phase, last.quiet), (Phase::Containing, 0));
    assert!(!why(&last.coverage, "volume:eu-west-1").is_empty());
    scene.cloud.with_faults(|faults| faults.hangs_kind.clear());
    scene.drive(is_contained);
    assert!(why(&scene.last_now().coverage, "volume:eu-west-1/vol-1").contains("delete it"));
}

#[test]
fn a_listing_that_always_takes_longer_than_a_sweep_is_seen_and_proves_all_the_same() {
    let fleet = spawning().task(TaskSpec::fargate("us-east-1", "main", 250, 500).tag(TAG, "agent"));
    let scene = Scene::new(fleet, targets(BOTH));
    let slow = BTreeMap::from([(Kind::named("ecs-task"), Duration::from_secs(16))]);
    scene.cloud.with_faults(|faults| faults.slow_kind = slow);
    scene.contain_and_wait();
    assert_eq!(scene.last_now().coverage.ended.len(), 3, "tasks as well");
    // Two looks at the tasks came after the last of them was gone.
    let calls = scene.cloud.calls();
    let last_end = calls.iter().rposition(|call| call.operation == "ecs:StopTask").unwrap();
    let looks = calls[last_end..]
        .iter()
        .filter(|call| call.operation == "ecs:DescribeTasks");
    assert!(looks.count() >= 2);
    // It is held as often as ever.
    let held = scene.last_now();
    scene
        .cloud
        .run_task(TaskSpec::fargate("us-east-1", "main", 250, 500).tag(TAG, "agent"));
    scene.drive(|last| last.phase == Phase::Containing);
    scene.drive(is_contained);
    let last = scene.last_now();
    let took = last.contained_at.unwrap().duration_since(held.contained_at.unwrap());
    assert!(took.as_secs() < 200, "{took}");
    assert_eq!(last.coverage.ended.len(), 4);
}

#[test]
fn a_region_that_never_answers_starves_no_other() {
    let mut fleet = base(BOTH)
        .machine(owned("eu-west-1", "i-1"))
        .machine(owned("us-east-1", "i-2"));
    fleet.prices = prices();
    let scene = Scene::new(fleet, targets(BOTH));
    scene.cloud.with_faults(|faults| {
        faults.hangs.insert(Region("us-east-1".to_owned()));
    });
    scene.contain(Mode::Contain);
    let switch = scene.switch();
    let mut launched: BTreeMap<String, Timestamp> = BTreeMap::new();
    scene.run(async {
        let launcher = pin!(async {
            for _ in 0..60 {
                let machine = MachineSpec::new("eu-west-1", "m7g.large").tag(TAG, "agent");
                launched.insert(scene.cloud.add(machine), scene.clock.now());
                scene.clock.sleep(Duration::from_secs(5)).await;
            }
            scene.clock.sleep(Duration::from_secs(30)).await;
        });
        let driver = pin!(switch.run(CancellationToken::new()));
        assert!(matches!(select(launcher, driver).await, Either::Left(_)));
    });
    let calls = scene.cloud.calls();
    let waits: Vec<i64> = launched
        .iter()
        .map(|(id, at)| {
            let stop = |call: &&backstop::cloud::rehearsal::Call| {
                call.operation == "ec2:StopInstances" && call.subjects.contains(id)
            };
            calls.iter().find(stop).unwrap().at.duration_since(*at).as_secs()
        })
        .collect();
    assert!(waits.iter().all(|wait| *wait <= 15), "{waits:?}");
    let last = scene.last_now();
    assert_eq!((last.phase, last.quiet), (Phase::Containing, 0));
    assert!(!why(&last.coverage, "region:us-east-1").is_empty());
    scene.cloud.with_faults(|faults| faults.hangs.clear());
    scene.drive(is_contained);
}
