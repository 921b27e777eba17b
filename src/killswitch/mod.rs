//! The kill switch: drives each containment from its opening to its end.
//!
//! The rules are in `domain::containment`; this room looks, records, acts and looks again. It keeps
//! nothing that matters in memory: a pass begins with what the store holds and what the cloud shows,
//! and every step is recorded before its call and after, so that a crash anywhere is followed by the
//! same pass again (C6).
//!
//! - [`driver`] finds live containments and drives each under a lease; `agenda` says whose turn it is.
//! - [`Creators`] is where whoever reads the cloud's record of calls leaves who made what.
//! - `learn` knows who we are and which regions there are, before anybody needs it.
//! - `sweep` and `restoring` are one pass; `observe` looks, `revoking` and `executor` act, `pass` records;
//!   `evidence` asks IAM's simulation what it thinks of the denies.
//! - [`report`] answers what a containment or a reset would do, and changes nothing; [`drill`] rehearses one with
//!   a `gauge` for a cloud, which can be looked at and not changed.

mod agenda;
mod call;
mod capping;
mod creators;
pub mod drill;
pub mod driver;
mod evidence;
mod executor;
mod gauge;
mod learn;
mod observe;
pub mod pass;
pub mod report;
mod restoring;
mod revoking;
pub mod settings;
mod sweep;
mod tell;

pub use agenda::Next;
pub use creators::Creators;
pub use driver::KillSwitch;
pub use pass::PassError;
pub use settings::KillSettings;
