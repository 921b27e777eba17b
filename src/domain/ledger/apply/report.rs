//! Usage reports and bills: what was spent already is posted, past the limit if it must be.

use serde_json::json;

use super::book::{Amounts, Book, Decided, check_amount};
use super::judge::Origin;
use crate::domain::id::PostingId;
use crate::domain::ledger::batch::{LedgerRejection, Outcome, Report, ReportKey, ReportSeen};
use crate::domain::ledger::posting::{Posting, PostingKind};
use crate::domain::money::Usd;

impl Book<'_> {
    pub(super) fn report(&mut self, report: &Report) -> Decided<Outcome> {
        let agent = &report.attribution.agent;
        let metered = self.metered(report);
        let key = ReportKey::of(report);
        if let Some(&(digest, posting)) = self.snapshot.reports.get(&key) {
            return if digest == report.digest {
                Ok(Outcome::Unchanged {
                    posting: posting.or(metered),
                })
            } else {
                Err(LedgerRejection::ReportConflict(report.report.clone()))
            };
        }
        check_amount(report.amount)?;
        if metered.is_some() {
            self.see(report, None);
            return Ok(Outcome::Unchanged { posting: metered });
        }
        let mut places = self.targets(&report.lines, report.trust);
        places.retain(|&at| self.bucket_for(at, report.occurred_at).is_some());
        if !self.takes(&places, report.amount) {
            return Err(LedgerRejection::Absurd);
        }
        for &at in &places {
            let amounts = Amounts {
                posting: report.posting,
                amount: report.amount,
                unresolved: Usd::ZERO,
                bucket: self.bucket_for(at, report.occurred_at).flatten(),
            };
            self.change(at, Usd::ZERO, |line| amounts.add_to(line));
            self.enter(at, amounts);
            self.judge(at, Some(agent), report.trust, Origin::Spend);
        }
        self.see(report, Some(report.posting));
        self.keep(Posting {
            id: report.posting,
            kind: PostingKind::Report,
            attribution: report.attribution.clone(),
            amount: report.amount,
            basis: report.basis,
            trust: report.trust,
            occurred_at: report.occurred_at,
            recorded_at: self.now,
            report: Some(report.report.clone()),
            hold: None,
            corrects: None,
            upstream_request: report.upstream_request.clone(),
            epoch: self.epoch,
            detail: self.told(report).or_else(|| report.detail.clone()),
        });
        Ok(Outcome::Posted {
            posting: report.posting,
        })
    }

    /// The posting by which the reported request was metered (L6).
    fn metered(&self, report: &Report) -> Option<PostingId> {
        let request = report.upstream_request.clone()?;
        let key = (report.attribution.agent.clone(), request);
        self.snapshot.metered.get(&key).copied()
    }

    /// Remembers the report's id for good.
    fn see(&mut self, report: &Report, posting: Option<PostingId>) {
        let key = ReportKey::of(report);
        self.snapshot.reports.insert(key.clone(), (report.digest, posting));
        self.delta.reports.push(ReportSeen {
            key,
            digest: report.digest,
            posting,
        });
    }

    /// What a person finds with the posting. Evidence of what the agent has claimed under the same id
    /// counts beside that claim, so it names it.
    fn told(&self, report: &Report) -> Option<String> {
        let claim = ReportKey::of(report).own_claim()?;
        let (_, claimed) = self.snapshot.reports.get(&claim)?;
        let mut told = json!({ "also_claimed_by_agent": claimed });
        if let (Some(told), Some(detail)) = (told.as_object_mut(), &report.detail) {
            told.insert("detail".to_owned(), detail.as_str().into());
        }
        Some(told.to_string())
    }
}
