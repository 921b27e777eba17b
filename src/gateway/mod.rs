//! The gateway: a hard cap on every call to a provider.
//!
//! An agent's SDK points at Backstop instead of at its provider. What it asks for is understood or refused
//! by name, bounded, held on every line that applies, and only then forwarded (**L4**); what comes back
//! passes through as it arrives, is metered on the way, and ends the hold at what it cost (**L3**).
//!
//! The way of a call, and where to read it:
//! - [`target`]: upstream, route and headers, before the body is read.
//! - [`mod@prepare`]: the body, the manifest, the price, the bound.
//! - here: the agent's state, the hold, the wait while the agent is paused ([`park`]).
//! - [`flight`]: a task of its own, which outlives its client: the request, the answer, the settlement
//!   ([`settle`]); [`stream`] for answers that come in pieces; [`ends`] for what may end a call early.
//! - [`tell`]: what is logged, counted and put on record.
//! - [`hold`]: the hold in hand, which ends once whatever happens.
//!
//! A call reads the settings and the prices once, when it starts or goes on after a pause. On its way it
//! reads nothing of the store: the hold's own commit is all that it waits for, and its end is handed over
//! without waiting (the ledger keeps what it was handed).
//!
//! What it must never do: send a byte for which no durable hold stands, repeat a request by itself, show a
//! provider's credential to anybody, or take silence for *cost nothing*.

mod ends;
mod failure;
mod flight;
mod form;
mod hold;
mod park;
mod prepare;
mod reply;
mod settings;
mod settle;
mod shares;
mod stream;
mod target;
mod tell;
mod turned_away;
mod veil;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use failure::{CallFailure, Failed};
pub use reply::{CutOff, Pieces, Reply, ReplyBody, Told};
pub use settings::{AgentRules, CallLimits, GatewaySettings, Provider};
pub use shares::{Room, Share, Shares};
pub use target::{BodyKind, CallHead, Target};

use crate::audit::Refusals;
use crate::domain::agent::AgentStatus;
use crate::domain::call::{self, Api, Asked, Fees, OutputLimit};
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::Refusal;
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::posting::Trust;
use crate::domain::price::Catalogue;
use crate::domain::rejection::Rejection;
use crate::intake::usage::Intake;
use crate::ledger::{AdmitRejection, AdmitRequest, AdmittedHold, Ledger};
use crate::ports::{Clock, Store};

use ends::Ends;
use flight::{Flight, StreamWish, UnderWay};
use hold::OpenHold;
use park::{Lot, Parked};
use prepare::{Prepared, Short, prepare, tokens_covered};
use settle::{Bill, Terms};
use tell::Matter;
use work::Work;

/// How long the last word of a cut stream may take to find a client that reads slowly.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a client is told to wait for a daemon that is being started again.
const STOPPING_RETRY: Duration = Duration::from_secs(5);

/// Requests whose tokens are counted at once: it is all work, so more of them would only hold up others.
const COUNTING: usize = 2;
const COUNTING_WAIT: Duration = Duration::from_secs(10);
/// What a client is told to wait for a place.
const BUSY_RETRY_S: u64 = 5;

/// What the gateway stands on.
pub struct GatewayDeps {
    pub ledger: Ledger,
    pub intake: Arc<Intake>,
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    pub settings: Arc<ArcSwap<GatewaySettings>>,
    pub refusals: Arc<Refusals>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub whose: WhoseKey,
}

/// Whose key a request's headers carry, now: a key that was revoked while its call waited opens nothing.
pub type WhoseKey = Arc<dyn Fn(&HeaderMap) -> Result<AgentId, Rejection> + Send + Sync>;

/// The handle of the gateway.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What calls share.
struct Shared {
    deps: GatewayDeps,
    lot: Lot,
    /// Calls that are under way, by agent.
    places: Shares,
    work: Work,
    /// Every call that is under way.
    flights: TaskTracker,
    /// No new call any more.
    closed: CancellationToken,
    /// What is still under way ends now.
    cut: CancellationToken,
    /// Requests whose tokens may be counted at once.
    counting: Arc<Semaphore>,
    /// When something was last said of an agent or an upstream, on the monotonic clock.
    said: Mutex<HashMap<(Matter, String), Duration>>,
}

/// Why a call has no hold yet.
enum NotHeld {
    /// Its agent is paused: it may wait.
    Paused,
    For(CallFailure),
}

/// Whether a smaller bound may be admitted where this one was not.
fn short_of(admitted: &Result<AdmittedHold, AdmitRejection>) -> Option<Short> {
    match admitted {
        Err(AdmitRejection::Refused(Refusal::Budget { limit, posted, .. })) => {
            Some(Short::Of(limit.saturating_sub(*posted)))
        }
        Err(AdmitRejection::Held { .. }) => Some(Short::ForNow),
        _ => None,
    }
}

impl<F: Into<CallFailure>> From<F> for NotHeld {
    fn from(failure: F) -> Self {
        Self::For(failure.into())
    }
}

impl Gateway {
    pub fn new(deps: GatewayDeps) -> Self {
        Self {
            shared: Arc::new(Shared {
                work: Work::new(Arc::clone(&deps.clock)),
                deps,
                lot: Lot::default(),
                places: Shares::default(),
                flights: TaskTracker::new(),
                closed: CancellationToken::new(),
                cut: CancellationToken::new(),
                counting: Arc::new(Semaphore::new(COUNTING)),
                said: Mutex::default(),
            }),
        }
    }

    /// Whose forms an upstream of this name speaks; `None` if there is none.
    pub fn api(&self, upstream: &str) -> Option<Api> {
        let settings = self.shared.deps.settings.load();
        settings.providers.get(upstream).map(|provider| provider.api)
    }

    /// Where a call goes, or why it does not, by its head alone.
    pub fn target(&self, head: CallHead) -> Result<Target, CallFailure> {
        let shared = &self.shared;
        if shared.closed.is_cancelled() {
            return Err(shared.stopping());
        }
        let agent = head.agent.clone();
        let resolved = Target::resolve(&shared.deps.settings.load(), head);
        resolved.inspect_err(|failure| shared.note_failure(&agent, failure))
    }

    /// Makes a call. Dropped before its hold is admitted, it was never made; after that it goes on for its
    /// account, without its client.
    pub async fn call(&self, target: Target, body: Bytes) -> Result<Reply, Failed> {
        let shared = &self.shared;
        let agent = target.head.agent.clone();
        let room = shared.room(target.limits.max_calls);
        let Some(place) = shared.places.take(&agent, 1, room) else {
            return Err(CallFailure::Overloaded.into());
        };
        let (target, prepared, held) = match shared.admit(target, &body).await {
            Ok(admitted) => admitted,
            Err(failure) => {
                shared.note_failure(&agent, &failure);
                return Err(failure.into());
            }
        };
        if shared.closed.is_cancelled() {
            // Nothing was sent, so its hold is given back.
            drop(held.map(|(hold, _)| OpenHold::new(&shared.deps.ledger, &hold)));
            return Err(shared.stopping().into());
        }
        // From here to the task nothing waits: the hold changes hands without a gap.
        let answer = shared.fly(target, prepared, held, UnderWay::new(place));
        drop(body);
        answer.await
    }

    /// Takes calls until `stop`, then lets those under way end for `drain`, then cuts them.
    pub async fn run(&self, stop: CancellationToken, drain: Duration) {
        let shared = &self.shared;
        stop.cancelled().await;
        shared.closed.cancel();
        shared.flights.close();
        tokio::select! {
            () = shared.flights.wait() => return,
            () = shared.deps.clock.sleep(drain) => {}
        }
        tracing::warn!(
            calls = shared.flights.len(),
            "some calls were still under way when the time to drain was over; they are unresolved"
        );
        shared.cut.cancel();
        shared.flights.wait().await;
    }
}

impl Shared {
    /// Prepares a call and places its hold; waits while its agent is paused.
    async fn admit(
        &self,
        mut target: Target,
        body: &Bytes,
    ) -> Result<(Target, Prepared, Option<(AdmittedHold, Bound)>), CallFailure> {
        let deadline = self.deps.clock.monotonic().saturating_add(target.limits.park_wait);
        loop {
            let agent = &target.head.agent;
            let held = match self.deps.ledger.agent_status(agent) {
                AgentStatus::Contained | AgentStatus::Restoring => return Err(self.contained(agent).await.into()),
                AgentStatus::Paused => Err(NotHeld::Paused),
                AgentStatus::Active => self.prepare_and_hold(&target, body).await,
            };
            match held {
                Ok((prepared, hold)) => return Ok((target, prepared, hold)),
                Err(NotHeld::For(failure)) => return Err(failure),
                Err(NotHeld::Paused) => {}
            }
            self.park(&target, body.len(), deadline).await?;
            self.check_key(&target)?;
            // The config and the prices may be others by now.
            target = Target::resolve(&self.deps.settings.load(), target.head)?;
        }
    }

    async fn prepare_and_hold(
        &self,
        target: &Target,
        body: &Bytes,
    ) -> Result<(Prepared, Option<(AdmittedHold, Bound)>), NotHeld> {
        let catalogue = self.deps.catalogue.load_full();
        let mut prepared = prepare(target, body, &catalogue, &self.work).await?;
        let Some(price) = &mut prepared.price else {
            return Ok((prepared, None));
        };
        self.deps.intake.admits_names(&prepared.attribution)?;
        let request = |bound, tentative: bool| AdmitRequest {
            attribution: prepared.attribution.clone(),
            trust: Trust::Gateway,
            bound,
            tentative,
            ttl: Some(target.limits.hold_ttl()),
            wait: tentative.then_some(Duration::ZERO),
        };
        // A text has fewer tokens than bytes, and they can be counted. So what its bytes do not fit into says
        // neither that the budget is as good as spent, nor that the call must wait for other holds to end.
        let countable = prepared.asked.as_ref().filter(|asked| call::is_countable(asked));
        let mut admitted = self.deps.ledger.admit(request(price.bound, countable.is_some())).await;
        if let Some(asked) = countable
            && let Some(short) = short_of(&admitted)
        {
            if price.is_worth_counting(asked, target, short)? {
                match (self.place_to_count().await, short) {
                    (Some(place), _) => {
                        if let Some(bound) = price.refined(asked, target, place).await {
                            price.bound = bound;
                        }
                    }
                    (None, Short::Of(_)) => {
                        return Err(Rejection::Held {
                            retry_after_s: BUSY_RETRY_S,
                        }
                        .into());
                    }
                    // It waits for room by its bytes.
                    (None, Short::ForNow) => {}
                }
            }
            admitted = self.deps.ledger.admit(request(price.bound, false)).await;
        }
        let bound = price.bound;
        match admitted {
            Ok(hold) => Ok((prepared, Some((hold, bound)))),
            Err(refused) => Err(self.not_held(target, bound, refused).await),
        }
    }

    /// A place among those whose tokens are counted, if one is free soon.
    async fn place_to_count(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            place = Arc::clone(&self.counting).acquire_owned() => place.ok(),
            () = self.deps.clock.sleep(COUNTING_WAIT) => None,
        }
    }

    /// So many places, for all agents that there are.
    fn room(&self, most: u64) -> Room {
        let shared = self.deps.settings.load().agents.len() > 1;
        Room { most, shared }
    }

    /// Whether the call's key still opens what it opened when it came.
    fn check_key(&self, target: &Target) -> Result<(), Rejection> {
        match (self.deps.whose)(&target.head.headers) {
            Ok(agent) if agent == target.head.agent => Ok(()),
            Ok(_) | Err(_) => Err(Rejection::BadCredential),
        }
    }

    async fn not_held(&self, target: &Target, bound: Bound, refused: AdmitRejection) -> NotHeld {
        let agent = &target.head.agent;
        match refused {
            AdmitRejection::Refused(Refusal::AgentPaused) => NotHeld::Paused,
            AdmitRejection::Refused(Refusal::AgentContained) => self.contained(agent).await.into(),
            // Neither says anything of the agent's state.
            AdmitRejection::Refused(refusal) => {
                Rejection::from_refusal(refusal, bound.least(), jiff::Timestamp::UNIX_EPOCH, "").into()
            }
            AdmitRejection::Held { retry_after } => Rejection::Held {
                retry_after_s: retry_after.as_secs(),
            }
            .into(),
            AdmitRejection::Invalid(rejection) => Rejection::Ledger(rejection).into(),
            AdmitRejection::Unavailable(unavailable) => unavailable.into(),
        }
    }

    async fn park(&self, target: &Target, bytes: usize, deadline: Duration) -> Result<(), CallFailure> {
        let agent = &target.head.agent;
        let world = (&self.deps.ledger, &self.deps.clock);
        let room = self.room(target.limits.max_parked);
        let parking = self.lot.park(world, agent, bytes, room, deadline);
        let parked = tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            parked = parking => Some(parked),
        };
        match parked {
            Some(Parked::GoOn) => Ok(()),
            None => Err(self.stopping()),
            Some(Parked::Over) => {
                let state = self.deps.store.agent(agent).await?;
                let (since, reason) = (state.since, state.reason);
                Err(Rejection::Paused { since, reason }.into())
            }
        }
    }

    /// Hands a call over to a task of its own.
    fn fly(
        self: &Arc<Self>,
        target: Target,
        prepared: Prepared,
        held: Option<(AdmittedHold, Bound)>,
        under_way: UnderWay,
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
            remaining: held.as_ref().and_then(|(hold, _)| hold.remaining),
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
            _under_way: under_way,
        };
        let shared = Arc::clone(self);
        self.flights.spawn(async move {
            match shared.rendered(asked, raw, tokens).await {
                Ok(body) => {
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
    async fn rendered(&self, asked: Option<Asked>, raw: Bytes, tokens: Option<u64>) -> Result<Bytes, CallFailure> {
        match asked {
            None => Ok(raw),
            Some(asked) => self.work.on(raw.len(), move || Ok(asked.body(tokens))).await,
        }
    }

    /// What a contained agent is told.
    async fn contained(&self, agent: &AgentId) -> Rejection {
        match self.deps.store.agent(agent).await {
            Ok(state) => Rejection::Contained {
                since: state.since,
                reason: state.reason,
            },
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an agent's state cannot be read"
                );
                Rejection::Contained {
                    since: self.deps.ledger.now(),
                    reason: "the ledger cannot be read now for the reason".to_owned(),
                }
            }
        }
    }

    fn stopping(&self) -> CallFailure {
        CallFailure::Stopping {
            retry_after: STOPPING_RETRY,
        }
    }
}
