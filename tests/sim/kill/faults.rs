//! A cloud that throttles, loses replies, shows the past and loses whole regions: by seeds.

use std::time::Duration;

use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::MachineSpec;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::state::{Mode, Phase};
use backstop::domain::containment::target::Region;

use super::fleet::{large, small};
use super::scene::{PROFILE, Scene, is_closed, is_contained, targets, why};

const BOTH: &[&str] = &["eu-west-1", "us-east-1"];

#[test]
fn whatever_goes_wrong_it_ends_contained_and_restored() {
    for seed in 0..60 {
        let scene = Scene::new(small(), targets(BOTH));
        let first = scene.cloud.snapshot();
        let mut faults = Faults::seeded(seed);
        faults.throttle = 10;
        faults.fail = 10;
        faults.lose_reply = 20;
        faults.stale = 30;
        faults.stale_for = Duration::from_secs(3);
        faults.delay = Duration::from_secs(2);
        scene.cloud.set_faults(faults);
        scene.contain_and_wait();
        let held = scene.cloud.snapshot();
        for id in ["eu-west-1/i-1", "eu-west-1/i-profile", "us-east-1/i-2"] {
            assert_eq!(held.machines[id], InstanceState::Stopped, "seed {seed}: {id}");
        }
        assert_eq!(
            held.machines["eu-west-1/i-foreign"],
            InstanceState::Running,
            "seed {seed}"
        );
        assert_eq!(held.denies.values().flatten().count(), 2, "seed {seed}");
        scene.reset_and_wait(&[]);
        assert_eq!(scene.cloud.snapshot(), first, "seed {seed}");
        assert!(scene.images().is_empty(), "seed {seed}");
    }
}

#[test]
fn a_region_that_does_not_answer_holds_back_no_other() {
    for hangs in [false, true] {
        let scene = Scene::new(large(), targets(BOTH));
        let dead = Region("us-east-1".to_owned());
        scene.cloud.with_faults(|faults| {
            if hangs {
                faults.hangs.insert(dead.clone());
            } else {
                faults.outages.insert(dead.clone());
            }
        });
        scene.contain(Mode::Contain);
        let opened = scene.last_now().opened_at;
        // The healthy region is down although the other one is not to be seen.
        scene.drive(|last| last.coverage.stopped.len() == 60);
        let last = scene.last_now();
        assert_eq!(
            last.phase,
            Phase::Containing,
            "nothing is proved while a region is unseen (C3)"
        );
        assert!(why(&last.coverage, "region:us-east-1").contains("could not be looked at"));
        let calls = scene.cloud.calls();
        let first_stop = calls.iter().find(|call| call.operation == "ec2:StopInstances").unwrap();
        assert!(first_stop.at.duration_since(opened).as_secs() < 5);
        scene.cloud.set_faults(Faults::default());
        scene.drive(is_contained);
        assert_eq!(scene.cloud.snapshot().count(InstanceState::Stopped), 120);
    }
}

#[test]
fn machines_are_stopped_while_iam_is_down_and_nothing_is_claimed() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.contain(Mode::Contain);
    let switch = scene.switch();
    let id = scene.last_now().id;
    // The first pass learns who we are and denies; then IAM is down for the rest.
    scene.run(switch.pass(id)).unwrap();
    scene.cloud.with_faults(|faults| faults.iam_down = true);
    scene
        .cloud
        .add(MachineSpec::new("us-east-1", "m7g.large").id("i-late").profile(PROFILE));
    for _ in 0..10 {
        scene.run(switch.pass(id)).unwrap();
        scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(10)));
    }
    let last = scene.last_now();
    assert_eq!(last.phase, Phase::Containing);
    assert!(why(&last.coverage, "role/agents/agent").contains("could not be looked at"));
    for id in ["eu-west-1/i-profile", "us-east-1/i-late"] {
        assert_eq!(scene.cloud.snapshot().machines[id], InstanceState::Stopped, "{id}");
    }
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
}

#[test]
fn a_region_that_is_down_during_a_restore_keeps_its_machines_owed() {
    let scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    let dead = Region("us-east-1".to_owned());
    scene.cloud.with_faults(|faults| {
        faults.outages.insert(dead);
    });
    scene.reset_and_wait(&[]);
    let half = scene.cloud.snapshot();
    assert_eq!(half.denies, first.denies);
    assert_eq!(half.machines["eu-west-1/i-1"], InstanceState::Running);
    assert_eq!(half.machines["us-east-1/i-2"], InstanceState::Stopped);
    assert!(scene.images().contains_key("instance:us-east-1/i-2"));
    scene.cloud.set_faults(Faults::default());
    scene.contain_and_wait();
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn the_driver_stops_when_it_is_told_to() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.contain_and_wait();
    let switch = scene.switch();
    let shutdown = tokio_util::sync::CancellationToken::new();
    scene.run(async {
        let stop = async {
            backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(100)).await;
            shutdown.cancel();
        };
        futures_util::join!(switch.run(shutdown.clone()), stop);
    });
    scene.reset(&[]);
    scene.drive(is_closed);
}

#[test]
fn a_shutdown_in_the_middle_of_a_pass_gives_its_lease_back() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.cloud.with_faults(|faults| faults.delay = Duration::from_secs(2));
    scene.contain(Mode::Contain);
    let (one, two) = (scene.switch(), scene.switch());
    let shutdown = tokio_util::sync::CancellationToken::new();
    scene.run(async {
        let stop = async {
            backstop::ports::Clock::sleep(&*scene.clock, Duration::from_millis(1500)).await;
            shutdown.cancel();
        };
        futures_util::join!(one.run(shutdown.clone()), stop);
    });
    let next = scene.run(two.pass(scene.last_now().id)).unwrap();
    assert!(matches!(next, backstop::killswitch::Next::After(_)), "{next:?}");
}

#[test]
fn regions_that_cannot_be_listed_any_more_are_looked_at_all_the_same() {
    // The agent declares no regions, so it may be in any.
    let mut fleet = small();
    fleet.regions.push(Region("ap-south-1".to_owned()));
    let scene = Scene::new(fleet, targets(&[]));
    let switch = scene.switch();
    scene.contain(Mode::Contain);
    let id = scene.last_now().id;
    scene.run(switch.pass(id)).unwrap();
    scene.cloud.with_faults(|faults| faults.unlisted = true);
    scene.cloud.add(
        MachineSpec::new("ap-south-1", "m7g.large")
            .id("i-late")
            .profile(PROFILE),
    );
    for _ in 0..5 {
        scene.run(switch.pass(id)).unwrap();
        scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(10)));
    }
    assert_eq!(
        scene.cloud.snapshot().machines["ap-south-1/i-late"],
        InstanceState::Stopped
    );
    let last = scene.last_now();
    assert_eq!(last.phase, Phase::Containing, "and nothing is claimed of the rest");
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
}
