//! Until a call has its hold: the agent's state, the bound, the hold, and the wait while the agent is paused.
//!
//! Nothing here outlives the client. Whoever goes away meanwhile has made no call: the ledger voids a hold that
//! nobody was told of.

use std::time::Duration;

use bytes::Bytes;

use super::failure::CallFailure;
use super::park::Parked;
use super::prepare::{Prepared, Short, prepare};
use super::shares::Share;
use super::target::Target;
use super::{COUNTING, Shared};
use crate::domain::agent::AgentStatus;
use crate::domain::call;
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::Refusal;
use crate::domain::ledger::bound::Bound;
use crate::domain::ledger::posting::Trust;
use crate::domain::rejection::Rejection;
use crate::ledger::{AdmitRejection, AdmitRequest, AdmittedHold};

/// How long a call waits for its turn to be counted, and what a client is told to wait for a place.
const COUNTING_WAIT: Duration = Duration::from_secs(10);
const BUSY_RETRY_S: u64 = 5;

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

impl Shared {
    /// Prepares a call and places its hold; waits while its agent is paused.
    pub(super) async fn admit(
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
        let mut prepared = prepare(target, body, &catalogue, (&self.work, self.room(0).shared)).await?;
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
        let countable = prepared.asked.as_ref().is_some_and(call::is_countable);
        let mut admitted = self.deps.ledger.admit(request(price.bound, countable)).await;
        // Only counting needs this copy of the text: a call that waits for room or is under way is without it.
        let text = prepared.asked.as_mut().and_then(|asked| asked.text.take());
        if countable && let (Some(asked), Some(short)) = (&prepared.asked, short_of(&admitted)) {
            if price.is_worth_counting(asked, target, short)? {
                match (self.place_to_count(&target.head.agent).await, short) {
                    (Some(place), _) => {
                        if let Some(bound) = price.refined(asked, text, target, place).await {
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
    async fn place_to_count(&self, agent: &AgentId) -> Option<Share> {
        tokio::select! {
            biased;
            place = self.counting.wait(agent, 1, self.room(COUNTING)) => Some(place),
            () = self.deps.clock.sleep(COUNTING_WAIT) => None,
        }
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
        match self.lot.park(world, agent, bytes, room, deadline).await {
            Parked::GoOn => Ok(()),
            Parked::Over => {
                let state = self.deps.store.agent(agent).await?;
                let (since, reason) = (state.since, state.reason);
                Err(Rejection::Paused { since, reason }.into())
            }
        }
    }

    /// What a contained agent is told.
    pub(super) async fn contained(&self, agent: &AgentId) -> Rejection {
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
}
