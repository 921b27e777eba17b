//! A store under test, and what a test does to it over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use backstop::domain::id::EpochId;
use backstop::domain::ledger::auditor::audit;
use backstop::domain::ledger::batch::{Batch, LedgerRules, Op, Outcome};
use backstop::domain::ledger::line::{Line, LineKey};
use backstop::ports::{AuditView, LineQuery, Store, StoreError};
use backstop::store::memory::MemoryStore;
use backstop::store::sqlite::{SqliteOptions, SqliteStore};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::make::now;

/// How to get another handle on the same data: another process on the same file, as it were.
enum Backing {
    Sqlite { dir: TempDir },
    Memory { store: Arc<MemoryStore> },
}

/// A fresh store with one open epoch.
pub struct Fixture {
    backing: Backing,
    pub store: Arc<dyn Store>,
    pub epoch: EpochId,
    seq: AtomicI64,
}

pub async fn open_sqlite(dir: &TempDir) -> SqliteStore {
    let mut options = SqliteOptions::new(dir.path().join("data/backstop.db"));
    options.reserve_bytes = 0;
    SqliteStore::open(options).await.expect("the store opens")
}

impl Fixture {
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(open_sqlite(&dir).await);
        Self::begin(Backing::Sqlite { dir }, store).await
    }

    pub async fn memory() -> Self {
        let store = Arc::new(MemoryStore::new());
        let backing = Backing::Memory {
            store: Arc::clone(&store),
        };
        Self::begin(backing, store).await
    }

    async fn begin(backing: Backing, store: Arc<dyn Store>) -> Self {
        let epoch = store.open_epoch(now(), "here").await.expect("an epoch");
        Self {
            backing,
            store,
            epoch,
            seq: AtomicI64::new(0),
        }
    }

    /// Another handle on the same data.
    pub async fn another(&self) -> Arc<dyn Store> {
        match &self.backing {
            Backing::Sqlite { dir } => Arc::new(open_sqlite(dir).await),
            Backing::Memory { store } => Arc::new(MemoryStore::clone(store)),
        }
    }

    /// Ends this handle as a crash would: nothing is closed. Another handle is all that is left.
    pub async fn crash(self) -> (Arc<dyn Store>, EpochId, Remains) {
        let Self {
            backing, store, epoch, ..
        } = self;
        drop(store);
        let next: Arc<dyn Store> = match &backing {
            Backing::Sqlite { dir } => Arc::new(open_sqlite(dir).await),
            Backing::Memory { store } => {
                store.kill();
                Arc::new(MemoryStore::clone(store))
            }
        };
        (next, epoch, Remains { _backing: backing })
    }

    pub fn batch(&self, ops: Vec<Op>) -> Batch {
        self.batch_at(now(), ops)
    }

    pub fn batch_at(&self, at: Timestamp, ops: Vec<Op>) -> Batch {
        Batch {
            epoch: self.epoch,
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            now: at,
            ops,
        }
    }

    pub async fn commit(&self, ops: Vec<Op>) -> Vec<Outcome> {
        self.commit_at(now(), ops).await
    }

    pub async fn commit_at(&self, at: Timestamp, ops: Vec<Op>) -> Vec<Outcome> {
        let batch = self.batch_at(at, ops);
        send(&*self.store, &batch).await
    }

    pub async fn line(&self, key: &LineKey) -> Line {
        line(&*self.store, key).await
    }

    /// The auditor finds nothing wrong.
    pub async fn is_sound(&self) -> AuditView {
        is_sound(&*self.store, now()).await
    }
}

/// Keeps what a crashed store left behind until the test is over.
pub struct Remains {
    _backing: Backing,
}

pub async fn send(store: &dyn Store, batch: &Batch) -> Vec<Outcome> {
    store
        .commit(batch, &LedgerRules::default())
        .await
        .expect("the batch commits")
}

pub async fn refused(store: &dyn Store, batch: &Batch) -> StoreError {
    store
        .commit(batch, &LedgerRules::default())
        .await
        .expect_err("the batch is refused")
}

pub async fn line(store: &dyn Store, key: &LineKey) -> Line {
    let lines = store.lines(&LineQuery::default()).await.expect("lines");
    lines
        .into_iter()
        .find(|line| line.key == *key)
        .unwrap_or_else(|| panic!("no line {key:?}"))
}

pub async fn is_sound(store: &dyn Store, at: Timestamp) -> AuditView {
    let view = store.audit_view().await.expect("a view");
    assert_eq!(audit(&view.parts(at)), []);
    view
}
