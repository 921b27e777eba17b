//! The rules, as pure functions: time and randomness are arguments, and nothing here does I/O.

pub mod id;
pub mod money;
