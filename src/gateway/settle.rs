//! What a call cost, by what its provider says was used.
//!
//! Only a usage that was understood settles a call; anything else leaves it at its bound (**L7**). Which
//! refusals of a provider cost nothing is said in [`turned_away`](super::turned_away).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::call::{Answer, Fees, Media, Stated};
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::money::Usd;
use crate::domain::price::{CallBound, Catalogue, PriceEntry, Region, ServiceTier, SettleRejection, Usage, settle};

/// By what a call is settled.
pub(super) struct Bill {
    pub(super) route: &'static str,
    pub(super) service: ServiceId,
    /// Where the call was processed, if its answer does not say.
    pub(super) region: Region,
    pub(super) terms: Terms,
}

pub(super) enum Terms {
    /// It provably costs nothing.
    Free,
    /// Each call is charged this.
    Ceiling(Usd),
    Metered {
        model: Option<ModelId>,
        entry: Arc<PriceEntry>,
        /// What the request asked for that moves the price of all of it.
        wanted: Wanted,
        /// What tools at the provider may have cost.
        fees: Fees,
        /// What a call that is no conversation is billed by.
        media: Option<Media>,
    },
}

/// A tier, a mode and a region that a request asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) tier: Option<ServiceTier>,
    pub(super) fast: bool,
    pub(super) region: Option<Region>,
}

impl From<&CallBound> for Wanted {
    fn from(most: &CallBound) -> Self {
        Self {
            tier: most.tier,
            fast: most.fast,
            region: most.region,
        }
    }
}

impl Wanted {
    /// Where the answer is silent on how it was served, it is taken to be as was asked for. But what would be
    /// cheaper for it is not: a provider may serve a call that asked for a discount without one.
    fn fill(self, usage: &mut Usage, stated: Stated) {
        if let Some(tier) = self.tier.filter(|tier| !stated.tier && !tier.is_discount()) {
            usage.tier = tier;
        }
        usage.fast |= self.fast && !stated.fast;
        if let Some(region) = self.region.filter(|_| !stated.region) {
            usage.region = region;
        }
    }
}

/// What a call cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cost {
    Known {
        usd: Usd,
        upstream_request: Option<String>,
        detail: Option<String>,
    },
    Unknown(String),
}

impl Cost {
    pub(super) fn unknown(why: impl ToString) -> Self {
        Self::Unknown(why.to_string())
    }
}

impl Bill {
    /// Whether the provider may have run tools of its own, and its model between them.
    pub(super) fn runs_tools(&self) -> bool {
        matches!(&self.terms, Terms::Metered { fees, .. } if fees.any())
    }

    /// Whether an answer that says nothing may be measured itself.
    pub(super) fn is_measured(&self) -> bool {
        matches!(&self.terms, Terms::Metered { media: Some(_), .. })
    }

    /// The cost by an answer that was read to its end. `body` is all of it, where an answer that says nothing
    /// of what it used may be measured itself.
    pub(super) fn cost(&self, answer: &Answer, body: &[u8], catalogue: &Catalogue) -> Cost {
        let (model, entry, wanted, fees, media) = match &self.terms {
            Terms::Free => return self.known(Usd::ZERO, answer, None),
            Terms::Ceiling(ceiling) => return self.known(*ceiling, answer, Some(json!({ "ceiling": true }))),
            Terms::Metered {
                model,
                entry,
                wanted,
                fees,
                media,
            } => (model, entry, wanted, fees, media),
        };
        let unreported = || media.as_ref()?.unreported(entry, body);
        let mut usage = match (&answer.usage, &answer.fault) {
            (Some(usage), None) => *usage,
            (_, Some(fault)) => return Cost::unknown(fault),
            (None, None) => match unreported() {
                Some(usage) => usage,
                None => return Cost::unknown("the answer does not say what it used"),
            },
        };
        wanted.fill(&mut usage, answer.stated);
        if usage.region == Region::Global {
            usage.region = self.region;
        }
        let reported = usage;
        let owed = fees.owed(answer, &mut usage, entry);
        let asked = model.as_ref().map(ModelId::as_str);
        let answered = answer.model.as_deref().filter(|&answered| Some(answered) != asked);
        match self.charge(&usage, entry, answered, catalogue) {
            Ok(usd) => {
                let detail = detail(self.route, &reported, asked, answered);
                self.known(usd.saturating_add(owed), answer, Some(detail))
            }
            Err(why) => Cost::unknown(why),
        }
    }

    /// The higher of the prices of what was asked for and of what the provider says has answered: an alias
    /// may stand for a dearer model, and no answer makes a call cheaper than what was asked for.
    fn charge(
        &self,
        usage: &Usage,
        entry: &Arc<PriceEntry>,
        answered: Option<&str>,
        catalogue: &Catalogue,
    ) -> Result<Usd, SettleRejection> {
        let usd = settle(usage, entry)?;
        let other = answered
            .and_then(|name| ModelId::new(name).ok())
            .and_then(|model| catalogue.quote(&self.service, &model).ok())
            .filter(|quote| !quote.is_ceiling() && !Arc::ptr_eq(&quote.entry, entry))
            .and_then(|quote| settle(usage, &quote.entry).ok());
        Ok(other.map_or(usd, |other| other.max(usd)))
    }

    fn known(&self, usd: Usd, answer: &Answer, detail: Option<Value>) -> Cost {
        Cost::Known {
            usd,
            upstream_request: answer.id.clone(),
            detail: detail.map(|detail| detail.to_string()),
        }
    }
}

/// What was counted, for a person.
fn detail(route: &str, usage: &Usage, asked: Option<&str>, answered: Option<&str>) -> Value {
    let mut detail = Map::new();
    detail.insert("route".to_owned(), route.into());
    for (key, name) in [("model", asked), ("answered", answered)] {
        if let Some(name) = name {
            detail.insert(key.to_owned(), name.into());
        }
    }
    for (class, count) in usage.tokens.iter() {
        detail.insert(class.name().to_owned(), count.into());
    }
    for (name, count) in [
        ("audio microseconds", usage.micros),
        ("characters", usage.characters),
        ("images", usage.images),
        ("web searches", usage.web_searches),
    ] {
        if count > 0 {
            detail.insert(name.to_owned(), count.into());
        }
    }
    detail.insert("tier".to_owned(), usage.tier.name().into());
    Value::Object(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::{Route, read_answer};
    use crate::domain::price::TokenClass;

    fn bill(route: &'static str, service: &str, region: Region, model: &str, wanted: Wanted) -> Bill {
        let service: ServiceId = service.parse().unwrap();
        let model: ModelId = model.parse().unwrap();
        let quote = Catalogue::builtin().quote(&service, &model).expect("it is listed");
        let terms = Terms::Metered {
            model: Some(model),
            entry: quote.entry,
            wanted,
            fees: Fees::default(),
            media: None,
        };
        Bill {
            route,
            service,
            region,
            terms,
        }
    }

    fn cost(bill: &Bill, answer: &Answer) -> Usd {
        match bill.cost(answer, &[], &Catalogue::builtin()) {
            Cost::Known { usd, .. } => usd,
            Cost::Unknown(why) => panic!("{why}"),
        }
    }

    /// Its provider has a host for each region and says in no answer which it was.
    #[test]
    fn a_region_that_no_answer_names_is_charged_all_the_same() {
        let service: ServiceId = "openai".parse().unwrap();
        let model = crate::domain::price::builtin()
            .iter()
            .find(|entry| entry.service == service && entry.uplifts.eu.is_some() && !entry.model.contains('#'))
            .map(|entry| entry.model.to_string())
            .expect("a model with a price of its own in the EU");
        let cost = |region, said| {
            let bill = bill("chat/completions", "openai", region, &model, Wanted::default());
            let answer = Answer {
                usage: Some(Usage {
                    region: said,
                    ..Usage::one_call().token(TokenClass::Input, 1_000_000)
                }),
                ..Answer::default()
            };
            cost(&bill, &answer)
        };
        let eu = cost(Region::Global, Region::Eu);
        assert!(eu > cost(Region::Global, Region::Global));
        assert_eq!(cost(Region::Eu, Region::Global), eu);
        assert_eq!(cost(Region::Us, Region::Eu), eu, "what the answer says counts");
    }

    #[test]
    fn silence_after_a_dearer_request_is_charged_as_it_was_asked() {
        let answer = |tier: Value, beside: Value| {
            let body = json!({
                "id": "c", "model": "gpt-5", "choices": [], "service_tier": beside,
                "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "service_tier": tier}
            });
            read_answer(Route::ChatCompletions, body.to_string().as_bytes()).expect("an answer")
        };
        let nothing = || answer(Value::Null, Value::Null);
        let asked = |tier| {
            let wanted = Wanted {
                tier,
                ..Wanted::default()
            };
            bill("chat/completions", "openai", Region::Global, "gpt-5", wanted)
        };
        let standard = cost(&asked(None), &nothing());
        let dearer = cost(&asked(Some(ServiceTier::Priority)), &nothing());
        assert!(dearer > standard, "{dearer} {standard}");
        let priority = asked(Some(ServiceTier::Priority));
        assert_eq!(
            cost(&priority, &answer(Value::Null, json!("auto"))),
            dearer,
            "auto is no tier"
        );
        for said in [
            answer(Value::Null, json!("default")),
            answer(json!("default"), Value::Null),
        ] {
            assert_eq!(cost(&priority, &said), standard, "what the answer says counts");
        }
        assert_eq!(
            cost(&asked(Some(ServiceTier::Flex)), &nothing()),
            standard,
            "a discount is not presumed"
        );
        assert!(cost(&asked(Some(ServiceTier::Flex)), &answer(Value::Null, json!("flex"))) < standard);
    }

    #[test]
    fn silence_on_the_mode_and_the_region_of_a_message_is_charged_as_they_were_asked() {
        let model = |has: fn(&PriceEntry) -> bool| {
            let theirs = |entry: &&PriceEntry| entry.service.as_str() == "anthropic" && !entry.model.contains('#');
            let mut listed = crate::domain::price::builtin().iter().filter(theirs);
            listed.find(|entry| has(entry)).map(|entry| entry.model.to_string())
        };
        let fast = model(|entry| entry.uplifts.fast.is_some()).expect("one with a fast mode");
        let us = model(|entry| entry.uplifts.us.is_some()).expect("one with a price in the US");
        let message = |more: Value| {
            let mut usage = json!({"input_tokens": 100_000, "output_tokens": 0});
            usage
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().cloned().unwrap());
            let body = json!({"id": "m", "type": "message", "content": [], "stop_reason": "end_turn", "usage": usage});
            read_answer(Route::Messages, body.to_string().as_bytes()).expect("an answer")
        };
        let asked = |model: &str, fast, region| {
            let wanted = Wanted {
                tier: None,
                fast,
                region,
            };
            bill("messages", "anthropic", Region::Global, model, wanted)
        };
        let usual = cost(&asked(&fast, false, None), &message(json!({})));
        assert!(cost(&asked(&fast, true, None), &message(json!({}))) > usual);
        assert_eq!(
            cost(&asked(&fast, true, None), &message(json!({"speed": "standard"}))),
            usual
        );
        let usual = cost(&asked(&us, false, None), &message(json!({})));
        let there = cost(&asked(&us, false, Some(Region::Us)), &message(json!({})));
        assert!(there > usual);
        let unsaid = message(json!({"inference_geo": "not_available"}));
        assert_eq!(cost(&asked(&us, false, Some(Region::Us)), &unsaid), there);
        let global = message(json!({"inference_geo": "global"}));
        assert_eq!(cost(&asked(&us, false, Some(Region::Us)), &global), usual);
    }
}
