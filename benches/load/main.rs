//! Load on the real daemon, over its real sockets, on a real disk.
//!
//! `cargo bench --bench load` starts the release binary in a temporary directory and prints what it
//! takes: durable usage reports one by one and in batches, holds with four lines each on one hot line,
//! the latency that a hold adds at a fixed rate, the spend report over a million postings, idle memory.
//! Beside every phase stand the percentiles of the group commit itself, from `/metrics` of the same run,
//! since a commit is a sync of the disk and nothing durable is faster than that. The load is made on one
//! thread of the same machine: what it takes of the processor, the daemon lacks.
//!
//! Arguments after `--`: see `--help`. Every phase has a daemon of its own, so that its percentiles are
//! its own too.

mod client;
mod daemon;
mod fill;
mod machine;
mod phases;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

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
    /// Another binary than the one that cargo built along
    #[arg(long, default_value = BINARY)]
    binary: PathBuf,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// The binary that cargo built for this run.
const BINARY: &str = env!("CARGO_BIN_EXE_backstop");

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }?;
    machine::describe(dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(phases::run(&args, dir.path()))
}
