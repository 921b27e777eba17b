//! C6 on AWS: the daemon dies at each change that a containment and its reset make, before the change
//! and after it, and the next run ends where an undisturbed one would have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::target::{CloudTargets, Principal, Region};
use backstop::domain::id::AgentId;
use backstop::killswitch::KillSettings;
use futures_util::{StreamExt as _, stream};

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Fault, FaultProxy, Rule};
use crate::harness::fuse::{Blow, Fuse};
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::switch::{ForwardClock, Switch};

const TAG: &str = "backstop:agent";
const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];
const NOBODY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

/// One agent with a role, a user with a key and two machines a region, beside a foreign machine. Each
/// trial has its own, so that all of them share one emulator.
struct Trial<'a> {
    moto: &'a Moto,
    agent: AgentId,
    targets: CloudTargets,
    key: Keys,
}

/// What of it can be seen from outside.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    role_policies: Vec<String>,
    user_policies: Vec<String>,
    key: String,
    owned: BTreeMap<String, usize>,
    foreign: BTreeMap<String, usize>,
}

impl<'a> Trial<'a> {
    async fn new(moto: &'a Moto, name: &str) -> Self {
        let account = Account::new(moto, &Keys::any());
        let role = account.role_trusting("/agents/", name, NOBODY).await;
        let (user, key) = account.user("/agents/", &format!("{name}-bot")).await;
        for region in REGIONS {
            account.instances(region, 2, &[(TAG, name)]).await;
            account.instances(region, 1, &[(TAG, &format!("{name}-foreign"))]).await;
        }
        let targets = CloudTargets {
            account: ACCOUNT.to_owned(),
            principals: vec![Principal::Role(role), Principal::User(user)],
            tags: BTreeMap::from([(TAG.to_owned(), name.to_owned())]),
            regions: REGIONS.map(|name| Region(name.to_owned())).to_vec(),
        };
        Self {
            moto,
            agent: AgentId::new(name).expect("a name"),
            targets,
            key,
        }
    }

    fn cloud(&self) -> Arc<Aws> {
        self.cloud_at(None)
    }

    fn cloud_at(&self, endpoint_url: Option<String>) -> Arc<Aws> {
        let settings = AwsSettings {
            regions: self.targets.regions.clone(),
            endpoint_url,
            ..patient()
        };
        Arc::new(Aws::new(self.moto.sdk(&Keys::any(), REGIONS[0]), settings))
    }

    fn settings(&self) -> KillSettings {
        KillSettings {
            targets: BTreeMap::from([(self.agent.clone(), self.targets.clone())]),
            sweep_spacing: Duration::ZERO,
            call_limit: Duration::from_secs(60),
            step_patience: Duration::from_secs(60),
            ..KillSettings::default()
        }
    }

    async fn seen(&self) -> Seen {
        let account = Account::new(self.moto, &Keys::any());
        let iam = account.iam();
        let name = self.agent.as_str();
        let user = format!("{name}-bot");
        let of_role = iam
            .list_role_policies()
            .role_name(name)
            .send()
            .await
            .expect("ListRolePolicies");
        let of_user = iam
            .list_user_policies()
            .user_name(&user)
            .send()
            .await
            .expect("ListUserPolicies");
        let keys = iam
            .list_access_keys()
            .user_name(&user)
            .send()
            .await
            .expect("ListAccessKeys");
        let key = keys
            .access_key_metadata()
            .iter()
            .find(|one| one.access_key_id() == Some(&self.key.id));
        Seen {
            role_policies: of_role.policy_names,
            user_policies: of_user.policy_names,
            key: key
                .and_then(|one| one.status())
                .map(|status| status.as_str().to_owned())
                .unwrap_or_default(),
            owned: self.states(name).await,
            foreign: self.states(&format!("{name}-foreign")).await,
        }
    }

    /// How many machines with that tag are in each state.
    async fn states(&self, tag: &str) -> BTreeMap<String, usize> {
        let account = Account::new(self.moto, &Keys::any());
        let mut states = BTreeMap::new();
        for region in REGIONS {
            let filter = aws_sdk_ec2::types::Filter::builder()
                .name(format!("tag:{TAG}"))
                .values(tag)
                .build();
            let found = account.ec2(region).describe_instances().filters(filter).send().await;
            let found = found.expect("DescribeInstances");
            for instance in found.reservations().iter().flat_map(|one| one.instances()) {
                let state = instance
                    .state()
                    .and_then(|state| state.name())
                    .map(|name| name.as_str().to_owned());
                *states.entry(state.unwrap_or_default()).or_default() += 1;
            }
        }
        states
    }
}

fn expected(is_contained: bool) -> Seen {
    let policies = |with: bool| {
        let mut names = vec!["work".to_owned()];
        if with {
            names.insert(0, "backstop-deny".to_owned());
        }
        names
    };
    let count = |state: &str, number| BTreeMap::from([(state.to_owned(), number)]);
    Seen {
        role_policies: policies(is_contained),
        user_policies: policies(is_contained),
        key: if is_contained { "Inactive" } else { "Active" }.to_owned(),
        owned: count(if is_contained { "stopped" } else { "running" }, 4),
        foreign: count("running", 2),
    }
}

fn sorted(mut seen: Seen) -> Seen {
    seen.role_policies.sort();
    seen.user_policies.sort();
    seen
}

/// Contains and resets, dying once on the way where `blow` says; how many changes the first run made.
async fn live_and_die(trial: &Trial<'_>, blow: Blow) -> usize {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clock = Arc::new(ForwardClock::default());
    let fuse = Arc::new(Fuse::new(trial.cloud(), blow));
    let start =
        async |cloud| Switch::start(dir.path(), &trial.agent, cloud, Arc::clone(&clock), trial.settings()).await;

    let switch = start(fuse.clone()).await;
    switch.contain().await;
    let undisturbed = async {
        switch.until_contained().await;
        assert_eq!(sorted(trial.seen().await), expected(true), "{blow:?}");
        switch.reset(&[]).await;
        switch.until_reset().await;
    };
    let has_died = tokio::select! {
        () = undisturbed => false,
        () = fuse.blown() => true,
    };
    let mut switch = switch;
    if has_died {
        // Nothing of the first run is left but its store; its lease runs out.
        drop(switch);
        clock.advance(trial_lease(trial));
        switch = start(trial.cloud()).await;
        let live = switch
            .live()
            .await
            .unwrap_or_else(|| panic!("{blow:?}: a containment lives on"));
        if live.restore.is_none() {
            switch.until_contained().await;
            assert_eq!(sorted(trial.seen().await), expected(true), "{blow:?}");
            switch.reset(&[]).await;
        }
        switch.until_reset().await;
    }
    assert_eq!(sorted(trial.seen().await), expected(false), "{blow:?}");
    assert!(
        switch.images().await.is_empty(),
        "{blow:?}: {:#?}",
        switch.images().await
    );
    let state = switch.store.agent(&trial.agent).await.expect("the store reads");
    assert_eq!(state.status, AgentStatus::Active, "{blow:?}");
    fuse.changes()
}

/// Longer than a lease.
fn trial_lease(trial: &Trial<'_>) -> Duration {
    let settings = trial.settings();
    let step = settings.step_patience + settings.call_limit;
    settings.lease_ttl.max(2 * step) + Duration::from_secs(1)
}

#[tokio::test]
async fn a_death_at_any_change_ends_as_no_death() {
    let moto = Moto::start().await;
    let undisturbed = Trial::new(&moto, "undisturbed").await;
    let changes = live_and_die(&undisturbed, Blow::Never).await;
    // Two denies, a key, two regions to stop; and all of it back.
    assert_eq!(changes, 10);
    let deaths = (1..=changes).flat_map(|number| {
        [("before", Blow::Before(number)), ("after", Blow::After(number))].map(|(name, blow)| (number, name, blow))
    });
    let trials = deaths.map(|(number, name, blow)| {
        let moto = &moto;
        async move {
            let trial = Trial::new(moto, &format!("dies-{name}-{number}")).await;
            let made = live_and_die(&trial, blow).await;
            // Others that were under way at that moment may have been counted too.
            assert!(made >= number, "{blow:?}: only {made} changes, so it did not die");
        }
    });
    let done = stream::iter(trials).buffer_unordered(4).count().await;
    assert_eq!(done, 2 * changes);
}

/// Every change meets the same fault once, and the containment and its reset end as if none had been. A
/// reply that is lost is the hard one: the machine has stopped, and a reset must still know that by whom.
#[tokio::test]
async fn a_fault_at_every_change_ends_as_no_fault() {
    let moto = Moto::start().await;
    let faults = [
        ("lost", Fault::LoseReply),
        ("reset", Fault::Reset),
        ("broken", Fault::Html(500)),
        ("throttled", Fault::throttle()),
    ];
    let trials = faults.into_iter().map(|(name, fault)| {
        let moto = &moto;
        async move {
            let trial = Trial::new(moto, name).await;
            let proxy = FaultProxy::start(moto.endpoint()).await;
            let changes = [
                "PutRolePolicy",
                "PutUserPolicy",
                "UpdateAccessKey",
                "StopInstances",
                "StartInstances",
                "DeleteRolePolicy",
                "DeleteUserPolicy",
            ];
            for action in changes {
                proxy.inject(Rule::on(action, fault.clone()).times(1));
            }
            let dir = tempfile::tempdir().expect("a temporary directory");
            let clock = Arc::new(ForwardClock::default());
            let cloud = trial.cloud_at(Some(proxy.endpoint()));
            let switch = Switch::start(dir.path(), &trial.agent, cloud, clock, trial.settings()).await;
            switch.contain().await;
            switch.until_contained().await;
            assert_eq!(sorted(trial.seen().await), expected(true), "{name}");
            switch.reset(&[]).await;
            switch.until_reset().await;
            assert_eq!(sorted(trial.seen().await), expected(false), "{name}");
            assert!(switch.images().await.is_empty(), "{name}: {:#?}", switch.images().await);
            let asked = proxy.take_asked();
            for action in changes {
                assert!(
                    asked.iter().any(|one| one.action == action),
                    "{name}: {action} met no fault"
                );
            }
        }
    });
    let done = stream::iter(trials).buffer_unordered(4).count().await;
    assert_eq!(done, 4);
}
