//! A usage report: what an agent, or an operator on its behalf, says was spent outside the gateway.
//!
//! A row carries an id that makes it idempotent (L6), who and what it belongs to, and either the usage
//! object exactly as the provider's API returned it, or a plain amount. Usage is better: Backstop prices
//! it from its own catalogue, so that a mistake in the agent's arithmetic cannot lower its spend.

mod charge;
mod fields;
mod hold;
mod row;
mod tasks;

pub use charge::{Charged, charge, price};
pub use hold::{CaptureRow, HoldRow, MAX_TTL_S, parse_capture, parse_hold};
pub use row::{Charge, ReportRow, RowLimits, parse};
pub use tasks::{NameMeter, drop_name};
