//! The service, one promise at a time.

mod callers;
mod failures;
mod lifecycle;
mod reports;
mod waiting;
