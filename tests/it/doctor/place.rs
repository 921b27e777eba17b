//! An account with a guard and two agents, a site whose daemon works in it through a proxy, and what the
//! doctor says there.

use serde_json::Value;

use super::simulator::Simulator;
use crate::harness::account::Account;
use crate::harness::daemon::Answer;
use crate::harness::fault_proxy::{Asked, Fault, FaultProxy, Rule};
use crate::harness::moto::{ACCOUNT, Keys, Moto};
use crate::harness::site::Site;

pub const REGIONS: [&str; 2] = ["eu-central-1", "us-east-1"];
pub const TAG: &str = "backstop:agent";
pub const AGENT: &str = "scaler";
/// Nobody's agent may assume these.
const BY_ADMIN: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/backstop-test-admin"},"Action":"sts:AssumeRole"}]}"#;

pub struct Place {
    pub moto: Moto,
    pub admin: Keys,
    pub proxy: FaultProxy,
    pub site: Site,
    pub role: String,
    pub user: String,
    pub guard: String,
    /// A running machine of the agent's.
    pub machine: String,
}

/// A policy that is shipped.
pub fn shipped(name: &str) -> String {
    let path = format!("{}/deploy/iam/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("it is shipped")
}

impl Place {
    pub async fn new() -> Self {
        let moto = Moto::start().await;
        let admin = moto.enforce_iam().await;
        let account = Account::new(&moto, &admin);
        let role = account.role_trusting("/agents/", AGENT, BY_ADMIN).await;
        let (user, _) = account.user("/agents/", "legacy-bot").await;
        let guard = account.role_trusting("/backstop/", "guard", BY_ADMIN).await;
        // The emulator asks for no policy behind the name, and knows boundaries of roles alone.
        let boundary = format!("arn:aws:iam::{ACCOUNT}:policy/backstop/backstop-agent-boundary");
        let bind = account.iam().put_role_permissions_boundary().role_name(AGENT);
        let bound = bind.permissions_boundary(&boundary).send().await;
        bound.expect("PutRolePermissionsBoundary");
        let machine = account.instances(REGIONS[0], 1, &[(TAG, AGENT)]).await.remove(0);
        let proxy = FaultProxy::start(moto.endpoint()).await;
        let config = format!(
            r#"
[storage]
reserve_mb = 1

[aws]
enabled = true
endpoint_url = "{}"
regions = ["eu-central-1", "us-east-1"]
poll_every = "1s"

[[agent]]
id = "{AGENT}"
[agent.aws]
account = "{ACCOUNT}"
roles = ["{role}"]
users = ["{user}"]
tags = {{ "{TAG}" = "{AGENT}" }}

[[budget]]
name = "pocket"
scope = "agent"
window = "total"
limit_usd = "1000"
response = "contain"
"#,
            proxy.endpoint()
        );
        let keys = account.session(&guard).await;
        let site = Site::new(&config).with_env(moto.env(&keys, REGIONS[0]));
        Self {
            moto,
            admin,
            proxy,
            site,
            role,
            user,
            guard,
            machine,
        }
    }

    pub fn account(&self) -> Account<'_> {
        Account::new(&self.moto, &self.admin)
    }

    /// What IAM says from here on: of the agents what the boundary leaves them, of the guard this.
    pub fn simulate(&self, guard: &str) {
        self.simulate_all(guard, &shipped("boundary"));
    }

    pub fn simulate_all(&self, guard: &str, agents: &str) {
        let simulator = Simulator::default().with(&self.guard, guard);
        self.answer_with(simulator.with(&self.role, agents).with(&self.user, agents));
    }

    /// Nothing fails, IAM simulates so, and what the emulator does not have answers with nothing.
    pub fn answer_with(&self, simulator: Simulator) {
        self.proxy.heal();
        self.proxy
            .inject(Rule::on("SimulatePrincipalPolicy", simulator.answers()));
        let nothing = |name: &str| Fault::Json(serde_json::json!({ name: [] }));
        self.proxy.inject(Rule::on("LookupEvents", nothing("Events")));
        self.proxy.inject(Rule::on("GetProducts", nothing("PriceList")));
    }

    /// The doctor's answer as JSON, with its exit status.
    pub async fn doctor(&self, arguments: &[&str]) -> (Option<i32>, Value, Answer) {
        let mut all = vec!["doctor", "--json"];
        all.extend(arguments);
        let answer = self.site.cli(&all).await;
        let value = serde_json::from_str(&answer.stdout);
        let value = value.unwrap_or_else(|error| panic!("{error} in {answer:#?}"));
        (answer.code, value, answer)
    }
}

/// Findings of one check that stand so: what was found, joined.
pub fn found(report: &Value, check: &str, standing: &str) -> String {
    let all = report["findings"].as_array().cloned().unwrap_or_default();
    let fitting = all
        .iter()
        .filter(|one| one["check"] == check && one["standing"] == standing);
    let texts: Vec<&str> = fitting.filter_map(|one| one["found"].as_str()).collect();
    texts.join("\n")
}

/// What a request changes: nothing, if it reads, simulates or runs dry.
pub fn changes(asked: &Asked) -> bool {
    let reads = ["Describe", "Get", "List", "Lookup", "Simulate"];
    let is_dry = asked.params.get("DryRun").is_some_and(|dry| dry == "true");
    !is_dry && !reads.iter().any(|verb| asked.action.starts_with(verb))
}
