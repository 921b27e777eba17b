//! The ledger's rules: what a commit does to lines, holds and postings.
//!
//! One pure function, [`apply::apply`], decides a whole group commit. A store loads the rows that the
//! batch names (a [`batch::Snapshot`], read inside its write transaction), calls it, and writes the
//! [`batch::Delta`] that comes back. So there is one set of rules for every store, two processes on
//! one file are serialised by the store's own write lock, and a mirror in memory is only a hint.
//!
//! An independent [`auditor`] recomputes every line from postings and holds and shares no code with
//! `apply`.

pub mod apply;
pub mod auditor;
pub mod batch;
pub mod bound;
pub mod hold;
pub mod line;
pub mod posting;
pub mod waitlist;
