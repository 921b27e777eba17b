//! Learning who we are and which regions there are, before a containment needs it, and remembering it.
//!
//! Both are asked of the cloud at every start and every few minutes after, and noted in the store. A
//! daemon that starts while neither can be asked goes by its notes, as `domain::containment::memory`
//! allows; a pass waits a moment for the cloud's own word first, and the coverage says that it did not
//! come.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};

use super::call::{Caller, Failure};
use super::driver::KillSwitch;
use super::settings::KillSettings;
use crate::domain::containment::memory::{Fact, Note, Recalled, noted_regions, recall};
use crate::domain::containment::observed::Identity;
use crate::domain::containment::target::{Guard, Region};

/// How often what is known is asked again: credentials rotate, regions are enabled.
const LEARN_EVERY: Duration = Duration::from_mins(10);

/// How soon what could not be learnt is asked again.
const LEARN_AGAIN: Duration = Duration::from_secs(30);

/// How long a pass that has notes to go by waits for the cloud's own word.
const LIVE_PATIENCE: Duration = Duration::from_secs(2);

/// What this run has learnt.
#[derive(Default)]
pub(super) struct Learnt {
    identity: Mutex<Option<Identity>>,
    /// The enabled regions as last listed, so that the region that lists them does not hide the others.
    regions: Mutex<BTreeSet<Region>>,
    /// What an earlier run noted, once it was looked up. It stays good when the credentials rotate: their
    /// source is the same for as long as the process lives.
    recalled: Mutex<Option<Recalled>>,
}

/// Who we are, as far as a pass may go by it.
#[derive(Debug, Clone)]
pub(super) enum Who {
    Unknown,
    /// The cloud said so, in this run.
    Told(Identity),
    /// An earlier run noted it.
    Remembered(Recalled),
}

impl Who {
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Told(identity) => Some(&identity.account),
            Self::Remembered(recalled) => Some(&recalled.identity.account),
        }
    }

    /// The guard, with who we are (C5).
    pub fn guard(&self, guard: &Guard) -> Guard {
        match self {
            Self::Unknown => guard.clone(),
            Self::Told(identity) => guard.with_principal(&identity.arn),
            Self::Remembered(recalled) => recalled.guard(guard),
        }
    }
}

impl KillSwitch {
    /// Learns, and learns again, without end.
    pub(super) async fn keep_learning(&self) -> Infallible {
        loop {
            let wait = if self.learn().await { LEARN_EVERY } else { LEARN_AGAIN };
            self.clock.sleep(wait).await;
        }
    }

    /// Asks the cloud, and notes what it says. Whether it said everything.
    pub(super) async fn learn(&self) -> bool {
        let settings = self.settings();
        let before = self.mark(&settings).await;
        let told = self.ask_identity(&settings, settings.step_patience).await;
        let listed = self.caller(&settings, settings.step_patience);
        let listed = listed.reach(|| self.cloud.regions()).await;
        let after = self.mark(&settings).await;
        let learnt_at = self.clock.now();
        let mut notes = Vec::new();
        if let Ok(identity) = &told {
            // Whose word it was is certain only if the credentials did not change meanwhile.
            let mark = before.filter(|mark| after.as_ref() == Some(mark));
            *locked(&self.learnt.identity) = Some(identity.clone());
            notes.extend(mark.map(|credentials| Note {
                learnt_at,
                fact: Fact::Identity {
                    identity: identity.clone(),
                    credentials,
                    instances: settings.guard.instances.clone(),
                },
            }));
        }
        if let Ok(regions) = &listed {
            let regions: BTreeSet<Region> = regions.iter().cloned().collect();
            self.set_regions(regions.clone());
            notes.extend(told.as_ref().ok().map(|identity| Note {
                learnt_at,
                fact: Fact::Regions {
                    account: identity.account.clone(),
                    regions,
                },
            }));
        }
        for failure in told.as_ref().err().into_iter().chain(listed.as_ref().err()) {
            tracing::debug!(why = failure.why, "the cloud could not be asked");
        }
        let kept = notes.is_empty() || self.keep(&notes).await;
        kept && told.is_ok() && listed.is_ok()
    }

    async fn keep(&self, notes: &[Note]) -> bool {
        match self.store.remember(notes).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "what was learnt of the cloud could not be noted for the next start");
                false
            }
        }
    }

    /// Who we are. Until it is known no principal and no machine is touched (C5).
    pub(super) async fn who(&self, settings: &KillSettings) -> Who {
        if let Some(identity) = locked(&self.learnt.identity).clone() {
            return Who::Told(identity);
        }
        let recalled = self.recalled(settings).await;
        let patience = match &recalled {
            Some(_) => LIVE_PATIENCE,
            None => settings.step_patience,
        };
        match (self.ask_identity(settings, patience).await, recalled) {
            (Ok(identity), _) => {
                *locked(&self.learnt.identity) = Some(identity.clone());
                Who::Told(identity)
            }
            (Err(failure), Some(recalled)) => {
                tracing::warn!(why = failure.why, "who we are in the cloud is only remembered");
                Who::Remembered(recalled)
            }
            (Err(failure), None) => {
                tracing::warn!(why = failure.why, "who we are in the cloud cannot be learnt");
                Who::Unknown
            }
        }
    }

    /// The enabled regions as last listed, in this run or an earlier one.
    pub(super) async fn known_regions(&self, account: Option<&str>) -> BTreeSet<Region> {
        let known = locked(&self.learnt.regions).clone();
        let Some(account) = account.filter(|_| known.is_empty()) else {
            return known;
        };
        match self.store.remembered().await {
            Ok(notes) => {
                let noted = noted_regions(&notes, account);
                let mut regions = locked(&self.learnt.regions);
                if regions.is_empty() {
                    *regions = noted;
                }
                regions.clone()
            }
            Err(error) => {
                tracing::warn!(%error, "the regions of an earlier run could not be read");
                known
            }
        }
    }

    pub(super) fn set_regions(&self, regions: BTreeSet<Region>) {
        *locked(&self.learnt.regions) = regions;
    }

    /// Notes of an earlier run, if our credentials are those of then.
    async fn recalled(&self, settings: &KillSettings) -> Option<Recalled> {
        if let Some(recalled) = locked(&self.learnt.recalled).clone() {
            return Some(recalled);
        }
        let mark = self.mark(settings).await?;
        match self.store.remembered().await {
            Ok(notes) => {
                let recalled = recall(&notes, &mark)?;
                *locked(&self.learnt.recalled) = Some(recalled.clone());
                Some(recalled)
            }
            Err(error) => {
                tracing::warn!(%error, "what an earlier run learnt of the cloud could not be read");
                None
            }
        }
    }

    async fn ask_identity(&self, settings: &KillSettings, patience: Duration) -> Result<Identity, Failure> {
        let caller = self.caller(settings, patience);
        caller.reach(|| self.cloud.identity()).await
    }

    async fn mark(&self, settings: &KillSettings) -> Option<String> {
        let asked = pin!(self.cloud.credentials_mark());
        match select(asked, self.clock.sleep(settings.call_limit)).await {
            Either::Left((mark, _)) => mark,
            Either::Right(_) => None,
        }
    }

    fn caller(&self, settings: &KillSettings, patience: Duration) -> Caller<'_> {
        Caller {
            clock: &*self.clock,
            entropy: &*self.entropy,
            limit: settings.call_limit.min(patience),
            until: self.clock.monotonic().saturating_add(patience),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
