//! The sides of the `Cloud` port: AWS, a fleet in memory for rehearsals, and none at all.

pub mod aws;
pub mod disabled;
pub mod rehearsal;
