//! The kill switch and judgement on the rehearsal fleet and the memory store, in virtual time.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is the failed test, in its helpers too"
)]

mod attribution;
mod calls;
mod canary;
mod crash;
mod crashes;
mod crowd;
mod cycle;
mod drill;
mod faults;
mod fleet;
mod held;
mod judgement;
mod late;
mod members;
mod relaunch;
mod resets;
mod revocation;
mod scene;
mod spawners;
mod time;
mod unread;

pub use crash::{CrashCloud, CrashPoint, CrashStore, When};
pub use time::{Counting, VirtualClock, run};
