//! Backstop: a hard cost cap and a cloud kill switch for autonomous AI agents.
//!
//! # The way of the data
//! Signals (gateway calls, usage reports, holds, operator imports) become postings and holds in the
//! ledger; judgement (budgets) looks at the ledger; enforcement refuses, pauses and contains. Each
//! arrow goes one way: a signal never stops a machine itself, a judgement does no I/O, and an
//! enforcement never reads a bill.
//!
//! # The promises
//! Doc comments, predicates and tests carry these numbers.
//!
//! Ledger
//! - **L1** For every line, posted is the sum of its entries. Nothing edits or deletes a posting; a
//!   correction is a posting that names what it corrects.
//! - **L2** posted + held <= limit on every line, except for a flagged overage.
//! - **L3** Every hold ends exactly once: captured, voided or unresolved. Expiry charges.
//! - **L4** Nothing goes upstream before a durable hold covers its worst case on every line.
//! - **L5** A usage report that was acknowledged is on disk.
//! - **L6** One report id, one posting; the same id with another body is a conflict.
//! - **L7** Unknown is never zero.
//!
//! Containment
//! - **C1** Nothing is changed in the cloud before what was there is recorded and read back.
//! - **C2** Containment is a state that is held until reset, not an event.
//! - **C3** *Contained* is claimed only after observation; what cannot be stopped is *still burning*.
//! - **C4** Restore puts back exactly what we changed and nothing that someone else changed since.
//! - **C5** The guard's own role, host and break-glass principals are never targets.
//! - **C6** A crash at any point resumes and ends in the same state as no crash; one driver at a time.
//! - **C7** A report is a claim with a trust class; a claim never acts harder than its class allows.
//!
//! Decisions
//! - **D1** No matching rule means deny.
//! - **D2** A pause loses nothing.
//! - **D3** Every decision is in the audit log, a hash chain whose heads are signed.
//! - **D4** A dead store, a full disk, a jumping clock fails closed for new spend.
//!
//! # The house
//! `domain` is pure and knows nobody; `ports` knows `domain`. Adapters (`store`, `cloud`, `upstream`,
//! `system`, `config`) and services (`ledger`, `intake`, `gateway`, `fleet`, `watch`, `killswitch`, `tools`,
//! `audit`, `hooks`) know both and not each other, but for the few that `tests/tidy.rs` lists with a reason; the
//! edges (`http`, `cli`) may know services, and no service knows an edge. Only `app` sees all.
//! `system`, `config`) and services (`ledger`, `intake`, `gateway`, `watch`, `killswitch`, `tools`,
//! `audit`, `hooks`, `doctor`) know both and not each other, but for the few that `tests/tidy.rs` lists with a
//! reason; the edges (`http`, `cli`) may know services, and no service knows an edge. Only `app` sees all.
//! `domain` is pure and knows nobody; `ports` knows `domain`. Adapters (`store`, `cloud`, `upstream`, `system`,
//! `config`) and services (`ledger`, `intake`, `gateway`, `fleet`, `watch`, `killswitch`, `tools`, `audit`, `hooks`) know both and not
//! each other, but for the few that `tests/tidy.rs` lists with a reason; the edges (`http`, `cli`) may
//! know services, and no service knows an edge. Only `app` sees all.

pub mod app;
pub mod audit;
pub mod cli;
pub mod cloud;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod fleet;
pub mod gateway;
pub mod hooks;
pub mod http;
pub mod intake;
pub mod killswitch;
pub mod ledger;
pub mod ports;
pub mod store;
pub mod system;
pub mod tools;
pub mod upstream;
pub mod watch;
