//! Changes of the rules themselves: the config, an operator's override, a breach armed again.

use jiff::Timestamp;

use super::book::{At, Book, Decided, bucket_of};
use super::judge::Origin;
use crate::domain::id::BudgetId;
use crate::domain::ledger::batch::{LedgerRejection, Outcome, RULE_PAGE};
use crate::domain::ledger::line::{Line, LineKey, LineRule};
use crate::domain::ledger::posting::Trust;
use crate::domain::money::Usd;
use crate::domain::window::Buckets;

impl Book<'_> {
    /// A budget as configured now, on every line of it whose window is not over: yesterday is not judged
    /// by today's limit. Lines of another scope are what is left of an earlier shape of the budget; no
    /// call names them any more, and they stay as they were.
    ///
    /// The book has the page that was asked for and the line behind it, and whatever else of the budget the
    /// batch named. What of that lies within the page was loaded with it, so the first of them all are the
    /// page, in whatever company.
    pub(super) fn set_rule(&mut self, budget: &BudgetId, rule: &LineRule, after: Option<&LineKey>) -> Decided<Outcome> {
        if rule.limit.is_negative() {
            return Err(LedgerRejection::Negative);
        }
        let mut page = self.live_lines(budget, after);
        let is_last = page.len() <= RULE_PAGE;
        page.truncate(RULE_PAGE);
        let last = page.last().map(|&at| self.line(at).key.clone());
        let mut lines = 0;
        for at in page {
            let line = self.line(at);
            let concerns = line.rule.scope == rule.scope && line.rule.rolling.is_some() == rule.rolling.is_some();
            if concerns && line.rule != *rule {
                let another_length = line.rule.rolling != rule.rolling;
                let now = self.now;
                self.revise(at, another_length, |line| {
                    line.rule = rule.clone();
                    if let Some(rolling) = rule.rolling.filter(|_| another_length) {
                        // What was dropped up to now lies before this bucket, and stays dropped.
                        bucket_of(line, Buckets::new(rolling).start_of(now));
                    }
                });
                lines += 1;
            }
        }
        Ok(Outcome::Applied {
            lines,
            more_after: last.filter(|_| !is_last),
        })
    }

    /// Sets (not adds) an operator's raise and the end of a lift, so that a repetition changes nothing.
    /// A lift arms the line's breach: nothing triggers while it lasts, and what it left is judged when
    /// it is over, with the line's next operation or [`Op::Rearm`](crate::domain::ledger::batch::Op::Rearm).
    pub(super) fn override_line(
        &mut self,
        key: &LineKey,
        raise: Usd,
        lifted_until: Option<Timestamp>,
    ) -> Decided<Outcome> {
        let at = self.find(key).ok_or(LedgerRejection::UnknownLine)?;
        if raise.is_negative() {
            return Err(LedgerRejection::Negative);
        }
        let line = self.line(at);
        if line.raise == raise && line.lifted_until == lifted_until {
            return Ok(applied(0));
        }
        let now = self.now;
        self.revise(at, false, |line| {
            line.raise = raise;
            line.lifted_until = lifted_until;
            if line.is_lifted(now) {
                line.breached = None;
            }
        });
        Ok(applied(1))
    }

    pub(super) fn rearm(&mut self, key: &LineKey) -> Decided<Outcome> {
        let at = self.find(key).ok_or(LedgerRejection::UnknownLine)?;
        self.change(at, Usd::ZERO, |line| line.breached = None);
        self.judge_rule(at);
        Ok(applied(1))
    }

    /// Changes a line's rule. Another limit is another revision, which can breach once more; what stands
    /// past a lowered one is an overage at once (L2).
    fn revise(&mut self, at: At, another_limit: bool, change: impl FnOnce(&mut Line)) {
        let before = self.line(at).limit();
        self.change(at, Usd::ZERO, |line| {
            change(line);
            if another_limit || line.limit() != before {
                line.revision += 1;
            }
        });
        self.drop_buckets(at);
        self.judge_rule(at);
    }

    /// A rule is an operator's word, and its agent is the line's own; on a fleet line it is nobody's.
    fn judge_rule(&mut self, at: At) {
        let agent = self.line(at).key.agent.clone();
        self.judge(at, agent.as_ref(), Trust::Operator, Origin::Rule);
    }
}

fn applied(lines: u64) -> Outcome {
    Outcome::Applied {
        lines,
        more_after: None,
    }
}
