//! Simulations: one thread, virtual time, seeds.

mod kill;
mod ledger;
