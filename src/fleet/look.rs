//! Looking at one region, on its own clock: a slow or dead one holds back no other. The same goes for the kinds
//! in it: each poll begins a look at every kind that is not still being looked at, and waits for none.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, Semaphore};

use super::Fleet;
use super::state::{Look, Mistagged, Taken};
use crate::domain::containment::observed::Instance;
use crate::domain::containment::target::{CloudTargets, Region};
use crate::domain::fleet::asset::{Asset, AssetRef, Kind};
use crate::domain::fleet::owner::{Claim, Owners};
use crate::domain::id::AgentId;
use crate::domain::money::Usd;
use crate::ports::{InstanceFilter, Notice, NoticeKind};

/// Assets that one notice names; of the others it says how many there are.
const NAMED: usize = 5;

impl Fleet {
    /// Looks at a region again and again, and reads who made what in it.
    pub(super) async fn watch_region(&self, region: &Region) {
        let look_now = Notify::new();
        tokio::select! {
            never = self.keep_looking(region, &look_now) => match never {},
            never = self.keep_reading(region, &look_now) => match never {},
        }
    }

    /// What has answered within the patience is taken in together, because a child's owner may be its parent's;
    /// what is later is taken in when it comes, and by the next poll nobody waits for it.
    async fn keep_looking(&self, region: &Region, look_now: &Notify) -> Infallible {
        let lanes = Semaphore::new(self.settings().concurrent.max(1));
        let mut looks = FuturesUnordered::new();
        let mut under_way: BTreeSet<Kind> = BTreeSet::new();
        loop {
            let settings = self.settings();
            let mut awaited = BTreeSet::new();
            for kind in std::iter::once(Kind::INSTANCE).chain(self.cloud.kinds()) {
                if under_way.insert(kind.clone()) {
                    awaited.insert(kind.clone());
                    looks.push(self.list(region, kind, &lanes));
                }
            }
            let mut patience = pin!(self.clock.sleep(settings.patience));
            let mut poll = pin!(self.clock.sleep(settings.poll_every));
            let mut together = Some(Vec::new());
            // Whoever is to look at once waits for what was just begun, and no longer than the patience.
            loop {
                if awaited.is_empty()
                    && let Some(together) = together.take()
                {
                    self.take_in(region, together).await;
                }
                tokio::select! {
                    biased;
                    Some(look) = looks.next(), if !looks.is_empty() => {
                        under_way.remove(&look.kind);
                        awaited.remove(&look.kind);
                        match &mut together {
                            Some(together) => together.push(look),
                            None => self.take_in(region, vec![look]).await,
                        }
                    }
                    () = &mut patience, if together.is_some() => {
                        if let Some(together) = together.take() {
                            self.take_in(region, together).await;
                        }
                    }
                    () = look_now.notified(), if together.is_none() => break,
                    () = &mut poll => break,
                }
            }
            if let Some(together) = together {
                self.take_in(region, together).await;
            }
        }
    }

    async fn list(&self, region: &Region, kind: Kind, lanes: &Semaphore) -> Look {
        let listed: Result<Vec<Asset>, String> = if kind == Kind::INSTANCE {
            // Machines wait for no lane: they are what a limit is exceeded with in seconds.
            let listed = self.within(self.cloud.instances(region, &InstanceFilter::All)).await;
            listed.map(|instances| instances.iter().map(Instance::to_asset).collect())
        } else {
            // The lanes are never closed; without one it would only be less polite.
            let _lane = lanes.acquire().await.ok();
            let limit = self.settings().listing_limit;
            self.within_limit(limit, self.cloud.assets(region, &kind)).await
        };
        let result = if listed.is_ok() { "seen" } else { "failed" };
        metrics::counter!("backstop_fleet_looks_total", "result" => result).increment(1);
        if let Err(why) = &listed {
            tracing::debug!(%region, %kind, why, "a look at the fleet failed; what was there goes on being charged");
        }
        Look {
            kind,
            // After the answer: what it does not show has cost something up to now at the most.
            at: self.now(),
            listed,
        }
    }

    async fn take_in(&self, region: &Region, looks: Vec<Look>) {
        if looks.is_empty() {
            return;
        }
        let owners = self.owners();
        let notice = self.settings().orphan_notice;
        let taken = self.state().take_in(region, looks, &owners, notice);
        let Taken {
            rose,
            changed,
            orphans,
            mistagged,
            blind,
            seeing,
        } = taken;
        // Also for what people were told of: after a restart it is known by the book.
        if changed || !mistagged.is_empty() {
            self.publish();
            self.save_now.notify_one();
        }
        self.tell_orphans(region, &orphans);
        self.tell_mistagged(region, &mistagged);
        self.tell_blind(region, &blind, &seeing);
        if rose {
            self.foresee().await;
        }
    }

    /// What every agent may be known by, now.
    fn owners(&self) -> Owners {
        let settings = self.settings();
        let state = self.state();
        let claim = |(agent, targets): (&AgentId, &CloudTargets)| Claim {
            agent: agent.clone(),
            targets: targets.clone(),
            profiles: state.profiles.get(agent).cloned().unwrap_or_default(),
        };
        Owners::new(settings.targets.iter().map(claim).collect())
    }

    fn tell_mistagged(&self, region: &Region, mistagged: &[Mistagged]) {
        let mut between: BTreeMap<(&AgentId, &AgentId), Vec<&AssetRef>> = BTreeMap::new();
        for one in mistagged {
            between.entry((&one.charged, &one.tagged)).or_default().push(&one.what);
        }
        for ((charged, tagged), assets) in between {
            let names = named(assets.into_iter());
            let text = format!(
                "{names} in {region} carry the tag of {tagged}, but by the cloud's own word {charged} made them or they \
                 act with its role: {charged} is charged for them"
            );
            self.notifier.notify(Notice {
                kind: NoticeKind::Alert,
                agent: Some(charged.clone()),
                text,
                at: self.now(),
            });
        }
    }

    /// Once for each time that a kind cannot be looked at any more, and once when it can again.
    fn tell_blind(&self, region: &Region, blind: &[(Kind, String)], seeing: &[Kind]) {
        let names = |kinds: Vec<String>| kinds.join(", ");
        let mut texts = Vec::new();
        if let Some((_, why)) = blind.first() {
            let kinds = names(blind.iter().map(|(kind, _)| kind.to_string()).collect());
            texts.push(format!(
                "nothing is seen of {kinds} in {region} any more; what was there goes on being charged, and what is \
                 new is missed: {why}"
            ));
        }
        if !seeing.is_empty() {
            let kinds = names(seeing.iter().map(ToString::to_string).collect());
            texts.push(format!("{kinds} in {region} can be looked at again"));
        }
        for text in texts {
            self.notifier.notify(Notice {
                kind: NoticeKind::Alert,
                agent: None,
                text,
                at: self.now(),
            });
        }
    }

    fn tell_orphans(&self, region: &Region, orphans: &[(AssetRef, Usd)]) {
        if orphans.is_empty() {
            return;
        }
        let sum = orphans.iter().fold(Usd::ZERO, |sum, (_, usd)| sum.saturating_add(*usd));
        let names = named(orphans.iter().map(|(what, _)| what));
        let text = format!(
            "nobody is known to own {names} in {region}, at ${sum} an hour; whoever made it may show within minutes"
        );
        self.notifier.notify(Notice {
            kind: NoticeKind::Alert,
            agent: None,
            text,
            at: self.now(),
        });
    }
}

/// The first few, and how many more there are.
fn named<'a>(assets: impl ExactSizeIterator<Item = &'a AssetRef>) -> String {
    let more = assets.len().saturating_sub(NAMED);
    let mut names = assets
        .take(NAMED)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    names
}
