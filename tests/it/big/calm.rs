//! The plain test: a breach, a containment, a reset; and what it took.

use super::AGENT;
use super::contained::{assert_contained, assert_report, assert_restored, seconds};
use super::record::{assert_sound, counted, reads};
use super::world::World;
use crate::harness::daemon::Daemon;
use crate::harness::fault_proxy::Asked;
use crate::harness::site::SOON;
use crate::harness::wait;

/// What memory the daemon has and had at most, in MiB.
fn memory(daemon: &Daemon) -> (u64, u64) {
    let pid = daemon.process().pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.expect("a number of KiB")
    };
    (kib("VmRSS:") / 1_024, kib("VmHWM:") / 1_024)
}

fn tell(what: &str, asked: &[Asked]) {
    eprintln!("{what}: {} calls", asked.len());
    for (operation, count) in counted(asked) {
        eprintln!("  {count:>5} {operation}");
    }
}

#[tokio::test]
async fn five_hundred_machines_are_contained_and_put_back_exactly() {
    let world = World::new().await;
    let built = &world.built;
    let ours = built.of(AGENT, "instance");
    assert_eq!(ours.len(), 500);
    for (kind, count) in [("group", 12), ("ecs-service", 30), ("function", 40)] {
        assert_eq!(built.of(AGENT, kind).len(), count, "{kind}");
    }
    let untagged = built.untagged();
    assert_eq!(untagged.iter().filter(|id| ours.contains(*id)).count(), 50);
    let run = world.run().await;
    let site = &run.site;
    assert!(run.agent_may_act().await);
    assert_eq!(run.running(&ours).await, ours);

    // The watcher sees all of it, what only the record of calls names included.
    let daemon = site.start().await;
    run.until_seen(&daemon).await;
    eprintln!("memory after the first look: {:?} MiB now and at most", memory(&daemon));
    let before = run.proxy.take_asked();
    assert!(before.iter().all(reads), "it has only looked");

    run.breach(&daemon).await;
    let told = run.until_contained(&daemon, &ours).await;
    let asked = run.proxy.take_asked();
    let memory_then = memory(&daemon);
    assert_contained(&run).await;
    assert_report(built, &told, true);
    assert!(
        told["reason"].as_str().is_some_and(|why| why.contains("pocket")),
        "{}",
        told["reason"]
    );
    let shown = site.ok(&["status", AGENT]).await;
    for part in [
        "stopped (503):",
        "capped (82):",
        "ended (48):",
        "STILL BURNING",
        "an hour of $",
        "seconds from",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    eprintln!("from the breach: {}", seconds(&told));
    eprintln!("sweeps until contained: {}", told["containment"]["sweeps"]);
    eprintln!("memory while contained: {memory_then:?} MiB now and at most");
    tell("a containment", &asked);

    // It is held: further sweeps look and change nothing.
    let sweeps = |told: &serde_json::Value| told["containment"]["sweeps"].as_i64().unwrap_or_default();
    let begun = run.proxy.take_asked();
    let first = sweeps(&site.json(&["status", AGENT]).await);
    let next = wait::until("two more sweeps", SOON, async || {
        let now = sweeps(&site.json(&["status", AGENT]).await);
        (now >= first + 2).then_some(now)
    })
    .await;
    let held = run.proxy.take_asked();
    assert!(held.iter().all(reads), "a quiet sweep changes nothing");
    tell(&format!("{} quiet sweeps", next - first), &held);

    site.ok(&["reset", AGENT, "--raise", "100000", "--yes"]).await;
    run.until_active(&daemon).await;
    assert_restored(&run).await;
    let reset = run.proxy.take_asked();
    tell("a reset", &reset);
    assert_eq!(site.json(&["ledger", "verify"]).await["ok"], true);
    let all: Vec<Asked> = [before, asked, begun, held, reset].concat();
    assert_sound(&world, &all).await;
    assert!(daemon.stop().await.success());
}
