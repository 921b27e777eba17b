//! Plan drills: they change nothing, tell of the very containment that would run, and foretell its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::{FleetSpec, MachineSpec};
use backstop::domain::containment::state::{Mode, StepClass};
use backstop::domain::drill::predict::{Prediction, Range};
use backstop::domain::drill::report::{PlanReport, Proof};
use backstop::domain::drill::{Drill, DrillKind, Outcome};
use backstop::domain::id::AgentId;
use backstop::killswitch::drill::DrillError;

use super::fleet::{base, large, small, spawning, tight};
use super::scene::{Scene, TAG, agent, is_contained, targets};

const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

fn scene(fleet: FleetSpec) -> Scene {
    Scene::new(fleet, targets(&REGIONS))
}

fn drill(scene: &Scene) -> Drill {
    let switch = scene.switch();
    scene.run(switch.drill(&agent(), "operator:test")).unwrap()
}

fn report(drill: &Drill) -> PlanReport {
    serde_json::from_str(&drill.report).unwrap()
}

fn find<'a>(report: &'a PlanReport, id: &str) -> &'a backstop::domain::drill::report::Rehearsed {
    let step = report.steps.iter().find(|step| step.resource.ends_with(id));
    step.unwrap_or_else(|| panic!("no step about {id}: {report:#?}"))
}

#[test]
fn a_drill_changes_nothing_and_its_evidence_is_kept() {
    for fleet in [small(), spawning(), tight(), large()] {
        let scene = scene(fleet);
        let before = scene.cloud.snapshot();
        let drill = drill(&scene);
        assert_eq!(scene.cloud.snapshot(), before);
        let calls = scene.cloud.calls();
        let changes: Vec<_> = calls.iter().filter(|call| call.changes).collect();
        assert!(changes.is_empty(), "{changes:?}");
        assert!(calls.iter().any(|call| call.operation == "ec2:StopInstances (DryRun)"));
        assert!(scene.images().is_empty() && scene.run(scene.store.live_containments()).unwrap().is_empty());
        assert!(scene.notices().is_empty(), "nobody is told of a rehearsal");

        assert_eq!(
            (drill.head.kind, drill.head.by.as_str()),
            (DrillKind::Plan, "operator:test")
        );
        let kept = scene.run(scene.store.drill(drill.head.id)).unwrap().unwrap();
        assert!(kept.is_intact());
        assert_eq!(kept, drill);
        let entries = scene.run(scene.store.audit(1, 10)).unwrap();
        let [entry] = entries.as_slice() else {
            panic!("{entries:?}")
        };
        assert_eq!(entry.entry.action, "drilled");
        assert!(entry.entry.evidence.contains(&drill.head.digest));
    }
}

/// What a containment of the same fleet really does: its changes, by operation and thing.
fn contained(scene: &Scene) -> BTreeSet<(&'static str, String)> {
    scene.cloud.forget_calls();
    scene.contain_and_wait();
    let calls = scene.cloud.calls();
    let changes = calls.iter().filter(|call| call.changes);
    changes
        .flat_map(|call| call.subjects.iter().map(|subject| (call.operation, subject.clone())))
        .collect()
}

#[test]
fn the_plan_is_that_of_the_containment() {
    for fleet in [small(), spawning(), tight(), large()] {
        let scene = scene(fleet);
        let dry = scene.run(scene.switch().dry_run(&agent(), Mode::Contain)).unwrap();
        let report = report(&drill(&scene));
        // The same plan as `contain --dry-run` tells, …
        let dry_steps = backstop::domain::drill::report::steps(&dry.plan);
        let dry_steps: Vec<String> = dry_steps.iter().map(|step| step.resource.to_string()).collect();
        let steps: Vec<&String> = report.steps.iter().map(|step| &step.resource).collect();
        assert_eq!(steps, dry_steps.iter().collect::<Vec<_>>());
        // … and every change that a containment then makes is a step of it, and the other way round: but for
        // stops that it refused, and tasks that a service started meanwhile.
        let done = contained(&scene);
        let plain = |id: &str| id.rsplit('/').next().unwrap().to_owned();
        let done: BTreeSet<String> = done.iter().map(|(_, subject)| plain(subject)).collect();
        let planned: BTreeSet<String> = report.steps.iter().map(|step| plain(&step.resource)).collect();
        let tasks = |id: &&String| !id.starts_with("task");
        assert_eq!(
            done.iter().filter(tasks).collect::<BTreeSet<_>>(),
            planned.iter().filter(tasks).collect::<BTreeSet<_>>()
        );
    }
}

#[test]
fn a_drill_tells_what_it_saves_what_is_left_and_what_is_near() {
    let scene = scene(spawning().machine(MachineSpec::new("us-east-1", "m7g.large").id("i-nobody")));
    let mut settings = (**scene.settings.load()).clone();
    let mut theirs = targets(&REGIONS);
    theirs.principals.clear();
    theirs.tags = BTreeMap::from([(TAG.to_owned(), "other".to_owned())]);
    settings.targets.insert(AgentId::new("other").unwrap(), theirs);
    scene.settings.store(settings.into());
    let told = drill(&scene);
    let report = report(&told);
    assert_eq!(told.head.outcome, Outcome::Passed, "{:#?}", report.gaps);
    let dollars = report.dollars.as_ref().unwrap();
    let usd = |text: &str| text.parse::<backstop::domain::money::Usd>().unwrap();
    let (before, saved) = (usd(&dollars.before_usd_per_hour), usd(&dollars.saved_usd_per_hour));
    assert_eq!(usd(&dollars.left_usd_per_hour), before.saturating_sub(saved));
    // Three machines and two tasks stop; a volume and a gateway burn on.
    assert_eq!(report.counts["stop"], 3, "{:?}", report.counts);
    let burning: BTreeSet<&str> = report.still_burning.iter().map(|one| one.resource.as_str()).collect();
    assert!(
        burning.contains("volume:eu-west-1/vol-1") && burning.contains("nat:us-east-1/nat-1"),
        "{burning:?}"
    );
    let near: BTreeMap<Option<&str>, usize> = report
        .untouched
        .iter()
        .map(|one| (one.owner.as_ref().map(AgentId::as_str), one.assets))
        .collect();
    assert!(near[&Some("other")] >= 2 && near[&None] == 1, "{near:?}");
    assert_eq!(report.orphans[0].resource, "instance:us-east-1/i-nobody");
    // Each way of proof is said.
    assert_eq!(find(&report, "/i-1").proof, Proof::DryRun);
    assert_eq!(find(&report, "/i-1").back, Some(Proof::Simulated));
    assert_eq!(find(&report, "/workers").proof, Proof::Simulated);
    assert_eq!(report.calls.foreseen["autoscaling:SuspendProcesses"], 1);
    // One call for the machines of a region.
    assert_eq!(report.calls.foreseen["ec2:StopInstances"], 1);
}

#[test]
fn what_would_not_work_is_a_gap_and_fails_the_drill() {
    let scene = scene(small());
    scene.cloud.lack("iam:PutRolePolicy");
    scene.cloud.lack("ec2:StartInstances");
    let told = drill(&scene);
    assert_eq!(told.head.outcome, Outcome::Failed);
    let report = report(&told);
    let why = |id: &str| -> Vec<&str> {
        let own = report.gaps.iter().filter(|gap| gap.resource.ends_with(id));
        own.map(|gap| gap.why.as_str()).collect()
    };
    assert!(why("role/agents/agent")[0].contains("IAM's simulation denies iam:PutRolePolicy"));
    assert!(why("/i-1")[0].contains("a reset could not put it back"));
    // What holds it is named, and not only that it is refused.
    assert!(
        why("/i-protected")[0].contains("DisableApiStop"),
        "{:?}",
        why("/i-protected")
    );
    assert!(
        told.head.summary.ends_with(&format!("{} gaps", report.gaps.len())),
        "{}",
        told.head.summary
    );
}

#[test]
fn what_cannot_be_seen_fails_the_drill_and_is_named() {
    let scene = scene(small());
    scene.cloud.with_faults(|faults| {
        faults
            .outages
            .insert(backstop::domain::containment::target::Region("us-east-1".to_owned()));
    });
    let told = drill(&scene);
    assert_eq!(told.head.outcome, Outcome::Failed);
    let report = report(&told);
    assert!(
        report.gaps.iter().any(|gap| gap.resource == "region:us-east-1"),
        "{:#?}",
        report.gaps
    );
    assert!(
        report
            .steps
            .iter()
            .any(|step| step.resource == "instance:eu-west-1/i-1")
    );
}

#[test]
fn who_is_contained_is_not_drilled() {
    let scene = scene(small());
    scene.contain_and_wait();
    let refused = scene.run(scene.switch().drill(&agent(), "operator:test"));
    assert!(matches!(refused, Err(DrillError::Contained)), "{refused:?}");
    assert!(scene.run(scene.store.drills(&agent(), 10)).unwrap().is_empty());
}

fn within(range: &Range, seconds: f64, what: &str) {
    // What is told is rounded to a tenth.
    let fits = range.least_s - 0.05 <= seconds && seconds <= range.most_s + 0.05;
    assert!(fits, "{what}: {seconds} s is not in {range:?}");
}

/// Contains, and holds each phase's time against the prediction.
fn compare(scene: &Scene, predicted: &Prediction, at: &str) -> f64 {
    scene.contain_and_wait();
    let contained = scene.last_now();
    let seconds = |time| contained.seconds_to(time).as_secs_f64();
    let times = &contained.coverage.times;
    for class in [StepClass::Deny, StepClass::Cap, StepClass::Stop] {
        let told = predicted.done.get(&class);
        assert_eq!(told.is_some(), times.contains_key(&class), "{at}: {class:?}");
        if let Some(told) = told {
            within(told, seconds(times[&class].last), &format!("{at}: {class:?}"));
        }
    }
    within(
        &predicted.done[&StepClass::Quiet],
        seconds(times[&StepClass::Quiet].first),
        &format!("{at}: quiet"),
    );
    let took = seconds(contained.contained_at.unwrap());
    within(&predicted.contained, took, &format!("{at}: contained"));
    took
}

#[test]
fn a_containment_takes_the_time_that_was_foretold() {
    for (name, fleet) in [
        ("small", small as fn() -> FleetSpec),
        ("spawning", spawning),
        ("large", large),
    ] {
        for delay in [0, 50, 400, 1_500] {
            for seed in 0..4 {
                let scene = scene(fleet());
                let mut faults = Faults::seeded(seed);
                faults.delay = Duration::from_millis(delay);
                scene.cloud.set_faults(faults);
                let predicted = report(&drill(&scene)).predicted;
                let at = format!("{name}, calls up to {delay} ms, seed {seed}");
                let took = compare(&scene, &predicted, &at);
                // A bound that is never wrong because it is never near is no prediction.
                assert!(
                    predicted.contained.most_s < 40.0 * took,
                    "{at}: {took} s, {predicted:#?}"
                );
                assert!(
                    predicted.contained.likely_s < 6.0 * took,
                    "{at}: {took} s, {predicted:#?}"
                );
            }
        }
    }
}

#[test]
fn an_agent_with_nothing_in_the_cloud_is_foretold_too() {
    let scene = Scene::new(base(&["eu-west-1"]), targets(&["eu-west-1"]));
    let told = drill(&scene);
    let report = report(&told);
    assert!(!report.counts.contains_key("stop"), "{:?}", report.counts);
    compare(&scene, &report.predicted, "nothing");
    assert!(is_contained(&scene.last_now()));
}
