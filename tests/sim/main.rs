//! Simulations: one thread, virtual time, seeds.

mod fleet;
mod gateway;
mod incidents;
mod kill;
mod ledger;
mod rng;
mod seeds;
