//! The service, one promise at a time.

mod agents;
mod bounds;
mod callers;
mod failures;
mod later;
mod lifecycle;
mod reports;
mod waiting;
