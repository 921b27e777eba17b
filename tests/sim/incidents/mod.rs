//! Incidents in the cloud against the real watcher, ledger, judgement and kill switch, in virtual time.
//!
//! `backstop demo 500-services` and `backstop demo network-scan` print the tables;
//! `cargo test --test sim incidents -- --nocapture` says how long it takes from the first machine that is too
//! much to the first call that stops one.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is the failed test, in its helpers too"
)]

mod figures;
mod large;
mod reaction;
