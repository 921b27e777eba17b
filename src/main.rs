//! The binary: arguments in, an exit status out. Everything else is the library's.

use std::process::ExitCode;

use backstop::cli::{self, DemoOptions, Entry, ServeOptions};

fn main() -> ExitCode {
    cli::main(Entry { serve, demo })
}

fn serve(_options: ServeOptions) -> anyhow::Result<()> {
    anyhow::bail!("this build has no daemon yet")
}

fn demo(_options: DemoOptions) -> anyhow::Result<()> {
    anyhow::bail!("this build has no demo yet")
}
