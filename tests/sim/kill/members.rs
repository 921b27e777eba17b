//! Members of groups in a restore: none is destroyed by a group that works again too early.

use std::time::Duration;

use backstop::cloud::rehearsal::Verb;
use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec};
use backstop::cloud::rehearsal::functions::FunctionSpec;
use backstop::cloud::rehearsal::groups::GroupSpec;
use backstop::domain::containment::observed::{InstanceState, Refused};
use backstop::domain::containment::state::Mode;
use backstop::domain::containment::target::Region;
use backstop::domain::fleet::asset::{AssetRef, Kind};

use super::crash::{CrashPoint, When};
use super::fleet::{base, usd};
use super::scene::{Scene, TAG, is_closed, is_contained, role, targets};

fn fleet(group: GroupSpec) -> FleetSpec {
    base(&["eu-west-1"]).group(group.tag(TAG, "agent"))
}

fn workers(size: usize) -> GroupSpec {
    GroupSpec::new("workers", size, MachineSpec::new("eu-west-1", "m7g.large"))
}

fn ids(scene: &Scene) -> Vec<String> {
    let machines = scene.cloud.snapshot().machines;
    machines
        .into_keys()
        .map(|id| id.trim_start_matches("eu-west-1/").to_owned())
        .collect()
}

fn group() -> AssetRef {
    AssetRef {
        kind: Kind::named("group"),
        region: Region("eu-west-1".to_owned()),
        id: "workers".to_owned(),
    }
}

fn is_capped(scene: &Scene) -> bool {
    scene.cloud.snapshot().settings["group:eu-west-1/workers"]["Launch"] == "suspended"
}

#[test]
fn a_member_that_somebody_stopped_is_not_destroyed_by_its_group() {
    let scene = Scene::new(fleet(workers(3)), targets(&["eu-west-1"]));
    let members = ids(&scene);
    let protected = Refused {
        code: "OperationNotPermitted".to_owned(),
        message: "no".to_owned(),
        transient: false,
    };
    scene.cloud.refuse(Verb::Stop, &members[0], Some(protected));
    scene.contain_and_wait();
    scene.cloud.refuse(Verb::Stop, &members[0], None);
    scene.cloud.someone(Verb::Stop, &members[0]).unwrap();
    scene.reset_and_wait(&[]);
    scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(600)));
    let after = scene.cloud.snapshot();
    let state = |id: &str| after.machines[&format!("eu-west-1/{id}")];
    assert_eq!(
        state(&members[0]),
        InstanceState::Stopped,
        "it is somebody's, and there"
    );
    assert_eq!(state(&members[1]), InstanceState::Running);
    assert!(is_capped(&scene), "it would destroy it");
    let owed: Vec<String> = scene.images().into_keys().collect();
    assert_eq!(owed, ["group:eu-west-1/workers"]);
}

#[test]
fn a_group_that_goes_by_its_balancer_is_uncapped_once_that_finds_its_members_well() {
    let takes = Duration::from_secs(150);
    let scene = Scene::new(fleet(workers(3).balanced(takes)), targets(&["eu-west-1"]));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    scene.reset(&[]);
    let begun = scene.last_now().restoring_at.unwrap();
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), first, "none of them was replaced");
    let calls = scene.cloud.calls();
    let uncap = calls
        .iter()
        .rfind(|call| call.operation == "autoscaling:SuspendProcesses");
    let waited = uncap.unwrap().at.duration_since(begun).as_secs();
    assert!((150..200).contains(&waited), "{waited} s");
    scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(600)));
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn that_a_member_is_not_well_is_said_once() {
    let scene = Scene::new(fleet(workers(3)), targets(&["eu-west-1"]));
    let members = ids(&scene);
    scene.contain_and_wait();
    for id in &members[..2] {
        scene.cloud.set_sick(id, true);
    }
    // Pass after pass it cannot be uncapped.
    let busy = Refused {
        code: "ScalingActivityInProgress".to_owned(),
        message: "no".to_owned(),
        transient: true,
    };
    scene.cloud.refuse_asset(&group(), Some(busy));
    scene.reset(&[]);
    scene.drive(is_closed);
    let calls = scene.cloud.calls();
    let tries = calls
        .iter()
        .filter(|call| call.operation == "autoscaling:SuspendProcesses");
    assert!(tries.count() > 10);
    let actions = scene.actions();
    assert_eq!(
        actions.iter().filter(|action| *action == "unhealthy").count(),
        2,
        "{actions:?}"
    );
    let notices = scene.notices();
    let said = notices
        .iter()
        .filter(|notice| notice.text.contains("does not pass its checks"));
    assert_eq!(said.count(), 2);
}

#[test]
fn what_became_of_many_caps_is_written_in_few_transactions() {
    let many = |count: usize| {
        let mut fleet = base(&["eu-west-1"]);
        for n in 0..count {
            let function = FunctionSpec::new("eu-west-1", &format!("f-{n:03}"), usd(1));
            fleet = fleet.function(function.acts_as(role().arn()));
        }
        let scene = Scene::new(fleet, targets(&["eu-west-1"]));
        scene.contain(Mode::Contain);
        let counted = CrashPoint::at(usize::MAX, When::BeforeCall);
        assert!(scene.drive_that(&counted, is_contained));
        let cloud = scene.cloud.calls().len();
        // The rest are calls of the store.
        counted.made() - cloud
    };
    let (few, more) = (many(16), many(160));
    assert!(
        (more - few) * 2 < 144,
        "{few} calls of the store for 16, {more} for 160"
    );
}
