//! Learning what the looks need: the account, its regions, and the agents' instance profiles.
//!
//! The kill switch notes who we are and which regions there are; while the cloud does not say it, the
//! watcher goes by those notes, so that it begins although STS or the home region is down.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt as _};

use super::Fleet;
use crate::domain::containment::deny;
use crate::domain::containment::memory::{noted_regions, recall};
use crate::domain::containment::target::{Principal, Region};
use crate::domain::id::AgentId;
use crate::ports::CloudError;

/// Principals that are asked about at once: IAM's rate limit is one for the whole account.
const PRINCIPALS_AT_ONCE: usize = 2;

impl Fleet {
    /// A call with a time limit; what went wrong, for a person.
    pub(super) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, String> {
        self.within_limit(self.settings().call_limit, call).await
    }

    /// The same with a limit of its own.
    pub(super) async fn within_limit<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, CloudError>> + Send,
    ) -> Result<T, String> {
        match select(pin!(call), self.clock.sleep(limit)).await {
            Either::Left((answer, _)) => answer.map_err(|error| text_of(&error)),
            Either::Right(((), _)) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    /// The account that our credentials are for.
    pub(super) async fn find_account(&self) -> Result<String, String> {
        let why = match self.within(self.cloud.identity()).await {
            Ok(identity) => return Ok(identity.account),
            Err(why) => why,
        };
        let mark = self.cloud.credentials_mark().await;
        let notes = self.store.remembered().await.unwrap_or_default();
        let recalled = mark.and_then(|mark| recall(&notes, &mark));
        recalled.map(|recalled| recalled.identity.account).ok_or(why)
    }

    pub(super) async fn keep_learning(&self, account: &str) -> Infallible {
        loop {
            let all = self.learn(account).await;
            let settings = self.settings();
            let wait = if all {
                settings.learn_every
            } else {
                settings.learn_again
            };
            tokio::select! {
                biased;
                () = self.learn_now.notified() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Whether everything could be asked.
    async fn learn(&self, account: &str) -> bool {
        let regions = self.learn_regions(account).await;
        let profiles = self.learn_profiles().await;
        let noted = match self.store.creations(account, jiff::Timestamp::MIN).await {
            Ok(creations) => {
                // Added to what is known: what is being read meanwhile may be newer than this.
                let mut state = self.state();
                for creation in &creations {
                    state.makers.note(creation);
                }
                drop(state);
                self.tell_creators(true);
                true
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "the noted creations cannot be read");
                false
            }
        };
        regions && profiles && noted
    }

    async fn learn_regions(&self, account: &str) -> bool {
        let settings = self.settings();
        let declared = settings.targets.values().filter(|targets| targets.account == account);
        let mut wanted: BTreeSet<Region> = declared.flat_map(|targets| targets.regions.iter().cloned()).collect();
        let listed = self.within(self.cloud.regions()).await;
        let now = self.now();
        let all = listed.is_ok();
        match listed {
            Ok(listed) => {
                wanted.extend(listed);
                self.state().note_trouble("regions", None, now);
            }
            Err(why) => {
                self.state().note_trouble("regions", Some(why), now);
                // What was watched is watched on, and at first what an earlier run noted.
                wanted.extend(self.state().wanted.iter().cloned());
                if let Ok(notes) = self.store.remembered().await {
                    wanted.extend(noted_regions(&notes, account));
                }
            }
        }
        let mut state = self.state();
        if state.wanted != wanted || (all && !state.listed) {
            state.wanted = wanted;
            state.listed |= all;
            drop(state);
            self.regions_changed.notify_one();
        }
        all
    }

    /// What carries an agent's role is the agent's. A principal that cannot be asked about keeps what is
    /// known of it, so that a blind moment of IAM makes no orphans.
    async fn learn_profiles(&self) -> bool {
        let settings = self.settings();
        let roles = settings.targets.iter().flat_map(|(agent, targets)| {
            let roles = targets
                .principals
                .iter()
                .filter(|one| matches!(one, Principal::Role(_)));
            roles.map(move |role| (agent.clone(), role.clone()))
        });
        let asked = stream::iter(roles.collect::<Vec<_>>()).map(|(agent, role)| async move {
            let seen = self.within(self.cloud.principal(&role, deny::POLICY_NAME)).await;
            (agent, role, seen)
        });
        let asked: Vec<_> = asked.buffer_unordered(PRINCIPALS_AT_ONCE).collect().await;
        let mut found: BTreeMap<AgentId, BTreeSet<String>> = BTreeMap::new();
        let (mut blind, mut why) = (BTreeSet::new(), None);
        for (agent, role, seen) in asked {
            let profiles = found.entry(agent.clone()).or_default();
            match seen {
                Ok(seen) => {
                    profiles.extend(seen.profile_arns);
                    if let Some(unseen) = seen.profiles_unseen {
                        why = Some(format!("{}: {}", role.arn(), unseen.why));
                        blind.insert(agent);
                    }
                }
                Err(error) => {
                    why = Some(format!("{}: {error}", role.arn()));
                    blind.insert(agent);
                }
            }
        }
        let now = self.now();
        let mut state = self.state();
        for agent in blind {
            let known = state.profiles.get(&agent).cloned().unwrap_or_default();
            found.entry(agent).or_default().extend(known);
        }
        state.profiles = found;
        let all = why.is_none();
        state.note_trouble("principals", why, now);
        all
    }
}

/// An error with its causes, in one line.
pub(super) fn text_of(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
