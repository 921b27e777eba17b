//! C2: a containment is held. What comes up again is brought down again; only a reset ends it.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backstop::cloud::rehearsal::actors::{Credential, LaunchRefused};
use backstop::cloud::rehearsal::faults::Faults;
use backstop::cloud::rehearsal::fleet::MachineSpec;
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::deny;
use backstop::domain::containment::observed::{InstanceState, SpotKind};
use backstop::domain::containment::state::{Containment, Mode, Phase};
use backstop::domain::containment::target::Region;
use backstop::domain::judgement::reset::ResetOptions;
use backstop::killswitch::{Next, PassError};
use backstop::ports::{Clock as _, NoticeKind};
use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::crash::CrashPoint;
use super::fleet::small;
use super::scene::{PROFILE, Scene, TAG, agent, is_closed, is_contained, role, targets};

fn scene() -> Scene {
    Scene::new(small(), targets(&["eu-west-1", "us-east-1"]))
}

#[test]
fn an_agent_that_relaunches_is_shut_out_and_brought_down() {
    let scene = scene();
    scene.contain(Mode::Contain);
    let (launched, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let switch = scene.switch();
    scene.run(async {
        // One machine a second, by role and by key, until it is refused and after.
        let agent = pin!(async {
            loop {
                for credential in [
                    Credential::Role(role().arn().to_owned()),
                    Credential::Key("AKIA1".to_owned()),
                ] {
                    let machine = MachineSpec::new("us-east-1", "m7g.large").tag(TAG, "agent");
                    match scene.cloud.launch(&credential, machine) {
                        Ok(_) => launched.fetch_add(1, Ordering::SeqCst),
                        Err(LaunchRefused::Denied | LaunchRefused::BadKey) => refused.fetch_add(1, Ordering::SeqCst),
                        Err(other) => panic!("{other}"),
                    };
                }
                scene.clock.sleep(Duration::from_millis(100)).await;
            }
        });
        let driver = pin!(switch.run(CancellationToken::new()));
        let reached = pin!(scene.until(is_contained));
        match select(select(agent, driver), reached).await {
            Either::Left(_) => panic!("it ended"),
            Either::Right(_) => {}
        }
    });
    assert!(
        launched.load(Ordering::SeqCst) > 5,
        "it got some up before the deny bound"
    );
    assert!(refused.load(Ordering::SeqCst) > 100);
    let held = scene.cloud.snapshot();
    // One-time spot, protected, foreign and the guard run on; nothing that was launched does.
    assert_eq!(held.count(InstanceState::Running), 4);
    assert_eq!(held.count(InstanceState::Pending), 0);
    assert_eq!(scene.last_now().coverage.still_burning.len(), 4);
}

#[test]
fn a_deny_that_somebody_lifts_is_put_back() {
    let scene = scene();
    scene.contain_and_wait();
    scene.cloud.set_document(&role(), None);
    scene.cloud.set_key("AKIA1", true);
    scene.drive(|last| last.phase == Phase::Containing);
    scene.drive(is_contained);
    let held = scene.cloud.snapshot();
    assert!(deny::is_ours(held.denies[role().arn()].as_deref().unwrap()));
    assert!(!held.keys["agent/AKIA1"]);
    let actions = scene.actions();
    assert_eq!(
        actions.iter().filter(|action| *action == "put_back").count(),
        2,
        "{actions:?}"
    );
    assert!(actions.contains(&"disturbed".to_owned()));
}

#[test]
fn a_machine_that_comes_up_while_contained_is_stopped() {
    let scene = scene();
    scene.contain_and_wait();
    scene
        .cloud
        .add(MachineSpec::new("eu-west-1", "m7g.large").id("i-late").profile(PROFILE));
    // Somebody starts one again and takes its tag off, to keep it from being found.
    scene.cloud.set_tag("i-2", TAG, None);
    scene.cloud.force_state("i-2", InstanceState::Running);
    scene.drive(|last| last.phase == Phase::Containing);
    scene.drive(is_contained);
    let held = scene.cloud.snapshot();
    assert_eq!(held.machines["eu-west-1/i-late"], InstanceState::Stopped);
    assert_eq!(held.machines["us-east-1/i-2"], InstanceState::Stopped);
}

#[test]
fn a_config_that_drops_the_agent_takes_nothing_out_of_sight() {
    let scene = scene();
    scene.contain_and_wait();
    scene.settings.rcu(|settings| {
        let mut settings = (**settings).clone();
        settings.targets.clear();
        settings
    });
    scene.cloud.set_document(&role(), None);
    scene.cloud.add(
        MachineSpec::new("eu-west-1", "m7g.large")
            .id("i-late")
            .tag(TAG, "agent"),
    );
    scene.drive(|last| last.phase == Phase::Containing);
    scene.drive(is_contained);
    let held = scene.cloud.snapshot();
    assert_eq!(held.machines["eu-west-1/i-late"], InstanceState::Stopped);
    assert!(deny::is_ours(held.denies[role().arn()].as_deref().unwrap()));
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot().denies[role().arn()], None);
}

#[test]
fn a_breach_while_restoring_contains_again() {
    let scene = scene();
    let first = scene.cloud.snapshot();
    scene.contain_and_wait();
    scene.reset(&[]);
    let switch = scene.switch();
    let id = scene.last_now().id;
    // One pass: machines start, the deny is lifted; then it happens again.
    scene.run(switch.pass(id)).unwrap();
    assert_eq!(scene.cloud.snapshot().denies[role().arn()], None);
    scene.contain(Mode::Contain);
    assert_eq!(scene.status(), AgentStatus::Contained);
    scene.drive(is_contained);
    let held = scene.cloud.snapshot();
    assert_eq!(held.machines["eu-west-1/i-1"], InstanceState::Stopped);
    assert!(deny::is_ours(held.denies[role().arn()].as_deref().unwrap()));
    scene.reset_and_wait(&[]);
    assert_eq!(scene.cloud.snapshot(), first);
    assert_eq!(scene.last_now().generation, 1);
}

#[test]
fn a_pause_while_restoring_outlasts_the_restore() {
    let scene = scene();
    scene.contain_and_wait();
    scene.reset(&[]);
    let watch = scene.watch();
    scene.run(watch.pause(&agent(), "operator:test", "wait")).unwrap();
    scene.drive(is_closed);
    assert_eq!(scene.status(), AgentStatus::Paused);
    scene.run(watch.resume(&agent(), "operator:test", "go on")).unwrap();
    assert_eq!(scene.status(), AgentStatus::Active);
}

#[test]
fn a_pause_while_restoring_is_approved_when_the_restore_is_over() {
    let scene = scene();
    scene.contain_and_wait();
    scene.reset(&[]);
    let watch = scene.watch();
    scene.run(watch.pause(&agent(), "operator:test", "wait")).unwrap();
    let review = scene.run(scene.store.reviews(true, 10)).unwrap().remove(0);
    let early = scene.run(watch.decide(review.id, true, "operator:test", ""));
    assert!(
        early
            .unwrap_err()
            .to_string()
            .contains("reset of the agent is under way")
    );
    scene.drive(is_closed);
    assert_eq!(scene.status(), AgentStatus::Paused);
    scene.run(watch.decide(review.id, true, "operator:test", "")).unwrap();
    assert_eq!(scene.status(), AgentStatus::Active);
}

#[test]
fn two_drivers_take_turns_and_never_act_at_once() {
    let scene = scene();
    scene.contain(Mode::Contain);
    let id = scene.last_now().id;
    let (one, two) = (scene.switch(), scene.switch());
    scene
        .cloud
        .with_faults(|faults| faults.delay = Duration::from_millis(200));
    // While one is in the middle of a pass, the other is told that it is driven elsewhere.
    scene.run(async {
        let first = pin!(one.pass(id));
        let second = pin!(async {
            scene.clock.sleep(Duration::from_millis(50)).await;
            two.pass(id).await
        });
        match select(first, second).await {
            Either::Right((next, first)) => {
                assert_eq!(next.unwrap(), Next::Elsewhere);
                assert!(matches!(first.await.unwrap(), Next::After(_)));
            }
            Either::Left(_) => panic!("the first pass was over at once"),
        }
        // Afterwards it may.
        assert!(matches!(two.pass(id).await.unwrap(), Next::After(_)));
    });
    // Both run for as long as it takes; it is contained and restored once.
    scene.run(async {
        let both =
            pin!(async { futures_util::join!(one.run(CancellationToken::new()), two.run(CancellationToken::new())) });
        let reached = pin!(scene.until(is_contained));
        assert!(matches!(select(both, reached).await, Either::Right(_)));
    });
    let calls = scene.cloud.calls();
    let denies = calls
        .iter()
        .filter(|call| call.operation == "iam:PutRolePolicy")
        .count();
    assert_eq!(denies, 2, "each principal was denied once");
}

#[test]
fn a_driver_whose_lease_passed_on_can_write_nothing() {
    let scene = scene();
    scene.contain(Mode::Contain);
    let id = scene.last_now().id;
    let name = format!("containment/{id}");
    let switch = scene.switch();
    scene.cloud.with_faults(|faults| faults.delay = Duration::from_secs(1));
    scene.run(async {
        let pass = pin!(switch.pass(id));
        // The driver stalls for so long that its lease runs out, and another one takes over.
        let other = pin!(async {
            scene.clock.sleep(Duration::from_millis(10)).await;
            let later = scene
                .clock
                .now()
                .checked_add(jiff::SignedDuration::from_hours(1))
                .unwrap();
            let lease = scene
                .store
                .lease(&name, "another", later, Duration::from_secs(3600))
                .await
                .unwrap();
            assert!(lease.is_some());
        });
        let (result, ()) = futures_util::join!(pass, other);
        assert!(result.is_err(), "{result:?}");
    });
    assert_eq!(scene.last_now().version, 1, "nothing was written");
    assert!(
        scene.cloud.calls().iter().all(|call| !call.changes),
        "and nothing was touched"
    );
}

#[test]
fn nothing_is_changed_whose_before_image_is_not_read_back() {
    // C1: the store says that it has them all, and has the first of each call alone.
    let scene = scene();
    let first = scene.cloud.snapshot();
    scene.contain(Mode::Contain);
    let switch = scene.switch_that(&CrashPoint::forgetful());
    let id = scene.last_now().id;
    let failed = scene.run(switch.pass(id)).unwrap_err();
    assert!(matches!(failed, PassError::ImageMissing { .. }), "{failed}");
    assert_eq!(scene.cloud.snapshot(), first);
    assert!(scene.cloud.calls().iter().all(|call| !call.changes));
}

#[test]
fn hands_off_a_reset_that_is_under_way() {
    let scene = scene();
    scene.contain_and_wait();
    scene.reset(&[]);
    let watch = scene.watch();
    let options = ResetOptions {
        by: "operator:test".to_owned(),
        ..ResetOptions::default()
    };
    let again = scene.run(watch.reset(&agent(), &options, |_| async { Ok(()) }));
    assert!(again.unwrap_err().to_string().contains("under way already"));
    scene.drive(is_closed);
    let over = scene.run(watch.reset(&agent(), &options, |_| async { Ok(()) }));
    assert!(over.unwrap_err().to_string().contains("not contained"));
}

#[test]
fn what_burns_is_told_before_the_proof_and_after_it_each_once() {
    let scene = scene();
    let told = |id: &str| {
        let notices = scene.notices();
        let burning = notices.iter().filter(|notice| notice.kind == NoticeKind::StillBurning);
        burning.filter(|notice| notice.text.contains(id)).count()
    };
    // One region cannot be seen, so nothing is ever proved.
    let dead = Region("us-east-1".to_owned());
    scene.cloud.with_faults(|faults| {
        faults.outages.insert(dead.clone());
    });
    scene.contain(Mode::Contain);
    scene.drive(|last| last.sweeps > 8);
    assert_eq!(scene.last_now().phase, Phase::Containing);
    assert_eq!((told("i-onetime"), told("us-east-1")), (1, 1), "{:?}", scene.notices());
    assert_eq!(told("i-1"), 0, "what was brought down does not burn");
    assert!(scene.actions().contains(&"still_burning".to_owned()));

    // The proof lists everything once more.
    scene.cloud.set_faults(Faults::default());
    let switch = scene.switch();
    let drive = |wanted: &dyn Fn(&Containment) -> bool| {
        scene.run(async {
            let driver = pin!(switch.run(CancellationToken::new()));
            let reached = pin!(scene.until(wanted));
            assert!(matches!(select(driver, reached).await, Either::Right(_)));
        });
    };
    drive(&is_contained);
    assert_eq!((told("i-onetime"), told("i-late")), (2, 0));
    // Something that cannot be stopped comes up when all is proved.
    let mut late = MachineSpec::new("eu-west-1", "m7g.large")
        .id("i-late")
        .tag(TAG, "agent");
    late.spot = Some(SpotKind::OneTime);
    scene.cloud.add(late);
    let sweeps = scene.last_now().sweeps;
    drive(&|last| last.sweeps > sweeps + 3);
    assert_eq!((told("i-onetime"), told("i-late")), (2, 1));
}

#[test]
fn the_denies_come_before_the_list_of_roles() {
    let scene = scene();
    scene.contain_and_wait();
    let calls = scene.cloud.calls();
    let first = |operation: &str| calls.iter().position(|call| call.operation == operation).unwrap();
    let last_deny = calls
        .iter()
        .rposition(|call| call.operation == "iam:PutRolePolicy")
        .unwrap();
    assert!(last_deny < first("iam:ListRoles"), "{calls:?}");
    // And it is not listed anew in every sweep, but now and then it is.
    let lists = || {
        let calls = scene.cloud.calls();
        calls.iter().filter(|call| call.operation == "iam:ListRoles").count()
    };
    assert_eq!(lists(), 1);
    let switch = scene.switch();
    let id = scene.last_now().id;
    for (sweeps, expected) in [(5, 2), (1, 3)] {
        for _ in 0..sweeps {
            scene.run(switch.pass(id)).unwrap();
            scene.run(scene.clock.sleep(Duration::from_secs(59)));
        }
        scene.run(scene.clock.sleep(Duration::from_secs(10)));
        assert_eq!(lists(), expected);
    }
}
