//! What the integration tests stand on: the emulator, the daemon under test, and waiting.
//!
//! Nothing here knows what Backstop promises; it starts and stops processes, and says clearly why when
//! it cannot. A fault in it shows as a panic with the output of the process concerned.

pub mod account;
pub mod daemon;
pub mod fault_proxy;
pub mod fuse;
pub mod moto;
pub mod order;
pub mod permitted;
pub mod policy;
pub mod process;
pub mod raw;
pub mod scarce;
pub mod serve;
pub mod site;
pub mod strace;
pub mod switch;
pub mod venv;
pub mod wait;
pub mod weather;
