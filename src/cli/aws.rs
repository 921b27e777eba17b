//! `backstop aws`

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::table;
use crate::domain::iam::{self, Choice, Document, Scope, cloudformation, permissions};

#[derive(Debug, Subcommand)]
pub enum Aws {
    /// Print the policies that keep the daemon and its agents in bounds; needs no daemon
    ///
    /// They are made from one table of every call that the daemon makes, and are shipped as deploy/iam/.
    #[command(subcommand)]
    Policy(Policy),
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// What the daemon's role may do: reads, and changes by tag, path and name; never the deletion of data
    #[command(
        after_help = "Examples:\n  backstop aws policy guard --account 123456789012 > guard.json\n  \
                            backstop aws policy guard --format cloudformation > guard.template.json"
    )]
    Guard(Guard),
    /// The agents' permission boundary: no launch without the ownership tag or by others' roles, no IAM writes
    Boundary(Form),
    /// The same as a service control policy of an organisation
    Scp(Form),
    /// The service control policy that keeps the guard, and agents within the boundary
    ScpGuard(Form),
    /// Every call that the daemon makes, what for and on what
    Calls,
}

#[derive(Debug, Args)]
pub struct Guard {
    #[command(flatten)]
    form: Form,
    /// Let it stop and start what carries no ownership tag, which is every machine of the account; without
    /// it, what an agent launched untagged stays still burning
    #[arg(long)]
    stop_untagged: bool,
    /// Let it stop and start members of Auto Scaling groups that do not carry the tag themselves, whoever's group
    /// it is: a tagged group need not hand its tag on
    #[arg(long)]
    stop_members: bool,
    /// Let it terminate what cannot be stopped, as aws.terminate_unstoppable asks; its disks are lost
    #[arg(long)]
    terminate_unstoppable: bool,
}

#[derive(Debug, Args)]
pub struct Form {
    /// A policy document, or a template whose parameters are the paths and choices below
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// The account that it is for; * is any
    #[arg(long, default_value = "*", value_name = "ACCOUNT")]
    account: String,
    /// AWS's partition, such as aws-cn or aws-us-gov
    #[arg(long, default_value = "aws")]
    partition: String,
    /// The IAM path of the agents' roles and users
    #[arg(long, default_value = "/agents/", value_name = "PATH")]
    agent_path: String,
    /// The IAM path of the roles that may change the guard
    #[arg(long, default_value = "/break-glass/", value_name = "PATH")]
    break_glass_path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Cloudformation,
}

impl Aws {
    pub(super) fn run(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Policy(Policy::Guard(guard)) => guard.run(context),
            Self::Policy(Policy::Boundary(form)) => form.print(context, Document::Boundary, Vec::new()),
            Self::Policy(Policy::Scp(form)) => form.print(context, Document::Scp, Vec::new()),
            Self::Policy(Policy::ScpGuard(form)) => form.print(context, Document::ScpGuard, Vec::new()),
            Self::Policy(Policy::Calls) => calls(context),
        }
    }
}

impl Guard {
    fn run(&self, context: &Context) -> Result<(), Failure> {
        let mut choices = Vec::new();
        if self.stop_untagged {
            choices.push(Choice::StopUntagged);
        }
        if self.stop_members {
            choices.push(Choice::StopMembers);
        }
        if self.terminate_unstoppable {
            choices.push(Choice::TerminateUnstoppable);
        }
        self.form.print(context, Document::Guard, choices)
    }
}

impl Form {
    fn print(&self, context: &Context, which: Document, choices: Vec<Choice>) -> Result<(), Failure> {
        let scope = Scope {
            partition: self.partition.clone(),
            account: self.account.clone(),
            agent_path: self.agent_path.clone(),
            break_glass_path: self.break_glass_path.clone(),
            choices,
        };
        if self.format == Format::Cloudformation {
            if scope != Scope::default() {
                let hint = "leave them out here and give them to the stack";
                return Err(Failure::usage(
                    "paths, accounts and choices are a template's parameters",
                    hint,
                ));
            }
            return context.output.data(&iam::text(&cloudformation::template(which)));
        }
        scope
            .check()
            .map_err(|problem| Failure::usage(problem.to_string(), "see backstop aws policy --help"))?;
        let text = which.text(&scope);
        let (size, limit) = which.size(&text);
        if size > limit {
            let why = format!("it would have {size} characters, and AWS takes {limit}: shorten the paths");
            return Err(Failure::failed(why));
        }
        context.output.data(&text)
    }
}

/// The table, as a person or a reviewer of the policy reads it.
fn calls(context: &Context) -> Result<(), Failure> {
    let rows: Vec<Value> = permissions::ALL
        .iter()
        .map(|one| {
            json!({
                "action": one.action,
                "mode": format!("{:?}", one.mode).to_lowercase(),
                "on": one.on.resources().iter().map(|text| Scope::default().fill(text)).collect::<Vec<_>>(),
                "why": one.why,
            })
        })
        .collect();
    if context.output.json {
        return context.output.data(&json!({ "calls": rows }).to_string());
    }
    context
        .output
        .data(&table(&rows, &["action", "mode", "on", "why"], "no calls"))
}
