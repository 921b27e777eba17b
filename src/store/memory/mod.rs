//! The memory store: the whole `Store` port over maps, with the faults of a disk and of processes.
//!
//! It is the simulated side of the port, for the simulation, the demo's rehearsal and the conformance
//! suite. A [`MemoryStore`] is one process's handle: a clone is another process on the same data, and
//! when a handle is dropped or [killed](MemoryStore::kill) the locks of its epochs are free and the
//! epochs are dead. [`crash`](MemoryStore::crash) is the whole machine: every process dies, and what was
//! not synced is gone.
//!
//! A write is all or nothing. It is decided and applied under one lock, which is the write lock that
//! makes two processes on one ledger take turns. What can happen to a write is in [`faults`]: nothing of
//! it, all of it with the answer lost, or all of it in the page cache until the next sync or a crash.

mod control;
mod disk;
mod drills;
pub mod faults;
mod fleet;
mod images;
mod ledger;
mod load;
mod query;
mod rollup;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::agent::AgentState;
use crate::domain::audit::{AuditEntry, NewAudit};
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::memory::Note;
use crate::domain::containment::state::{Containment, Step};
use crate::domain::drill::{Drill, DrillHead};
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::price::ListedRate;
use crate::domain::id::{AgentId, ContainmentId, DrillId, EpochId, HoldId, KeyId, ReviewId};
use crate::domain::ledger::batch::{Batch, LedgerRules, MAX_BATCH, Outcome};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::Posting;
use crate::domain::money::Usd;
use crate::domain::review::Review;
use crate::ports::{
    AgentKey, AuditView, DeadEpochs, FleetBook, Judgement, Lease, LineQuery, PostingQuery, SpendQuery, SpendRow, Store,
    StoreError, StoreStats, Trigger,
};
use disk::Disk;
use faults::{Fault, Faults, Injector, Kind};

/// A process that uses the store.
type Process = u64;

/// What all processes share.
#[derive(Default)]
struct Machine {
    /// What every process sees.
    disk: Disk,
    /// What a crash leaves, while something was written and not synced.
    synced: Option<Box<Disk>>,
    injector: Injector,
    alive: BTreeSet<Process>,
    last_process: Process,
    /// The epochs' locks, which are not on the disk.
    locks: BTreeMap<EpochId, Process>,
}

impl Machine {
    fn start(&mut self) -> Process {
        self.last_process += 1;
        self.alive.insert(self.last_process);
        self.last_process
    }

    fn end(&mut self, process: Process) {
        self.alive.remove(&process);
        self.locks.retain(|_, owner| *owner != process);
    }

    fn sync(&mut self) {
        self.synced = None;
    }
}

/// One process's handle on a store in memory.
pub struct MemoryStore {
    machine: Arc<Mutex<Machine>>,
    process: Process,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Another process on the same data.
impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        let process = self.machine().start();
        Self {
            machine: Arc::clone(&self.machine),
            process,
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.kill();
    }
}

impl MemoryStore {
    pub fn new() -> Self {
        let mut machine = Machine::default();
        let process = machine.start();
        Self {
            machine: Arc::new(Mutex::new(machine)),
            process,
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.machine().injector.set(faults);
    }

    /// Makes the next write that the fault concerns fail so; several are taken in their order.
    pub fn inject(&self, fault: Fault) {
        self.machine().injector.push(fault);
    }

    /// Ends this process as `kill -9` would: its epochs are dead, its calls fail, and what it wrote
    /// without a sync is still in the page cache.
    pub fn kill(&self) {
        let process = self.process;
        self.machine().end(process);
    }

    /// Ends every process and loses what was not synced. The handle is that of a new process.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut machine = self.machine();
        machine.alive.clear();
        machine.locks.clear();
        if let Some(synced) = machine.synced.take() {
            machine.disk = *synced;
        }
        let process = machine.start();
        drop(machine);
        Self {
            machine: Arc::clone(&self.machine),
            process,
        }
    }

    /// Whether something would be lost in a crash now.
    pub fn has_unsynced(&self) -> bool {
        self.machine().synced.is_some()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // A write is applied only once it is decided, so a panic in between leaves nothing half done.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_alive(&self, machine: &Machine) -> Result<(), StoreError> {
        if machine.alive.contains(&self.process) {
            return Ok(());
        }
        Err(StoreError::Other {
            context: "this process was killed",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)),
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Disk) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut machine = self.machine();
        self.check_alive(&machine)?;
        match machine.injector.roll(Kind::Read) {
            Some(_) => Err(StoreError::Busy { context: "reading" }),
            None => read(&machine.disk),
        }
    }

    /// Runs a write, which must change nothing when it fails, and does to it what the faults say.
    fn write<T>(
        &self,
        kind: Kind,
        context: &'static str,
        write: impl FnOnce(&mut Disk) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut machine = self.machine();
        self.write_on(&mut machine, kind, context, write)
    }

    fn write_on<T>(
        &self,
        machine: &mut Machine,
        kind: Kind,
        context: &'static str,
        write: impl FnOnce(&mut Disk) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_alive(machine)?;
        let unknown = || StoreError::UnknownCommit { context, source: None };
        match machine.injector.roll(kind) {
            None => {
                let written = write(&mut machine.disk)?;
                machine.sync();
                Ok(written)
            }
            Some(Fault::Busy) => Err(StoreError::Busy { context }),
            Some(Fault::Full) => Err(StoreError::Full {
                context: context.to_owned(),
            }),
            Some(Fault::Lost) => Err(unknown()),
            Some(Fault::Unanswered) => {
                write(&mut machine.disk)?;
                machine.sync();
                Err(unknown())
            }
            Some(Fault::Unsynced) => {
                let before = machine.synced.is_none().then(|| Box::new(machine.disk.clone()));
                write(&mut machine.disk)?;
                machine.synced = machine.synced.take().or(before);
                Err(unknown())
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open_epoch(&self, now: Timestamp, host: &str) -> Result<EpochId, StoreError> {
        // One lock over both, so that no other process sees an open epoch whose lock is still free.
        let mut machine = self.machine();
        let context = "opening an epoch";
        let epoch = self.write_on(
            &mut machine,
            Kind::Write,
            context,
            |disk| Ok(disk.open_epoch(now, host)),
        )?;
        machine.locks.insert(epoch, self.process);
        Ok(epoch)
    }

    async fn close_epoch(&self, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
        let closed = self.write(Kind::Write, "closing an epoch", |disk| disk.close_epoch(epoch, now));
        if matches!(closed, Ok(()) | Err(StoreError::EpochClosed(_))) {
            self.machine().locks.remove(&epoch);
        }
        closed
    }

    async fn bury_dead_epochs(&self, now: Timestamp, rules: &LedgerRules) -> Result<DeadEpochs, StoreError> {
        let open = self.read(|disk| Ok(disk.open_epochs()))?;
        let mut buried = DeadEpochs::default();
        for epoch in open {
            // Taking the lock is what proves it dead, and it keeps others from burying it too.
            {
                let mut machine = self.machine();
                if machine.locks.contains_key(&epoch) {
                    continue;
                }
                machine.locks.insert(epoch, self.process);
            }
            let done = self.bury(epoch, now, rules, &mut buried);
            self.machine().locks.remove(&epoch);
            done?;
        }
        Ok(buried)
    }

    async fn commit(&self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError> {
        self.write(Kind::Commit, "a ledger commit", |disk| disk.commit(batch, rules))
    }

    async fn lines(&self, query: &LineQuery) -> Result<Vec<Line>, StoreError> {
        self.read(|disk| Ok(disk.lines(query)))
    }

    async fn hold(&self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        self.read(|disk| Ok(disk.holds.get(&id).cloned()))
    }

    async fn expiring_holds(&self, epoch: EpochId, until: Timestamp, limit: u32) -> Result<Vec<HoldId>, StoreError> {
        self.read(|disk| Ok(disk.open_holds(epoch, until, entries(limit))))
    }

    async fn postings(&self, query: &PostingQuery) -> Result<Vec<Posting>, StoreError> {
        self.read(|disk| disk.page(query))
    }

    async fn spend(&self, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError> {
        self.read(|disk| Ok(disk.spend(query)))
    }

    async fn advance_clock(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.write(Kind::Write, "advancing the clock", |disk| {
            let mark = disk.clock.map_or(now, |clock| clock.max(now));
            disk.clock = Some(mark);
            Ok(mark)
        })
    }

    async fn set_clock(&self, mark: Timestamp) -> Result<(), StoreError> {
        self.write(Kind::Write, "setting the clock", |disk| {
            disk.clock = Some(mark);
            Ok(())
        })
    }

    async fn pending_triggers(&self, limit: u32) -> Result<Vec<Trigger>, StoreError> {
        self.read(|disk| Ok(disk.triggers.values().take(entries(limit)).cloned().collect()))
    }

    async fn judge(&self, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
        self.write(Kind::Write, "a judgement", |disk| disk.judge(None, judgement))
    }

    async fn agent(&self, id: &AgentId) -> Result<AgentState, StoreError> {
        self.read(|disk| Ok(disk.control.agent(id)))
    }

    async fn agents(&self) -> Result<Vec<AgentState>, StoreError> {
        self.read(|disk| Ok(disk.control.agents.values().cloned().collect()))
    }

    async fn reviews(&self, open_only: bool, limit: u32) -> Result<Vec<Review>, StoreError> {
        self.read(|disk| {
            let reviews = disk.control.reviews.iter();
            let reviews = reviews.filter(|review| !open_only || review.decision.is_none());
            Ok(reviews.take(entries(limit)).cloned().collect())
        })
    }

    async fn reviews_of(&self, agent: &AgentId, since: Timestamp, limit: u32) -> Result<Vec<Review>, StoreError> {
        self.read(|disk| {
            let wanted =
                |review: &&Review| review.agent == *agent && (review.decision.is_none() || review.opened_at >= since);
            let reviews = disk.control.reviews.iter().rev().filter(wanted);
            Ok(reviews.take(entries(limit)).cloned().collect())
        })
    }

    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError> {
        self.read(|disk| Ok(disk.control.reviews.iter().find(|review| review.id == id).cloned()))
    }

    async fn spenders(&self, line: &LineKey, limit: u32) -> Result<Vec<(AgentId, Usd)>, StoreError> {
        self.read(|disk| Ok(disk.spenders(line, limit)))
    }

    async fn containment(&self, id: ContainmentId) -> Result<Option<Containment>, StoreError> {
        self.read(|disk| Ok(disk.control.containments.iter().find(|c| c.id == id).cloned()))
    }

    async fn live_containments(&self) -> Result<Vec<Containment>, StoreError> {
        self.read(|disk| Ok(disk.control.live_containments().cloned().collect()))
    }

    async fn containments_of(&self, agent: &AgentId, limit: u32) -> Result<Vec<Containment>, StoreError> {
        self.read(|disk| {
            let newest = disk.control.containments.iter().rev();
            let own = newest.filter(|containment| containment.agent == *agent);
            Ok(own.take(entries(limit)).cloned().collect())
        })
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.write(Kind::Write, "taking a lease", |disk| {
            Ok(disk.take_lease(name, holder, now, ttl))
        })
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.write(Kind::Write, "releasing a lease", |disk| {
            disk.release_lease(lease);
            Ok(())
        })
    }

    async fn record_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, StoreError> {
        self.write(Kind::Write, "recording before-images", |disk| {
            disk.record_images(lease, images)
        })?;
        self.read(|disk| disk.read_back(images))
    }

    async fn supersede_images(
        &self,
        lease: &Lease,
        ended: &[BeforeImage],
        images: &[BeforeImage],
    ) -> Result<Vec<BeforeImage>, StoreError> {
        self.write(Kind::Write, "superseding before-images", |disk| {
            disk.supersede_images(lease, ended, images)
        })?;
        self.read(|disk| disk.read_back(images))
    }

    async fn images(&self, agent: &AgentId) -> Result<Vec<BeforeImage>, StoreError> {
        self.read(|disk| {
            let open = disk.images.iter().filter(|image| image.restored_at.is_none());
            Ok(open.filter(|image| image.agent == *agent).cloned().collect())
        })
    }

    async fn restored_images(&self, agent: &AgentId, since: Timestamp) -> Result<Vec<BeforeImage>, StoreError> {
        self.read(|disk| {
            let settled = |image: &&BeforeImage| image.restored_at.is_some_and(|at| at >= since);
            let own = disk.images.iter().filter(|image| image.agent == *agent);
            Ok(own.filter(settled).cloned().collect())
        })
    }

    async fn update_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
        self.write(Kind::Write, "updating before-images", |disk| {
            disk.update_images(lease, images)
        })
    }

    async fn record_steps(&self, lease: &Lease, steps: &[Step]) -> Result<(), StoreError> {
        self.write(Kind::Write, "recording steps", |disk| disk.record_steps(lease, steps))
    }

    async fn steps(&self, containment: ContainmentId) -> Result<Vec<Step>, StoreError> {
        self.read(|disk| {
            let own = disk.steps.iter().filter(|step| step.containment == containment);
            Ok(own.cloned().collect())
        })
    }

    async fn judge_fenced(&self, lease: &Lease, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
        self.write(Kind::Write, "a judgement", |disk| disk.judge(Some(lease), judgement))
    }

    async fn drills(&self, agent: &AgentId, limit: u32) -> Result<Vec<DrillHead>, StoreError> {
        self.read(|disk| Ok(disk.drills(agent, entries(limit))))
    }

    async fn drill(&self, id: DrillId) -> Result<Option<Drill>, StoreError> {
        self.read(|disk| Ok(disk.drill(id)))
    }

    async fn last_drills(&self) -> Result<Vec<DrillHead>, StoreError> {
        self.read(|disk| Ok(disk.last_drills()))
    }

    async fn remember(&self, notes: &[Note]) -> Result<(), StoreError> {
        self.write(Kind::Write, "remembering the cloud", |disk| {
            disk.remember(notes);
            Ok(())
        })
    }

    async fn remembered(&self) -> Result<Vec<Note>, StoreError> {
        self.read(|disk| Ok(disk.remembered()))
    }

    async fn fleet_book(&self, account: &str) -> Result<Option<FleetBook>, StoreError> {
        self.read(|disk| Ok(disk.fleet_books.get(account).cloned()))
    }

    async fn save_fleet_book(&self, lease: &Lease, account: &str, book: &FleetBook) -> Result<(), StoreError> {
        self.write(Kind::Write, "saving the fleet's book", |disk| {
            disk.save_fleet_book(lease, account, book)
        })
    }

    async fn note_creations(&self, creations: &[Creation], now: Timestamp) -> Result<(), StoreError> {
        self.write(Kind::Write, "noting creations", |disk| {
            disk.note_creations(creations, now);
            Ok(())
        })
    }

    async fn creations(&self, account: &str, since: Timestamp) -> Result<Vec<Creation>, StoreError> {
        self.read(|disk| Ok(disk.creations(account, since)))
    }

    async fn save_fleet_prices(&self, prices: &[ListedRate]) -> Result<(), StoreError> {
        self.write(Kind::Write, "saving list prices", |disk| {
            disk.save_fleet_prices(prices);
            Ok(())
        })
    }

    async fn fleet_prices(&self) -> Result<Vec<ListedRate>, StoreError> {
        self.read(|disk| Ok(disk.fleet_prices()))
    }

    async fn add_key(&self, key: &AgentKey) -> Result<(), StoreError> {
        self.write(Kind::Write, "adding a key", |disk| disk.add_key(key))
    }

    async fn keys(&self) -> Result<Vec<AgentKey>, StoreError> {
        self.read(|disk| Ok(disk.keys.clone()))
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        self.write(Kind::Write, "revoking a key", |disk| disk.revoke_key(id, now))
    }

    async fn append_audit(&self, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError> {
        self.write(Kind::Write, "appending to the audit log", |disk| {
            Ok(disk.append_audit(entries))
        })
    }

    async fn audit(&self, from_seq: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(|disk| {
            let from = disk.audit.iter().filter(|entry| entry.seq >= from_seq);
            Ok(from
                .take(entries(limit))
                .map(|entry| AuditEntry::clone(entry))
                .collect())
        })
    }

    async fn roll_up(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write(Kind::Write, "a roll-up", |disk| {
            Ok(disk.roll_up(before, now, entries(limit)))
        })
    }

    async fn audit_view(&self) -> Result<AuditView, StoreError> {
        self.read(|disk| Ok(disk.audit_view()))
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.read(|disk| Ok(disk.stats()))
    }

    async fn backup(&self, _to: &Path) -> Result<StoreStats, StoreError> {
        Err(StoreError::Other {
            context: "a store in memory has no file to copy",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::Unsupported)),
        })
    }
}

impl MemoryStore {
    /// In steps of bounded size; a fault in between leaves an open epoch with fewer open holds.
    fn bury(
        &self,
        epoch: EpochId,
        now: Timestamp,
        rules: &LedgerRules,
        buried: &mut DeadEpochs,
    ) -> Result<(), StoreError> {
        loop {
            let step = self.write(Kind::Write, "burying an epoch", |disk| {
                disk.bury_some(epoch, now, rules, MAX_BATCH)
            })?;
            match step {
                ledger::Burial::Expired { holds, amount } => {
                    buried.holds += holds;
                    buried.amount = buried.amount.saturating_add(amount);
                }
                ledger::Burial::Closed => {
                    buried.epochs.push(epoch);
                    return Ok(());
                }
                ledger::Burial::ClosedByOthers => return Ok(()),
            }
        }
    }
}

/// A limit of rows.
fn entries(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
