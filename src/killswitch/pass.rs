//! One pass over one containment: its lease, its records, and what is to be told.
//!
//! A pass belongs to one holder of the lease (C6). Every record is fenced by the lease's token, and a
//! record stands before every call that changes the cloud, so a driver that lost its lease is stopped
//! by the store before it can act. The lease is renewed before a call that it might not outlive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::call::Caller;
use super::settings::KillSettings;
use crate::domain::audit::NewAudit;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::plan::Images;
use crate::domain::containment::restore::Settled;
use crate::domain::containment::state::{Action, Containment, Step, StepState};
use crate::domain::containment::steps::Steps;
use crate::domain::containment::target::Resource;
use crate::domain::review::Review;
use crate::ports::{Clock, Cloud, Entropy, Lease, Notice, NoticeKind, Store, StoreError};

/// Who acts, in the audit log.
pub(super) const ACTOR: &str = "backstop";

/// Why a pass ended before its end. The next one takes up where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error("the lease has passed to another driver")]
    LeaseLost,
    #[error("{resource} has no before-image in the store after it was recorded")]
    ImageMissing { resource: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of one step's call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepResult {
    Done,
    /// Refused for good.
    GivenUp(String),
    /// Did not happen; will be tried again.
    Failing(String),
    /// May have happened: the next observation tells.
    Unknown(String),
}

/// Everything that one pass works with.
pub(super) struct Pass<'a> {
    pub store: &'a dyn Store,
    pub cloud: &'a dyn Cloud,
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
    pub settings: Arc<KillSettings>,
    pub containment: Containment,
    pub images: Images,
    lease: Mutex<Lease>,
    steps: Mutex<Steps>,
    /// Steps that were given up before this pass: said already.
    given_up: BTreeSet<String>,
    told: Mutex<Told>,
}

/// What is written and said at the end of a pass.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub audit: Vec<NewAudit>,
    pub notices: Vec<Notice>,
    pub reviews: Vec<Review>,
    /// What is not to be said again while this daemon lives.
    pub once: BTreeSet<String>,
}

impl<'a> Pass<'a> {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one pass, named at its only caller"
    )]
    pub fn new(
        store: &'a dyn Store,
        cloud: &'a dyn Cloud,
        clock: &'a dyn Clock,
        entropy: &'a dyn Entropy,
        settings: Arc<KillSettings>,
        containment: Containment,
        images: Vec<BeforeImage>,
        steps: Vec<Step>,
        lease: Lease,
    ) -> Self {
        Self {
            store,
            cloud,
            clock,
            entropy,
            settings,
            containment,
            images: images
                .into_iter()
                .map(|image| (image.resource.clone(), image))
                .collect(),
            lease: Mutex::new(lease),
            given_up: steps
                .iter()
                .filter(|step| step.state == StepState::GivenUp)
                .map(|step| step.id.clone())
                .collect(),
            steps: Mutex::new(Steps::new(steps)),
            told: Mutex::new(Told::default()),
        }
    }

    /// Calls that may begin for `patience` from now.
    pub fn caller(&self, patience: Duration) -> Caller<'_> {
        Caller {
            clock: self.clock,
            entropy: self.entropy,
            limit: self.settings.call_limit,
            until: self.clock.monotonic().saturating_add(patience),
        }
    }

    pub fn steps(&self) -> Steps {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn lease(&self) -> Lease {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes sure that the lease outlives a call that begins now.
    pub async fn hold_lease(&self) -> Result<Lease, PassError> {
        let lease = self.lease();
        let now = self.clock.now();
        let needed = SignedDuration::try_from(self.settings.longest_step()).unwrap_or(SignedDuration::MAX);
        if lease.expires_at.duration_since(now) > needed {
            return Ok(lease);
        }
        let ttl = self.settings.lease_time();
        match self.store.lease(&lease.name, &lease.holder, now, ttl).await? {
            // A new token means that it had passed on and come back: what was planned may be stale.
            Some(renewed) if renewed.token == lease.token => {
                *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = renewed.clone();
                Ok(renewed)
            }
            _ => Err(PassError::LeaseLost),
        }
    }

    /// Records before-images and checks that they were read back (C1).
    pub async fn record_images(&self, images: &[BeforeImage]) -> Result<(), PassError> {
        if images.is_empty() {
            return Ok(());
        }
        let lease = self.hold_lease().await?;
        let back = fenced(self.store.record_images(&lease, images).await)?;
        all_there(images, &back)
    }

    /// The same, where some of them take the place of others that end with it.
    pub async fn supersede(&self, superseded: &[Settled], images: &[BeforeImage]) -> Result<(), PassError> {
        let ended = self.settled(superseded);
        if ended.is_empty() {
            return self.record_images(images).await;
        }
        let lease = self.hold_lease().await?;
        let back = fenced(self.store.supersede_images(&lease, &ended, images).await)?;
        all_there(images, &back)
    }
    /// Writes that these were changed by us.
    pub async fn note_changed(&self, resources: &[Resource], planned: &[BeforeImage]) -> Result<(), PassError> {
        if resources.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let planned: BTreeMap<&Resource, &BeforeImage> = planned.iter().map(|image| (&image.resource, image)).collect();
        let changed: Vec<BeforeImage> = resources
            .iter()
            .filter_map(|resource| {
                // What is recorded in this pass is newer than what was there at its beginning.
                let planned = planned.get(resource).copied();
                planned.or(self.images.get(resource)).cloned()
            })
            .map(|image| BeforeImage {
                changed_at: Some(now),
                ..image
            })
            .collect();
        self.update_images(&changed).await
    }

    /// Writes that nothing is left to put back of these, and why.
    pub async fn settle(&self, settled: &[Settled]) -> Result<(), PassError> {
        self.update_images(&self.settled(settled)).await
    }

    fn settled(&self, settled: &[Settled]) -> Vec<BeforeImage> {
        let now = self.clock.now();
        settled
            .iter()
            .filter_map(|settled| Some((settled, self.images.get(&settled.resource)?)))
            .map(|(settled, image)| BeforeImage {
                restored_at: Some(now),
                outcome: Some(settled.outcome.clone()),
                ..image.clone()
            })
            .collect()
    }

    pub async fn update_images(&self, images: &[BeforeImage]) -> Result<(), PassError> {
        if images.is_empty() {
            return Ok(());
        }
        let lease = self.hold_lease().await?;
        fenced(self.store.update_images(&lease, images).await)
    }

    /// Writes steps as started, before their call is made.
    pub async fn start_steps(&self, action: Action, resources: &[Resource]) -> Result<Vec<Step>, PassError> {
        let now = self.clock.now();
        let steps: Vec<Step> = {
            let known = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            let start = |resource| {
                // What this pass records is not in `images` yet: nothing was tried since.
                let image = self.images.get(resource);
                known.start(self.containment.id, action, resource, image, now)
            };
            resources.iter().map(start).collect()
        };
        self.write_steps(&steps).await?;
        Ok(steps)
    }

    /// Writes what became of steps, and what a person should know of it.
    pub async fn end_steps(&self, steps: Vec<Step>, result: impl Fn(&Step) -> StepResult) -> Result<(), PassError> {
        let now = self.clock.now();
        let mut ended = Vec::with_capacity(steps.len());
        for step in steps {
            let (state, last_error, maybe_done) = match result(&step) {
                StepResult::Done => (StepState::Done, None, false),
                StepResult::GivenUp(why) => (StepState::GivenUp, Some(why), step.maybe_done),
                StepResult::Failing(why) => (StepState::Failing, Some(why), step.maybe_done),
                // Still under way, as far as anyone knows.
                StepResult::Unknown(why) => (StepState::Started, Some(why), true),
            };
            let step = Step {
                state,
                maybe_done,
                last_error,
                last_at: now,
                ..step
            };
            if state == StepState::GivenUp {
                self.audit_failure(&step);
            }
            ended.push(step);
        }
        self.write_steps(&ended).await
    }

    async fn write_steps(&self, steps: &[Step]) -> Result<(), PassError> {
        if steps.is_empty() {
            return Ok(());
        }
        let lease = self.hold_lease().await?;
        fenced(self.store.record_steps(&lease, steps).await)?;
        let mut known = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        for step in steps {
            known.put(step.clone());
        }
        Ok(())
    }

    /// The first refusal of a step is a decision's outcome and belongs into the log; its repetitions,
    /// sweep after sweep, do not.
    fn audit_failure(&self, step: &Step) {
        if self.given_up.contains(&step.id) {
            return;
        }
        let why = step.last_error.clone().unwrap_or_default();
        self.audit(
            "step_failed",
            format!("{} could not be done: {why}", step.id),
            &serde_json::json!({ "containment": self.containment.id, "step": step.id, "why": why }),
        );
    }

    pub fn audit(&self, action: &str, reason: String, evidence: &serde_json::Value) {
        let entry = self.audit_entry(action, reason, evidence);
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .audit
            .push(entry);
    }

    pub fn audit_entry(&self, action: &str, reason: String, evidence: &serde_json::Value) -> NewAudit {
        NewAudit {
            at: self.clock.now(),
            actor: ACTOR.to_owned(),
            action: action.to_owned(),
            agent: Some(self.containment.agent.clone()),
            reason,
            evidence: evidence.to_string(),
        }
    }

    pub fn notice(&self, kind: NoticeKind, text: String) {
        let notice = Notice {
            kind,
            agent: Some(self.containment.agent.clone()),
            text,
            at: self.clock.now(),
        };
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .notices
            .push(notice);
    }

    /// Marks something as said, once this pass is written.
    pub fn say_once(&self, what: String) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .once
            .insert(what);
    }

    pub fn ask(&self, review: Review) {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reviews
            .push(review);
    }

    pub fn take_told(&self) -> Told {
        std::mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A fenced write that conflicts means that the lease has passed on.
pub(super) fn fenced<T>(result: Result<T, StoreError>) -> Result<T, PassError> {
    result.map_err(|error| match error {
        StoreError::Conflict { .. } => PassError::LeaseLost,
        other => PassError::Store(other),
    })
}

/// What was written is there to be read (C1).
fn all_there(images: &[BeforeImage], back: &[BeforeImage]) -> Result<(), PassError> {
    let there: BTreeSet<&Resource> = back
        .iter()
        .filter(|image| image.restored_at.is_none())
        .map(|image| &image.resource)
        .collect();
    let missing = images.iter().find(|image| !there.contains(&image.resource));
    missing.map_or(Ok(()), |image| {
        Err(PassError::ImageMissing {
            resource: image.resource.to_string(),
        })
    })
}
