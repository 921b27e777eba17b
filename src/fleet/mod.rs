//! The fleet, watched: what runs is seen, given an owner and a price, posted as time passes, and acted on
//! before a limit is reached.
//!
//! Each region is looked at on its own clock, every `poll_every`; a slow or dead one holds back no other,
//! and what it showed last goes on being charged for. As soon as a region's look shows that an agent burns
//! more than before, the ledger is told what comes until a reaction binds ([`Ledger::foresee`]): the breach
//! follows the first look that shows the machine by one commit, and every `poll_every` the forecast is made
//! anew, since a burn that stays the same reaches its limit too.
//!
//! Money goes one way, and is never in two places. The [book](crate::domain::burn::Book) charges it; every
//! `accrue_every` what has gathered is taken out into the outbox; book and outbox are saved in one write;
//! only then are the rows of the outbox posted, under ids that are theirs for good. So a crash at any point
//! posts nothing twice (the ledger knows the ids, L6) and loses nothing: what was saved is charged on from
//! where it was, and what runs when the daemon is back is charged since it was last seen or began. Machines
//! that began and ended between two saves around a crash are the exception, so the book is also saved
//! whenever what runs has changed.
//!
//! One watcher for each account and store: it holds a lease, and the book can be saved with that alone (C6).
//! A daemon that lost its lease forgets the book; whoever has it reads the saved one.
//!
//! It only reads the cloud. What to do about a breach is the judge's business, and the kill switch's.

mod creations;
mod foresee;
mod learn;
mod look;
mod outbox;
mod post;
mod prices;
mod reading;
pub mod settings;
mod state;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::containment::attribution::Readings;
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{AssetRef, Kind};
use crate::domain::id::{AgentId, EpochId};
use crate::ledger::Ledger;
use crate::ports::{Clock, Cloud, Entropy, Lease, Notifier, Store, StoreError};
use state::State;

pub use settings::FleetSettings;
pub use state::Standing;
pub use view::{AssetRow, FleetReport, Page, RegionReport, Wanted};

/// How long a watcher that cannot begin waits before it tries again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long a stopping daemon tries to post what has gathered.
const LAST_POST: Duration = Duration::from_secs(5);

/// What the watcher needs of the world.
pub struct FleetDeps {
    pub store: Arc<dyn Store>,
    pub cloud: Arc<dyn Cloud>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub notifier: Arc<dyn Notifier>,
    pub ledger: Ledger,
    pub settings: Arc<ArcSwap<FleetSettings>>,
    /// Told what each agent's principals made, and how far the record of it was read.
    pub creators: TellCreators,
}

/// Who hears what each agent's principals made (`None`: nothing new) and how far that is known.
pub type TellCreators = Arc<dyn Fn(Option<BTreeMap<AgentId, BTreeSet<AssetRef>>>, Readings) + Send + Sync>;

/// The watcher of the fleet. One for each daemon.
pub struct Fleet {
    store: Arc<dyn Store>,
    cloud: Arc<dyn Cloud>,
    clock: Arc<dyn Clock>,
    notifier: Arc<dyn Notifier>,
    ledger: Ledger,
    settings: Arc<ArcSwap<FleetSettings>>,
    creators: TellCreators,
    holder: String,
    state: Mutex<State>,
    lease: Mutex<Option<Lease>>,
    /// Held while a posting or a forecast is on its way to the ledger: never both.
    settling: tokio::sync::Mutex<()>,
    /// What runs has changed: the book is to be saved.
    save_now: Notify,
    /// Something tripped: what was spent is to be posted.
    post_now: Notify,
    learn_now: Notify,
    regions_changed: Notify,
}

/// Why the watcher stopped watching.
#[derive(Debug)]
enum Lost {
    /// The lease is somebody else's.
    Lease,
    /// The setting was switched off.
    Off,
}

impl Fleet {
    pub fn new(deps: FleetDeps) -> Self {
        let holder = deps.entropy.id(deps.clock.now()).to_string();
        Self {
            store: deps.store,
            cloud: deps.cloud,
            clock: deps.clock,
            notifier: deps.notifier,
            ledger: deps.ledger,
            settings: deps.settings,
            creators: deps.creators,
            holder,
            state: Mutex::default(),
            lease: Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            save_now: Notify::new(),
            post_now: Notify::new(),
            learn_now: Notify::new(),
            regions_changed: Notify::new(),
        }
    }

    /// Ties our lease to the epoch that this process lives in, as the kill switch does with its own (C6).
    #[must_use]
    pub fn in_epoch(mut self, epoch: EpochId) -> Self {
        self.holder = Lease::holder_in(epoch);
        self
    }

    /// Watches until the shutdown, then posts what has gathered.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut is_away = false;
        while !shutdown.is_cancelled() {
            let turn = async {
                if self.settings().watch {
                    is_away = false;
                    self.turn().await;
                } else {
                    is_away = is_away || self.put_away().await;
                    self.state().standing = Standing::Off;
                }
                self.clock.sleep(AGAIN).await;
            };
            if shutdown.run_until_cancelled(turn).await.is_none() {
                break;
            }
        }
        self.close().await;
    }

    /// From the lease to its loss.
    async fn turn(&self) {
        let now = self.now();
        let account = match self.find_account().await {
            Ok(account) => account,
            Err(why) => {
                tracing::warn!(
                    why,
                    "the fleet is not watched: who we are in the cloud cannot be learnt"
                );
                let mut state = self.state();
                state.standing = Standing::Unknown;
                return state.note_trouble("identity", Some(why), now);
            }
        };
        self.state().note_trouble("identity", None, now);
        match self.take_lease(&account).await {
            Ok(true) => {}
            Ok(false) => {
                self.state().standing = Standing::Elsewhere;
                return self.follow_creators(&account).await;
            }
            Err(error) => return self.store_trouble(&error),
        }
        if let Err(why) = self.load(&account).await {
            tracing::error!(why, "the fleet is not watched: its book cannot be read");
            self.state().note_trouble("store", Some(why), now);
            return self.give_back().await;
        }
        tracing::info!(account, "the fleet is watched");
        let lost = tokio::select! {
            biased;
            lost = self.keep_lease(&account) => lost,
            lost = self.keep_posting(&account) => lost,
            never = self.keep_foreseeing() => match never {},
            never = self.keep_learning(&account) => match never {},
            never = self.keep_prices() => match never {},
            never = self.watch_regions() => match never {},
        };
        tracing::info!(?lost, "the fleet is not watched any more");
        if matches!(lost, Lost::Off) {
            let now = self.now();
            self.state().forget_all(Some(now));
            return self.close().await;
        }
        *self.held() = None;
        *self.state() = State {
            standing: Standing::Elsewhere,
            ..State::default()
        };
    }

    async fn take_lease(&self, account: &str) -> Result<bool, StoreError> {
        let ttl = self.settings().lease_ttl;
        let name = format!("fleet/{account}");
        let lease = self.store.lease(&name, &self.holder, self.now(), ttl).await?;
        let is_ours = lease.is_some();
        *self.held() = lease;
        Ok(is_ours)
    }

    /// Renews the lease until it is somebody else's. While the store cannot be reached it is kept: nothing
    /// can be saved then, by anybody.
    async fn keep_lease(&self, account: &str) -> Lost {
        loop {
            self.clock.sleep(self.settings().lease_ttl / 3).await;
            if !self.settings().watch {
                return Lost::Off;
            }
            match self.take_lease_again(account).await {
                Ok(true) => {}
                Ok(false) => return Lost::Lease,
                Err(error) => self.store_trouble(&error),
            }
        }
    }

    /// A renewal that has another token is a new lease: somebody had it in between.
    async fn take_lease_again(&self, account: &str) -> Result<bool, StoreError> {
        let before = self.held().as_ref().map(|lease| lease.token);
        let ttl = self.settings().lease_ttl;
        let name = format!("fleet/{account}");
        let lease = self.store.lease(&name, &self.holder, self.now(), ttl).await?;
        let is_ours = lease.is_some() && lease.as_ref().map(|lease| lease.token) == before;
        *self.held() = lease;
        Ok(is_ours)
    }

    /// The regions' loops. They are made and ended as regions come and go.
    async fn watch_regions(&self) -> Infallible {
        let mut watched: BTreeMap<Region, CancellationToken> = BTreeMap::new();
        let mut loops: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            let wanted = self.state().wanted.clone();
            watched.retain(|region, stop| {
                let stays = wanted.contains(region);
                if !stays {
                    stop.cancel();
                    self.state().forget(region, self.now());
                }
                stays
            });
            let kinds: Vec<Kind> = std::iter::once(Kind::INSTANCE).chain(self.cloud.kinds()).collect();
            self.state().forget_unwatched(&kinds, self.now());
            for region in wanted {
                let stop = CancellationToken::new();
                if watched.contains_key(&region) {
                    continue;
                }
                watched.insert(region.clone(), stop.clone());
                loops.push(
                    async move {
                        stop.run_until_cancelled(self.watch_region(&region)).await;
                    }
                    .boxed(),
                );
            }
            loop {
                tokio::select! {
                    biased;
                    () = self.regions_changed.notified() => break,
                    Some(()) = loops.next(), if !loops.is_empty() => {}
                }
            }
        }
    }

    /// Posts what has gathered and gives the lease back; as far as that can be done in time.
    async fn close(&self) {
        if self.held().is_none() {
            return;
        }
        let last = async {
            let account = self.state().account.clone();
            if let Some(account) = account {
                self.post_all(&account).await;
            }
            self.give_back().await;
        };
        tokio::select! {
            biased;
            () = last => {}
            () = self.clock.sleep(LAST_POST) => {}
        }
        self.state().standing = Standing::Off;
    }

    async fn give_back(&self) {
        let lease = self.held().take();
        if let Some(lease) = lease
            && let Err(error) = self.store.release(&lease).await
        {
            tracing::debug!(%error, "the fleet's lease was not given back");
        }
    }

    fn store_trouble(&self, error: &StoreError) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the fleet's watcher cannot use the store"
        );
        let why = learn::text_of(error);
        self.state().note_trouble("store", Some(why), self.now());
    }

    /// The ledger's time: it never goes back and believes no jump (D4), so a clock that is set charges nobody
    /// for time that did not pass, nor leaves time out that did.
    fn now(&self) -> jiff::Timestamp {
        self.ledger.now()
    }

    fn settings(&self) -> Arc<FleetSettings> {
        self.settings.load_full()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
