//! The binary: arguments in, an exit status out. Everything else is the library's.

use std::process::ExitCode;

use backstop::app;
use backstop::cli::{self, Entry};

fn main() -> ExitCode {
    cli::main(Entry {
        serve: app::serve,
        demo: app::demo,
    })
}
