//! The rules against a model fleet: a few lines that do what a plan says, with nothing of the cloud.

mod model;
mod properties;
mod revocation;
mod tables;
