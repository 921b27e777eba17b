//! Judgement: from what the ledger found to what is to be done about it, purely.
//!
//! - [`rule`] says what a trigger asks for: whom it concerns and how hard, by the budget's response and
//!   the trust class of the claim (C7).
//! - [`change`] says what that makes of one agent, given where it stands now.
//! - [`reset`] says when an agent may be reset, and what must be raised or lifted first.

pub mod change;
pub mod reset;
pub mod rule;
