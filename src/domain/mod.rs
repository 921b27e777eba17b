//! The rules, as pure functions: time and randomness are arguments, and nothing here does I/O.

pub mod agent;
pub mod audit;
pub mod budget;
pub mod burn;
pub mod call;
pub mod clock;
pub mod containment;
pub mod doctor;
pub mod drill;
pub mod fleet;
pub mod iam;
pub mod id;
pub mod judgement;
pub mod ledger;
pub mod manifest;
pub mod money;
pub mod price;
pub mod rejection;
pub mod report;
pub mod review;
pub mod window;
pub mod wire;
