//! From a body to what the call can cost at most: read, checked against the manifest, priced, bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::failure::CallFailure;
use super::form;
use super::target::{BodyKind, Target, Way};
use crate::domain::call::{self, Asked, CallRejection, Route};
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::posting::Attribution;
use crate::domain::money::Usd;
use crate::domain::price::{Catalogue, PriceEntry, Region};
use crate::domain::rejection::Rejection;

/// A body that is read elsewhere than on a worker of the runtime, in bytes: it takes milliseconds.
const LARGE: usize = 128 * 1024;

/// A call that may be made, if its hold is admitted.
pub(super) struct Prepared {
    /// `None`: it is forwarded as it is.
    pub(super) asked: Option<Asked>,
    pub(super) raw: Bytes,
    /// `None`: it provably costs nothing.
    pub(super) price: Option<Price>,
    pub(super) attribution: Attribution,
}

pub(super) struct Price {
    /// `None` for a ceiling.
    pub(super) entry: Option<Arc<PriceEntry>>,
    pub(super) bound: Bound,
}

/// Reads and bounds a call, by the settings and prices of now.
pub(super) async fn prepare(target: &Target, body: &Bytes, catalogue: &Catalogue) -> Result<Prepared, CallFailure> {
    let attribution = |model| Attribution {
        agent: target.head.agent.clone(),
        task: target.task.clone(),
        service: Some(target.provider.service.clone()),
        model,
        tool: None,
        labels: BTreeMap::new(),
    };
    let route = match target.way {
        Way::Known(route) => route,
        Way::Ceiling(ceiling) => {
            return Ok(Prepared {
                asked: None,
                raw: body.clone(),
                price: Some(Price {
                    entry: None,
                    bound: Bound::Fixed(ceiling),
                }),
                attribution: attribution(None),
            });
        }
    };
    if target.head.method != http::Method::POST {
        return Ok(Prepared {
            asked: None,
            raw: Bytes::new(),
            price: None,
            attribution: attribution(None),
        });
    }
    let mut asked = read(target, route, body).await?;
    asked.widened = target.widened;
    if target.provider.region != Region::Global {
        // Whatever the request says of it, it is charged as that region's.
        asked.most.region = None;
    }
    asked.service = Some(target.provider.service.clone());
    asked.spell_limit(target.provider.limit_field);
    let rules = &target.rules;
    if let Some(manifest) = &rules.manifest {
        if let Some(model) = &asked.model {
            manifest.check_model(model)?;
        }
        let strip = manifest.offer(&asked.tools, rules.calls.unlisted_tools)?;
        if !strip.is_empty() {
            asked.strip(&strip)?;
        }
    }
    if target.is_free() {
        let model = asked.model.clone();
        return Ok(Prepared {
            asked: Some(asked),
            raw: body.clone(),
            price: None,
            attribution: attribution(model),
        });
    }
    let model = asked.model.as_ref().ok_or_else(|| CallRejection::Field {
        field: "model".to_owned(),
        problem: "missing: what the call costs depends on it".to_owned(),
    })?;
    let service = &target.provider.service;
    let quote = catalogue.quote(service, model).map_err(|_| Rejection::PriceUnknown {
        what: format!("model {model:?} of {service}"),
    })?;
    asked.fit(&quote.entry)?;
    let bound = call::bound(&asked, &quote.entry, &rules.calls)?;
    Ok(Prepared {
        asked: Some(asked),
        raw: body.clone(),
        price: Some(Price {
            entry: Some(quote.entry),
            bound,
        }),
        attribution: attribution(Some(quote.model)),
    })
}

async fn read(target: &Target, route: Route, body: &Bytes) -> Result<Asked, CallFailure> {
    if target.body_kind() == BodyKind::Form {
        let content_type = target
            .content_type()
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let parts = form::split(content_type, body.clone()).await?;
        let (rules, body) = (Arc::clone(&target.rules), body.clone());
        return heavy(body.len(), move || call::read_form(route, &body, &parts, &rules.calls)).await;
    }
    if body.len() <= LARGE {
        return Ok(call::read(route, body, &target.rules.calls)?);
    }
    let (rules, body) = (Arc::clone(&target.rules), body.clone());
    heavy(body.len(), move || call::read(route, &body, &rules.calls)).await
}

/// Work that would hold up a worker of the runtime is done beside it.
async fn heavy<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, CallFailure> {
    if bytes <= LARGE {
        return Ok(work()?);
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panicked) => {
            tracing::error!(%panicked, "reading a request failed");
            Err(CallFailure::Internal)
        }
    }
}

/// No text that is written by people has more bytes to a token than this.
const BYTES_A_TOKEN: u64 = 16;

impl Price {
    /// A smaller bound for the same call, by its exact count of tokens, where that can be told and may fit
    /// into what is `left`. The bound by bytes is several times what a text has in tokens, and what it
    /// refuses may fit. Counting takes time, so it is not done for a call that cannot fit anyway.
    pub(super) async fn refined(
        &self,
        asked: &Asked,
        target: &Target,
        left: Usd,
    ) -> Result<Option<Bound>, CallFailure> {
        let (Some(entry), Some(_)) = (self.entry.clone(), &asked.text) else {
            return Ok(None);
        };
        let rules = Arc::clone(&target.rules);
        let mut asked = asked.clone();
        let by_bytes = asked.most.input_tokens;
        asked.most.input_tokens = by_bytes / BYTES_A_TOKEN;
        if call::bound(&asked, &entry, &rules.calls)?.least() > left {
            return Ok(None);
        }
        asked.most.input_tokens = by_bytes;
        let counted = tokio::task::spawn_blocking(move || {
            let refined = call::refine(&asked)?;
            call::bound(&refined, &entry, &rules.calls).ok()
        });
        let refined = counted.await.unwrap_or_else(|panicked| {
            tracing::error!(%panicked, "counting a request's tokens failed");
            None
        });
        Ok(refined.filter(|bound| bound.least() < self.bound.least()))
    }
}

/// What the hold covers of a limit that is ours to fill in.
pub(super) fn tokens_covered(bound: &Bound, held: Usd) -> Option<u64> {
    match bound {
        Bound::Fixed(_) => None,
        Bound::Tokens(tokens) => Some(tokens.tokens_within(held)),
    }
}
