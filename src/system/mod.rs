//! The machine's clock and randomness: the only place that asks them.

mod clock;
mod entropy;

pub use clock::SystemClock;
pub use entropy::SystemEntropy;
