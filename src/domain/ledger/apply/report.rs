//! Usage reports and bills: what was spent already is posted, past the limit if it must be.

use serde_json::json;

use super::book::{Amounts, At, Book, Decided, check_amount};
use super::judge::Origin;
use crate::domain::id::PostingId;
use crate::domain::ledger::batch::{LedgerRejection, Outcome, Report, ReportKey, ReportSeen};
use crate::domain::ledger::posting::{Entry, Posting, PostingKind, Trust, taking_back};
use crate::domain::money::Usd;

impl Book<'_> {
    pub(super) fn report(&mut self, report: &Report) -> Decided<Outcome> {
        let agent = &report.attribution.agent;
        let known = self.metered(report).or_else(|| self.proven(report));
        let key = ReportKey::of(report);
        if let Some(&(digest, posting)) = self.snapshot.reports.get(&key) {
            return if digest == report.digest {
                Ok(Outcome::Unchanged {
                    posting: posting.or(known),
                })
            } else {
                Err(LedgerRejection::ReportConflict(report.report.clone()))
            };
        }
        check_amount(report.amount)?;
        if known.is_some() {
            self.see(report, None);
            return Ok(Outcome::Unchanged { posting: known });
        }
        let mut places = self.targets(&report.lines, report.trust);
        places.retain(|&at| self.bucket_for(at, report.occurred_at).is_some());
        if !self.takes(&places, report.amount) {
            return Err(LedgerRejection::Absurd);
        }
        let detail = self.told(report);
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
            detail: detail.or_else(|| report.detail.clone()),
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

    /// The evidence that was posted under the id of this claim.
    fn proven(&self, report: &Report) -> Option<PostingId> {
        if report.trust > Trust::Agent {
            return None;
        }
        let posting = self.other_side(report)?;
        posting.trust.counts_on_fleet().then_some(posting.id)
    }

    /// What a person finds with the posting: evidence names the claim that it stands in for, which is taken
    /// back here, or beside which it counts.
    fn told(&mut self, report: &Report) -> Option<String> {
        if report.trust <= Trust::Agent {
            return None;
        }
        let (_, claimed) = *self.snapshot.reports.get(&ReportKey::of(report).other_side())?;
        // A claim that was never posted, since the call was metered, stands nowhere.
        let claimed = claimed?;
        let replaced = report.trust.counts_on_fleet() && self.take_back(report);
        let mut told = if replaced {
            json!({ "replaces_claim": claimed })
        } else {
            json!({ "also_claimed_by_agent": claimed })
        };
        if let (Some(told), Some(detail)) = (told.as_object_mut(), &report.detail) {
            told.insert("detail".to_owned(), detail.as_str().into());
        }
        Some(told.to_string())
    }

    /// Takes the agent's claim of the same expense back, on the lines on which it stands. `false`: nobody
    /// can tell where that is.
    fn take_back(&mut self, report: &Report) -> bool {
        let Some(claim) = self.other_side(report).cloned() else {
            return false;
        };
        let by_itself = claim.kind == PostingKind::Report && claim.trust == Trust::Agent;
        if !by_itself || self.snapshot.corrected.contains_key(&claim.id) {
            return false;
        }
        let entries = self.entries_of(claim.id);
        let find = |entry: &Entry| self.find(&entry.line);
        let Some(places) = entries.iter().map(find).collect::<Option<Vec<At>>>() else {
            return false;
        };
        let id = taking_back(claim.id);
        let amount = Usd::ZERO.saturating_sub(claim.amount);
        for (&at, entry) in places.iter().zip(&entries) {
            // A bucket that has left its window took its part with it.
            let live = |start| self.line(at).buckets.binary_search_by_key(&start, |b| b.start).is_ok();
            if entry.bucket.is_some_and(|start| !live(start)) {
                continue;
            }
            let amounts = Amounts {
                posting: id,
                amount,
                unresolved: Usd::ZERO,
                bucket: entry.bucket,
            };
            self.change(at, Usd::ZERO, |line| amounts.add_to(line));
            self.enter(at, amounts);
        }
        self.snapshot.corrected.insert(claim.id, id);
        self.keep(Posting {
            id,
            kind: PostingKind::Correction,
            amount,
            basis: report.basis,
            trust: report.trust,
            recorded_at: self.now,
            report: None,
            corrects: Some(claim.id),
            upstream_request: None,
            epoch: self.epoch,
            detail: Some(json!({ "replaced_by": report.posting }).to_string()),
            ..claim
        });
        true
    }

    /// The posting of the other side's word about the same expense, unless it was rolled up.
    fn other_side(&self, report: &Report) -> Option<&Posting> {
        let (_, posting) = self.snapshot.reports.get(&ReportKey::of(report).other_side())?;
        let id = (*posting)?;
        let before = || self.snapshot.postings.get(&id);
        // Both in one batch is rare, so what a batch posts is not kept for it.
        before().or_else(|| self.delta.postings.iter().find(|posting| posting.id == id))
    }

    fn entries_of(&self, posting: PostingId) -> Vec<Entry> {
        let before = self.snapshot.entries.get(&posting).into_iter().flatten();
        let now = self.delta.entries.iter().filter(|entry| entry.posting == posting);
        // One of them is empty; an unresolved posting alone is in both, and it is no claim.
        before.chain(now).cloned().collect()
    }
}
