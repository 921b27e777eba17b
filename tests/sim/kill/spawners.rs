//! What starts others: capped before what it started is stopped, put back after, whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop::cloud::rehearsal::Call;
use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::MachineSpec;
use backstop::cloud::rehearsal::functions::FunctionSpec;
use backstop::cloud::rehearsal::groups::GroupSpec;
use backstop::cloud::rehearsal::services::{ServiceSpec, TaskSpec};
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::observed::{InstanceState, Refused};
use backstop::domain::containment::state::{Containment, Mode, Phase, StepClass};
use backstop::domain::containment::target::Region;
use backstop::domain::fleet::asset::{AssetRef, Kind};
use backstop::domain::fleet::rate::Meter;
use backstop::domain::money::Usd;
use backstop::killswitch::Creators;
use backstop::ports::Cloud as _;

use super::crash::{CrashPoint, When};
use super::fleet::{base, owned, spawning, usd};
use super::scene::{PROFILE, Scene, TAG, agent, is_closed, is_contained, role, targets, why};

const BOTH: &[&str] = &["eu-west-1", "us-east-1"];

fn scene() -> Scene {
    Scene::new(spawning(), targets(BOTH))
}

fn what(kind: &'static str, region: &str, id: &str) -> AssetRef {
    AssetRef {
        kind: Kind::named(kind),
        region: Region(region.to_owned()),
        id: id.to_owned(),
    }
}

/// Settings of everything that is the agent's, and the tasks of its service.
fn held(scene: &Scene) -> (Vec<String>, Option<usize>) {
    let snapshot = scene.cloud.snapshot();
    let ours = snapshot.settings.iter().filter(|(id, _)| !id.ends_with("theirs"));
    let values = ours.flat_map(|(_, settings)| settings.values().cloned());
    let values: BTreeSet<String> = values.collect();
    let tasks = snapshot.tasks.get("ecs-service:us-east-1/main/web").copied();
    (values.into_iter().collect(), tasks)
}

fn order(calls: &[Call], operation: &str) -> Vec<usize> {
    let at = calls.iter().enumerate().filter(|(_, call)| call.operation == operation);
    at.map(|(at, _)| at).collect()
}

fn assert_contained(scene: &Scene, at: &str) {
    assert_eq!(
        held(scene),
        (vec!["0".to_owned(), "suspended".to_owned()], None),
        "{at}"
    );
    let fleet = scene.cloud.snapshot();
    assert_eq!(fleet.count(InstanceState::Stopped), 3, "{at}: {fleet:?}");
    assert_eq!(
        fleet.count(InstanceState::Terminated),
        0,
        "{at}: a group destroyed a member"
    );
    assert_eq!(fleet.machines.len(), 4, "{at}: a group replaced a member");
    assert_eq!(fleet.tasks["ecs-service:us-east-1/main/theirs"], 1, "{at}");
    assert_eq!(
        fleet.settings["ecs-service:us-east-1/main/theirs"]["desired"], "1",
        "{at}"
    );
    assert_eq!(fleet.settings["function:us-east-1/theirs"]["reserved"], "none", "{at}");
    assert_eq!(fleet.settings["group:eu-west-1/theirs"]["Launch"], "active", "{at}");
}

#[test]
fn everything_that_can_be_halted_is_and_comes_back_in_an_order_that_harms_nothing() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    assert_eq!(first.unpriced, Vec::<String>::new());
    let before = scene.cloud.burn();
    scene.contain_and_wait();
    assert_contained(&scene, "contained");
    let coverage = scene.last_now().coverage;
    assert_eq!(
        coverage.capped,
        [
            "group:eu-west-1/workers",
            "ecs-service:us-east-1/main/web",
            "function:us-east-1/hot",
            "function:us-east-1/limited"
        ]
    );
    assert_eq!(coverage.stopped.len(), 3, "two members and one alone");
    assert_eq!(coverage.ended.len(), 2, "{:?}", coverage.ended);
    assert!(why(&coverage, "volume:eu-west-1/vol-1").contains("delete it"));
    assert!(why(&coverage, "nat:us-east-1/nat-1").contains("delete it"));
    assert_eq!(why(&coverage, "eipalloc-1"), "", "it is another agent's");
    let burn = coverage.burn.unwrap();
    assert!(burn.now < burn.before && burn.now > Usd::ZERO, "{burn:?}");
    assert!(scene.cloud.burn() < before);

    // Caps come before the members' stops; every step has its time, in the order in which it comes.
    let calls = scene.cloud.calls();
    let cap = order(&calls, "autoscaling:SuspendProcesses")[0];
    let member = |call: &Call| call.operation == "ec2:StopInstances" && call.subjects.len() > 1;
    assert!(cap < calls.iter().position(member).unwrap());
    let times = &coverage.times;
    let firsts = [StepClass::Deny, StepClass::Cap, StepClass::Stop, StepClass::Quiet].map(|class| times[&class].first);
    assert!(firsts.is_sorted(), "{times:?}");
    assert!(times.contains_key(&StepClass::End));
    assert!(coverage.burnt.unwrap().usd > Usd::ZERO);

    scene.cloud.forget_calls();
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
    assert_eq!(scene.images().len(), 0);
    let calls = scene.cloud.calls();
    let (starts, lifts) = (
        order(&calls, "ec2:StartInstances"),
        order(&calls, "iam:DeleteRolePolicy"),
    );
    let uncaps = order(&calls, "autoscaling:SuspendProcesses");
    let healths = order(&calls, "ec2:DescribeInstanceStatus");
    assert!(
        starts.iter().max() < lifts.iter().min(),
        "machines start while the deny is on"
    );
    assert!(
        lifts.iter().max() < uncaps.iter().min(),
        "and the deny is lifted before the groups work again"
    );
    assert!(healths.iter().any(|asked| Some(asked) < uncaps.first()));
    assert_eq!(uncaps.len(), 1);
}

#[test]
fn tasks_that_nobody_starts_again_are_ended_and_said_to_be() {
    let fleet = spawning().task(TaskSpec::fargate("us-east-1", "main", 250, 500).tag(TAG, "agent"));
    let scene = Scene::new(fleet, targets(BOTH));
    let mut first = scene.cloud.snapshot();
    assert_eq!(first.tasks.remove("-"), Some(1));
    scene.contain_and_wait();
    assert_eq!(scene.last_now().coverage.ended.len(), 3);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
    assert_eq!(scene.images().len(), 0);
}

#[test]
fn whatever_goes_wrong_it_ends_contained_and_restored() {
    for seed in 0..40 {
        let scene = scene();
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
        assert_contained(&scene, &format!("seed {seed}"));
        scene.reset_and_wait(&[]);
        assert_eq!(scene.cloud.snapshot(), first, "seed {seed}");
        assert!(scene.images().is_empty(), "seed {seed}");
    }
}

fn burning(containment: &Containment) -> Vec<String> {
    let lines = containment.coverage.still_burning.iter();
    lines.map(|line| line.resource.clone()).collect()
}

#[test]
fn a_crash_at_every_call_of_a_containment() {
    let calm = scene();
    calm.contain(Mode::Contain);
    let count = CrashPoint::never();
    assert!(calm.drive_that(&count, is_contained));
    let calls = count.made();
    for call in 0..calls {
        for when in [When::BeforeCall, When::AfterCall] {
            let scene = scene();
            let first = scene.cloud.snapshot();
            scene.contain(Mode::Contain);
            let crash = CrashPoint::at(call, when);
            if !scene.drive_that(&crash, is_contained) {
                scene.drive(is_contained);
            }
            let at = format!("crash {when:?} {call} of {calls}");
            assert_contained(&scene, &at);
            assert_eq!(scene.cloud.snapshot(), calm.cloud.snapshot(), "{at}");
            let settings = |scene: &Scene| {
                let mut images = scene.images();
                // A task that its service ends by itself meanwhile leaves nothing to be recorded.
                images.retain(|id, _| !id.starts_with("ecs-task:"));
                images
            };
            assert_eq!(settings(&scene), settings(&calm), "{at}");
            assert_eq!(burning(&scene.last_now()), burning(&calm.last_now()), "{at}");
            if call % 4 > 0 {
                continue;
            }
            // The next generation has the before-images alone to go by.
            scene.reset_and_wait(&["i-1"]);
            scene.contain_and_wait();
            assert_contained(&scene, &at);
            scene.reset_and_wait(&[]);
            assert_eq!(scene.cloud.snapshot(), first, "{at}");
            assert_eq!(scene.images().len(), 0, "{at}");
        }
    }
}

/// C1: a before-image gives way to another in one write. Was there a moment between them, a crash in it would
/// leave nobody who knows what was there before the first cap.
#[test]
fn c1_a_crash_at_every_call_while_a_before_image_is_superseded() {
    let workers = what("group", "eu-west-1", "workers");
    let taken_over = || {
        let members = MachineSpec::new("eu-west-1", "m7g.large").profile(PROFILE);
        let group = GroupSpec::new("workers", 1, members).tag(TAG, "agent");
        let fleet = base(&["eu-west-1"]).machine(owned("eu-west-1", "i-1"));
        let scene = Scene::new(fleet.group(group.suspended("AZRebalance")), targets(&["eu-west-1"]));
        let first = scene.cloud.snapshot();
        scene.contain_and_wait();
        // The group stays capped, and somebody changes one of its settings while the agent is free.
        scene.reset_and_wait(&["i-1"]);
        scene.cloud.set_setting(&workers, "AZRebalance", "active");
        scene.contain(Mode::Contain);
        (scene, first)
    };
    let (calm, _) = taken_over();
    let count = CrashPoint::never();
    assert!(calm.drive_that(&count, is_contained));
    for call in 0..count.made() {
        let (scene, mut wanted) = taken_over();
        let crash = CrashPoint::at(call, When::AfterCall);
        if !scene.drive_that(&crash, is_contained) {
            scene.drive(is_contained);
        }
        scene.reset_and_wait(&[]);
        let settings = wanted.settings.get_mut(&workers.to_string()).unwrap();
        settings.insert("AZRebalance".to_owned(), "active".to_owned());
        assert_eq!(scene.cloud.snapshot(), wanted, "crash after call {call}");
        assert_eq!(scene.images().len(), 0, "crash after call {call}");
    }
}

/// It costs whether it serves or not, so a function that may not run any more has to lose it.
#[test]
fn provisioned_concurrency_is_brought_down_with_its_function_and_put_back() {
    let rate = "lambda-provisioned/x86";
    let warm = FunctionSpec::new("us-east-1", "warm", usd(1))
        .tag(TAG, "agent")
        .reserved(40);
    let mut fleet = spawning().function(warm.provisioned("live", 10, Meter::of(rate, 10_000)));
    fleet.prices.insert(rate.to_owned(), Usd::from_nanos(15_000_120));
    let scene = Scene::new(fleet, targets(BOTH));
    let first = scene.cloud.snapshot();
    let id = "function:us-east-1/warm";
    assert_eq!(first.settings[id]["provisioned"], "live=10");
    scene.contain_and_wait();
    let capped = &scene.cloud.snapshot().settings[id];
    assert_eq!(
        (capped["reserved"].as_str(), capped["provisioned"].as_str()),
        ("0", "none")
    );
    let coverage = scene.last_now().coverage;
    assert!(coverage.capped.contains(&id.to_owned()));
    assert_eq!(why(&coverage, id), "", "nothing of it burns any more");
    // What is put back is priced as it was before.
    let impact = scene.run(scene.switch().impact(&agent(), &[])).unwrap();
    let uncap = impact
        .uncaps
        .iter()
        .find(|one| one.uncap.asset.to_string() == id)
        .unwrap();
    assert_eq!(uncap.hourly.unwrap().usd, Usd::from_nanos(150_001_200));
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn a_crash_at_every_call_of_a_restore() {
    let calm = scene();
    let first = calm.cloud.snapshot();
    calm.contain_and_wait();
    calm.reset(&[]);
    let count = CrashPoint::never();
    assert!(calm.drive_that(&count, is_closed));
    let calls = count.made();
    assert_eq!(calm.cloud.snapshot(), first);
    for call in 0..calls {
        for when in [When::BeforeCall, When::AfterCall] {
            let scene = scene();
            scene.contain_and_wait();
            scene.reset(&[]);
            let crash = CrashPoint::at(call, when);
            if !scene.drive_that(&crash, is_closed) {
                scene.drive(is_closed);
            }
            let at = format!("crash {when:?} {call} of {calls}");
            assert_eq!(scene.cloud.snapshot(), first, "{at}");
            assert_eq!(scene.images().len(), 0, "{at}");
            assert_eq!(scene.status(), AgentStatus::Active, "{at}");
        }
    }
}

fn refused(code: &str, transient: bool) -> Refused {
    Refused {
        code: code.to_owned(),
        message: "no".to_owned(),
        transient,
    }
}

#[test]
fn a_group_that_cannot_be_capped_holds_back_its_members_alone() {
    for transient in [false, true] {
        let scene = scene();
        let workers = what("group", "eu-west-1", "workers");
        scene
            .cloud
            .refuse_asset(&workers, Some(refused("ScalingActivityInProgress", transient)));
        scene.contain(Mode::Contain);
        let opened = scene.last_now().opened_at;
        scene.drive(|last| last.sweeps > 2);
        let calls = scene.cloud.calls();
        let stop = calls.iter().find(|call| call.operation == "ec2:StopInstances").unwrap();
        assert_eq!(stop.subjects, ["i-1"], "a member would be destroyed");
        assert!(
            stop.at.duration_since(opened).as_secs() < 12,
            "no later than step_patience"
        );
        assert_eq!(held(&scene).1, None, "the other region is down");
        scene.drive(is_contained);
        let last = scene.last_now();
        assert!(why(&last.coverage, "group:eu-west-1/workers").contains("ScalingActivityInProgress"));
        let members = last
            .coverage
            .still_burning
            .iter()
            .filter(|line| line.resource.starts_with("instance:"));
        assert_eq!(members.count(), 2);
        assert_eq!(scene.cloud.snapshot().count(InstanceState::Running), 3);
        // Now and then it is tried again.
        scene.cloud.refuse_asset(&workers, None);
        scene.drive(|last| is_contained(last) && last.coverage.stopped.len() == 3);
        assert_contained(&scene, "tried again");
    }
}

#[test]
fn what_somebody_uncaps_is_capped_again_and_what_they_change_in_a_reset_is_theirs() {
    let scene = scene();
    scene.contain_and_wait();
    let (web, hot) = (
        what("ecs-service", "us-east-1", "main/web"),
        what("function", "us-east-1", "hot"),
    );
    scene.cloud.set_setting(&web, "desired", "9");
    scene.drive(|last| last.phase == Phase::Containing);
    scene.drive(is_contained);
    assert_contained(&scene, "capped again");
    assert!(scene.actions().contains(&"put_back".to_owned()));
    // The lift is withheld, so the reset waits with the caps still on, and somebody takes one over.
    scene.cloud.with_faults(|faults| faults.iam_down = true);
    scene.reset(&[]);
    let id = scene.last_now().id;
    let switch = scene.switch();
    scene.run(switch.pass(id)).unwrap();
    scene.cloud.set_setting(&hot, "reserved", "5");
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_closed);
    let after = scene.cloud.snapshot();
    assert_eq!(after.settings[&hot.to_string()]["reserved"], "5");
    assert_eq!(after.settings[&web.to_string()]["desired"], "2");
    assert_eq!(after.tasks[&web.to_string()], 2);
    assert!(scene.images().is_empty());
}

#[test]
fn a_selection_uncaps_what_it_names() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    scene.reset_and_wait(&["function:us-east-1/hot", "main/web"]);
    let partly = scene.cloud.snapshot();
    assert_eq!(partly.settings["function:us-east-1/hot"]["reserved"], "none");
    assert_eq!(partly.settings["function:us-east-1/limited"]["reserved"], "0");
    assert_eq!(partly.tasks["ecs-service:us-east-1/main/web"], 2);
    assert_eq!(
        partly.count(InstanceState::Stopped),
        3,
        "a capped group destroys nothing"
    );
    scene.contain_and_wait();
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn a_member_that_does_not_get_well_holds_its_group_for_a_bounded_time() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    for (id, machine) in &first.machines {
        if *machine == InstanceState::Running && id.starts_with("eu-west-1/i-0") {
            scene.cloud.set_sick(id.trim_start_matches("eu-west-1/"), true);
        }
    }
    scene.reset(&[]);
    let begun = scene.last_now().restoring_at.unwrap();
    scene.drive(is_closed);
    let calls = scene.cloud.calls();
    let uncap = calls
        .iter()
        .rfind(|call| call.operation == "autoscaling:SuspendProcesses")
        .unwrap();
    assert!((300..400).contains(&uncap.at.duration_since(begun).as_secs()));
    assert!(scene.actions().contains(&"unhealthy".to_owned()));
    // Then the group does with them as it always does with sick ones; the other agent's did so at once.
    let after = scene.cloud.snapshot();
    assert_eq!((&after.settings, after.tasks), (&first.settings, first.tasks));
    assert_eq!(after.machines.len(), first.machines.len() + 3);
    let sick = after.machines.values().filter(|state| state.is_gone());
    assert_eq!(sick.count(), 3);
}

#[test]
fn what_scales_a_service_does_not_undo_its_cap_and_goes_on_after() {
    let task = TaskSpec::fargate("us-east-1", "main", 500, 1_000).acts_as(role().arn());
    let scaled = ServiceSpec::new("scaled", 2, task.clone()).scaled(1, Duration::from_secs(7));
    let still = ServiceSpec::new("still", 2, task).scaled(1, Duration::from_secs(7));
    let scene = Scene::new(base(BOTH).service(scaled).service(still), targets(BOTH));
    let (scaled, still) = (
        what("ecs-service", "us-east-1", "main/scaled"),
        what("ecs-service", "us-east-1", "main/still"),
    );
    // Somebody has it suspended in part before.
    scene.cloud.set_setting(&still, "scaling", "suspended:in");
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    let held = scene.cloud.snapshot();
    assert_eq!(held.tasks.len(), 0, "{held:?}");
    assert_eq!(held.settings[&scaled.to_string()]["scaling"], "suspended");
    let actions = scene.actions();
    assert!(!actions.contains(&"put_back".to_owned()), "{actions:?}");
    scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(600)));
    assert_eq!(scene.cloud.snapshot(), held, "no task runs after");
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
    assert_eq!(scene.images().len(), 0);
}

#[test]
fn what_begins_to_scale_a_capped_service_is_suspended_too_and_goes_on_after() {
    let task = TaskSpec::fargate("us-east-1", "main", 500, 1_000).acts_as(role().arn());
    let scene = Scene::new(base(BOTH).service(ServiceSpec::new("web", 2, task)), targets(BOTH));
    scene.contain_and_wait();
    let web = what("ecs-service", "us-east-1", "main/web");
    scene.cloud.scale(&web, 1, Duration::from_secs(7));
    scene.drive(|last| last.phase == Phase::Containing);
    scene.drive(is_contained);
    assert_eq!(scene.cloud.snapshot().tasks.len(), 0);
    scene.reset_and_wait(&[]);
    let after = scene.cloud.snapshot();
    assert_eq!(after.settings[&web.to_string()]["scaling"], "active");
    assert_eq!(after.settings[&web.to_string()]["desired"], "2");
}

#[test]
fn a_kind_that_cannot_be_listed_is_said_and_hides_nothing() {
    let scene = scene();
    let dead = Region("us-east-1".to_owned());
    scene.cloud.with_faults(|faults| {
        faults.outages.insert(dead);
    });
    scene.contain(Mode::Contain);
    scene.drive(|last| last.coverage.stopped.len() == 3);
    let last = scene.last_now();
    assert_eq!(last.phase, Phase::Containing);
    for kind in ["ecs-service", "function", "nat", "ecs-task", "region"] {
        assert!(!why(&last.coverage, &format!("{kind}:us-east-1")).is_empty(), "{kind}");
    }
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
    assert_contained(&scene, "seen again");
}

#[test]
fn a_dry_run_and_an_impact_name_caps_and_change_nothing() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    let switch = scene.switch();
    let report = scene.run(switch.dry_run(&agent(), Mode::Contain)).unwrap();
    let caps: Vec<String> = report
        .plan
        .regions
        .iter()
        .flat_map(|part| &part.caps)
        .map(|cap| cap.asset.to_string())
        .collect();
    assert_eq!(caps.len(), 4, "{caps:?}");
    let stops = report.plan.regions.iter().flat_map(|part| part.stops.iter().flatten());
    assert_eq!(
        stops.count(),
        3,
        "members as well: they stop once their group is capped"
    );
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
    assert_eq!(scene.cloud.snapshot(), first);

    scene.contain_and_wait();
    scene.cloud.forget_calls();
    let impact = scene.run(switch.impact(&agent(), &[])).unwrap();
    assert_eq!((impact.starts.len(), impact.uncaps.len()), (3, 4));
    let limited = what("function", "us-east-1", "limited");
    let uncap = impact.uncaps.iter().find(|one| one.uncap.asset == limited).unwrap();
    assert_eq!(uncap.uncap.settings["reserved"], "7");
    let web = impact
        .uncaps
        .iter()
        .find(|one| one.uncap.asset.id == "main/web")
        .unwrap();
    assert_eq!(web.uncap.settings["desired"], "2");
    // Two tasks, as they cost before; and the machines.
    let tasks = web.hourly.unwrap().usd;
    assert_eq!(tasks, Usd::from_nanos(2 * (20_240_000 + 4_445_000)));
    let machines: Usd = impact.starts.iter().map(|start| start.hourly.usd).sum();
    assert_eq!(impact.usd_per_hour, machines.saturating_add(tasks));
    let some = scene.run(switch.impact(&agent(), &["i-1".to_owned()])).unwrap();
    assert_eq!((some.starts.len(), some.uncaps.len()), (1, 0));
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
}

#[test]
fn what_the_agents_principals_made_is_the_agents() {
    let fleet = base(&["eu-west-1"])
        .machine(owned("eu-west-1", "i-1"))
        .machine(MachineSpec::new("eu-west-1", "m7g.large").id("i-made"))
        .machine(MachineSpec::new("eu-west-1", "m7g.large").id("i-bare"));
    let scene = Scene::new(fleet, targets(&["eu-west-1"]));
    let creators = Arc::new(Creators::default());
    let made = BTreeSet::from([what("instance", "eu-west-1", "i-made")]);
    creators.set(Some(BTreeMap::from([(agent(), made)])), BTreeMap::new());
    scene.contain(Mode::Contain);
    let id = scene.last_now().id;
    let switch = scene.switch().with_creators(creators);
    for _ in 0..20 {
        scene.run(switch.pass(id)).unwrap();
        scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(10)));
    }
    assert_eq!(scene.last_now().phase, Phase::Contained);
    let held = scene.cloud.snapshot();
    assert_eq!(held.machines["eu-west-1/i-made"], InstanceState::Stopped);
    assert_eq!(held.machines["eu-west-1/i-bare"], InstanceState::Running);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot().count(InstanceState::Running), 3);
}

#[test]
fn the_fleet_itself_goes_by_its_own_laws() {
    // What the proofs above stand on: a group that works destroys and replaces, a service starts anew.
    let scene = scene();
    let first = scene.cloud.snapshot();
    let (id, _) = first
        .machines
        .iter()
        .find(|(id, _)| id.starts_with("eu-west-1/i-0"))
        .unwrap();
    let id = id.trim_start_matches("eu-west-1/").to_owned();
    let region = Region("eu-west-1".to_owned());
    scene.run(scene.cloud.stop(&region, std::slice::from_ref(&id))).unwrap();
    scene.run(backstop::ports::Clock::sleep(&*scene.clock, Duration::from_secs(60)));
    let after = scene.cloud.snapshot();
    assert_eq!(after.machines[&format!("eu-west-1/{id}")], InstanceState::Terminated);
    assert_eq!(after.machines.len(), first.machines.len() + 1);
    let there = Region("us-east-1".to_owned());
    let tasks = scene.run(scene.cloud.assets(&there, &Kind::named("ecs-task"))).unwrap();
    let one = tasks
        .iter()
        .find(|task| task.parent.as_ref().is_some_and(|parent| parent.id == "main/web"));
    scene.run(scene.cloud.end(&one.unwrap().what)).unwrap();
    assert_eq!(scene.cloud.snapshot().tasks, first.tasks, "it started another");
}
