//! What could not be read is not known: neither whose a thing is, nor what a simulation would say.

use std::cell::Cell;

use backstop::domain::containment::state::{Mode, Phase};
use backstop::ports::Clock as _;

use super::fleet::{small, spawning};
use super::scene::{Scene, is_contained, targets, why};

const BOTH: &[&str] = &["eu-west-1", "us-east-1"];

/// C3: the service and the function are the agent's by their roles alone, and those cannot be read.
#[test]
fn what_may_be_the_agents_is_not_taken_for_nobodys() {
    let scene = Scene::new(spawning(), targets(BOTH));
    scene.cloud.with_faults(|faults| faults.unread = true);
    scene.contain(Mode::Contain);
    scene.drive(|last| last.sweeps > 4);
    let last = scene.last_now();
    assert_eq!(last.phase, Phase::Containing);
    for kind in ["function:us-east-1", "ecs-service:us-east-1"] {
        assert!(
            why(&last.coverage, kind).contains("could not be read"),
            "{:#?}",
            last.coverage
        );
    }
    let settings = scene.cloud.snapshot().settings;
    assert_eq!(
        settings["function:us-east-1/limited"]["reserved"], "0",
        "what is known is capped"
    );
    assert_eq!(settings["function:us-east-1/hot"]["reserved"], "none");

    scene.cloud.with_faults(|faults| faults.unread = false);
    scene.drive(is_contained);
    let settings = scene.cloud.snapshot().settings;
    assert_eq!(settings["function:us-east-1/hot"]["reserved"], "0");
    assert_eq!(settings["ecs-service:us-east-1/main/web"]["desired"], "0");
    assert_eq!(settings["function:us-east-1/theirs"]["reserved"], "none");
}

#[test]
fn a_simulation_that_failed_is_asked_for_again_at_the_next_sweep() {
    let scene = Scene::new(small(), targets(BOTH));
    scene.cloud.with_faults(|faults| faults.simulation_down = true);
    scene.contain(Mode::Contain);
    let healed = Cell::new(None);
    let asked = || {
        let calls = scene.cloud.calls();
        calls
            .into_iter()
            .find(|call| call.operation == "iam:SimulatePrincipalPolicy")
    };
    scene.drive(|last| {
        if is_contained(last) && healed.get().is_none() {
            scene.cloud.with_faults(|faults| faults.simulation_down = false);
            scene.cloud.forget_calls();
            healed.set(Some(scene.clock.now()));
        }
        healed.get().is_some() && asked().is_some()
    });
    let after = asked().unwrap().at.duration_since(healed.get().unwrap());
    assert!(after.as_secs() < 90, "{after}");
}
