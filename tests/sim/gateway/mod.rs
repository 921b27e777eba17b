//! The gateway: every ending of a call, with a provider that does what it is told and a ledger in memory.
//!
//! Virtual time: an hour's wait takes none, and the order of what happens does not depend on the machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failed unwrap is the failed test")]

mod answers;
mod clients;
mod crowds;
mod endings;
mod lab;
mod provider;
mod random;
mod states;
mod streams;
mod time;
