//! The doctor: looks at everything that a containment needs of the cloud, before it is needed.
//!
//! It looks as whoever has the daemon's credentials, through the same port, so that what it says is what the
//! kill switch will meet. So the daemon itself examines its cloud when an operator asks: another
//! process, under another user, has other credentials, another network and another clock, and could be
//! content where the daemon is not. A command examines on its own only where no daemon answers, and
//! then says whose credentials it had, or, with a role named, whose policies it looked at.
//!
//! - `places`: the clock, the regions, whether the services answer there;
//! - `rights`: every permission of the one table, by IAM's own simulation; where that is not to be had, by
//!   what can be tried without harm. And what the guard may that it should not;
//! - `people`: whether the agents' principals are there, bounded, and no way to the guard;
//! - `machines`: whether a real machine could be stopped (EC2 DryRun), which knows what a simulation does not.
//!
//! What it must never do is change anything: it only reads, simulates and dry-runs, which a test shows by
//! what was sent. Every call has a limit, and so has the whole; what was not answered in time is *not
//! checked* or a failure, never *ok*. One examination at a time, and few calls at once: IAM's rate limit is one for
//! the account, and a containment may need it in that very moment.

mod machines;
mod people;
mod places;
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Mutex;

use crate::domain::containment::observed::Identity;
use crate::domain::containment::target::{CloudTargets, Guard, Principal, Region};
use crate::domain::doctor::agents::{self, Declared};
use crate::domain::doctor::questions::Basis;
use crate::domain::doctor::{Finding, Report, Subject, excess};
use crate::domain::iam::{Choice, Scope};
use crate::domain::id::AgentId;
use crate::ports::{Clock, Cloud, CloudError, Retry};

/// One call, with its repetitions.
const CALL_LIMIT: Duration = Duration::from_secs(25);

/// All calls of one part.
const PART_LIMIT: Duration = Duration::from_secs(90);

/// Asked when no agent and no setting names a region.
const SOME_REGION: &str = "us-east-1";

/// What is examined.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Whether the daemon may act on AWS at all.
    pub enabled: bool,
    /// The cloud side of each agent that has one; empty regions mean every enabled region.
    pub targets: BTreeMap<AgentId, CloudTargets>,
    /// Agents that declare none.
    pub without: Vec<AgentId>,
    pub guard: Guard,
    pub terminate_unstoppable: bool,
    /// Whose policies to look at instead of those of the credentials: the ARN of a role or user.
    pub about: Option<String>,
}

/// Tells how far it is, for who waits.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

pub struct Doctor {
    cloud: Arc<dyn Cloud>,
    clock: Arc<dyn Clock>,
    one_at_a_time: Mutex<()>,
}

/// Who was found to ask, and about whom.
struct Who {
    identity: Identity,
    about: Principal,
    basis: Basis,
    regions: Result<Vec<Region>, CloudError>,
}

impl Doctor {
    pub fn new(cloud: Arc<dyn Cloud>, clock: Arc<dyn Clock>) -> Self {
        Self {
            cloud,
            clock,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Looks at everything. It ends, whatever the cloud does.
    pub async fn examine(&self, case: &Case, tell: Tell<'_>) -> Report {
        let _turn = self.one_at_a_time.lock().await;
        let declared = Declared {
            targets: &case.targets,
            without: &case.without,
            guard: &case.guard,
        };
        if !case.enabled {
            let mut findings = vec![disabled(case)];
            findings.extend(agents::findings(declared, None));
            return Report {
                subject: None,
                findings,
            };
        }
        tell("asking AWS who we are");
        let identity = match self.within(self.cloud.identity()).await {
            Ok(identity) => identity,
            Err(error) => return self.nobody(case, declared, &error).await,
        };
        let mut findings = vec![Finding::ok(
            "identity",
            format!(
                "AWS answers, and knows us as {} in account {}",
                identity.arn, identity.account
            ),
        )];
        let about = case.about.as_ref().unwrap_or(&identity.arn);
        let subject = Subject {
            asked_as: identity.arn.clone(),
            about: about.clone(),
        };
        let principal = principal_of(about);
        findings.extend(excess::place_finding(about).filter(|_| principal.is_some()));
        findings.extend(agents::findings(declared, Some(&identity)));
        let Some(about) = principal else {
            findings.push(not_a_principal(about));
            findings.extend(self.part(self.clock_of_cloud(&SOME_REGION.into())).await);
            return Report {
                subject: Some(subject),
                findings,
            };
        };
        let who = self.who(case, identity, about).await;
        let (regions, near) = (&who.regions, &who.basis.region);
        let count = regions.as_ref().map_or(1, Vec::len);
        tell(&format!("asking whether the services answer, regions: {count}"));
        tell("asking IAM what the daemon and its agents may do");
        // One after the other, but for what asks different services: a containment asks there too.
        let (clock, places, rights) = tokio::join!(
            self.part(self.clock_of_cloud(near)),
            self.part(self.places(regions, near)),
            self.part(self.rights(case, &who)),
        );
        tell("looking at the agents' roles and users");
        let people = self.part(self.people(&who)).await;
        let machines = self.part(self.machines(case, &who)).await;
        for part in [clock, places, rights, people, machines] {
            findings.extend(part);
        }
        Report {
            subject: Some(subject),
            findings,
        }
    }

    /// Without credentials that AWS knows, nothing of it can be asked. But the date of its refusal may say why.
    async fn nobody(&self, case: &Case, declared: Declared<'_>, error: &CloudError) -> Report {
        let todo = "give the daemon credentials in one of the usual AWS places: an instance's role, or an AWS \
                    credentials file as its unit describes";
        let mut findings = vec![Finding::fail(
            "identity",
            format!("AWS does not say who we are: {error}"),
            todo,
        )];
        findings.extend(agents::findings(declared, None));
        let region = self.near(case, &[]);
        findings.extend(self.part(self.clock_of_cloud(&region)).await);
        let rest = "without credentials that AWS knows, nothing else can be asked of it";
        findings.push(Finding::not_checked("permissions", rest));
        Report {
            subject: None,
            findings,
        }
    }

    async fn who(&self, case: &Case, identity: Identity, about: Principal) -> Who {
        let here = |targets: &&CloudTargets| targets.account == identity.account;
        let ours: Vec<&CloudTargets> = case.targets.values().filter(here).collect();
        let all_enabled = ours.is_empty() || ours.iter().any(|targets| targets.regions.is_empty());
        let mut regions: BTreeSet<Region> = ours.iter().flat_map(|targets| targets.regions.clone()).collect();
        let regions = if all_enabled {
            let listed = self.within(self.cloud.regions()).await;
            listed.map(|listed| {
                regions.extend(listed);
                regions.into_iter().collect()
            })
        } else {
            Ok(regions.into_iter().collect::<Vec<_>>())
        };
        let region = self.near(case, regions.as_deref().unwrap_or_default());
        let mut choices = Vec::new();
        if case.terminate_unstoppable {
            choices.push(Choice::TerminateUnstoppable);
        }
        let mut parts = identity.arn.split(':');
        let scope = Scope {
            partition: parts.nth(1).unwrap_or("aws").to_owned(),
            account: identity.account.clone(),
            choices,
            ..Scope::default()
        };
        let agents = case.targets.iter().filter(|(_, targets)| here(targets));
        let basis = Basis {
            scope,
            guard: about.arn().to_owned(),
            region,
            agents: agents
                .map(|(agent, targets)| (agent.clone(), targets.clone()))
                .collect(),
        };
        Who {
            identity,
            about,
            basis,
            regions,
        }
    }

    /// A region in which something of ours may be.
    fn near(&self, case: &Case, regions: &[Region]) -> Region {
        let declared = case.targets.values().flat_map(|targets| &targets.regions);
        let mut all = declared.chain(regions);
        all.next().cloned().unwrap_or_else(|| SOME_REGION.into())
    }

    /// A call with a time limit.
    async fn within<T>(&self, call: impl Future<Output = Result<T, CloudError>> + Send) -> Result<T, CloudError> {
        match select(pin!(call), self.clock.sleep(CALL_LIMIT)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(CloudError {
                operation: "a call",
                region: None,
                code: None,
                message: format!("no answer within {} s", CALL_LIMIT.as_secs()),
                retry: Retry::Transient,
                source: None,
            }),
        }
    }

    /// A part of the examination with a time limit.
    async fn part(&self, part: impl Future<Output = Vec<Finding>> + Send) -> Vec<Finding> {
        match select(pin!(part), self.clock.sleep(PART_LIMIT)).await {
            Either::Left((findings, _)) => findings,
            Either::Right(((), _)) => vec![Finding::fail(
                "time",
                format!(
                    "a part of the examination did not end within {} s",
                    PART_LIMIT.as_secs()
                ),
                "look at the log for calls that hang, and at the network between here and AWS",
            )],
        }
    }
}

impl From<&str> for Region {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

fn disabled(case: &Case) -> Finding {
    let why = "aws.enabled is false, so nothing of AWS was asked";
    if case.targets.is_empty() {
        return Finding::not_checked("cloud", why);
    }
    let todo = "set aws.enabled = true; to look before that: BACKSTOP__AWS__ENABLED=true backstop doctor --local";
    let found = format!("{why}; of the agents that declare a cloud side, that side goes on burning");
    Finding::warn("cloud", found, todo)
}

/// A role or user, of which alone policies can be simulated.
fn principal_of(arn: &str) -> Option<Principal> {
    let mut parts = arn.splitn(6, ':');
    let (service, rest) = (parts.nth(2)?, parts.nth(2)?);
    match (service, rest.split_once('/')?.0) {
        ("iam", "role") => Some(Principal::Role(arn.to_owned())),
        ("iam", "user") => Some(Principal::User(arn.to_owned())),
        _ => None,
    }
}

fn not_a_principal(about: &str) -> Finding {
    if about.ends_with(":root") {
        let found = format!("the credentials are those of {about}, the account's own root, which nothing limits");
        let todo = "let the daemon run as the role that `backstop aws policy guard` is for, and delete the root's keys";
        return Finding::fail("permissions", found, todo);
    }
    Finding::not_checked(
        "permissions",
        format!("{about} is no role and no user, and only the policies of those can be simulated"),
    )
}

/// Some calls at once; their answers in the order of the calls.
async fn some_at_once<F: Future>(calls: impl IntoIterator<Item = F>, most: usize) -> Vec<F::Output> {
    let calls: Vec<F> = calls.into_iter().collect();
    stream::iter(calls).buffered(most).collect().await
}

/// Whether AWS said that we may not.
fn is_denied(error: &CloudError) -> bool {
    let denied = [
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "AuthorizationError",
    ];
    error.code.as_deref().is_some_and(|code| denied.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roles_and_users_have_policies() {
        let arn = |rest: &str| format!("arn:aws:{rest}");
        assert!(matches!(
            principal_of(&arn("iam::123456789012:role/backstop/guard")),
            Some(Principal::Role(_))
        ));
        assert!(matches!(
            principal_of(&arn("iam::123456789012:user/u")),
            Some(Principal::User(_))
        ));
        for other in [
            "iam::123456789012:root",
            "iam::123456789012:group/g",
            "sts::123456789012:assumed-role/guard/s",
            "sts::123456789012:federated-user/u",
            "",
        ] {
            assert_eq!(principal_of(&arn(other)), None, "{other}");
        }
        assert_eq!(principal_of("nonsense"), None);
    }
}
