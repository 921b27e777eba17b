//! The two sides of the `Cloud` port.

pub mod rehearsal;
