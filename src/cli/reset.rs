//! `backstop reset`

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::impact;
use super::lifecycle::now_is;
use super::when::When;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;

/// Put back what a containment changed, and let the agent go on
///
/// On a line that is still breached it is refused, unless --raise adds room to it or --until lifts its
/// limit for a time; what is then spent past the limit is an overage, and shown.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  backstop reset support-bot\n  backstop reset support-bot --raise 25 --yes\n  backstop reset support-bot --until 2h --yes\n  backstop reset support-bot --only instance:eu-west-1/i-0123456789abcdef0 --yes"
)]
pub struct Reset {
    /// Its id
    agent: AgentId,
    /// Dollars to add to the limit of each line that is breached, for this window only
    #[arg(long, value_name = "USD", value_parser = positive, conflicts_with = "until")]
    raise: Option<Usd>,
    /// Lift the limit of each line that is breached until this time: a time, or how long from now (2h)
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Start only these machines again, by the ids that the impact shows; without it, all that ran
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Do it; without it only the impact is printed
    #[arg(long)]
    yes: bool,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    note: String,
}

fn positive(text: &str) -> Result<Usd, String> {
    match text.parse::<Usd>() {
        Ok(amount) if amount > Usd::ZERO => Ok(amount),
        Ok(_) => Err("must be above zero".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl Reset {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let (raise, until) = (self.raise.map(|usd| usd.to_string()), self.until.map(When::future));
        let only = self.only.join(",");
        let mut query: Vec<(&str, &str)> = Vec::new();
        if !only.is_empty() {
            query.push(("only", &only));
        }
        query.extend(raise.as_deref().map(|raise| ("raise_usd", raise)));
        query.extend(until.as_deref().map(|until| ("until", until)));
        let mut impact = impact::ask(&client, &self.agent, "reset", &query).await?;
        if !self.yes {
            return impact::stop_without_yes(context, &impact);
        }
        // Whether it is refused is the answer to what is asked next, and told once.
        if let Some(impact) = impact.value.as_object_mut() {
            impact.remove("refused");
        }
        context.output.say(&impact::render(&impact.value));
        let mut body = json!({ "only": self.only, "note": self.note });
        if let Some(raise) = raise {
            body["raise_usd"] = raise.into();
        }
        if let Some(until) = until {
            body["until"] = until.into();
        }
        let answer = client.post(&["agents", self.agent.as_str(), "reset"], &body).await?;
        context.output.answer(&answer, |value| now_is(&self.agent, value))?;
        context
            .output
            .say(&format!("follow it with: backstop status {}", self.agent));
        Ok(())
    }
}
