//! A decision while it is being put together: what is written at once, and what is said after.

use jiff::Timestamp;

use super::Watch;
use crate::domain::agent::AgentState;
use crate::domain::audit::NewAudit;
use crate::domain::containment::state::Phase;
use crate::domain::drill::Drill;
use crate::domain::id::{AgentId, ReviewId};
use crate::domain::judgement::change::{Change, ChangeKind, Standing};
use crate::domain::review::{Decision, Question, Review};
use crate::ports::{Judgement, Notice, NoticeKind, StoreError};

/// Open reviews that are looked through at most.
const REVIEWS: u32 = 10_000;

/// Who judges, in the audit log.
pub(super) const BACKSTOP: &str = "backstop";

#[derive(Debug, Default)]
pub(super) struct Draft {
    pub judgement: Judgement,
    pub notices: Vec<Notice>,
    /// The kill switch has something to do.
    pub news: bool,
}

/// Who decided, why, and on what evidence.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub by: String,
    pub why: String,
    pub evidence: serde_json::Value,
    pub now: Timestamp,
}

impl Draft {
    pub fn audit(&mut self, ground: &Ground, action: &str, agent: Option<&AgentId>, reason: &str) {
        self.judgement.audit.push(NewAudit {
            at: ground.now,
            actor: ground.by.clone(),
            action: action.to_owned(),
            agent: agent.cloned(),
            reason: reason.to_owned(),
            evidence: ground.evidence.to_string(),
        });
    }

    pub fn notice(&mut self, ground: &Ground, kind: NoticeKind, agent: Option<&AgentId>, text: String) {
        self.notices.push(Notice {
            kind,
            agent: agent.cloned(),
            text,
            at: ground.now,
        });
    }

    /// Adds what a change of one agent writes, asks, answers and says.
    pub fn change(&mut self, watch: &Watch, ground: &Ground, agent: &AgentId, change: Change, open: &[Review]) {
        let (action, kind, text) = match change.kind {
            ChangeKind::Paused => ("paused", NoticeKind::Paused, format!("paused: {}", ground.why)),
            ChangeKind::Resumed => ("resumed", NoticeKind::Resumed, format!("resumed: {}", ground.why)),
            ChangeKind::Contained => (
                "containing",
                NoticeKind::Containing,
                format!("containing: {}", ground.why),
            ),
            ChangeKind::Escalated => (
                "escalated",
                NoticeKind::Containing,
                format!("the containment goes further now: {}", ground.why),
            ),
            ChangeKind::Recontained => (
                "recontained",
                NoticeKind::Containing,
                format!("the reset is broken off and the agent contained again: {}", ground.why),
            ),
            ChangeKind::Overtaken => (
                "containing",
                NoticeKind::Containing,
                format!(
                    "containing: {}; the canary drill that was under way is over",
                    ground.why
                ),
            ),
        };
        self.audit(ground, action, Some(agent), &text);
        self.notice(ground, kind, Some(agent), text);
        self.judgement.agents.extend(change.state);
        self.judgement.open.extend(change.open);
        self.news |= change.update.is_some() || !self.judgement.open.is_empty();
        self.judgement.update.extend(change.update);
        self.judgement.audit.extend(change.drill.as_ref().map(Drill::audit));
        self.judgement.drills.extend(change.drill);
        match change.kind {
            ChangeKind::Paused => {
                let summary = format!(
                    "The agent was paused: {}. Approve resumes it; deny keeps it paused.",
                    ground.why
                );
                let cause = ground.why.clone();
                self.ask(watch, ground, agent, Question::Paused { cause }, summary, open);
            }
            ChangeKind::Resumed => self.answer(ground, agent, "paused", true, "resumed", open),
            ChangeKind::Contained | ChangeKind::Escalated | ChangeKind::Recontained | ChangeKind::Overtaken => {
                self.answer(
                    ground,
                    agent,
                    "paused",
                    false,
                    "the agent was contained meanwhile",
                    open,
                );
            }
        }
    }

    /// Opens a review, unless one that asks the same is open.
    pub fn ask(
        &mut self,
        watch: &Watch,
        ground: &Ground,
        agent: &AgentId,
        question: Question,
        summary: String,
        open: &[Review],
    ) {
        let key = question.dedupe_key();
        if find(open, agent, &key).is_some() {
            return;
        }
        if !matches!(question, Question::Paused { .. }) {
            self.notice(ground, NoticeKind::Review, Some(agent), summary.clone());
        }
        self.judgement.reviews.push(Review {
            id: ReviewId(watch.entropy.id(ground.now)),
            agent: agent.clone(),
            opened_at: ground.now,
            question,
            summary,
            evidence: ground.evidence.to_string(),
            decision: None,
        });
    }

    /// Decides an open review that events have answered.
    pub fn answer(&mut self, ground: &Ground, agent: &AgentId, key: &str, approved: bool, note: &str, open: &[Review]) {
        let Some(review) = find(open, agent, key) else {
            return;
        };
        if self.judgement.decide.iter().any(|(id, _)| *id == review.id) {
            return;
        }
        let decision = Decision {
            approved,
            by: ground.by.clone(),
            at: ground.now,
            note: note.to_owned(),
        };
        self.judgement.decide.push((review.id, decision));
    }
}

fn find<'a>(open: &'a [Review], agent: &AgentId, key: &str) -> Option<&'a Review> {
    let is_it =
        |review: &&Review| review.agent == *agent && review.decision.is_none() && review.question.dedupe_key() == key;
    open.iter().find(is_it)
}

impl Watch {
    /// Where an agent stands, as stored.
    pub(super) async fn standing(&self, agent: &AgentId) -> Result<Standing, StoreError> {
        let state = self.store.agent(agent).await?;
        self.standing_of(state).await
    }

    pub(super) async fn standing_of(&self, state: AgentState) -> Result<Standing, StoreError> {
        let last = self.store.containments_of(&state.id, 1).await?.into_iter().next();
        Ok(Standing {
            generation: last.as_ref().map_or(0, |last| last.generation),
            live: last.filter(|last| last.phase != Phase::Closed),
            state,
        })
    }

    pub(super) async fn open_reviews(&self) -> Result<Vec<Review>, StoreError> {
        self.store.reviews(true, REVIEWS).await
    }

    /// Writes a decision; once it is durable, tells people and the kill switch.
    pub(super) async fn settle(&self, draft: Draft) -> Result<(), StoreError> {
        self.store.judge(&draft.judgement).await?;
        for notice in draft.notices {
            self.notifier.notify(notice);
        }
        if draft.news {
            (self.on_news)();
        }
        Ok(())
    }
}
