//! The two sides of the `Cloud` port: AWS, and a fleet in memory to rehearse on.

pub mod aws;
pub mod rehearsal;
