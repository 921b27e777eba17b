//! `backstop demo`

use clap::{Args, ValueEnum};

use super::context::Context;
use super::failure::Failure;
use super::{DemoOptions, Entry};

/// Watch an incident being stopped, on a rehearsal fleet and in accelerated time
///
/// `transcription-loop` is the same daemon, with no cloud, no keys and no network: its timeline shows
/// alert, breach, freeze, revoke, stop, contained and reset with the dollars at each point.
///
/// `500-services` and `network-scan` are a day in the cloud, in virtual time: a table shows what the day
/// costs with nothing, with AWS Budgets, and with Backstop's watcher, judgement and kill switch, and
/// what had to be assumed.
///
/// Each checks at its end that it has shown what it is to, and fails if not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  backstop demo\n  backstop demo 500-services\n  backstop demo network-scan --json")]
pub struct Demo {
    /// Which incident
    #[arg(value_name = "INCIDENT", value_enum, default_value_t = Incident::TranscriptionLoop)]
    pub incident: Incident,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Incident {
    /// An API bug returns an empty file, and the agent retries for ever
    TranscriptionLoop,
    /// An agent told to optimise cloud spend starts 500 services: six figures in a day
    #[value(name = "500-services")]
    FiveHundredServices,
    /// The same template for a network scan, applied again and again: $6,531 in a day
    NetworkScan,
}

impl Demo {
    pub(super) fn run(&self, context: &Context, entry: Entry) -> Result<(), Failure> {
        let options = DemoOptions {
            incident: self.incident,
            json: context.output.json,
            verbose: context.global.verbose,
        };
        Ok((entry.demo)(options)?)
    }
}
