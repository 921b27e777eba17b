//! Applies settings that were loaded again to the rooms that use them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::json;

use super::{catalogue, settings};
use crate::config::reload::{BudgetChange, Change, ManifestChange};
use crate::config::settings::Settings;
use crate::config::{LiveSettings, Problems};
use crate::domain::audit::NewAudit;
use crate::domain::id::AgentId;
use crate::domain::price::Catalogue;
use crate::fleet::FleetSettings;
use crate::gateway::GatewaySettings;
use crate::intake::usage::IntakeSettings;
use crate::killswitch::KillSettings;
use crate::ledger::Ledger;
use crate::ports::Store;
use crate::tools::ToolSettings;
use crate::watch::WatchSettings;

/// What of the running daemon follows the config.
pub(super) struct Live {
    pub(super) settings: Arc<LiveSettings>,
    pub(super) catalogue: Arc<ArcSwap<Catalogue>>,
    pub(super) agents: Arc<ArcSwap<Vec<AgentId>>>,
    pub(super) intake: Arc<ArcSwap<IntakeSettings>>,
    pub(super) kill: Arc<ArcSwap<KillSettings>>,
    pub(super) fleet: Arc<ArcSwap<FleetSettings>>,
    pub(super) watch: Arc<ArcSwap<WatchSettings>>,
    pub(super) tools: Arc<ArcSwap<ToolSettings>>,
    pub(super) gateway: Arc<ArcSwap<GatewaySettings>>,
    pub(super) own_instance: Option<String>,
    pub(super) ledger: Ledger,
    pub(super) store: Arc<dyn Store>,
    pub(super) reloading: Arc<tokio::sync::Mutex<()>>,
}

fn loosened(change: &BudgetChange, at: Timestamp) -> NewAudit {
    NewAudit {
        at,
        actor: "operator:config".to_owned(),
        action: "budget_loosened".to_owned(),
        agent: None,
        reason: change.what.clone(),
        evidence: json!(change).to_string(),
    }
}

fn declared(change: &ManifestChange, at: Timestamp) -> NewAudit {
    NewAudit {
        at,
        actor: "operator:config".to_owned(),
        action: "manifest_changed".to_owned(),
        agent: Some(change.agent.clone()),
        reason: format!(
            "the manifest of {} was changed: {}",
            change.agent,
            change.what.join("; ")
        ),
        evidence: json!(change).to_string(),
    }
}

impl Live {
    /// Loads the config again. Wrong new settings leave the old ones, and the answer is every problem.
    /// One reload at a time, from the file to the last room, so that two never apply in the wrong order.
    ///
    /// A caller that goes away meanwhile does not stop it: settings that are in force for some rooms and
    /// not for others would be worse than either.
    pub(super) async fn reload(self: Arc<Self>, now: Timestamp) -> Result<Change, Problems> {
        let one_at_a_time = Arc::clone(&self.reloading).lock_owned().await;
        let runtime = tokio::runtime::Handle::current();
        // It reads files, the price files among them, which a worker of the runtime must not wait for.
        let reloaded = tokio::task::spawn_blocking(move || {
            let _until_the_end = one_at_a_time;
            let prepare = |new: &Settings, change: &Change| {
                let prices = catalogue::load(new).map_err(|error| format!("{error:#}"))?;
                let old = self.settings.current();
                let calls = settings::gateway(new, Some((&old, &self.gateway.load())));
                let calls = calls.map_err(|error| format!("{error:#}"))?;
                // On record before it is in force: a raised limit is an override (D3).
                let overrides = change.overrides().map(|change| loosened(change, now));
                let manifests = change.manifests.iter().map(|change| declared(change, now));
                let overrides: Vec<NewAudit> = overrides.chain(manifests).collect();
                if !overrides.is_empty() {
                    let written = runtime.block_on(self.store.append_audit(&overrides));
                    written.map_err(|error| format!("what the new config loosens cannot be recorded: {error}"))?;
                }
                Ok((prices, calls))
            };
            let (change, current, (prices, calls)) = self.settings.reload_with(prepare)?;
            runtime.block_on(self.apply(&current, prices, calls));
            Ok(change)
        });
        let failed = |_panicked| Err(Problems::of("the config", "the reload failed".to_owned()));
        reloaded.await.unwrap_or_else(failed)
    }

    async fn apply(&self, current: &Settings, prices: Catalogue, calls: GatewaySettings) {
        self.catalogue.store(Arc::new(prices));
        self.agents.store(Arc::new(settings::agents(current)));
        self.intake.store(Arc::new(settings::intake(current)));
        self.kill
            .store(Arc::new(settings::kill(current, self.own_instance.as_ref())));
        self.fleet.store(Arc::new(settings::fleet(current)));
        self.watch.store(Arc::new(settings::watch(current)));
        self.gateway.store(Arc::new(calls));
        self.tools.store(Arc::new(settings::tools(current)));
        if let Err(unavailable) = self.ledger.set_rules(settings::budgets(current)).await {
            // New calls see them already, and the ledger goes on trying to write them into the lines.
            tracing::warn!(error = %unavailable, "the new limits are not yet written into the ledger's lines");
        }
    }
}

#[cfg(test)]
mod tests;
