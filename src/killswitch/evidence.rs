//! What IAM's policy simulation says of principals whose deny was read back: evidence beside the proof.
//!
//! It is asked after a deny is in place, for each principal once in a while, and never stands in a
//! containment's way: a simulation that fails, or that nobody permits, leaves the proof as it is (C3).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::pass::Pass;
use crate::domain::containment::contradicted;
use crate::domain::containment::deny;
use crate::domain::containment::observed::Simulated;
use crate::domain::containment::plan::PrincipalPlan;
use crate::domain::containment::state::StillBurning;
use crate::domain::containment::target::{Principal, Resource};
use crate::domain::id::AgentId;

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(300);

/// One that contradicts the deny is asked for again sooner: the simulation may have been behind.
const DOUBTED: Duration = Duration::from_secs(30);

/// Simulations in flight at once: IAM limits them harder than other reads.
const PARALLEL: usize = 2;

/// Answers by principal; one that could not be asked about is not among them, and is asked about again.
pub(super) type Answers = BTreeMap<Principal, Vec<Simulated>>;

/// The last answers of each agent's principals.
#[derive(Default)]
pub(super) struct Evidence(Mutex<HashMap<AgentId, BTreeMap<Principal, Kept>>>);

struct Kept {
    until: Duration,
    answers: Vec<Simulated>,
}

impl Evidence {
    fn kept(&self) -> MutexGuard<'_, HashMap<AgentId, BTreeMap<Principal, Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fresh(&self, agent: &AgentId, now: Duration) -> Answers {
        let kept = self.kept();
        let of_agent = kept.get(agent).into_iter().flatten();
        let fresh = of_agent.filter(|(_, kept)| now < kept.until);
        fresh
            .map(|(principal, kept)| (principal.clone(), kept.answers.clone()))
            .collect()
    }

    /// Keeps what a sweep has learnt, and forgets what was said of principals that it had to deny anew.
    pub(super) fn keep(&self, agent: &AgentId, plan: &PrincipalPlan, learnt: &Answers, now: Duration) {
        let mut kept = self.kept();
        let of_agent = kept.entry(agent.clone()).or_default();
        for deny in &plan.denies {
            of_agent.remove(&deny.principal);
        }
        for (principal, answers) in learnt {
            let time = if contradicted(principal, answers).is_some() {
                DOUBTED
            } else {
                FRESH
            };
            let until = now.saturating_add(time);
            let answers = answers.clone();
            of_agent.insert(principal.clone(), Kept { until, answers });
        }
    }

    pub(super) fn forget(&self, is_live: impl Fn(&AgentId) -> bool) {
        self.kept().retain(|agent, _| is_live(agent));
    }
}

/// Asks about the principals that are denied now, of whom nothing fresh is known.
pub(super) async fn simulate(pass: &Pass<'_>, known: &Answers, plan: &PrincipalPlan, all: Vec<Principal>) -> Answers {
    let asked = all.into_iter().filter(|principal| {
        let resource = Resource::Principal {
            principal: principal.clone(),
        };
        !known.contains_key(principal) && plan.denied.contains(&resource.to_string())
    });
    let actions: Vec<String> = deny::SIMULATED.iter().map(|&action| action.to_owned()).collect();
    // One try: a simulation that is throttled must not keep the next sweep waiting.
    let caller = pass.caller(Duration::ZERO);
    let calls: Vec<_> = asked
        .map(|principal| {
            let actions = &actions;
            async move {
                match caller.reach(|| pass.cloud.simulate(&principal, actions)).await {
                    Ok(answers) => Some((principal, answers)),
                    Err(failure) => {
                        tracing::debug!(principal = principal.arn(), why = failure.why, "no simulation");
                        None
                    }
                }
            }
        })
        .collect();
    let answers = stream::iter(calls).buffer_unordered(PARALLEL);
    answers.filter_map(async |answer| answer).collect().await
}

/// What the coverage says of them.
pub(super) fn warnings(answers: &Answers) -> impl Iterator<Item = StillBurning> + '_ {
    answers
        .iter()
        .filter_map(|(principal, answers)| contradicted(principal, answers))
}
