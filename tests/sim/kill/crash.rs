//! A crash at the Nth call that leaves the process: the call happens or does not, and nothing after it.
//!
//! A crashed call never returns. Whoever runs the daemon waits for [`CrashPoint::crashed`] beside it
//! and drops everything when it comes, as the death of a process does.

use std::future::{Future, pending};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backstop::domain::agent::AgentState;
use backstop::domain::audit::{AuditEntry, NewAudit};
use backstop::domain::containment::image::BeforeImage;
use backstop::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState};
use backstop::domain::containment::state::{Containment, Step};
use backstop::domain::containment::target::{Principal, Region};
use backstop::domain::id::{AgentId, ContainmentId, EpochId, HoldId, KeyId, ReviewId};
use backstop::domain::ledger::batch::{Batch, LedgerRules, Outcome};
use backstop::domain::ledger::hold::Hold;
use backstop::domain::ledger::line::{Line, LineKey};
use backstop::domain::ledger::posting::Posting;
use backstop::domain::money::Usd;
use backstop::domain::review::Review;
use backstop::ports::{
    AgentKey, AuditView, Cloud, CloudError, DeadEpochs, InstanceFilter, Judgement, Lease, LineQuery, PostingQuery,
    SpendQuery, SpendRow, Store, StoreError, StoreStats, Trigger,
};
use jiff::Timestamp;
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    BeforeCall,
    AfterCall,
}

/// Where to crash. It counts the calls of the cloud and of the store together.
pub struct CrashPoint {
    at: usize,
    when: When,
    made: AtomicUsize,
    crashed: Notify,
}

impl CrashPoint {
    pub fn at(call: usize, when: When) -> Arc<Self> {
        Arc::new(Self {
            at: call,
            when,
            made: AtomicUsize::new(0),
            crashed: Notify::new(),
        })
    }

    pub fn never() -> Arc<Self> {
        Self::at(usize::MAX, When::BeforeCall)
    }

    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    pub async fn crashed(&self) {
        self.crashed.notified().await;
    }

    async fn pass<T>(&self, call: impl Future<Output = T>) -> T {
        let number = self.made.fetch_add(1, Ordering::SeqCst);
        if number == self.at && self.when == When::BeforeCall {
            self.die().await;
        }
        let answer = call.await;
        if number == self.at && self.when == When::AfterCall {
            self.die().await;
        }
        answer
    }

    async fn die(&self) {
        self.crashed.notify_one();
        pending::<()>().await;
    }
}

pub struct CrashCloud(pub Arc<dyn Cloud>, pub Arc<CrashPoint>);

pub struct CrashStore(pub Arc<dyn Store>, pub Arc<CrashPoint>);

macro_rules! through {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)*) => {
        $(async fn $name(&self, $($arg: $type),*) -> $out {
            self.1.pass(self.0.$name($($arg),*)).await
        })*
    };
}

#[async_trait]
impl Cloud for CrashCloud {
    async fn identity(&self) -> Result<Identity, CloudError> {
        self.1.pass(self.0.identity()).await
    }
    async fn regions(&self) -> Result<Vec<Region>, CloudError> {
        self.1.pass(self.0.regions()).await
    }
    async fn instances(&self, region: &Region, filter: &InstanceFilter) -> Result<Vec<Instance>, CloudError> {
        self.1.pass(self.0.instances(region, filter)).await
    }
    async fn stop_protection(&self, region: &Region, instance: &str) -> Result<bool, CloudError> {
        self.1.pass(self.0.stop_protection(region, instance)).await
    }
    async fn principal(&self, principal: &Principal, policy_name: &str) -> Result<PrincipalState, CloudError> {
        self.1.pass(self.0.principal(principal, policy_name)).await
    }
    async fn put_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError> {
        self.1.pass(self.0.put_deny(principal, policy_name, document)).await
    }
    async fn delete_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError> {
        self.1.pass(self.0.delete_deny(principal, policy_name)).await
    }
    async fn trusting(&self, principals: &[Principal]) -> Result<Vec<String>, CloudError> {
        self.1.pass(self.0.trusting(principals)).await
    }
    async fn set_access_key(&self, user: &str, key_id: &str, active: bool) -> Result<(), CloudError> {
        self.1.pass(self.0.set_access_key(user, key_id, active)).await
    }
    async fn stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.1.pass(self.0.stop(region, ids)).await
    }
    async fn start(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.1.pass(self.0.start(region, ids)).await
    }
    async fn may_stop(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.1.pass(self.0.may_stop(region, ids)).await
    }
    async fn terminate(&self, region: &Region, ids: &[String]) -> Result<BatchResult, CloudError> {
        self.1.pass(self.0.terminate(region, ids)).await
    }
}

type Answer<T> = Result<T, StoreError>;

#[async_trait]
impl Store for CrashStore {
    through! {
        open_epoch(now: Timestamp, host: &str) -> Answer<EpochId>;
        close_epoch(epoch: EpochId, now: Timestamp) -> Answer<()>;
        bury_dead_epochs(now: Timestamp, rules: &LedgerRules) -> Answer<DeadEpochs>;
        commit(batch: &Batch, rules: &LedgerRules) -> Answer<Vec<Outcome>>;
        lines(query: &LineQuery) -> Answer<Vec<Line>>;
        hold(id: HoldId) -> Answer<Option<Hold>>;
        expiring_holds(epoch: EpochId, until: Timestamp, limit: u32) -> Answer<Vec<HoldId>>;
        postings(query: &PostingQuery) -> Answer<Vec<Posting>>;
        spend(query: &SpendQuery) -> Answer<Vec<SpendRow>>;
        advance_clock(now: Timestamp) -> Answer<Timestamp>;
        set_clock(mark: Timestamp) -> Answer<()>;
        pending_triggers(limit: u32) -> Answer<Vec<Trigger>>;
        judge(judgement: &Judgement) -> Answer<Vec<AuditEntry>>;
        agent(id: &AgentId) -> Answer<AgentState>;
        agents() -> Answer<Vec<AgentState>>;
        reviews(open_only: bool, limit: u32) -> Answer<Vec<Review>>;
        review(id: ReviewId) -> Answer<Option<Review>>;
        spenders(line: &LineKey, limit: u32) -> Answer<Vec<(AgentId, Usd)>>;
        containment(id: ContainmentId) -> Answer<Option<Containment>>;
        live_containments() -> Answer<Vec<Containment>>;
        containments_of(agent: &AgentId, limit: u32) -> Answer<Vec<Containment>>;
        lease(name: &str, holder: &str, now: Timestamp, ttl: Duration) -> Answer<Option<Lease>>;
        release(lease: &Lease) -> Answer<()>;
        record_images(lease: &Lease, images: &[BeforeImage]) -> Answer<Vec<BeforeImage>>;
        images(agent: &AgentId) -> Answer<Vec<BeforeImage>>;
        update_images(lease: &Lease, images: &[BeforeImage]) -> Answer<()>;
        record_steps(lease: &Lease, steps: &[Step]) -> Answer<()>;
        steps(containment: ContainmentId) -> Answer<Vec<Step>>;
        judge_fenced(lease: &Lease, judgement: &Judgement) -> Answer<Vec<AuditEntry>>;
        add_key(key: &AgentKey) -> Answer<()>;
        keys() -> Answer<Vec<AgentKey>>;
        revoke_key(id: KeyId, now: Timestamp) -> Answer<()>;
        append_audit(entries: &[NewAudit]) -> Answer<Vec<AuditEntry>>;
        audit(from_seq: i64, limit: u32) -> Answer<Vec<AuditEntry>>;
        roll_up(before: Timestamp, now: Timestamp, limit: u32) -> Answer<u64>;
        audit_view() -> Answer<AuditView>;
        stats() -> Answer<StoreStats>;
        backup(to: &Path) -> Answer<StoreStats>;
    }
}
