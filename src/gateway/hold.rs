//! A call's hold in our hands: it ends exactly once, whatever becomes of the call (**L3**).

use crate::domain::id::HoldId;
use crate::domain::ledger::posting::Trust;
use crate::domain::money::Usd;
use crate::ledger::{AdmittedHold, CaptureRequest, Ledger};

/// An admitted hold. Dropped without a word, by a panic or a future that nobody polls any more, it is
/// unresolved at its bound if a byte may have gone upstream, and voided only if none did.
pub(super) struct OpenHold {
    ledger: Ledger,
    id: HoldId,
    bound: Usd,
    sent: bool,
    ended: bool,
}

impl OpenHold {
    pub(super) fn new(ledger: &Ledger, hold: &AdmittedHold) -> Self {
        Self {
            ledger: ledger.clone(),
            id: hold.id,
            bound: hold.bound,
            sent: false,
            ended: false,
        }
    }

    pub(super) fn bound(&self) -> Usd {
        self.bound
    }

    /// From here on the request may be on its way.
    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    /// It cost this much. Does not wait for the commit: the ledger keeps what it was handed.
    pub(super) fn capture(mut self, cost: Usd, upstream_request: Option<String>, detail: Option<String>) {
        let captured = self.ledger.capture_later(CaptureRequest {
            hold: self.id,
            by: None,
            cost,
            trust: Trust::Gateway,
            occurred_at: None,
            upstream_request,
            detail,
        });
        match captured {
            Ok(()) => self.ended = true,
            // It is no amount that can be posted, or the ledger has stopped; the bound stands for it.
            Err(error) => tracing::error!(hold = %self.id, %cost, %error, "a call's cost could not be captured"),
        }
    }

    /// It provably cost nothing.
    pub(super) fn void(mut self) {
        self.sent = false;
    }

    /// Nobody knows what it cost: it stays at its bound until somebody does.
    pub(super) fn unresolved(mut self, reason: &str) {
        self.give_up(reason);
    }

    fn give_up(&mut self, reason: &str) {
        self.ended = true;
        if let Err(error) = self.ledger.unresolve_later(self.id, reason) {
            tracing::debug!(hold = %self.id, %error, "the next start makes this hold unresolved");
        }
    }
}

impl Drop for OpenHold {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.sent {
            self.give_up("the call was given up before its cost was known");
        } else if let Err(error) = self.ledger.void_later(self.id) {
            tracing::debug!(hold = %self.id, %error, "the next start makes this hold unresolved");
        }
    }
}
