//! The group commit, and the life of epochs.

use jiff::Timestamp;

use super::disk::{Disk, Epoch};
use super::load::load;
use crate::domain::id::{EpochId, HoldId};
use crate::domain::ledger::apply::apply;
use crate::domain::ledger::batch::{Batch, LedgerRules, Op, Outcome};
use crate::domain::ledger::hold::posting_of_dead;
use crate::domain::money::Usd;
use crate::ports::StoreError;

/// One step of the burial of an epoch.
pub(super) enum Burial {
    Expired { holds: u64, amount: Usd },
    Closed,
    ClosedByOthers,
}

impl Disk {
    pub(super) fn open_epoch(&mut self, _now: Timestamp, _host: &str) -> EpochId {
        let last = self.epochs.keys().next_back().map_or(0, |last| last.0);
        let epoch = EpochId(last + 1);
        let row = Epoch {
            closed: false,
            last_seq: 0,
        };
        self.epochs.insert(epoch, row);
        epoch
    }

    pub(super) fn open_epochs(&self) -> Vec<EpochId> {
        let open = self.epochs.iter().filter(|(_, epoch)| !epoch.closed);
        open.map(|(id, _)| *id).collect()
    }

    pub(super) fn close_epoch(&mut self, id: EpochId, _now: Timestamp) -> Result<(), StoreError> {
        let has_holds = !self.open_holds(id, Timestamp::MAX, 1).is_empty();
        let epoch = self.live_epoch(id)?;
        if has_holds {
            return Err(StoreError::Conflict {
                what: "an epoch with open holds",
            });
        }
        epoch.closed = true;
        Ok(())
    }

    fn live_epoch(&mut self, id: EpochId) -> Result<&mut Epoch, StoreError> {
        let epoch = self.epochs.get_mut(&id);
        let epoch = epoch.ok_or(StoreError::NotFound { what: "the epoch" })?;
        if epoch.closed {
            return Err(StoreError::EpochClosed(id));
        }
        Ok(epoch)
    }

    /// Open holds of an epoch that expire by then, the earliest first.
    pub(super) fn open_holds(&self, epoch: EpochId, until: Timestamp, limit: usize) -> Vec<HoldId> {
        let first = (epoch, Timestamp::MIN, HoldId(uuid::Uuid::nil()));
        let holds = self.open.range(first..);
        let holds = holds.take_while(|(of, expires_at, _)| *of == epoch && *expires_at <= until);
        holds.take(limit).map(|(_, _, hold)| *hold).collect()
    }

    /// A closed epoch's writes are dropped, and so is a batch older than the last one. The last one again
    /// is welcome: its operations are idempotent by their ids.
    pub(super) fn commit(&mut self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError> {
        let last = self.live_epoch(batch.epoch)?.last_seq;
        if batch.seq < last {
            return Err(StoreError::StaleBatch {
                epoch: batch.epoch,
                seq: batch.seq,
                last,
            });
        }
        let outcomes = self.run(batch, rules)?;
        self.live_epoch(batch.epoch)?.last_seq = batch.seq;
        Ok(outcomes)
    }

    fn run(&mut self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError> {
        let (outcomes, delta) = apply(&mut load(self, batch), batch, rules);
        self.write_delta(delta)?;
        Ok(outcomes)
    }

    /// Turns some open holds of a dead epoch into unresolved postings at their bounds, call by call, or
    /// closes it when none is left.
    pub(super) fn bury_some(
        &mut self,
        id: EpochId,
        now: Timestamp,
        rules: &LedgerRules,
        limit: usize,
    ) -> Result<Burial, StoreError> {
        let seq = match self.live_epoch(id) {
            Ok(epoch) => epoch.last_seq,
            Err(_) => return Ok(Burial::ClosedByOthers),
        };
        let holds = self.open_holds(id, Timestamp::MAX, limit);
        if holds.is_empty() {
            self.live_epoch(id)?.closed = true;
            return Ok(Burial::Closed);
        }
        let bounds = holds.iter().filter_map(|hold| self.holds.get(hold));
        let amount = bounds.map(|hold| hold.bound).sum();
        let expire = |&hold| Op::Expire {
            hold,
            posting: posting_of_dead(hold),
            detail: None,
        };
        let batch = Batch {
            epoch: id,
            seq,
            now,
            ops: holds.iter().map(expire).collect(),
        };
        let outcomes = self.run(&batch, rules)?;
        if let Some(outcome) = outcomes
            .iter()
            .find(|outcome| !matches!(outcome, Outcome::Ended { .. }))
        {
            return Err(StoreError::Corrupt {
                context: format!("an open hold of a dead epoch cannot be ended: {outcome:?}"),
                source: None,
            });
        }
        let holds = u64::try_from(holds.len()).unwrap_or(u64::MAX);
        Ok(Burial::Expired { holds, amount })
    }
}
