//! The configuration: a raw tree with origins, read into validated settings.
//!
//! `config.toml` at the root of the repository is the manual, and it is compiled in: what it says is
//! the default. A user's file is laid over it key by key, and the environment over both
//! (`BACKSTOP__SECTION__KEY`). Every value remembers where it was written, so that a [`Loader`] reports
//! *every* mistake at once, each with file, line, key and a hint, and not just the first one.
//!
//! What it must never do: panic on an input, echo a value that could be a secret, or let a key that
//! it does not know pass in silence.

mod agents;
mod arn;
mod budgets;
mod cloud;
mod cross;
pub mod edit;
pub mod environment;
mod gateway;
pub mod load;
pub mod manifests;
pub mod price_files;
pub mod problem;
mod reader;
mod references;
pub mod reload;
mod report;
pub mod secret;
mod sections;
pub mod settings;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod upstreams;
mod values;
mod window;

pub use edit::write_atomically;
pub use environment::Environment;
pub use load::{BUILT_IN, Loaded, Loader, find};
pub use problem::{Problem, Problems, Severity};
pub use reload::{BudgetChange, Change, LiveSettings, ManifestChange};
pub use secret::Secret;
pub use settings::Settings;
pub use values::{duration as parse_duration, show_duration};
