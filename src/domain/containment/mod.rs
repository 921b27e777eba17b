//! The kill switch's rules: which targets, what was there, what to do next, what is proved.
//!
//! Containment is held as a reconciliation, not run as a script (C2): each sweep observes, plans from
//! what is observed and what is recorded, acts, and observes again. So a crash at any point resumes by
//! doing the same thing (C6), and what appears during a containment is stopped by the next sweep.

mod assets;
pub mod attribution;
pub mod canary;
pub mod coverage;
pub mod deny;
pub mod folding;
pub mod guard;
pub mod hourly;
pub mod image;
mod lift;
pub mod memory;
pub mod observed;
mod ownership;
pub mod plan;
pub mod restore;
mod revoke;
mod spawners;
pub mod state;
pub mod steps;
mod stop;
pub mod target;
pub mod timeline;
mod uncap;
pub mod worth;

pub use revoke::{contradicted, plan_principals};
pub use spawners::{SpawnerPlan, plan_spawners};
pub use stop::{plan_region, resource};

#[cfg(test)]
mod tests;
