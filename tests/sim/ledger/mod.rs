//! The ledger: two processes on one store, from a seed.
//!
//! [`crate::seeds`] says which seeds are run; one that is run alone says what happened.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failed unwrap is the failed test")]

mod budgets;
mod calls;
mod clock;
mod disk;
mod executor;
mod faulty;
mod lab;
mod model;
mod seeds;
mod service;
mod world;
