//! The integration tests: the real binary, real sockets, the real AWS SDK against an emulator.
//!
//! One binary, so that it is linked once. Each test starts what it needs on ports that the system
//! chooses and stops it by its handle; none depends on another or on a clock.

mod harness;
mod unit;
