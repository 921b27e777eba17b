//! Intake: what comes in as a claim becomes operations of the ledger.

pub mod usage;
