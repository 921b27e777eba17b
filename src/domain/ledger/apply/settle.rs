//! The ends of a hold: captured, voided, or unresolved at its bound (L3).

use jiff::Timestamp;

use super::book::{Amounts, At, Book, Decided, check_amount};
use super::judge::Origin;
use crate::domain::id::{HoldId, PostingId};
use crate::domain::ledger::batch::{Capture, LedgerRejection, Outcome};
use crate::domain::ledger::hold::{Hold, HoldState};
use crate::domain::ledger::posting::{Basis, Posting, PostingKind, Trust};
use crate::domain::money::Usd;

impl Book<'_> {
    pub(super) fn capture(&mut self, capture: &Capture) -> Decided<Outcome> {
        let hold = self.hold(capture.hold).ok_or(LedgerRejection::UnknownHold)?;
        // An agent's word about its own hold is its claim. About a hold of the gateway it would take
        // spend off the fleet's lines, which an agent's key never may (C7).
        if !capture.trust.counts_on_fleet() && hold.trust.counts_on_fleet() {
            return Err(LedgerRejection::ForeignHold);
        }
        match hold.state {
            HoldState::Open => self.capture_open(capture, hold.clone()),
            HoldState::Captured => self.captured_before(capture),
            HoldState::Voided => Err(ended(HoldState::Voided)),
            HoldState::Unresolved => self.capture_late(capture),
        }
    }

    fn capture_open(&mut self, capture: &Capture, hold: Hold) -> Decided<Outcome> {
        check_amount(capture.cost)?;
        let places = self.lines_of(hold.id)?;
        let past_bound = capture.cost.saturating_sub(hold.bound).max(Usd::ZERO);
        if !self.takes(&places, past_bound) {
            return Err(LedgerRejection::Absurd);
        }
        let posting = Posting {
            id: capture.posting,
            kind: PostingKind::Capture,
            attribution: hold.attribution.clone(),
            amount: capture.cost,
            basis: basis(capture.trust),
            trust: capture.trust,
            // A hold's cost arose while it was open, whatever its agent says of the time.
            occurred_at: capture.occurred_at.max(hold.opened_at).min(self.now),
            recorded_at: self.now,
            report: None,
            hold: Some(hold.id),
            corrects: None,
            upstream_request: capture.upstream_request.clone(),
            epoch: self.epoch,
            detail: capture.detail.clone(),
        };
        let occurred_at = posting.occurred_at;
        self.release(&places, hold.bound, |book, at| Ending {
            amounts: book.settled(at, &posting, Usd::ZERO, occurred_at),
            past_bound,
        });
        let agent = hold.attribution.agent.clone();
        for &at in &places {
            self.judge(at, Some(&agent), capture.trust, Origin::Spend);
        }
        self.end_hold(hold, HoldState::Captured);
        self.keep(posting);
        Ok(Outcome::Ended {
            posting: Some(capture.posting),
            overage: past_bound,
        })
    }

    /// A repeated capture is the same one if it says the same; another cost is no second ending.
    fn captured_before(&self, capture: &Capture) -> Decided<Outcome> {
        match self.ending_of(capture.hold) {
            Some((_, amount)) if amount != capture.cost => Err(ended(HoldState::Captured)),
            known => Ok(Outcome::Unchanged {
                posting: known.map(|(posting, _)| posting),
            }),
        }
    }

    pub(super) fn void(&mut self, hold: HoldId) -> Decided<Outcome> {
        let hold = self.hold(hold).ok_or(LedgerRejection::UnknownHold)?.clone();
        match hold.state {
            HoldState::Open => {
                let places = self.lines_of(hold.id)?;
                self.release(&places, hold.bound, |_, _| Ending::default());
                self.end_hold(hold, HoldState::Voided);
                Ok(Outcome::Ended {
                    posting: None,
                    overage: Usd::ZERO,
                })
            }
            HoldState::Voided => Ok(Outcome::Unchanged { posting: None }),
            state => Err(ended(state)),
        }
    }

    /// Expiry charges, and so does giving up: the bound moves from held to posted, so it makes no room.
    pub(super) fn expire(&mut self, hold: HoldId, id: PostingId, detail: Option<&String>) -> Decided<Outcome> {
        let hold = self.hold(hold).ok_or(LedgerRejection::UnknownHold)?.clone();
        match hold.state {
            HoldState::Open => {}
            HoldState::Unresolved => {
                let posting = self.ending_of(hold.id).map(|(posting, _)| posting);
                return Ok(Outcome::Unchanged { posting });
            }
            state => return Err(ended(state)),
        }
        let places = self.lines_of(hold.id)?;
        let posting = Posting {
            id,
            kind: PostingKind::Unresolved,
            attribution: hold.attribution.clone(),
            amount: hold.bound,
            basis: Basis::Estimated,
            trust: hold.trust,
            // Unknown, so the latest it can have been: it counts longest then.
            occurred_at: hold.expires_at.max(hold.opened_at).min(self.now),
            recorded_at: self.now,
            report: None,
            hold: Some(hold.id),
            corrects: None,
            upstream_request: None,
            epoch: self.epoch,
            detail: detail.cloned(),
        };
        self.release(&places, hold.bound, |book, at| Ending {
            amounts: book.settled(at, &posting, posting.amount, posting.occurred_at),
            past_bound: Usd::ZERO,
        });
        self.end_hold(hold, HoldState::Unresolved);
        self.keep(posting);
        Ok(Outcome::Ended {
            posting: Some(id),
            overage: Usd::ZERO,
        })
    }

    /// What a posting that ends a hold puts on a line, unless it has left a rolling window already.
    fn settled(&self, at: At, posting: &Posting, unresolved: Usd, occurred_at: Timestamp) -> Option<Amounts> {
        let bucket = self.bucket_for(at, occurred_at)?;
        Some(Amounts {
            posting: posting.id,
            amount: posting.amount,
            unresolved,
            bucket,
        })
    }

    /// Takes a bound off what is held on each line and puts what the hold became in its place, as one
    /// change, so that an overage moves by the difference alone.
    fn release(&mut self, places: &[At], bound: Usd, ending: impl Fn(&Self, At) -> Ending) {
        for &at in places {
            let Ending { amounts, past_bound } = ending(self, at);
            let past_bound = if amounts.is_some() { past_bound } else { Usd::ZERO };
            self.change(at, past_bound, |line| {
                line.held = line.held.saturating_sub(bound);
                if let Some(amounts) = amounts {
                    amounts.add_to(line);
                }
            });
            if let Some(amounts) = amounts {
                self.enter(at, amounts);
            }
        }
    }
}

/// What becomes of a hold on one line.
#[derive(Default)]
struct Ending {
    amounts: Option<Amounts>,
    past_bound: Usd,
}

pub(super) fn ended(state: HoldState) -> LedgerRejection {
    LedgerRejection::AlreadyEnded(state.as_str().to_owned())
}

/// Only what our own side or the provider measured hides a later report of the same request (L6): by
/// its own word an agent could else hide from the provider's.
pub(super) fn basis(trust: Trust) -> Basis {
    if trust.counts_on_fleet() {
        Basis::Metered
    } else {
        Basis::Reported
    }
}
