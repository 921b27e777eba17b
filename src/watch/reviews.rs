//! What a person answers, and what follows from it, in one transaction.
//!
//! An answer is given once. The same answer again is done already; the opposite one is refused, since
//! what followed from the first has happened.

use super::draft::{Draft, Ground};
use super::{Acted, AsStoreError, Watch};
use crate::domain::id::{ContainmentId, ReviewId};
use crate::domain::judgement::change::{self, ChangeKind};
use crate::domain::judgement::rule::Measure;
use crate::domain::review::{Decision, Question, Review};
use crate::ports::StoreError;

/// Why a review cannot be answered. Closed, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewRejection {
    #[error("there is no such review")]
    Unknown,
    #[error("it was {} by {by} already", if *approved { "approved" } else { "denied" })]
    Decided { approved: bool, by: String },
    #[error("a reset of the agent is under way; approve it when that is over")]
    Restoring,
}

#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error(transparent)]
    Rejected(#[from] ReviewRejection),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AsStoreError for ReviewError {
    fn as_store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

impl Watch {
    /// Answers a review. `by` is who answers, such as `operator:alice`.
    pub async fn decide(&self, id: ReviewId, approved: bool, by: &str, note: &str) -> Result<Acted, ReviewError> {
        self.again_on_conflict(|| self.answer(id, approved, by, note)).await
    }

    async fn answer(&self, id: ReviewId, approved: bool, by: &str, note: &str) -> Result<Acted, ReviewError> {
        let review = self.store.review(id).await?.ok_or(ReviewRejection::Unknown)?;
        if let Some(decision) = &review.decision {
            if decision.approved == approved {
                return Ok(Acted::Already);
            }
            return Err(ReviewRejection::Decided {
                approved: decision.approved,
                by: decision.by.clone(),
            }
            .into());
        }
        let ground = Ground {
            by: by.to_owned(),
            why: format!("{by} {} the review", if approved { "approved" } else { "denied" }),
            evidence: serde_json::json!({ "review": id, "question": review.question, "note": note }),
            now: self.clock.now(),
        };
        let mut draft = Draft::default();
        let decision = Decision {
            approved,
            by: by.to_owned(),
            at: ground.now,
            note: note.to_owned(),
        };
        draft.judgement.decide.push((id, decision));
        let action = if approved { "approved" } else { "denied" };
        draft.audit(&ground, action, Some(&review.agent), &review.summary);
        if approved {
            self.follow(&mut draft, &ground, &review).await?;
        }
        self.settle(draft).await?;
        Ok(Acted::Done)
    }

    /// What an approval brings about. A denial keeps things as they are. An approval that could bring
    /// nothing about now is refused and the review stays open, or the answer would be lost (D2).
    async fn follow(&self, draft: &mut Draft, ground: &Ground, review: &Review) -> Result<(), ReviewError> {
        let standing = self.standing(&review.agent).await?;
        let change = match &review.question {
            Question::Paused { .. } if standing.held().is_some() => return Err(ReviewRejection::Restoring.into()),
            Question::Paused { .. } => change::resume(&standing, &ground.why, ground.now),
            Question::Contain { .. } => {
                let id = ContainmentId(self.entropy.id(ground.now));
                change::apply(&standing, Measure::Contain, &ground.why, ground.now, id)
            }
            // The next sweep of the agent's containment reads the answer.
            Question::ForeignMatch { .. } => {
                draft.news = true;
                None
            }
        };
        if let Some(change) = change {
            let reviews = match change.kind {
                // This review is the answer.
                ChangeKind::Resumed => Vec::new(),
                _ => self.open_reviews().await?,
            };
            draft.change(self, ground, &review.agent, change, &reviews);
        }
        Ok(())
    }
}
