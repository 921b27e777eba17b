//! Drills on the real binary: what is asked of AWS is only asked, a canary is stopped and started and nothing
//! else, and the evidence is there afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::account::Account;
use crate::harness::fault_proxy::{Asked, Fault, FaultProxy, Rule};
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::site::{SOON, Site};
use crate::harness::wait;

const AGENT: &str = "support-bot";
const TAG: &str = "backstop:agent";
const CANARY: (&str, &str) = ("backstop:canary", "true");
const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];
/// Nobody's agent may assume these.
const BY_ADMIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/backstop-test-admin"},"Action":"sts:AssumeRole"}]}"#;

/// An agent with a role, a user with a key and three machines, beside two of others.
struct World {
    moto: Moto,
    admin: Keys,
    proxy: FaultProxy,
    site: Site,
    owned: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl World {
    async fn new() -> Self {
        Self::with_sweeps("1s").await
    }

    /// With so much time between the two sweeps that prove a containment.
    async fn with_sweeps(spacing: &str) -> Self {
        let moto = Moto::start().await;
        let admin = moto.enforce_iam().await;
        let account = Account::new(&moto, &admin);
        let role = account.role_trusting("/agents/", AGENT, BY_ADMIN).await;
        let (user, _) = account.user("/agents/", "legacy-bot").await;
        let guard = account.role_trusting("/backstop/", "guard", BY_ADMIN).await;
        let [here, there] = REGIONS;
        let mut owned: BTreeSet<String> = account.instances(here, 2, &[(TAG, AGENT)]).await.into_iter().collect();
        owned.extend(account.instances(there, 1, &[(TAG, AGENT)]).await);
        let mut others: BTreeSet<String> = account
            .instances(here, 1, &[(TAG, "other")])
            .await
            .into_iter()
            .collect();
        // Marked as a canary, and not the agent's.
        let marked = [(TAG, "other"), CANARY];
        others.extend(account.instances(there, 1, &marked).await);
        let keys = account.session(&guard).await;
        let proxy = FaultProxy::start(moto.endpoint()).await;
        let config = format!(
            r#"
[aws]
enabled = true
endpoint_url = "{}"
regions = ["eu-central-1", "us-east-1"]
watch = false
sweep_spacing = "{spacing}"
step_patience = "2m"

[[agent]]
id = "{AGENT}"
[agent.aws]
account = "{ACCOUNT}"
roles = ["{role}"]
users = ["{user}"]
tags = {{ "{TAG}" = "{AGENT}" }}

[[budget]]
name = "total"
scope = "agent"
window = "total"
limit_usd = "1000"
response = "contain"
"#,
            proxy.endpoint()
        );
        let site = Site::new(&config).with_env(moto.env(&keys, here));
        Self {
            moto,
            admin,
            proxy,
            site,
            owned,
            others,
        }
    }

    fn account(&self) -> Account<'_> {
        Account::new(&self.moto, &self.admin)
    }

    async fn states(&self) -> BTreeMap<String, String> {
        let mut states = BTreeMap::new();
        for region in REGIONS {
            states.extend(self.account().states(region).await);
        }
        states
    }
}

/// What was really changed: the action and what it names.
fn changes(asked: &[Asked]) -> Vec<(String, Vec<String>)> {
    let is_read = |one: &&Asked| {
        let verbs = ["Describe", "Get", "List", "Simulate"];
        let only_tried = one.params.get("DryRun").is_some_and(|tried| tried == "true");
        only_tried || verbs.iter().any(|verb| one.action.starts_with(verb))
    };
    let changes = asked.iter().filter(|one| !is_read(one));
    changes
        .map(|one| {
            (
                one.action.clone(),
                one.list("InstanceId").into_iter().map(str::to_owned).collect(),
            )
        })
        .collect()
}

fn texts<'a>(rows: &'a Value, field: &str) -> BTreeSet<&'a str> {
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row[field].as_str()).collect()
}

#[tokio::test]
async fn a_drill_only_asks_and_leaves_evidence() {
    let world = World::new().await;
    let before = world.states().await;
    let daemon = world.site.start().await;
    let site = &world.site;
    let never = site.json(&["status", AGENT]).await;
    assert_eq!(never["drill"]["state"], "never", "{never:#}");
    world.proxy.take_asked();

    let drill = site.json(&["drill", AGENT]).await;
    let asked = world.proxy.take_asked();
    assert_eq!(changes(&asked), Vec::new());
    let tried: BTreeSet<String> = asked
        .iter()
        .filter(|one| one.action == "StopInstances")
        .flat_map(|one| one.list("InstanceId").into_iter().map(str::to_owned))
        .collect();
    assert_eq!(tried, world.owned, "every stop is tried, and no other");
    assert_eq!(world.states().await, before);
    assert_eq!(drill["outcome"], "passed", "{drill:#}");
    let report = &drill["report"];
    let proofs: BTreeMap<&str, BTreeSet<&str>> = ["stop_instance", "put_deny", "deactivate_key"]
        .into_iter()
        .map(|action| {
            let rows = report["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
            let own = rows.iter().filter(|row| row["action"] == action);
            (action, own.filter_map(|row| row["proof"].as_str()).collect())
        })
        .collect();
    assert_eq!(proofs["stop_instance"], ["dry_run"].into(), "{report:#}");
    assert_eq!(proofs["put_deny"], ["simulated"].into(), "{report:#}");
    assert_eq!(proofs["deactivate_key"], ["simulated"].into(), "{report:#}");
    assert_eq!(report["counts"]["stop"], 3);
    assert_eq!(report["calls"]["foreseen"]["iam:PutRolePolicy"], 1, "{report:#}");
    assert!(
        report["predicted"]["contained"]["least_s"].as_f64() >= Some(1.0),
        "{report:#}"
    );
    // The questions to IAM name the action, the thing and the tag that the policy goes by.
    let start = asked.iter().find(|one| {
        one.action == "SimulatePrincipalPolicy" && one.params.values().any(|value| value == "ec2:StartInstances")
    });
    let start = start.expect("whether a reset could start them is asked");
    let has = |text: &str| start.params.values().any(|value| value.contains(text));
    assert!(has("role/backstop/guard") && has(":instance/i-") && has("aws:ResourceTag/backstop:agent"));

    // It is there afterwards, and in the log.
    let last = site.json(&["drill", AGENT, "--last"]).await;
    assert_eq!((&last["id"], &last["intact"]), (&drill["id"], &Value::Bool(true)));
    assert_eq!(last["report"], drill["report"]);
    let id = drill["id"].as_str().expect("an id");
    assert_eq!(site.json(&["drill", AGENT, "--show", id]).await["id"], drill["id"]);
    let list = site.json(&["drill", AGENT, "--list"]).await;
    assert_eq!(texts(&list["drills"], "id"), [id].into());
    let log = site.ok(&["audit", "list", "--json"]).await;
    assert!(log.contains("drilled") && log.contains(drill["report_sha256"].as_str().expect("a digest")));
    let shown = site.ok(&["status"]).await;
    assert!(shown.contains("passed"), "{shown}");
    let told = site.ok(&["drill", AGENT, "--last"]).await;
    assert!(told.contains("predicted") && told.contains("dry_run"), "{told}");

    // What IAM denies is a gap, and an exit status.
    let denied = "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
        <SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults/>\
        </SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata>\
        </SimulatePrincipalPolicyResponse>";
    world
        .proxy
        .inject(Rule::on("SimulatePrincipalPolicy", Fault::Answer(denied)));
    world
        .account()
        .protect(REGIONS[1], world.owned_in(REGIONS[1]).await.as_str(), true)
        .await;
    let refused = site.refused(&["drill", AGENT]).await;
    assert!(refused.stdout.contains("DisableApiStop"), "{refused:#?}");
    assert!(
        refused.stdout.contains("IAM's simulation did not answer for it"),
        "{refused:#?}"
    );
    assert!(refused.stderr.contains("the drill failed"), "{refused:#?}");
    assert_eq!(site.json(&["status", AGENT]).await["drill"]["state"], "failed");
    assert_eq!(world.states().await, before);
    assert!(daemon.stop().await.success());
}

#[tokio::test]
async fn a_canary_is_stopped_and_started_and_nothing_else() {
    let world = World::new().await;
    let daemon = world.site.start().await;
    let site = &world.site;
    let none = site.refused(&["drill", AGENT, "--canary", "--yes"]).await;
    assert!(
        none.stderr.contains("there is no canary") && none.stderr.contains("backstop:canary = true"),
        "{none:#?}"
    );
    let canary = world
        .account()
        .instances(REGIONS[1], 1, &[(TAG, AGENT), CANARY])
        .await
        .remove(0);
    let before = world.states().await;
    world.proxy.take_asked();

    // Without --yes it is only told.
    let told = site.refused(&["drill", AGENT, "--canary"]).await;
    assert!(
        told.stdout.contains(&canary) && told.stdout.contains("it does not prove"),
        "{told:#?}"
    );
    assert!(
        world.others.iter().all(|id| !told.stdout.contains(id.as_str())),
        "{told:#?}"
    );
    assert_eq!(changes(&world.proxy.take_asked()), Vec::new());

    let drill = site.json(&["drill", AGENT, "--canary", "--yes"]).await;
    let named = |action: &str| (action.to_owned(), vec![canary.clone()]);
    assert_eq!(
        changes(&world.proxy.take_asked()),
        [named("StopInstances"), named("StartInstances")],
        "{}",
        daemon.log()
    );
    assert_eq!(world.states().await, before);
    assert_eq!(
        (&drill["kind"], &drill["outcome"]),
        (&"canary".into(), &"passed".into()),
        "{drill:#}"
    );
    let one = &drill["report"]["canaries"][0];
    assert!(
        one["asked_s"].as_f64() <= one["back_asked_s"].as_f64() && one["back_s"].is_f64(),
        "{drill:#}"
    );
    assert_eq!(site.json(&["status", AGENT]).await["status"], "active");
    let actions: Vec<String> = site.audit().await.into_iter().map(|(action, _)| action).collect();
    let own = ["canary", "canary_down", "drilled"];
    let told: Vec<&String> = actions.iter().filter(|action| own.contains(&action.as_str())).collect();
    assert_eq!(told, own.iter().collect::<Vec<_>>(), "{actions:?}");
    let shown = site.ok(&["drill", AGENT, "--last"]).await;
    assert!(shown.contains("started") && shown.contains(&canary), "{shown}");
    assert!(daemon.stop().await.success());
}

/// C6, on the real thing: between the stop and the start there is nothing but what the store holds.
#[tokio::test]
async fn a_daemon_that_is_killed_in_the_midst_of_a_drill_puts_the_canary_back() {
    let world = World::with_sweeps("8s").await;
    let canary = world
        .account()
        .instances(REGIONS[0], 1, &[(TAG, AGENT), CANARY])
        .await
        .remove(0);
    let before = world.states().await;
    let site = &world.site;
    let daemon = site.start().await;
    let mut asked = Vec::new();
    let killing = async {
        let stopped = wait::try_until(SOON, async || {
            asked.extend(changes(&world.proxy.take_asked()));
            (!asked.is_empty()).then_some(())
        });
        assert!(stopped.await.is_some(), "nothing was stopped\n{}", daemon.log());
        daemon.kill();
    };
    let (answer, ()) = tokio::join!(site.cli(&["drill", AGENT, "--canary", "--yes"]), killing);
    assert_eq!(answer.code, Some(3), "its daemon is gone: {answer:#?}");
    assert_eq!(world.states().await[&canary], "stopped");

    let daemon = site.start().await;
    let over = wait::try_until(SOON, async || {
        let list = site.json(&["drill", AGENT, "--list"]).await;
        list["drills"].as_array()?.first().cloned()
    });
    let over = over
        .await
        .unwrap_or_else(|| panic!("the drill is never over\n{}", daemon.log()));
    assert_eq!(over["outcome"], "passed", "{over:#}");
    assert_eq!(world.states().await, before);
    asked.extend(changes(&world.proxy.take_asked()));
    let named = |action: &str| (action.to_owned(), vec![canary.clone()]);
    assert_eq!(asked, [named("StopInstances"), named("StartInstances")]);
    assert!(daemon.stop().await.success());
}

impl World {
    /// A machine of the agent's in a region.
    async fn owned_in(&self, region: &str) -> String {
        let there = self.account().states(region).await;
        let found = there.into_keys().find(|id| self.owned.contains(id));
        found.expect("the agent has one there")
    }
}
