//! The command line's shape. What a command does stands in the file of its name.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::{
    agent, audit, aws, budget, check, contain, demo, doctor, drill, fleet, ledger, lifecycle, manifest, prices, reset,
    review, serve, spend, status, usage,
};

/// A hard cost cap and a cloud kill switch for autonomous AI agents.
#[derive(Debug, Parser)]
#[command(
    name = "backstop",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  backstop demo                                 watch a runaway agent being stopped
  backstop check                                every mistake in the config at once
  backstop doctor                               whether a containment would have what it needs
  backstop serve                                run the daemon
  backstop agent add support-bot                add an agent to the config
  backstop agent key support-bot                make its key, shown once
  backstop status                               what runs, what is spent, what waits for a person
  backstop contain support-bot --dry-run        what the kill switch would do
  backstop drill support-bot                    whether the kill switch would work, and how fast
  backstop reset support-bot --raise 25 --yes   put everything back, with 25 dollars more

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 the daemon cannot be reached.
Data goes to standard output, everything else to standard error.";

/// Options that every command takes.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// The config file; else ./config.toml, else /etc/backstop/config.toml, else the built-in defaults
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTOP_CONFIG")]
    pub config: Option<PathBuf>,
    /// The daemon's unix socket; else the one that the config names
    #[arg(long, global = true, value_name = "PATH", env = "BACKSTOP_SOCKET")]
    pub socket: Option<PathBuf>,
    /// The admin API over TCP instead of the socket, such as http://127.0.0.1:8701
    #[arg(long, global = true, value_name = "URL", env = "BACKSTOP_ADMIN_URL")]
    pub admin_url: Option<String>,
    /// A file with the bearer token for --admin-url; else BACKSTOP_ADMIN_TOKEN, else what the config names
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTOP_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the API's JSON as it is, instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on standard error; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    // Those without a line here are described, briefly and at length, in the file of their name.
    Serve(serve::Serve),
    Demo(demo::Demo),
    Check(check::Check),
    Doctor(doctor::Doctor),
    /// List, add and show agents, and make their keys
    #[command(subcommand)]
    Agent(agent::Agent),
    Status(status::Status),
    /// What runs in the cloud, whose it is, and what it costs an hour
    Fleet(fleet::Fleet),
    Spend(spend::Spend),
    /// Budgets and what is left of them
    #[command(subcommand)]
    Budget(budget::Budget),
    /// Import usage reports
    #[command(subcommand)]
    Usage(usage::Usage),
    Pause(lifecycle::Pause),
    Resume(lifecycle::Resume),
    Contain(contain::Contain),
    Reset(reset::Reset),
    Drill(drill::Drill),
    /// What waits for a person
    #[command(subcommand)]
    Review(review::Review),
    /// What an agent declares: its tools and their rates
    #[command(subcommand)]
    Manifest(manifest::Manifest),
    /// Show the price catalogue, import prices
    #[command(subcommand)]
    Prices(prices::Prices),
    /// Back up and verify the ledger, resolve calls of unknown cost
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Read the audit log, and verify that nobody rewrote it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Print what AWS must allow the daemon, and deny its agents
    #[command(subcommand)]
    Aws(aws::Aws),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// The list of the design's section 7, as far as it is built.
    #[test]
    fn the_help_lists_every_command() {
        let help = Args::command().render_help().to_string();
        for command in [
            "serve", "demo", "check", "doctor", "agent", "status", "fleet", "spend", "budget", "usage", "pause",
            "resume", "contain", "reset", "drill", "review", "manifest", "prices", "ledger", "audit", "aws",
        ] {
            assert!(
                help.lines().any(|line| line.trim_start().starts_with(command)),
                "{command} is not in\n{help}"
            );
        }
        for later in ["policy", "replay"] {
            assert!(
                !help.lines().any(|line| line.trim_start().starts_with(later)),
                "{later} is not built yet"
            );
        }
    }

    #[test]
    fn every_command_says_what_it_is_and_what_its_options_mean() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no description");
            for argument in command.get_arguments() {
                let silent = argument.get_help().is_none();
                assert!(!silent, "{path}: {} has no description", argument.get_id());
            }
            for inner in command.get_subcommands() {
                walk(inner, &path);
            }
        }
        let mut command = Args::command();
        command.build();
        walk(&command, "");
    }

    /// A line of help beside a command's name would take the place of all that its own file says.
    #[test]
    fn what_needs_more_than_a_line_has_it() {
        let command = Args::command();
        for name in ["serve", "demo", "check", "doctor", "spend", "pause", "contain", "reset"] {
            let found = command.find_subcommand(name).expect(name);
            assert!(found.get_long_about().is_some(), "{name}");
        }
    }

    #[test]
    fn what_the_design_lists_parses() {
        for line in [
            "serve",
            "demo transcription-loop",
            "check --json",
            "doctor --strict --json --unit my.service",
            "doctor --local --role arn:aws:iam::123456789012:role/backstop/guard",
            "agent list",
            "agent add a --manifest m.json",
            "agent key a",
            "agent show a",
            "status",
            "status a",
            "fleet",
            "fleet --agent a --limit 10",
            "fleet --orphans --json",
            "spend a --by model --since 24h --until 2026-11-20",
            "spend --by task --task nightly",
            "budget list --json",
            "usage import - --agent a --all-or-nothing",
            "pause a --reason x",
            "resume a",
            "contain a --dry-run",
            "contain a --revoke --yes",
            "reset a --raise 12.50 --yes",
            "reset a --until 2h --only instance:eu-west-1/i-0123456789abcdef0 i-1",
            "drill a",
            "drill a --canary --yes",
            "drill a --last --json",
            "drill a --show 0192f0c1-0000-7000-8000-000000000000",
            "review list --all",
            "review show 0192f0c1-0000-7000-8000-000000000000",
            "review approve 0192f0c1-0000-7000-8000-000000000000 --note fine",
            "review deny 0192f0c1-0000-7000-8000-000000000000",
            "manifest check manifests/a.json --json",
            "prices show gpt-5-mini",
            "prices import prices.json",
            "ledger backup /tmp/b.db",
            "ledger verify",
            "ledger resolve --hold 0192f0c1-0000-7000-8000-000000000000 --cost-usd 0",
            "audit list --from 1 --limit 10",
            "audit verify",
            "aws policy guard --account 123456789012 --stop-untagged",
            "aws policy boundary --format cloudformation",
            "aws policy scp --agent-path /bots/",
            "aws policy calls --json",
            "--socket /run/x.sock -vv status",
        ] {
            let parsed = Args::try_parse_from(std::iter::once("backstop").chain(line.split(' ')));
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("failed"));
        }
        for line in [
            "reset a --raise 5 --until 2h",
            "contain",
            "spend --by colour",
            "reset a --raise -5",
            "drill a --yes",
            "drill a --last --list",
            "status a b",
            "fleet --agent a --orphans",
            "doctor --role arn:aws:iam::123456789012:role/x",
        ] {
            assert!(
                Args::try_parse_from(std::iter::once("backstop").chain(line.split(' '))).is_err(),
                "{line}"
            );
        }
    }
}
