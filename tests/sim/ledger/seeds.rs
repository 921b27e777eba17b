//! Many seeds, and the proof that the oracles see a broken store.

use super::faulty::Lie;
use super::model::Counts;
use super::world::World;
use crate::seeds::{self, caught};

const STEPS: u64 = 60;
/// The auditor and the model look after so many steps, and at the end.
const CHECK_EVERY: u64 = 12;

/// What a run came to.
struct Outcome {
    violations: Vec<String>,
    counts: Counts,
    trace: u64,
    lied: bool,
}

fn run(seed: u64, lie: Option<Lie>) -> Outcome {
    let mut world = World::new(seed, lie);
    for step in 0..STEPS {
        world.step(step);
        if step % CHECK_EVERY == CHECK_EVERY - 1 {
            world.check();
            if !world.model.borrow().violations.is_empty() {
                break;
            }
        }
    }
    if world.model.borrow().violations.is_empty() {
        world.quiesce();
    }
    let lied = world.lied();
    let model = world.model.borrow();
    Outcome {
        violations: model.violations.clone(),
        counts: model.counts.clone(),
        trace: model.trace,
        lied,
    }
}

/// A panic inside a run is a violation like any other.
fn run_caught(seed: u64, lie: Option<Lie>) -> Outcome {
    caught(|| run(seed, lie)).unwrap_or_else(|panic| Outcome {
        violations: vec![panic],
        counts: Counts::default(),
        trace: 0,
        lied: false,
    })
}

fn part(part: u64) {
    let mut counts = Counts::default();
    let all = seeds::part(part, "ledger::seeds::seeds_", |seed| {
        let outcome = run_caught(seed, None);
        counts.merge(&outcome.counts);
        outcome.violations
    });
    eprintln!("{:#?}", counts.0);
    if !all {
        return;
    }
    // A simulation in which something never happens proves nothing about it.
    for what in [
        "admitted",
        "admitted after a wait",
        "refused",
        "frozen",
        "held",
        "unavailable",
        "captured",
        "voided",
        "left",
        "caller gone",
        "reported",
        "report known",
        "report conflict",
        "crash",
        "drained",
        "clock jump",
        "clock skew",
        "reload",
        "freeze",
        "thaw",
        "operated",
        "burst",
        "power loss",
        "power loss, unsynced",
    ] {
        assert!(counts.get(what) > 0, "in no run of part {part} did this happen: {what}");
    }
}

#[test]
fn seeds_part_0() {
    part(0);
}

#[test]
fn seeds_part_1() {
    part(1);
}

#[test]
fn seeds_part_2() {
    part(2);
}

#[test]
fn seeds_part_3() {
    part(3);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (a, b) = (run(7, None), run(7, None));
    assert_eq!((a.trace, a.counts), (b.trace, b.counts));
    assert_ne!(a.trace, run(8, None).trace);
}

/// Runs seeds with a store that lies. Most runs in which it lied must be caught by some oracle, for a
/// lie may have met nobody whom it hurt; and the oracle it was made for must be among them.
fn is_seen(lie: Lie, says: &str) {
    let outcomes: Vec<Outcome> = (0..8).map(|seed| run_caught(seed, Some(lie))).collect();
    let told: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.lied).collect();
    let caught = told.iter().filter(|outcome| !outcome.violations.is_empty()).count();
    let named = told
        .iter()
        .any(|outcome| outcome.violations.iter().any(|violation| violation.contains(says)));
    let told = told.len();
    assert!(told >= 4, "{lie:?} was told in {told} runs only");
    assert!(
        caught * 4 >= told * 3,
        "{lie:?} was told in {told} runs and caught in {caught} of them"
    );
    assert!(named, "{lie:?} was never named by its own oracle: {says}");
}

#[test]
fn a_store_that_drops_acknowledged_reports_is_seen() {
    is_seen(Lie::DropsReports, "L5: report");
}

#[test]
fn a_store_that_drops_captures_is_seen() {
    is_seen(Lie::DropsCaptures, "captured by word and not by the books");
}

#[test]
fn a_store_that_posts_twice_is_seen() {
    is_seen(Lie::PostsTwice, "L5: report");
}

#[test]
fn expiry_that_refunds_is_seen() {
    is_seen(Lie::RefundsExpired, "ended in a way that nobody asked for");
}

#[test]
fn a_freeze_that_does_not_bind_is_seen() {
    is_seen(Lie::IgnoresFreeze, "was admitted while it was frozen");
}

#[test]
fn a_hold_that_is_shrunk_to_fit_is_seen() {
    is_seen(Lie::HoldsLess, "L3: hold");
}

#[test]
fn holds_that_wait_for_ever_are_seen() {
    is_seen(Lie::NeverAdmits, "were not answered");
}
