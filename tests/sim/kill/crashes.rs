//! C6: a crash at every call of a containment and of its restore ends in the same state as none.

use std::pin::pin;

use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::state::{Coverage, Mode};
use backstop::domain::ledger::batch::LedgerRules;
use backstop::killswitch::Next;
use backstop::ports::{Clock as _, Store as _};
use backstop::store::memory::MemoryStore;
use futures_util::future::{Either, select};

use super::crash::{CrashPoint, When};
use super::fleet::small;
use super::scene::{Scene, is_closed, is_contained, targets};

fn scene() -> Scene {
    Scene::new(small(), targets(&["eu-west-1", "us-east-1"]))
}

fn proved(coverage: Coverage) -> (Vec<String>, Vec<String>, Vec<String>) {
    let burning = coverage.still_burning.into_iter().map(|line| line.resource).collect();
    (coverage.denied, coverage.stopped, burning)
}

#[test]
fn a_crash_at_every_call_of_a_containment() {
    let calm = scene();
    calm.contain(backstop::domain::containment::state::Mode::Contain);
    let count = CrashPoint::never();
    assert!(calm.drive_that(&count, is_contained));
    let calls = count.made();
    assert!(calls > 40, "only {calls} calls were made");
    for call in 0..calls {
        for when in [When::BeforeCall, When::AfterCall] {
            let scene = scene();
            let first = scene.cloud.snapshot();
            scene.contain(backstop::domain::containment::state::Mode::Contain);
            let crash = CrashPoint::at(call, when);
            if !scene.drive_that(&crash, is_contained) {
                scene.drive(is_contained);
            }
            let at = format!("crash {when:?} {call} of {calls}");
            assert_eq!(scene.cloud.snapshot(), calm.cloud.snapshot(), "{at}");
            assert_eq!(scene.images(), calm.images(), "{at}");
            assert_eq!(
                proved(scene.last_now().coverage),
                proved(calm.last_now().coverage),
                "{at}"
            );
            // And what the crash left behind restores to what there was before, even in the next
            // generation, which has the before-images alone to go by.
            scene.reset_and_wait(&["i-1"]);
            scene.contain_and_wait();
            scene.reset_and_wait(&[]);
            assert_eq!(scene.cloud.snapshot(), first, "{at}");
            assert_eq!(scene.images().len(), 0, "{at}");
        }
    }
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
    assert!(calls > 30, "only {calls} calls were made");
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
            let resets = scene.actions().iter().filter(|action| *action == "reset").count();
            assert_eq!(resets, 1, "{at}");
        }
    }
}

#[test]
fn a_daemon_that_crashes_again_and_again_gets_there() {
    for stride in 1..12 {
        let scene = scene();
        let first = scene.cloud.snapshot();
        scene.contain(backstop::domain::containment::state::Mode::Contain);
        let mut crashes = 0;
        // Each life is a little longer than the last, so that each gets further.
        while !scene.drive_that(&CrashPoint::at(stride + crashes, When::AfterCall), is_contained) {
            crashes += 1;
        }
        assert!(crashes > 3);
        scene.reset(&[]);
        let mut crashes = 0;
        while !scene.drive_that(&CrashPoint::at(stride + crashes, When::BeforeCall), is_closed) {
            crashes += 1;
        }
        assert_eq!(scene.cloud.snapshot(), first);
    }
}

#[test]
fn the_next_daemon_takes_over_at_once_from_one_that_died_in_mid_pass() {
    let scene = Scene::new(small(), targets(&["eu-west-1", "us-east-1"]));
    scene.contain(Mode::Contain);
    let id = scene.last_now().id;
    let process = MemoryStore::clone(&scene.memory);
    let epoch = scene.run(process.open_epoch(scene.clock.now(), "host")).unwrap();
    let crash = CrashPoint::at(12, When::BeforeCall);
    let dying = scene.switch_that(&crash).in_epoch(epoch);
    scene.run(async {
        let pass = pin!(dying.pass(id));
        assert!(matches!(select(pass, pin!(crash.crashed())).await, Either::Right(_)));
    });
    let epoch = scene.run(scene.store.open_epoch(scene.clock.now(), "host")).unwrap();
    let next = scene.switch().in_epoch(epoch);
    assert_eq!(scene.run(next.pass(id)).unwrap(), Next::Elsewhere, "it may be alive");
    process.kill();
    let rules = LedgerRules::default();
    scene
        .run(scene.store.bury_dead_epochs(scene.clock.now(), &rules))
        .unwrap();
    assert!(matches!(scene.run(next.pass(id)).unwrap(), Next::After(_)));
}
