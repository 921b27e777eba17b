//! Corrections: evidence replaces exactly one unresolved posting, exactly once (L1, L3).

use super::book::{Amounts, Book, Decided, check_amount};
use super::judge::Origin;
use super::settle::{basis, ended};
use crate::domain::id::PostingId;
use crate::domain::ledger::batch::{Capture, LedgerRejection, Outcome, Resolve, ResolveTarget};
use crate::domain::ledger::hold::HoldState;
use crate::domain::ledger::posting::{Basis, Posting, PostingKind, Trust};
use crate::domain::money::Usd;

/// Whose evidence, and what it says.
struct Evidence<'a> {
    posting: PostingId,
    cost: Usd,
    trust: Trust,
    basis: Basis,
    upstream_request: Option<&'a String>,
    detail: Option<&'a String>,
}

impl Book<'_> {
    /// The answer to a call whose hold had expired.
    pub(super) fn capture_late(&mut self, capture: &Capture) -> Decided<Outcome> {
        let (target, _) = self.ending_of(capture.hold).ok_or(LedgerRejection::UnknownPosting)?;
        let evidence = Evidence {
            posting: capture.posting,
            cost: capture.cost,
            trust: capture.trust,
            basis: basis(capture.trust),
            upstream_request: capture.upstream_request.as_ref(),
            detail: capture.detail.as_ref(),
        };
        self.correct(target, &evidence)
    }

    pub(super) fn resolve(&mut self, resolve: &Resolve) -> Decided<Outcome> {
        let target = match resolve.target {
            ResolveTarget::Posting(posting) => posting,
            ResolveTarget::Hold(hold) => {
                let hold = self.hold(hold).ok_or(LedgerRejection::UnknownHold)?;
                match hold.state {
                    HoldState::Unresolved => self.ending_of(hold.id).ok_or(LedgerRejection::UnknownPosting)?.0,
                    HoldState::Open => return Err(LedgerRejection::NotUnresolved),
                    state => return Err(ended(state)),
                }
            }
        };
        let evidence = Evidence {
            posting: resolve.posting,
            cost: resolve.cost,
            trust: resolve.trust,
            basis: Basis::Reported,
            upstream_request: None,
            detail: resolve.detail.as_ref(),
        };
        self.correct(target, &evidence)
    }

    fn correct(&mut self, target: PostingId, evidence: &Evidence<'_>) -> Decided<Outcome> {
        let wrong = self.snapshot.postings.get(&target);
        let wrong = wrong.ok_or(LedgerRejection::UnknownPosting)?.clone();
        if wrong.kind != PostingKind::Unresolved {
            return Err(LedgerRejection::NotUnresolved);
        }
        if !evidence.trust.counts_on_fleet() && wrong.trust.counts_on_fleet() {
            return Err(LedgerRejection::ForeignHold);
        }
        if let Some(&correction) = self.snapshot.corrected.get(&target) {
            return if correction == evidence.posting {
                Ok(Outcome::Unchanged {
                    posting: Some(correction),
                })
            } else {
                Err(LedgerRejection::NotUnresolved)
            };
        }
        check_amount(evidence.cost)?;
        let difference = evidence.cost.saturating_sub(wrong.amount);
        let past_bound = difference.max(Usd::ZERO);
        let entries = self.snapshot.entries.get(&target).cloned().unwrap_or_default();
        let find = |key| self.find(key).ok_or(LedgerRejection::UnknownLine);
        let places: Vec<_> = entries.iter().map(|entry| find(&entry.line)).collect::<Decided<_>>()?;
        if !self.takes(&places, past_bound) {
            return Err(LedgerRejection::Absurd);
        }
        let agent = wrong.attribution.agent.clone();
        for (&at, entry) in places.iter().zip(&entries) {
            // A bucket that has left its window took the unresolved amount with it.
            let live = |start| self.line(at).buckets.binary_search_by_key(&start, |b| b.start).is_ok();
            if entry.bucket.is_some_and(|start| !live(start)) {
                continue;
            }
            let amounts = Amounts {
                posting: evidence.posting,
                amount: difference,
                unresolved: Usd::ZERO.saturating_sub(entry.unresolved),
                bucket: entry.bucket,
            };
            self.change(at, past_bound, |line| amounts.add_to(line));
            self.enter(at, amounts);
            self.judge(at, Some(&agent), evidence.trust, Origin::Correction);
        }
        self.snapshot.corrected.insert(target, evidence.posting);
        self.keep(Posting {
            id: evidence.posting,
            kind: PostingKind::Correction,
            amount: difference,
            basis: evidence.basis,
            trust: evidence.trust,
            recorded_at: self.now,
            corrects: Some(target),
            upstream_request: evidence.upstream_request.cloned(),
            epoch: self.epoch,
            detail: evidence.detail.cloned(),
            ..wrong
        });
        Ok(Outcome::Ended {
            posting: Some(evidence.posting),
            overage: past_bound,
        })
    }
}
