//! The cloud side of an agent: the production adapter of the `Cloud` port.

pub mod aws;
