//! `backstop demo`

use clap::{Args, ValueEnum};

use super::context::Context;
use super::failure::Failure;
use super::{DemoOptions, Entry};

/// Watch an incident being stopped, on a rehearsal fleet and in accelerated time
///
/// It is the same daemon, with no cloud, no keys and no network. The timeline shows alert, breach,
/// freeze, revoke, stop, contained and reset with the dollars at each point, and at the end the demo
/// checks its own promises.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstop demo transcription-loop")]
pub struct Demo {
    /// Which incident
    #[arg(value_name = "INCIDENT", value_enum, default_value_t = Incident::TranscriptionLoop)]
    pub incident: Incident,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Incident {
    /// An API bug returns an empty file, and the agent retries for ever
    TranscriptionLoop,
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
