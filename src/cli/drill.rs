//! `backstop drill`

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::context::Context;
use super::failure::Failure;
use super::impact;
use super::output::{field, indent, record, rows, show, table, text};
use crate::domain::id::{AgentId, DrillId};

/// How often a drill that is under way is asked about.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Longer than any canary drill: its own time, a restore's, and machines that wait for their checks.
const CANARY_LIMIT: Duration = Duration::from_secs(45 * 60);

/// Rehearse the kill switch for an agent, and keep what came out
///
/// It makes the very plan that `contain` would carry out, and asks AWS about each step without doing it:
/// by EC2's DryRun, and by IAM's simulation of the daemon's own permissions where there is no DryRun. It
/// tells what would be denied, capped, ended and stopped, what would go on burning and why, what it would
/// save, how long it would take, and what is missing. It changes nothing. The report is kept, and its
/// digest stands in the audit log.
///
/// With --canary it really stops and starts what carries the agent's ownership tag and the tag
/// backstop:canary = true, through the same machinery, with before-images and proof. It touches nothing
/// else: no role, no user, no machine without that tag, and the agent goes on working. It proves that
/// stopping and putting back work from end to end, and how long they take. It does not prove that the
/// agent's roles are denied, nor that what carries no tag is found. A containment in earnest that comes
/// meanwhile takes it over. A daemon that dies in the midst of it goes on when it is back.
///
/// Exit status 1 means that something would not work: the report says what.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  backstop drill support-bot\n  backstop drill support-bot --last\n  backstop drill support-bot --canary         what would be stopped and started\n  backstop drill support-bot --canary --yes\n  backstop drill support-bot --list\n  backstop drill support-bot --show ID --json"
)]
pub struct Drill {
    /// Its id
    agent: AgentId,
    /// Really stop and start what is tagged as a canary; without --yes only what that would be is printed
    #[arg(long)]
    canary: bool,
    /// Do it
    #[arg(long, requires = "canary")]
    yes: bool,
    /// The report of the last drill
    #[arg(long, conflicts_with_all = ["canary", "list", "show"])]
    last: bool,
    /// The drills that are kept, newest first
    #[arg(long, conflicts_with_all = ["canary", "show"])]
    list: bool,
    /// The report of this drill
    #[arg(long, value_name = "ID", conflicts_with = "canary")]
    show: Option<DrillId>,
}

impl Drill {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        if self.list {
            let answer = client
                .get(&["agents", self.agent.as_str(), "drills"], &[("limit", "100")])
                .await?;
            return context.output.answer(&answer, list);
        }
        if let Some(id) = self.show {
            let answer = client.get(&["drills", &id.to_string()], &[]).await?;
            return context.output.answer(&answer, drill);
        }
        if self.last {
            return self.show_last(context, &client).await;
        }
        let answer = if self.canary {
            match self.run_canary(context, &client).await? {
                Some(answer) => answer,
                None => return Err(Failure::Reported),
            }
        } else {
            self.run_plan(context, &client).await?
        };
        context.output.answer(&answer, drill)?;
        if text(&answer.value, "outcome") == "passed" {
            Ok(())
        } else {
            context.output.say(&format!(
                "the drill {}: {}",
                text(&answer.value, "outcome"),
                text(&answer.value, "summary")
            ));
            Err(Failure::Reported)
        }
    }

    async fn show_last(&self, context: &Context, client: &Client) -> Result<(), Failure> {
        let path = ["agents", self.agent.as_str(), "drills"];
        let all = client.get(&path, &[("limit", "1")]).await?;
        let Some(last) = rows(&all.value, "drills").first() else {
            return Err(Failure::Failed {
                message: format!("{} was never drilled", self.agent),
                hint: Some(format!("backstop drill {}", self.agent)),
            });
        };
        let answer = client.get(&["drills", &text(last, "id")], &[]).await?;
        context.output.answer(&answer, drill)
    }

    /// Says what the daemon is doing while it does it.
    async fn run_plan(&self, context: &Context, client: &Client) -> Result<Answer, Failure> {
        let path = ["agents", self.agent.as_str(), "drill"];
        let body = json!({});
        let mut answer = std::pin::pin!(client.post_long(&path, &body));
        let mut said = String::new();
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let all = client.get(&["agents", self.agent.as_str(), "drills"], &[("limit", "0")]).await;
                    // What it does meanwhile is only told: the answer to the drill says what went wrong.
                    if let Ok(all) = all {
                        said = tell(context, said, &text(&all.value, "under_way.stage"));
                    }
                }
            }
        }
    }

    /// `None` if nothing was done: without --yes, or without a canary.
    async fn run_canary(&self, context: &Context, client: &Client) -> Result<Option<Answer>, Failure> {
        let impact = impact::ask(client, &self.agent, "drill", &[]).await?;
        if !self.yes {
            context.output.answer(&impact, canary_impact)?;
            context
                .output
                .say("nothing was done: to do it, give the same command with --yes");
            return Ok(None);
        }
        context.output.say(&canary_impact(&impact.value));
        let assets = impact.value["assets"].clone();
        let body = json!({ "canary": true, "assets": assets });
        let begun = client
            .post_long(&["agents", self.agent.as_str(), "drill"], &body)
            .await?;
        let id = text(&begun.value, "id");
        context.output.say(&format!(
            "drill {id}; it goes on if you leave: backstop drill {} --show {id}",
            self.agent
        ));
        let mut said = String::new();
        let waits = CANARY_LIMIT.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..waits {
            let answer = client.get(&["drills", &id], &[]).await?;
            if text(&answer.value, "state") == "over" {
                return Ok(Some(answer));
            }
            said = tell(context, said, &text(&answer.value, "stage"));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Failure::Failed {
            message: "the drill is not over yet; it goes on".to_owned(),
            hint: Some(format!("backstop drill {} --show {id}", self.agent)),
        })
    }
}

/// Says a stage, once.
fn tell(context: &Context, said: String, stage: &str) -> String {
    if stage.is_empty() || said == stage {
        return said;
    }
    context.output.say(&format!("{stage} …"));
    stage.to_owned()
}

fn canary_impact(view: &Value) -> String {
    let mut shown = impact::render(&without(view, &["assets", "not_fit", "proves", "does_not_prove"]));
    let not_fit = rows(view, "not_fit");
    if !not_fit.is_empty() {
        shown.push_str(&format!(
            "\n\nnot fit:\n{}",
            indent(&table(not_fit, &["resource", "why"], ""))
        ));
    }
    for (title, name) in [("it proves", "proves"), ("it does not prove", "does_not_prove")] {
        shown.push_str(&format!("\n\n{title}:\n{}", indent(&lines(rows(view, name)))));
    }
    shown
}

fn without(view: &Value, fields: &[&str]) -> Value {
    let mut view = view.clone();
    if let Some(object) = view.as_object_mut() {
        for field in fields {
            object.remove(*field);
        }
    }
    view
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(show).collect::<Vec<_>>().join("\n")
}

const LIST_COLUMNS: [&str; 6] = ["id", "ended_at", "kind", "outcome", "by", "summary"];

fn list(answer: &Value) -> String {
    let mut blocks = vec![record(field(answer, "readiness").unwrap_or(&Value::Null), &[])];
    if let Some(now) = field(answer, "under_way") {
        blocks.push(format!("under way: {}", text(now, "stage")));
    }
    blocks.push(table(rows(answer, "drills"), &LIST_COLUMNS, "no drills yet"));
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n\n")
}

/// Rows of a long list that are shown; `--json` has all.
const SHOWN: usize = 40;

fn drill(answer: &Value) -> String {
    let mut blocks = vec![record(&without(answer, &["report"]), &[])];
    let Some(report) = field(answer, "report") else {
        return blocks.join("\n\n");
    };
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            blocks.push(format!("{title}:\n{}", indent(&body)));
        }
    };
    let some = |name: &str, columns: &[&str]| {
        let all = rows(report, name);
        let mut shown = table(&all[..all.len().min(SHOWN)], columns, "");
        if all.len() > SHOWN {
            shown.push_str(&format!("\n… and {} more: --json has all", all.len() - SHOWN));
        }
        shown
    };
    const LINE: [&str; 3] = ["resource", "usd_per_hour", "why"];
    section("steps", some("steps", &STEP_COLUMNS));
    section("canaries", some("canaries", &CANARY_COLUMNS));
    section("gaps: what would not work, or could not be seen", some("gaps", &LINE));
    section("not provable without doing it", some("unproved", &["resource", "why"]));
    section("still burning after it", some("still_burning", &LINE));
    section("a person would be asked", some("asked", &["resource", "why"]));
    section(
        "near, and left alone",
        some("untouched", &["owner", "assets", "usd_per_hour"]),
    );
    section("of that nobody's, the dearest", some("orphans", &LINE[..2]));
    section("the guard's own, left alone", lines(rows(report, "guarded")));
    for name in ["dollars", "down_s", "proved_s", "restoring_s", "ended_s"] {
        if let Some(value) = field(report, name) {
            let body = if value.is_object() {
                record(value, &[])
            } else {
                show(value)
            };
            section(&name.replace("_s", " (seconds)"), body);
        }
    }
    if let Some(predicted) = field(report, "predicted") {
        section("predicted, in seconds from the order", prediction(predicted));
    }
    for (title, name) in [
        ("calls of this drill", "calls.made"),
        ("changes of a containment", "calls.foreseen"),
    ] {
        section(
            title,
            field(report, name).map_or_else(String::new, |calls| record(calls, &[])),
        );
    }
    for (title, name) in [("it proves", "proves"), ("it does not prove", "does_not_prove")] {
        section(title, lines(rows(report, name)));
    }
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n\n")
}

const STEP_COLUMNS: [&str; 6] = ["action", "resource", "what", "usd_per_hour", "proof", "back.proof"];
const CANARY_COLUMNS: [&str; 6] = ["resource", "action", "asked_s", "back_asked_s", "back_s", "outcome"];

/// A row for each phase, and what the figures rest on.
fn prediction(predicted: &Value) -> String {
    let row = |phase: &str, range: &Value| {
        json!({
            "done": phase,
            "least_s": range["least_s"],
            "likely_s": range["likely_s"],
            "most_s": range["most_s"],
        })
    };
    let phases = predicted["done"].as_object().into_iter().flatten();
    let mut all: Vec<Value> = phases.map(|(phase, range)| row(phase, range)).collect();
    all.push(row("contained", &predicted["contained"]));
    let table = table(&all, &["done", "least_s", "likely_s", "most_s"], "");
    format!("{table}\n\n{}", lines(rows(predicted, "rests_on")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_its_steps_its_gaps_and_its_times() {
        let answer = json!({
            "id": "0192f0c1-0000-7000-8000-000000000000", "outcome": "failed", "summary": "would stop 1",
            "report": {
                "steps": [
                    {"action": "stop_instance", "resource": "instance:eu-west-1/i-1", "usd_per_hour": "0.08",
                     "proof": "refused", "why": "no", "back": {"proof": "simulated"}}
                ],
                "gaps": [{"resource": "instance:eu-west-1/i-1", "why": "stop would be refused: no"}],
                "predicted": {
                    "done": {"quiet": {"least_s": 5.0, "likely_s": 40.0, "most_s": 130.0}},
                    "contained": {"least_s": 13.0, "likely_s": 50.0, "most_s": 140.0},
                    "rests_on": ["calls as fast as in this drill"]
                },
                "calls": {"made": {"ec2:DescribeInstances": 1}, "foreseen": {"ec2:StopInstances": 1}}
            }
        });
        let shown = drill(&answer);
        for wanted in [
            "instance:eu-west-1/i-1",
            "refused",
            "stop would be refused: no",
            "140",
            "calls as fast as in this drill",
            "ec2:StopInstances",
        ] {
            assert!(shown.contains(wanted), "{wanted} in {shown}");
        }
    }

    #[test]
    fn an_impact_without_a_canary_says_how_to_make_one() {
        let shown = canary_impact(&json!({
            "agent": "a", "steps": [], "assets": [], "not_fit": [], "proves": ["x"], "does_not_prove": ["y"],
            "refused": {"code": "no_canary", "message": "there is no canary: start an instance"}
        }));
        assert!(shown.contains("it would be refused: there is no canary"), "{shown}");
        assert!(shown.contains("it does not prove:\n  y"), "{shown}");
    }
}
