//! The fleet watched, on the real binary: machines are seen, priced and charged, and one too many of them
//! brings the agent down before its limit is spent.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::account::Account;
use crate::harness::moto::{ACCOUNT, Moto};
use crate::harness::site::{SOON, Site};
use crate::harness::wait;

const AGENT: &str = "scaler";
const TAG: &str = "backstop:agent";
/// Nobody's agent may assume these.
const BY_ADMIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/backstop-test-admin"},"Action":"sts:AssumeRole"}]}"#;
const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];

fn dollars(value: &Value) -> f64 {
    let text = value.as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn ids(fleet: &Value) -> BTreeSet<String> {
    let rows = fleet["assets"].as_array().cloned().unwrap_or_default();
    let machines = rows.iter().filter(|row| row["kind"] == "instance");
    machines
        .filter_map(|row| row["id"].as_str()?.rsplit('/').next().map(str::to_owned))
        .collect()
}

async fn running(account: &Account<'_>) -> BTreeSet<String> {
    let mut running = BTreeSet::new();
    for region in REGIONS {
        let states = account.states(region).await.into_iter();
        running.extend(states.filter(|(_, state)| state == "running").map(|(id, _)| id));
    }
    running
}

#[tokio::test]
async fn a_fleet_is_charged_and_its_agent_contained_before_the_limit() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let account = Account::new(&moto, &admin);
    let role = account.role_trusting("/agents/", AGENT, BY_ADMIN).await;
    let guard = account.role_trusting("/ops/", "backstop", BY_ADMIN).await;
    let ours = account.profile(AGENT, AGENT).await;
    let [here, there] = REGIONS;
    let mut owned: BTreeSet<String> = account.instances(here, 1, &[(TAG, AGENT)]).await.into_iter().collect();
    owned.extend(account.launch(there, 1, &[], Some(&ours)).await);
    let nobodys: BTreeSet<String> = account.instances(there, 2, &[]).await.into_iter().collect();
    let daemon_keys = account.session(&guard).await;
    // A t3.micro costs about a cent an hour, and the reaction is said to take one: each adds a cent to what
    // is foreseen, and next to nothing to what is posted.
    let config = format!(
        r#"
[aws]
enabled = true
endpoint_url = "{}"
regions = ["eu-central-1", "us-east-1"]
poll_every = "1s"
accrue_every = "1s"
reaction_time = "1h"
orphan_notice_usd = "0.01"
sweep_spacing = "1s"
step_patience = "1m"
hold_sweep_every = "10s"

[[agent]]
id = "{AGENT}"
[agent.aws]
account = "{ACCOUNT}"
roles = ["{role}"]
tags = {{ "{TAG}" = "{AGENT}" }}

[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "1"
response = "contain"
"#,
        moto.endpoint()
    );
    let site = Site::new(&config).with_env(moto.env(&daemon_keys, here));
    let daemon = site.start().await;

    let seen = wait::try_until(SOON, async || {
        let fleet = site.json(&["fleet", "--agent", AGENT]).await;
        (ids(&fleet) == owned).then_some(fleet)
    })
    .await;
    let seen = seen.unwrap_or_else(|| panic!("its machines are never seen\n{}", daemon.log()));
    assert_eq!(
        (&seen["watching"], &seen["account"]),
        (&Value::from("watching"), &Value::from(ACCOUNT))
    );
    let evidence: BTreeSet<&str> = seen["assets"]
        .as_array()
        .map(|rows| rows.iter().filter_map(|row| row["evidence"].as_str()).collect())
        .unwrap_or_default();
    assert!(evidence.contains("tag") && evidence.contains("acts_as"), "{seen:#}");
    assert!(dollars(&seen["usd_per_hour"]) >= 0.0208, "{seen:#}");
    let orphans = site.json(&["fleet", "--orphans"]).await;
    assert!(nobodys.is_subset(&ids(&orphans)), "{orphans:#}");
    assert!(ids(&orphans).is_disjoint(&owned));

    // What they cost is posted, as an estimate under AWS's own name.
    let spent = wait::try_until(SOON, async || {
        let spend = site.json(&["spend", AGENT, "--by", "service"]).await;
        let rows = spend["rows"].as_array().cloned().unwrap_or_default();
        let ec2 = rows.iter().find(|row| row["key"] == "AmazonEC2");
        ec2.map(|row| dollars(&row["amount_usd"])).filter(|usd| *usd > 0.0)
    })
    .await;
    assert!(spent.is_some_and(|usd| usd < 0.1), "{spent:?}\n{}", daemon.log());
    let status = site.json(&["status", AGENT]).await;
    assert_eq!(status["status"], "active");
    assert!(dollars(&status["burn"]["usd_per_hour"]) >= 0.0208, "{status:#}");
    let told = site.ok(&["status"]).await;
    assert!(
        told.contains("an hour") && told.contains("looked at: eu-central-1"),
        "{told}"
    );
    let metrics = site.metrics(&daemon).await;
    let gauge = format!("backstop_fleet_usd_per_hour{{agent=\"{AGENT}\"}}");
    assert!(
        metrics.contains(&gauge) && metrics.contains("backstop_fleet_looks_total"),
        "{metrics}"
    );

    // A hundred more burn a dollar in the time of a reaction.
    owned.extend(account.instances(here, 100, &[(TAG, AGENT)]).await);
    let contained = site
        .until_agent(&daemon, AGENT, "the proof", |shown| {
            shown["containment"]["phase"] == "contained"
        })
        .await;
    let reason = contained["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("pocket") && reason.contains("projection"),
        "{contained:#}"
    );
    let posted = dollars(&contained["lines"][0]["posted_usd"]);
    assert!(posted < 1.0, "it acted before the limit: {posted}");
    assert_eq!(running(&account).await, nobodys, "nobody else's is touched");
    let cold = wait::try_until(SOON, async || {
        let fleet = site.json(&["fleet", "--agent", AGENT]).await;
        let rows = fleet["assets"].as_array().cloned().unwrap_or_default();
        let mut machines = rows.iter().filter(|row| row["kind"] == "instance");
        machines.all(|row| row["state"] == "idle").then_some(())
    })
    .await;
    assert!(cold.is_some(), "what is stopped burns no more\n{}", daemon.log());
    assert_eq!(site.json(&["ledger", "verify"]).await["ok"], true);
    assert!(daemon.stop().await.success());
}
