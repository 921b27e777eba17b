//! From a row to an amount: a plain amount as it is, a usage object by the catalogue.

use super::row::{Charge, ReportRow};
use crate::domain::id::{ModelId, ServiceId};
use crate::domain::ledger::batch::LedgerRejection;
use crate::domain::ledger::posting::Basis;
use crate::domain::money::Usd;
use crate::domain::price::{Catalogue, SettleRejection, settle};
use crate::domain::rejection::Rejection;
use crate::domain::wire;

/// What a row costs, and where that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    pub amount: Usd,
    pub basis: Basis,
    /// The row's service, or the one that its API belongs to.
    pub service: Option<ServiceId>,
    /// The usage as it was reported, for a person.
    pub detail: Option<String>,
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
            return Ok(Charged {
                amount: *amount,
                basis: Basis::Reported,
                service: stated.cloned(),
                detail: None,
            });
        }
        Charge::Usage { api, usage } => (*api, usage),
    };
    let usage_field = |problem: String| Rejection::Field {
        field: "usage".to_owned(),
        problem,
    };
    let service = stated.map(ServiceId::as_str);
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
    let amount = settle(&read, &quote.entry).map_err(|problem| match problem {
        SettleRejection::TooLarge => Rejection::Ledger(LedgerRejection::Absurd),
        problem => usage_field(problem.to_string()),
    })?;
    let detail = usage.to_string();
    Ok(Charged {
        amount,
        basis: Basis::Reported,
        service: Some(service),
        detail: (detail.len() <= MAX_DETAIL).then_some(detail),
    })
}
