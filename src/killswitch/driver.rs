//! The driver: finds the containments that live, and drives each in passes under a lease (C2, C6).
//!
//! It takes no orders. What is to be done stands in the store, so a restarted daemon, or a second one,
//! goes on where the last one stopped; a poke only makes it look sooner.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, join};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::agenda::{Agenda, Next, Passed};
use super::creators::Creators;
use super::drill::Stages;
use super::evidence::Evidence;
use super::late::Looks;
use super::learn::{Learnt, Who};
use super::pass::{Pass, PassError, fenced};
use super::settings::KillSettings;
use super::sweep::{Known, Swept, next_in, sweep};
use super::{restoring, sweep as sweeping, tell};
use crate::domain::containment::canary;
use crate::domain::containment::image::BeforeImage;
use crate::domain::containment::plan::{Marks, Others};
use crate::domain::containment::state::{Containment, Phase};
use crate::domain::containment::target::{CloudTargets, Principal};
use crate::domain::fleet::price::FleetPrices;
use crate::domain::id::{AgentId, ContainmentId, EpochId};
use crate::domain::review::{Question, Review};
use crate::ports::{Clock, Cloud, Entropy, Judgement, Lease, Notifier, Store};

/// Reviews of one agent that are read at most in a pass.
const REVIEWS: u32 = 10_000;

/// How long an answer to who trusts the agent's principals is good for. It takes the largest read of a
/// sweep, IAM's rate limit is one for the whole account and the denies need it more; and what it finds
/// only tells people where to look.
const TRUST_FRESH: Duration = Duration::from_mins(5);

/// Who trusts an agent's principals, and until when that is believed.
struct Trusting {
    until: Duration,
    principals: BTreeSet<Principal>,
    roles: Vec<String>,
}

/// The kill switch. One for each daemon; it shares everything it is given.
pub struct KillSwitch {
    pub(super) store: Arc<dyn Store>,
    pub(super) cloud: Arc<dyn Cloud>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) learnt: Learnt,
    creators: Arc<Creators>,
    pub(super) prices: Arc<ArcSwap<FleetPrices>>,
    settings: Arc<ArcSwap<KillSettings>>,
    notifier: Arc<dyn Notifier>,
    /// Our name on leases.
    holder: String,
    poke: Notify,
    /// Instance profiles as last seen, so that a blind moment of IAM does not hide machines.
    profiles: Mutex<HashMap<AgentId, BTreeSet<String>>>,
    trusting: Mutex<HashMap<AgentId, Trusting>>,
    evidence: Evidence,
    looks: Arc<Looks>,
    /// What people were told to be burning, so that each thing is told once.
    told: Mutex<HashMap<ContainmentId, BTreeSet<String>>>,
    pub(super) stages: Stages,
    /// The leases of passes that are under way.
    leases: Mutex<HashMap<ContainmentId, Lease>>,
}

impl KillSwitch {
    pub fn new(
        store: Arc<dyn Store>,
        cloud: Arc<dyn Cloud>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: Arc<ArcSwap<KillSettings>>,
        notifier: Arc<dyn Notifier>,
    ) -> Self {
        let holder = entropy.id(clock.now()).to_string();
        let looks = Looks::new(cloud.clone(), clock.clone(), entropy.clone());
        Self {
            looks: Arc::new(looks),
            store,
            cloud,
            clock,
            entropy,
            learnt: Learnt::default(),
            creators: Arc::default(),
            prices: Arc::default(),
            settings,
            notifier,
            holder,
            poke: Notify::new(),
            profiles: Mutex::new(HashMap::new()),
            trusting: Mutex::new(HashMap::new()),
            evidence: Evidence::default(),
            told: Mutex::new(HashMap::new()),
            stages: Stages::default(),
            leases: Mutex::new(HashMap::new()),
        }
    }

    /// Ties our leases to the epoch that this process lives in: when that is found dead, whoever comes
    /// next takes them over at once (C6).
    #[must_use]
    pub fn in_epoch(mut self, epoch: EpochId) -> Self {
        self.holder = Lease::holder_in(epoch);
        self
    }

    /// Where it reads who made what.
    #[must_use]
    pub fn with_creators(mut self, creators: Arc<Creators>) -> Self {
        self.creators = creators;
        self
    }

    /// By which prices it tells what things cost; built-in ones otherwise.
    #[must_use]
    pub fn with_prices(mut self, prices: Arc<ArcSwap<FleetPrices>>) -> Self {
        self.prices = prices;
        self
    }

    /// Makes the driver look now: a containment was opened, or a reset or decision was written.
    pub fn poke(&self) {
        self.poke.notify_one();
    }

    pub fn settings(&self) -> Arc<KillSettings> {
        self.settings.load_full()
    }

    /// Drives every live containment until the shutdown, and learns meanwhile what the next one needs of
    /// the cloud. A pass that the shutdown cuts short is taken
    /// up by the next run, as after a crash; only its lease is given back, so that nobody waits for it.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut passes: FuturesUnordered<BoxFuture<'_, (ContainmentId, Passed)>> = FuturesUnordered::new();
        let mut agenda = Agenda::default();
        let mut background = pin!(self.keep_on());
        'run: while !shutdown.is_cancelled() {
            let settings = self.settings();
            let mut read = self.store.live_containments();
            // The passes go on meanwhile: one of them may hold what the store is waiting for.
            let live = loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => break 'run,
                    live = &mut read => break live,
                    Some((id, passed)) = passes.next(), if !passes.is_empty() => {
                        agenda.ended(id, passed, &settings, self.clock.monotonic());
                    }
                    () = &mut background => {}
                }
            };
            match live {
                Ok(live) => {
                    self.told().retain(|id, _| live.iter().any(|one| one.id == *id));
                    self.looks.forget(|id| live.iter().any(|one| one.id == *id));
                    self.evidence.forget(|agent| live.iter().any(|one| one.agent == *agent));
                    let room = settings.concurrent.saturating_sub(passes.len());
                    for id in agenda.next(&live, self.clock.monotonic()).into_iter().take(room) {
                        agenda.began(id);
                        passes.push(async move { (id, self.pass_and_log(id).await) }.boxed());
                    }
                }
                Err(error) => tracing::warn!(%error, "the live containments cannot be read"),
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some((id, passed)) = passes.next(), if !passes.is_empty() => {
                    agenda.ended(id, passed, &settings, self.clock.monotonic());
                }
                () = &mut background => {}
                () = self.poke.notified() => agenda.hurry(self.clock.monotonic()),
                () = self.clock.sleep(settings.poll_every) => {}
            }
        }
        drop(passes);
        self.give_back().await;
    }

    /// What goes on beside the passes, without end.
    async fn keep_on(&self) {
        join(self.keep_learning(), self.looks.keep_looking()).await;
    }

    async fn pass_and_log(&self, id: ContainmentId) -> Passed {
        let settings = self.settings();
        let again = |wait| Passed {
            next: Next::After(wait),
            version: None,
        };
        match self.leased(id).await {
            Ok(passed) => passed,
            Err(PassError::LeaseLost) => {
                tracing::debug!(containment = %id, "the pass ended early: the containment or its lease changed hands");
                again(settings.poll_every)
            }
            Err(error) => {
                tracing::warn!(containment = %id, %error, "a pass of the kill switch ended early; it is taken up again");
                again(settings.settle_spacing)
            }
        }
    }

    /// One pass over one containment: a sweep, or a step of its restore.
    pub async fn pass(&self, id: ContainmentId) -> Result<Next, PassError> {
        Ok(self.leased(id).await?.next)
    }

    async fn leased(&self, id: ContainmentId) -> Result<Passed, PassError> {
        let settings = self.settings();
        let name = format!("containment/{id}");
        let ttl = settings.lease_time();
        let Some(lease) = self.store.lease(&name, &self.holder, self.clock.now(), ttl).await? else {
            return Ok(Passed {
                next: Next::Elsewhere,
                version: None,
            });
        };
        self.held().insert(id, lease.clone());
        let result = self.driven(id, settings, lease.clone()).await;
        self.held().remove(&id);
        // A lease that cannot be given back expires.
        if let Err(error) = self.store.release(&lease).await {
            tracing::debug!(%error, "a lease was not given back");
        }
        result
    }

    fn told(&self) -> MutexGuard<'_, HashMap<ContainmentId, BTreeSet<String>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<ContainmentId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back the leases of passes that were cut short.
    async fn give_back(&self) {
        let leases: Vec<Lease> = self.held().drain().map(|(_, lease)| lease).collect();
        for lease in leases {
            if let Err(error) = self.store.release(&lease).await {
                tracing::debug!(%error, "a lease was not given back");
            }
        }
    }

    async fn driven(&self, id: ContainmentId, settings: Arc<KillSettings>, lease: Lease) -> Result<Passed, PassError> {
        let over = Passed {
            next: Next::Over,
            version: None,
        };
        let Some(containment) = self.store.containment(id).await? else {
            return Ok(over);
        };
        if containment.phase == Phase::Closed {
            return Ok(over);
        }
        let mut images = self.store.images(&containment.agent).await?;
        let steps = self.store.steps(id).await?;
        let known = self.known(&settings, &containment).await?;
        let settings = match &containment.canary {
            None => settings,
            Some(canary) => {
                images.retain(|image| canary.covers(&image.resource));
                for_drill(&settings)
            }
        };
        let pass = self.new_pass(settings, containment, images, steps, lease);
        if pass.containment.phase == Phase::Restoring {
            return match restoring::restore(&pass, &known).await? {
                Some(thaw) => {
                    self.write(&pass, thaw).await?;
                    Ok(over)
                }
                None => {
                    self.write(&pass, Judgement::default()).await?;
                    Ok(Passed {
                        next: Next::After(pass.settings.settle_spacing),
                        version: Some(pass.containment.version),
                    })
                }
            };
        }
        let swept = sweep(&pass, &known).await?;
        let put_back = canary::put_back(&swept.containment, pass.now());
        if pass.containment.canary.is_none() {
            self.remember(&pass, &swept);
        }
        let next = match put_back {
            Some(_) => Duration::ZERO,
            None => next_in(&pass, &swept),
        };
        let written = put_back.unwrap_or(swept.containment);
        let version = Some(written.version);
        let judgement = Judgement {
            update: vec![written],
            fold: swept.folded.clone(),
            ..Judgement::default()
        };
        self.write(&pass, judgement).await?;
        self.told().insert(id, swept.told);
        Ok(Passed {
            next: Next::After(next),
            version,
        })
    }

    /// Writes a pass's outcome with what is to be told of it, and tells it once it is written. What was
    /// done stays done and goes into the log even if the outcome is overtaken.
    async fn write(&self, pass: &Pass<'_>, judgement: Judgement) -> Result<(), PassError> {
        let told = pass.take_told();
        let judgement = Judgement {
            reviews: told.reviews,
            // What is written with the outcome comes after what led to it.
            audit: told.audit.into_iter().chain(judgement.audit).collect(),
            ..judgement
        };
        if judgement.is_empty() {
            return Ok(());
        }
        let lease = pass.hold_lease().await?;
        if let Err(error) = fenced(self.store.judge_fenced(&lease, &judgement).await) {
            if matches!(error, PassError::LeaseLost) {
                let done = judgement.audit.iter().filter(|entry| tell::is_a_deed(&entry.action));
                let done: Vec<_> = done.cloned().collect();
                if !done.is_empty() {
                    self.store.append_audit(&done).await?;
                }
            }
            return Err(error);
        }
        if !told.once.is_empty() {
            self.told().entry(pass.containment.id).or_default().extend(told.once);
        }
        for notice in told.notices {
            self.notifier.notify(notice);
        }
        Ok(())
    }

    pub(super) fn new_pass(
        &self,
        settings: Arc<KillSettings>,
        containment: Containment,
        images: Vec<BeforeImage>,
        steps: Vec<crate::domain::containment::state::Step>,
        lease: Lease,
    ) -> Pass<'_> {
        Pass::new(
            &*self.store,
            &*self.cloud,
            &*self.clock,
            &*self.entropy,
            settings,
            containment,
            images,
            steps,
            lease,
        )
    }

    fn remember(&self, pass: &Pass<'_>, swept: &Swept) {
        if let Some((principals, roles)) = swept.trusting.clone() {
            let trusting = Trusting {
                until: self.clock.monotonic().saturating_add(TRUST_FRESH),
                principals,
                roles,
            };
            let mut known = self.trusting.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(pass.containment.agent.clone(), trusting);
        }
        let (agent, now) = (&pass.containment.agent, self.clock.monotonic());
        self.evidence.keep(agent, &swept.plan.principals, &swept.simulated, now);
        if let Some(listed) = &swept.listed {
            self.set_regions(listed.clone());
        }
        if swept.plan.principals.unseen.is_empty() {
            let profiles = swept.plan.principals.profiles.clone();
            let mut known = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(pass.containment.agent.clone(), profiles);
        }
    }

    /// Instance profiles of an agent's roles, as last seen.
    pub(super) fn profiles_of(&self, agent: &AgentId) -> BTreeSet<String> {
        let profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        profiles.get(agent).cloned().unwrap_or_default()
    }

    fn trusting_of(&self, agent: &AgentId) -> Option<(BTreeSet<Principal>, Vec<String>)> {
        let known = self.trusting.lock().unwrap_or_else(PoisonError::into_inner);
        let trusting = known.get(agent).filter(|known| self.clock.monotonic() < known.until)?;
        Some((trusting.principals.clone(), trusting.roles.clone()))
    }

    /// What a pass is told of the world outside its containment.
    pub(super) async fn known(&self, settings: &KillSettings, containment: &Containment) -> Result<Known, PassError> {
        // What it declared when it was first swept is held, whatever a reload took out of the config.
        let targets = match (settings.targets.get(&containment.agent), &containment.targets) {
            (Some(now), Some(earlier)) => now.with_earlier(earlier),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => no_targets(),
        };
        let targets = match &containment.canary {
            Some(canary) => canary.narrow(&targets),
            None => targets,
        };
        let who = self.who(settings).await;
        let regions = self.known_regions(who.account()).await;
        let since = containment.opened_at;
        let reviews = self.store.reviews_of(&containment.agent, since, REVIEWS).await?;
        let (foreign, asked) = foreign_reviews(&reviews, containment);
        let open = reviews.iter().filter(|review| {
            let ends = matches!(
                review.question,
                Question::ForeignMatch { .. } | Question::Contain { .. }
            );
            ends && review.agent == containment.agent && review.decision.is_none()
        });
        let open = open.map(|review| review.id).collect();
        let (created, readings) = self.creators.of(&containment.agent);
        Ok(Known {
            targets,
            declared: settings.targets.get(&containment.agent).cloned(),
            guard: who.guard(&settings.guard),
            account: who.account().map(str::to_owned),
            remembered: match who {
                Who::Remembered(recalled) => Some(recalled),
                Who::Unknown | Who::Told(_) => None,
            },
            profiles: self.profiles_of(&containment.agent),
            trusting: self.trusting_of(&containment.agent),
            simulated: self.evidence.fresh(&containment.agent, self.clock.monotonic()),
            regions,
            looks: self.looks.clone(),
            created,
            readings,
            others: others(settings, &containment.agent),
            prices: self.prices.load_full(),
            foreign,
            asked,
            told: self.told().get(&containment.id).cloned(),
            open,
        })
    }
}

/// The settings as a canary drill takes them: what does not come back is not its to touch.
pub(super) fn for_drill(settings: &KillSettings) -> Arc<KillSettings> {
    let mut settings = settings.clone();
    settings.rules.terminate_unstoppable = false;
    Arc::new(settings)
}

/// What the other agents are known by: what carries a tag of theirs is theirs.
fn others(settings: &KillSettings, agent: &AgentId) -> Others {
    let others = settings.targets.iter().filter(|(name, _)| *name != agent);
    others
        .map(|(name, targets)| {
            let arns = targets.principals.iter().map(|principal| principal.arn().to_owned());
            let marks = Marks {
                tags: targets.tags.clone(),
                principals: arns.collect(),
            };
            (name.clone(), marks)
        })
        .collect()
}

/// An agent that declares nothing in the cloud.
fn no_targets() -> CloudTargets {
    CloudTargets {
        account: String::new(),
        principals: Vec::new(),
        tags: BTreeMap::new(),
        regions: Vec::new(),
    }
}

/// What was decided, and what was asked, about foreign matches of this containment.
fn foreign_reviews(reviews: &[Review], containment: &Containment) -> (BTreeMap<String, bool>, BTreeSet<String>) {
    let mut decided = BTreeMap::new();
    let mut asked = BTreeSet::new();
    for review in reviews {
        let Question::ForeignMatch { resource } = &review.question else {
            continue;
        };
        // A question that was answered in an earlier containment is asked anew; one that is open is not.
        let is_current = review.opened_at >= containment.opened_at;
        if review.agent != containment.agent || (!is_current && review.decision.is_some()) {
            continue;
        }
        asked.insert(resource.clone());
        if let Some(decision) = &review.decision {
            decided.insert(resource.clone(), decision.approved);
        }
    }
    (decided, asked)
}

pub(super) use sweeping::look as look_without_touching;
