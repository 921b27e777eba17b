//! Settling triggers: each one once, with its response.
//!
//! A trigger is written by the commit that found it and stays until its response is durable, so a crash
//! between loses no breach and repeats none. What only tells people is settled in bulk; what acts is
//! settled one by one, conditional on everything it was decided from, and decided anew if that changed.

use std::collections::BTreeSet;
use std::future::Future;

use tokio_util::sync::CancellationToken;

use super::Watch;
use super::draft::{BACKSTOP, Draft, Ground};
use crate::domain::agent::AgentState;
use crate::domain::id::{AgentId, ContainmentId};
use crate::domain::judgement::change::{self, Standing};
use crate::domain::judgement::reset::LineChanges;
use crate::domain::judgement::rule::{Case, Ruling, Sentence, rule};
use crate::domain::ledger::batch::{NewTrigger, TriggerCause};
use crate::domain::ledger::line::LineKey;
use crate::domain::money::Usd;
use crate::domain::review::Question;
use crate::ports::{LineQuery, NoticeKind, StoreError, Trigger};

/// Spenders of a fleet line that are looked at.
const SPENDERS: u32 = 10_000;

impl Watch {
    /// Judges until the shutdown, whenever poked and at every `poll_every`. `apply` is the ledger's part
    /// of a reset: it is asked to arm lines again, for resets that a crash cut short.
    pub async fn run<F>(&self, shutdown: CancellationToken, apply: impl Fn(LineChanges) -> F)
    where
        F: Future<Output = Result<(), String>>,
    {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.check_resets(&apply).await {
                tracing::warn!(%error, "a reset waits: its lines could not be looked at; they are looked at again");
            }
            if let Err(error) = self.judge_pending().await {
                tracing::warn!(%error, "triggers could not be judged; they are kept and judged again");
            }
            let poll = self.settings.load().poll_every;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = self.poke.notified() => {}
                () = self.clock.sleep(poll) => {}
            }
        }
    }

    /// Judges what is pending now; how many triggers were settled. One that fails does not keep the
    /// others waiting; the first failure is returned. A conflict means that the agent was changed
    /// meanwhile, or that another daemon settled the trigger: what is pending is read again.
    pub async fn judge_pending(&self) -> Result<usize, StoreError> {
        let mut settled = 0;
        let mut attempts = self.settings.load().attempts;
        loop {
            let batch = self.settings.load().batch.max(1);
            let pending = self.store.pending_triggers(batch).await?;
            let (telling, acting): (Vec<_>, Vec<_>) = pending.iter().partition(|trigger| only_tells(trigger));
            let mut results = Vec::with_capacity(acting.len() + 1);
            if !telling.is_empty() {
                results.push(self.tell(&telling).await.map(|()| telling.len()));
            }
            for trigger in acting {
                results.push(self.judge(trigger).await.map(|()| 1));
            }
            let (mut conflict, mut failure) = (None, None);
            for result in results {
                match result {
                    Ok(count) => settled += count,
                    Err(error @ StoreError::Conflict { .. }) => conflict = Some(error),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
            if let Some(error) = conflict {
                attempts = attempts.saturating_sub(1);
                if attempts == 0 {
                    return Err(error);
                }
            } else if u32::try_from(pending.len()).unwrap_or(u32::MAX) < batch {
                return Ok(settled);
            }
        }
    }

    async fn tell(&self, triggers: &[&Trigger]) -> Result<(), StoreError> {
        let mut draft = Draft::default();
        for trigger in triggers {
            self.say(&mut draft, trigger);
            draft.judgement.settle.push(trigger.id);
        }
        self.settle(draft).await
    }

    async fn judge(&self, trigger: &Trigger) -> Result<(), StoreError> {
        let mut draft = Draft::default();
        draft.judgement.settle.push(trigger.id);
        let (fleet, spenders) = if trigger.trigger.line.agent.is_none() {
            let fleet = self.fleet().await?;
            (fleet, self.store.spenders(&trigger.trigger.line, SPENDERS).await?)
        } else {
            (Vec::new(), Vec::new())
        };
        let names: Vec<AgentId> = fleet.iter().map(|state| state.id.clone()).collect();
        let ruling = match self.overtaken(trigger).await? {
            Some(why) => Ruling::Moot(why),
            None => rule(&Case {
                trigger: &trigger.trigger,
                response: trigger.response,
                fleet: &names,
                spenders: &spenders,
            }),
        };
        let ground = self.say(&mut draft, trigger);
        match ruling {
            Ruling::Tell => {}
            Ruling::Moot(why) => {
                let agent = trigger.trigger.line.agent.as_ref();
                draft.audit(&ground, "moot", agent, &format!("nothing is done: {why}"));
            }
            Ruling::Act(sentences) => {
                let reviews = self.open_reviews().await?;
                for sentence in &sentences {
                    let known = fleet.iter().find(|state| state.id == sentence.agent);
                    let standing = match known {
                        Some(state) => self.standing_of(state.clone()).await?,
                        None => self.standing(&sentence.agent).await?,
                    };
                    self.act(&mut draft, &ground, sentence, &standing, &reviews);
                }
                // One that took a canary drill over is opened by this too.
                let updated = draft.judgement.update.iter_mut();
                let begun = updated.filter(|one| one.opened_at == ground.now);
                for opened in draft.judgement.open.iter_mut().chain(begun) {
                    opened.breached_at = Some(trigger.trigger.at);
                }
            }
        }
        self.settle(draft).await
    }

    fn act(
        &self,
        draft: &mut Draft,
        ground: &Ground,
        sentence: &Sentence,
        standing: &Standing,
        reviews: &[crate::domain::review::Review],
    ) {
        let id = ContainmentId(self.entropy.id(ground.now));
        if let Some(change) = change::apply(standing, sentence.measure, &ground.why, ground.now, id) {
            draft.change(self, ground, &sentence.agent, change, reviews);
        }
        if sentence.ask_contain {
            let summary = format!(
                "{}. Nothing of ours confirms it, so the agent was revoked and not contained. Approve contains it; \
                 deny leaves it revoked.",
                ground.why
            );
            let cause = ground.why.clone();
            draft.ask(
                self,
                ground,
                &sentence.agent,
                Question::Contain { cause },
                summary,
                reviews,
            );
        }
    }

    /// Every agent: those of the config, and those that were ever written about.
    async fn fleet(&self) -> Result<Vec<AgentState>, StoreError> {
        let mut fleet = self.store.agents().await?;
        let known: BTreeSet<AgentId> = fleet.iter().map(|state| state.id.clone()).collect();
        let settings = self.settings.load();
        let others = settings.agents.iter().filter(|agent| !known.contains(*agent));
        fleet.extend(others.cloned().map(AgentState::initial));
        Ok(fleet)
    }

    /// Why a breach is none any more: the limit was changed or lifted since, and the ledger has judged
    /// the line anew. Without this a trigger that waited through a reset would contain again.
    async fn overtaken(&self, trigger: &Trigger) -> Result<Option<&'static str>, StoreError> {
        let key = &trigger.trigger.line;
        let query = LineQuery {
            agent: key.agent.clone(),
            budget: Some(key.budget.clone()),
            value: Some(key.value.clone()),
            ..LineQuery::default()
        };
        let lines = self.store.lines(&query).await?;
        let line = lines.iter().find(|line| line.key == *key);
        Ok(match line {
            Some(line) if line.revision != trigger.trigger.revision => Some("the limit was changed since"),
            Some(line) if line.is_lifted(self.clock.now()) => Some("the limit is lifted"),
            _ => None,
        })
    }

    /// Says and records what the ledger found.
    fn say(&self, draft: &mut Draft, trigger: &Trigger) -> Ground {
        let found = &trigger.trigger;
        let line = describe(&found.line);
        let settled = found.posted.saturating_sub(found.unresolved);
        let (action, kind, why) = match &found.cause {
            TriggerCause::Alert { percent } => (
                "alert",
                NoticeKind::Alert,
                format!(
                    "{line} reached {percent} % of its limit: {} of {}",
                    found.posted, found.limit
                ),
            ),
            TriggerCause::Breach => (
                "breach",
                NoticeKind::Breach,
                format!("{line} is breached: {settled} of {}", found.limit),
            ),
            TriggerCause::RefusedForGood { bound } => (
                "breach",
                NoticeKind::Breach,
                format!(
                    "{line} is breached: {settled} of {} leaves no room for {bound}",
                    found.limit
                ),
            ),
            TriggerCause::Projected { ahead, .. } => (
                "breach",
                NoticeKind::Breach,
                format!(
                    "{line} is about to be breached: {settled} of {} is posted, and by projection {ahead} more is \
                     burnt before a reaction binds",
                    found.limit
                ),
            ),
            TriggerCause::Late => (
                "late",
                NoticeKind::Alert,
                format!("spend on {line} came too late to act on: {settled} of {}", found.limit),
            ),
        };
        let ground = Ground {
            by: BACKSTOP.to_owned(),
            why,
            evidence: serde_json::json!({
                "trigger": trigger.id,
                "response": trigger.response,
                "found": in_dollars(found),
            }),
            now: self.clock.now(),
        };
        let agent = found.line.agent.as_ref();
        draft.audit(&ground, action, agent, &ground.why);
        draft.notice(&ground, kind, agent, ground.why.clone());
        ground
    }
}

/// Whether a trigger changes nothing, whatever the agent's state.
fn only_tells(trigger: &Trigger) -> bool {
    matches!(trigger.trigger.cause, TriggerCause::Alert { .. } | TriggerCause::Late)
}

/// What the ledger found, with its amounts as a person reads them.
fn in_dollars(found: &NewTrigger) -> serde_json::Value {
    let mut shown = serde_json::json!(found);
    if let Some(fields) = shown.as_object_mut() {
        for (name, amount) in [
            ("limit", found.limit),
            ("posted", found.posted),
            ("held", found.held),
            ("unresolved", found.unresolved),
        ] {
            fields.remove(name);
            fields.insert(format!("{name}_usd"), amount.to_string().into());
        }
        let cause = match &found.cause {
            TriggerCause::RefusedForGood { bound } => {
                Some(serde_json::json!({ "kind": "refused_for_good", "bound_usd": bound.to_string() }))
            }
            TriggerCause::Projected {
                ahead,
                burners,
                unposted,
            } => {
                let parts = |parts: &[(AgentId, Usd)]| {
                    let parts = parts.iter();
                    let parts = parts.map(|(agent, usd)| (agent.to_string(), usd.to_string().into()));
                    parts.collect::<serde_json::Map<_, _>>()
                };
                Some(serde_json::json!({
                    "kind": "projected",
                    "ahead_usd": ahead.to_string(),
                    "burners_usd": parts(burners),
                    "of_that_unposted_usd": parts(unposted),
                }))
            }
            TriggerCause::Alert { .. } | TriggerCause::Breach | TriggerCause::Late => None,
        };
        fields.extend(cause.map(|cause| ("cause".to_owned(), cause)));
    }
    shown
}

/// A line for a person.
fn describe(line: &LineKey) -> String {
    let whose = line
        .agent
        .as_ref()
        .map_or_else(|| "the fleet".to_owned(), ToString::to_string);
    if line.value.is_empty() {
        format!("budget {} of {whose}", line.budget)
    } else {
        format!("budget {} [{}] of {whose}", line.budget, line.value)
    }
}
