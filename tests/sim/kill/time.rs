//! Virtual time and ids that are the same in every run: the library's own, which panic here where a run cannot
//! go on.

use std::future::Future;

use backstop::system::virtual_time;

pub use backstop::system::virtual_time::{Counting, VirtualClock};

/// Runs a future to its end in virtual time.
pub fn run<T>(clock: &VirtualClock, future: impl Future<Output = T>) -> T {
    virtual_time::run(clock, future).unwrap()
}
