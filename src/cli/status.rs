//! `backstop status`

use clap::Args;
use serde_json::Value;

use super::context::Context;
use super::failure::Failure;
use super::output::{field, indent, record, rows, table, text};
use crate::domain::id::AgentId;

/// What runs, what is spent, what waits for a person
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  backstop status\n  backstop status support-bot --json")]
pub struct Status {
    /// Everything about this agent, instead of the whole daemon
    agent: Option<AgentId>,
}

/// Of an agent in a list.
pub(super) const AGENT_COLUMNS: [&str; 6] = ["id", "status", "since", "keys", "drill.state", "reason"];
/// Of a budget's live line.
const LINE_COLUMNS: [&str; 12] = [
    "budget",
    "agent",
    "value",
    "window_start",
    "window_end",
    "limit_usd",
    "posted_usd",
    "held_usd",
    "remaining_usd",
    "unresolved_usd",
    "overage_usd",
    "breached",
];
/// Of those, what is left out while it says the same of every line: nothing.
const USUALLY_NOTHING: [(&str, &str); 4] = [
    ("held_usd", "0.00"),
    ("unresolved_usd", "0.00"),
    ("overage_usd", "0.00"),
    ("breached", "no"),
];

/// Lines of budgets, as narrow as what there is to say.
pub(super) fn lines_table(lines: &[Value]) -> String {
    let says = |column: &&str| {
        let nothing = USUALLY_NOTHING.iter().find(|(name, _)| name == column);
        nothing.is_none_or(|(_, nothing)| lines.iter().any(|line| text(line, column) != *nothing))
    };
    let columns: Vec<&str> = LINE_COLUMNS.into_iter().filter(says).collect();
    table(lines, &columns, "")
}

pub(super) const REVIEW_COLUMNS: [&str; 5] = ["id", "agent", "opened_at", "question.kind", "summary"];

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.agent {
            None => context.output.answer(&client.get(&["status"], &[]).await?, overall),
            Some(agent) => context
                .output
                .answer(&client.get(&["agents", agent.as_str()], &[]).await?, one_agent),
        }
    }
}

fn overall(status: &Value) -> String {
    let mut blocks = vec![record(status, &["agents", "reviews", "containments", "fleet"])];
    let agents = rows(status, "agents");
    // Whether there is a list or a count by status, it is shown.
    if !agents.is_empty() {
        blocks.push(table(agents, &AGENT_COLUMNS, ""));
    } else if let Some(counts) = field(status, "agents").filter(|counts| counts.is_object()) {
        blocks.push(format!("agents:\n{}", indent(&record(counts, &[]))));
    }
    for (name, columns) in [
        ("containments", CONTAINMENT_COLUMNS.as_slice()),
        ("reviews", REVIEW_COLUMNS.as_slice()),
    ] {
        let list = rows(status, name);
        if !list.is_empty() {
            blocks.push(format!("{name}:\n{}", indent(&table(list, columns, ""))));
        }
    }
    blocks.extend(field(status, "fleet").map(fleet_text));
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n\n")
}

/// What burns, with what cannot be seen last, where it is seen.
fn fleet_text(fleet: &Value) -> String {
    if text(fleet, "watching") != "watching" {
        return format!("fleet: not watched here ({})", text(fleet, "watching"));
    }
    let (all, orphans) = (text(fleet, "usd_per_hour"), text(fleet, "orphans_usd_per_hour"));
    let mut shown = format!("fleet: ${all} an hour, of which ${orphans} nobody's");
    let burn = rows(fleet, "burn");
    if !burn.is_empty() {
        shown.push_str(&format!("\n{}", indent(&table(burn, &BURN_COLUMNS, ""))));
    }
    let regions = rows(fleet, "regions");
    let ages = regions.iter().map(|region| match text(region, "age_s").as_str() {
        "" => format!("{} not yet", text(region, "region")),
        age => format!("{} {age} s ago", text(region, "region")),
    });
    let ages = ages.collect::<Vec<_>>().join(", ");
    if !ages.is_empty() {
        shown.push_str(&format!("\n  looked at: {ages}"));
    }
    shown.push_str(&super::fleet::not_looked_at(fleet).map_or_else(String::new, |line| format!("\n  {line}")));
    for trouble in rows(fleet, "troubles") {
        let (about, since, why) = (text(trouble, "about"), text(trouble, "since"), text(trouble, "why"));
        shown.push_str(&format!("\n  {about} failing since {since}: {why}"));
    }
    for line in super::fleet::trouble(regions) {
        shown.push_str(&format!("\n  {line}"));
    }
    shown
}

const BURN_COLUMNS: [&str; 6] = ["agent", "service", "region", "assets", "usd_per_hour", "basis"];

const CONTAINMENT_COLUMNS: [&str; 7] = [
    "agent",
    "phase",
    "mode",
    "generation",
    "opened_at",
    "contained_at",
    "cause",
];

/// An agent with its lines, keys, containment and reviews.
pub(super) fn one_agent(agent: &Value) -> String {
    let mut blocks = vec![record(agent, &["lines", "keys", "containment", "reviews", "burn"])];
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            blocks.push(format!("{title}:\n{}", indent(&body)));
        }
    };
    section("budgets", lines_table(rows(agent, "lines")));
    if let Some(burn) = field(agent, "burn").filter(|burn| !rows(burn, "by_service").is_empty()) {
        let title = format!("burns ${} an hour", text(burn, "usd_per_hour"));
        section(&title, table(rows(burn, "by_service"), &BURN_COLUMNS[1..], ""));
    }
    if let Some(containment) = field(agent, "containment") {
        section("containment", containment_text(containment));
    }
    section("reviews", table(rows(agent, "reviews"), &REVIEW_COLUMNS, ""));
    section(
        "keys",
        table(rows(agent, "keys"), &["id", "created_at", "revoked_at"], ""),
    );
    blocks.retain(|block| !block.is_empty());
    blocks.join("\n\n")
}

/// A containment, with what is still burning last, where it is seen.
pub(super) fn containment_text(containment: &Value) -> String {
    let mut text_ = record(containment, &["coverage", "version"]);
    let Some(coverage) = field(containment, "coverage") else {
        return text_;
    };
    for what in ["denied", "capped", "ended", "stopped"] {
        let list = rows(coverage, what);
        if !list.is_empty() {
            let before = field(coverage, &format!("{what}_before"))
                .and_then(Value::as_u64)
                .unwrap_or(0);
            let before = if before > 0 {
                format!(", and {before} before")
            } else {
                String::new()
            };
            text_.push_str(&format!("\n\n{what} ({}{before}):", list.len()));
            for item in list {
                let id = super::output::show(item);
                let price = coverage["prices"].get(&id).map(|price| text(price, "usd_per_hour"));
                text_.push_str(&format!("\n  {id}{}", an_hour(price)));
            }
        }
    }
    if let Some(burn) = field(coverage, "burn").filter(|burn| burn.is_object()) {
        let (now, before) = (text(burn, "now_usd_per_hour"), text(burn, "before_usd_per_hour"));
        let sure = match text(burn, "basis").as_str() {
            "listed" => "at list prices",
            "estimated" => "estimated from list prices",
            _ => "with ceilings where no price is known",
        };
        text_.push_str(&format!("\n\nburn: ${now} an hour of ${before}, {sure}"));
    }
    if let Some(burnt) = field(coverage, "burnt_usd").and_then(Value::as_str) {
        text_.push_str(&format!("\nburnt since it was opened: about ${burnt}"));
    }
    let seconds = rows(coverage, "seconds");
    if !seconds.is_empty() {
        text_.push_str(&format!("\n\nseconds from {}:", text(coverage, "seconds_from")));
        text_.push_str(&format!(
            "\n{}",
            indent(&table(seconds, &["step", "first_s", "last_s"], ""))
        ));
    }
    let pending = field(coverage, "attribution_pending_until").filter(|_| text(containment, "phase") != "closed");
    if let Some(until) = pending {
        text_.push_str(&format!(
            "\n\nATTRIBUTION PENDING: who made what is not read up to {} yet, so more of the agent's may turn up",
            super::output::show(until)
        ));
        for item in rows(coverage, "attribution_pending") {
            text_.push_str(&format!("\n  {}: {}", text(item, "resource"), text(item, "why")));
        }
    }
    let burning = rows(coverage, "still_burning");
    if !burning.is_empty() {
        text_.push_str(&format!("\n\nSTILL BURNING ({}):", burning.len()));
        for item in burning {
            let price = item["usd_per_hour"].as_str().map(str::to_owned);
            let (resource, why) = (text(item, "resource"), text(item, "why"));
            text_.push_str(&format!("\n  {resource}{}: {why}", an_hour(price)));
        }
    }
    text_
}

fn an_hour(price: Option<String>) -> String {
    price.map_or_else(String::new, |usd| format!(" (${usd} an hour)"))
}
