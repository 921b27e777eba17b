//! A crash at the Nth call that leaves the process: the call happens or does not, and nothing after it.
//!
//! A crashed call never returns. Whoever runs the daemon waits for [`CrashPoint::crashed`] beside it
//! and drops everything when it comes, as the death of a process does.

use std::future::{Future, pending};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backstop::domain::agent::AgentState;
use backstop::domain::audit::{AuditEntry, NewAudit};
use backstop::domain::containment::image::BeforeImage;
use backstop::domain::containment::memory::Note;
use backstop::domain::containment::observed::{BatchResult, Identity, Instance, PrincipalState, Simulated};
use backstop::domain::containment::state::{Containment, Step};
use backstop::domain::containment::target::{Principal, Region};
use backstop::domain::drill::predict::Limits;
use backstop::domain::drill::{Drill, DrillHead};
use backstop::domain::fleet::asset::{Asset, AssetRef, Kind, Settings};
use backstop::domain::fleet::creation::Creation;
use backstop::domain::fleet::price::ListedRate;
use backstop::domain::fleet::rate::RateKey;
use backstop::domain::id::{AgentId, ContainmentId, DrillId, EpochId, HoldId, KeyId, ReviewId};
use backstop::domain::ledger::batch::{Batch, LedgerRules, Op, Outcome};
use backstop::domain::ledger::hold::Hold;
use backstop::domain::ledger::line::{Line, LineKey};
use backstop::domain::ledger::posting::Posting;
use backstop::domain::money::Usd;
use backstop::domain::review::Review;
use backstop::ports::Clock as _;
use backstop::ports::Health;
use backstop::ports::{
    AgentKey, Asking, AuditView, Cloud, CloudError, DeadEpochs, FleetBook, InstanceFilter, Judgement, Lease, LineQuery,
    LookUp, Permission, PostingQuery, Recorded, SpendQuery, SpendRow, Store, StoreError, StoreStats, Trigger,
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio::sync::{Notify, Semaphore};

use super::time::VirtualClock;

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
    /// Places for calls, and how long each keeps its place: as a pool of connections has it.
    lanes: Option<(Arc<VirtualClock>, Duration, Semaphore)>,
    /// The store acknowledges before-images and keeps only the first of each call.
    forgets_images: bool,
    /// The store answers every other commit of reports this much after it was written.
    stalls: Option<(Arc<VirtualClock>, Duration)>,
    stalled: AtomicBool,
}

impl CrashPoint {
    pub fn at(call: usize, when: When) -> Arc<Self> {
        Arc::new(Self {
            at: call,
            when,
            made: AtomicUsize::new(0),
            crashed: Notify::new(),
            lanes: None,
            forgets_images: false,
            stalls: None,
            stalled: AtomicBool::new(false),
        })
    }

    /// Never crashes, but makes one call at a time, each of which takes this long.
    pub fn narrow(clock: Arc<VirtualClock>, each: Duration) -> Arc<Self> {
        Arc::new(Self {
            at: usize::MAX,
            when: When::BeforeCall,
            made: AtomicUsize::new(0),
            crashed: Notify::new(),
            lanes: Some((clock, each, Semaphore::new(1))),
            forgets_images: false,
            stalls: None,
            stalled: AtomicBool::new(false),
        })
    }

    /// Never crashes, but its store answers every other commit of reports so late.
    pub fn stalling(clock: Arc<VirtualClock>, each: Duration) -> Arc<Self> {
        Arc::new(Self {
            at: usize::MAX,
            when: When::BeforeCall,
            made: AtomicUsize::new(0),
            crashed: Notify::new(),
            lanes: None,
            forgets_images: false,
            stalls: Some((clock, each)),
            stalled: AtomicBool::new(false),
        })
    }

    /// Never crashes, but its store is a liar.
    pub fn forgetful() -> Arc<Self> {
        Arc::new(Self {
            at: usize::MAX,
            when: When::BeforeCall,
            made: AtomicUsize::new(0),
            crashed: Notify::new(),
            lanes: None,
            forgets_images: true,
            stalls: None,
            stalled: AtomicBool::new(false),
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
        let _lane = match &self.lanes {
            Some((clock, each, lanes)) => {
                let lane = lanes.acquire().await.unwrap();
                clock.sleep(*each).await;
                Some(lane)
            }
            None => None,
        };
        // As over a wire, others go on meanwhile.
        tokio::task::yield_now().await;
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

#[async_trait]
impl Cloud for CrashCloud {
    async fn identity(&self) -> Result<Identity, CloudError> {
        self.1.pass(self.0.identity()).await
    }
    async fn credentials_mark(&self) -> Option<String> {
        self.1.pass(self.0.credentials_mark()).await
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
    async fn inline_chars(&self, principal: &Principal, policy_name: &str) -> Result<usize, CloudError> {
        self.1.pass(self.0.inline_chars(principal, policy_name)).await
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

    async fn attach_deny(&self, principal: &Principal, policy_name: &str, document: &str) -> Result<(), CloudError> {
        self.1.pass(self.0.attach_deny(principal, policy_name, document)).await
    }

    async fn detach_deny(&self, principal: &Principal, policy_name: &str) -> Result<(), CloudError> {
        self.1.pass(self.0.detach_deny(principal, policy_name)).await
    }

    async fn set_service_credential(&self, user: &str, id: &str, active: bool) -> Result<(), CloudError> {
        self.1.pass(self.0.set_service_credential(user, id, active)).await
    }

    async fn simulate(&self, principal: &Principal, actions: &[String]) -> Result<Vec<Simulated>, CloudError> {
        self.1.pass(self.0.simulate(principal, actions)).await
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn permission(&self, us: &str, asking: &Asking<'_>) -> Option<Permission> {
        self.0.permission(us, asking)
    }

    async fn simulate_each(&self, us: &str, asked: &[Permission]) -> Result<Vec<Option<bool>>, CloudError> {
        self.1.pass(self.0.simulate_each(us, asked)).await
    }

    async fn health(&self, region: &Region, ids: &[String]) -> Result<BTreeMap<String, Health>, CloudError> {
        self.1.pass(self.0.health(region, ids)).await
    }

    fn kinds(&self) -> Vec<Kind> {
        self.0.kinds()
    }

    async fn assets(&self, region: &Region, kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        self.1.pass(self.0.assets(region, kind)).await
    }

    async fn put_settings(&self, asset: &AssetRef, settings: &Settings) -> Result<(), CloudError> {
        self.1.pass(self.0.put_settings(asset, settings)).await
    }

    async fn end(&self, asset: &AssetRef) -> Result<(), CloudError> {
        self.1.pass(self.0.end(asset)).await
    }

    async fn creations(&self, region: &Region, wanted: &LookUp<'_>) -> Result<Recorded, CloudError> {
        self.1.pass(self.0.creations(region, wanted)).await
    }

    async fn list_prices(
        &self,
        region: &Region,
        rates: &[RateKey],
    ) -> Result<BTreeMap<RateKey, Option<Usd>>, CloudError> {
        self.1.pass(self.0.list_prices(region, rates)).await
    }
}

type Answer<T> = Result<T, StoreError>;

#[async_trait]
impl Store for CrashStore {
    async fn open_epoch(&self, now: Timestamp, host: &str) -> Answer<EpochId> {
        self.1.pass(self.0.open_epoch(now, host)).await
    }
    async fn close_epoch(&self, epoch: EpochId, now: Timestamp) -> Answer<()> {
        self.1.pass(self.0.close_epoch(epoch, now)).await
    }
    async fn bury_dead_epochs(&self, now: Timestamp, rules: &LedgerRules) -> Answer<DeadEpochs> {
        self.1.pass(self.0.bury_dead_epochs(now, rules)).await
    }
    async fn commit(&self, batch: &Batch, rules: &LedgerRules) -> Answer<Vec<Outcome>> {
        let answer = self.1.pass(self.0.commit(batch, rules)).await;
        let posts = batch.ops.iter().any(|op| matches!(op, Op::Report(_)));
        if let Some((clock, each)) = &self.1.stalls
            && posts
            && !self.1.stalled.fetch_xor(true, Ordering::SeqCst)
        {
            clock.sleep(*each).await;
        }
        answer
    }
    async fn lines(&self, query: &LineQuery) -> Answer<Vec<Line>> {
        self.1.pass(self.0.lines(query)).await
    }
    async fn hold(&self, id: HoldId) -> Answer<Option<Hold>> {
        self.1.pass(self.0.hold(id)).await
    }
    async fn expiring_holds(&self, epoch: EpochId, until: Timestamp, limit: u32) -> Answer<Vec<HoldId>> {
        self.1.pass(self.0.expiring_holds(epoch, until, limit)).await
    }
    async fn postings(&self, query: &PostingQuery) -> Answer<Vec<Posting>> {
        self.1.pass(self.0.postings(query)).await
    }
    async fn spend(&self, query: &SpendQuery) -> Answer<Vec<SpendRow>> {
        self.1.pass(self.0.spend(query)).await
    }
    async fn advance_clock(&self, now: Timestamp) -> Answer<Timestamp> {
        self.1.pass(self.0.advance_clock(now)).await
    }
    async fn set_clock(&self, mark: Timestamp) -> Answer<()> {
        self.1.pass(self.0.set_clock(mark)).await
    }
    async fn pending_triggers(&self, limit: u32) -> Answer<Vec<Trigger>> {
        self.1.pass(self.0.pending_triggers(limit)).await
    }
    async fn judge(&self, judgement: &Judgement) -> Answer<Vec<AuditEntry>> {
        self.1.pass(self.0.judge(judgement)).await
    }
    async fn agent(&self, id: &AgentId) -> Answer<AgentState> {
        self.1.pass(self.0.agent(id)).await
    }
    async fn agents(&self) -> Answer<Vec<AgentState>> {
        self.1.pass(self.0.agents()).await
    }
    async fn reviews(&self, open_only: bool, limit: u32) -> Answer<Vec<Review>> {
        self.1.pass(self.0.reviews(open_only, limit)).await
    }
    async fn reviews_of(&self, agent: &AgentId, since: Timestamp, limit: u32) -> Answer<Vec<Review>> {
        self.1.pass(self.0.reviews_of(agent, since, limit)).await
    }
    async fn review(&self, id: ReviewId) -> Answer<Option<Review>> {
        self.1.pass(self.0.review(id)).await
    }
    async fn spenders(&self, line: &LineKey, limit: u32) -> Answer<Vec<(AgentId, Usd)>> {
        self.1.pass(self.0.spenders(line, limit)).await
    }
    async fn containment(&self, id: ContainmentId) -> Answer<Option<Containment>> {
        self.1.pass(self.0.containment(id)).await
    }
    async fn live_containments(&self) -> Answer<Vec<Containment>> {
        self.1.pass(self.0.live_containments()).await
    }
    async fn containments_of(&self, agent: &AgentId, limit: u32) -> Answer<Vec<Containment>> {
        self.1.pass(self.0.containments_of(agent, limit)).await
    }
    async fn lease(&self, name: &str, holder: &str, now: Timestamp, ttl: Duration) -> Answer<Option<Lease>> {
        self.1.pass(self.0.lease(name, holder, now, ttl)).await
    }
    async fn release(&self, lease: &Lease) -> Answer<()> {
        self.1.pass(self.0.release(lease)).await
    }
    async fn record_images(&self, lease: &Lease, images: &[BeforeImage]) -> Answer<Vec<BeforeImage>> {
        let kept = if self.1.forgets_images {
            &images[..images.len().min(1)]
        } else {
            images
        };
        self.1.pass(self.0.record_images(lease, kept)).await
    }
    async fn supersede_images(
        &self,
        lease: &Lease,
        ended: &[BeforeImage],
        images: &[BeforeImage],
    ) -> Answer<Vec<BeforeImage>> {
        self.1.pass(self.0.supersede_images(lease, ended, images)).await
    }
    async fn images(&self, agent: &AgentId) -> Answer<Vec<BeforeImage>> {
        self.1.pass(self.0.images(agent)).await
    }
    async fn update_images(&self, lease: &Lease, images: &[BeforeImage]) -> Answer<()> {
        self.1.pass(self.0.update_images(lease, images)).await
    }
    async fn record_steps(&self, lease: &Lease, steps: &[Step]) -> Answer<()> {
        self.1.pass(self.0.record_steps(lease, steps)).await
    }
    async fn steps(&self, containment: ContainmentId) -> Answer<Vec<Step>> {
        self.1.pass(self.0.steps(containment)).await
    }
    async fn judge_fenced(&self, lease: &Lease, judgement: &Judgement) -> Answer<Vec<AuditEntry>> {
        self.1.pass(self.0.judge_fenced(lease, judgement)).await
    }
    async fn restored_images(&self, agent: &AgentId, since: Timestamp) -> Answer<Vec<BeforeImage>> {
        self.1.pass(self.0.restored_images(agent, since)).await
    }
    async fn drills(&self, agent: &AgentId, limit: u32) -> Answer<Vec<DrillHead>> {
        self.1.pass(self.0.drills(agent, limit)).await
    }
    async fn drill(&self, id: DrillId) -> Answer<Option<Drill>> {
        self.1.pass(self.0.drill(id)).await
    }
    async fn last_drills(&self) -> Answer<Vec<DrillHead>> {
        self.1.pass(self.0.last_drills()).await
    }
    async fn remember(&self, notes: &[Note]) -> Answer<()> {
        self.1.pass(self.0.remember(notes)).await
    }
    async fn remembered(&self) -> Answer<Vec<Note>> {
        self.1.pass(self.0.remembered()).await
    }
    async fn fleet_book(&self, account: &str) -> Answer<Option<FleetBook>> {
        self.1.pass(self.0.fleet_book(account)).await
    }
    async fn save_fleet_book(&self, lease: &Lease, account: &str, book: &FleetBook) -> Answer<()> {
        self.1.pass(self.0.save_fleet_book(lease, account, book)).await
    }
    async fn note_creations(&self, creations: &[Creation], now: Timestamp) -> Answer<()> {
        self.1.pass(self.0.note_creations(creations, now)).await
    }
    async fn creations(&self, account: &str, since: Timestamp) -> Answer<Vec<Creation>> {
        self.1.pass(self.0.creations(account, since)).await
    }
    async fn save_fleet_prices(&self, prices: &[ListedRate]) -> Answer<()> {
        self.1.pass(self.0.save_fleet_prices(prices)).await
    }
    async fn fleet_prices(&self) -> Answer<Vec<ListedRate>> {
        self.1.pass(self.0.fleet_prices()).await
    }
    async fn add_key(&self, key: &AgentKey) -> Answer<()> {
        self.1.pass(self.0.add_key(key)).await
    }
    async fn keys(&self) -> Answer<Vec<AgentKey>> {
        self.1.pass(self.0.keys()).await
    }
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Answer<()> {
        self.1.pass(self.0.revoke_key(id, now)).await
    }
    async fn append_audit(&self, entries: &[NewAudit]) -> Answer<Vec<AuditEntry>> {
        self.1.pass(self.0.append_audit(entries)).await
    }
    async fn audit(&self, from_seq: i64, limit: u32) -> Answer<Vec<AuditEntry>> {
        self.1.pass(self.0.audit(from_seq, limit)).await
    }
    async fn roll_up(&self, before: Timestamp, now: Timestamp, limit: u32) -> Answer<u64> {
        self.1.pass(self.0.roll_up(before, now, limit)).await
    }
    async fn audit_view(&self) -> Answer<AuditView> {
        self.1.pass(self.0.audit_view()).await
    }
    async fn stats(&self) -> Answer<StoreStats> {
        self.1.pass(self.0.stats()).await
    }
    async fn backup(&self, to: &Path) -> Answer<StoreStats> {
        self.1.pass(self.0.backup(to)).await
    }
}
