//! The fleet's watcher on the rehearsal fleet, the ledger and the memory store, in virtual time.
//!
//! The oracle is the fleet itself: what its machines have cost ([`Rehearsal::spent`]) is what is posted, but
//! for what is charged until the first look that does not show a machine any more.
//!
//! [`Rehearsal::spent`]: backstop::cloud::rehearsal::Rehearsal::spent

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is the failed test, in its helpers too"
)]

mod accrual;
mod crashes;
mod lab;
mod limits;
mod looks;
mod times;
