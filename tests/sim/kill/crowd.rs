//! Many containments at once: each has its turn (C2, C6).

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backstop::domain::containment::state::Mode;
use backstop::domain::containment::target::{CloudTargets, Region};
use backstop::domain::id::AgentId;
use backstop::killswitch::{KillSettings, KillSwitch};
use backstop::ports::Clock as _;
use futures_util::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::crash::{CrashPoint, CrashStore};
use super::fleet::small;
use super::scene::{ACCOUNT, Scene, TAG, is_contained, targets};

const BOTH: &[&str] = &["eu-west-1", "us-east-1"];

/// A scene with this many contained agents, of which `places` are driven at once.
fn crowd(agents: usize, places: usize) -> Scene {
    let scene = Scene::new(small(), targets(BOTH));
    let names: Vec<AgentId> = (0..agents)
        .map(|number| AgentId::new(format!("agent-{number:02}")).unwrap())
        .collect();
    let theirs = |name: &AgentId| CloudTargets {
        account: ACCOUNT.to_owned(),
        principals: Vec::new(),
        tags: BTreeMap::from([(TAG.to_owned(), name.to_string())]),
        regions: vec![Region("us-east-1".to_owned())],
    };
    scene.settings.store(Arc::new(KillSettings {
        targets: names.iter().map(|name| (name.clone(), theirs(name))).collect(),
        concurrent: places,
        ..KillSettings::default()
    }));
    let watch = scene.watch();
    for name in &names {
        scene
            .run(watch.contain(name, Mode::Contain, "operator:test", "test"))
            .unwrap();
    }
    scene
}

#[test]
fn one_hanging_region_keeps_no_containment_from_its_first_pass() {
    // Without a poke, and with one in every second.
    for pokes in [false, true] {
        let scene = crowd(8, 2);
        scene.cloud.with_faults(|faults| {
            faults.hangs.insert(Region("us-east-1".to_owned()));
        });
        let switch = scene.switch();
        scene.run(async {
            let driver = pin!(switch.run(CancellationToken::new()));
            let poker = pin!(async {
                // A pass takes as long as a call may; each agent has had its turn when this is over.
                for _ in 0..400 {
                    scene.clock.sleep(Duration::from_secs(1)).await;
                    if pokes {
                        switch.poke();
                    }
                }
            });
            assert!(matches!(select(driver, poker).await, Either::Right(_)));
        });
        let live = scene.run(scene.store.live_containments()).unwrap();
        let swept: Vec<i64> = live.iter().map(|containment| containment.sweeps).collect();
        assert_eq!(swept.len(), 8);
        assert!(swept.iter().all(|sweeps| *sweeps > 0), "{swept:?}, pokes: {pokes}");
    }
}

#[test]
fn a_store_with_one_connection_is_enough_for_many_passes() {
    let scene = crowd(3, 3);
    // Each call keeps the connection for longer than the driver waits between two looks.
    let narrow = CrashPoint::narrow(scene.clock.clone(), Duration::from_millis(1500));
    let switch = KillSwitch::new(
        Arc::new(CrashStore(scene.store.clone(), narrow)),
        scene.cloud.clone(),
        scene.clock.clone(),
        scene.entropy.clone(),
        scene.settings.clone(),
        scene.heard.clone(),
    );
    scene.run(async {
        let driver = pin!(switch.run(CancellationToken::new()));
        let contained = pin!(async {
            for _ in 0..2_000 {
                if scene.store.live_containments().await.unwrap().iter().all(is_contained) {
                    return;
                }
                scene.clock.sleep(Duration::from_secs(1)).await;
            }
            panic!("never contained");
        });
        assert!(matches!(select(driver, contained).await, Either::Right(_)));
    });
}
