//! `backstop agent`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::{rows, table, text};
use super::status::{AGENT_COLUMNS, one_agent};
use crate::config::edit::{self, NewAgent, NewCloud};
use crate::domain::id::{AgentId, KeyId};

#[derive(Debug, Subcommand)]
pub enum Agent {
    /// Every agent and what it may do now
    #[command(after_help = "Example:\n  backstop agent list --json")]
    List,
    /// Everything about one agent: budgets, containment, reviews, keys
    #[command(after_help = "Example:\n  backstop agent show support-bot")]
    Show {
        /// Its id
        agent: AgentId,
    },
    /// Add an agent to the config file, and have the daemon load it
    ///
    /// The file keeps its form and comments, and is written only if the result is sound.
    #[command(
        after_help = "Examples:\n  backstop agent add support-bot\n  backstop agent add support-bot --aws-account 123456789012 \\\n      --role arn:aws:iam::123456789012:role/agents/support-bot --tag backstop:agent=support-bot"
    )]
    Add(Add),
    /// Make a key for an agent, shown once; or revoke one
    #[command(after_help = "Examples:\n  backstop agent key support-bot\n  backstop agent key support-bot --revoke ID")]
    Key {
        /// Its id
        agent: AgentId,
        /// Revoke this key instead; `agent show` lists them
        #[arg(long, value_name = "ID")]
        revoke: Option<KeyId>,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    /// Letters, digits and any of -_.:/@
    id: AgentId,
    /// Its manifest, from the directory of the config file
    #[arg(long, value_name = "FILE")]
    manifest: Option<String>,
    /// The AWS account that it works in
    #[arg(long, value_name = "ACCOUNT")]
    aws_account: Option<String>,
    /// A role that belongs to it alone, by ARN
    #[arg(long, value_name = "ARN", requires = "aws_account")]
    role: Vec<String>,
    /// A user that belongs to it alone, by ARN
    #[arg(long, value_name = "ARN", requires = "aws_account")]
    user: Vec<String>,
    /// A tag by which its instances are known
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag, requires = "aws_account")]
    tag: Vec<(String, String)>,
    /// A region to observe; without one, those that the `aws` section names
    #[arg(long, value_name = "REGION", requires = "aws_account")]
    region: Vec<String>,
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a tag is written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Agent {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List => {
                let answer = context.client()?.get(&["agents"], &[]).await?;
                let empty = "no agent is configured; add one with `backstop agent add ID`";
                context
                    .output
                    .answer(&answer, |value| table(rows(value, "agents"), &AGENT_COLUMNS, empty))
            }
            Self::Show { agent } => {
                let answer = context.client()?.get(&["agents", agent.as_str()], &[]).await?;
                context.output.answer(&answer, one_agent)
            }
            Self::Add(add) => add.run(context).await,
            Self::Key { agent, revoke: None } => {
                let answer = context
                    .client()?
                    .post(&["agents", agent.as_str(), "keys"], &json!({}))
                    .await?;
                context.output.answer(&answer, |value| text(value, "key"))?;
                context.output.say(&format!(
                    "key {} of {agent}: it is shown this once, and only its hash is kept",
                    text(&answer.value, "id")
                ));
                Ok(())
            }
            Self::Key {
                agent,
                revoke: Some(key),
            } => {
                let answer = context
                    .client()?
                    .delete(&["agents", agent.as_str(), "keys", &key.to_string()])
                    .await?;
                context
                    .output
                    .answer(&answer, |_| format!("key {key} of {agent} is revoked"))
            }
        }
    }
}

impl Add {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let path = context.config_path().unwrap_or_else(|| PathBuf::from("config.toml"));
        let id = self.id.clone();
        let agent = NewAgent {
            id: self.id,
            manifest: self.manifest,
            cloud: self.aws_account.map(|account| NewCloud {
                account,
                roles: self.role,
                users: self.user,
                tags: self.tag,
                regions: self.region,
            }),
        };
        let warnings = edit::add_agent(&path, &agent, &context.loader()).map_err(|error| Failure::Failed {
            message: error.to_string(),
            hint: Some(format!("{} was not changed", path.display())),
        })?;
        for warning in warnings {
            context.output.say(&warning.to_string());
        }
        context.output.say(&format!("{id} is in {}", path.display()));
        let reloaded = match context.client() {
            Ok(client) => client.post(&["reload"], &json!({})).await,
            Err(failure) => Err(failure),
        };
        let value = match &reloaded {
            Ok(answer) => {
                context.output.say("the daemon has loaded it");
                answer.value.clone()
            }
            Err(Failure::Unreachable { .. }) => {
                context
                    .output
                    .say("no daemon is running here: it will know the agent when it starts");
                Value::Null
            }
            // The file is sound and written; that the daemon will not take it is worth a failure.
            Err(failure) => {
                context.output.say(&format!("the daemon does not load it: {failure}"));
                return Err(Failure::Reported);
            }
        };
        if context.output.json {
            let done = json!({ "agent": id, "config": path, "reload": value });
            context.output.data(&done.to_string())?;
        }
        context
            .output
            .say(&format!("next, make its key: backstop agent key {id}"));
        Ok(())
    }
}
