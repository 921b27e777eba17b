//! The binary: arguments in, an exit status out. Everything else is the library's.

use std::process::ExitCode;

use backstop::app;
use backstop::cli::{self, Entry};
use mimalloc::MiMalloc;

/// A call is many small allocations that one thread makes and another frees.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main(Entry {
        serve: app::serve,
        demo: app::demo,
        examine: app::examine,
    })
}
