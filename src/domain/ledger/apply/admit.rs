//! Admission: all lines of a hold, or none.

use super::book::{At, Book, Decided};
use crate::domain::agent::AgentStatus;
use crate::domain::ledger::batch::{Admit, LedgerRejection, Outcome, Refusal, ShortLine};
use crate::domain::ledger::hold::{Hold, HoldState};
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::money::Usd;

impl Book<'_> {
    pub(super) fn admit(&mut self, admit: &Admit) -> Decided<Outcome> {
        if let Some(hold) = self.hold(admit.hold) {
            return self.admit_again(admit, hold);
        }
        admit.bound.check()?;
        // The status is read inside the commit, so a freeze binds the next hold of every process.
        match self.snapshot.agents.get(&admit.attribution.agent) {
            Some(AgentStatus::Contained | AgentStatus::Restoring) => {
                return Ok(Outcome::Refused(Refusal::AgentContained));
            }
            Some(AgentStatus::Paused) => return Ok(Outcome::Refused(Refusal::AgentPaused)),
            Some(AgentStatus::Active) | None => {}
        }
        let places = self.targets(&admit.lines, admit.trust);
        if places.is_empty() {
            return Ok(Outcome::Refused(Refusal::NoBudget));
        }
        if let Some(refusal) = self.refuse(admit, &places) {
            return Ok(Outcome::Refused(refusal));
        }
        let bound = admit.bound.within(self.left(&places));
        let short = self.short(bound, &places);
        if !short.is_empty() {
            return Ok(self.wait(admit, bound, &short));
        }
        if !self.takes(&places, bound) {
            return Err(LedgerRejection::Absurd);
        }
        Ok(self.place(admit, bound, &places))
    }

    /// What the lines have left if everything held comes back: the least over those that set a limit.
    fn left(&self, places: &[At]) -> Option<Usd> {
        let lines = places.iter().map(|&at| self.line(at));
        let limiting = lines.filter(|line| !line.is_lifted(self.now));
        limiting.map(|line| line.limit().saturating_sub(line.posted)).min()
    }

    /// The answer to a hold that is there already: as it was granted, whatever is left now.
    fn admit_again(&self, admit: &Admit, hold: &Hold) -> Decided<Outcome> {
        if hold.attribution.agent != admit.attribution.agent {
            return Err(LedgerRejection::ForeignHold);
        }
        if hold.state != HoldState::Open {
            return Err(LedgerRejection::AlreadyEnded(hold.state.as_str().to_owned()));
        }
        let places = self.lines_of(hold.id)?;
        Ok(Outcome::Admitted {
            bound: hold.bound,
            remaining: self.remaining(&places),
        })
    }

    /// Refuses for good where what is posted leaves too little, whatever is released. Every such line
    /// is judged; the first in the order of their keys is named.
    fn refuse(&mut self, admit: &Admit, places: &[At]) -> Option<Refusal> {
        let mut named: Option<(LineKey, Refusal)> = None;
        for &at in places {
            let line = self.line(at);
            if line.is_lifted(self.now) || fits(line, admit.bound.least(), Usd::ZERO) {
                continue;
            }
            if named.as_ref().is_none_or(|(key, _)| line.key < *key) {
                let refusal = Refusal::Budget {
                    line: line.key.clone(),
                    limit: line.limit(),
                    posted: line.posted,
                    held: line.held,
                };
                named = Some((line.key.clone(), refusal));
            }
            self.judge_refusal(at, admit);
        }
        named.map(|(_, refusal)| refusal)
    }

    /// The lines without room now.
    fn short(&mut self, bound: Usd, places: &[At]) -> Vec<At> {
        let now = self.now;
        let mut short = places.to_vec();
        short.retain(|&at| {
            let slot = self.slot(at);
            let room = slot.line.is_lifted(now) || fits(&slot.line, bound, slot.line.held);
            slot.blocked || !room
        });
        short
    }

    fn wait(&mut self, admit: &Admit, bound: Usd, short: &[At]) -> Outcome {
        if admit.blocks {
            for &at in short {
                self.slot(at).blocked = true;
            }
        }
        let read = |&at: &At| {
            let line = self.line(at);
            ShortLine {
                line: line.key.clone(),
                limit: line.limit(),
                posted: line.posted,
                held: line.held,
            }
        };
        let mut short: Vec<ShortLine> = short.iter().map(read).collect();
        short.sort_unstable_by(|a, b| a.line.cmp(&b.line));
        Outcome::Wait { bound, short }
    }

    fn place(&mut self, admit: &Admit, bound: Usd, places: &[At]) -> Outcome {
        for &at in places {
            if self.line(at).is_lifted(self.now) {
                self.change(at, Usd::ZERO, |line| line.held = line.held.saturating_add(bound));
            } else {
                self.hold_on(at, bound);
            }
        }
        let hold = Hold {
            id: admit.hold,
            epoch: self.epoch,
            attribution: admit.attribution.clone(),
            trust: admit.trust,
            bound,
            lines: places.iter().map(|&at| self.line(at).key.clone()).collect(),
            state: HoldState::Open,
            opened_at: self.now,
            expires_at: admit.expires_at,
            ended_at: None,
        };
        self.delta.holds.insert(hold.id, hold);
        Outcome::Admitted {
            bound,
            remaining: self.remaining(places),
        }
    }

    /// The least room on the lines, never below zero. A lifted line sets no bound, so it counts only if
    /// there is no other.
    fn remaining(&self, places: &[At]) -> Usd {
        let room = |lifted: bool| {
            let lines = places.iter().map(|&at| self.line(at));
            let lines = lines.filter(|line| lifted || !line.is_lifted(self.now));
            lines.map(Line::room).min()
        };
        room(false).or_else(|| room(true)).unwrap_or(Usd::ZERO).max(Usd::ZERO)
    }
}

/// Whether a bound fits beside what is posted and `held`.
fn fits(line: &Line, bound: Usd, held: Usd) -> bool {
    let wide = |usd: Usd| i128::from(usd.nanos());
    wide(line.posted) + wide(held) + wide(bound) <= wide(line.limit())
}
