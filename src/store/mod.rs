//! The stores: every one keeps the same promises behind `ports::Store`, and one conformance suite
//! (`tests/store`) runs every test against every one of them.

pub mod memory;
pub mod sqlite;
