//! The account, built once and copied for each run; the daemon in its directory, behind a proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::snapshot::Snapshot;
use super::{AGENT, REGIONS, trail};
use crate::harness::account::Account;
use crate::harness::daemon::Daemon;
use crate::harness::fault_proxy::FaultProxy;
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::site::Site;
use crate::harness::{process, venv, wait};

const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/big/fleet.py");

/// For what takes the daemon minutes, on a machine that is building at the same time.
pub const LONG: Duration = Duration::from_secs(900);

/// What building or reading the account may take.
const PYTHON_LIMIT: Duration = Duration::from_secs(600);

/// The account as it is before anything happens.
pub struct World {
    moto: Moto,
    admin: Keys,
    /// The daemon's.
    guard: Keys,
    /// The agent's, issued before.
    session: Keys,
    /// Of a role that no agent declares and that trusts none.
    outsider: Keys,
    pub built: Built,
    pub before: Snapshot,
}

/// Whose everything is.
pub struct Built {
    told: Value,
}

impl Built {
    /// Stable ids of what is somebody's, of one kind.
    pub fn of(&self, owner: &str, kind: &str) -> BTreeSet<String> {
        texts(&self.told["of"][owner][kind])
    }

    /// What is the agent's and carries no tag.
    pub fn untagged(&self) -> BTreeSet<String> {
        texts(&self.told["untagged"])
    }

    /// Tags by stable id.
    pub fn tags(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        serde_json::from_value(self.told["tags"].clone()).expect("tags by stable id")
    }

    /// ARNs of instance profiles by name.
    pub fn profiles(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.told["profiles"].clone()).expect("ARNs by name")
    }
}

impl World {
    pub async fn new() -> Self {
        let moto = Moto::start().await;
        let admin = moto.enforce_iam().await;
        moto.hold_tasks().await;
        moto.keep_answers().await;
        let built = Built {
            told: fleet("build", &moto, &admin).await,
        };
        let before = Snapshot::new(fleet("read", &moto, &admin).await);
        let account = Account::new(&moto, &admin);
        let role = |path: &str| format!("arn:aws:iam::{ACCOUNT}:role/{path}");
        Self {
            guard: account.session(&role("backstop/guard")).await,
            session: account.session(&role("agents/scaler")).await,
            outsider: account.session(&role("outsider")).await,
            moto,
            admin,
            built,
            before,
        }
    }

    /// An emulator with all of it, and a site whose daemon reaches that through a proxy.
    pub async fn run(&self) -> Run<'_> {
        let moto = self.moto.copy().await;
        let proxy = FaultProxy::start(moto.endpoint()).await;
        trail::inject(
            &proxy,
            &self.built.told["trail"],
            self.built.told["at"].as_str().expect("a time"),
        );
        let site = Site::new(&config(&proxy.endpoint())).with_env(moto.env(&self.guard, REGIONS[0]));
        Run {
            world: self,
            moto,
            proxy,
            site,
        }
    }
}

/// One run of one daemon on one copy of the account.
pub struct Run<'a> {
    pub world: &'a World,
    pub moto: Moto,
    pub proxy: FaultProxy,
    pub site: Site,
}

impl Run<'_> {
    pub fn account(&self) -> Account<'_> {
        Account::new(&self.moto, &self.world.admin)
    }

    pub fn outsider(&self) -> &Keys {
        &self.world.outsider
    }

    pub fn session(&self) -> &Keys {
        &self.world.session
    }

    /// Everything there is now.
    pub async fn snapshot(&self) -> Snapshot {
        Snapshot::new(fleet("read", &self.moto, &self.world.admin).await)
    }

    /// Whether the session that was issued before is still good for anything.
    pub async fn agent_may_act(&self) -> bool {
        let agent = aws_sdk_ec2::Client::new(&self.moto.sdk(&self.world.session, REGIONS[0]));
        agent.describe_regions().send().await.is_ok()
    }

    /// The agent reports that it has spent what its budget allows.
    pub async fn breach(&self, daemon: &Daemon) {
        let key = self.site.key(AGENT).await;
        let report = json!({ "id": "run-1/1", "amount_usd": "1000" });
        let (status, answer) = self.site.post(daemon, &key, "/v1/usage", &report).await;
        assert_eq!((status, &answer["status"]), (200, &json!("posted")), "{answer}");
    }

    /// Instances of the agent that run or are about to, by stable id, among those that are there.
    pub async fn running(&self, ours: &BTreeSet<String>) -> BTreeSet<String> {
        let mut running = BTreeSet::new();
        for region in REGIONS {
            let states = self.account().states(region).await;
            let up = states
                .into_iter()
                .filter(|(_, state)| ["running", "pending"].contains(&state.as_str()));
            running.extend(up.map(|(id, _)| format!("instance:{region}/{id}")));
        }
        running.intersection(ours).cloned().collect()
    }

    /// Waits until the containment is proved, every machine of the agent is down, and a sweep has seen everything; all
    /// that is told of the agent then.
    pub async fn until_contained(&self, daemon: &Daemon, ours: &BTreeSet<String>) -> Value {
        let mut last = Value::Null;
        let found = wait::try_until(LONG, async || {
            last = self.site.json(&["status", AGENT]).await;
            if last["containment"]["phase"] != "contained" || !is_whole(&last) {
                return None;
            }
            self.running(ours).await.is_empty().then(|| last.clone())
        })
        .await;
        let coverage = &last["containment"]["coverage"];
        found.unwrap_or_else(|| {
            let (phase, burning) = (&last["containment"]["phase"], &coverage["still_burning"]);
            panic!("it is {phase}: {burning:#}\n{}", daemon.log())
        })
    }

    /// The same, of a sweep that begins after now.
    pub async fn until_swept_again(&self, daemon: &Daemon, ours: &BTreeSet<String>) -> Value {
        let swept = |told: &Value| told["containment"]["sweeps"].as_i64().unwrap_or_default();
        let first = swept(&self.site.json(&["status", AGENT]).await);
        // One may be under way.
        let again = wait::try_until(LONG, async || {
            let now = swept(&self.site.json(&["status", AGENT]).await);
            (now >= first + 2).then_some(())
        });
        assert!(again.await.is_some(), "it sweeps no more\n{}", daemon.log());
        self.until_contained(daemon, ours).await
    }

    /// Waits until the agent is active again.
    pub async fn until_active(&self, daemon: &Daemon) {
        let mut last = Value::Null;
        let found = wait::try_until(LONG, async || {
            last = self.site.json(&["status", AGENT]).await;
            (last["status"] == "active").then_some(())
        })
        .await;
        assert!(found.is_some(), "it is not reset: {last:#}\n{}", daemon.log());
    }

    /// Waits until the watcher knows every machine of the agent, by whatever it is known.
    pub async fn until_seen(&self, daemon: &Daemon) {
        let ours = self.world.built.of(AGENT, "instance");
        let mut missing = ours.clone();
        let found = wait::try_until(LONG, async || {
            let seen = self.fleet().await;
            missing = ours.difference(&seen).cloned().collect();
            missing.is_empty().then_some(())
        })
        .await;
        let count = missing.len();
        assert!(
            found.is_some(),
            "{count} of its machines are never seen\n{}",
            daemon.log()
        );
    }

    /// What the watcher takes for the agent's.
    async fn fleet(&self) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut offset = "0".to_owned();
        loop {
            let page = self
                .site
                .json(&["fleet", "--agent", AGENT, "--limit", "1000", "--offset", &offset])
                .await;
            let rows = page["assets"].as_array().into_iter().flatten();
            seen.extend(rows.filter_map(|row| row["id"].as_str()).map(str::to_owned));
            match page["next_offset"].as_u64() {
                Some(next) => offset = next.to_string(),
                None => return seen,
            }
        }
    }
}

fn config(endpoint: &str) -> String {
    let agent = |name: &str| {
        format!(
            r#"
[[agent]]
id = "{name}"
[agent.aws]
account = "{ACCOUNT}"
roles = ["arn:aws:iam::{ACCOUNT}:role/agents/{name}"]
users = ["arn:aws:iam::{ACCOUNT}:user/agents/{name}-bot"]
tags = {{ "backstop:agent" = "{name}" }}
"#
        )
    };
    let agents: String = [AGENT, "planner", "reviewer"].map(agent).concat();
    let regions = REGIONS.map(|region| format!("\"{region}\"")).join(", ");
    format!(
        r#"
[aws]
enabled = true
endpoint_url = "{endpoint}"
regions = [{regions}]
poll_every = "10m"
accrue_every = "10s"
reaction_time = "1s"
sweep_spacing = "1s"
hold_sweep_every = "10s"
orphan_notice_usd = "1000"
{agents}
[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "1000"
response = "contain"
"#
    )
}

/// Runs `fleet.py`; what it tells.
async fn fleet(what: &str, moto: &Moto, admin: &Keys) -> Value {
    let python = venv::python().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(python);
    command.args([FLEET, what, moto.endpoint(), &admin.id, &admin.secret]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let run = move || process::run("fleet", command, dir.path(), PYTHON_LIMIT);
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("running a command does not panic")
        .unwrap_or_else(|why| panic!("{why}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}\n{}", moto.log());
    serde_json::from_slice(&output.stdout).expect("it tells JSON")
}

/// Whether what is told is of a sweep that has seen everything.
fn is_whole(told: &Value) -> bool {
    let lines = told["containment"]["coverage"]["still_burning"].as_array();
    let mut lines = lines.into_iter().flatten().filter_map(|line| line["why"].as_str());
    lines.all(|why| !why.contains("could not be"))
}

/// The texts of a list.
pub fn texts(list: &Value) -> BTreeSet<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
