//! The ledger: two processes on one store, from a seed.
//!
//! `cargo test --test sim` runs 200 seeds. `SIM_SEEDS=5000` runs more, `SIM_SEED=17` runs one and says
//! what happened. A failing seed prints itself and the command that runs it again.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failed unwrap is the failed test")]

mod budgets;
mod calls;
mod clock;
mod disk;
mod executor;
mod faulty;
mod lab;
mod model;
mod rng;
mod seeds;
mod service;
mod world;
