//! Simulations: one thread, virtual time, seeds.

mod fleet;
mod gateway;
mod kill;
mod ledger;
mod rng;
mod seeds;
