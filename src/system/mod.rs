//! The machine's clock and randomness: the only place that asks them; and clocks that do not.

mod accelerated;
mod clock;
mod entropy;
pub mod virtual_time;

pub use accelerated::AcceleratedClock;
pub use clock::SystemClock;
pub use entropy::SystemEntropy;
