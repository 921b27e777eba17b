//! Telling the ledger what comes: what is not posted yet, and what burns until a reaction binds.
//!
//! A forecast and a posting never overlap: what is on its way to the ledger would be counted twice, or not at
//! all. If the ledger does not say what became of a posting, it may have it, so it is left out of forecasts
//! and posted again, at once.

use std::convert::Infallible;

use jiff::SignedDuration;

use super::Fleet;
use super::outbox::spend_of;
use crate::domain::burn::ahead;
use crate::domain::id::AgentId;
use crate::domain::ledger::posting::Trust;
use crate::ledger::Forecast;

impl Fleet {
    /// At every poll, whatever the looks showed: what burns the same reaches its limit, too.
    pub(super) async fn keep_foreseeing(&self) -> Infallible {
        let mut settings = self.settings();
        loop {
            self.clock.sleep(self.settings().poll_every).await;
            let now = self.settings();
            if !std::sync::Arc::ptr_eq(&now, &settings) {
                // Loaded again: regions and principals may be others.
                settings = now;
                self.learn_now.notify_one();
            }
            self.state().book.advance(self.now());
            self.publish();
            self.foresee().await;
        }
    }

    /// Of all agents that burn, since on a fleet's line they add up.
    pub(super) async fn foresee(&self) {
        let settings = self.settings();
        let reaction = SignedDuration::try_from(settings.reaction_time).unwrap_or(SignedDuration::MAX);
        let _settled = self.settling.lock().await;
        let forecasts: Vec<Forecast> = {
            let (state, now) = (self.state(), self.now());
            if state.book.is_overdue(now) {
                self.post_now.notify_one();
            }
            let (mut owing, burning) = (state.owing(now), state.burning());
            for agent in burning.keys() {
                owing.entry(agent.clone()).or_default();
            }
            let forecast = |(agent, unposted): (AgentId, _)| Forecast {
                unposted,
                ahead: ahead(burning.get(&agent).copied().unwrap_or_default(), reaction),
                attribution: spend_of(&agent),
            };
            owing.into_iter().map(forecast).collect()
        };
        if forecasts.is_empty() {
            return;
        }
        match self.ledger.foresee(&forecasts, Trust::Cloud).await {
            Ok(0) => {}
            // So that whoever looks into it finds what was spent.
            Ok(_) => self.post_now.notify_one(),
            // The next poll forecasts anew.
            Err(error) => tracing::warn!(%error, "the ledger could not be told what burns"),
        }
    }

    /// The metrics.
    pub(super) fn publish(&self) {
        let state = self.state();
        let burning = state.burning();
        for agent in self.settings().targets.keys() {
            let burn = burning.get(agent).copied().unwrap_or_default();
            metrics::gauge!("backstop_fleet_usd_per_hour", "agent" => agent.to_string()).set(burn.as_f64_lossy());
        }
        let orphans = state.book.orphans();
        let burn = orphans.iter().map(|(_, hourly)| hourly.usd.as_f64_lossy()).sum::<f64>();
        metrics::gauge!("backstop_fleet_orphans_usd_per_hour").set(burn);
        let now = self.now();
        for (region, seeing) in &state.regions {
            let oldest = seeing.kinds.values().map(|looked| looked.at).min().flatten();
            if let Some(at) = oldest {
                let age = now.duration_since(at).as_secs_f64().max(0.0);
                metrics::gauge!("backstop_fleet_look_age_seconds", "region" => region.0.clone()).set(age);
            }
            let failing = seeing.kinds.values().filter(|looked| looked.trouble.is_some()).count();
            let failing = u32::try_from(failing).unwrap_or(u32::MAX);
            metrics::gauge!("backstop_fleet_failing_kinds", "region" => region.0.clone()).set(f64::from(failing));
        }
    }
}
