//! From the config to each room's own settings, so that no room knows the config.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use jiff::SignedDuration;

use crate::cloud::aws::AwsSettings;
use crate::config::Secret;
use crate::config::settings::{Agent, Settings, Upstream};
use crate::doctor::Case;
use crate::domain::budget::Budget;
use crate::domain::call::CallRules;
use crate::domain::containment::plan::PlanRules;
use crate::domain::containment::target::CloudTargets;
use crate::domain::id::AgentId;
use crate::fleet::FleetSettings;
use crate::gateway::{AgentRules, CallLimits, GatewaySettings, Provider};
use crate::http::body::BodyLimits;
use crate::http::serve::ServeLimits;
use crate::intake::usage::IntakeSettings;
use crate::killswitch::KillSettings;
use crate::ledger::LedgerSettings;
use crate::tools::ToolSettings;
use crate::upstream::{HttpUpstream, UpstreamOptions};
use crate::watch::WatchSettings;

pub(super) fn ledger(settings: &Settings, pace: u32) -> LedgerSettings {
    let usual = LedgerSettings::default();
    LedgerSettings {
        commit_wait: usual.commit_wait.saturating_mul(pace),
        commit_limit: usual.commit_limit.saturating_mul(pace),
        hold_wait: settings.ledger.hold_wait,
        hold_ttl: settings.ledger.hold_ttl,
        max_overtakes: settings.ledger.max_overtakes,
        max_waiters: usize::try_from(settings.ledger.max_waiters).unwrap_or(usize::MAX),
        drain_wait: settings.server.drain_timeout,
        rules: settings.ledger.rules,
        ..usual
    }
}

pub(super) fn budgets(settings: &Settings) -> Vec<Budget> {
    settings
        .budgets
        .iter()
        .map(|rule| Budget::clone(&rule.budget))
        .collect()
}

pub(super) fn agents(settings: &Settings) -> Vec<AgentId> {
    settings.agents.iter().map(|agent| agent.id.clone()).collect()
}

pub(super) fn watch(settings: &Settings) -> WatchSettings {
    WatchSettings {
        agents: agents(settings),
        ..WatchSettings::default()
    }
}

pub(super) fn intake(settings: &Settings) -> IntakeSettings {
    IntakeSettings {
        max_rows: usize::try_from(settings.reports.max_rows).unwrap_or(usize::MAX),
        max_future: signed(settings.reports.max_future),
        max_age: signed(settings.reports.max_age),
        max_new_tasks: settings.tasks.max_new_per_hour,
    }
}

/// The rules of calls, with the upstreams that are there already where they did not change: their pools of
/// connections stay.
pub(super) fn gateway(
    settings: &Settings,
    old: Option<(&Settings, &GatewaySettings)>,
) -> anyhow::Result<GatewaySettings> {
    let gateway = &settings.gateway;
    let rules = |agent: &Agent| {
        let declared = agent.manifest.as_ref().and_then(|manifest| manifest.max_tokens());
        let calls = CallRules {
            max_tokens: [gateway.max_tokens, declared].into_iter().flatten().min(),
            default_max_tokens: gateway.default_max_tokens,
            least_tokens: gateway.least_tokens,
            searches_per_call: gateway.searches_per_call,
            free_fields: gateway.free_fields.clone(),
            free_betas: gateway.free_betas.clone(),
            server_tools: gateway.server_tools.clone(),
            unlisted_tools: gateway.unlisted_tools,
        };
        let manifest = agent.manifest.clone();
        (agent.id.clone(), Arc::new(AgentRules { calls, manifest }))
    };
    let mut providers = HashMap::new();
    for upstream in &settings.upstreams {
        let kept = old.and_then(|(settings, gateway)| {
            let same = settings.upstreams.contains(upstream);
            gateway.providers.get(&upstream.name).filter(|_| same).map(Arc::clone)
        });
        let provider = match kept {
            Some(provider) => provider,
            None => Arc::new(provider(upstream)?),
        };
        providers.insert(upstream.name.clone(), provider);
    }
    Ok(GatewaySettings {
        agents: settings.agents.iter().map(rules).collect(),
        providers,
        limits: CallLimits {
            max_calls: u64::from(gateway.max_calls),
            max_parked: u64::from(gateway.max_parked),
            park_wait: gateway.park_wait,
            response_timeout: gateway.response_timeout,
            idle_timeout: gateway.idle_timeout,
            call_timeout: gateway.call_timeout,
            max_response_bytes: gateway.max_response_bytes,
            response_memory: gateway.response_memory_bytes,
            drain: gateway.drain,
        },
    })
}

fn provider(upstream: &Upstream) -> anyhow::Result<Provider> {
    let name = &upstream.name;
    let port = HttpUpstream::new(&UpstreamOptions::new(name, &upstream.base_url))
        .with_context(|| format!("the upstream {name} cannot be set up"))?;
    let ceilings = upstream.ceilings.iter().map(|(path, usd)| (path.clone(), *usd));
    let terms = (upstream.kind, upstream.service.clone());
    let key = upstream.api_key.as_ref().map(Secret::expose);
    Provider::new(name, terms, key, ceilings.collect(), Arc::new(port))
        .map(|provider| {
            provider
                .with_limit_field(upstream.limit_field)
                .with_region(upstream.region)
                .with_ungated_ceilings(upstream.ceilings_ungated)
        })
        .map(|provider| provider.with_free_usage(upstream.free_usage_fields.clone()))
        .with_context(|| format!("the key of upstream {name} fits in no header"))
}

pub(super) fn tools(settings: &Settings) -> ToolSettings {
    let declared = settings.agents.iter();
    let declared = declared.filter_map(|agent| Some((agent.id.clone(), Arc::clone(agent.manifest.as_ref()?))));
    ToolSettings {
        manifests: declared.collect(),
        default_rate: settings.tools.default_rate,
    }
}

/// How late the cloud may tell who made what: CloudTrail delivers an event about five minutes after its call
/// on average, and within 15 ("How CloudTrail works" in its User Guide).
const ATTRIBUTION_LAG: SignedDuration = SignedDuration::from_mins(15);

pub(super) fn fleet(settings: &Settings) -> FleetSettings {
    let aws = &settings.aws;
    FleetSettings {
        watch: aws.enabled && aws.watch,
        targets: targets(settings),
        poll_every: aws.poll_every,
        accrue_every: aws.accrue_every,
        reaction_time: aws.reaction_time,
        orphan_notice: aws.orphan_notice,
        ..FleetSettings::default()
    }
}

/// `own_instance` is the machine that the daemon found itself on: it joins the guard (C5).
pub(super) fn kill(settings: &Settings, own_instance: Option<&String>) -> KillSettings {
    let mut guard = settings.aws.guard.clone();
    guard.instances.extend(own_instance.cloned());
    KillSettings {
        targets: targets(settings),
        guard,
        rules: PlanRules {
            terminate_unstoppable: settings.aws.terminate_unstoppable,
            // Creations are read then; the record of them is this much behind.
            attribution_lag: settings.aws.watch.then_some(ATTRIBUTION_LAG),
            ..PlanRules::default()
        },
        sweep_spacing: settings.aws.sweep_spacing,
        step_patience: settings.aws.step_patience,
        hold_sweep_every: settings.aws.hold_sweep_every,
        health_patience: settings.aws.health_patience,
        ..KillSettings::default()
    }
}

/// The cloud side of every agent that declares one; the regions of `[aws]` stand in for none.
fn targets(settings: &Settings) -> BTreeMap<AgentId, CloudTargets> {
    let with_regions = |mut targets: CloudTargets| {
        if targets.regions.is_empty() {
            targets.regions.clone_from(&settings.aws.regions);
        }
        targets
    };
    settings
        .agents
        .iter()
        .filter_map(|agent| Some((agent.id.clone(), with_regions(agent.cloud.clone()?))))
        .collect()
}

/// What the doctor examines. `own_instance` as for the kill switch.
pub(super) fn case(settings: &Settings, own_instance: Option<&String>) -> Case {
    let without = settings.agents.iter().filter(|agent| agent.cloud.is_none());
    Case {
        enabled: settings.aws.enabled,
        targets: targets(settings),
        without: without.map(|agent| agent.id.clone()).collect(),
        guard: kill(settings, own_instance).guard,
        terminate_unstoppable: settings.aws.terminate_unstoppable,
        about: None,
    }
}

pub(super) fn aws(settings: &Settings) -> AwsSettings {
    AwsSettings {
        regions: settings.aws.regions.clone(),
        kinds: settings.aws.kinds.clone(),
        endpoint_url: settings.aws.endpoint_url.clone(),
        ..AwsSettings::default()
    }
}

pub(super) fn body_limits(settings: &Settings) -> BodyLimits {
    BodyLimits {
        max_bytes: settings.server.max_body_bytes,
        timeout: settings.server.request_timeout,
    }
}

/// The names by which clients may address the daemon: the configured ones, and the addresses that it
/// listens on.
pub(super) fn hosts(settings: &Settings) -> Vec<String> {
    let server = &settings.server;
    let own = [server.agent_listen, server.admin_listen].map(|address| address.ip());
    let own = own
        .into_iter()
        .filter(|ip| !ip.is_unspecified())
        .map(|ip| ip.to_string());
    server.allowed_hosts.iter().cloned().chain(own).collect()
}

/// How long an edge goes on after the gateway has cut its calls.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) fn serve_limits(settings: &Settings) -> ServeLimits {
    ServeLimits {
        max_connections: usize::try_from(settings.server.max_connections).unwrap_or(usize::MAX),
        header_timeout: settings.server.header_timeout,
        write_timeout: settings.gateway.idle_timeout,
        // Calls that are cut when the time is over have a last word to say.
        drain: settings.server.drain_timeout.saturating_add(LAST_WORDS),
    }
}

fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
