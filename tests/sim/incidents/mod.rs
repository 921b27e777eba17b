//! Incidents in the cloud against the real watcher, ledger, judgement and kill switch, in virtual time.
//!
//! `cargo test --test sim incidents -- --nocapture` prints the tables of the README, and how long it takes
//! from the first machine that is too much to the first call that stops one.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is the failed test, in its helpers too"
)]

mod figures;
mod large;
mod reaction;
