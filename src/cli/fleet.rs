//! `backstop fleet`

use clap::Args;
use serde_json::Value;

use super::context::Context;
use super::failure::Failure;
use super::output::{field, rows, table, text};
use crate::domain::id::AgentId;

/// What runs in the cloud, whose it is, and what it costs an hour; the dearest first
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  backstop fleet\n  backstop fleet --agent support-bot\n  backstop fleet --orphans --json"
)]
pub struct Fleet {
    /// Only this agent's
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentId>,
    /// Only what nobody is known to own
    #[arg(long, conflicts_with = "agent")]
    orphans: bool,
    /// How many to leave out at the beginning, for the next page
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
    /// How many to show, at most 1000
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
}

const COLUMNS: [&str; 7] = ["id", "service", "agent", "evidence", "usd_per_hour", "state", "note"];

impl Fleet {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (offset, limit) = (self.offset.to_string(), self.limit.to_string());
        let mut query = vec![("offset", offset.as_str()), ("limit", limit.as_str())];
        query.extend(self.agent.as_ref().map(|agent| ("agent", agent.as_str())));
        query.extend(self.orphans.then_some(("orphans", "true")));
        let answer = context.client()?.get(&["fleet"], &query).await?;
        context.output.answer(&answer, shown)
    }
}

fn shown(value: &Value) -> String {
    let list = rows(value, "assets");
    let mut rendered = table(list, &COLUMNS, &none(value));
    if !list.is_empty() {
        let (sum, total) = (text(value, "usd_per_hour"), text(value, "total"));
        rendered.push_str(&format!("\n\n${sum} an hour, {total} assets"));
        let next = text(value, "next_offset");
        if !next.is_empty() {
            rendered.push_str(&format!("; more with --offset {next}"));
        }
    }
    for line in not_looked_at(value).into_iter().chain(trouble(rows(value, "regions"))) {
        rendered.push_str(&format!("\n{line}"));
    }
    rendered
}

/// Why there is nothing to show.
fn none(value: &Value) -> String {
    match text(value, "watching").as_str() {
        "watching" => "nothing was seen".to_owned(),
        "elsewhere" => "another daemon on this store watches the fleet".to_owned(),
        "unknown" => "the fleet is not watched: AWS does not say who the daemon is there".to_owned(),
        _ => "the fleet is not watched: aws.enabled and aws.watch are not both true".to_owned(),
    }
}

/// What nobody looks for, by the config.
pub(super) fn not_looked_at(value: &Value) -> Option<String> {
    let kinds: Vec<&str> = rows(value, "not_looked_at").iter().filter_map(Value::as_str).collect();
    (!kinds.is_empty()).then(|| format!("not looked at, by aws.kinds: {}", kinds.join(", ")))
}

/// What cannot be seen, region by region: what is shown of it may be old.
pub(super) fn trouble(regions: &[Value]) -> Vec<String> {
    let failing = regions.iter().flat_map(|region| {
        let name = text(region, "region");
        let record = field(region, "creations_failing").filter(|record| record.is_object());
        let record = record.map(|record| {
            let (since, why) = (text(record, "since"), text(record, "why"));
            format!("{name}: who made what cannot be read since {since}: {why}")
        });
        let kinds = rows(region, "failing").iter().map(move |kind| {
            let (kind, since, why) = (text(kind, "kind"), text(kind, "since"), text(kind, "why"));
            format!("{name}: {kind} not seen since {since}, and charged for as it was: {why}")
        });
        kinds.chain(record)
    });
    failing.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_said_beside_what_is() {
        let value = json!({
            "watching": "watching", "usd_per_hour": "3.00", "total": 2, "next_offset": 1,
            "assets": [{"id": "instance:eu-west-1/i-1", "agent": "a", "evidence": "tag", "usd_per_hour": "2.00"}],
            "regions": [{"region": "eu-west-1", "failing": [
                {"kind": "group", "since": "2026-11-20T02:00:00Z", "why": "throttled"}
            ], "creations_failing": {"since": "2026-11-20T02:05:00Z", "why": "AccessDenied"}}],
        });
        let shown = shown(&value);
        assert!(shown.contains("instance:eu-west-1/i-1"), "{shown}");
        assert!(
            shown.contains("$3.00 an hour, 2 assets; more with --offset 1"),
            "{shown}"
        );
        assert!(shown.contains("eu-west-1: group not seen since"), "{shown}");
        assert!(
            shown.contains("eu-west-1: who made what cannot be read since"),
            "{shown}"
        );
        let value = json!({ "watching": "watching", "assets": [], "not_looked_at": ["nat", "volume"] });
        let less = super::shown(&value);
        assert!(less.contains("not looked at, by aws.kinds: nat, volume"), "{less}");
        let off = super::shown(&json!({ "watching": "off", "assets": [] }));
        assert!(off.contains("aws.watch"), "{off}");
    }
}
