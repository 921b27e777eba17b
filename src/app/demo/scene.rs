//! The scene: an invented account with the agent's machines among other people's, and the config.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::cloud::rehearsal::Rehearsal;
use crate::cloud::rehearsal::actors::Credential;
use crate::cloud::rehearsal::fleet::{FleetSpec, MachineSpec, PrincipalSpec};
use crate::config::{Environment, LiveSettings, Loader};
use crate::domain::money::Usd;
use crate::ports::{Clock, Entropy};

pub(super) const AGENT: &str = "support-transcriber-prod";
pub(super) const LIMIT_USD: u32 = 50;
const ACCOUNT: &str = "123456789012";
const ROLE: &str = "arn:aws:iam::123456789012:role/agents/support-transcriber";
const TAG: (&str, &str) = ("backstop:agent", AGENT);
/// On-demand Linux price of c7g.xlarge in us-east-1, dollars an hour (AWS's EC2 on-demand price list,
/// read 2026-11): only the demo's burn depends on it.
const MACHINE: (&str, i64) = ("c7g.xlarge", 144_500_000);

pub(super) struct Scene {
    /// Everything that the daemon writes; removed at the end.
    pub(super) directory: PathBuf,
    pub(super) fleet: Arc<Rehearsal>,
    pub(super) owned: Vec<String>,
    pub(super) foreign: Vec<String>,
    pub(super) admin_token: String,
}

impl Scene {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> anyhow::Result<Self> {
        let mut random = [0_u8; 24];
        entropy.fill(&mut random);
        let admin_token = URL_SAFE_NO_PAD.encode(random);
        let directory = std::env::temp_dir().join(format!("backstop-demo-{}", entropy.id(clock.now())));
        super::super::daemon::make_dir(&directory)?;
        let (owned, foreign) = (ids("i-0a9e27", 4), ids("i-0f0e19", 3));
        let mut role = PrincipalSpec::role(ROLE);
        role.profile_arns
            .push(format!("arn:aws:iam::{ACCOUNT}:instance-profile/support-transcriber"));
        let mut spec = FleetSpec::new(ACCOUNT, &["us-east-1", "eu-west-1"]).principal(role);
        spec.prices.insert(MACHINE.0.to_owned(), Usd::from_nanos(MACHINE.1));
        for (index, id) in owned.iter().enumerate() {
            let region = if index % 2 == 0 { "us-east-1" } else { "eu-west-1" };
            let mut machine = MachineSpec::new(region, MACHINE.0).id(id);
            machine.tags.insert(TAG.0.to_owned(), TAG.1.to_owned());
            spec = spec.machine(machine);
        }
        for id in &foreign {
            spec = spec.machine(MachineSpec::new("us-east-1", MACHINE.0).id(id));
        }
        Ok(Self {
            directory,
            fleet: Arc::new(Rehearsal::new(spec, clock)),
            owned,
            foreign,
            admin_token,
        })
    }

    /// The config that an operator would write for it.
    pub(super) fn settings(&self) -> anyhow::Result<Arc<LiveSettings>> {
        let token_file = self.directory.join("admin-token");
        std::fs::write(&token_file, &self.admin_token)?;
        let directory = self.directory.display();
        let text = format!(
            r#"
[server]
agent_listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
state_dir = "{directory}"
admin_socket = "{directory}/admin.sock"
[admin]
token_file = "{}"
[aws]
enabled = true
# What the machines cost is not part of this story.
watch = false
regions = ["us-east-1", "eu-west-1"]
[[agent]]
id = "{AGENT}"
[agent.aws]
account = "{ACCOUNT}"
roles = ["{ROLE}"]
tags = {{ "{}" = "{}" }}
[[budget]]
name = "daily"
scope = "agent"
agents = ["*"]
window = "day"
timezone = "UTC"
limit_usd = "{LIMIT_USD}"
alert_at = [50, 80]
response = "contain"
"#,
            token_file.display(),
            TAG.0,
            TAG.1,
        );
        let loader = Loader::for_daemon(Environment::default());
        let loaded = loader
            .parse(Some(&self.directory.join("config.toml")), "the demo's config", &text)
            .map_err(|problems| anyhow::anyhow!("{problems}"))
            .context("the demo's own config")?;
        Ok(Arc::new(LiveSettings::new(loaded, loader)))
    }

    /// The agent launches one more machine with its role's credentials.
    pub(super) fn agent_launches(&self) -> Result<String, String> {
        let mut machine = MachineSpec::new("us-east-1", MACHINE.0);
        machine.tags.insert(TAG.0.to_owned(), TAG.1.to_owned());
        let role = Credential::Role(ROLE.to_owned());
        self.fleet.launch(&role, machine).map_err(|refused| refused.to_string())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "the demo's files were left behind");
        }
    }
}

fn ids(prefix: &str, count: u32) -> Vec<String> {
    (1..=count).map(|number| format!("{prefix}{number:011x}")).collect()
}
