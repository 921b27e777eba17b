//! The whole cycle: contain, prove, hold, reset.

use std::sync::Arc;
use std::time::Duration;

use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::FleetSpec;
use backstop::cloud::rehearsal::{Rehearsal, Verb};
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::deny;
use backstop::domain::containment::hourly::PriceBasis;
use backstop::domain::containment::observed::{InstanceState, Refused};
use backstop::domain::containment::state::{Mode, Phase};
use backstop::domain::containment::target::Region;
use backstop::domain::judgement::reset::{ResetOptions, ResetRejection};
use backstop::ports::{Clock as _, NoticeKind};
use backstop::watch::lifecycle::ResetError;

use super::fleet::{base, large, owned, small};
use super::scene::{Scene, agent, is_closed, is_contained, role, targets, user, why};

const BOTH: &[&str] = &["eu-west-1", "us-east-1"];

#[test]
fn contain_and_reset_put_back_exactly_what_was() {
    let scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    assert_eq!(scene.status(), AgentStatus::Contained);
    let held = scene.cloud.snapshot();
    let state = |id: &str| held.machines[id];
    for id in [
        "eu-west-1/i-1",
        "eu-west-1/i-profile",
        "us-east-1/i-2",
        "us-east-1/i-stopped",
    ] {
        assert_eq!(state(id), InstanceState::Stopped, "{id}");
    }
    for id in [
        "eu-west-1/i-foreign",
        "eu-west-1/i-onetime",
        "us-east-1/i-protected",
        "us-east-1/i-guard",
    ] {
        assert_eq!(state(id), InstanceState::Running, "{id}");
    }
    assert!(deny::is_ours(held.denies[role().arn()].as_deref().unwrap()));
    assert!(deny::is_ours(held.denies[user().arn()].as_deref().unwrap()));
    assert!(held.keys.values().all(|active| !active));
    let contained = scene.last_now();
    assert!(why(&contained.coverage, "i-onetime").contains("one-time spot"));
    assert!(why(&contained.coverage, "i-protected").contains("DisableApiStop"));
    assert!(why(&contained.coverage, "creators").contains("is not looked for"));
    assert_eq!(contained.coverage.denied.len(), 3, "{:?}", contained.coverage.denied);

    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
    assert_eq!(scene.status(), AgentStatus::Active);
    let actions = scene.actions();
    for action in [
        "containing",
        "contained",
        "step_failed",
        "guard_matched",
        "restoring",
        "reset",
    ] {
        assert_eq!(
            actions.iter().filter(|a| *a == action).count(),
            1,
            "{action}: {actions:?}"
        );
    }
    let kinds: Vec<_> = scene.notices().into_iter().map(|notice| notice.kind).collect();
    assert!(kinds.contains(&NoticeKind::Contained) && kinds.contains(&NoticeKind::Reset));
}

#[test]
fn a_large_fleet_with_three_that_cannot_be_stopped() {
    let scene = Scene::new(large(), targets(BOTH));
    scene.cloud.set_stop_protection("i-020", true);
    let refused = |code: &str, transient| Refused {
        code: code.to_owned(),
        message: "no".to_owned(),
        transient,
    };
    scene
        .cloud
        .refuse(Verb::Stop, "i-021", Some(refused("UnsupportedOperation", false)));
    scene
        .cloud
        .refuse(Verb::Stop, "i-022", Some(refused("InternalError", true)));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    let held = scene.cloud.snapshot();
    assert_eq!(held.count(InstanceState::Stopped), 117);
    assert_eq!(held.count(InstanceState::Running), 43);
    for index in 120..160 {
        let region = if index % 2 == 0 { "eu-west-1" } else { "us-east-1" };
        assert_eq!(
            held.machines[&format!("{region}/i-{index}")],
            InstanceState::Running,
            "{index}"
        );
    }
    let coverage = scene.last_now().coverage;
    assert_eq!(coverage.still_burning.len(), 4, "{:?}", coverage.still_burning);
    assert!(why(&coverage, "i-020").contains("DisableApiStop"));
    assert!(why(&coverage, "i-021").contains("UnsupportedOperation"));
    assert!(why(&coverage, "i-022").contains("InternalError"));

    // Once it can be stopped, the next look stops it (C2).
    scene.cloud.refuse(Verb::Stop, "i-021", None);
    scene.drive(|last| is_contained(last) && last.coverage.still_burning.len() == 3);
    assert_eq!(scene.cloud.snapshot().count(InstanceState::Stopped), 118);

    scene.cloud.refuse(Verb::Stop, "i-022", None);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn what_somebody_else_stopped_stays_stopped() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.contain_and_wait();
    // We were refused, and have only its before-image; now its owner stops it.
    scene.cloud.set_stop_protection("i-protected", false);
    scene.cloud.force_state("i-protected", InstanceState::Stopped);
    scene.reset_and_wait(&[]);
    let after = scene.cloud.snapshot();
    assert_eq!(after.machines["us-east-1/i-protected"], InstanceState::Stopped);
    assert_eq!(after.machines["us-east-1/i-2"], InstanceState::Running);
    assert!(scene.images().is_empty());
}

#[test]
fn a_stop_that_may_have_worked_is_ours_whatever_a_later_one_came_to() {
    let scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    scene.contain(Mode::Contain);
    let switch = scene.switch();
    let id = scene.last_now().id;
    // The stop works, its reply is lost, and the listing does not show it yet.
    scene.cloud.with_faults(|faults| {
        (faults.lose_reply, faults.stale, faults.stale_for) = (100, 100, Duration::from_secs(60));
    });
    scene.run(switch.pass(id)).unwrap();
    assert_eq!(scene.cloud.machine("i-1").unwrap().state, InstanceState::Stopping);
    let throttled = Refused {
        code: "RequestLimitExceeded".to_owned(),
        message: "request limit exceeded".to_owned(),
        transient: true,
    };
    scene.cloud.refuse(Verb::Stop, "i-1", Some(throttled));
    scene.run(switch.pass(id)).unwrap();
    let asked = scene.cloud.calls();
    let stops = |call: &&backstop::cloud::rehearsal::Call| call.operation == "ec2:StopInstances";
    let of_i_1 = asked
        .iter()
        .filter(stops)
        .filter(|call| call.subjects.contains(&"i-1".to_owned()));
    assert_eq!(of_i_1.count(), 2, "it was asked again");
    scene.cloud.refuse(Verb::Stop, "i-1", None);
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn what_somebody_stopped_between_our_look_and_our_call_stays_stopped() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.contain(Mode::Contain);
    scene.cloud.someone(Verb::Stop, "i-1").unwrap();
    // The listing still shows it running, so it is asked to stop.
    scene
        .cloud
        .with_faults(|faults| (faults.stale, faults.stale_for) = (100, Duration::from_secs(60)));
    let switch = scene.switch();
    scene.run(switch.pass(scene.last_now().id)).unwrap();
    assert!(scene.images().contains_key("instance:eu-west-1/i-1"));
    scene.cloud.set_faults(Faults::default());
    scene.drive(is_contained);
    assert_eq!(scene.last_now().coverage.stopped.len(), 4);
    scene.reset_and_wait(&[]);
    let after = scene.cloud.snapshot();
    assert_eq!(after.machines["eu-west-1/i-1"], InstanceState::Stopped);
    assert_eq!(after.machines["us-east-1/i-2"], InstanceState::Running);
    assert!(scene.images().is_empty());
}

#[test]
fn a_question_is_over_with_its_containment() {
    let fleet = base(&["eu-west-1", "ap-south-1"]).machine(owned("ap-south-1", "i-far"));
    let scene = Scene::new(fleet, targets(&["eu-west-1"]));
    for generation in 1..3 {
        scene.contain_and_wait();
        assert_eq!(
            scene.run(scene.store.reviews(true, 100)).unwrap().len(),
            1,
            "generation {generation}"
        );
        scene.reset_and_wait(&[]);
        assert_eq!(scene.run(scene.store.reviews(true, 100)).unwrap(), []);
    }
}

#[test]
fn stops_go_out_in_batches_and_every_region_at_once() {
    let scene = Scene::new(large(), targets(BOTH));
    scene.contain_and_wait();
    let calls = scene.cloud.calls();
    let stops: Vec<_> = calls
        .iter()
        .filter(|call| call.operation == "ec2:StopInstances")
        .collect();
    assert_eq!(stops.iter().map(|call| call.subjects.len()).sum::<usize>(), 120);
    assert!(stops.iter().all(|call| call.subjects.len() <= 50));
    assert_eq!(stops.len(), 4);
    // Nothing was stopped before its principal was denied.
    let first_stop = calls
        .iter()
        .position(|call| call.operation == "ec2:StopInstances")
        .unwrap();
    let last_deny = calls
        .iter()
        .rposition(|call| call.operation == "iam:PutRolePolicy")
        .unwrap();
    assert!(last_deny < first_stop);
}

#[test]
fn contain_partial_reset_contain_reset_keeps_the_first_before_image() {
    let scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    let images = scene.images();
    scene.reset_and_wait(&["i-1"]);
    assert_eq!(scene.status(), AgentStatus::Active);
    let partly = scene.cloud.snapshot();
    assert_eq!(partly.machines["eu-west-1/i-1"], InstanceState::Running);
    assert_eq!(partly.machines["us-east-1/i-2"], InstanceState::Stopped);
    assert_eq!(partly.denies, first.denies);
    let left = scene.images();
    assert!(left.contains_key("instance:us-east-1/i-2") && !left.contains_key("instance:eu-west-1/i-1"));

    scene.contain_and_wait();
    assert_eq!(scene.last_now().generation, 2);
    for (resource, before) in &left {
        assert_eq!(
            scene.images().get(resource),
            Some(before),
            "the first before-image survives"
        );
        assert_eq!(images.get(resource), Some(before));
    }
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
    assert!(scene.images().is_empty());
}

#[test]
fn what_a_partial_reset_left_is_its_owners_once_they_started_it() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.contain_and_wait();
    scene.reset_and_wait(&["i-1"]);
    let later = |minutes: u64| scene.run(scene.clock.sleep(Duration::from_secs(60 * minutes)));
    later(10);
    scene.cloud.someone(Verb::Start, "i-2").unwrap();
    later(10);
    scene.cloud.someone(Verb::Stop, "i-2").unwrap();
    later(10);
    scene.contain_and_wait();
    scene.reset_and_wait(&[]);
    let after = scene.cloud.snapshot();
    assert_eq!(after.machines["us-east-1/i-2"], InstanceState::Stopped);
    for id in ["eu-west-1/i-1", "eu-west-1/i-profile"] {
        assert_eq!(after.machines[id], InstanceState::Running, "{id}");
    }
    assert!(scene.images().is_empty());
}

#[test]
fn a_reset_that_names_nothing_known_is_refused_before_anything_is_done() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.contain_and_wait();
    let held = scene.cloud.snapshot();
    let options = ResetOptions {
        only: vec!["i-1".to_owned(), "i-typo".to_owned()],
        by: "operator:test".to_owned(),
        ..ResetOptions::default()
    };
    let watch = scene.watch();
    let refused = scene.run(watch.reset(&agent(), &options, |_| async { panic!("not reached") }));
    assert!(matches!(
        refused,
        Err(ResetError::Rejected(ResetRejection::UnknownSelection { names })) if names == ["i-typo"]
    ));
    assert_eq!(scene.last_now().phase, Phase::Contained);
    assert_eq!(scene.cloud.snapshot(), held);
}

#[test]
fn revoke_leaves_machines_and_escalates_when_asked() {
    let scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    scene.contain(Mode::Revoke);
    scene.drive(is_contained);
    assert_eq!(scene.cloud.snapshot().machines, first.machines);
    assert_ne!(scene.cloud.snapshot().denies, first.denies);
    scene.contain(Mode::Contain);
    assert_eq!(scene.last_now().phase, Phase::Containing);
    scene.drive(is_contained);
    assert_eq!(scene.last_now().generation, 1, "it is the same containment");
    assert_eq!(scene.cloud.snapshot().machines["eu-west-1/i-1"], InstanceState::Stopped);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn a_reset_with_credentials_of_another_account_waits_for_the_right_ones() {
    let mut scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    let images = scene.images();
    // The daemon comes back with the credentials of an account where none of this exists.
    let other = Arc::new(Rehearsal::new(
        FleetSpec::new("999999999999", BOTH),
        scene.clock.clone(),
    ));
    let right = std::mem::replace(&mut scene.cloud, other);
    scene.reset(&[]);
    let switch = scene.switch();
    let id = scene.last_now().id;
    for _ in 0..30 {
        scene.run(switch.pass(id)).unwrap();
        scene.run(scene.clock.sleep(Duration::from_secs(60)));
    }
    assert_eq!(scene.last_now().phase, Phase::Restoring);
    assert_eq!(scene.status(), AgentStatus::Restoring);
    assert_eq!(scene.images(), images);
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
    scene.cloud = right;
    scene.drive(is_closed);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn an_agent_without_a_cloud_side_is_frozen_and_thawed() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.settings.rcu(|settings| {
        let mut settings = (**settings).clone();
        settings.targets.clear();
        settings
    });
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    assert_eq!(scene.last_now().coverage.still_burning, []);
    assert_eq!(scene.cloud.snapshot(), first);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.status(), AgentStatus::Active);
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
}

#[test]
fn a_match_outside_the_declared_regions_waits_for_a_person() {
    let fleet = base(&["eu-west-1", "ap-south-1"])
        .machine(owned("eu-west-1", "i-near"))
        .machine(owned("ap-south-1", "i-far"))
        .machine(owned("ap-south-1", "i-other"));
    let scene = Scene::new(fleet, targets(&["eu-west-1"]));
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    assert_eq!(
        scene.cloud.snapshot().machines["ap-south-1/i-far"],
        InstanceState::Running
    );
    let reviews = scene.run(scene.store.reviews(true, 100)).unwrap();
    assert_eq!(reviews.len(), 2, "each is asked once");
    let watch = scene.watch();
    for review in &reviews {
        let approve = review.summary.contains("i-far");
        scene
            .run(watch.decide(review.id, approve, "operator:test", ""))
            .unwrap();
    }
    scene.drive(|last| is_contained(last) && last.coverage.stopped.len() == 2);
    let held = scene.cloud.snapshot();
    assert_eq!(held.machines["ap-south-1/i-far"], InstanceState::Stopped);
    assert_eq!(held.machines["ap-south-1/i-other"], InstanceState::Running);
    assert!(why(&scene.last_now().coverage, "i-other").contains("a person decided"));
    assert_eq!(scene.run(scene.store.reviews(true, 100)).unwrap(), []);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn a_role_that_trusts_the_agent_is_still_burning() {
    let mut chained = backstop::cloud::rehearsal::fleet::PrincipalSpec::role("arn:aws:iam::123456789012:role/chained");
    chained.trusted = vec![role().arn().to_owned()];
    let scene = Scene::new(small().principal(chained), targets(BOTH));
    scene.contain_and_wait();
    assert!(why(&scene.last_now().coverage, "role/chained").contains("trusts the agent"));
}

#[test]
fn a_dry_run_and_an_impact_change_nothing() {
    let scene = Scene::new(small(), targets(BOTH));
    let first = scene.cloud.snapshot();
    let switch = scene.switch();
    let report = scene.run(switch.dry_run(&agent(), Mode::Contain)).unwrap();
    let region = |name: &str| {
        report
            .plan
            .regions
            .iter()
            .find(|r| r.region == Region(name.to_owned()))
            .unwrap()
    };
    assert_eq!(region("eu-west-1").stops, [["i-1", "i-profile"]]);
    assert_eq!(report.plan.principals.denies.len(), 2);
    assert_eq!(report.plan.principals.keys.len(), 1);
    // Three run in eu-west-1 at 112 percent of the list price, two in us-east-1; all of them run on now.
    let burn = report.coverage.burn.unwrap();
    assert_eq!((burn.before.to_string().as_str(), burn.now), ("0.437376", burn.before));
    assert_eq!(burn.basis, PriceBasis::Estimated);
    assert_eq!(report.would_refuse.len(), 1);
    assert!(report.would_refuse[0].resource.ends_with("i-protected"));
    assert_eq!(scene.cloud.snapshot(), first);
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
    assert_eq!(scene.run(scene.store.live_containments()).unwrap(), []);
    assert_eq!(scene.run(scene.store.images(&agent())).unwrap(), []);

    scene.contain_and_wait();
    scene.cloud.forget_calls();
    let impact = scene.run(switch.impact(&agent(), &[])).unwrap();
    assert_eq!(impact.starts.len(), 3, "{:?}", impact.starts);
    assert_eq!(impact.usd_per_hour.to_string(), "0.264384");
    // What cannot be stopped still costs: one in each region.
    let burn = scene.last_now().coverage.burn.unwrap();
    assert_eq!(
        (burn.before.to_string().as_str(), burn.now.to_string().as_str()),
        ("0.437376", "0.172992")
    );
    assert_eq!(
        (impact.unpriced, impact.plan.lifts.len(), impact.plan.keys.len()),
        (0, 2, 1)
    );
    let some = scene.run(switch.impact(&agent(), &["i-1".to_owned()])).unwrap();
    assert_eq!((some.starts.len(), some.plan.kept.len()), (1, 3));
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
    assert_eq!(scene.last_now().phase, Phase::Contained);
}
