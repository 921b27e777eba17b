//! `backstop serve`

use clap::Args;

use super::context::Context;
use super::failure::Failure;
use super::{Entry, ServeOptions};
use crate::config::Loader;

/// Run the daemon
///
/// It runs in the foreground until SIGTERM or SIGINT, settles what is in flight, and exits with 0.
/// SIGHUP loads the config again; wrong settings leave the old ones in force.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstop serve --config /etc/backstop/config.toml")]
pub struct Serve {}

impl Serve {
    pub(super) fn run(&self, context: &Context, entry: Entry) -> Result<(), Failure> {
        let loader = Loader::for_daemon(context.environment.clone());
        let loaded = loader
            .load(context.config_path().as_deref())
            .map_err(|problems| Failure::Failed {
                message: format!("the config has mistakes\n{problems}"),
                hint: Some("`backstop check` looks again".to_owned()),
            })?;
        for warning in &loaded.warnings {
            context.output.say(&warning.to_string());
        }
        Ok((entry.serve)(ServeOptions {
            loaded,
            loader,
            verbose: context.global.verbose,
        })?)
    }
}
