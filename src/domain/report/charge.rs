//! From a row to an amount: a plain amount as it is, a usage object by the catalogue.

use serde_json::json;

use super::row::{Charge, ReportRow};
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::ledger::posting::Basis;
use crate::domain::money::Usd;
use crate::domain::price::{Catalogue, SettleRejection, settle};
use crate::domain::rejection::Rejection;
use crate::domain::wire::{self, UsageApi};

/// What a row costs, and where that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    pub amount: Usd,
    pub basis: Basis,
    /// The row's service, or the one that its API belongs to.
    pub service: Option<ServiceId>,
    /// The name under which the model is known, which is what budgets match; see [`Quote::model`].
    ///
    /// [`Quote::model`]: crate::domain::price::Quote
    pub model: Option<ModelId>,
    /// The usage as it was reported, and the model if it was called otherwise, for a person.
    pub detail: Option<String>,
}

impl Charged {
    /// Whether capturing a hold of this bound with it would end the hold at nothing: a void by another
    /// name, also when a usage object says it. What has no price at all is held at nothing too.
    pub fn voids(&self, bound: Usd) -> bool {
        self.amount == Usd::ZERO && bound > Usd::ZERO
    }
}

/// The longest usage object that is kept with its posting, in bytes.
const MAX_DETAIL: usize = 4096;

/// Prices a row. An unknown model, an unreadable usage, a class without a rate: each is refused by name
/// (L7), because a report that is accepted at zero is the last time that anybody looks.
pub fn charge(row: &ReportRow, catalogue: &Catalogue) -> Result<Charged, Rejection> {
    price(&row.charge, row.service.as_ref(), row.model.as_ref(), catalogue)
}

/// Prices what was charged for a model of a service.
pub fn price(
    charge: &Charge,
    stated: Option<&ServiceId>,
    model: Option<&ModelId>,
    catalogue: &Catalogue,
) -> Result<Charged, Rejection> {
    let (api, usage) = match charge {
        Charge::Amount(amount) => {
            let known = model.map(|model| catalogue.known_as(stated, model));
            return Ok(Charged {
                amount: *amount,
                basis: Basis::Reported,
                service: stated.cloned(),
                detail: model
                    .filter(|&model| known.as_ref() != Some(model))
                    .map(|model| json!({ "model": model }).to_string()),
                model: known,
            });
        }
        Charge::Usage { api, usage } => (*api, usage),
    };
    let usage_field = |problem: String| Rejection::Field {
        field: "usage".to_owned(),
        problem,
    };
    let service = stated.map(ServiceId::as_str);
    let is_guess = api.is_none();
    let api = match api {
        Some(api) => api,
        None => wire::detect(service, usage).map_err(|problem| usage_field(problem.to_string()))?,
    };
    let read = wire::usage_from(api, usage).map_err(|problem| usage_field(problem.to_string()))?;
    let service = match stated {
        Some(service) => service.clone(),
        None => ServiceId::new(api.service()).map_err(|problem| usage_field(problem.to_string()))?,
    };
    let Some(model) = model else {
        return Err(Rejection::Field {
            field: "model".to_owned(),
            problem: "missing: usage is priced by its model; name it as the API's response does".to_owned(),
        });
    };
    let quote = catalogue
        .quote(&service, model)
        .map_err(|_unknown| Rejection::PriceUnknown {
            what: format!("model {model} of {service}"),
        })?;
    if is_guess && api == UsageApi::OpenaiEmbeddings && quote.entry.charges_output() {
        return Err(usage_field(
            "completion_tokens: missing, and the model charges for what it writes; \
             if nothing was written, say so with a count of 0"
                .to_owned(),
        ));
    }
    let amount = settle(&read, &quote.entry).map_err(|problem| match problem {
        SettleRejection::TooLarge => Rejection::Ledger(LedgerRejection::Absurd),
        problem => usage_field(problem.to_string()),
    })?;
    let detail = if quote.model == *model {
        usage.to_string()
    } else {
        json!({ "model": model, "usage": usage }).to_string()
    };
    Ok(Charged {
        amount,
        basis: Basis::Reported,
        service: Some(service),
        model: Some(quote.model),
        detail: (detail.len() <= MAX_DETAIL).then_some(detail),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn priced(service: &str, model: &str, usage: serde_json::Value) -> Result<Charged, Rejection> {
        let (service, model) = (service.parse().unwrap(), model.parse().unwrap());
        let charge = Charge::Usage { api: None, usage };
        price(&charge, Some(&service), Some(&model), &Catalogue::builtin())
    }

    #[test]
    fn a_usage_of_nothing_is_a_void_by_another_name() {
        let nothing = json!({"prompt_tokens": 0, "completion_tokens": 0});
        let charged = priced("openai", "gpt-5-mini", nothing).unwrap();
        assert!(charged.voids(Usd::from_nanos(1)) && !charged.voids(Usd::ZERO));
        let little = json!({"prompt_tokens": 1, "completion_tokens": 0});
        assert!(
            !priced("openai", "gpt-5-mini", little)
                .unwrap()
                .voids(Usd::from_nanos(1))
        );
    }

    #[test]
    fn spend_counts_under_the_name_that_was_priced() {
        let usage = json!({"prompt_tokens": 1000, "completion_tokens": 5});
        let charged = priced("openai", "openai/gpt-5-mini", usage.clone()).unwrap();
        assert_eq!(charged.model, Some("gpt-5-mini".parse().unwrap()));
        let detail = json!({"model": "openai/gpt-5-mini", "usage": usage}).to_string();
        assert_eq!(charged.detail, Some(detail), "a person still sees what was said");

        let model = "openai/gpt-5-mini".parse().unwrap();
        let amount = price(&Charge::Amount(Usd::ZERO), None, Some(&model), &Catalogue::builtin()).unwrap();
        assert_eq!(amount.model, Some("gpt-5-mini".parse().unwrap()));
    }

    /// **L7**: what looks like an embedding and names a model that writes has lost its output.
    #[test]
    fn a_prompt_alone_is_an_embedding_only_for_a_model_that_writes_nothing() {
        let prompt = json!({"prompt_tokens": 1000, "total_tokens": 1000});
        let lost = priced("openai", "gpt-5-mini", prompt.clone()).unwrap_err().to_string();
        assert!(lost.contains("completion_tokens: missing"), "{lost}");
        let said = json!({"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000});
        assert!(priced("openai", "gpt-5-mini", said).unwrap().amount > Usd::ZERO);
        assert!(priced("openai", "text-embedding-3-small", prompt).unwrap().amount > Usd::ZERO);
    }
}
