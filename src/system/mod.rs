//! The machine's clock and randomness: the only place that asks them.

mod accelerated;
mod clock;
mod entropy;

pub use accelerated::AcceleratedClock;
pub use clock::SystemClock;
pub use entropy::SystemEntropy;
