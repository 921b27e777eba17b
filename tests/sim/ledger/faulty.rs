//! One process's way to the store: slow, sometimes busy or full, sometimes without an answer. What it
//! loses it loses as a real one does: before the commit, or only the answer after it. And it can be
//! made to lie, to show that the oracles see it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop::domain::agent::AgentState;
use backstop::domain::audit::{AuditEntry, NewAudit};
use backstop::domain::containment::image::BeforeImage;
use backstop::domain::containment::memory::Note;
use backstop::domain::containment::state::{Containment, Step};
use backstop::domain::drill::{Drill, DrillHead};
use backstop::domain::fleet::creation::Creation;
use backstop::domain::fleet::price::ListedRate;
use backstop::domain::id::{AgentId, ContainmentId, DrillId, EpochId, HoldId, KeyId, ReviewId};
use backstop::domain::ledger::batch::{Admit, Batch, LedgerRules, Op, Outcome};
use backstop::domain::ledger::bound::Bound;
use backstop::domain::ledger::hold::Hold;
use backstop::domain::ledger::line::{Line, LineKey};
use backstop::domain::ledger::posting::Posting;
use backstop::domain::money::Usd;
use backstop::domain::review::Review;
use backstop::ports::{
    AgentKey, AuditView, DeadEpochs, FleetBook, Judgement, Lease, LineQuery, PostingQuery, SpendQuery, SpendRow, Store,
    StoreError, StoreStats, Trigger,
};
use jiff::Timestamp;

use super::disk::{Handle, leave_unsynced};
use super::executor::Time;
use crate::rng::Rng;

/// How the store lies, in the tests of the oracles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Acknowledges a batch of reports and throws it away.
    DropsReports,
    /// Posts a repeated report a second time, under another id.
    PostsTwice,
    /// Always says that a hold has to wait.
    NeverAdmits,
    /// Throws a capture away and says that it was done.
    DropsCaptures,
    /// An expired hold is given back instead of charged.
    RefundsExpired,
    /// An agent's state does not bind its holds.
    IgnoresFreeze,
    /// Holds a part of the bound, so that one more call gets through.
    HoldsLess,
}

/// What happens to one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Busy,
    Full,
    /// Nothing is written, and the caller does not know.
    Lost,
    /// It takes so many milliseconds before, or after, it is written.
    StallsBefore(u64),
    StallsAfter(u64),
    /// It is written, and the caller does not know.
    Unanswered,
    StallsUnanswered(u64),
    /// It stays in the page cache, and the caller does not know.
    Unsynced,
    /// The caller does not know, and it is written so many milliseconds later: until then it has the
    /// store's write lock, so every other commit of this process is told that the store is busy.
    Late(u64),
    /// The store fails in a way that it has no name for, and nothing is written.
    Fails,
}

/// A commit that nobody waits for any more and that the store is still at.
struct Late {
    batch: Batch,
    rules: LedgerRules,
    at: Duration,
}

impl Fate {
    fn draw(rng: &mut Rng) -> Self {
        let millis = rng.below(40_000);
        match rng.below(10) {
            0 => Self::Busy,
            1 => Self::Full,
            2 => Self::Lost,
            3 => Self::StallsBefore(millis),
            4 => Self::StallsAfter(millis),
            5 => Self::Unanswered,
            6 => Self::StallsUnanswered(millis),
            7 => Self::Unsynced,
            8 => Self::Late(millis),
            _ => Self::Fails,
        }
    }
}

pub(super) struct Faulty {
    inner: Handle,
    time: Arc<Time>,
    /// One stream for how slow it is and one for what goes wrong.
    pace: Mutex<Rng>,
    fate: Mutex<Rng>,
    /// Percent of commits that something happens to.
    pub(super) trouble: AtomicU64,
    /// What happens to the next commit.
    next: Mutex<Option<Fate>>,
    /// The disk is below its reserve: a batch with a hold in it is refused.
    pub(super) reserve: AtomicBool,
    /// What happens to every commit, from now on.
    pub(super) always: Mutex<Option<Fate>>,
    /// A batch with a capture of this hold in it fails.
    pub(super) poison: Mutex<Option<HoldId>>,
    late: Mutex<Option<Late>>,
    pub(super) lie: Mutex<Option<Lie>>,
    pub(super) lied: AtomicBool,
    pub(super) commits: AtomicU64,
}

impl Faulty {
    pub(super) fn new(inner: Handle, time: Arc<Time>, rng: &Rng, trouble: u64) -> Self {
        Self {
            inner,
            time,
            pace: Mutex::new(rng.fork("pace")),
            fate: Mutex::new(rng.fork("fate")),
            trouble: AtomicU64::new(trouble),
            next: Mutex::new(None),
            reserve: AtomicBool::new(false),
            always: Mutex::new(None),
            poison: Mutex::new(None),
            late: Mutex::new(None),
            lie: Mutex::new(None),
            lied: AtomicBool::new(false),
            commits: AtomicU64::new(0),
        }
    }

    async fn slow(&self) {
        let micros = self.pace.lock().unwrap().below(4_000);
        self.time.sleep(Duration::from_micros(micros)).await;
    }

    async fn stall(&self, millis: u64) {
        self.time.sleep(Duration::from_millis(millis)).await;
    }

    /// What happens to the next commit, whatever is drawn.
    pub(super) fn force(&self, fate: Fate) {
        *self.next.lock().unwrap() = Some(fate);
    }

    fn fate(&self) -> Option<Fate> {
        let mut rng = self.fate.lock().unwrap();
        let drawn = rng
            .chance(self.trouble.load(Ordering::Relaxed))
            .then(|| Fate::draw(&mut rng));
        let forced = self.next.lock().unwrap().take();
        forced.or(*self.always.lock().unwrap()).or(drawn)
    }

    fn unknown() -> StoreError {
        StoreError::UnknownCommit {
            context: "the simulation lost the answer",
            source: None,
        }
    }

    fn failure() -> StoreError {
        StoreError::Other {
            context: "simulated",
            source: Box::new(std::io::Error::other("simulated")),
        }
    }

    fn is_poisoned(&self, batch: &Batch) -> bool {
        let poison = *self.poison.lock().unwrap();
        let is_it = |op: &Op| matches!(op, Op::Capture(capture) if Some(capture.hold) == poison);
        batch.ops.iter().any(is_it)
    }

    fn take_late(&self) -> Result<Option<Late>, StoreError> {
        let now = self.time.now();
        let mut late = self.late.lock().unwrap();
        if late.as_ref().is_some_and(|late| now < late.at) {
            return Err(StoreError::Busy { context: "simulated" });
        }
        Ok(late.take())
    }

    /// Writes what is late, if its time has come. Whoever commits before that finds the store busy.
    async fn land(&self) -> Result<(), StoreError> {
        if let Some(Late { batch, rules, .. }) = self.take_late()? {
            // Nobody waits for what becomes of it.
            drop(self.pass_on(&batch, &rules).await);
        }
        Ok(())
    }

    /// What a lying store makes of an operation: an answer without the deed, or another deed.
    fn lie(&self, op: &mut Op, frozen: &[AgentId]) -> Option<Outcome> {
        let lie = (*self.lie.lock().unwrap())?;
        let outcome = match (lie, &mut *op) {
            (Lie::DropsReports, Op::Report(report)) => Some(Outcome::Posted {
                posting: report.posting,
            }),
            (Lie::DropsCaptures, Op::Capture(capture)) => Some(Outcome::Ended {
                posting: Some(capture.posting),
                overage: Usd::ZERO,
            }),
            (Lie::NeverAdmits, Op::Admit(_)) => Some(Outcome::Wait {
                bound: Usd::ZERO,
                short: Vec::new(),
            }),
            (Lie::PostsTwice, Op::Report(report)) => {
                let suffix = report.posting.to_string();
                report.report = format!("{}/{}", report.report, &suffix[24..]).parse().unwrap();
                None
            }
            (Lie::RefundsExpired, Op::Expire { hold, .. }) => {
                *op = Op::Void { hold: *hold };
                None
            }
            (Lie::IgnoresFreeze, Op::Admit(admit)) if frozen.contains(&admit.attribution.agent) => {
                admit.attribution.agent = AgentId::new("nobody").unwrap();
                None
            }
            (
                Lie::HoldsLess,
                Op::Admit(Admit {
                    bound: Bound::Fixed(bound),
                    ..
                }),
            ) => {
                *bound = bound.percent(50);
                None
            }
            _ => return None,
        };
        self.lied.store(true, Ordering::Relaxed);
        outcome
    }

    /// Passes a batch on, without the operations that it only claims to have done.
    async fn pass_on(&self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError> {
        let mut batch = batch.clone();
        let mut frozen = self.inner.agents().await?;
        frozen.retain(|agent| !agent.status.admits());
        let frozen: Vec<AgentId> = frozen.into_iter().map(|agent| agent.id).collect();
        let asked: Vec<Option<Usd>> = batch.ops.iter().map(asked).collect();
        let lies: Vec<Option<Outcome>> = batch.ops.iter_mut().map(|op| self.lie(op, &frozen)).collect();
        let mut told = lies.iter();
        batch.ops.retain(|_| told.next().is_some_and(Option::is_none));
        let mut outcomes = self.inner.commit(&batch, rules).await?.into_iter();
        Ok(lies
            .into_iter()
            .zip(asked)
            .filter_map(|(lie, asked)| {
                let mut outcome = lie.or_else(|| outcomes.next())?;
                // Whatever it did, it says that it did what was asked.
                if let (Outcome::Admitted { bound, .. }, Some(asked)) = (&mut outcome, asked) {
                    *bound = asked;
                }
                Some(outcome)
            })
            .collect())
    }
}

/// The bound that a hold asks for, if it is an amount.
fn asked(op: &Op) -> Option<Usd> {
    match op {
        Op::Admit(Admit {
            bound: Bound::Fixed(bound),
            ..
        }) => Some(*bound),
        _ => None,
    }
}

#[async_trait]
impl Store for Faulty {
    async fn commit(&self, batch: &Batch, rules: &LedgerRules) -> Result<Vec<Outcome>, StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.slow().await;
        if self.reserve.load(Ordering::Relaxed) && batch.ops.iter().any(|op| matches!(op, Op::Admit(_))) {
            return Err(StoreError::Full {
                context: "simulated reserve".to_owned(),
            });
        }
        let fate = self.fate();
        self.land().await?;
        if self.is_poisoned(batch) {
            return Err(Self::failure());
        }
        match fate {
            Some(Fate::Fails) => return Err(Self::failure()),
            Some(Fate::Late(millis)) => {
                let (batch, rules) = (batch.clone(), *rules);
                let at = self.time.now() + Duration::from_millis(millis);
                *self.late.lock().unwrap() = Some(Late { batch, rules, at });
                return Err(Self::unknown());
            }
            Some(Fate::Busy) => return Err(StoreError::Busy { context: "simulated" }),
            Some(Fate::Full) => {
                return Err(StoreError::Full {
                    context: "simulated".to_owned(),
                });
            }
            Some(Fate::Lost) => return Err(Self::unknown()),
            Some(Fate::StallsBefore(millis)) => self.stall(millis).await,
            // No task runs between this and the write it is meant for.
            Some(Fate::Unsynced) => leave_unsynced(&self.inner),
            _ => {}
        }
        let outcomes = self.pass_on(batch, rules).await?;
        self.slow().await;
        match fate {
            Some(Fate::StallsAfter(millis)) => {
                self.stall(millis).await;
                Ok(outcomes)
            }
            Some(Fate::StallsUnanswered(millis)) => {
                self.stall(millis).await;
                Err(Self::unknown())
            }
            Some(Fate::Unanswered) => Err(Self::unknown()),
            _ => Ok(outcomes),
        }
    }

    async fn open_epoch(&self, now: Timestamp, host: &str) -> Result<EpochId, StoreError> {
        self.inner.open_epoch(now, host).await
    }
    async fn close_epoch(&self, epoch: EpochId, now: Timestamp) -> Result<(), StoreError> {
        self.land().await?;
        self.inner.close_epoch(epoch, now).await
    }
    async fn bury_dead_epochs(&self, now: Timestamp, rules: &LedgerRules) -> Result<DeadEpochs, StoreError> {
        self.slow().await;
        self.inner.bury_dead_epochs(now, rules).await
    }
    async fn lines(&self, query: &LineQuery) -> Result<Vec<Line>, StoreError> {
        self.slow().await;
        self.inner.lines(query).await
    }
    async fn hold(&self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        self.inner.hold(id).await
    }
    async fn expiring_holds(&self, epoch: EpochId, until: Timestamp, limit: u32) -> Result<Vec<HoldId>, StoreError> {
        self.slow().await;
        self.inner.expiring_holds(epoch, until, limit).await
    }
    async fn postings(&self, query: &PostingQuery) -> Result<Vec<Posting>, StoreError> {
        self.inner.postings(query).await
    }
    async fn spend(&self, query: &SpendQuery) -> Result<Vec<SpendRow>, StoreError> {
        self.inner.spend(query).await
    }
    async fn advance_clock(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.inner.advance_clock(now).await
    }
    async fn set_clock(&self, mark: Timestamp) -> Result<(), StoreError> {
        self.inner.set_clock(mark).await
    }
    async fn pending_triggers(&self, limit: u32) -> Result<Vec<Trigger>, StoreError> {
        self.inner.pending_triggers(limit).await
    }
    async fn judge(&self, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
        self.slow().await;
        self.inner.judge(judgement).await
    }
    async fn agent(&self, id: &AgentId) -> Result<AgentState, StoreError> {
        self.inner.agent(id).await
    }
    async fn agents(&self) -> Result<Vec<AgentState>, StoreError> {
        self.inner.agents().await
    }
    async fn reviews(&self, open_only: bool, limit: u32) -> Result<Vec<Review>, StoreError> {
        self.inner.reviews(open_only, limit).await
    }
    async fn reviews_of(&self, agent: &AgentId, since: Timestamp, limit: u32) -> Result<Vec<Review>, StoreError> {
        self.inner.reviews_of(agent, since, limit).await
    }
    async fn review(&self, id: ReviewId) -> Result<Option<Review>, StoreError> {
        self.inner.review(id).await
    }
    async fn spenders(&self, line: &LineKey, limit: u32) -> Result<Vec<(AgentId, Usd)>, StoreError> {
        self.inner.spenders(line, limit).await
    }
    async fn containment(&self, id: ContainmentId) -> Result<Option<Containment>, StoreError> {
        self.inner.containment(id).await
    }
    async fn live_containments(&self) -> Result<Vec<Containment>, StoreError> {
        self.inner.live_containments().await
    }
    async fn containments_of(&self, agent: &AgentId, limit: u32) -> Result<Vec<Containment>, StoreError> {
        self.inner.containments_of(agent, limit).await
    }
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.inner.lease(name, holder, now, ttl).await
    }
    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.inner.release(lease).await
    }
    async fn record_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<Vec<BeforeImage>, StoreError> {
        self.inner.record_images(lease, images).await
    }
    async fn supersede_images(
        &self,
        lease: &Lease,
        ended: &[BeforeImage],
        images: &[BeforeImage],
    ) -> Result<Vec<BeforeImage>, StoreError> {
        self.inner.supersede_images(lease, ended, images).await
    }
    async fn images(&self, agent: &AgentId) -> Result<Vec<BeforeImage>, StoreError> {
        self.inner.images(agent).await
    }
    async fn update_images(&self, lease: &Lease, images: &[BeforeImage]) -> Result<(), StoreError> {
        self.inner.update_images(lease, images).await
    }
    async fn record_steps(&self, lease: &Lease, steps: &[Step]) -> Result<(), StoreError> {
        self.inner.record_steps(lease, steps).await
    }
    async fn steps(&self, containment: ContainmentId) -> Result<Vec<Step>, StoreError> {
        self.inner.steps(containment).await
    }
    async fn judge_fenced(&self, lease: &Lease, judgement: &Judgement) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.judge_fenced(lease, judgement).await
    }
    async fn restored_images(&self, agent: &AgentId, since: Timestamp) -> Result<Vec<BeforeImage>, StoreError> {
        self.inner.restored_images(agent, since).await
    }
    async fn drills(&self, agent: &AgentId, limit: u32) -> Result<Vec<DrillHead>, StoreError> {
        self.inner.drills(agent, limit).await
    }
    async fn drill(&self, id: DrillId) -> Result<Option<Drill>, StoreError> {
        self.inner.drill(id).await
    }
    async fn last_drills(&self) -> Result<Vec<DrillHead>, StoreError> {
        self.inner.last_drills().await
    }
    async fn remember(&self, notes: &[Note]) -> Result<(), StoreError> {
        self.inner.remember(notes).await
    }
    async fn remembered(&self) -> Result<Vec<Note>, StoreError> {
        self.inner.remembered().await
    }
    async fn fleet_book(&self, account: &str) -> Result<Option<FleetBook>, StoreError> {
        self.inner.fleet_book(account).await
    }
    async fn save_fleet_book(&self, lease: &Lease, account: &str, book: &FleetBook) -> Result<(), StoreError> {
        self.inner.save_fleet_book(lease, account, book).await
    }
    async fn note_creations(&self, creations: &[Creation], now: Timestamp) -> Result<(), StoreError> {
        self.inner.note_creations(creations, now).await
    }
    async fn creations(&self, account: &str, since: Timestamp) -> Result<Vec<Creation>, StoreError> {
        self.inner.creations(account, since).await
    }
    async fn save_fleet_prices(&self, prices: &[ListedRate]) -> Result<(), StoreError> {
        self.inner.save_fleet_prices(prices).await
    }
    async fn fleet_prices(&self) -> Result<Vec<ListedRate>, StoreError> {
        self.inner.fleet_prices().await
    }
    async fn add_key(&self, key: &AgentKey) -> Result<(), StoreError> {
        self.inner.add_key(key).await
    }
    async fn keys(&self) -> Result<Vec<AgentKey>, StoreError> {
        self.inner.keys().await
    }
    async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        self.inner.revoke_key(id, now).await
    }
    async fn append_audit(&self, entries: &[NewAudit]) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.append_audit(entries).await
    }
    async fn audit(&self, from_seq: i64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.audit(from_seq, limit).await
    }
    async fn roll_up(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.inner.roll_up(before, now, limit).await
    }
    async fn audit_view(&self) -> Result<AuditView, StoreError> {
        self.inner.audit_view().await
    }
    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.inner.stats().await
    }
    async fn backup(&self, to: &Path) -> Result<StoreStats, StoreError> {
        self.inner.backup(to).await
    }
}
