//! The edge of the audit log: the key that signs its heads, the file that they are exported to, and the
//! comparison of the log with them (D3).
//!
//! The chain itself is made by the store, inside its transactions, with the rule in `domain::audit`.
//! What lives here makes rewriting it visible: every so many entries, or so many seconds, the end of the
//! chain is signed and appended to a file outside the store, which an operator copies away. Before it
//! signs, the signer follows the chain from the head that it signed last, so it never puts its name to a
//! history that was changed; it stops and says where the break is.
//!
//! What it cannot show: entries that were written after the last export and cut off before the next.

mod error;
mod heads;
mod key;
mod refusals;
mod run;
mod signer;
mod verify;

pub use error::AuditError;
pub use heads::{HeadsFile, read_heads};
pub use key::{load_or_create, public_pem};
pub use refusals::Refusals;
pub use run::{AuditHealth, AuditTask};
pub use signer::{Cadence, Signer};
pub use verify::{Checked, verify};
