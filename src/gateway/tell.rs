//! What is told of calls: refusals to the audit log, counts to the metrics, and to the log what a person
//! should know, though not at every call.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::Shared;
use super::failure::CallFailure;
use super::target::Target;
use crate::domain::audit::NewAudit;
use crate::domain::id::AgentId;
use crate::domain::money::Usd;
use crate::domain::rejection::Rejection;
use crate::domain::wire::UsageRejection;
use crate::ports::UpstreamError;

/// Between two warnings that an agent's answers end on their limit, and that an upstream fails.
const WARN_EVERY: Duration = Duration::from_secs(60);
const FAILED_EVERY: Duration = Duration::from_secs(1);
const CREDENTIAL_EVERY: Duration = Duration::from_secs(10);
/// Matters that are remembered at most.
const MAX_SAID: usize = 20_000;

/// What a person is told of, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Matter {
    OnLimit,
    PastLimit,
    UpstreamFailed,
    CredentialRefused,
    UsageUnknown,
}

impl Shared {
    /// An upstream does not take our credential. Of what it says only its code is told: the rest may quote it.
    pub(super) fn credential_refused(&self, target: &Target, status: StatusCode, code: Option<&str>) {
        let upstream = &target.provider.name;
        if self.may_say(Matter::CredentialRefused, upstream, CREDENTIAL_EVERY) {
            tracing::error!(
                %upstream, status = status.as_u16(), code = code.unwrap_or("none"),
                "an upstream refused the credential that is set for it; its calls fail until that is mended"
            );
        }
    }

    /// A usage with a field or a value that nobody knows may leave every call of its upstream unresolved: a
    /// person should know which it is.
    pub(super) fn usage_unknown(&self, target: &Target, why: &UsageRejection) {
        let upstream = &target.provider.name;
        if !self.may_say(Matter::UsageUnknown, upstream, WARN_EVERY) {
            return;
        }
        match why {
            UsageRejection::UnknownField { field } => tracing::warn!(
                %upstream, field,
                "an answer's usage has a field that is not known, so its call is unresolved at its bound; \
                 if it bears no cost, name it in the upstream's free_usage_fields"
            ),
            why => tracing::warn!(
                %upstream, %why,
                "an answer's usage cannot be priced, so its call is unresolved at its bound"
            ),
        }
    }

    pub(super) fn note_failure(&self, agent: &AgentId, failure: &CallFailure) {
        match failure {
            CallFailure::Rejected(rejection) => self.note_refusal(agent, rejection, None),
            failure => tracing::debug!(%agent, %failure, "a call was not made"),
        }
    }

    /// A refusal is a decision: it goes into the audit log, folded with others of its kind (D3).
    pub(super) fn note_refusal(&self, agent: &AgentId, rejection: &Rejection, cost: Option<Usd>) {
        let code = rejection.code();
        metrics::counter!("backstop_calls_refused_total", "code" => code).increment(1);
        let entry = NewAudit {
            at: self.deps.clock.now(),
            actor: "backstop".to_owned(),
            action: "refused".to_owned(),
            agent: Some(agent.clone()),
            reason: rejection.to_string(),
            evidence: json!({ "code": code, "cost_usd": cost.map(|usd| usd.to_string()) }).to_string(),
        };
        self.deps.refusals.note(code, entry);
    }

    pub(super) fn count(&self, target: &Target, ended: &'static str) {
        metrics::counter!(
            "backstop_calls_total",
            "upstream" => Arc::clone(&target.provider.name), "route" => target.route_name(), "ended" => ended
        )
        .increment(1);
    }

    /// An answer ended because its tokens were used up: a person should know, but not at every call.
    pub(super) fn on_limit(&self, target: &Target) {
        let upstream = Arc::clone(&target.provider.name);
        metrics::counter!("backstop_calls_on_limit_total", "upstream" => upstream).increment(1);
        let agent = &target.head.agent;
        if !self.may_say(Matter::OnLimit, agent.as_str(), WARN_EVERY) {
            return;
        }
        tracing::warn!(
            %agent, upstream = %target.provider.name, route = target.route_name(), task = %target.task,
            "an answer ended on the limit of its output tokens"
        );
    }

    /// A stream was cut because its model wrote on past what the hold covers: its provider does not heed the
    /// limit, and what it bills for that is unknown.
    pub(super) fn past_limit(&self, target: &Target, limit: u64) {
        let upstream = Arc::clone(&target.provider.name);
        metrics::counter!("backstop_calls_past_limit_total", "upstream" => upstream).increment(1);
        let agent = &target.head.agent;
        if self.may_say(Matter::PastLimit, agent.as_str(), WARN_EVERY) {
            tracing::warn!(
                %agent, upstream = %target.provider.name, route = target.route_name(), task = %target.task, limit,
                "an answer went past the output tokens that its hold covers, and was cut"
            );
        }
    }

    /// An upstream failed a call. At every call of a provider that is down it would fill the log.
    pub(super) fn upstream_failed(&self, target: &Target, error: &UpstreamError) {
        let upstream = &target.provider.name;
        metrics::counter!("backstop_upstream_failures_total", "upstream" => Arc::clone(upstream)).increment(1);
        if self.may_say(Matter::UpstreamFailed, upstream, FAILED_EVERY) {
            tracing::warn!(%upstream, error = error as &dyn std::error::Error, "a call to an upstream failed");
        }
    }

    /// Whether it is so long ago that something was said of this matter.
    fn may_say(&self, matter: Matter, of: &str, every: Duration) -> bool {
        let now = self.deps.clock.monotonic();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (matter, of.to_owned());
        if said.get(&key).is_some_and(|last| now.saturating_sub(*last) < every) {
            return false;
        }
        // Agents and upstreams come from the config; those that are gone are let go of now and then.
        if said.len() > MAX_SAID {
            said.clear();
        }
        said.insert(key, now);
        true
    }
}
