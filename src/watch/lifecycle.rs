//! What an operator does with an agent: pause, resume, contain, reset.
//!
//! Each is decided from what is stored, written in one transaction with its audit entry, and safe to
//! ask for twice: what is so already is answered as done.

use std::future::Future;

use jiff::Timestamp;

use super::draft::{BACKSTOP, Draft, Ground};
use super::{AsStoreError, Watch};
use crate::domain::agent::{AgentState, AgentStatus};
use crate::domain::containment::restore::unknown_selections;
use crate::domain::containment::state::{Containment, Mode, Phase, RestoreRequest};
use crate::domain::id::{AgentId, ContainmentId};
use crate::domain::judgement::change::{self, Standing};
use crate::domain::judgement::reset::{LineChanges, ResetOptions, ResetRejection, line_changes, overtaken};
use crate::domain::judgement::rule::Measure;
use crate::domain::ledger::line::Line;
use crate::ports::{LineQuery, NoticeKind, StoreError};

/// Whether something was changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    Done,
    /// It was so already.
    Already,
}

/// Why an operator's action is not possible now. Closed, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleRejection {
    #[error("the agent is contained, which is harder than a pause; reset it")]
    Contained,
    #[error("a reset of the agent is under way; resume it when that is over")]
    Restoring,
    #[error("a drill of this agent is under way")]
    Drilled,
    #[error("the agent is contained: there is nothing to rehearse; reset it first")]
    NoDrill,
}

#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    #[error(transparent)]
    Rejected(#[from] LifecycleRejection),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a reset did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    #[error(transparent)]
    Rejected(#[from] ResetRejection),
    /// The lines could not be raised, lifted or armed; the agent is contained as before.
    #[error("the lines could not be changed: {0}")]
    Lines(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AsStoreError for LifecycleError {
    fn as_store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

impl AsStoreError for ResetError {
    fn as_store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Rejected(_) | Self::Lines(_) => None,
        }
    }
}

impl Watch {
    /// Pauses an agent. `by` is who asks, such as `operator:alice`.
    pub async fn pause(&self, agent: &AgentId, by: &str, reason: &str) -> Result<Acted, LifecycleError> {
        self.again_on_conflict(|| async {
            let standing = self.standing(agent).await?;
            match standing.state.status {
                AgentStatus::Paused => return Ok(Acted::Already),
                AgentStatus::Contained => return Err(LifecycleRejection::Contained.into()),
                AgentStatus::Active | AgentStatus::Restoring => {}
            }
            let (ground, id) = self.ground(by, reason);
            let change = change::apply(&standing, Measure::Pause, &ground.why, ground.now, id);
            Ok(self.carry_out(agent, &ground, change).await?)
        })
        .await
    }

    /// Resumes a paused agent (D2).
    pub async fn resume(&self, agent: &AgentId, by: &str, reason: &str) -> Result<Acted, LifecycleError> {
        self.again_on_conflict(|| async {
            let standing = self.standing(agent).await?;
            match standing.state.status {
                AgentStatus::Active => return Ok(Acted::Already),
                AgentStatus::Contained => return Err(LifecycleRejection::Contained.into()),
                AgentStatus::Restoring => return Err(LifecycleRejection::Restoring.into()),
                AgentStatus::Paused if standing.held().is_some() => return Err(LifecycleRejection::Restoring.into()),
                AgentStatus::Paused => {}
            }
            let (ground, _) = self.ground(by, reason);
            let change = change::resume(&standing, &ground.why, ground.now);
            Ok(self.carry_out(agent, &ground, change).await?)
        })
        .await
    }

    /// Contains an agent by hand.
    pub async fn contain(&self, agent: &AgentId, mode: Mode, by: &str, cause: &str) -> Result<Acted, LifecycleError> {
        self.again_on_conflict(|| async {
            let standing = self.standing(agent).await?;
            let (ground, id) = self.ground(by, cause);
            let change = change::apply(&standing, mode.into(), &ground.why, ground.now, id);
            Ok(self.carry_out(agent, &ground, change).await?)
        })
        .await
    }

    async fn carry_out(
        &self,
        agent: &AgentId,
        ground: &Ground,
        change: Option<change::Change>,
    ) -> Result<Acted, StoreError> {
        let Some(change) = change else {
            return Ok(Acted::Already);
        };
        let reviews = self.open_reviews().await?;
        let mut draft = Draft::default();
        draft.change(self, ground, agent, change, &reviews);
        self.settle(draft).await?;
        Ok(Acted::Done)
    }

    pub(super) fn ground(&self, by: &str, why: &str) -> (Ground, ContainmentId) {
        let now = self.clock.now();
        let ground = Ground {
            by: by.to_owned(),
            why: why.to_owned(),
            evidence: serde_json::json!({ "by": by }),
            now,
        };
        (ground, ContainmentId(self.entropy.id(now)))
    }

    /// What a reset would have to change in the ledger, or why it is refused. Changes nothing.
    pub async fn check_reset(&self, agent: &AgentId, options: &ResetOptions) -> Result<LineChanges, ResetError> {
        let standing = self.standing(agent).await?;
        resettable(&standing)?;
        let images = self.store.images(agent).await?;
        let images = images
            .into_iter()
            .map(|image| (image.resource.clone(), image))
            .collect();
        let names = unknown_selections(&images, &options.only);
        if !names.is_empty() {
            return Err(ResetRejection::UnknownSelection { names }.into());
        }
        let now = self.clock.now();
        let lines = self.lines_of(agent, now).await?;
        Ok(line_changes(&lines, options, now)?)
    }

    /// Resets an agent: checks, changes the lines by `apply` (the ledger's part: first the overrides,
    /// then the rearms), and only then asks the kill switch to put everything back. The override is in
    /// the audit log before it is made. If it fails in between, the agent stays contained.
    ///
    /// `apply` may be called twice. Spend that is recorded between the lines' change and the reset's
    /// beginning can breach them anew, and that breach is judged while the agent is still contained, so
    /// nothing follows from it. So the lines are read once more when the reset has begun, and those that
    /// are past their limits are armed again: now the breach breaks the reset off. The kill switch puts
    /// nothing back before this is written, and a crash in between leaves it to [`Self::check_resets`].
    pub async fn reset<F>(
        &self,
        agent: &AgentId,
        options: &ResetOptions,
        apply: impl Fn(LineChanges) -> F,
    ) -> Result<Containment, ResetError>
    where
        F: Future<Output = Result<(), String>>,
    {
        let changes = self.check_reset(agent, options).await?;
        if !changes.overrides.is_empty() {
            let (mut ground, _) = self.ground(&options.by, "reset");
            ground.evidence = serde_json::json!({ "overrides": changes.overrides });
            let mut draft = Draft::default();
            let action = if options.until.is_some() { "lifted" } else { "raised" };
            let how = match (options.raise, options.until) {
                (Some(raise), _) => format!("${raise} more"),
                (None, Some(until)) => format!("the limit lifted until {until:.0}"),
                (None, None) => "changed".to_owned(),
            };
            let count = changes.overrides.len();
            let lines = if count == 1 { "line" } else { "lines" };
            draft.audit(
                &ground,
                action,
                Some(agent),
                &format!("{how} for a reset, on {count} breached {lines}"),
            );
            self.store.append_audit(&draft.judgement.audit).await?;
        }
        let evidence = serde_json::json!({
            "only": options.only,
            "overrides": changes.overrides.len(),
            "rearmed": changes.rearm.len(),
        });
        apply(changes).await.map_err(ResetError::Lines)?;
        let begun = self
            .again_on_conflict(|| self.begin_reset(agent, options, &evidence))
            .await?;
        match self.check_lines(&begun, &apply).await {
            Ok(now) => Ok(now.unwrap_or(begun)),
            Err(error) => {
                // Nobody knows whether the agent is within its limits, so it is not let go.
                let why = "the reset is broken off: its lines could not be looked at once it had begun";
                if let Err(error) = self.contain(agent, begun.mode, BACKSTOP, why).await {
                    tracing::error!(%agent, %error, "a reset whose lines are not known to hold could not be broken off");
                }
                Err(error)
            }
        }
    }

    /// Looks at the lines of resets that began and were cut short before that, by a crash: what
    /// [`Self::reset`] does at its end. How many there were.
    pub async fn check_resets<F>(&self, apply: &impl Fn(LineChanges) -> F) -> Result<usize, ResetError>
    where
        F: Future<Output = Result<(), String>>,
    {
        let live = self.store.live_containments().await?;
        let (mut checked, mut failure) = (0, None);
        for begun in live.iter().filter(|live| is_unchecked(live)) {
            match self.check_lines(begun, apply).await {
                Ok(_) => checked += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(checked), Err)
    }

    /// Arms the lines again that were overtaken, and then writes that this was done, in this order: a
    /// crash in between only means that they are armed twice. `None` if it is no reset any more, or
    /// somebody else has written it.
    async fn check_lines<F>(
        &self,
        begun: &Containment,
        apply: &impl Fn(LineChanges) -> F,
    ) -> Result<Option<Containment>, ResetError>
    where
        F: Future<Output = Result<(), String>>,
    {
        let now = self.clock.now();
        let rearm = overtaken(&self.lines_of(&begun.agent, now).await?, now);
        if !rearm.is_empty() {
            let changes = LineChanges {
                rearm,
                ..LineChanges::default()
            };
            apply(changes).await.map_err(ResetError::Lines)?;
            self.poke();
        }
        self.again_on_conflict(|| self.write_checked(begun)).await
    }

    async fn write_checked(&self, begun: &Containment) -> Result<Option<Containment>, ResetError> {
        let Some(live) = self.store.containment(begun.id).await?.filter(is_unchecked) else {
            return Ok(None);
        };
        // Another reset of the same containment has lines of its own to look at.
        if live.restoring_at != begun.restoring_at {
            return Ok(None);
        }
        let update = Containment {
            restore: live.restore.clone().map(|request| RestoreRequest {
                lines_checked: true,
                ..request
            }),
            version: live.version + 1,
            ..live
        };
        let mut draft = Draft {
            news: true,
            ..Draft::default()
        };
        draft.judgement.update.push(update.clone());
        self.settle(draft).await?;
        Ok(Some(update))
    }

    async fn begin_reset(
        &self,
        agent: &AgentId,
        options: &ResetOptions,
        evidence: &serde_json::Value,
    ) -> Result<Containment, ResetError> {
        let standing = self.standing(agent).await?;
        let live = resettable(&standing)?;
        let (mut ground, _) = self.ground(&options.by, "reset");
        ground.evidence = evidence.clone();
        let now = ground.now;
        let state = AgentState {
            status: AgentStatus::Restoring,
            since: now,
            reason: format!("a reset by {} is under way", options.by),
            version: standing.state.version + 1,
            ..standing.state.clone()
        };
        let update = Containment {
            phase: Phase::Restoring,
            restoring_at: Some(now),
            restore: Some(RestoreRequest {
                by: options.by.clone(),
                at: now,
                only: options.only.clone(),
                lines_checked: false,
            }),
            version: live.version + 1,
            ..live.clone()
        };
        let mut draft = Draft {
            news: true,
            ..Draft::default()
        };
        let text = match options.only.len() {
            0 => "restoring everything that was changed".to_owned(),
            some => format!("restoring the principals and {some} selected machines"),
        };
        draft.audit(&ground, "restoring", Some(agent), &text);
        draft.notice(&ground, NoticeKind::Restoring, Some(agent), text);
        draft.judgement.agents.push(state);
        draft.judgement.update.push(update.clone());
        self.settle(draft).await?;
        Ok(update)
    }

    /// The open lines of an agent and of the fleet.
    async fn lines_of(&self, agent: &AgentId, now: Timestamp) -> Result<Vec<Line>, StoreError> {
        let lines = self
            .store
            .lines(&LineQuery {
                open_at: Some(now),
                ..LineQuery::default()
            })
            .await?;
        let concerns = |line: &Line| line.key.agent.as_ref().is_none_or(|owner| owner == agent);
        Ok(lines.into_iter().filter(concerns).map(|line| line.as_of(now)).collect())
    }
}

/// Whether it is a reset that has begun, and whose lines were not looked at since.
fn is_unchecked(containment: &Containment) -> bool {
    let request = containment.restore.as_ref();
    containment.phase == Phase::Restoring && request.is_some_and(|request| !request.lines_checked)
}

/// The containment that a reset would end.
fn resettable(standing: &Standing) -> Result<&Containment, ResetRejection> {
    let status = standing.state.status;
    match standing.held() {
        Some(live) if live.phase == Phase::Restoring => Err(ResetRejection::AlreadyRestoring),
        Some(live) if status == AgentStatus::Contained => Ok(live),
        _ => Err(ResetRejection::NotContained { status }),
    }
}
