//! From a body to what the call can cost at most: read, checked against the manifest, priced, bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::failure::CallFailure;
use super::form;
use super::shares::Share;
use super::target::{BodyKind, Target, Way};
use super::work::Work;
use crate::domain::call::{self, Asked, CallRejection, Route};
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::posting::Attribution;
use crate::domain::money::Usd;
use crate::domain::price::{Catalogue, PriceEntry, Region};
use crate::domain::rejection::Rejection;

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

/// Reads and bounds a call, by the settings and prices of now. The work on its body may have to be shared.
pub(super) async fn prepare(
    target: &Target,
    body: &Bytes,
    catalogue: &Catalogue,
    work: (&Work, bool),
) -> Result<Prepared, CallFailure> {
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
    let mut asked = read(target, route, body, work).await?;
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
    call::check_searches(&asked, &quote.entry, &rules.calls)?;
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

async fn read(
    target: &Target,
    route: Route,
    body: &Bytes,
    (work, shared): (&Work, bool),
) -> Result<Asked, CallFailure> {
    let whose = (&target.head.agent, shared);
    let (rules, body) = (Arc::clone(&target.rules), body.clone());
    let bytes = body.len();
    if target.body_kind() != BodyKind::Form {
        return work
            .on(whose, bytes, move || call::read(route, &body, &rules.calls))
            .await;
    }
    let content_type = target.content_type().and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let read = move || {
        let parts = form::split(&content_type, body.clone())?;
        call::read_form(route, &body, &parts, &rules.calls)
    };
    work.on(whose, bytes, read).await
}

/// No text that is written by people has more bytes to a token than this.
const BYTES_A_TOKEN: u64 = 16;

/// What a bound by bytes did not fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Short {
    /// For good: this is left, whatever becomes of the holds that are open.
    Of(Usd),
    /// Other calls hold what it needs.
    ForNow,
}

impl Price {
    /// Whether its exact count of tokens may make room for a call, or for a good deal less. The bound by bytes
    /// is several times what a text has in tokens, and what it refuses may fit. Counting takes time, so it is
    /// not done for a call that cannot fit anyway, nor for one whose text is the least of its bound.
    pub(super) fn is_worth_counting(&self, asked: &Asked, target: &Target, short: Short) -> Result<bool, CallFailure> {
        let Some(entry) = &self.entry else { return Ok(false) };
        let mut fewest = asked.clone();
        fewest.most.input_tokens /= BYTES_A_TOKEN;
        let least = call::bound(&fewest, entry, &target.rules.calls)?.least();
        Ok(match short {
            Short::Of(left) => least <= left,
            Short::ForNow => least <= self.bound.least().saturating_sub(least),
        })
    }

    /// A smaller bound for the same call, by its exact count of tokens, where that can be told. Its `place` is
    /// taken until it is counted, whether or not anybody waits for it still.
    pub(super) async fn refined(
        &self,
        asked: &Asked,
        text: Option<Vec<String>>,
        target: &Target,
        place: Share,
    ) -> Option<Bound> {
        let entry = self.entry.clone()?;
        let (rules, mut asked) = (Arc::clone(&target.rules), asked.clone());
        asked.text = text;
        let counted = tokio::task::spawn_blocking(move || {
            let _place = place;
            let refined = call::refine(&asked)?;
            call::bound(&refined, &entry, &rules.calls).ok()
        });
        let refined = counted.await.unwrap_or_else(|panicked| {
            tracing::error!(%panicked, "counting a request's tokens failed");
            None
        });
        refined.filter(|bound| bound.least() < self.bound.least())
    }
}

/// What the hold covers of a limit that is ours to fill in.
pub(super) fn tokens_covered(bound: &Bound, held: Usd) -> Option<u64> {
    match bound {
        Bound::Fixed(_) => None,
        Bound::Tokens(tokens) => Some(tokens.tokens_within(held)),
    }
}
