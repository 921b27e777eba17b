//! The two sides of the `Cloud` port: AWS, and a fleet in memory to rehearse on.

pub mod aws;
//! The sides of the `Cloud` port: AWS, a fleet in memory for rehearsals, and none at all.

pub mod aws;
pub mod disabled;
pub mod rehearsal;
