//! The whole loop on the real binary: reports come in by HTTP, a budget is breached, the agent is frozen,
//! its role denied, its machines stopped; the daemon dies twice in between; a person resets it.
//!
//! The emulator enforces IAM, so that what is proved is what the agent can still do, with a session that
//! it was given before.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::account::Account;
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::site::{SOON, Site};
use crate::harness::wait;

const AGENT: &str = "transcriber";
const TAG: &str = "backstop:agent";
const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];
/// Nobody's agent may assume these.
const BY_ADMIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/backstop-test-admin"},"Action":"sts:AssumeRole"}]}"#;

struct World {
    moto: Moto,
    admin: Keys,
    /// The agent's session, issued before anything happens.
    session: Keys,
    role: String,
    owned: BTreeSet<String>,
    foreign: BTreeSet<String>,
    site: Site,
}

impl World {
    /// Five machines of the agent by tag and two by instance profile, among four of others.
    async fn new() -> Self {
        let moto = Moto::start().await;
        let admin = moto.enforce_iam().await;
        let account = Account::new(&moto, &admin);
        let role = account.role_trusting("/agents/", AGENT, BY_ADMIN).await;
        account.role_trusting("/agents/", "planner", BY_ADMIN).await;
        let guard = account.role_trusting("/ops/", "backstop", BY_ADMIN).await;
        let ours = account.profile(AGENT, AGENT).await;
        let theirs = account.profile("planner", "planner").await;
        let [here, there] = REGIONS;
        let mut owned = account.instances(here, 3, &[(TAG, AGENT)]).await;
        owned.extend(account.instances(there, 2, &[(TAG, AGENT)]).await);
        owned.extend(account.launch(there, 2, &[], Some(&ours)).await);
        let mut foreign = account.instances(here, 2, &[(TAG, "planner")]).await;
        foreign.extend(account.instances(there, 1, &[]).await);
        foreign.extend(account.launch(here, 1, &[], Some(&theirs)).await);
        let session = account.session(&role).await;
        let daemon = account.session(&guard).await;
        let config = format!(
            r#"
[aws]
enabled = true
watch = false
endpoint_url = "{}"
regions = ["eu-central-1", "us-east-1"]
sweep_spacing = "1s"
step_patience = "1m"
hold_sweep_every = "10s"

[[agent]]
id = "{AGENT}"
[agent.aws]
account = "{ACCOUNT}"
roles = ["{role}"]
tags = {{ "{TAG}" = "{AGENT}" }}

[[agent]]
id = "planner"

[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "10"
alert_at = [50]
response = "contain"
"#,
            moto.endpoint()
        );
        let site = Site::new(&config).with_env(moto.env(&daemon, here));
        Self {
            session,
            role,
            owned: owned.into_iter().collect(),
            foreign: foreign.into_iter().collect(),
            site,
            admin,
            moto,
        }
    }

    fn account(&self) -> Account<'_> {
        Account::new(&self.moto, &self.admin)
    }

    /// Whether the session is still good for what the role's policy allows.
    async fn agent_may_act(&self) -> bool {
        let agent = aws_sdk_ec2::Client::new(&self.moto.sdk(&self.session, REGIONS[0]));
        match agent.describe_instances().send().await {
            Ok(_) => true,
            Err(error) => {
                let text = format!("{error:?}");
                assert!(text.contains("AccessDenied"), "{text}");
                false
            }
        }
    }

    async fn running(&self) -> BTreeSet<String> {
        let mut running = BTreeSet::new();
        for region in REGIONS {
            let states = self.account().states(region).await.into_iter();
            running.extend(states.filter(|(_, state)| state == "running").map(|(id, _)| id));
        }
        running
    }

    async fn policies(&self, role: &str) -> Vec<String> {
        let account = self.account();
        let policies = account.iam().list_role_policies().role_name(role).send().await;
        policies.expect("ListRolePolicies").policy_names().to_vec()
    }

    fn everything(&self) -> BTreeSet<String> {
        self.owned.union(&self.foreign).cloned().collect()
    }
}

fn texts(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The machine behind `instance:REGION/ID`.
fn machine(resource: &str) -> String {
    resource.rsplit('/').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn reports_breach_a_budget_the_agent_is_contained_through_two_deaths_and_reset() {
    let world = World::new().await;
    let site = &world.site;
    let daemon = site.start().await;
    let key = site.key(AGENT).await;
    assert!(world.agent_may_act().await);

    // The plan is told, and telling it changes nothing.
    world.moto.start_recording().await;
    let plan = site.json(&["contain", AGENT, "--dry-run"]).await;
    let asked = world.moto.recorded().await;
    let steps = plan["steps"].as_array().cloned().unwrap_or_default();
    let of = |action: &str| -> BTreeSet<String> {
        let steps = steps.iter().filter(|step| step["action"] == action);
        steps
            .map(|step| step["resource"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(of("stop"), world.owned, "{plan:#}");
    assert_eq!(of("deny"), BTreeSet::from([world.role.clone()]));
    assert!(!asked.is_empty());
    for one in &asked {
        assert!(one.only_asks(), "{one:?}");
    }
    let shown = site.cli(&["contain", AGENT]).await;
    assert_eq!(shown.code, Some(1), "without --yes it only shows: {shown:#?}");
    assert!(shown.stderr.contains("--yes"), "{}", shown.stderr);
    assert_eq!(site.json(&["status", AGENT]).await["status"], "active");
    assert_eq!(world.running().await, world.everything());
    assert_eq!(world.policies(AGENT).await, ["work"]);

    // It spends, with a hold open, until its budget is breached.
    let (status, hold) = site.post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "1"})).await;
    assert_eq!(status, 201, "{hold}");
    for (id, amount) in [("run-1/1", "4"), ("run-1/2", "2.5")] {
        let report = json!({"id": id, "amount_usd": amount, "task": "run-1"});
        let (status, answer) = site.post(&daemon, &key, "/v1/usage", &report).await;
        assert_eq!((status, &answer["status"]), (200, &json!("posted")), "{answer}");
    }
    wait::until("the alert at half of the budget", SOON, async || {
        site.audit()
            .await
            .iter()
            .any(|(action, _)| action == "alert")
            .then_some(())
    })
    .await;
    assert_eq!(
        site.json(&["status", AGENT]).await["status"],
        "active",
        "an alert only tells"
    );
    let last = json!({"id": "run-1/3", "amount_usd": "4", "task": "run-1"});
    let (status, answer) = site.post(&daemon, &key, "/v1/usage", &last).await;
    assert_eq!(status, 200, "{answer}");

    // The daemon dies as soon as that was acknowledged, and once more when the first change was made.
    daemon.kill();
    let daemon = site.start().await;
    wait::until("the first change in the cloud", SOON, async || {
        let changed = world.policies(AGENT).await.len() > 1 || world.running().await != world.everything();
        changed.then_some(())
    })
    .await;
    daemon.kill();
    let daemon = site.start().await;

    let contained = site
        .until_agent(&daemon, AGENT, "the proof", |shown| {
            shown["containment"]["phase"] == "contained"
        })
        .await;
    assert_eq!(contained["status"], "contained");
    assert!(
        contained["reason"].as_str().is_some_and(|why| why.contains("pocket")),
        "{contained:#}"
    );
    let coverage = &contained["containment"]["coverage"];
    let role = format!("role:{}", world.role);
    assert!(texts(&coverage["denied"]).contains(&role), "{coverage:#}");
    let stopped: BTreeSet<String> = texts(&coverage["stopped"]).iter().map(|id| machine(id)).collect();
    assert_eq!(stopped, world.owned);
    let burning = coverage["still_burning"].as_array().cloned().unwrap_or_default();
    let burning: Vec<&str> = burning.iter().filter_map(|line| line["resource"].as_str()).collect();
    assert_eq!(
        burning,
        ["creators"],
        "nothing but what nobody looks for yet: {coverage:#}"
    );
    assert_eq!(
        contained["containment"]["generation"], 1,
        "one containment, through both deaths"
    );
    assert!(
        !world.agent_may_act().await,
        "the session that was issued before is denied"
    );
    assert_eq!(
        world.running().await,
        world.foreign,
        "exactly the owned ones are stopped"
    );
    assert_eq!(world.policies("planner").await, ["work"]);

    // Frozen here: no hold, for a reason that says what to do; what it still reports is counted.
    let (status, refused) = site
        .post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "0.01"}))
        .await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (403, &json!("agent_contained")),
        "{refused}"
    );
    let late = json!({"id": "run-1/4", "amount_usd": "0.5"});
    assert_eq!(site.post(&daemon, &key, "/v1/usage", &late).await.0, 200);
    let (_, budget) = site.get(&daemon, &key, "/v1/budget").await;
    assert_eq!(budget["status"], "contained");
    assert_eq!(budget["lines"][0]["posted_usd"], "12.00", "{budget:#}");
    assert_eq!(
        budget["lines"][0]["unresolved_usd"], "1.00",
        "the open hold of the dead run"
    );
    let other = site.key("planner").await;
    let (status, _) = site
        .post(&daemon, &other, "/v1/holds", &json!({"bound_usd": "0.01"}))
        .await;
    assert_eq!(status, 201, "another agent goes on");
    let told = site.ok(&["status", AGENT]).await;
    assert!(told.contains("contained") && told.contains(&world.role), "{told}");

    // A reset shows what it would do, and is refused while the line is breached.
    let shown = site.refused(&["reset", AGENT]).await;
    assert!(shown.stdout.contains("it would be refused"), "{shown:#?}");
    let refused = site.refused(&["reset", AGENT, "--yes"]).await;
    assert!(
        refused.stderr.contains("--raise") && refused.stderr.contains("--until"),
        "{refused:#?}"
    );
    let too_small = site.refused(&["reset", AGENT, "--raise", "0.5", "--yes"]).await;
    assert!(too_small.stderr.contains("too small"), "{too_small:#?}");
    assert!(!world.agent_may_act().await);
    assert_eq!(world.running().await, world.foreign);

    let impact = site.cli(&["reset", AGENT, "--raise", "50", "--json"]).await;
    let impact: Value = serde_json::from_str(&impact.stdout).expect("JSON");
    let starts = impact["steps"].as_array().cloned().unwrap_or_default();
    let starts: BTreeSet<String> = starts
        .iter()
        .filter(|step| step["action"] == "start")
        .map(|step| machine(step["resource"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(starts, world.owned, "{impact:#}");
    assert_eq!(impact["refused"], Value::Null);
    site.ok(&["reset", AGENT, "--raise", "50", "--yes", "--note", "the loop is mended"])
        .await;
    site.until_status(&daemon, AGENT, "active").await;
    assert!(world.agent_may_act().await, "the session works again");
    assert_eq!(world.running().await, world.everything());
    assert_eq!(world.policies(AGENT).await, ["work"]);
    let (status, hold) = site.post(&daemon, &key, "/v1/holds", &json!({"bound_usd": "5"})).await;
    assert_eq!(status, 201, "{hold}");
    assert_eq!(hold["remaining_usd"], "43.00", "60 less 12 and 5");

    // What happened is on record, and the sums are right.
    let unresolved = site.json(&["ledger", "resolve"]).await;
    let posting = unresolved["unresolved"][0]["posting_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    site.ok(&[
        "ledger",
        "resolve",
        "--posting",
        &posting,
        "--cost-usd",
        "0.25",
        "--note",
        "provider's log",
    ])
    .await;
    let spend = site.json(&["spend", AGENT, "--by", "task"]).await;
    assert_eq!(spend["total_usd"], "11.25", "{spend:#}");
    assert_eq!(site.json(&["ledger", "verify"]).await["ok"], true);
    let audit = site.audit().await;
    for action in [
        "alert",
        "contained",
        "raised",
        "reset_note",
        "restoring",
        "resolved",
        "refused",
    ] {
        let found = wait::try_until(SOON, async || {
            site.audit()
                .await
                .iter()
                .any(|(found, _)| found == action)
                .then_some(())
        })
        .await;
        assert!(found.is_some(), "{action} is not in {audit:#?}");
    }
    assert!(daemon.stop().await.success());
}
