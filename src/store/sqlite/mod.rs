//! The store in one SQLite file.
//!
//! # What is on the disk before an answer
//! The file is in WAL mode with `synchronous=FULL`: COMMIT returns after the log was synced, and only
//! then does a method here (L5). A commit whose sync failed is an unknown one, never a success.
//!
//! # One writer
//! Everything that writes goes through one thread, one connection and `BEGIN IMMEDIATE` (`writer`, `desk`),
//! reads what it depends on inside that transaction, and lets the pure rules decide: so two processes on
//! one file decide one after the other, on fresh rows, and a mirror in memory is never more than a hint. A
//! transaction is one closure, and one change of threads; a commit in it is a handful of statements, one a
//! table, with a step for each row that changed (`statement`). Reading is the same on connections of its own
//! (`readers`).
//!
//! There is one SQLite in the process, and nothing else opens the file: closing any descriptor of it would
//! drop the locks that another copy of the library has on it.
//!
//! # What must never happen
//! A posting or an audit entry is edited or deleted (the schema's triggers refuse it; a roll-up opens
//! them for itself alone); a row that cannot be read is taken for zero; a future that is dropped leaves
//! a transaction half done; a newer database is touched by an older binary.

mod audit;
mod backup;
mod codec;
mod commit;
mod desk;
mod drills;
mod epoch;
mod error;
mod fleet;
mod images;
mod judge;
mod keys;
mod lease;
mod ledger_rows;
mod load;
mod lock;
mod memory;
mod migrate;
mod open;
mod options;
mod read;
mod readers;
mod rollup;
mod save;
mod share;
mod spend;
mod spend_query;
mod statement;
mod view;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::lock::FileLock;
pub use self::migrate::MigrateError;
pub use self::options::{OpenError, SqliteOptions};
use self::readers::Readers;
use self::statement::Db;
use self::writer::{Limits, Writer};
use crate::domain::agent::AgentState;
use crate::domain::audit::{AuditEntry, NewAudit};
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::memory::Note;
use crate::domain::containment::state::{Containment, Step};
use crate::domain::drill::{Drill, DrillHead};
use crate::domain::fleet::creation::Creation;
use crate::domain::fleet::price::ListedRate;
use crate::domain::id::{AgentId, ContainmentId, DrillId, EpochId, HoldId, KeyId, ReviewId};
use crate::domain::ledger::batch::{Batch, LedgerRules, Outcome};
use crate::domain::ledger::hold::Hold;
use crate::domain::ledger::line::{Line, LineKey};
use crate::domain::ledger::posting::Posting;
use crate::domain::money::Usd;
use crate::domain::review::Review;
use crate::ports::{
    AgentKey, AuditView, DeadEpochs, FleetBook, Judgement, Lease, LineQuery, PostingQuery, SpendQuery, SpendRow, Store,
    StoreError, StoreStats, Trigger,
};

/// The store in one SQLite file.
pub struct SqliteStore {
    options: SqliteOptions,
    writer: Writer,
    readers: Readers,
    /// Locks of the epochs that this process runs; they end with it.
    epoch_locks: Mutex<HashMap<EpochId, FileLock>>,
}

impl SqliteStore {
    /// Opens the database, making it if it is not there, and brings its schema up to date.
    pub async fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let connection = open::open(&options).await?;
        Ok(Self {
            writer: Writer::start(options.clone(), connection, Limits::default())?,
            readers: Readers::new(options.clone()),
            options,
            epoch_locks: Mutex::new(HashMap::new()),
        })
    }

    /// Moves the log into the database and closes every connection. Epochs that were not closed keep
    /// their open holds, and their locks end with this value.
    pub async fn close(self) -> Result<(), StoreError> {
        let unread = self.readers.close().await;
        self.writer.close().await?;
        unread
    }

    pub fn path(&self) -> &Path {
        &self.options.path
    }

    async fn write<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.writer.write(context, work).await
    }

    async fn read<T, F>(&self, context: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Db<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.read(context, work).await
    }

    /// Bytes that are free to us where the database lies.
    fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(self.options.directory()).map_err(|error| StoreError::Other {
            context: "asking for free space",
            source: Box::new(std::io::Error::from(error)),
        })?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// New spend needs room for what will follow it: its capture, its expiry, the audit (D4).
    fn check_reserve(&self) -> Result<(), StoreError> {
        if self.options.reserve_bytes == 0 {
            return Ok(());
        }
        let free = self.free_bytes()?;
        if free < self.options.reserve_bytes {
            return Err(StoreError::Full {
                context: format!(
                    "{free} bytes are free and {} are kept in reserve: no new spend until there is room",
                    self.options.reserve_bytes
                ),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn open_epoch(&self, now: Timestamp, host: &str) -> Result<EpochId, StoreError> {
        epoch::open(self, now, host).await
    }

    async fn close_epoch(&self, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
        epoch::close(self, epoch, now).await
    }

    async fn bury_dead_epochs(&self, now: Timestamp, rules: &LedgerRules) -> Result<DeadEpochs, StoreError> {
        epoch::bury(self, now, rules).await
    }

    async fn commit(&self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError> {
        commit::commit(self, batch, rules).await
    }

    async fn lines(&self, query: &LineQuery) -> Result<Vec<Line>, StoreError> {
        read::lines(self, query).await
    }

    async fn hold(&self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        read::hold(self, id).await
    }

    async fn expiring_holds(&self, epoch: EpochId, until: Timestamp, limit: u32) -> Result<Vec<HoldId>, StoreError> {
        read::expiring_holds(self, epoch, until, limit).await
    }

    async fn postings(&self, query: &PostingQuery) -> Result<Vec<Posting>, StoreError> {
        read::postings(self, query).await
    }

    async fn spend(&self, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError> {
        spend_query::spend(self, query).await
    }

    async fn advance_clock(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        read::advance_clock(self, now).await
    }

    async fn set_clock(&self, mark: Timestamp) -> Result<(), StoreError> {
        read::set_clock(self, mark).await
    }

    async fn pending_triggers(&self, limit: u32) -> Result<Vec<Trigger>, StoreError> {
        judge::pending_triggers(self, limit).await
    }

    async fn judge(&self, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
        judge::judge(self, None, judgement).await
    }

    async fn agent(&self, id: &AgentId) -> Result<AgentState, StoreError> {
        judge::agent(self, id).await
    }

    async fn agents(&self) -> Result<Vec<AgentState>, StoreError> {
        judge::agents(self).await
    }

    async fn reviews(&self, open_only: bool, limit: u32) -> Result<Vec<Review>, StoreError> {
        judge::reviews(self, open_only, limit).await
    }

    async fn reviews_of(&self, agent: &AgentId, since: Timestamp, limit: u32) -> Result<Vec<Review>, StoreError> {
        judge::reviews_of(self, agent, since, limit).await
    }

    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError> {
        judge::review(self, id).await
    }

    async fn spenders(&self, line: &LineKey, limit: u32) -> Result<Vec<(AgentId, Usd)>, StoreError> {
        share::spenders(self, line, limit).await
    }

    async fn containment(&self, id: ContainmentId) -> Result<Option<Containment>, StoreError> {
        judge::containment(self, id).await
    }

    async fn live_containments(&self) -> Result<Vec<Containment>, StoreError> {
        judge::live_containments(self).await
    }

    async fn containments_of(&self, agent: &AgentId, limit: u32) -> Result<Vec<Containment>, StoreError> {
        judge::containments_of(self, agent, limit).await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        lease::take(self, name, holder, now, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        lease::release(self, lease).await
    }

    async fn record_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, StoreError> {
        images::record(self, lease, images).await
    }

    async fn supersede_images(
        &self,
        lease: &Lease,
        ended: &[BeforeImage],
        images: &[BeforeImage],
    ) -> Result<Vec<BeforeImage>, StoreError> {
        images::supersede(self, lease, ended, images).await
    }

    async fn images(&self, agent: &AgentId) -> Result<Vec<BeforeImage>, StoreError> {
        images::of_agent(self, agent).await
    }

    async fn restored_images(&self, agent: &AgentId, since: Timestamp) -> Result<Vec<BeforeImage>, StoreError> {
        images::restored(self, agent, since).await
    }

    async fn update_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
        images::update(self, lease, images).await
    }

    async fn record_steps(&self, lease: &Lease, steps: &[Step]) -> Result<(), StoreError> {
        images::record_steps(self, lease, steps).await
    }

    async fn steps(&self, containment: ContainmentId) -> Result<Vec<Step>, StoreError> {
        images::steps(self, containment).await
    }

    async fn judge_fenced(&self, lease: &Lease, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
        judge::judge(self, Some(lease), judgement).await
    }

    async fn drills(&self, agent: &AgentId, limit: u32) -> Result<Vec<DrillHead>, StoreError> {
        drills::of_agent(self, agent, limit).await
    }

    async fn drill(&self, id: DrillId) -> Result<Option<Drill>, StoreError> {
        drills::one(self, id).await
    }

    async fn last_drills(&self) -> Result<Vec<DrillHead>, StoreError> {
        drills::last(self).await
    }

    async fn remember(&self, notes: &[Note]) -> Result<(), StoreError> {
        memory::remember(self, notes).await
    }

    async fn remembered(&self) -> Result<Vec<Note>, StoreError> {
        memory::all(self).await
    }

    async fn fleet_book(&self, account: &str) -> Result<Option<FleetBook>, StoreError> {
        fleet::book(self, account).await
    }

    async fn save_fleet_book(&self, lease: &Lease, account: &str, book: &FleetBook) -> Result<(), StoreError> {
        fleet::save_book(self, lease, account, book).await
    }

    async fn note_creations(&self, creations: &[Creation], now: Timestamp) -> Result<(), StoreError> {
        fleet::note_creations(self, creations, now).await
    }

    async fn creations(&self, account: &str, since: Timestamp) -> Result<Vec<Creation>, StoreError> {
        fleet::creations(self, account, since).await
    }

    async fn save_fleet_prices(&self, prices: &[ListedRate]) -> Result<(), StoreError> {
        fleet::save_prices(self, prices).await
    }

    async fn fleet_prices(&self) -> Result<Vec<ListedRate>, StoreError> {
        fleet::prices(self).await
    }

    async fn add_key(&self, key: &AgentKey) -> Result<(), StoreError> {
        keys::add(self, key).await
    }

    async fn keys(&self) -> Result<Vec<AgentKey>, StoreError> {
        keys::all(self).await
    }

    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        keys::revoke(self, id, now).await
    }

    async fn append_audit(&self, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError> {
        audit::append(self, entries).await
    }

    async fn audit(&self, from_seq: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(self, from_seq, limit).await
    }

    async fn roll_up(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        rollup::roll_up(self, before, now, limit).await
    }

    async fn audit_view(&self) -> Result<AuditView, StoreError> {
        view::audit_view(self).await
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        backup::stats(self).await
    }

    async fn backup(&self, to: &Path) -> Result<StoreStats, StoreError> {
        backup::backup(self, to).await
    }
}
