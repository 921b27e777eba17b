//! A hold that an agent asks for itself, for spend that does not pass the gateway, and its capture.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{amount, field, labels, name, object, upstream_request, whole};
use super::row::{Charge, charge};
use crate::domain::id::{AgentId, LabelKey, ModelId, ServiceId, TaskId, ToolName};
use crate::domain::ledger::posting::Attribution;
use crate::domain::money::Usd;
use crate::domain::price::{CallBound, Catalogue, MICROS_PER_SECOND, worst_case};
use crate::domain::rejection::Rejection;

/// The longest that a hold may be open, in seconds.
pub const MAX_TTL_S: u64 = 24 * 3600;
/// The longest that a caller may wait for room, in seconds.
const MAX_WAIT_S: u64 = 60;
/// More units than any call has; bounds every product.
const MAX_UNITS: u64 = 1_000_000_000;

/// A hold that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct HoldRow {
    pub task: TaskId,
    pub service: Option<ServiceId>,
    pub model: Option<ModelId>,
    pub tool: Option<ToolName>,
    pub labels: BTreeMap<LabelKey, String>,
    bound: Bound,
    pub ttl_s: Option<u64>,
    pub wait_s: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Bound {
    Amount(Usd),
    /// What the call can use at most; priced at every rate's highest.
    Call(Box<CallBound>),
}

/// Reads a request for a hold.
pub fn parse_hold(value: &Value) -> Result<HoldRow, Rejection> {
    let known = [
        "task",
        "service",
        "model",
        "tool",
        "labels",
        "bound_usd",
        "max_input_tokens",
        "max_output_tokens",
        "max_seconds",
        "max_characters",
        "max_images",
        "ttl_s",
        "wait_s",
    ];
    let map = object(value, &known)?;
    Ok(HoldRow {
        task: name(map, "task")?.unwrap_or_else(TaskId::none),
        service: name(map, "service")?,
        model: name(map, "model")?,
        tool: name(map, "tool")?,
        labels: labels(map.get("labels"))?,
        bound: bound(map)?,
        ttl_s: whole(map, "ttl_s", MAX_TTL_S)?,
        wait_s: whole(map, "wait_s", MAX_WAIT_S)?,
    })
}

fn bound(map: &Map<String, Value>) -> Result<Bound, Rejection> {
    let units = |key| whole(map, key, MAX_UNITS);
    let call = CallBound {
        input_tokens: units("max_input_tokens")?.unwrap_or(0),
        output_tokens: units("max_output_tokens")?.unwrap_or(0),
        micros: units("max_seconds")?.unwrap_or(0).saturating_mul(MICROS_PER_SECOND),
        characters: units("max_characters")?.unwrap_or(0),
        images: units("max_images")?.unwrap_or(0),
        requests: 1,
        audio: true,
        image: true,
        ..CallBound::default()
    };
    let says_units = map.keys().any(|key| key.starts_with("max_"));
    match (amount(map, "bound_usd")?, says_units) {
        (Some(_), true) => Err(field(
            "bound_usd",
            "send either bound_usd or the call's max_… fields, not both",
        )),
        (Some(amount), false) => Ok(Bound::Amount(amount)),
        (None, true) => Ok(Bound::Call(Box::new(call))),
        (None, false) => Err(field(
            "bound_usd",
            "missing: say what the call costs at most, or what it uses at most (max_input_tokens, max_output_tokens, …)",
        )),
    }
}

impl HoldRow {
    /// The hold's bound in money.
    pub fn bound(&self, catalogue: &Catalogue) -> Result<Usd, Rejection> {
        match &self.bound {
            Bound::Amount(amount) => Ok(*amount),
            Bound::Call(call) => {
                let (Some(service), Some(model)) = (&self.service, &self.model) else {
                    return Err(field("model", "missing: the bound is priced by service and model"));
                };
                let quote = catalogue
                    .quote(service, model)
                    .map_err(|_unknown| Rejection::PriceUnknown {
                        what: format!("model {model} of {service}"),
                    })?;
                worst_case(call, &quote.entry).map_err(|problem| field("model", problem))
            }
        }
    }

    pub fn attribution(self, agent: AgentId) -> Attribution {
        Attribution {
            agent,
            task: self.task,
            service: self.service,
            model: self.model,
            tool: self.tool,
            labels: self.labels,
        }
    }
}

/// A capture: what the call behind a hold cost.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureRow {
    pub charge: Charge,
    pub upstream_request: Option<String>,
}

/// Reads a request to capture.
pub fn parse_capture(value: &Value) -> Result<CaptureRow, Rejection> {
    let map = object(value, &["cost_usd", "usage", "api", "upstream_request_id"])?;
    Ok(CaptureRow {
        charge: charge(map, "cost_usd")?,
        upstream_request: upstream_request(map)?,
    })
}
