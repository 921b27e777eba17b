//! The rules against a model fleet: a few lines that do what a plan says, with nothing of the cloud.

pub(super) mod model;
mod properties;
mod revocation;
mod spawners;
mod tables;
mod uncap;
