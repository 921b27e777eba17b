//! `[[budget]]`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;

use super::agents::{Agents, place};
use super::reader::{Item, Table};
use super::sections::MAX_LIMIT;
use super::settings::{BudgetRule, Patterns};
use super::tree::Origin;
use super::values;
use crate::domain::budget::{Budget, Selector};
use crate::domain::id::{BudgetId, LabelKey};
use crate::domain::ledger::line::{Response, Scope};
use crate::domain::money::Usd;
use crate::domain::window::Window;

/// Budgets at most: a call is matched against each of them.
const MAX_BUDGETS: usize = 10_000;
/// Live buckets of a rolling line at most: they travel with the line in every commit.
const MAX_BUCKETS: u64 = 500;
const DAY_S: u64 = 24 * 3600;

pub(super) fn budgets(item: Option<Item<'_>>, agents: &Agents) -> Option<Vec<BudgetRule>> {
    let Some(item) = item else { return Some(Vec::new()) };
    let tables = item.tables()?;
    if tables.len() > MAX_BUDGETS {
        item.error(
            &format!("{} budgets, and at most {MAX_BUDGETS} are taken", tables.len()),
            None,
        );
        return None;
    }
    let mut seen: BTreeMap<BudgetId, &Origin> = BTreeMap::new();
    let rules: Vec<Option<BudgetRule>> = tables.iter().map(|table| budget(table, agents, &mut seen)).collect();
    rules.into_iter().collect()
}

fn budget<'a>(table: &Table<'a>, agents: &Agents, seen: &mut BTreeMap<BudgetId, &'a Origin>) -> Option<BudgetRule> {
    let id = table
        .required("name", "every budget has a name = \"…\"")
        .and_then(|item| name(&item, seen));
    let scope = table
        .required(
            "scope",
            "one of \"fleet\", \"agent\", \"task\", \"model\", \"tool\", \"label\"",
        )
        .and_then(|item| item.word(&SCOPES));
    let label = label(table, scope);
    let agent_globs = selector(table, "agents");
    let model_globs = selector(table, "models");
    let tool_globs = selector(table, "tools");
    let labels = label_selectors(table);
    let window = window(table);
    let limit = table
        .required("limit_usd", "the limit in dollars, such as limit_usd = \"50\"")
        .and_then(|item| limit(&item));
    let response = table
        .required(
            "response",
            "what to do at a breach: \"alert\", \"pause\", \"revoke\" or \"contain\"",
        )
        .and_then(|item| item.word(&RESPONSES));
    let alert_at = match table.get("alert_at") {
        Some(item) => alert_at(&item, response),
        None => Some(vec![50, 80]),
    };
    if let Some(Some(globs)) = &agent_globs {
        selects_someone(globs, agents);
    }
    table.finish();

    let (agent_globs, model_globs, tool_globs, labels) = (agent_globs?, model_globs?, tool_globs?, labels?);
    let texts = |globs: &Option<Globs<'_>>| globs.as_ref().map_or_else(Vec::new, |globs| globs.patterns.clone());
    let patterns = Patterns {
        agents: texts(&agent_globs),
        models: texts(&model_globs),
        tools: texts(&tool_globs),
        labels: labels
            .iter()
            .map(|(key, globs)| (key.to_string(), globs.patterns.clone()))
            .collect(),
    };
    let set = |globs: Option<Globs<'_>>| globs.map(|globs| globs.set);
    let budget = Budget {
        id: id?,
        scope: scope?,
        label: label?,
        selector: Selector {
            agents: set(agent_globs),
            models: set(model_globs),
            tools: set(tool_globs),
            labels: labels.into_iter().map(|(key, globs)| (key, globs.set)).collect(),
        },
        window: window?,
        limit: limit?,
        alert_at: alert_at?,
        response: response?,
    };
    Some(BudgetRule {
        budget: Arc::new(budget),
        patterns,
    })
}

const SCOPES: [(&str, Scope); 6] = [
    ("fleet", Scope::Fleet),
    ("agent", Scope::Agent),
    ("task", Scope::Task),
    ("model", Scope::Model),
    ("tool", Scope::Tool),
    ("label", Scope::Label),
];

const RESPONSES: [(&str, Response); 4] = [
    ("alert", Response::Alert),
    ("pause", Response::Pause),
    ("revoke", Response::Revoke),
    ("contain", Response::Contain),
];

fn name<'a>(item: &Item<'a>, seen: &mut BTreeMap<BudgetId, &'a Origin>) -> Option<BudgetId> {
    let id = BudgetId::new(item.text()?)
        .map_err(|error| item.error(&error.to_string(), None))
        .ok()?;
    if let Some(first) = seen.insert(id.clone(), item.origin()) {
        item.error(
            &format!("budget {id} is named twice, first {}", place(first)),
            "names are unique",
        );
        return None;
    }
    Some(id)
}

/// `label` and `scope = "label"` come together or not at all.
fn label(table: &Table<'_>, scope: Option<Scope>) -> Option<Option<LabelKey>> {
    let item = table.get("label");
    match (item, scope) {
        (Some(item), Some(Scope::Label) | None) => label_key(&item, item.text()?).map(Some),
        (Some(item), Some(_)) => {
            item.error(
                "is only for scope = \"label\"",
                "to select by labels, write labels = { team = [\"research\"] }",
            );
            None
        }
        (None, Some(Scope::Label)) => {
            table.missing(
                "label",
                "scope = \"label\" needs the label whose values are added up apart",
            );
            None
        }
        (None, _) => Some(None),
    }
}

fn label_key(item: &Item<'_>, text: &str) -> Option<LabelKey> {
    LabelKey::new(text)
        .map_err(|error| item.error(&error.to_string(), None))
        .ok()
}

/// A compiled selector.
struct Globs<'a> {
    item: Item<'a>,
    patterns: Vec<String>,
    set: GlobSet,
}

/// `Some(None)` when it is left out and so selects all.
fn selector<'a>(table: &Table<'a>, key: &'static str) -> Option<Option<Globs<'a>>> {
    table.get(key).map_or(Some(None), |item| globs(item).map(Some))
}

fn globs(item: Item<'_>) -> Option<Globs<'_>> {
    let patterns = item.texts(1000, |item, text| {
        let sound = !text.is_empty() && text.len() <= 256 && values::globs(std::iter::once(text)).is_some();
        if !sound {
            item.error(
                &format!("{} is not a glob", values::shown(text)),
                "such as \"support-*\" or \"gpt-5*\"",
            );
        }
        sound.then(|| text.to_owned())
    })?;
    if patterns.is_empty() {
        item.error("selects nothing", "leave it out to select all");
        return None;
    }
    let Some(set) = values::globs(patterns.iter().map(String::as_str)) else {
        item.error("is too large a set of globs", None);
        return None;
    };
    Some(Globs { item, patterns, set })
}

fn label_selectors<'a>(table: &Table<'a>) -> Option<Vec<(LabelKey, Globs<'a>)>> {
    let Some(item) = table.get("labels") else {
        return Some(Vec::new());
    };
    let entries = item.table()?.items();
    let read: Vec<Option<(LabelKey, Globs<'a>)>> = entries
        .into_iter()
        .map(|(key, item)| {
            let key = label_key(&item, key);
            let globs = globs(item);
            Some((key?, globs?))
        })
        .collect();
    read.into_iter().collect()
}

/// A selector that matches no agent is a slip of the pen: the budget would guard nobody.
fn selects_someone(globs: &Globs<'_>, agents: &Agents) {
    if !agents.whole || agents.list.is_empty() || globs.item.report().is_broken() {
        return;
    }
    if !agents.list.iter().any(|agent| globs.set.is_match(agent.id.as_str())) {
        let names: Vec<&str> = agents.list.iter().take(10).map(|agent| agent.id.as_str()).collect();
        let more = if agents.list.len() > names.len() { ", …" } else { "" };
        let hint = format!("the agents are: {}{more}", names.join(", "));
        globs.item.error_hint("selects no agent", hint);
        return;
    }
    for pattern in &globs.patterns {
        let alone = values::globs(std::iter::once(pattern.as_str()));
        if alone.is_some_and(|set| !agents.list.iter().any(|agent| set.is_match(agent.id.as_str()))) {
            globs
                .item
                .warning(&format!("{} matches no agent", values::shown(pattern)), None);
        }
    }
}

fn limit(item: &Item<'_>) -> Option<Usd> {
    let amount = item.usd()?;
    if amount <= Usd::ZERO {
        item.error(
            "must be above zero",
            "to stop an agent altogether, use: backstop pause AGENT",
        );
        return None;
    }
    if amount > MAX_LIMIT {
        item.error(
            "must be at most one billion dollars",
            "a limit that nothing can reach guards nothing",
        );
        return None;
    }
    Some(amount)
}

/// Ascending and each once. Above 100 only where the budget itself does not stop anything.
fn alert_at(item: &Item<'_>, response: Option<Response>) -> Option<Vec<u16>> {
    let max = if matches!(response, Some(Response::Alert) | None) {
        1000
    } else {
        100
    };
    let mut percentages: Vec<u16> = item.integers(20, &(1..=max))?;
    percentages.sort_unstable();
    percentages.dedup();
    Some(percentages)
}

fn window(table: &Table<'_>) -> Option<Window> {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Hour,
        Day,
        Week,
        Month,
        Total,
    }
    const WORDS: [(&str, Word); 5] = [
        ("hour", Word::Hour),
        ("day", Word::Day),
        ("week", Word::Week),
        ("month", Word::Month),
        ("total", Word::Total),
    ];
    let named = table.get("window");
    let rolling_item = table.get("rolling");
    let bucket_item = table.get("bucket");
    let timezone_item = table.get("timezone");
    let week_start_item = table.get("week_start");

    let timezone = match &timezone_item {
        Some(item) => timezone(item),
        None => Some("UTC".to_owned()),
    };
    let week_start = match &week_start_item {
        Some(item) => item.word(&WEEKDAYS),
        None => Some(1),
    };
    let unused = |item: &Option<Item<'_>>, why: &str| {
        if let Some(item) = item {
            item.warning(&format!("has no effect {why}"), None);
        }
    };
    match (named, rolling_item) {
        (None, None) => {
            table.missing(
                "window",
                "\"hour\", \"day\", \"week\", \"month\" or \"total\"; or rolling = \"5h\"",
            );
            None
        }
        (Some(_), Some(rolling)) => {
            rolling.error("window is set as well", "set one of the two");
            None
        }
        (None, Some(item)) => {
            unused(&timezone_item, "on a rolling window");
            unused(&week_start_item, "on a rolling window");
            rolling(&item, bucket_item.as_ref())
        }
        (Some(item), None) => {
            let word = item.word(&WORDS);
            if let Some(item) = &bucket_item {
                item.error(
                    "is only for rolling windows",
                    "leave it out, or write rolling instead of window",
                );
                return None;
            }
            let word = word?;
            if word != Word::Week {
                unused(&week_start_item, "but on window = \"week\"");
            }
            if word == Word::Total {
                unused(&timezone_item, "on window = \"total\"");
            }
            let timezone = timezone?;
            Some(match word {
                Word::Hour => Window::Hour { timezone },
                Word::Day => Window::Day { timezone },
                Word::Week => Window::Week {
                    timezone,
                    week_start: week_start?,
                },
                Word::Month => Window::Month { timezone },
                Word::Total => Window::Total,
            })
        }
    }
}

/// ISO 8601: Monday is 1.
const WEEKDAYS: [(&str, i8); 7] = [
    ("monday", 1),
    ("tuesday", 2),
    ("wednesday", 3),
    ("thursday", 4),
    ("friday", 5),
    ("saturday", 6),
    ("sunday", 7),
];

fn timezone(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.len() > 64 || jiff::tz::TimeZone::get(text).is_err() {
        let near = super::suggest::nearest_of(text, jiff::tz::db().available().map(|name| name.to_string()));
        let hint = near.map_or_else(
            || "an IANA name, such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
            |near| format!("did you mean \"{near}\"?"),
        );
        item.error_hint(&format!("{} is not a time zone", values::shown(text)), hint);
        return None;
    }
    Some(text.to_owned())
}

fn rolling(item: &Item<'_>, bucket_item: Option<&Item<'_>>) -> Option<Window> {
    let length = item.duration(Duration::from_secs(60)..=Duration::from_secs(366 * DAY_S))?;
    let length_s = whole_seconds(item, length)?;
    let bucket_s = match bucket_item {
        None => default_bucket(length_s),
        Some(bucket_item) => {
            let bucket = bucket_item.duration(Duration::from_secs(1)..=length)?;
            let bucket_s = whole_seconds(bucket_item, bucket)?;
            if length_s % bucket_s != 0 {
                bucket_item.error(
                    "does not divide the rolling window into whole buckets",
                    "such as \"5m\" of \"5h\"",
                );
                return None;
            }
            if length_s / bucket_s > MAX_BUCKETS {
                let message = format!(
                    "makes {} buckets, and a line keeps at most {MAX_BUCKETS}",
                    length_s / bucket_s
                );
                bucket_item.error(&message, "take a longer bucket");
                return None;
            }
            bucket_s
        }
    };
    Some(Window::Rolling {
        length_s: u32::try_from(length_s).ok()?,
        bucket_s: u32::try_from(bucket_s).ok()?,
    })
}

fn whole_seconds(item: &Item<'_>, duration: Duration) -> Option<u64> {
    if duration.subsec_nanos() != 0 {
        item.error("must be whole seconds", None);
        return None;
    }
    Some(duration.as_secs())
}

/// The longest of the usual lengths that cuts the window into at least 60 whole buckets; a window too
/// odd for all of them is cut into as many as it divides into.
fn default_bucket(length_s: u64) -> u64 {
    let fits = |bucket: &u64| length_s % bucket == 0 && length_s / bucket >= 60 && length_s / bucket <= MAX_BUCKETS;
    [6 * 3600, 3600, 1800, 900, 600, 300, 60, 30, 10, 5, 1]
        .into_iter()
        .find(fits)
        .unwrap_or_else(|| {
            let buckets = (1..=MAX_BUCKETS)
                .rev()
                .find(|buckets| length_s % buckets == 0)
                .unwrap_or(1);
            length_s / buckets
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_rolling_windows_get_usual_buckets() {
        assert_eq!(default_bucket(5 * 3600), 300);
        assert_eq!(default_bucket(3600), 60);
        assert_eq!(default_bucket(24 * 3600), 900);
        assert_eq!(default_bucket(60), 1);
    }

    proptest! {
        #[test]
        fn every_rolling_window_gets_whole_and_bounded_buckets(length_s in 60_u64..=366 * DAY_S) {
            let bucket = default_bucket(length_s);
            prop_assert_eq!(length_s % bucket, 0);
            prop_assert!(length_s / bucket <= MAX_BUCKETS && length_s / bucket >= 1);
        }
    }
}
