//! Which seeds a simulation runs, and how one that fails is named.
//!
//! `cargo test --test sim` runs 200 seeds of each. `SIM_SEEDS=5000` runs more, `SIM_SEED=17` runs one. A
//! failing seed prints itself and the command that runs it again, whatever failed: what a run found, a panic
//! of the run, or one that a task of it kept to itself.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use tokio::task::JoinSet;

const SEEDS: u64 = 200;

/// The seeds of a simulation are run in so many tests, so that they use more than one core.
pub const PARTS: u64 = 4;

/// Violations that are printed.
const SHOWN: usize = 10;

#[expect(clippy::disallowed_methods, reason = "how a person names a seed to a test binary")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
    })
}

/// Runs part of the seeds; what `run` gives is what was wrong with its seed. Returns whether these were enough
/// to have shown everything that can happen.
///
/// # Panics
/// With the first seed that something is wrong with.
pub fn part(part: u64, tests: &str, mut run: impl FnMut(u64) -> Vec<String>) -> bool {
    let mut run_one = |seed| {
        let violations = caught(|| run(seed)).unwrap_or_else(|panic| vec![panic]);
        assert!(violations.is_empty(), "{}", complain(seed, tests, &violations));
    };
    if let Some(seed) = number("SIM_SEED") {
        if part == 0 {
            run_one(seed);
        }
        return false;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    (0..seeds).filter(|seed| seed % PARTS == part).for_each(run_one);
    seeds >= SEEDS
}

/// A panic inside a run is a violation like any other: the seed has to be printed.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        format!("panic: {}", text.unwrap_or_default())
    })
}

fn complain(seed: u64, tests: &str, violations: &[String]) -> String {
    let mut text = format!("seed {seed} broke {} times:\n", violations.len());
    for violation in violations.iter().take(SHOWN) {
        text.push_str("  ");
        text.push_str(violation);
        text.push('\n');
    }
    text + &format!("run it again with: SIM_SEED={seed} cargo test --test sim {tests} -- --nocapture")
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What panicked in this thread since the last time, also where a task kept it to itself.
pub fn panics() -> Vec<String> {
    PANICS.take()
}

/// From now on panics are kept for [`panics`], and told as before.
pub fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            tell(panic);
        }));
    });
    PANICS.take();
}

#[test]
fn a_panic_that_a_task_keeps_to_itself_is_known() {
    keep_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let task = async { panic!("nobody looks") };
    let ended = runtime.block_on(async { JoinSet::from_iter([task]).join_next().await });
    assert!(ended.is_some_and(|ended| ended.is_err_and(|error| error.is_panic())));
    assert!(matches!(&panics()[..], [one] if one.contains("nobody looks")));
    assert!(panics().is_empty());
}

#[test]
#[should_panic(expected = "run it again with: SIM_SEED=0 cargo test --test sim here -- --nocapture")]
fn a_seed_that_fails_says_how_to_run_it_again() {
    part(0, "here", |seed| vec![format!("{seed} is wrong")]);
}
