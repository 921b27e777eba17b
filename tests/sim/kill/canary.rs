//! Canary drills: what is marked is stopped and put back, nothing else is touched, and a containment in earnest wins.

use std::collections::{BTreeMap, BTreeSet};

use backstop::cloud::rehearsal::actors::Credential;
use backstop::cloud::rehearsal::fleet::{FleetSnapshot, FleetSpec};
use backstop::cloud::rehearsal::groups::GroupSpec;
use backstop::cloud::rehearsal::{Verb, fleet::MachineSpec};
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::canary::{Canary, Candidates, TAG as CANARY};
use backstop::domain::containment::observed::{InstanceState, Refused, SpotKind};
use backstop::domain::containment::state::{Containment, Mode, Phase};
use backstop::domain::drill::evidence::CanaryReport;
use backstop::domain::drill::{Drill, DrillKind, Outcome};
use backstop::domain::fleet::asset::AssetRef;
use backstop::domain::id::DrillId;
use backstop::killswitch::drill::DrillError;
use backstop::ports::Clock as _;
use backstop::watch::LifecycleRejection;
use backstop::watch::lifecycle::LifecycleError;

use super::crash::{CrashPoint, When};
use super::fleet::{owned, prices, small};
use super::scene::{Scene, TAG, agent, is_closed, is_contained, role, targets};

const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

/// Two canaries in two regions beside everything else: marked, but another's; marked, but nobody's; marked, but
/// not to be stopped.
fn fleet() -> FleetSpec {
    let (key, value) = CANARY;
    let mut spot = owned("eu-west-1", "i-spot-canary").tag(key, value);
    spot.spot = Some(SpotKind::OneTime);
    let mut fleet = small()
        .machine(owned("eu-west-1", "i-canary").tag(key, value))
        .machine(owned("us-east-1", "i-canary-2").tag(key, value))
        .machine(
            MachineSpec::new("eu-west-1", "m7g.large")
                .id("i-theirs")
                .tag(TAG, "other")
                .tag(key, value),
        )
        .machine(
            MachineSpec::new("eu-west-1", "m7g.large")
                .id("i-nobodys")
                .tag(key, value),
        )
        .machine(spot);
    fleet.prices = prices();
    fleet
}

fn scene() -> Scene {
    Scene::new(fleet(), targets(&REGIONS))
}

fn ids<'a>(assets: impl IntoIterator<Item = &'a AssetRef>) -> BTreeSet<&'a str> {
    assets.into_iter().map(|asset| asset.id.as_str()).collect()
}

fn candidates(scene: &Scene) -> Candidates {
    scene.run(scene.switch().canaries(&agent())).unwrap()
}

fn begin(scene: &Scene) -> DrillId {
    let found = candidates(scene);
    let canary = Canary {
        drill: DrillId(uuid::Uuid::from_u128(7)),
        by: "operator:test".to_owned(),
        assets: found.fit.into_iter().map(|one| one.asset).collect(),
    };
    let watch = scene.watch();
    scene.run(watch.drill(&agent(), &canary)).unwrap();
    canary.drill
}

fn evidence(scene: &Scene, id: DrillId) -> (Drill, CanaryReport) {
    let drill = scene.run(scene.store.drill(id)).unwrap().unwrap();
    assert!(drill.is_intact());
    let report = serde_json::from_str(&drill.report).unwrap();
    (drill, report)
}

/// What has changed in the fleet.
fn changed(before: &FleetSnapshot, now: &FleetSnapshot) -> BTreeMap<String, InstanceState> {
    let machines = now.machines.iter();
    let changed = machines.filter(|(id, state)| before.machines.get(*id) != Some(*state));
    let rest = FleetSnapshot {
        machines: before.machines.clone(),
        ..now.clone()
    };
    assert_eq!(rest, *before, "nothing but machines was touched");
    changed.map(|(id, state)| (id.clone(), *state)).collect()
}

fn touched(scene: &Scene) -> BTreeSet<String> {
    let calls = scene.cloud.calls();
    let changes = calls.into_iter().filter(|call| call.changes);
    changes.flat_map(|call| call.subjects).collect()
}

fn is_restoring(containment: &Containment) -> bool {
    containment.phase == Phase::Restoring
}

/// A sweep has seen them down; a second one is to prove it.
fn is_down(containment: &Containment) -> bool {
    containment.quiet > 0
}

#[test]
fn only_what_is_marked_and_comes_back_is_a_canary() {
    let scene = scene();
    let before = scene.cloud.snapshot();
    let found = candidates(&scene);
    assert_eq!(
        ids(found.fit.iter().map(|one| &one.asset)),
        ["i-canary", "i-canary-2"].into()
    );
    assert!(found.fit.iter().all(|one| one.hourly.is_some()));
    let unfit: Vec<&str> = found.unfit.iter().map(|line| line.resource.as_str()).collect();
    assert_eq!(unfit, ["instance:eu-west-1/i-spot-canary"]);
    assert_eq!(scene.cloud.snapshot(), before);
    assert!(touched(&scene).is_empty());
}

#[test]
fn canaries_are_stopped_and_put_back_and_nothing_else_is_touched() {
    let scene = scene();
    let before = scene.cloud.snapshot();
    let id = begin(&scene);
    assert_eq!(scene.status(), AgentStatus::Active, "the agent goes on working");
    scene.drive(is_down);
    let down = changed(&before, &scene.cloud.snapshot());
    let stopped = |name: &str| (name.to_owned(), InstanceState::Stopped);
    assert_eq!(
        down,
        [stopped("eu-west-1/i-canary"), stopped("us-east-1/i-canary-2")].into()
    );
    assert_eq!(scene.images().len(), 2);
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), before);
    assert_eq!(scene.images().len(), 0);
    assert_eq!(touched(&scene), ["i-canary", "i-canary-2"].map(str::to_owned).into());
    assert_eq!(scene.status(), AgentStatus::Active);
    assert!(
        scene.notices().is_empty(),
        "nobody's agent was contained: {:?}",
        scene.notices()
    );

    let (drill, report) = evidence(&scene, id);
    assert_eq!(
        (drill.head.kind, drill.head.outcome),
        (DrillKind::Canary, Outcome::Passed)
    );
    assert_eq!(report.canaries.len(), 2);
    for one in &report.canaries {
        let (asked, down) = (one.asked_s.unwrap(), report.down_s.unwrap());
        let (back_asked, back) = (one.back_asked_s.unwrap(), one.back_s.unwrap());
        assert!(
            one.passed && asked < down && down < back_asked && back_asked < back,
            "{report:#?}"
        );
        assert!(back <= report.ended_s);
    }
    assert!(
        report.proved_s.unwrap() - report.down_s.unwrap() >= 10.0,
        "two quiet sweeps, apart"
    );
    // A machine of this fleet takes eight seconds; that is the next drill's figure.
    let stopping = drill.head.stopping.unwrap().as_secs();
    assert!((8..=12).contains(&stopping), "{stopping}");
    assert_eq!(scene.actions(), ["canary", "canary_down", "drilled"]);
}

#[test]
fn a_group_that_is_marked_is_capped_and_uncapped() {
    let (key, value) = CANARY;
    let member = MachineSpec::new("eu-west-1", "m7g.large");
    let group = GroupSpec::new("canaries", 1, member).tag(TAG, "agent").tag(key, value);
    let scene = Scene::new(small().group(group), targets(&REGIONS));
    let before = scene.cloud.snapshot();
    let id = begin(&scene);
    scene.drive(is_down);
    let now = scene.cloud.snapshot();
    assert_ne!(now.settings, before.settings);
    assert_eq!(now.machines, before.machines, "its members run on");
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), before);
    let (drill, report) = evidence(&scene, id);
    assert_eq!(drill.head.outcome, Outcome::Passed, "{report:#?}");
    assert_eq!(drill.head.stopping, None, "no machine was seen to stop");
}

#[test]
fn a_crash_at_every_call_of_a_drill_puts_it_back_all_the_same() {
    let calm = scene();
    begin(&calm);
    let count = CrashPoint::never();
    assert!(calm.drive_that(&count, is_closed));
    let calls = count.made();
    assert!(calls > 40, "only {calls} calls were made");
    for call in 0..calls {
        for when in [When::BeforeCall, When::AfterCall] {
            let scene = scene();
            let before = scene.cloud.snapshot();
            let id = begin(&scene);
            if !scene.drive_that(&CrashPoint::at(call, when), is_closed) {
                scene.drive(is_closed);
            }
            let at = format!("crash {when:?} {call} of {calls}");
            assert_eq!(scene.cloud.snapshot(), before, "{at}");
            assert_eq!(scene.images().len(), 0, "{at}");
            assert_eq!(
                touched(&scene),
                ["i-canary", "i-canary-2"].map(str::to_owned).into(),
                "{at}"
            );
            assert_eq!(scene.status(), AgentStatus::Active, "{at}");
            let (drill, report) = evidence(&scene, id);
            assert_eq!(drill.head.outcome, Outcome::Passed, "{at}: {report:#?}");
            let ends = scene.actions().iter().filter(|action| *action == "drilled").count();
            assert_eq!(ends, 1, "{at}");
        }
    }
}

#[test]
fn a_containment_in_earnest_takes_a_drill_over_wherever_it_is() {
    let calm = scene();
    let first = calm.cloud.snapshot();
    calm.contain_and_wait();
    let contained = calm.cloud.snapshot();
    let halted: BTreeSet<String> = calm.images().into_keys().collect();
    for seconds in 0..60 {
        let scene = scene();
        let id = begin(&scene);
        // Until then, and then the breach comes, in the midst of whatever the driver does.
        let at = scene
            .clock
            .now()
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap();
        let clock = scene.clock.clone();
        scene.drive(move |one| is_closed(one) || clock.now() >= at);
        let was_over = is_closed(&scene.last_now());
        scene.contain(Mode::Contain);
        assert_eq!(scene.status(), AgentStatus::Contained);
        scene.drive(is_contained);
        let at = format!("breach after {seconds} s");
        assert_eq!(scene.cloud.snapshot(), contained, "{at}");
        let now = scene.last_now();
        assert_eq!(now.canary, None, "{at}");
        assert!(
            now.coverage.times.values().all(|span| span.first >= now.opened_at),
            "{at}"
        );
        assert_eq!(scene.images().into_keys().collect::<BTreeSet<_>>(), halted, "{at}");
        let (drill, _) = evidence(&scene, id);
        let expected = if was_over { Outcome::Passed } else { Outcome::Overtaken };
        assert_eq!(drill.head.outcome, expected, "{at}");
        // And the reset brings back the canaries with all else.
        scene.reset_and_wait(&[]);
        assert_eq!(scene.cloud.snapshot(), first, "{at}");
        assert_eq!(scene.images().len(), 0, "{at}");
        assert_eq!(scene.status(), AgentStatus::Active, "{at}");
    }
}

#[test]
fn a_tag_that_is_taken_off_in_time_keeps_a_machine_running_and_what_was_stopped_comes_back() {
    // Before it is stopped: it is out of reach.
    let scene = self::scene();
    let before = scene.cloud.snapshot();
    let id = begin(&scene);
    scene.cloud.set_tag("i-canary", CANARY.0, None);
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), before);
    assert_eq!(touched(&scene), ["i-canary-2".to_owned()].into());
    let (drill, report) = evidence(&scene, id);
    assert_eq!(drill.head.outcome, Outcome::Failed);
    let lost = report
        .canaries
        .iter()
        .find(|one| one.resource.ends_with("/i-canary"))
        .unwrap();
    assert!(lost.outcome.contains("never touched"), "{lost:?}");
    // After it was stopped: its before-image brings it back.
    let scene = self::scene();
    begin(&scene);
    scene.drive(is_down);
    scene.cloud.set_tag("i-canary", CANARY.0, None);
    scene.cloud.set_tag("i-canary", TAG, None);
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot().machines, before.machines);
}

#[test]
fn a_canary_that_does_not_stop_fails_the_drill_and_the_other_comes_back() {
    let scene = scene();
    let before = scene.cloud.snapshot();
    let id = begin(&scene);
    let refused = Refused {
        code: "UnauthorizedOperation".to_owned(),
        message: "not allowed".to_owned(),
        transient: false,
    };
    scene.cloud.refuse(Verb::Stop, "i-canary", Some(refused));
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), before);
    let (drill, report) = evidence(&scene, id);
    assert_eq!(drill.head.outcome, Outcome::Failed);
    let passed: Vec<bool> = report.canaries.iter().map(|one| one.passed).collect();
    assert_eq!(passed, [false, true], "{report:#?}");
    assert!(
        report
            .still_burning
            .iter()
            .any(|line| line.why.contains("UnauthorizedOperation")),
        "{report:#?}"
    );
    assert!(
        scene
            .notices()
            .iter()
            .any(|notice| notice.text.contains("a canary drill failed"))
    );
}

#[test]
fn a_region_that_is_down_does_not_keep_a_drill_from_putting_back() {
    let scene = scene();
    let before = scene.cloud.snapshot();
    let id = begin(&scene);
    let region = backstop::domain::containment::target::Region("us-east-1".to_owned());
    scene.cloud.with_faults(|faults| {
        faults.outages.insert(region.clone());
    });
    scene.drive(is_restoring);
    scene.cloud.with_faults(|faults| faults.outages.clear());
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), before);
    let (drill, report) = evidence(&scene, id);
    assert_eq!(drill.head.outcome, Outcome::Failed);
    assert!(report.restoring_s.unwrap() >= 600.0, "its patience: {report:#?}");
}

#[test]
fn one_drill_at_a_time_and_none_of_who_is_contained() {
    let scene = scene();
    let found = candidates(&scene);
    begin(&scene);
    let canary = Canary {
        drill: DrillId(uuid::Uuid::from_u128(8)),
        by: "operator:test".to_owned(),
        assets: found.fit.into_iter().map(|one| one.asset).collect(),
    };
    let again = scene.run(scene.watch().drill(&agent(), &canary));
    assert!(
        matches!(again, Err(LifecycleError::Rejected(LifecycleRejection::Drilled))),
        "{again:?}"
    );
    let refused = scene.run(scene.switch().canaries(&agent()));
    assert!(matches!(refused, Err(DrillError::UnderWay)), "{refused:?}");
    let refused = scene.run(scene.switch().drill(&agent(), "operator:test"));
    assert!(matches!(refused, Err(DrillError::UnderWay)), "{refused:?}");
    scene.drive(is_closed);
    scene.contain_and_wait();
    let refused = scene.run(scene.watch().drill(&agent(), &canary));
    assert!(
        matches!(refused, Err(LifecycleError::Rejected(LifecycleRejection::NoDrill))),
        "{refused:?}"
    );
    let refused = scene.run(scene.switch().canaries(&agent()));
    assert!(matches!(refused, Err(DrillError::Contained)), "{refused:?}");
}

#[test]
fn the_agent_works_on_and_can_be_paused_and_resumed_during_a_drill() {
    let scene = scene();
    begin(&scene);
    let launched = scene.cloud.launch(
        &Credential::Role(role().arn().to_owned()),
        owned("eu-west-1", "i-launched"),
    );
    assert!(launched.is_ok(), "{launched:?}");
    let watch = scene.watch();
    scene.run(watch.pause(&agent(), "operator:test", "a pause")).unwrap();
    scene.run(watch.resume(&agent(), "operator:test", "goes on")).unwrap();
    assert_eq!(scene.status(), AgentStatus::Active);
    scene.drive(is_closed);
    let machines = scene.cloud.snapshot().machines;
    assert_eq!(machines["eu-west-1/i-launched"], InstanceState::Running);
    assert!(!touched(&scene).contains("i-launched"));
}
