//! Load on the real daemon, over its real sockets, on a real disk.
//!
//! `cargo bench --bench load` starts the release binary in a temporary directory and prints what it
//! takes: durable usage reports one by one and in batches, holds with four lines each on one hot line,
//! the latency that a hold adds at a fixed rate, the spend report over a million postings, idle memory.
//! Beside every phase stand the percentiles of the group commit itself, from `/metrics` of the same run,
//! since a commit is a sync of the disk and nothing durable is faster than that. The load is made on one
//! thread of the same machine: what it takes of the processor, the daemon lacks.
//!
//! `cargo bench --bench load -- --phases gateway` measures the gateway with a provider that costs next to
//! nothing and a load generator of others: `oha`, which `cargo install oha --locked` brings.
//!
//! Arguments after `--`: see `--help`. Every phase has a daemon of its own, so that its percentiles are
//! its own too.

mod client;
mod daemon;
mod fill;
mod gateway;
mod machine;
mod phases;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Load on the real daemon.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds a phase
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Connections of the saturating phases
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second of the phase at a fixed rate; half of them place a hold, half capture it
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// Postings under the spend report
    #[arg(long, default_value_t = 1_000_000)]
    postings: u64,
    /// A directory on the disk to measure
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What to measure
    #[arg(long, value_enum, default_value_t = Phases::Ledger)]
    phases: Phases,
    /// The load generator of the gateway's phases
    #[arg(long, default_value = "oha")]
    oha: PathBuf,
    /// Be the provider of the gateway's phases, and write the address to this file
    #[arg(long, hide = true)]
    mock: Option<PathBuf>,
    /// Another binary than the one that cargo built along
    #[arg(long, default_value = BINARY)]
    binary: PathBuf,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phases {
    /// Reports, holds, the spend report: no provider is needed
    Ledger,
    /// Calls through the gateway, beside the same calls without it
    Gateway,
    All,
}

/// The binary that cargo built for this run.
const BINARY: &str = env!("CARGO_BIN_EXE_backstop");

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(file) = &args.mock {
        return gateway::mock::serve(file);
    }
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }?;
    machine::describe(dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.phases != Phases::Gateway {
        runtime.block_on(phases::run(&args, dir.path()))?;
    }
    if args.phases != Phases::Ledger {
        let place = dir.path().join("gateway");
        std::fs::create_dir(&place)?;
        runtime.block_on(gateway::run(&args, &place))?;
    }
    Ok(())
}
