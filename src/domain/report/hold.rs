//! A hold that an agent asks for itself, for spend that does not pass the gateway, and its capture.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{amount, field, labels, name, object, upstream_request, whole};
use super::row::{Charge, charge};
use crate::domain::id::{AgentId, LabelKey, ModelId, ServiceId, TaskId, ToolName};
use crate::domain::ledger::posting::Attribution;
use crate::domain::money::Usd;
use crate::domain::price::{CallBound, Catalogue, MICROS_PER_SECOND, PriceEntry, Rate, worst_case};
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
    Units(Units),
}

/// What the caller says that the call can use at most. What it leaves out is not nothing: it is not
/// bounded, and the price decides whether that matters (L7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Units {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    seconds: Option<u64>,
    characters: Option<u64>,
    images: Option<u64>,
}

impl Units {
    /// The bound of a call at this price. Every unit that the price charges for is bounded: by the
    /// caller, else by what the model can take or give at all, else the hold is refused (L4).
    fn call(self, entry: &PriceEntry) -> Result<CallBound, Rejection> {
        let (input, output) = (entry.charges_input(), entry.charges_output());
        let units = &entry.units;
        // A model that is priced by tokens is bounded by them; a rate for seconds beside them is another
        // way to bill the same call.
        let charges_unit = |rate: Option<Rate>| !input && !output && rate.is_some_and(|rate| !rate.is_zero());
        Ok(CallBound {
            input_tokens: most("max_input_tokens", self.input_tokens.or(entry.context), input)?,
            output_tokens: most("max_output_tokens", self.output_tokens.or(entry.max_output), output)?,
            micros: most("max_seconds", self.seconds, charges_unit(units.second))?.saturating_mul(MICROS_PER_SECOND),
            characters: most("max_characters", self.characters, charges_unit(units.character))?,
            images: most("max_images", self.images, charges_unit(units.image))?,
            requests: 1,
            audio: true,
            image: true,
            ..CallBound::default()
        })
    }
}

/// How many of a unit there are at most. One that is not charged for costs nothing, however many.
fn most(key: &str, said: Option<u64>, is_charged: bool) -> Result<u64, Rejection> {
    match said {
        Some(count) => Ok(count),
        None if !is_charged => Ok(0),
        None => Err(field(
            key,
            "missing: the model charges for it, and no list says how much one call can use at most",
        )),
    }
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
    let call = Units {
        input_tokens: units("max_input_tokens")?,
        output_tokens: units("max_output_tokens")?,
        seconds: units("max_seconds")?,
        characters: units("max_characters")?,
        images: units("max_images")?,
    };
    let said = [
        call.input_tokens,
        call.output_tokens,
        call.seconds,
        call.characters,
        call.images,
    ];
    let says_units = said.iter().any(Option::is_some);
    match (amount(map, "bound_usd")?, says_units) {
        (Some(_), true) => Err(field(
            "bound_usd",
            "send either bound_usd or the call's max_… fields, not both",
        )),
        (Some(Usd::ZERO), false) => Err(field("bound_usd", "a call that may cost nothing at all needs no hold")),
        (Some(amount), false) => Ok(Bound::Amount(amount)),
        (None, true) => Ok(Bound::Units(call)),
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
            Bound::Units(units) => {
                let (Some(service), Some(model)) = (&self.service, &self.model) else {
                    return Err(field("model", "missing: the bound is priced by service and model"));
                };
                let quote = catalogue
                    .quote(service, model)
                    .map_err(|_unknown| Rejection::PriceUnknown {
                        what: format!("model {model} of {service}"),
                    })?;
                let call = units.call(&quote.entry)?;
                worst_case(&call, &quote.entry).map_err(|problem| field("model", problem))
            }
        }
    }

    /// Whose hold it is and what it is for; the model by the name that budgets match.
    pub fn attribution(self, agent: AgentId, catalogue: &Catalogue) -> Attribution {
        let service = self.service.as_ref();
        Attribution {
            agent,
            task: self.task,
            model: self.model.map(|model| catalogue.known_as(service, &model)),
            service: self.service,
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bound(hold: Value) -> Result<Usd, Rejection> {
        parse_hold(&hold)?.bound(&Catalogue::builtin())
    }

    /// **L4**: what the caller leaves out is bounded by what the model can give, and is not nothing.
    #[test]
    fn a_unit_that_is_left_out_is_not_nothing() {
        let catalogue = Catalogue::builtin();
        let (service, model) = ("openai".parse().unwrap(), "gpt-5-mini".parse().unwrap());
        let entry = catalogue.quote(&service, &model).unwrap().entry;
        let most = entry.max_output.expect("the list says how much it writes");
        let hold = |more: Value| {
            let mut hold = json!({"service": "openai", "model": "gpt-5-mini"});
            hold.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            bound(hold)
        };
        let all = hold(json!({"max_input_tokens": 1000, "max_output_tokens": most}));
        assert!(all.is_ok());
        assert_eq!(hold(json!({"max_input_tokens": 1000})), all);
        assert_eq!(hold(json!({"max_input_tokens": 1000, "max_output_tokens": null})), all);
        let one = hold(json!({"max_input_tokens": 1000, "max_output_tokens": 0}));
        assert!(
            one.unwrap() < all.clone().unwrap(),
            "an explicit nothing is a promise, and it counts"
        );
        let context = hold(json!({"max_input_tokens": entry.context, "max_output_tokens": 5}));
        assert_eq!(hold(json!({"max_output_tokens": 5})), context);
    }

    #[test]
    fn a_bound_of_nothing_is_refused() {
        assert!(parse_hold(&json!({"bound_usd": "0"})).is_err());
        assert!(parse_hold(&json!({"bound_usd": "0.000000001"})).is_ok());
    }

    #[test]
    fn a_hold_is_for_the_model_that_is_priced() {
        let hold = json!({"service": "openai", "model": "openai/gpt-5-mini-2031-01-01", "bound_usd": "1"});
        let spend = parse_hold(&hold)
            .unwrap()
            .attribution("a".parse().unwrap(), &Catalogue::builtin());
        assert_eq!(spend.model, Some("gpt-5-mini".parse().unwrap()));
    }

    /// A unit that nothing bounds is asked for by its name.
    #[test]
    fn a_unit_that_no_list_bounds_is_asked_for() {
        let rate = Rate::per_million("100").unwrap();
        let ceiling = crate::domain::price::Ceiling::per_token(rate);
        let catalogue = Catalogue::builtin().with_ceiling(Some(ceiling));
        let problem = |hold: Value| {
            let hold = parse_hold(&hold).unwrap().bound(&catalogue);
            hold.map_err(|rejection| rejection.to_string())
        };
        let hold = |key: &str| json!({"service": "openai", "model": "gpt-99", key: 1000});
        assert!(
            problem(hold("max_input_tokens"))
                .unwrap_err()
                .starts_with("max_output_tokens: missing")
        );
        assert!(
            problem(hold("max_output_tokens"))
                .unwrap_err()
                .starts_with("max_input_tokens: missing")
        );
        let both = json!({
            "service": "openai", "model": "gpt-99", "max_input_tokens": 1000, "max_output_tokens": 1000,
        });
        assert!(problem(both).is_ok());
        assert!(
            parse_hold(&json!({"max_output_tokens": null})).is_err(),
            "nothing is said at all"
        );
    }
}
