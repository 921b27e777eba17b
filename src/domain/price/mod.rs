//! Prices: what a unit of each kind costs, and what a usage therefore costs.
//!
//! A [`PriceEntry`] is what one model costs at one service: rates per token class, in bands by service
//! tier and by the size of the input, and rates for what is not counted in tokens. A [`Catalogue`] finds
//! the entry for a (service, model): the operator's overrides first, then an imported list, then the
//! built-in list. [`settle()`] turns a provider's reported usage into money, [`worst_case()`] a bound on a
//! call into the bound of its hold.
//!
//! Two rules govern all of it. Each unit is counted once: the classes of a [`Usage`] are disjoint, since
//! the parsers in `wire` take subsets out of their totals. And **L7**, unknown is never zero: a class that
//! has no rate takes the highest rate that could apply, an unknown model is refused or charged at a
//! configured ceiling, and a list that prices something at nothing must say that it is free.
//!
//! What it must never do: use a float, round more than once, or let a missing price lower a sum.

mod builtin;
mod catalogue;
mod entry;
mod file;
pub mod litellm;
mod rate;
mod raw;
mod resolve;
mod settle;
mod usage;
mod worst_case;

#[cfg(test)]
mod tests;

pub use builtin::builtin;
pub use catalogue::{Catalogue, Ceiling, Layer, LookupRejection, Quote};
pub use entry::{Band, MAX_BANDS, PriceEntry, Provenance, SourceKind, UnitRates, Uplifts};
pub use file::{PriceFileRejection, read_prices, write_prices};
pub use rate::{Permille, Rate, RateRejection, Rates};
pub use raw::{RawBand, RawPrice, RawPriceRejection, RawUplifts};
pub use settle::{SettleRejection, settle};
pub use usage::{MICROS_PER_SECOND, Region, ServiceTier, TokenClass, Tokens, Usage};
pub use worst_case::{CallBound, output_rate, worst_case};
