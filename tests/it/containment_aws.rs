//! The kill switch on AWS: the real driver, store and SDK, the emulator with IAM enforced, a fleet of
//! 120 owned and 40 foreign machines in two regions, three of which refuse to be stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_iam::types::StatusType;
use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::deny;
use backstop::domain::containment::image::Before;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::target::{CloudTargets, Guard, Principal, Region, Resource};
use backstop::domain::iam::{Choice, Document, Scope};
use backstop::domain::id::AgentId;
use backstop::killswitch::KillSettings;
use backstop::ports::NoticeKind;

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::{Asked, Fault, FaultProxy, Rule};
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::permitted::Facts;
use crate::harness::policy::Policy;
use crate::harness::switch::{ForwardClock, Switch};

const TAG: &str = "backstop:agent";
const AGENT: &str = "support-transcriber";
const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];
/// Enabled, but not declared by the agent.
const OUTSIDE: &str = "eu-west-1";
/// Nobody's agent may assume these; the emulator wants an AWS principal there.
const BY_ADMIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/backstop-test-admin"},"Action":"sts:AssumeRole"}]}"#;

/// The account as it is before anything happens.
struct World {
    moto: Moto,
    admin: Keys,
    daemon: Keys,
    /// Session of the agent's role, issued before.
    session: Keys,
    role: String,
    /// The daemon's own.
    guard: String,
    /// Tags of the machines, by ARN.
    tags: BTreeMap<String, BTreeMap<String, String>>,
    user: String,
    key: Keys,
    sleeping_key: Keys,
    deployer: String,
    /// Running machines of the agent, by region.
    owned: BTreeMap<&'static str, Vec<String>>,
    foreign: BTreeMap<&'static str, Vec<String>>,
    /// The agent's, but stopped by somebody before.
    idle: String,
    /// Tagged as the agent's in a region that it does not declare.
    outside: String,
}

impl World {
    async fn new() -> Self {
        let moto = Moto::start().await;
        let admin = moto.enforce_iam().await;
        let account = Account::new(&moto, &admin);
        let role = account.role_trusting("/agents/", "transcriber", BY_ADMIN).await;
        account.role_trusting("/agents/", "planner", BY_ADMIN).await;
        let trusting = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{role}"}},"Action":"sts:AssumeRole"}}]}}"#
        );
        let deployer = account.role_trusting("/", "deployer", &trusting).await;
        let guard = account.role_trusting("/backstop/", "guard", BY_ADMIN).await;
        let (user, key) = account.user("/agents/", "legacy-bot").await;
        let sleeping_key = account.access_key("legacy-bot").await;
        account
            .set_key("legacy-bot", &sleeping_key.id, StatusType::Inactive)
            .await;
        let ours = account.profile("transcriber", "transcriber").await;
        let theirs = account.profile("planner", "planner").await;

        let mut owned = BTreeMap::new();
        let mut foreign = BTreeMap::new();
        for region in REGIONS {
            let mut mine = account
                .instances(region, 55, &[(TAG, AGENT), ("team", "support")])
                .await;
            mine.extend(account.launch(region, 5, &[("team", "support")], Some(&ours)).await);
            let mut others = account.instances(region, 5, &[]).await;
            others.extend(account.instances(region, 5, &[(TAG, "planner")]).await);
            others.extend(account.instances(region, 3, &[(TAG, "support-transcriber-2")]).await);
            others.extend(account.instances(region, 2, &[("backstop:Agent", AGENT)]).await);
            others.extend(account.launch(region, 5, &[("team", "support")], Some(&theirs)).await);
            owned.insert(region, mine);
            foreign.insert(region, others);
        }
        let idle = account.instances(REGIONS[0], 1, &[(TAG, AGENT)]).await.remove(0);
        let stop = account
            .ec2(REGIONS[0])
            .stop_instances()
            .instance_ids(&idle)
            .send()
            .await;
        stop.expect("StopInstances");
        let outside = account.instances(OUTSIDE, 1, &[(TAG, AGENT)]).await.remove(0);
        let mut tags = BTreeMap::new();
        for region in REGIONS {
            tags.extend(account.tags(region).await);
        }
        Self {
            session: account.session(&role).await,
            daemon: account.session(&guard).await,
            guard,
            tags,
            moto,
            admin,
            role,
            user,
            key,
            sleeping_key,
            deployer,
            owned,
            foreign,
            idle,
            outside,
        }
    }

    fn account(&self) -> Account<'_> {
        Account::new(&self.moto, &self.admin)
    }

    fn settings(&self) -> KillSettings {
        let agent = AgentId::new(AGENT).expect("a name");
        let targets = CloudTargets {
            account: ACCOUNT.to_owned(),
            principals: vec![Principal::Role(self.role.clone()), Principal::User(self.user.clone())],
            tags: BTreeMap::from([(TAG.to_owned(), AGENT.to_owned())]),
            regions: REGIONS.map(|name| Region(name.to_owned())).to_vec(),
        };
        KillSettings {
            targets: BTreeMap::from([(agent, targets)]),
            guard: Guard::default(),
            sweep_spacing: Duration::ZERO,
            // The machine may be building at the same time.
            call_limit: Duration::from_secs(60),
            step_patience: Duration::from_secs(120),
            ..KillSettings::default()
        }
    }

    fn cloud(&self, proxy: &FaultProxy) -> Aws {
        let settings = AwsSettings {
            regions: [REGIONS[0], REGIONS[1], OUTSIDE]
                .map(|name| Region(name.to_owned()))
                .to_vec(),
            endpoint_url: Some(proxy.endpoint()),
            ..patient()
        };
        Aws::new(self.moto.sdk(&self.daemon, REGIONS[0]), settings)
    }

    /// Whether the session that was issued before is still good for anything.
    async fn agent_may_act(&self) -> bool {
        let agent = aws_sdk_ec2::Client::new(&self.moto.sdk(&self.session, REGIONS[0]));
        agent.describe_regions().send().await.is_ok()
    }

    async fn key_status(&self, key: &Keys) -> String {
        let account = self.account();
        let keys = account
            .iam()
            .list_access_keys()
            .user_name("legacy-bot")
            .send()
            .await
            .expect("ListAccessKeys");
        let found = keys
            .access_key_metadata()
            .iter()
            .find(|one| one.access_key_id() == Some(&key.id));
        let status = found.and_then(|one| one.status()).expect("the key is there");
        status.as_str().to_owned()
    }

    /// Machines that run, in the declared regions.
    async fn running(&self) -> BTreeSet<String> {
        let mut running = BTreeSet::new();
        for region in REGIONS {
            let states = self.account().states(region).await;
            running.extend(
                states
                    .into_iter()
                    .filter(|(_, state)| state == "running")
                    .map(|(id, _)| id),
            );
        }
        running
    }

    fn all_owned(&self) -> BTreeSet<String> {
        self.owned.values().flatten().cloned().collect()
    }

    fn all_foreign(&self) -> BTreeSet<String> {
        self.foreign.values().flatten().cloned().collect()
    }

    /// The shipped policy allows every call; without the choice to stop what is untagged, every one but the
    /// stops and starts of the machines that are the agent's by their profile alone.
    fn assert_permitted(&self, asked: &[Asked]) {
        let facts = Facts {
            account: ACCOUNT.to_owned(),
            roles: [self.role.as_str(), &self.guard].map(named).into(),
            users: [self.user.as_str()].map(named).into(),
            tags: self.tags.clone(),
            ..Facts::default()
        };
        let policy = |scope: &Scope| Policy::parse(&Document::Guard.text(scope));
        let wide = Scope {
            choices: vec![Choice::StopUntagged],
            ..Scope::default()
        };
        assert_eq!(facts.refused(&policy(&wide), asked), Vec::new());
        for (action, resource) in facts.refused(&policy(&Scope::default()), asked) {
            let id = resource.rsplit('/').next().unwrap_or_default();
            let is_untagged = self.all_owned().contains(id) && !self.tags[&resource].contains_key(TAG);
            assert!(is_untagged && action.starts_with("ec2:"), "{action} on {resource}");
        }
    }

    /// What was asked of AWS may name nothing that is not the agent's, and change nothing else.
    fn assert_only_ours(&self, asked: &[Asked]) {
        self.assert_permitted(asked);
        let ours = self.all_owned();
        for one in asked {
            match one.action.as_str() {
                "StopInstances" | "StartInstances" => {
                    for id in one.list("InstanceId") {
                        assert!(ours.contains(id), "{} of {id}", one.action);
                    }
                }
                "PutRolePolicy" | "DeleteRolePolicy" => {
                    assert_eq!(one.params["RoleName"], "transcriber");
                    assert_eq!(one.params["PolicyName"], deny::POLICY_NAME);
                }
                "PutUserPolicy" | "DeleteUserPolicy" => {
                    assert_eq!(one.params["UserName"], "legacy-bot");
                    assert_eq!(one.params["PolicyName"], deny::POLICY_NAME);
                }
                "UpdateAccessKey" => assert_eq!(one.params["AccessKeyId"], self.key.id),
                reads => assert!(
                    ["Describe", "Get", "List", "Simulate"]
                        .iter()
                        .any(|verb| reads.starts_with(verb)),
                    "{reads} was asked"
                ),
            }
        }
    }
}

/// A principal's name and ARN.
fn named(arn: &str) -> (String, String) {
    let name = arn.rsplit('/').next().unwrap_or_default();
    (name.to_owned(), arn.to_owned())
}

fn instance(region: &str, id: &str) -> String {
    format!("instance:{region}/{id}")
}

fn first(asked: &[Asked], actions: &[&str]) -> usize {
    let found = asked.iter().position(|one| actions.contains(&one.action.as_str()));
    found.unwrap_or_else(|| panic!("none of {actions:?} was asked"))
}

fn last(asked: &[Asked], actions: &[&str]) -> usize {
    let found = asked.iter().rposition(|one| actions.contains(&one.action.as_str()));
    found.unwrap_or_else(|| panic!("none of {actions:?} was asked"))
}

#[tokio::test]
async fn contain_reset_in_part_contain_again_and_reset() {
    let world = World::new().await;
    let agent = AgentId::new(AGENT).expect("a name");
    let proxy = FaultProxy::start(world.moto.endpoint()).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let clock = Arc::new(ForwardClock::default());
    let cloud = Arc::new(world.cloud(&proxy));
    let switch = Switch::start(dir.path(), &agent, cloud, clock, world.settings()).await;
    let [here, there] = REGIONS;
    let all = world.all_owned();
    let foreign = world.all_foreign();
    assert_eq!((all.len(), foreign.len()), (120, 40));

    // Three that do not stop: one protected for real, one that only the proxy protects, a spot instance.
    let stubborn = [
        (
            here,
            world.owned[here][3].clone(),
            "it is protected against stopping (DisableApiStop)",
        ),
        (there, world.owned[there][7].clone(), "OperationNotPermitted"),
        (there, world.owned[there][57].clone(), "UnsupportedOperation"),
    ];
    world.account().protect(here, &stubborn[0].1, true).await;
    proxy.inject(Rule::on("StopInstances", Fault::protected()).naming(&stubborn[1].1));
    let spot = Fault::Refuse {
        status: 400,
        code: "UnsupportedOperation",
        message: "You can't stop the Spot Instance because it is associated with a one-time Spot Instance request.",
    };
    proxy.inject(Rule::on("StopInstances", spot).naming(&stubborn[2].1));
    let stays: BTreeSet<String> = stubborn.iter().map(|(_, id, _)| id.clone()).collect();
    let stoppable: BTreeSet<String> = all.difference(&stays).cloned().collect();

    // Before: the plan is told, and telling it changes nothing.
    assert!(world.agent_may_act().await);
    let told = switch
        .kill
        .dry_run(&agent, backstop::domain::containment::state::Mode::Contain)
        .await;
    let told = told.expect("a dry run");
    let planned: BTreeSet<String> = told.plan.regions.iter().flat_map(|one| one.stops.concat()).collect();
    assert_eq!(planned, all);
    let asked = proxy.take_asked();
    assert!(
        asked
            .iter()
            .all(|one| one.action != "StopInstances" || one.params["DryRun"] == "true")
    );
    world.assert_only_ours(&asked);
    assert_eq!(world.running().await, all.union(&foreign).cloned().collect());

    // Contain.
    switch.contain().await;
    let contained = switch.until_contained().await;
    let running: BTreeSet<String> = foreign.union(&stays).cloned().collect();
    assert_eq!(world.running().await, running, "exactly the owned ones are stopped");
    assert!(
        !world.agent_may_act().await,
        "the session that was issued before is denied"
    );
    assert_eq!(world.key_status(&world.key).await, "Inactive");
    let coverage = &contained.coverage;
    let burning: BTreeMap<&str, &str> = coverage
        .still_burning
        .iter()
        .map(|line| (line.resource.as_str(), line.why.as_str()))
        .collect();
    for (region, id, why) in &stubborn {
        let line = burning[instance(region, id).as_str()];
        assert!(line.contains(why), "{line}");
    }
    assert!(burning[instance(OUTSIDE, &world.outside).as_str()].contains("a person is asked"));
    assert!(burning.contains_key(format!("role:{}", world.deployer).as_str()));
    assert!(burning.contains_key("creators"));
    assert_eq!(burning.len(), 6, "{burning:#?}");
    let denied: BTreeSet<&str> = coverage.denied.iter().map(String::as_str).collect();
    for one in [
        format!("role:{}", world.role),
        format!("user:{}", world.user),
        format!("key:legacy-bot/{}", world.key.id),
    ] {
        assert!(denied.contains(one.as_str()), "{one} in {denied:?}");
    }
    let asked = proxy.take_asked();
    world.assert_only_ours(&asked);
    assert!(
        last(&asked, &["PutRolePolicy", "PutUserPolicy"]) < first(&asked, &["StopInstances"]),
        "revoke comes first"
    );
    let stops = asked.iter().filter(|one| one.action == "StopInstances").count();
    assert!(stops <= 60, "bisecting took {stops} calls");
    let reviews = switch.store.reviews(true, 10).await.expect("the store reads");
    assert_eq!(reviews.len(), 1, "{reviews:?}");
    assert!(
        switch
            .told
            .all()
            .iter()
            .any(|notice| notice.kind == NoticeKind::Contained)
    );

    // Held (C2): what is started by hand goes down again, the deny is put back.
    let by_hand = world.owned[here][0].clone();
    let start = world
        .account()
        .ec2(here)
        .start_instances()
        .instance_ids(&by_hand)
        .send()
        .await;
    start.expect("StartInstances");
    let lifted = world.account().iam().delete_role_policy().role_name("transcriber");
    lifted
        .policy_name(deny::POLICY_NAME)
        .send()
        .await
        .expect("DeleteRolePolicy");
    assert!(world.agent_may_act().await);
    switch.sweep().await;
    assert!(!world.agent_may_act().await);
    assert_eq!(world.running().await, running);
    switch.until_contained().await;
    world.assert_only_ours(&proxy.take_asked());

    // Reset in part: the principals and six machines.
    let before = switch.images().await;
    let some: Vec<String> = world.owned[here][10..15]
        .iter()
        .chain(&world.owned[there][20..21])
        .cloned()
        .collect();
    let mut only = some[..5].to_vec();
    only.push(instance(there, &some[5]));
    switch.reset(&only).await;
    switch.until_reset().await;
    let up: BTreeSet<String> = running.iter().cloned().chain(some.iter().cloned()).collect();
    assert_eq!(world.running().await, up, "those that were named, and no other");
    assert!(world.agent_may_act().await, "the session works again");
    assert_eq!(world.key_status(&world.key).await, "Active");
    assert_eq!(world.key_status(&world.sleeping_key).await, "Inactive");
    assert_eq!(
        switch.store.agent(&agent).await.expect("the store reads").status,
        AgentStatus::Active
    );
    let asked = proxy.take_asked();
    world.assert_only_ours(&asked);
    assert!(
        last(&asked, &["StartInstances"]) < first(&asked, &["DeleteRolePolicy"]),
        "machines start while denied"
    );

    // Contain again: the first before-images survive.
    switch.contain().await;
    let again = switch.until_contained().await;
    assert_eq!(again.generation, 2);
    assert_eq!(world.running().await, running);
    assert!(!world.agent_may_act().await);
    let images = switch.images().await;
    let machine = |resource: &Resource| match resource {
        Resource::Instance { id, .. } => Some(id.clone()),
        _ => None,
    };
    let mut kept = 0;
    for image in &images {
        let Some(id) = machine(&image.resource) else { continue };
        assert_eq!(
            image.before,
            Before::Instance {
                state: InstanceState::Running
            },
            "{id}"
        );
        if !some.contains(&id) && !stays.contains(&id) {
            let old = before
                .iter()
                .find(|one| one.resource == image.resource)
                .expect("it was recorded before");
            assert_eq!(
                (image.containment, image.recorded_at),
                (contained.id, old.recorded_at),
                "{id}"
            );
            kept += 1;
        }
    }
    assert_eq!(kept, stoppable.len() - some.len());

    // Meanwhile somebody ends one of them for good; then everything is reset.
    let ended = world.owned[there][40].clone();
    let end = world
        .account()
        .ec2(there)
        .terminate_instances()
        .instance_ids(&ended)
        .send()
        .await;
    end.expect("TerminateInstances");
    switch.reset(&[]).await;
    switch.until_reset().await;
    let mut expected: BTreeSet<String> = all.union(&foreign).cloned().collect();
    expected.remove(&ended);
    assert_eq!(world.running().await, expected, "and what was idle before stays so");
    assert!(!expected.contains(&world.idle));
    assert!(world.agent_may_act().await);
    assert_eq!(world.key_status(&world.key).await, "Active");
    assert_eq!(world.key_status(&world.sleeping_key).await, "Inactive");
    assert!(
        switch.images().await.is_empty(),
        "nothing is owed: {:#?}",
        switch.images().await
    );
    let policies = world
        .account()
        .iam()
        .list_role_policies()
        .role_name("transcriber")
        .send()
        .await;
    assert_eq!(policies.expect("ListRolePolicies").policy_names(), ["work"]);
    world.assert_only_ours(&proxy.take_asked());
    assert_eq!(world.account().states(OUTSIDE).await[&world.outside], "running");
}
