//! From the config to each room's own settings, so that no room knows the config.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::cloud::aws::AwsSettings;
use crate::config::settings::Settings;
use crate::domain::budget::Budget;
use crate::domain::containment::plan::PlanRules;
use crate::domain::containment::target::CloudTargets;
use crate::domain::id::AgentId;
use crate::http::body::BodyLimits;
use crate::http::serve::ServeLimits;
use crate::intake::usage::IntakeSettings;
use crate::killswitch::KillSettings;
use crate::ledger::LedgerSettings;
use crate::tools::ToolSettings;
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

pub(super) fn tools(settings: &Settings) -> ToolSettings {
    let declared = settings.agents.iter();
    let declared = declared.filter_map(|agent| Some((agent.id.clone(), Arc::clone(agent.manifest.as_ref()?))));
    ToolSettings {
        manifests: declared.collect(),
        default_rate: settings.tools.default_rate,
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
            ..PlanRules::default()
        },
        sweep_spacing: settings.aws.sweep_spacing,
        step_patience: settings.aws.step_patience,
        hold_sweep_every: settings.aws.hold_sweep_every,
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

pub(super) fn aws(settings: &Settings) -> AwsSettings {
    AwsSettings {
        regions: settings.aws.regions.clone(),
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

pub(super) fn serve_limits(settings: &Settings) -> ServeLimits {
    ServeLimits {
        max_connections: usize::try_from(settings.server.max_connections).unwrap_or(usize::MAX),
        header_timeout: settings.server.header_timeout,
        drain: settings.server.drain_timeout,
    }
}

fn signed(duration: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
