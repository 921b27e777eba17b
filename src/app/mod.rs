//! The composition root: builds the daemon out of its rooms, supervises it, drains it.
//!
//! Only this room sees all the others. `serve` builds it on the machine's clock, the SQLite store and
//! AWS; `demo` builds the same daemon on an accelerated clock and the rehearsal fleet; `incidents` builds what
//! stands against an incident in the cloud, in virtual time; `examine` looks at the cloud for a command, without
//! a daemon.

mod addresses;
mod catalogue;
mod daemon;
mod demo;
mod doctor;
pub mod incidents;
mod reload;
mod retention;
mod serve;
mod settings;
mod supervise;
mod systemd;

pub use demo::demo;
pub use doctor::examine;
pub use serve::serve;
