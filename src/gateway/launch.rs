//! From a hold to a task of its own: what the call has with it on its way.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answers::Kept;
use super::ends::Ends;
use super::failure::{CallFailure, Failed};
use super::flight::{Flight, StreamWish, UnderWay};
use super::hold::OpenHold;
use super::prepare::{Prepared, tokens_covered};
use super::reply::{Reply, ReplyBody, Told};
use super::settle::{Bill, Terms, Wanted};
use super::shares::{Share, with_owner};
use super::target::Target;
use crate::domain::call::{Asked, Fees, OutputLimit};
use crate::domain::id::AgentId;
use crate::domain::ledger::bound::Bound;
use crate::ledger::AdmittedHold;

impl Shared {
    /// Hands a call over to a task of its own.
    pub(super) fn fly(
        self: &Arc<Self>,
        target: Target,
        prepared: Prepared,
        held: Option<(AdmittedHold, Bound)>,
        (under_way, place): (UnderWay, Option<Arc<Share>>),
    ) -> impl Future<Output = Result<Reply, Failed>> + use<> {
        let tokens = held
            .as_ref()
            .and_then(|(hold, bound)| tokens_covered(bound, hold.bound));
        let Prepared { asked, raw, price, .. } = prepared;
        let (stream, max_tokens) = match &asked {
            None => (StreamWish::default(), None),
            Some(asked) => {
                let per_output = match asked.output {
                    OutputLimit::None => None,
                    OutputLimit::Tokens { asked, times } => asked.or(tokens).map(|each| each.saturating_mul(times)),
                };
                let stream = StreamWish {
                    strip_usage: asked.strip_usage,
                    output_limit: per_output,
                };
                (stream, asked.clamped.or(tokens))
            }
        };
        let terms = match price {
            None => Terms::Free,
            Some(price) => match price.entry {
                None => Terms::Ceiling(price.bound.most()),
                Some(entry) => Terms::Metered {
                    model: asked.as_ref().and_then(|asked| asked.model.clone()),
                    entry,
                    wanted: asked
                        .as_ref()
                        .map(|asked| Wanted::from(&asked.most))
                        .unwrap_or_default(),
                    fees: asked
                        .as_ref()
                        .map(|asked| Fees::new(asked, &target.rules.calls))
                        .unwrap_or_default(),
                    media: asked.as_ref().and_then(|asked| asked.media.clone()),
                },
            },
        };
        let bill = Bill {
            route: target.route_name(),
            service: target.provider.service.clone(),
            region: target.provider.region,
            terms,
        };
        let told = Told {
            call: held.as_ref().map(|(hold, _)| hold.id),
            remaining: held.as_ref().map(|(hold, _)| hold.remaining),
            cost: None,
            max_tokens,
        };
        let gone = CancellationToken::new();
        let ends = Ends::new(
            Arc::clone(&self.deps.clock),
            target.head.agent.clone(),
            self.deps.ledger.agents(),
            self.cut.clone(),
            gone.clone(),
        );
        let (reply, answer) = oneshot::channel();
        let mut flight = Flight {
            shared: Arc::clone(self),
            target,
            bill,
            hold: held.map(|(hold, _)| OpenHold::new(&self.deps.ledger, &hold)),
            told,
            ends,
            reply: Some(reply),
            stream,
            kept: Kept::default(),
            _under_way: under_way,
        };
        let shared = Arc::clone(self);
        self.flights.spawn(async move {
            match shared.rendered(&flight.target.head.agent, asked, raw, tokens).await {
                Ok(body) => {
                    // What is rendered anew has the place of what it is rendered from.
                    let body = match place {
                        Some(place) => with_owner(body, place),
                        None => body,
                    };
                    let request = flight.target.request(body);
                    flight.run(request).await;
                }
                Err(failure) => flight.give_up(failure),
            }
        });
        let here = gone.drop_guard();
        async move {
            // A flight that ends without a word has panicked; its hold is unresolved.
            let mut answered = answer.await.unwrap_or_else(|_| Err(CallFailure::Internal.into()));
            if let Ok(reply) = &mut answered
                && let ReplyBody::Pieces(pieces) = &mut reply.body
            {
                pieces.here = Some(here);
            }
            answered
        }
    }

    /// The body as it is forwarded.
    async fn rendered(
        &self,
        agent: &AgentId,
        asked: Option<Asked>,
        raw: Bytes,
        tokens: Option<u64>,
    ) -> Result<Bytes, CallFailure> {
        let whose = (agent, self.room(0).shared);
        match asked {
            None => Ok(raw),
            Some(asked) => self.work.on(whose, raw.len(), move || Ok(asked.body(tokens))).await,
        }
    }
}
