//! The gateway: a hard cap on every call to a provider.
//!
//! An agent's SDK points at Backstop instead of at its provider. What it asks for is understood or refused
//! by name, bounded, held on every line that applies, and only then forwarded (**L4**); what comes back
//! passes through as it arrives, is metered on the way, and ends the hold at what it cost (**L3**).
//!
//! The way of a call, and where to read it:
//! - [`target`]: upstream, route and headers, before the body is read.
//! - [`mod@prepare`]: the body, the manifest, the price, the bound.
//! - [`admit`]: the agent's state, the hold, the wait while the agent is paused ([`park`]).
//! - [`launch`] and [`flight`]: a task of its own, which outlives its client: the request, the answer, the
//!   settlement ([`settle`]); [`stream`] for answers that come in pieces; [`ends`] for what may end a call early.
//! - [`tell`]: what is logged, counted and put on record.
//! - [`hold`]: the hold in hand, which ends once whatever happens.
//!
//! A call reads the settings and the prices once, when it starts or goes on after a pause. On its way it
//! reads nothing of the store: the hold's own commit is all that it waits for, and its end is handed over
//! without waiting (the ledger keeps what it was handed).
//!
//! What it must never do: send a byte for which no durable hold stands, repeat a request by itself, show a
//! provider's credential to anybody, or take silence for *cost nothing*.

mod admit;
mod answers;
mod ends;
mod failure;
mod flight;
mod form;
mod hold;
mod launch;
mod park;
mod prepare;
mod reading;
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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use failure::{CallFailure, Failed};
pub use reply::{CutOff, Pieces, Reply, ReplyBody, Told};
pub use settings::{AgentRules, CallLimits, GatewaySettings, Provider};
pub use shares::{Room, Share, Shares, with_owner};
pub use target::{BodyKind, CallHead, Target};

use crate::audit::Refusals;
use crate::domain::call::Api;
use crate::domain::id::AgentId;
use crate::domain::price::Catalogue;
use crate::domain::rejection::Rejection;
use crate::intake::usage::Intake;
use crate::ledger::Ledger;
use crate::ports::{Clock, Store};

use answers::Answers;
use flight::UnderWay;
use hold::OpenHold;
use park::Lot;
use tell::Matter;
use work::Work;

/// How long the last word of a cut stream may take to find a client that reads slowly.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a client is told to wait for a daemon that is being started again.
const STOPPING_RETRY: Duration = Duration::from_secs(5);

/// Requests whose tokens are counted at once: it is all work, so more of them would only hold up others.
const COUNTING: u64 = 2;

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

/// The body of a request, with its place among those that are kept.
pub struct CallBody {
    pub bytes: Bytes,
    /// Given back when nothing of the body is kept any more, whatever form it has on its way.
    pub place: Option<Arc<Share>>,
}

impl From<Bytes> for CallBody {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, place: None }
    }
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
    /// The memory that answers take.
    answers: Answers,
    /// Every call that is under way.
    flights: TaskTracker,
    /// No new call any more.
    closed: CancellationToken,
    /// What is still under way ends now.
    cut: CancellationToken,
    /// Requests whose tokens are counted.
    counting: Shares,
    /// When something was last said of an agent or an upstream, on the monotonic clock.
    said: Mutex<HashMap<(Matter, String), Duration>>,
}

impl Gateway {
    pub fn new(deps: GatewayDeps) -> Self {
        Self {
            shared: Arc::new(Shared {
                work: Work::new(Arc::clone(&deps.clock)),
                deps,
                lot: Lot::default(),
                answers: Answers::default(),
                places: Shares::default(),
                flights: TaskTracker::new(),
                closed: CancellationToken::new(),
                cut: CancellationToken::new(),
                counting: Shares::default(),
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
    pub async fn call(&self, target: Target, body: CallBody) -> Result<Reply, Failed> {
        let shared = &self.shared;
        let agent = target.head.agent.clone();
        // It counts as under way before it is asked whether there are to be no more: so `run` does not end
        // between that question and its task.
        let _coming = shared.flights.token();
        if shared.closed.is_cancelled() {
            return Err(shared.stopping().into());
        }
        let room = shared.room(target.limits.max_calls);
        let Some(place) = shared.places.take(&agent, 1, room) else {
            return Err(CallFailure::Overloaded.into());
        };
        let admitted = tokio::select! {
            biased;
            // Whoever waits for a hold or for a resume learns it at once. Dropped, it was never made.
            () = shared.closed.cancelled() => Err(shared.stopping()),
            admitted = shared.admit(target, &body.bytes) => admitted,
        };
        let (target, prepared, held) = match admitted {
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
        let answer = shared.fly(target, prepared, held, (UnderWay::new(place), body.place));
        drop(body.bytes);
        answer.await
    }

    /// Bytes of answers that are kept now: not read to their end, or not taken by their agents yet.
    pub fn answer_bytes(&self) -> u64 {
        self.shared.answers.taken()
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
    /// So many places, for all agents that there are.
    fn room(&self, most: u64) -> Room {
        let shared = self.deps.settings.load().agents.len() > 1;
        Room { most, shared }
    }

    fn stopping(&self) -> CallFailure {
        CallFailure::Stopping {
            retry_after: STOPPING_RETRY,
        }
    }
}
