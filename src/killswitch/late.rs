//! Looks that take longer than a sweep waits for them.
//!
//! A sweep waits `step_patience` for what it asks. What has not answered by then is unseen in this sweep, and
//! goes on by itself: a later sweep takes its answer, and the others are not held back by it. What was late or
//! failed is not waited for again before it has answered. There is never more than one of the same thing,
//! so what is seen later was looked at later.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Either, join, join_all, select};

use super::call::Caller;
use super::pass::Pass;
use crate::domain::containment::observed::Instance;
use crate::domain::containment::plan::{RegionView, Seen};
use crate::domain::containment::target::Region;
use crate::domain::fleet::asset::{Asset, Kind};
use crate::domain::id::ContainmentId;
use crate::ports::{Clock, Cloud, Entropy, InstanceFilter};

/// An answer that nobody took for so long says nothing of now.
const FRESH: Duration = Duration::from_mins(2);

/// What containments look at, region by region.
pub(super) struct Looks {
    cloud: Arc<dyn Cloud>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    regions: Late<ContainmentId, Vec<Region>>,
    instances: Late<(ContainmentId, Region), Vec<Instance>>,
    assets: Late<(ContainmentId, Region, Kind), Vec<Asset>>,
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looks").finish_non_exhaustive()
    }
}

/// What was seen, and whether something of it is still being looked at.
pub(super) struct Look<T> {
    pub seen: T,
    pub late: bool,
}

impl Looks {
    pub fn new(cloud: Arc<dyn Cloud>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            cloud,
            clock,
            entropy,
            regions: Late::default(),
            instances: Late::default(),
            assets: Late::default(),
        }
    }

    /// The regions that are enabled now.
    pub async fn regions(&self, pass: &Pass<'_>) -> Look<Seen<Vec<Region>>> {
        let begin = || self.begin(pass, |cloud| async move { cloud.regions().await });
        seen(pass, self.regions.ask(pass.containment.id, pass, begin).await)
    }

    /// A whole region, whoever's it is: a machine without tag and profile may be the agent's by its group or
    /// by who made it, and unfiltered pages are the cheapest that there are. Each kind is listed on its own,
    /// and all at once: each has a service, and a rate limit, of its own.
    pub async fn region(&self, pass: &Pass<'_>, region: &Region) -> Look<RegionView> {
        let observed_at = pass.now();
        let id = pass.containment.id;
        let instances = async {
            let here = region.clone();
            let list = move |cloud: Arc<dyn Cloud>| {
                let here = here.clone();
                async move { cloud.instances(&here, &InstanceFilter::All).await }
            };
            let begin = || self.begin(pass, list);
            seen(pass, self.instances.ask((id, region.clone()), pass, begin).await)
        };
        let kinds = self.cloud.kinds().into_iter().map(|kind| async {
            let (here, wanted) = (region.clone(), kind.clone());
            let list = move |cloud: Arc<dyn Cloud>| {
                let (here, wanted) = (here.clone(), wanted.clone());
                async move { cloud.assets(&here, &wanted).await }
            };
            let begin = || self.begin(pass, list);
            let key = (id, region.clone(), kind.clone());
            (kind, seen(pass, self.assets.ask(key, pass, begin).await))
        });
        let (instances, kinds) = join(instances, join_all(kinds)).await;
        Look {
            late: instances.late || kinds.iter().any(|(_, look)| look.late),
            seen: RegionView {
                region: region.clone(),
                observed_at,
                instances: instances.seen,
                assets: kinds.into_iter().map(|(kind, look)| (kind, look.seen)).collect(),
            },
        }
    }

    /// A look that needs nothing of the pass that began it.
    fn begin<T, F>(
        &self,
        pass: &Pass<'_>,
        call: impl Fn(Arc<dyn Cloud>) -> F + Send + Sync + 'static,
    ) -> BoxFuture<'static, Seen<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, crate::ports::CloudError>> + Send + 'static,
    {
        let (cloud, clock, entropy) = (self.cloud.clone(), self.clock.clone(), self.entropy.clone());
        let (limit, patience) = (pass.settings.call_limit, pass.settings.step_patience);
        async move {
            let caller = Caller {
                clock: &*clock,
                entropy: &*entropy,
                limit,
                until: clock.monotonic().saturating_add(patience),
            };
            let answer = caller.reach(|| call(cloud.clone())).await;
            answer.map_err(|failure| failure.why)
        }
        .boxed()
    }

    /// Goes on with what was late, without end.
    pub async fn keep_looking(&self) -> Infallible {
        poll_fn(|context| {
            self.regions.go_on(context);
            self.instances.go_on(context);
            self.assets.go_on(context);
            Poll::Pending
        })
        .await
    }

    /// Forgets what was looked at for containments that are over.
    pub fn forget(&self, lives: impl Fn(&ContainmentId) -> bool) {
        self.regions.parked().retain(|id, _| lives(id));
        self.instances.parked().retain(|(id, _), _| lives(id));
        self.assets.parked().retain(|(id, _, _), _| lives(id));
    }
}

fn seen<T>(pass: &Pass<'_>, answer: Option<Seen<T>>) -> Look<Seen<T>> {
    match answer {
        Some(seen) => Look { seen, late: false },
        None => Look {
            seen: Err(format!(
                "there is no answer within {} s; it is still being asked",
                pass.settings.step_patience.as_secs()
            )),
            late: true,
        },
    }
}

/// Looks of one sort.
struct Late<K, T>(Mutex<BTreeMap<K, Parked<T>>>);

struct Parked<T> {
    /// When it began, on the monotonic clock.
    since: Duration,
    state: State<T>,
}

enum State<T> {
    UnderWay(BoxFuture<'static, Seen<T>>),
    Answered(Seen<T>),
    /// The last one failed.
    Failed,
}

impl<K, T> Default for Late<K, T> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord, T> Late<K, T> {
    fn parked(&self) -> MutexGuard<'_, BTreeMap<K, Parked<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn park(&self, key: K, since: Duration, state: State<T>) {
        self.parked().insert(key, Parked { since, state });
    }

    /// The answer; `None` while it is late.
    async fn ask(
        &self,
        key: K,
        pass: &Pass<'_>,
        begin: impl FnOnce() -> BoxFuture<'static, Seen<T>>,
    ) -> Option<Seen<T>> {
        let now = pass.clock.monotonic();
        let earlier = self.parked().remove(&key);
        let (since, look, wait) = match earlier.map(|parked| (parked.since, parked.state)) {
            Some((since, State::Answered(answer))) if now.saturating_sub(since) < FRESH => {
                if answer.is_err() {
                    self.park(key, now, State::Failed);
                }
                return Some(answer);
            }
            Some((since, State::UnderWay(look))) => (since, look, Duration::ZERO),
            Some((_, State::Failed)) => (now, begin(), Duration::ZERO),
            Some((_, State::Answered(_))) | None => (now, begin(), pass.settings.step_patience),
        };
        match select(look, pass.clock.sleep(wait)).await {
            Either::Left((answer, _)) => {
                if answer.is_err() {
                    self.park(key, now, State::Failed);
                }
                Some(answer)
            }
            Either::Right(((), look)) => {
                self.park(key, since, State::UnderWay(look));
                None
            }
        }
    }

    fn go_on(&self, context: &mut Context<'_>) {
        for parked in self.parked().values_mut() {
            if let State::UnderWay(look) = &mut parked.state
                && let Poll::Ready(answer) = look.poll_unpin(context)
            {
                parked.state = State::Answered(answer);
            }
        }
    }
}
