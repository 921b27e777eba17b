//! Reports that stand or fall together.
//!
//! Nothing is tried and taken back: all of them are looked at before the first is posted, and what is
//! looked at is all that can be wrong with one. The sums of the lines are judged with every amount of the
//! group on top, which is more than can come, so that a group whose every row was found good is posted
//! whole.

use std::collections::HashMap;

use super::book::{At, Book, Decided, check_amount};
use crate::domain::ledger::batch::{LedgerRejection, Outcome, Report, ReportKey};
use crate::domain::money::Usd;

impl Book<'_> {
    pub(super) fn report_all(&mut self, reports: &[Report], check_only: bool) -> Outcome {
        let mut group = Group::default();
        let looked = reports.iter().map(|report| self.look_at(report, &mut group));
        let looked: Vec<Decided<()>> = looked.collect();
        let wrong = |(row, looked): (usize, Decided<()>)| looked.err().map(|why| (row, why));
        let rejected: Vec<_> = looked.into_iter().enumerate().filter_map(wrong).collect();
        if check_only || !rejected.is_empty() {
            return Outcome::Checked { rejected };
        }
        let post = |report| self.report(report).unwrap_or_else(Outcome::Rejected);
        Outcome::Together(reports.iter().map(post).collect())
    }

    /// Whether a report can be posted after those of its group that were looked at before.
    fn look_at(&mut self, report: &Report, group: &mut Group) -> Decided<()> {
        let key = ReportKey::of(report);
        let before = self.snapshot.reports.get(&key).map(|(digest, _)| *digest);
        if let Some(digest) = before.or_else(|| group.ids.get(&key).copied()) {
            return if digest == report.digest {
                Ok(())
            } else {
                Err(LedgerRejection::ReportConflict(report.report.clone()))
            };
        }
        check_amount(report.amount)?;
        let places = self.targets(&report.lines, report.trust);
        let with_it = |at: &At| {
            let before = group.sums.get(at).copied().unwrap_or(Usd::ZERO);
            before.checked_add(report.amount)
        };
        let sums: Option<Vec<Usd>> = places.iter().map(with_it).collect();
        let sums = sums.ok_or(LedgerRejection::Absurd)?;
        for (&at, &sum) in places.iter().zip(&sums) {
            if !self.takes(&[at], sum) {
                return Err(LedgerRejection::Absurd);
            }
        }
        group.sums.extend(places.into_iter().zip(sums));
        group.ids.insert(key, report.digest);
        Ok(())
    }
}

/// What the rows of a group that were looked at come to.
#[derive(Default)]
struct Group {
    ids: HashMap<ReportKey, [u8; 32]>,
    sums: HashMap<At, Usd>,
}
