//! What one group commit does: operations and rows in, outcomes and new rows out.
//!
//! The operations are decided in order, and each sees what those before it did. A store calls [`apply`]
//! inside its write transaction with the rows that the batch names and writes the [`Delta`]; nothing
//! else changes a line, a hold or a posting.
//!
//! # Room (L2)
//! A hold is admitted where posted + held + bound <= limit on every one of its lines, or on none. Where
//! posted + bound > limit no release can make room, and the hold is *refused for good*; where only
//! what is held is in the way, it *waits*. Unresolved spend is posted, so it refuses.
//!
//! A bound that follows what is left is reckoned here, from the lines as this commit finds them: the
//! least of limit - posted over its lines, where a lifted one sets no limit. Whether it is refused for
//! good, and whether that is a breach, is judged on the least it could be; and where that fits, a
//! sixteenth of what is left does too, so a hold that waits waits for held money alone.
//!
//! # Overage (L2)
//! `overage` is what stands past the limit now, max(0, posted + held - limit), plus what captures and
//! corrections posted past their bounds while the limit still had room for it. Every dollar counts once:
//! one that goes past both stands in the first part. It moves only with what may go past a limit (reports,
//! settlements, corrections, changed rules, overrides, holds on a lifted line); an ordinary admission
//! never touches it, so one admission too many leaves posted + held above limit + overage, and the
//! auditor sees it. The first part shrinks when its cause does: a hold ends below its bound, a
//! correction lowers what is posted, a bucket leaves a rolling window, the limit is raised. Kept, it
//! would excuse the next fault on the same line. What was is not hidden by that: postings, triggers and
//! the audit log keep it.
//!
//! # Triggers
//! Alerts and breaches are judged on posted - unresolved. Every alert percentage fires once per line, a
//! breach once per revision of its limit; both only while the limit is not lifted. A line with a limit
//! of zero breaches with the first nano-dollar that is settled on it, or the first call that it refuses.
//! On a line whose window is closed, what comes within `late_grace` is judged like any other; later, and
//! for corrections, what would have been a breach is [`TriggerCause::Late`], which only alerts.
//!
//! # One expense, told twice
//! The agent claims it, and evidence (an operator's import, later a provider's bill) tells of it under the
//! same id. The evidence counts. A claim that was there before is taken back, on every line on which it
//! stands, by a correction that names it, and the evidence is posted whole on its own lines: those of its
//! own attribution, time and trust class, a fleet line among them on which no claim ever counts. A claim
//! that comes after the evidence is known and not posted. Only where the claim was rolled up meanwhile, so
//! that nobody can tell any more where it stands, do both count, and the evidence says so.
//!
//! # Repetition
//! Every operation is idempotent by its ids, so a batch may be sent again after an unknown commit. (Of
//! [`Op::Rearm`], which has none, a repetition can trigger again what is still breached; of
//! [`Op::Foresee`], what was not to be foreseen the first time.)
//!
//! # What it must never do
//! Post, hold or refund on a guess: an amount that is negative, above a billion dollars or too large for
//! the sums of a line is rejected with nothing changed. Lose a dollar: a hold leaves `Open` once (L3).
//!
//! [`TriggerCause::Late`]: super::batch::TriggerCause::Late

mod admit;
mod book;
mod correct;
mod foresee;
mod judge;
mod report;
mod report_all;
mod rules;
mod settle;

#[cfg(test)]
mod tests;

use super::batch::{Batch, Delta, LedgerRules, Op, Outcome, Snapshot};
use book::Book;

/// Decides a batch. The outcomes are in the order of the operations.
///
/// The snapshot is used up: operations of one batch see each other through it, its lines move into
/// the delta if they changed, and what is left of it means nothing.
pub fn apply(snapshot: &mut Snapshot, batch: &Batch, rules: &LedgerRules) -> (Vec<Outcome>, Delta) {
    let mut book = Book::open(snapshot, batch, rules);
    let outcomes = batch.ops.iter().map(|op| book.decide(op)).collect();
    (outcomes, book.close())
}

impl Book<'_> {
    fn decide(&mut self, op: &Op) -> Outcome {
        let decided = match op {
            Op::Admit(admit) => self.admit(admit),
            Op::Capture(capture) => self.capture(capture),
            Op::Void { hold } => self.void(*hold),
            Op::Expire { hold, posting, detail } => self.expire(*hold, *posting, detail.as_ref()),
            Op::Report(report) => self.report(report),
            Op::ReportAll { reports, check_only } => Ok(self.report_all(reports, *check_only)),
            Op::Resolve(resolve) => self.resolve(resolve),
            Op::SetRule { budget, rule, after } => self.set_rule(budget, rule, after.as_ref()),
            Op::Override {
                line,
                raise,
                lifted_until,
            } => self.override_line(line, *raise, *lifted_until),
            Op::Rearm { line } => self.rearm(line),
            Op::Foresee(foresee) => self.foresee(foresee),
        };
        decided.unwrap_or_else(Outcome::Rejected)
    }
}
