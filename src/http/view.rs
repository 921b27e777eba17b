//! What answers look like: JSON with amounts as exact decimal texts named `*_usd`, and times in RFC 3339.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::Failure;
use crate::config::show_duration;
use crate::domain::agent::AgentState;
use crate::domain::containment::state::Containment;
use crate::domain::id::AgentId;
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::manifest::Manifest;
use crate::domain::money::Usd;
use crate::domain::price::PriceEntry;
use crate::domain::review::Review;
use crate::domain::window::Window;
use crate::intake::usage::RowAnswer;
use crate::ledger::LineView;

pub(super) fn row_answer(answer: &RowAnswer) -> Value {
    match &answer.result {
        Ok(done) => json!({
            "row": answer.row,
            "id": answer.id,
            "status": if done.duplicate { "duplicate" } else { "posted" },
            "posting_id": done.posting,
            "amount_usd": done.amount.to_string(),
            "covered": done.covered,
            "task": done.task,
        }),
        Err(rejection) => json!({
            "row": answer.row,
            "id": answer.id,
            "status": "rejected",
            "error": Failure::from(rejection.clone()).to_json(),
        }),
    }
}

pub(super) fn hold(hold: &Hold) -> Value {
    json!({
        "hold_id": hold.id,
        "agent": hold.attribution.agent,
        "task": hold.attribution.task,
        "state": hold.state,
        "bound_usd": hold.bound.to_string(),
        "opened_at": hold.opened_at,
        "expires_at": hold.expires_at,
        "ended_at": hold.ended_at,
        "budgets": hold.lines.iter().map(|key| &key.budget).collect::<Vec<_>>(),
    })
}

/// A line's key as clients and operators name it.
pub(super) fn line_key(key: &LineKey) -> Value {
    json!({
        "budget": key.budget,
        "agent": key.agent,
        "value": key.value,
        "window_start": key.window.shown_start(),
        "window_end": key.window.end,
    })
}

pub(super) fn line(line: &Line, now: Timestamp) -> Value {
    let line = &line.clone().as_of(now);
    let lifted = line.is_lifted(now);
    whole_line(line, line.room().max(Usd::ZERO), lifted)
}

pub(super) fn line_view(view: &LineView) -> Value {
    let mut value = whole_line(&view.line, view.remaining, view.lifted);
    if let Value::Object(map) = &mut value {
        map.insert("applies_to_any_call".to_owned(), view.applies.into());
    }
    value
}

fn whole_line(line: &Line, remaining: Usd, lifted: bool) -> Value {
    let mut view = line_key(&line.key);
    let more = json!({
        "scope": line.rule.scope,
        "response": line.rule.response,
        "rolling_s": line.rule.rolling.map(|(length, _)| length),
        "limit_usd": line.limit().to_string(),
        "raised_usd": line.raise.to_string(),
        "posted_usd": line.posted.to_string(),
        "held_usd": line.held.to_string(),
        "unresolved_usd": line.unresolved.to_string(),
        "overage_usd": line.overage.to_string(),
        "remaining_usd": remaining.to_string(),
        "breached": line.breached == Some(line.revision),
        "lifted_until": line.lifted_until.filter(|_| lifted),
    });
    if let (Value::Object(view), Value::Object(more)) = (&mut view, more) {
        view.extend(more);
    }
    view
}

pub(super) fn agent(id: &AgentId, state: Option<&AgentState>, keys: usize) -> Value {
    json!({
        "id": id,
        "status": state.map(|state| state.status).unwrap_or_default(),
        "since": state.map(|state| state.since),
        "keys": keys,
        "reason": state.map_or("", |state| &state.reason),
    })
}

/// A window as a person says it: `day in Europe/Berlin`.
pub(super) fn window(window: &Window) -> String {
    const DAYS: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    match window {
        Window::Hour { timezone } => format!("hour in {timezone}"),
        Window::Day { timezone } => format!("day in {timezone}"),
        Window::Week { timezone, week_start } => {
            let start = usize::try_from(week_start - 1).ok().and_then(|day| DAYS.get(day));
            format!("week from {} in {timezone}", start.unwrap_or(&"Monday"))
        }
        Window::Month { timezone } => format!("month in {timezone}"),
        Window::Total => "total".to_owned(),
        Window::Rolling { length_s, bucket_s } => {
            let show = |seconds: u32| show_duration(Duration::from_secs(u64::from(seconds)));
            format!("last {} in buckets of {}", show(*length_s), show(*bucket_s))
        }
    }
}

pub(super) fn price(layer: &str, entry: &PriceEntry) -> Value {
    let bands = entry.bands.iter().map(|band| {
        let rates: serde_json::Map<String, Value> = band
            .rates
            .iter()
            .map(|(class, rate)| (class.name().to_owned(), rate.usd_per_million().to_string().into()))
            .collect();
        json!({ "tier": band.tier, "above_tokens": band.above, "usd_per_million": rates })
    });
    let units: serde_json::Map<String, Value> = entry
        .units
        .iter()
        .map(|(unit, rate)| (unit.to_owned(), rate.usd_per_million().to_string().into()))
        .collect();
    json!({
        "service": entry.service,
        "model": &*entry.model,
        "layer": layer,
        "bands": bands.collect::<Vec<_>>(),
        "usd_per_million_units": units,
        "min_seconds": entry.min_seconds,
        "context": entry.context,
        "max_output": entry.max_output,
        "provenance": {
            "kind": entry.provenance.kind,
            "source": &*entry.provenance.source,
            "date": &*entry.provenance.date,
        },
    })
}

pub(super) fn containment(containment: &Containment) -> Value {
    json!({
        "id": containment.id,
        "agent": containment.agent,
        "generation": containment.generation,
        "mode": containment.mode,
        "canary_drill": containment.canary.as_ref().map(|canary| canary.drill),
        "phase": containment.phase,
        "cause": containment.cause,
        "breached_at": containment.breached_at,
        "opened_at": containment.opened_at,
        "contained_at": containment.contained_at,
        "restoring_at": containment.restoring_at,
        "closed_at": containment.closed_at,
        "sweeps": containment.sweeps,
        "coverage": coverage(containment),
    })
}

/// The coverage report: what was denied, capped, ended and stopped, what still burns and why, dollars an hour
/// as exact texts, and seconds from the breach, or from the opening by a person.
fn coverage(containment: &Containment) -> Value {
    let coverage = &containment.coverage;
    let hourly = |id: &str| coverage.hourly.get(id).map(|hourly| hourly.usd.to_string());
    let burning = coverage.still_burning.iter().map(|line| {
        json!({
            "resource": line.resource,
            "why": line.why,
            "usd_per_hour": hourly(&line.resource),
        })
    });
    let burn = coverage.burn.map(|burn| {
        json!({
            "before_usd_per_hour": burn.before.to_string(),
            "now_usd_per_hour": burn.now.to_string(),
            "basis": burn.basis,
        })
    });
    let prices = coverage.hourly.iter().map(|(id, hourly)| {
        let price = json!({ "usd_per_hour": hourly.usd.to_string(), "basis": hourly.basis });
        (id.clone(), price)
    });
    let seconds = coverage.times.iter().map(|(class, span)| {
        let first = containment.seconds_to(span.first).as_secs_f64();
        let last = containment.seconds_to(span.last).as_secs_f64();
        json!({ "step": class, "first_s": first, "last_s": last })
    });
    json!({
        "observed_at": coverage.observed_at,
        "denied": coverage.denied,
        "capped": coverage.capped,
        "ended": coverage.ended,
        "ended_before": coverage.ended_before,
        "stopped": coverage.stopped,
        "still_burning": burning.collect::<Vec<_>>(),
        "attribution_pending_until": coverage.attribution_pending_until,
        "attribution_pending": coverage.attribution_pending,
        "burn": burn,
        "burnt_usd": coverage.burnt.map(|burnt| burnt.usd.to_string()),
        "prices": prices.collect::<serde_json::Map<_, _>>(),
        "seconds_from": containment.counted_from(),
        "seconds": seconds.collect::<Vec<_>>(),
    })
}

/// What an agent may use, as it is in force.
pub(super) fn manifest(manifest: &Manifest) -> Value {
    json!({
        "allowed_tools": manifest.tools().keys().collect::<Vec<_>>(),
        "blacklisted_tools": manifest.blacklisted(),
        "models": manifest.models(),
        "max_tokens": manifest.max_tokens(),
    })
}

pub(super) fn review(review: &Review) -> Value {
    json!({
        "id": review.id,
        "agent": review.agent,
        "opened_at": review.opened_at,
        "question": review.question,
        "summary": review.summary,
        "evidence": serde_json::from_str::<Value>(&review.evidence).unwrap_or_else(|_| review.evidence.clone().into()),
        "decision": review.decision,
    })
}
