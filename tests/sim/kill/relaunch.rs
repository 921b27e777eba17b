//! Something keeps starting machines while the agent is contained: sweeps win, and the report says how much
//! was burnt meanwhile.

use std::pin::pin;
use std::time::Duration;

use backstop::cloud::rehearsal::fleet::MachineSpec;
use backstop::cloud::rehearsal::functions::FunctionSpec;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::state::{Mode, Phase};
use backstop::domain::money::Usd;
use backstop::ports::Clock as _;
use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::fleet::{base, owned, prices};
use super::scene::{Scene, TAG, is_contained, targets};

fn relaunched() -> MachineSpec {
    MachineSpec::new("us-east-1", "m7g.large").tag(TAG, "agent")
}

#[test]
fn what_others_keep_starting_is_stopped_for_as_long_as_they_do() {
    let mut fleet = base(&["us-east-1"]).machine(owned("us-east-1", "i-1"));
    fleet.prices = prices();
    let scene = Scene::new(fleet, targets(&["us-east-1"]));
    scene.contain(Mode::Contain);
    let spent = scene.cloud.spent();
    let switch = scene.switch();
    // Credentials that nobody declared: no deny keeps them from it.
    let mut launched = 0;
    scene.run(async {
        let launcher = pin!(async {
            for _ in 0..120 {
                scene.cloud.add(relaunched());
                launched += 1;
                scene.clock.sleep(Duration::from_secs(5)).await;
            }
        });
        let driver = pin!(switch.run(CancellationToken::new()));
        assert!(matches!(select(launcher, driver).await, Either::Left(_)));
    });
    let busy = scene.last_now();
    let up = scene
        .cloud
        .snapshot()
        .machines
        .values()
        .filter(|state| state.is_chargeable())
        .count();
    assert!(up < 6, "{up} of {launched} run: the sweeps keep up");
    scene.drive(|last| is_contained(last) && last.sweeps > busy.sweeps);
    assert_eq!(scene.cloud.snapshot().count(InstanceState::Stopped), 121);
    let last = scene.last_now();
    let burnt = last.coverage.burnt.unwrap().usd;
    let truly = scene.cloud.spent().saturating_sub(spent);
    assert!(burnt >= truly, "{burnt} is said, {truly} was spent");
    assert!(burnt.nanos() < 4 * truly.nanos(), "{burnt} is said, {truly} was spent");
    let burn = last.coverage.burn.unwrap();
    assert_eq!(burn.now, Usd::ZERO);
    assert!(burn.before > Usd::ZERO);
}

#[test]
fn a_function_that_keeps_starting_machines_is_capped_and_that_is_the_end_of_it() {
    let every = Duration::from_secs(3);
    let function = FunctionSpec::new("us-east-1", "scheduler", Usd::ZERO)
        .tag(TAG, "agent")
        .launching(relaunched(), every);
    let mut fleet = base(&["us-east-1"]).function(function);
    fleet.prices = prices();
    let scene = Scene::new(fleet, targets(&["us-east-1"]));
    scene.run(scene.clock.sleep(Duration::from_secs(60)));
    let before = scene.cloud.snapshot().machines.len();
    assert!(before >= 20);
    scene.contain_and_wait();
    let contained = scene.cloud.snapshot();
    assert!(contained.machines.len() < before + 5, "it was the first to be halted");
    assert_eq!(contained.count(InstanceState::Running), 0);
    scene.run(scene.clock.sleep(Duration::from_secs(600)));
    assert_eq!(scene.cloud.snapshot(), contained);
    assert_eq!(scene.last_now().phase, Phase::Contained);
    scene.reset_and_wait(&[]);
    assert_eq!(
        scene.cloud.snapshot().settings["function:us-east-1/scheduler"]["reserved"],
        "none"
    );
}
