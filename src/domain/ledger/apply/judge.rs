//! Triggers: what a change of a line means for judgement. Alerts once per line, breaches once per
//! revision, nothing while the limit is lifted.

use jiff::SignedDuration;

use super::book::{At, Book};
use crate::domain::id::AgentId;
use crate::domain::ledger::batch::{Admit, NewTrigger, TriggerCause};
use crate::domain::ledger::line::Line;
use crate::domain::ledger::posting::Trust;
use crate::domain::money::Usd;

/// What kind of operation asks for judgement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Spend,
    Correction,
    Rule,
}

impl Book<'_> {
    /// Judges a line after a change: every alert percentage that was reached, ascending, then a breach.
    pub(super) fn judge(&mut self, at: At, agent: Option<&AgentId>, trust: Trust, origin: Origin) {
        let line = self.line(at);
        if line.is_lifted(self.now) || line.settled() <= Usd::ZERO {
            return;
        }
        let reached = |percent: u16| reaches(line, percent);
        let mut alerts: Vec<u16> = line
            .rule
            .alert_at
            .iter()
            .copied()
            .filter(|&p| p > line.alerted && reached(p))
            .collect();
        let breach = line.breached != Some(line.revision) && line.settled() >= line.limit();
        if !breach && alerts.is_empty() {
            return;
        }
        alerts.sort_unstable();
        alerts.dedup();
        let cause = if self.is_late(at, origin) {
            TriggerCause::Late
        } else {
            TriggerCause::Breach
        };
        for percent in alerts {
            self.slot(at).line.alerted = percent;
            self.trigger(at, agent, trust, TriggerCause::Alert { percent });
        }
        if breach {
            self.breach(at, agent, trust, cause);
        }
    }

    /// Judges a line that refused a call for good: a line that is full for a call as small as this one
    /// is as good as spent, unless a finer bound of it is still to come. What is unresolved refuses calls but
    /// contains nobody (L3).
    pub(super) fn judge_refusal(&mut self, at: At, admit: &Admit) {
        let (agent, bound) = (&admit.attribution.agent, admit.bound.least());
        self.judge(at, Some(agent), admit.trust, Origin::Spend);
        let line = self.line(at);
        let wide = |usd: Usd| i128::from(usd.nanos());
        let limit = line.limit();
        let spent = wide(line.settled()) + wide(bound) > wide(limit);
        let small = limit.is_zero() || bound <= limit.percent(self.rules.breach_bound_percent);
        if !admit.tentative
            && spent
            && small
            && line.breached != Some(line.revision)
            && !self.is_late(at, Origin::Spend)
        {
            self.breach(at, Some(agent), admit.trust, TriggerCause::RefusedForGood { bound });
        }
    }

    pub(super) fn breach(&mut self, at: At, agent: Option<&AgentId>, trust: Trust, cause: TriggerCause) {
        let line = &mut self.slot(at).line;
        line.breached = Some(line.revision);
        self.trigger(at, agent, trust, cause);
    }

    /// Whether a change of a closed line comes too late to act on.
    fn is_late(&self, at: At, origin: Origin) -> bool {
        let window = self.line(at).key.window;
        let Some(end) = window.end.filter(|_| window.is_closed(self.now)) else {
            return false;
        };
        origin == Origin::Correction
            || self.now.duration_since(end) > SignedDuration::from_secs(self.rules.late_grace_s)
    }

    fn trigger(&mut self, at: At, agent: Option<&AgentId>, trust: Trust, cause: TriggerCause) {
        // It changes `alerted` or `breached` with it, so the line is written.
        self.change(at, Usd::ZERO, |_| {});
        let line = self.line(at);
        let trigger = NewTrigger {
            line: line.key.clone(),
            revision: line.revision,
            at: self.now,
            cause,
            limit: line.limit(),
            posted: line.posted,
            held: line.held,
            unresolved: line.unresolved,
            agent: agent.cloned(),
            trust,
        };
        self.delta.triggers.push(trigger);
    }
}

/// Whether the settled amount is at least `percent` hundredths of the limit, without rounding.
fn reaches(line: &Line, percent: u16) -> bool {
    let wide = |usd: Usd| i128::from(usd.nanos());
    wide(line.settled()) * 100 >= wide(line.limit()) * i128::from(percent)
}
