//! The same in bad weather: a fifth of all calls fail, and the daemon dies again and again.
//!
//! `cargo test --test it` runs five seeds. `BIG_SEEDS=50` runs more, `BIG_SEED=17` runs one. Each seed has its own
//! copy of the account, its own weather, and its own deaths: each at a request of some number, which was carried
//! out or was not, and which nobody was left to hear the answer of.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::Value;

use super::AGENT;
use super::contained::{assert_contained, assert_report, assert_restored, seconds};
use super::record::assert_sound;
use super::world::{LONG, Run, World};
use crate::harness::daemon::Daemon;
use crate::harness::wait;
use crate::harness::weather::{Weather, numbers};

const SEEDS: u64 = 5;
/// Of a hundred calls so many fail.
const PERCENT: u64 = 20;
/// Seeds at once: the machine has two cores.
const AT_ONCE: usize = 2;
/// Deaths in a containment, and in a reset.
const DEATHS: usize = 2;
/// A death comes within so many requests of its beginning.
const WITHIN: u64 = 400;

#[expect(clippy::disallowed_methods, reason = "how a person names a seed to a test binary")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

#[tokio::test]
async fn faults_and_deaths_end_as_none() {
    let world = World::new().await;
    let seeds: Vec<u64> = match number("BIG_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("BIG_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let runs = seeds.into_iter().map(async |seed| {
        let ended = AssertUnwindSafe(storm(&world, seed)).catch_unwind().await;
        ended.is_err().then_some(seed)
    });
    let failed: Vec<Option<u64>> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<u64> = failed.into_iter().flatten().collect();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; one is run again with: BIG_SEED={} cargo test --test it big::storms -- --nocapture",
        failed[0]
    );
}

async fn storm(world: &World, seed: u64) {
    eprintln!("seed {seed} begins");
    let run = world.run().await;
    let ours = world.built.of(AGENT, "instance");
    run.proxy.weather(Some(Weather::new(seed, PERCENT)));
    let daemon = run.site.start().await;
    if seed.is_multiple_of(2) {
        run.breach(&daemon).await;
    } else {
        run.site.ok(&["contain", AGENT, "--yes"]).await;
    }
    let (daemon, deaths) = deaths(&run, daemon, seed, Phase::Containing).await;
    run.until_contained(&daemon, &ours).await;
    assert_contained(&run).await;
    // Once the weather is calm the report is what it would have been without all that.
    let weather = run.proxy.weather(None);
    let told = run.until_swept_again(&daemon, &ours).await;
    assert_report(&world.built, &told, false);
    eprintln!("seed {seed}: {}", seconds(&told));
    run.proxy.weather(weather);

    run.site.ok(&["reset", AGENT, "--raise", "100000", "--yes"]).await;
    let (daemon, more) = self::deaths(&run, daemon, seed, Phase::Restoring).await;
    run.until_active(&daemon).await;
    let weather = run.proxy.weather(None).expect("it was set");
    assert_restored(&run).await;
    assert_eq!(run.site.json(&["ledger", "verify"]).await["ok"], true);
    let log = daemon.log();
    let faults: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("panicked") || line.contains(" ERROR "))
        .collect();
    assert_eq!(faults, Vec::<&str>::new());
    assert!(daemon.stop().await.success());
    let asked = run.proxy.take_asked();
    eprintln!(
        "seed {seed}: {} requests, {deaths} and {more} deaths, faults {:?}",
        asked.len(),
        weather.met()
    );
    assert_sound(world, &asked).await;
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Containing,
    Restoring,
}

impl Phase {
    fn is_over(self, shown: &Value) -> bool {
        match self {
            Self::Containing => shown["containment"]["phase"] == "contained",
            Self::Restoring => shown["status"] == "active",
        }
    }
}

/// Lets the daemon die, each time at a request that the seed names; how often it did before the phase was over.
async fn deaths(run: &Run<'_>, daemon: Daemon, seed: u64, phase: Phase) -> (Daemon, usize) {
    let mut daemon = daemon;
    for death in 0..DEATHS {
        let mut drawn = numbers(seed, &format!("{phase:?}/{death}"));
        let at = drawn.next().unwrap_or_default() % WITHIN + 1;
        let is_carried_out = drawn.next().unwrap_or_default().is_multiple_of(2);
        run.proxy
            .set_trap(usize::try_from(at).expect("a small number"), is_carried_out);
        let over = wait::try_until(LONG, async || {
            let shown = run.site.json(&["status", AGENT]).await;
            phase.is_over(&shown).then_some(())
        });
        let has_died = tokio::select! {
            () = run.proxy.sprung() => true,
            _ = over => false,
        };
        if !has_died {
            run.proxy.disarm();
            return (daemon, death);
        }
        daemon.kill();
        daemon = run.site.start().await;
    }
    (daemon, DEATHS)
}
