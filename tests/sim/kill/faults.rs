//! A cloud that throttles, loses replies, shows the past and loses whole regions: by seeds.

use std::time::Duration;

use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec};
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::state::{Mode, Phase};
use backstop::domain::containment::target::Region;
use backstop::ports::Clock as _;

use super::fleet::{large, small};
use super::scene::{PROFILE, Scene, TAG, is_closed, is_contained, role, targets, user, why};

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

/// A daemon that was well once: it has learnt who it is and which regions there are.
fn that_was_well(scene: &Scene) {
    let shutdown = tokio_util::sync::CancellationToken::new();
    let switch = scene.switch();
    scene.run(async {
        let stop = async {
            scene.clock.sleep(Duration::from_secs(5)).await;
            shutdown.cancel();
        };
        futures_util::join!(switch.run(shutdown.clone()), stop);
    });
}

/// STS, the region that lists the others, and what runs there, down from the first call on.
fn home_is_down(scene: &Scene, home: &str) {
    scene.cloud.with_faults(|faults| {
        faults.sts_down = true;
        faults.unlisted = true;
        faults.outages.insert(Region(home.to_owned()));
    });
}

fn three_regions() -> FleetSpec {
    let mut fleet = small();
    fleet.regions.push(Region("ap-south-1".to_owned()));
    fleet.machine(
        MachineSpec::new("ap-south-1", "m7g.large")
            .id("i-third")
            .tag(TAG, "agent"),
    )
}

#[test]
fn a_daemon_that_starts_while_sts_and_the_home_region_are_down_goes_by_what_it_noted() {
    let scene = Scene::new(three_regions(), targets(&[]));
    let first = scene.cloud.snapshot();
    that_was_well(&scene);
    home_is_down(&scene, "us-east-1");
    scene.contain(Mode::Contain);
    let opened = scene.last_now().opened_at;
    let calls = scene.cloud.calls().len();
    scene.drive(|last| last.coverage.stopped.len() == 3);
    let stop = scene.cloud.calls().into_iter().skip(calls);
    let stop = stop
        .into_iter()
        .find(|call| call.operation == "ec2:StopInstances")
        .unwrap();
    assert!(stop.at.duration_since(opened).as_secs() < 5, "at once");
    let held = scene.cloud.snapshot();
    for id in ["eu-west-1/i-1", "eu-west-1/i-profile", "ap-south-1/i-third"] {
        assert_eq!(held.machines[id], InstanceState::Stopped, "{id}");
    }
    assert_eq!(
        held.machines["us-east-1/i-2"],
        InstanceState::Running,
        "it cannot be reached"
    );
    assert_eq!(
        held.denies.values().flatten().count(),
        2,
        "IAM is up, and we are not the agent"
    );

    // All that can be reached is down, for as long as one looks, and nothing is claimed.
    scene.cloud.with_faults(|faults| faults.outages.clear());
    scene.drive(|last| last.coverage.stopped.len() == 5 && last.sweeps > 40);
    let last = scene.last_now();
    assert_eq!(last.phase, Phase::Containing);
    assert!(
        why(&last.coverage, "identity").contains("remembered"),
        "{:?}",
        last.coverage
    );
    assert!(
        why(&last.coverage, "regions").contains("the 3 of an earlier list"),
        "{:?}",
        last.coverage
    );
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
    assert_eq!(why(&scene.last_now().coverage, "identity"), "");
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn what_was_noted_with_other_credentials_is_not_believed() {
    let scene = Scene::new(three_regions(), targets(BOTH));
    let first = scene.cloud.snapshot();
    that_was_well(&scene);
    // Whoever started it again gave it the agent's own role.
    scene.cloud.become_another(role().arn());
    home_is_down(&scene, "us-east-1");
    scene.contain(Mode::Contain);
    scene.drive(|last| last.sweeps > 10);
    assert_eq!(
        scene.cloud.snapshot(),
        first,
        "nobody knows who we are, so nothing is touched (C5)"
    );
    assert!(why(&scene.last_now().coverage, "role/agents/agent").contains("who we are is not known"));
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
    let held = scene.cloud.snapshot();
    assert_eq!(held.denies[role().arn()], None, "the guard's own");
    assert!(why(&scene.last_now().coverage, "role/agents/agent").contains("the guard's own"));
}

#[test]
fn who_we_were_and_where_we_ran_stays_guarded_while_it_is_only_remembered() {
    // Tagged as the agent's, but the daemon ran on it, and ran as the agent's user.
    let host = MachineSpec::new("eu-west-1", "m7g.large")
        .id("i-host")
        .tag(TAG, "agent");
    let mut fleet = three_regions().machine(host);
    user().arn().clone_into(&mut fleet.identity);
    let scene = Scene::new(fleet, targets(BOTH));
    let guarding = |instances: &[&str]| {
        scene.settings.rcu(|settings| {
            let mut settings = (**settings).clone();
            settings.guard.instances = instances.iter().map(|id| (*id).to_owned()).collect();
            settings
        });
    };
    guarding(&["i-host"]);
    that_was_well(&scene);
    // This time it could not be learnt on which machine it runs.
    guarding(&[]);
    home_is_down(&scene, "us-east-1");
    scene.contain(Mode::Contain);
    scene.drive(|last| last.sweeps > 10 && last.coverage.stopped.len() == 2);
    let held = scene.cloud.snapshot();
    assert_eq!(held.machines["eu-west-1/i-host"], InstanceState::Running);
    assert_eq!(held.machines["eu-west-1/i-1"], InstanceState::Stopped);
    assert_eq!(
        (&held.denies[user().arn()], held.denies[role().arn()].is_some()),
        (&None, true)
    );
    let last = scene.last_now();
    for id in ["i-host", "user/agent"] {
        assert!(
            why(&last.coverage, id).contains("the guard's own"),
            "{id}: {:?}",
            last.coverage
        );
    }
}

#[test]
fn a_store_that_fails_while_it_is_learnt_is_asked_again() {
    let scene = Scene::new(three_regions(), targets(BOTH));
    scene.memory.inject(backstop::store::memory::faults::Fault::Busy);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let switch = scene.switch();
    scene.run(async {
        let stop = async {
            scene.clock.sleep(Duration::from_secs(40)).await;
            shutdown.cancel();
        };
        futures_util::join!(switch.run(shutdown.clone()), stop);
    });
    assert_eq!(scene.run(scene.store.remembered()).unwrap().len(), 2);
    let asked = |operation: &str| {
        scene
            .cloud
            .calls()
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    };
    assert_eq!((asked("sts:GetCallerIdentity"), asked("ec2:DescribeRegions")), (2, 2));
}
