//! The validated settings: what the rest of the house is built from.
//!
//! A value of these types was checked by the loader. Names are well formed and unique, selectors are
//! compiled, cloud targets are within their account and none of them is the guard (C5). Other rooms
//! have their own options; `app` fills them from these plain fields, so that no room knows the config.
//!
//! Each field stands in `config.toml`, with its default and its meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::secret::Secret;
use crate::domain::budget::Budget;
use crate::domain::call::{Api, LimitField, Unlisted};
use crate::domain::containment::target::{CloudTargets, Guard, Region};
use crate::domain::fleet::asset::Kind as FleetKind;
use crate::domain::id::{AgentId, BudgetId, ServiceId};
use crate::domain::ledger::batch::LedgerRules;
use crate::domain::manifest::{Manifest, Rate};
use crate::domain::money::Usd;
use crate::domain::price;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub server: Server,
    pub storage: Storage,
    pub ledger: Ledger,
    pub admin: Admin,
    pub audit: Audit,
    pub prices: Prices,
    pub reports: Reports,
    pub tasks: Tasks,
    pub tools: Tools,
    pub aws: Aws,
    pub log: Log,
    /// Ids are unique.
    pub agents: Vec<Agent>,
    /// Names are unique.
    pub budgets: Vec<BudgetRule>,
    pub gateway: Gateway,
    /// Names are unique.
    pub upstreams: Vec<Upstream>,
}

impl Settings {
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == *id)
    }

    pub fn budget(&self, id: &BudgetId) -> Option<&BudgetRule> {
        self.budgets.iter().find(|rule| rule.budget.id == *id)
    }
}

/// `[server]`. Changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub agent_listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub admin_socket: PathBuf,
    pub state_dir: PathBuf,
    pub insecure_listen: bool,
    pub max_body_bytes: usize,
    pub max_connections: u32,
    /// From the first byte of a request to the last of its head.
    pub header_timeout: Duration,
    /// From a request's head to its answer.
    pub request_timeout: Duration,
    /// How long a stopping daemon waits for what is in flight.
    pub drain_timeout: Duration,
    /// Host names that a request may carry, besides loopback names and the listeners' own addresses.
    pub allowed_hosts: Vec<String>,
}

/// `[storage]`. Changes of `store` and `reserve_bytes` need a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    pub store: StoreLocation,
    /// Postings older than this roll up; zero days keep everything.
    pub retention_days: u32,
    /// Free bytes below which new spend stops (D4).
    pub reserve_bytes: u64,
}

/// Where the ledger lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    Sqlite {
        path: PathBuf,
    },
    /// Forgets everything at the end: for rehearsals only.
    Memory,
}

/// `[ledger]`. Changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    pub hold_wait: Duration,
    pub hold_ttl: Duration,
    pub max_overtakes: u32,
    pub max_waiters: u32,
    /// `breach_bound_percent` and `late_grace`.
    pub rules: LedgerRules,
}

/// `[admin]`. Changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The bearer token of the TCP listener. Without one it serves health and metrics alone.
    pub token: Option<Secret>,
    /// User ids that may use the socket, besides the daemon's own user and root.
    pub peer_uids: Vec<u32>,
}

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The Ed25519 key that signs the chain's heads; made at the first start.
    pub key_file: PathBuf,
    /// Where signed heads are appended.
    pub heads_file: PathBuf,
}

/// `[prices]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// Price files that are laid over the built-in catalogue, in this order.
    pub files: Vec<PathBuf>,
    pub unknown_model: UnknownModel,
}

/// What a model without a price costs (L7: never nothing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownModel {
    Refuse,
    /// Every token is charged at this much a million.
    Ceiling {
        per_million: Usd,
    },
}

/// `[reports]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reports {
    pub max_rows: u32,
    pub max_future: Duration,
    pub max_age: Duration,
}

/// `[tasks]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tasks {
    /// New tasks an hour that one agent may name.
    pub max_new_per_hour: u32,
}

/// `[tools]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Of a tool whose manifest gives it none.
    pub default_rate: Rate,
}

/// `[aws]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    pub enabled: bool,
    /// Regions to observe for agents that name none; empty means every enabled region.
    pub regions: Vec<Region>,
    /// Kinds of assets besides instances to look for; `None` for all.
    pub kinds: Option<BTreeSet<FleetKind>>,
    /// Instead of AWS's own endpoints.
    pub endpoint_url: Option<String>,
    /// Who can never be a target (C5), as configured; `app` adds who the daemon finds itself to be.
    pub guard: Guard,
    pub terminate_unstoppable: bool,
    pub sweep_spacing: Duration,
    pub step_patience: Duration,
    pub hold_sweep_every: Duration,
    pub health_patience: Duration,
    /// Whether the fleet is watched, priced and posted.
    pub watch: bool,
    pub poll_every: Duration,
    pub accrue_every: Duration,
    pub reaction_time: Duration,
    /// Dollars an hour above which people are told of something that nobody owns.
    pub orphan_notice: Usd,
}

/// `[gateway]`: the rules of every call. New ones apply to the calls that come after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    pub max_tokens: Option<u64>,
    pub default_max_tokens: u64,
    pub least_tokens: u64,
    pub unlisted_tools: Unlisted,
    /// `route:field`
    pub free_fields: BTreeSet<String>,
    pub free_betas: BTreeSet<String>,
    /// By the tool's type, what all its uses in one call may cost.
    pub server_tools: BTreeMap<String, Usd>,
    /// Web searches that one call of the tool is taken for at most, where only its calls can be limited.
    pub searches_per_call: u64,
    pub max_calls: u32,
    pub max_parked: u32,
    pub park_wait: Duration,
    /// From the request to the head of its answer.
    pub response_timeout: Duration,
    /// Between two pieces of an answer, and for a client to take one.
    pub idle_timeout: Duration,
    /// From the request to the end of its answer.
    pub call_timeout: Duration,
    pub max_response_bytes: usize,
    pub response_memory_bytes: u64,
    /// How long a call is read on for its usage when its client has gone.
    pub drain: Duration,
    /// Whether plain HTTP may go to another machine.
    pub insecure_upstream: bool,
}

/// `[[upstream]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The first part of its path here.
    pub name: String,
    pub kind: Api,
    /// `http` or `https`, without a slash at its end; its path is plain.
    pub base_url: String,
    pub api_key: Option<Secret>,
    /// Whose prices apply.
    pub service: ServiceId,
    /// Where it heeds the limit of a chat completion.
    pub limit_field: LimitField,
    /// Where it works, as far as it moves the price.
    pub region: price::Region,
    /// Fields of its usage that cost nothing, beyond those that are known.
    pub free_usage_fields: BTreeSet<String>,
    /// By path, what one call of a route that is not metered is charged at.
    pub ceilings: BTreeMap<String, Usd>,
    /// Whether agents that have a manifest may use those routes too, which nothing gates.
    pub ceilings_ungated: bool,
}

/// `[log]`. Changes need a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// In the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `[[agent]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    /// What it declares; without one none of its tools is authorized.
    pub manifest: Option<Arc<Manifest>>,
    pub manifest_file: Option<PathBuf>,
    /// `[agent.aws]`: its cloud side, if it has one. Empty regions mean every enabled region.
    pub cloud: Option<CloudTargets>,
}

/// `[[budget]]`: the rule, and its selectors as they were written.
#[derive(Debug, Clone)]
pub struct BudgetRule {
    pub budget: Arc<Budget>,
    pub patterns: Patterns,
}

/// The globs behind a budget's [`Selector`](crate::domain::budget::Selector), for people and for
/// telling whether a budget was changed. An empty list selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns {
    pub agents: Vec<String>,
    pub models: Vec<String>,
    pub tools: Vec<String>,
    pub labels: Vec<(String, Vec<String>)>,
}

/// Compiled globs cannot be compared, so the patterns that made them are.
impl PartialEq for BudgetRule {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.budget, &other.budget);
        self.patterns == other.patterns
            && a.id == b.id
            && a.scope == b.scope
            && a.label == b.label
            && a.window == b.window
            && a.limit == b.limit
            && a.alert_at == b.alert_at
            && a.response == b.response
    }
}
