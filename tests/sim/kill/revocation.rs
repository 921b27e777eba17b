//! Revocation that holds: where nothing more fits, what somebody undoes, what the simulation says.

use std::time::Duration;

use backstop::cloud::rehearsal::actors::{Credential, LaunchRefused};
use backstop::cloud::rehearsal::fleet::{FleetSnapshot, MachineSpec};
use backstop::domain::containment::deny;
use backstop::domain::containment::state::{Mode, Phase};
use backstop::domain::containment::target::Guard;
use backstop::ports::Clock as _;

use super::crash::{CrashPoint, When};
use super::fleet::tight;
use super::scene::{Scene, TAG, is_closed, is_contained, role, targets, user, why};

fn scene() -> Scene {
    Scene::new(tight(), targets(&["eu-west-1"]))
}

fn is_denied(held: &FleetSnapshot) -> bool {
    held.attached[role().arn()]
        && held.managed.as_deref().is_some_and(deny::is_ours)
        && held.denies[user().arn()].as_deref().is_some_and(deny::is_ours)
        && held.keys.values().all(|active| !active)
        && held.service_credentials.values().all(|active| !active)
}

fn count(scene: &Scene, operation: &str) -> usize {
    let calls = scene.cloud.calls();
    calls.iter().filter(|call| call.operation == operation).count()
}

#[test]
fn the_managed_policy_takes_over_where_the_inline_one_has_no_room() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    assert!(is_denied(&scene.cloud.snapshot()));
    let launched = scene.cloud.launch(
        &Credential::Role(role().arn().to_owned()),
        MachineSpec::new("eu-west-1", "m7g.large").tag(TAG, "agent"),
    );
    assert_eq!(launched, Err(LaunchRefused::Denied));
    let calls = scene.cloud.calls();
    let changes: Vec<_> = calls
        .iter()
        .filter(|call| call.changes)
        .map(|call| call.operation)
        .collect();
    let at = |operation: &str| changes.iter().position(|one| *one == operation).unwrap();
    assert!(at("iam:PutRolePolicy") < at("iam:AttachRolePolicy"), "{changes:?}");
    assert!(at("iam:AttachRolePolicy") < at("ec2:StopInstances"), "{changes:?}");
    // A sweep leaves it to IAM to say what fits.
    assert_eq!(count(&scene, "iam:ListRolePolicies"), 0);
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn a_rehearsal_foretells_the_fallback() {
    let scene = scene();
    let report = scene
        .run(scene.switch().dry_run(&super::scene::agent(), Mode::Contain))
        .unwrap();
    let attach: Vec<bool> = report.plan.principals.denies.iter().map(|deny| deny.attach).collect();
    assert_eq!(attach, [true, false]);
    assert_eq!(report.plan.principals.credentials.len(), 1);
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
}

#[test]
fn with_no_room_for_either_it_is_never_contained_and_says_what_a_person_has_to_do() {
    let scene = scene();
    scene.cloud.set_attachments_full(&role(), true);
    scene.contain(Mode::Contain);
    scene.drive(|last| last.sweeps > 6);
    let last = scene.last_now();
    assert_eq!(last.phase, Phase::Containing);
    let line = why(&last.coverage, role().arn());
    assert!(line.contains("Delete one of its inline policies or detach"), "{line}");
    assert!(
        last.coverage.denied.iter().any(|id| id.contains("user:")),
        "the rest is done all the same"
    );
    assert_eq!(last.coverage.stopped, ["instance:eu-west-1/i-1"]);
    scene.cloud.set_inline_chars(&role(), 0);
    scene.drive(is_contained);
    assert!(scene.cloud.snapshot().denies[role().arn()].is_some());
}

#[test]
fn what_somebody_undoes_is_put_back_with_an_alarm_each() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    let weaker = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}"#;
    let undo: [&dyn Fn(); 5] = [
        &|| scene.cloud.detach(&role()),
        &|| scene.cloud.set_managed(weaker),
        &|| scene.cloud.set_document(&user(), Some(weaker)),
        &|| scene.cloud.set_service_credential("ACCA1", true),
        &|| scene.cloud.set_key("AKIA1", true),
    ];
    for (number, undo) in undo.iter().enumerate() {
        undo();
        scene.drive(|last| last.phase == Phase::Containing);
        scene.drive(is_contained);
        assert!(is_denied(&scene.cloud.snapshot()), "{number}");
        let alarms = scene.actions().iter().filter(|action| *action == "put_back").count();
        assert_eq!(alarms, number + 1);
    }
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
}

#[test]
fn the_simulation_is_asked_once_in_a_while_and_only_warns() {
    let scene = scene();
    scene.cloud.blind_simulation(&role(), true);
    scene.contain_and_wait();
    let last = scene.last_now();
    assert!(
        why(&last.coverage, role().arn()).contains("policy simulation"),
        "{last:#?}"
    );
    assert_eq!(why(&last.coverage, user().arn()), "");
    let asked = count(&scene, "iam:SimulatePrincipalPolicy");
    assert_eq!(asked, 2);
    // It comes round: the warning goes.
    scene.cloud.blind_simulation(&role(), false);
    let sweeps = last.sweeps;
    let until = scene.clock.now() + Duration::from_secs(200);
    let switch = scene.switch();
    scene.run(async {
        let driver = std::pin::pin!(switch.run(tokio_util::sync::CancellationToken::new()));
        let time = std::pin::pin!(async {
            while scene.clock.now() < until {
                scene.clock.sleep(Duration::from_secs(1)).await;
            }
        });
        futures_util::future::select(driver, time).await;
    });
    let last = scene.last_now();
    assert!(last.sweeps > sweeps);
    assert_eq!(why(&last.coverage, role().arn()), "");
    let more = count(&scene, "iam:SimulatePrincipalPolicy") - asked;
    assert!((1..=4).contains(&more), "asked {more} times more");
}

#[test]
fn a_guard_among_the_targets_keeps_all_that_is_its() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    let mut settings = (**scene.settings.load()).clone();
    settings.guard = Guard {
        principals: vec![role().arn().to_owned(), user().arn().to_owned()],
        ..settings.guard
    };
    scene.settings.store(std::sync::Arc::new(settings));
    scene.contain_and_wait();
    let held = scene.cloud.snapshot();
    assert_eq!(
        (&held.denies, &held.attached, &held.keys, &held.service_credentials),
        (&first.denies, &first.attached, &first.keys, &first.service_credentials)
    );
    assert!(
        scene
            .cloud
            .calls()
            .iter()
            .all(|call| !call.changes || !call.operation.starts_with("iam:"))
    );
}

#[test]
fn a_crash_at_every_call_of_a_tight_containment_and_restore() {
    let calm = scene();
    let first = calm.cloud.snapshot();
    calm.contain(Mode::Contain);
    let containing = CrashPoint::never();
    assert!(calm.drive_that(&containing, is_contained));
    let held = calm.cloud.snapshot();
    let images = calm.images();
    calm.reset(&[]);
    let restoring = CrashPoint::never();
    assert!(calm.drive_that(&restoring, is_closed));
    assert_eq!(calm.cloud.snapshot(), first);
    for when in [When::BeforeCall, When::AfterCall] {
        for call in 0..containing.made() {
            let at = format!("containing, {when:?} {call}");
            let scene = scene();
            scene.contain(Mode::Contain);
            if !scene.drive_that(&CrashPoint::at(call, when), is_contained) {
                scene.drive(is_contained);
            }
            assert_eq!(scene.cloud.snapshot(), held, "{at}");
            assert_eq!(scene.images(), images, "{at}");
            scene.reset_and_wait(&[]);
            assert_eq!(scene.cloud.snapshot(), first, "{at}");
        }
        for call in 0..restoring.made() {
            let at = format!("restoring, {when:?} {call}");
            let scene = scene();
            scene.contain_and_wait();
            scene.reset(&[]);
            if !scene.drive_that(&CrashPoint::at(call, when), is_closed) {
                scene.drive(is_closed);
            }
            assert_eq!(scene.cloud.snapshot(), first, "{at}");
            assert!(scene.images().is_empty(), "{at}");
        }
    }
}
