//! What every command is given: where the config and the daemon are, and how to print.

use std::path::PathBuf;

use super::args::Global;
use super::client::{Client, Endpoint};
use super::failure::Failure;
use super::output::Output;
use crate::config::{self, Environment, Loader, Secret};

pub struct Context {
    pub global: Global,
    pub environment: Environment,
    pub output: Output,
}

impl Context {
    pub fn new(global: Global, environment: Environment) -> Self {
        let output = Output { json: global.json };
        Self {
            global,
            environment,
            output,
        }
    }

    /// The config file: named, or found, or none.
    pub fn config_path(&self) -> Option<PathBuf> {
        self.global.config.clone().or_else(config::find)
    }

    /// For reading the config without being the daemon.
    pub fn loader(&self) -> Loader {
        Loader::for_reader(self.environment.clone())
    }

    pub fn client(&self) -> Result<Client, Failure> {
        Client::new(self.endpoint()?, self.global.verbose > 0)
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        if let Some(url) = &self.global.admin_url {
            let parsed = reqwest::Url::parse(url)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https"));
            let Some(url) = parsed.filter(|url| url.has_host()) else {
                return Err(Failure::usage(
                    "--admin-url is not an http or https URL",
                    "such as http://127.0.0.1:8701",
                ));
            };
            return Ok(Endpoint::Tcp {
                url,
                token: self.token()?,
            });
        }
        if let Some(path) = &self.global.socket {
            return Ok(Endpoint::Socket(path.clone()));
        }
        // A config that was broken since the daemon started must not keep anybody from stopping an
        // agent: the socket's place is read whatever else is wrong.
        let socket = self.loader().admin_socket(self.config_path().as_deref());
        socket.map(Endpoint::Socket).map_err(|problems| Failure::Failed {
            message: format!("the config does not say where the daemon's socket is\n{problems}"),
            hint: Some("say it with --socket".to_owned()),
        })
    }

    /// Never from an argument: those are there for every user of the machine to read.
    fn token(&self) -> Result<Option<Secret>, Failure> {
        if let Some(path) = &self.global.token_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::failed(format!("--token-file cannot be read: {error}")))?;
            return Ok(Some(Secret::new(text.trim())));
        }
        if let Some(token) = self.environment.get("BACKSTOP_ADMIN_TOKEN") {
            return Ok(Some(Secret::new(token.trim())));
        }
        let loaded = self.loader().load(self.config_path().as_deref());
        Ok(loaded.ok().and_then(|loaded| loaded.settings.admin.token))
    }

    /// Says why a command failed, on standard error, and for `--json` on standard output as well, so
    /// that a script finds the answer where it looks for it.
    pub fn report(&self, failure: &Failure) {
        if matches!(failure, Failure::Reported | Failure::ReportedAs(_)) {
            return;
        }
        if self.output.json {
            let _ = self.output.data(&failure.to_json());
        }
        self.output.say(&format!("error: {failure}"));
        if let Some(hint) = failure.hint() {
            self.output.say(&format!("hint: {hint}"));
        }
    }
}
