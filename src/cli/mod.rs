//! The command line: arguments in, an exit status out.
//!
//! Every command but `serve`, `demo`, `check`, `manifest check`, `aws policy` and a local `doctor` is a client of the admin
//! API, so what an operator can do from here is what the API allows, with its checks and its audit log,
//! and nothing is done behind the daemon's back. The one exception is what belongs to the operator: the
//! config file (`agent add`) and the price files beside the ledger (`prices import`), which the daemon is
//! then told to load.
//!
//! A command that destroys prints its impact first and does nothing without `--yes`.

pub mod agent;
pub mod args;
pub mod audit;
pub mod aws;
pub mod budget;
pub mod check;
pub mod client;
pub mod contain;
mod context;
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod failure;
pub mod fleet;
mod impact;
pub mod ledger;
pub mod lifecycle;
pub mod manifest;
pub mod output;
pub mod prices;
pub mod reset;
pub mod review;
pub mod serve;
pub mod spend;
pub mod status;
mod unit;
pub mod usage;
mod when;

use std::pin::Pin;
use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use context::Context;
use failure::Failure;

use crate::config::{Environment, Loaded, Loader, Settings};
use crate::domain::doctor::Report;

/// What only the composition root can do; `main` hands it over, so that this room knows no other.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Runs the daemon until it is told to stop.
    pub serve: fn(ServeOptions) -> anyhow::Result<()>,
    /// Runs the demo; an error if one of its own checks fails.
    pub demo: fn(DemoOptions) -> anyhow::Result<()>,
    /// Examines the cloud from here, without a daemon; it changes nothing.
    pub examine: fn(ExamineOptions) -> Examining,
}

/// What `backstop serve` was asked for.
#[derive(Debug)]
pub struct ServeOptions {
    pub loaded: Loaded,
    /// For reloads.
    pub loader: Loader,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// What `backstop demo` was asked for.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    pub incident: demo::Incident,
    pub json: bool,
    pub verbose: u8,
}

/// What `backstop doctor` asks of the cloud itself.
pub struct ExamineOptions {
    pub settings: Settings,
    /// Whose policies to look at, instead of those of the credentials.
    pub about: Option<String>,
    /// Says how far it is.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
}

/// An examination under way.
pub type Examining = Pin<Box<dyn Future<Output = Report> + Send>>;

/// Runs the command line of this process.
pub fn main(entry: Entry) -> ExitCode {
    match Args::try_parse() {
        Ok(args) => run(args, entry, Environment::of_process()),
        // Help and version are data, a wrong usage is talk: clap knows which, and exits with 0 or 2.
        Err(error) => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE))
        }
    }
}

pub fn run(args: Args, entry: Entry, environment: Environment) -> ExitCode {
    let context = Context::new(args.global, environment);
    match dispatch(args.command, &context, entry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.report(&failure);
            ExitCode::from(failure.exit_status())
        }
    }
}

fn dispatch(command: Command, context: &Context, entry: Entry) -> Result<(), Failure> {
    match command {
        Command::Serve(command) => command.run(context, entry),
        Command::Demo(command) => command.run(context, entry),
        Command::Check(command) => command.run(context),
        Command::Manifest(command) => command.run(context),
        Command::Aws(command) => command.run(context),
        Command::Doctor(command) => runtime()?.block_on(command.run(context, entry)),
        client => runtime()?.block_on(talk(client, context)),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The commands that talk to the daemon.
async fn talk(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Agent(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Fleet(command) => command.run(context).await,
        Command::Spend(command) => command.run(context).await,
        Command::Budget(command) => command.run(context).await,
        Command::Usage(command) => command.run(context).await,
        Command::Pause(command) => command.run(context).await,
        Command::Resume(command) => command.run(context).await,
        Command::Contain(command) => command.run(context).await,
        Command::Reset(command) => command.run(context).await,
        Command::Drill(command) => command.run(context).await,
        Command::Review(command) => command.run(context).await,
        Command::Prices(command) => command.run(context).await,
        Command::Ledger(command) => command.run(context).await,
        Command::Audit(command) => command.run(context).await,
        Command::Serve(_)
        | Command::Demo(_)
        | Command::Check(_)
        | Command::Manifest(_)
        | Command::Aws(_)
        | Command::Doctor(_) => unreachable!("dispatched before"),
    }
}
