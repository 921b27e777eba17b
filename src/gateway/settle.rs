//! What a call cost, by what its provider says was used.
//!
//! Only a usage that was understood settles a call; anything else leaves it at its bound (**L7**). Which
//! refusals of a provider cost nothing is said in [`turned_away`](super::turned_away).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::call::{Answer, Media};
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::money::Usd;
use crate::domain::price::{Catalogue, PriceEntry, SettleRejection, Usage, settle};

/// By what a call is settled.
pub(super) struct Bill {
    pub(super) route: &'static str,
    pub(super) service: ServiceId,
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
        /// What tools at the provider may have cost: nobody says how much they did.
        fees: Usd,
        /// What a call that is no conversation is billed by.
        media: Option<Media>,
    },
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
        matches!(&self.terms, Terms::Metered { fees, .. } if *fees > Usd::ZERO)
    }

    /// Whether an answer that says nothing may be measured itself.
    pub(super) fn is_measured(&self) -> bool {
        matches!(&self.terms, Terms::Metered { media: Some(_), .. })
    }

    /// The cost by an answer that was read to its end. `body` is all of it, where an answer that says nothing
    /// of what it used may be measured itself.
    pub(super) fn cost(&self, answer: &Answer, body: &[u8], catalogue: &Catalogue) -> Cost {
        let (model, entry, fees, media) = match &self.terms {
            Terms::Free => return self.known(Usd::ZERO, answer, None),
            Terms::Ceiling(ceiling) => return self.known(*ceiling, answer, Some(json!({ "ceiling": true }))),
            Terms::Metered {
                model,
                entry,
                fees,
                media,
            } => (model, entry, *fees, media),
        };
        let unreported = || media.as_ref()?.unreported(entry, body);
        let usage = match (&answer.usage, &answer.fault) {
            (Some(usage), None) => *usage,
            (_, Some(fault)) => return Cost::unknown(fault),
            (None, None) => match unreported() {
                Some(usage) => usage,
                None => return Cost::unknown("the answer does not say what it used"),
            },
        };
        let asked = model.as_ref().map(ModelId::as_str);
        let answered = answer.model.as_deref().filter(|&answered| Some(answered) != asked);
        match self.charge(&usage, entry, answered, catalogue) {
            Ok(usd) => {
                let detail = detail(self.route, &usage, asked, answered);
                self.known(usd.saturating_add(fees), answer, Some(detail))
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
