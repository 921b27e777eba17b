//! What people and outside systems are told. SNS, Lambda and webhooks come with a later issue; what is
//! here now is the log and the metrics.

mod log;

pub use log::LogNotifier;
